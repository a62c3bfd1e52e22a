"""The L1 ball."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.draws import Draws
from summiteer.regions import knapsack
from summiteer.regions._region import Face, Radial, default_slack, rows_of
from summiteer.regions.l2_ball import projected_residual


@dataclass(frozen=True, eq=False)
class L1Ball(Radial):
    """{δ : Σ_i |δ_i| ≤ radius}.

    Args:
        radius: a positive number, or one per example `[batch]`.
    """

    norm: ClassVar[str] = "l1"

    def project(self, points: Tensor) -> Tensor:
        """sign(v)·max(|v| - τ, 0), τ ≥ 0 the least for which its L1 norm is at most ε.

        See `knapsack.nearest`: finite, and exact but for rounding.
        """
        return nearest_in(points, rows_of(self.radius, points), None)

    def contains(self, points: Tensor, slack: float | None = None) -> Tensor:
        """See `Region.contains`."""
        slack = default_slack(points) if slack is None else slack
        return length(points) <= rows_of(self.radius, points).double() * (1 + slack)

    def linear_maximiser(self, gradients: Tensor) -> Tensor:
        """±ε in the first coordinate of the largest |g_i|, 0 elsewhere; 0 where g = 0.

        Every point of the face of the largest |g_i| would do; this is its first vertex.
        """
        return self.steepest(gradients) * _rows.expand(
            rows_of(self.radius, gradients), gradients
        )

    def gap(self, points: Tensor, gradients: Tensor) -> Tensor:
        """M(ε - ‖δ‖₁) + Σ (M|δ_i| - g_iδ_i), M = max|g_i|: no summand is below 0."""
        flat, slopes = points.flatten(1), gradients.flatten(1).double()
        most = slopes.abs().amax(1)
        room = rows_of(self.radius, points).double()
        each = flat.abs() * (most[:, None] - slopes * flat.sign())
        inside = (room - length(points)).clamp(min=0)
        return (most * inside + knapsack.total(each)).to(points)

    def steepest(self, gradients: Tensor) -> Tensor:
        """sign(g_k) in the first coordinate k of the largest |g_i|; 0 where g = 0."""
        flat = gradients.flatten(1)
        most = flat.abs().argmax(1, keepdim=True)
        one = torch.zeros_like(flat).scatter_(1, most, flat.gather(1, most).sign())
        return one.reshape(gradients.shape)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """±ε·E_i/(E_1 + … + E_{d+1}), E_i independent exponential numbers.

        The spacings are uniform on the simplex; one more than there are coordinates
        fills the ball. Signs and sizes come from one number each, as a Laplace number.
        """
        numbers = draws.uniform(like.shape[1:].numel()).numpy()
        turned = 2 * numbers - 1
        sizes = -np.log1p(-np.abs(turned))
        spare = -np.log(draws.on(draws.stream + 1).uniform(1).numpy())
        radius = rows_of(self.radius, like).cpu().double().numpy()
        whole = sizes.sum(1, keepdims=True) + spare
        flat = np.copysign(sizes / whole * radius[:, None], turned)
        return self.project(torch.from_numpy(flat).reshape(like.shape).to(like))

    def face(self, points: Tensor, gradients: Tensor) -> Face:
        """See `kinked_face`."""
        infinite = torch.full_like(points, torch.inf)
        radius = rows_of(self.radius, points)
        return kinked_face(points, gradients, radius, -infinite, infinite)

    def magnitude(self, gradients: Tensor) -> Tensor:
        """‖g‖₂ `[rows]`."""
        return _rows.norm(gradients)

    def residual(self, points: Tensor, gradients: Tensor, reference: Tensor) -> Tensor:
        """‖Π(δ + τg) - δ‖₂/ε with τ = ε/max(‖g‖₂, reference)."""
        return projected_residual(self, self.radius, points, gradients, reference)

    def residual_floor(
        self,
        points: Tensor,
        gradients: Tensor,
        gradient_norms: Tensor,
        reference: Tensor,
    ) -> Tensor:
        """G/(3ε·g_ref), as on every convex set inside the L2 ball (`Intersection`)."""
        largest = torch.maximum(reference, gradient_norms)
        scale = 3 * rows_of(self.radius, points) * largest
        return self.gap(points, gradients) / scale.clamp(min=tolerances.TINY_NORM)


def length(points: Tensor) -> Tensor:
    """‖v‖₁ of each row `[rows]`, in float64.

    Args:
        points: `[rows, *input]`.
    """
    return knapsack.total(points.flatten(1).abs())


def nearest_in(points: Tensor, radius: Tensor, caps: Tensor | None) -> Tensor:
    """The nearest points of {‖z‖₁ ≤ ε, |z_i| ≤ c_i, sign as v_i}, row by row.

    Args:
        points: v `[rows, *input]`.
        radius: ε `[rows]`.
        caps: c, of the shape of `points`; None for ∞.

    Returns:
        Points; those that lie inside are returned as they are.
    """
    inside = points
    if caps is not None:
        inside = torch.minimum(points.abs(), caps).copysign(points)
    outside = length(inside) > radius.double()
    if not bool(outside.any()):
        return inside
    rows = outside.nonzero().flatten()
    sizes = points[rows].flatten(1).abs().double()
    room = radius[rows].double()
    tops = room[:, None].expand_as(sizes) if caps is None else caps[rows].flatten(1)
    found = knapsack.nearest(sizes, tops, room).reshape(-1, *points.shape[1:])
    return inside.index_copy(0, rows, found.to(points).copysign(points[rows]))


def kinked_face(
    points: Tensor, gradients: Tensor, radius: Tensor, lower: Tensor, upper: Tensor
) -> Face:
    """The face of {‖δ‖₁ ≤ ε, l ≤ δ ≤ h} that points lie on; see `Face`.

    On the L1 sphere the kink holds the coordinates that are zero, limits hold others,
    and Σ_S sign(p_i)v_i = 0 in the k coordinates S that are left: normal sign(p)/√k.
    With λ the mean of sign(p_i)g_i over S, first order is g_i = λ sign(p_i) on S, and
    along every other way ±e_i into the region the slope ±g_i is at most ±λ sign(p_i),
    λ where p_i = 0. Faces are flat: nothing is taken from the curvature, μ = 0.

    Args:
        points: p `[rows, *input]`.
        gradients: g.
        radius: ε `[rows]`.
        lower: l, of the shape of `points`.
        upper: h.
    """
    room = _rows.expand(radius * tolerances.BOUNDARY, points)
    active = length(points) >= radius.double() * (1 - tolerances.BOUNDARY)
    active = _rows.expand(active, points)
    zero = active & (points.abs() <= room)
    rising, falling = points < upper - room, points > lower + room
    held = zero | ~(rising & falling)
    inside = active & ~held
    side = points.sign()
    count = inside.flatten(1).sum(1)
    slopes = side * gradients
    pull = torch.where(inside, slopes, 0.0).flatten(1).sum(1) / count.clamp(min=1)
    # At a vertex of limits and zeros any λ between their slopes will do.
    up, down = (
        torch.where(way & zero, slope, -torch.inf)
        for way, slope in ((rising, gradients), (falling, -gradients))
    )
    least = torch.maximum(up, down).flatten(1).amax(1)
    most = torch.where(active & held & ~zero, slopes, torch.inf).flatten(1).amin(1)
    between = torch.where(most.isfinite(), (least + most) / 2, least).clamp(min=0)
    pull = _rows.expand(torch.where(count > 0, pull, between), points)
    pull = torch.where(active, pull, 0.0)
    ahead = torch.where(zero | (points > 0), pull, -pull) - gradients
    behind = torch.where(zero | (points < 0), pull, -pull) + gradients
    pressed = torch.minimum(
        torch.where(held & rising, ahead, torch.inf),
        torch.where(held & falling, behind, torch.inf),
    )
    root = count.clamp(min=1).to(points).sqrt()
    normal = torch.where(inside, side, 0.0) / _rows.expand(root, points)
    outward = torch.where(count > 0, _rows.dot(gradients, normal), torch.inf)
    return Face(
        free=~held,
        normal=normal,
        multiplier=torch.zeros_like(outward),
        pressure=torch.minimum(pressed.flatten(1).amin(1), outward),
    )
