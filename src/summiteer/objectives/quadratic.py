"""The squared error."""

from dataclasses import dataclass

from torch import Tensor

from summiteer.errors import UserError
from summiteer.objectives.labels import scalar


@dataclass(frozen=True)
class Quadratic:
    """½(f - y)²; for `[rows, K, …]` outputs ½‖f - y‖², targets of the same shape."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """½(f - y)² `[rows]`."""
        outputs = scalar(outputs)
        if outputs.ndim == 1:
            return 0.5 * (outputs - scalar(targets)).square()
        return 0.5 * (outputs - targets).square().flatten(1).sum(1)

    def with_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """½(f - y)² `[rows]`, and f - y."""
        apart = outputs - targets.reshape(outputs.shape)
        return 0.5 * apart.square().reshape(len(apart), -1).sum(1), apart

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are floats of the outputs' shape."""
        if not targets.is_floating_point():
            raise UserError(
                "targets: Quadratic needs floating-point targets of the outputs' shape "
                f"{list(outputs.shape)}, got {targets.dtype}; for class labels use "
                "CrossEntropy or Margin."
            )
        same = (
            outputs.shape == targets.shape
            or scalar(outputs).shape == scalar(targets).shape
        )
        if not same:
            raise UserError(
                "targets: Quadratic needs targets of the outputs' shape "
                f"{list(outputs.shape)}, got {list(targets.shape)}."
            )

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """sign(f - y)."""
        return (scalar(outputs) - scalar(targets)).sign()

    def slope_bound(self, distance: Tensor) -> Tensor:
        """|φ'| = |f - y| ≤ distance."""
        return distance

    @property
    def curvature_bound(self) -> float:
        """φ'' = 1."""
        return 1.0
