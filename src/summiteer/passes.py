"""How many rows a model is asked about at once."""

from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

#: Numbers of its largest layer that a model on the CPU is made to hold at once, per
#: thread, and rows at least: more does not stay in the cache, and takes up to twice the
#: time per row (docs/performance.md).
_AT_ONCE, _LEAST = 2**21, 64


class Width(TorchFunctionMode):
    """While it is entered, look for the largest tensor that is made of some rows.

    Args:
        rows: how many.

    Attributes:
        numbers: per row of that tensor; 0 before anything is seen.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self.rows, self.numbers = rows, 0

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Call torch's function, and look at what it returns."""
        del types
        made = func(*args, **(kwargs or {}))
        if isinstance(made, Tensor) and made.ndim and len(made) == self.rows:
            self.numbers = max(self.numbers, made.numel() // self.rows)
        return made


def passes(rows: int, width: int) -> list[slice]:
    """The rows of each pass through a model, in order.

    Args:
        rows: how many.
        width: of the model, see `Width`; 0 for one pass.
    """
    most = rows
    if width:
        most = max(_LEAST, _AT_ONCE * torch.get_num_threads() // width)
    count = max(-(-rows // max(most, 1)), 1)
    ends = [rows * k // count for k in range(count + 1)]
    return [slice(*pair) for pair in pairwise(ends)]
