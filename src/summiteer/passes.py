"""How many rows a model is asked about at once."""

from contextlib import suppress
from itertools import pairwise

import torch
from torch import Tensor

from summiteer._typing import Model

#: Numbers of its largest layer that a model on the CPU is made to hold at once, per
#: thread, and rows at least: more does not stay in the cache, and takes up to twice the
#: time per row (docs/performance.md).
_AT_ONCE, _LEAST = 2**21, 64


def widest(model: Model, inputs: Tensor) -> int:
    """Numbers per row of the largest tensor that a pass keeps for the way back.

    Args:
        model: what is asked.
        inputs: `[rows, *input]`, a few.

    Returns:
        0 on other devices than the CPU, where everything is asked at once.
    """
    if inputs.device.type != "cpu":
        return 0
    sizes = [0]

    def note(kept: Tensor) -> Tensor:
        if kept.ndim and len(kept) == len(inputs):  # no weights
            sizes.append(kept[0].numel())
        return kept

    hooks = torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept)
    with torch.enable_grad(), hooks, suppress(RuntimeError):  # an ascent will say it
        model(inputs.detach().requires_grad_())
    return max(sizes)


def passes(rows: int, width: int) -> list[slice]:
    """The rows of each pass through a model, in order.

    Args:
        rows: how many.
        width: see `widest`; 0 for one pass.
    """
    most = rows
    if width:
        most = max(_LEAST, _AT_ONCE * torch.get_num_threads() // width)
    count = max(-(-rows // max(most, 1)), 1)
    ends = [rows * k // count for k in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]
