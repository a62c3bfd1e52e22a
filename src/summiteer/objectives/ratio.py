"""The difference of logits ratio."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.objectives.labels import check_classes
from summiteer.objectives.margin import margin


@dataclass(frozen=True)
class DLR:
    """(max over k ≠ y of z_k - z_y)/(z_(1) - z_(3)), the difference of logits ratio.

    z_(1) ≥ z_(2) ≥ … are the sorted outputs (`croce2020reliable`). It does not change
    if a constant is added to all outputs or if they are multiplied by one; from -1 to
    0 where the example is classified correctly, above 0 where it is misclassified, 0
    at a tie.

    Departure from the paper, which adds 1e-12 below: where z_(1) = z_(3), or nearly,
    the ratio goes no higher than 1/u (see `capped_ratio`). That happens only ahead of a
    label that is misclassified anyway.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The ratio `[rows]`."""
        top = outputs.topk(3, dim=1).values
        return capped_ratio(margin(outputs, targets), top[:, 0] - top[:, 2])

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are labels of three or more classes."""
        check_classes("DLR", outputs, targets, least=3)


def capped_ratio(above: Tensor, below: Tensor) -> Tensor:
    """A ratio, above / max(below, u·|above|) `[rows]`: ≤ 1/u in size; 0/0 = 0.

    Its gradient is that of the ratio, or that of `above` times a number where the cap
    holds: finite, and towards where `above` rises.

    Args:
        above: `[rows]`.
        below: `[rows]`, ≥ 0.
    """
    least = torch.finfo(above.dtype).eps * above.detach().abs()
    below = torch.where(below >= least, below, least)
    return above / torch.where(below == 0, 1.0, below)
