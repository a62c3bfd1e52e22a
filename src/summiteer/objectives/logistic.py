"""The logistic loss of one output."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.objectives.labels import check_signs, scalar


@dataclass(frozen=True)
class Logistic:
    """log(1 + exp(-y·f)) for one output f and targets y = ±1."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log s(y·f) `[rows]`."""
        agreement = scalar(targets) * scalar(outputs)
        return -torch.nn.functional.logsigmoid(agreement)

    def with_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """-log s(y·f) `[rows]`, and -y·s(-y·f)."""
        signs = targets.reshape(outputs.shape).to(outputs)
        rise = -signs * outputs
        values = -torch.nn.functional.logsigmoid(scalar(-rise))
        return values, -signs * rise.sigmoid()

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless there is one output and every target is ±1."""
        check_signs("Logistic", outputs, targets)

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-y."""
        return -scalar(targets).to(outputs)

    def slope_bound(self, distance: Tensor) -> Tensor:
        """|φ'| ≤ 1."""
        return torch.ones_like(distance)

    @property
    def curvature_bound(self) -> float:
        """φ'' ≤ ¼."""
        return 0.25
