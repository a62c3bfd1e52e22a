"""The margin: how far the best other class is ahead of the label."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.objectives.labels import check_classes, check_signs, scalar


@dataclass(frozen=True)
class Margin:
    """max over k ≠ y of z_k - z_y; for one output and targets ±1, -y·f.

    At least 0 exactly where the example is misclassified (ties are errors).
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The margin `[rows]`."""
        return margin(outputs, targets)

    def with_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """The margin `[rows]`; 1 for the best other class, -1 for the label."""
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            label = targets[:, None]
            best, rival = outputs.scatter(1, label, -torch.inf).max(1, keepdim=True)
            slopes = torch.zeros_like(outputs).scatter_(1, rival, 1.0)
            values = best - outputs.gather(1, label)
            return values[:, 0], slopes.scatter_(1, label, -1.0)
        slopes = -targets.reshape(outputs.shape).to(outputs)
        return scalar(slopes * outputs), slopes

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are labels, or ±1 for one output."""
        if outputs.ndim == 2 and outputs.shape[1] > 1:
            check_classes("Margin", outputs, targets)
        else:
            check_signs("Margin", outputs, targets)

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-y (one output)."""
        return -scalar(targets).to(outputs)

    def slope_bound(self, distance: Tensor) -> Tensor:
        """|φ'| = 1."""
        return torch.ones_like(distance)

    @property
    def curvature_bound(self) -> float:
        """φ'' = 0."""
        return 0.0


def margin(outputs: Tensor, targets: Tensor) -> Tensor:
    """Largest z_k - z_y over k ≠ y, `[rows]`; -y·f for one output."""
    if outputs.ndim == 2 and outputs.shape[1] > 1:
        label = targets[:, None]
        own = outputs.gather(1, label)[:, 0]
        # Not amax, which would share the gradient among tied classes.
        return outputs.scatter(1, label, -torch.inf).max(1).values - own
    return -scalar(targets) * scalar(outputs)
