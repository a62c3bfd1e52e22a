"""The L∞ ball."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.regions._region import Radial, rows_of
from summiteer.regions.intervals import Intervals


@dataclass(frozen=True, eq=False)
class LinfBall(Radial, Intervals):
    """{δ : max_i |δ_i| ≤ radius}.

    Args:
        radius: a positive number, or one per example `[batch]`.
    """

    norm: ClassVar[str] = "linf"

    def limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(-ε, ε)."""
        radius = _rows.expand(rows_of(self.radius, like), like)
        return -radius, radius

    def project(self, points: Tensor) -> Tensor:
        """clip(v, -ε, ε)."""
        if isinstance(self.radius, Tensor):
            return super().project(points)
        # The same numbers; torch is slow with bounds that broadcast.
        return points.clamp(-self.radius, self.radius)

    def residual_floor(
        self,
        points: Tensor,
        gradients: Tensor,
        gradient_norms: Tensor,
        reference: Tensor,
    ) -> Tensor:
        """G/[2ε(Σ|g_i| + Σ reference_i)], since max(a, b) ≤ a + b."""
        total = gradients.abs().flatten(1).sum(1)
        gap = self.radius * total - _rows.dot(gradients, points)
        scale = 2 * self.radius * (total + reference.flatten(1).sum(1))
        return gap / scale.clamp(min=tolerances.TINY_NORM)
