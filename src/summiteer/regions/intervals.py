"""Products of intervals: what the L∞ ball, the box and their intersection share."""

from abc import abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.draws import Draws
from summiteer.regions._region import Face, Region, default_slack, rows_of


class Intervals(Region):
    """{δ : l ≤ δ ≤ h}, coordinate by coordinate."""

    boxed: ClassVar[bool] = True

    @abstractmethod
    def limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return (l, h), each broadcastable to `like`."""

    def project(self, points: Tensor) -> Tensor:
        """clip(v, l, h)."""
        lower, upper = self.limits(points)
        return torch.clamp(points, lower, upper)

    def contains(self, points: Tensor, slack: float | None = None) -> Tensor:
        """See `Region.contains`."""
        slack = default_slack(points) if slack is None else slack
        room = _rows.expand(rows_of(self.size, points) * slack, points)
        lower, upper = self.limits(points)
        inside = (points >= lower - room) & (points <= upper + room)
        return inside.flatten(1).all(1)

    def linear_maximiser(self, gradients: Tensor) -> Tensor:
        """Return h where g > 0, l where g < 0, the point nearest to 0 where g = 0."""
        lower, upper = self.limits(gradients)
        nearest = torch.zeros_like(gradients).clamp(lower, upper)
        vertex = torch.where(gradients > 0, upper, lower)
        return torch.where(gradients == 0, nearest, vertex)

    def steepest(self, gradients: Tensor) -> Tensor:
        """sign(g)."""
        return gradients.sign()

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """Return l + (h - l)·U, coordinate by coordinate."""
        lower, upper = self.limits(like)
        share = (
            draws.uniform(like.shape[1:].numel()).reshape(like.shape).to(like.device)
        )
        low, high = lower.double(), upper.double()
        return self.project((low + (high - low) * share).to(like))

    def face(self, points: Tensor, gradients: Tensor) -> Face:
        """A coordinate is held where it lies within BOUNDARY · size of a limit."""
        room = _rows.expand(rows_of(self.size, points) * tolerances.BOUNDARY, points)
        lower, upper = self.limits(points)
        held, outward = held_by_limits(points, gradients, lower, upper, room)
        return Face(
            free=~held,
            normal=torch.zeros_like(points),
            multiplier=points.new_zeros(len(points)),
            pressure=outward.flatten(1).amin(1),
        )

    def gap(self, points: Tensor, gradients: Tensor) -> Tensor:
        """Σ |g_i|·(distance of δ_i to the better limit)."""
        return _row_dot(gradients.abs(), self._distance(points, gradients))

    def _distance(self, points: Tensor, gradients: Tensor) -> Tensor:
        """From each coordinate to the limit that its gradient points to."""
        lower, upper = self.limits(points)
        return torch.where(gradients > 0, upper - points, points - lower).abs_()

    def magnitude(self, gradients: Tensor) -> Tensor:
        """|g| `[rows, *input]`."""
        return gradients.abs()

    def residual(self, points: Tensor, gradients: Tensor, reference: Tensor) -> Tensor:
        """G / Σ(h_i - l_i)·r_i, Frank-Wolfe gap G = Σ max(g_i l_i, g_i h_i) - gᵀδ.

        Each summand is formed as |g_i|·(distance to the better limit): nothing cancels.
        """
        lower, upper = self.limits(points)
        distance = self._distance(points, gradients)
        size = gradients.abs()
        reference = torch.maximum(reference, size)
        width = upper - lower
        gap, scale = _row_dot(size, distance), _row_dot(reference, width)
        if _rows.ordinary(scale):
            return gap / scale
        # The products over- or underflow; in units of the largest gradient they do not.
        largest = reference.flatten(1).amax(1)
        unit = _rows.expand(torch.where(largest == 0, 1.0, largest), size)
        gap = _row_dot(size / unit, distance)
        scale = _row_dot(reference / unit, width)
        # Against an infinite reference every point would look stationary.
        return torch.where(largest.isfinite(), _rows.ratio(gap, scale), torch.nan)


def _row_dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).flatten(1).sum(1)


def held_by_limits(
    points: Tensor, gradients: Tensor, lower: Tensor, upper: Tensor, room: Tensor
) -> tuple[Tensor, Tensor]:
    """Which coordinates their limits hold, and the outward gradient there.

    Args:
        points: `[rows, *input]`.
        gradients: of the Lagrangian.
        lower: l.
        upper: h.
        room: how near to a limit counts as at it.

    Returns:
        (held, outward): bool, and s_i·g_i with s_i = +1 at h_i, -1 at l_i; +inf where
        the coordinate is free or cannot leave the `room` at its limits (l_i ≈ h_i).
    """
    at_upper, at_lower = points >= upper - room, points <= lower + room
    outward = torch.where(at_upper, gradients, -gradients)
    fixed = at_upper & at_lower
    held = at_upper | at_lower
    return held, torch.where(held & ~fixed, outward, torch.inf)
