"""The Euclidean ball."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._typing import PerExample
from summiteer.draws import Draws
from summiteer.regions._region import (
    Face,
    Radial,
    Region,
    default_slack,
    rows_of,
)


@dataclass(frozen=True, eq=False)
class L2Ball(Radial):
    """{δ : ‖δ‖₂ ≤ radius}.

    Args:
        radius: a positive number, or one per example `[batch]`.
    """

    norm: ClassVar[str] = "l2"
    whole_ball: ClassVar[bool] = True

    def project(self, points: Tensor) -> Tensor:
        """Π(v) = v · min(1, ε/‖v‖)."""
        norms = _rows.norm(points)
        scale = (self.radius / norms).clamp_(max=1.0)
        projected = points * _rows.expand(scale, points)
        if not scale.numel() or float(scale.min()) > tolerances.TINY_NORM:
            return projected
        # ε/‖v‖ or ‖v‖ itself is not a normal number.
        rows = (~(scale > tolerances.TINY_NORM)).nonzero().flatten()
        support = self.take(rows).linear_maximiser(points[rows])
        return projected.index_copy(0, rows, support)

    def contains(self, points: Tensor, slack: float | None = None) -> Tensor:
        """See `Region.contains`."""
        slack = default_slack(points) if slack is None else slack
        return _rows.norm(points) <= rows_of(self.radius, points) * (1.0 + slack)

    def linear_maximiser(self, gradients: Tensor) -> Tensor:
        """ε·g/‖g‖; 0 where g = 0."""
        radius = _rows.expand(rows_of(self.radius, gradients), gradients)
        return _rows.unit(gradients) * radius

    def gap(self, points: Tensor, gradients: Tensor) -> Tensor:
        """ε‖g‖ - gᵀδ = ‖g‖·(‖v - δ‖² + ε² - ‖δ‖²)/(2ε), v = εg/‖g‖."""
        away = self.linear_maximiser(gradients).sub_(points)
        size, far = _rows.norm(points), _rows.norm(away)
        inside = (self.radius - size).clamp(min=0) * (1 + size / self.radius)
        return _rows.norm(gradients) * (far * (far / self.radius) + inside) / 2

    def steepest(self, gradients: Tensor) -> Tensor:
        """g/‖g‖; 0 where g = 0."""
        return _rows.unit(gradients)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """ε·U^(1/d)·z/‖z‖ with z standard normal and U uniform."""
        flat = draws.normal(like.shape[1:].numel())
        length = draws.on(draws.stream + 1).uniform(1)[:, 0] ** (1.0 / flat.shape[1])
        length = length * rows_of(self.radius, like).cpu().double()
        points = _rows.unit(flat) * length[:, None]
        return points.reshape(like.shape).to(like)

    def face(self, points: Tensor, gradients: Tensor) -> Face:
        """The sphere where ‖p‖ ≥ (1 - BOUNDARY)·ε, else the interior."""
        free = torch.ones_like(points, dtype=torch.bool)
        return ball_face(points, gradients, free, self.radius)

    def magnitude(self, gradients: Tensor) -> Tensor:
        """‖g‖ `[rows]`."""
        return _rows.norm(gradients)

    def residual(self, points: Tensor, gradients: Tensor, reference: Tensor) -> Tensor:
        """‖Π(δ + τg) - δ‖/ε with τ = ε/max(‖g‖, reference)."""
        return projected_residual(self, self.radius, points, gradients, reference)

    def residual_floor(
        self,
        points: Tensor,
        gradients: Tensor,
        gradient_norms: Tensor,
        reference: Tensor,
    ) -> Tensor:
        """(‖v - δ‖/ε)/(1 + 2g_ref/‖g‖) with v = εg/‖g‖, the maximiser of gᵀv.

        With z = Π(δ + τg) and r the residual, τgᵀ(v - z) ≤ (z - δ)ᵀ(v - z) ≤ rε‖v - z‖.
        The ball is round: gᵀ(v - z) ≥ ‖g‖·‖v - z‖²/(2ε). So ‖v - z‖ ≤ 2rε·g_ref/‖g‖,
        and ‖v - δ‖ is at most rε more.
        """
        cosine = _rows.dot(gradients, points) / (self.radius * gradient_norms)
        square = 1 + (_rows.norm(points) / self.radius).square() - 2 * cosine
        # Less what rounding may have added: three numbers near 1 that cancel.
        noise = 64 * torch.finfo(square.dtype).eps
        largest = torch.maximum(reference, gradient_norms)
        return (square - noise).clamp(min=0).sqrt() / (1 + 2 * largest / gradient_norms)


def projected_residual(
    region: Region,
    radius: PerExample,
    points: Tensor,
    gradients: Tensor,
    reference: Tensor,
) -> Tensor:
    """‖Π_C(δ + τg) - δ‖/ε, τ = ε/g_ref (mathematics.md §3); 0/0 is 0.

    Args:
        region: C, which projects.
        radius: ε.
        points: δ.
        gradients: g.
        reference: the largest ‖g‖ at the centre and the boundary point, `[rows]`.

    Returns:
        `[rows]`.
    """
    share = relative_gradient(gradients, reference)
    step = _rows.expand(rows_of(radius, points), points)
    moved = torch.addcmul(points, step, share)
    return _rows.norm(region.project(moved).sub_(points)) / radius


def relative_gradient(gradients: Tensor, reference: Tensor) -> Tensor:
    """g/g_ref, at most 1 long whatever the scale of g; 0/0 is 0.

    NaN where g_ref is not finite: against it every gradient would look like zero, and
    every point stationary.
    """
    largest = torch.maximum(reference, _rows.norm(gradients))
    largest = torch.where(largest == 0, 1.0, largest)
    largest = largest.masked_fill(largest == torch.inf, torch.nan)
    return gradients / _rows.expand(largest, gradients)


def ball_face(
    points: Tensor, gradients: Tensor, free: Tensor, radius: PerExample
) -> Face:
    """The face of a ball inside the coordinates `free`; see `Face`."""
    inside = points * free
    active = _rows.norm(points) >= rows_of(radius, points) * (1 - tolerances.BOUNDARY)
    normal = _rows.unit(inside) * _rows.expand(active, inside)
    outward = _rows.dot(gradients, normal)
    held = active & (_rows.norm(inside) > 0)
    return Face(
        free=free,
        normal=normal,
        multiplier=torch.where(held, _rows.ratio(outward, _rows.norm(inside)), 0.0),
        pressure=torch.where(held, outward, torch.inf),
    )
