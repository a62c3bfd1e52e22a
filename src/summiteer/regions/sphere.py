"""The Euclidean sphere as a region of its own (the paper's case)."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.draws import Draws
from summiteer.regions._region import (
    Face,
    Radial,
    default_slack,
    rows_of,
)
from summiteer.regions.l2_ball import relative_gradient


@dataclass(frozen=True, eq=False)
class Sphere(Radial):
    """{δ : ‖δ‖₂ = radius}. Not convex: the multiplier may have either sign.

    Args:
        radius: a positive number, or one per example `[batch]`.
    """

    norm: ClassVar[str] = "sphere"
    whole_ball: ClassVar[bool] = True

    def project(self, points: Tensor) -> Tensor:
        """ε·v/‖v‖, a nearest point; v = 0 goes to ε·(1, …, 1)/√d, as near as any."""
        radius = _rows.expand(rows_of(self.radius, points), points)
        norms, usual = _rows.norm_and_kind(points)
        if not usual:
            zero = norms == 0
            points = torch.where(_rows.expand(zero, points), 1.0, points)
            norms = torch.where(zero, points[0].numel() ** 0.5, norms)
        return _rows.unit(points, (norms, usual)) * radius

    def contains(self, points: Tensor, slack: float | None = None) -> Tensor:
        """See `Region.contains`."""
        slack = default_slack(points) if slack is None else slack
        radius = rows_of(self.radius, points)
        return (_rows.norm(points) - radius).abs() <= radius * slack

    def linear_maximiser(self, gradients: Tensor) -> Tensor:
        """ε·g/‖g‖."""
        return self.project(gradients)

    def gap(self, points: Tensor, gradients: Tensor) -> Tensor:
        """ε‖g‖ - gᵀδ = ‖g‖·‖v - δ‖²/(2ε), v = εg/‖g‖ (of the ball's hull)."""
        far = _rows.norm(self.linear_maximiser(gradients) - points)
        return _rows.norm(gradients) * (far * (far / self.radius)) / 2

    def steepest(self, gradients: Tensor) -> Tensor:
        """g/‖g‖; 0 where g = 0."""
        return _rows.unit(gradients)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """ε·z/‖z‖ with z standard normal: uniform by surface area."""
        radius = rows_of(self.radius, like).cpu().double()
        flat = _rows.unit(draws.normal(like.shape[1:].numel())) * radius[:, None]
        return flat.reshape(like.shape).to(like)

    def face(self, points: Tensor, gradients: Tensor) -> Face:
        """The whole sphere; equality constraints exert no one-sided pressure."""
        normal = _rows.unit(points)
        outward = _rows.dot(gradients, normal)
        return Face(
            free=torch.ones_like(points, dtype=torch.bool),
            normal=normal,
            multiplier=outward / rows_of(self.radius, points),
            pressure=torch.full_like(outward, torch.inf),
        )

    def magnitude(self, gradients: Tensor) -> Tensor:
        """‖g‖ `[rows]`."""
        return _rows.norm(gradients)

    def residual(self, points: Tensor, gradients: Tensor, reference: Tensor) -> Tensor:
        """γ/g_ref, γ the tangential gradient: zero exactly at critical points of F|_S.

        The ball's formula would single out the outward normal; on the sphere both
        signs of the multiplier are critical.
        """
        normal = _rows.unit(points)
        share = relative_gradient(gradients, reference)
        along = _rows.expand(_rows.dot(share, normal), share)
        return _rows.norm(share - along * normal)
