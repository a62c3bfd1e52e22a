"""Intersections with a box: exact projections, not one set after the other."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from scipy.special import ndtr, ndtri
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._typing import PerExample
from summiteer.draws import Draws
from summiteer.errors import UserError
from summiteer.regions._region import Face, Region, default_slack, rows_of
from summiteer.regions.box import Box
from summiteer.regions.intervals import held_by_limits
from summiteer.regions.l1_ball import L1Ball
from summiteer.regions.l1_box import L1Intersection
from summiteer.regions.l2_ball import L2Ball, ball_face, projected_residual
from summiteer.regions.linf_ball import LinfBall
from summiteer.regions.rejection import Proposal, accepted


def intersect(ball: Region, box: Box) -> Region:
    """Return ball ∩ box as the simplest region that is exactly it.

    Args:
        ball: L2Ball, L1Ball, LinfBall, Box or an intersection of one with a box.
        box: in perturbation coordinates; contains 0.

    Returns:
        An `Intersection` for the L2 ball, an `L1Intersection` for the L1 ball; a `Box`
        for products of intervals.

    Raises:
        UserError: the region has no exact projection with a box (the sphere).
    """
    if isinstance(ball, L2Ball):
        return Intersection(ball, box)
    if isinstance(ball, L1Ball):
        return L1Intersection(ball, box)
    if isinstance(ball, Intersection | L1Intersection):
        within = _narrower(ball.box, box.lower, box.upper, box.radius)
        return replace(ball, box=within)
    if isinstance(ball, Box):
        return _narrower(box, ball.lower, ball.upper, ball.size)
    if isinstance(ball, LinfBall):
        radius = ball.radius
        if isinstance(radius, Tensor) and radius.ndim:
            if not isinstance(box.lower, Tensor) or box.lower.shape[:1] != radius.shape:
                raise UserError(
                    "box: with one radius per example the box needs one row per "
                    "example too; bind both to the inputs first."
                )
            radius = _rows.expand(radius, box.lower)
        return _narrower(box, -radius, radius, ball.radius)
    raise UserError(
        f"box: {type(ball).__name__} ∩ box has no exact projection; use box=None, or "
        "L1Ball, L2Ball or LinfBall."
    )


def _narrower(
    box: Box, lower: PerExample, upper: PerExample, radius: PerExample | None
) -> Box:
    """Box ∩ [lower, upper]."""
    high = _larger(-box.upper, -upper)
    return Box(_larger(box.lower, lower), -high, radius=radius)


def _larger(left: PerExample, right: PerExample) -> PerExample:
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        return torch.maximum(left, right.to(left))
    if isinstance(left, Tensor):
        return left.clamp(min=float(right))
    if isinstance(right, Tensor):
        return right.clamp(min=left)
    return max(left, right)


@dataclass(frozen=True, eq=False)
class Intersection(Region):
    """{δ : ‖δ‖₂ ≤ radius, l ≤ δ ≤ h}, l ≤ 0 ≤ h.

    For an L∞ ball use `intersect`, which returns a `Box`.

    Args:
        ball: the L2 ball.
        box: in perturbation coordinates.
    """

    ball: L2Ball
    box: Box
    norm: ClassVar[str] = "l2"

    def __post_init__(self) -> None:
        if not isinstance(self.ball, L2Ball):
            raise UserError(
                f"ball: expected an L2Ball, got {type(self.ball).__name__}; use "
                "summiteer.intersect for other regions."
            )

    @property
    def size(self) -> PerExample:
        """The ball's radius."""
        return self.ball.radius

    def bind(self, inputs: Tensor) -> Self:
        """See `Region.bind`."""
        return replace(self, ball=self.ball.bind(inputs), box=self.box.bind(inputs))

    def take(self, index: Tensor) -> Self:
        """See `Region.take`."""
        return replace(self, ball=self.ball.take(index), box=self.box.take(index))

    def project(self, points: Tensor) -> Tensor:
        """clip(t·v, l, h) with the largest t ≤ 1 for which its norm is at most ε.

        The KKT conditions of min ½‖z - v‖² with multiplier λ of the ball give
        z = clip(v/(1+λ), l, h), t = 1/(1+λ).
        """
        lower, upper = self.box.limits(points)
        clipped = torch.clamp(points, lower, upper)
        outside = _rows.norm(clipped) > rows_of(self.size, points)
        if not bool(outside.any()):
            return clipped
        rows = outside.nonzero().flatten()
        return clipped.index_copy(0, rows, self._scaled_clip(points, rows))

    def contains(self, points: Tensor, slack: float | None = None) -> Tensor:
        """See `Region.contains`."""
        slack = default_slack(points) if slack is None else slack
        room = replace(self.box, radius=self.ball.radius)
        return self.ball.contains(points, slack) & room.contains(points, slack)

    def linear_maximiser(self, gradients: Tensor) -> Tensor:
        """clip(t·g, l, h) with t ≥ 0 such that its norm is ε, or the corner if shorter.

        Source: field.md §5 (derived there); the same equation as the projection's.
        """
        corner = self.box.linear_maximiser(gradients)
        long = _rows.norm(corner) > rows_of(self.size, gradients)
        if not bool(long.any()):
            return corner
        rows = long.nonzero().flatten()
        return corner.index_copy(0, rows, self._scaled_clip(gradients, rows))

    def _scaled_clip(self, vectors: Tensor, rows: Tensor) -> Tensor:
        """clip(t·v, l, h), t ≥ 0 such that its norm is ε; the corner must be longer.

        In s = t², ‖clip(√s·v)‖² is concave, increasing and piecewise linear, so
        Newton's method from the left ends at the exact root after finitely many
        steps: each solves ε² = Σ_held limit² + s·Σ_free v², and a coordinate once held
        stays so.
        """
        lower, upper = (x.expand(vectors.shape)[rows] for x in self.box.limits(vectors))
        radius = rows_of(self.size, vectors)[rows]
        vectors = vectors[rows]
        room = torch.where(vectors > 0, upper, -lower)
        size, held = _rows.unit(vectors).abs_(), torch.zeros_like(vectors)
        reach = torch.empty_like(vectors)
        rest = radius
        for _ in range(vectors[0].numel() + 1):
            moving = _rows.norm(size)
            if not float(moving.min()) > tolerances.TINY_NORM:
                # t would overflow; what is held is never looked at again.
                size = _rows.unit(size)
                moving = torch.where(moving > 0, 1.0, moving)
            scale = torch.where(moving > 0, rest / moving, 0.0)
            torch.mul(size, _rows.expand(scale, size), out=reach)
            beyond = reach > room
            # NaN compares false and ends the search.
            if not bool(beyond.any()):
                break
            size.masked_fill_(beyond, 0.0)
            held = torch.where(beyond, room, held)
            spent = _rows.norm(held) / radius
            rest = radius * ((1 - spent) * (1 + spent)).clamp(min=0).sqrt()
        return reach.add_(held).copysign_(vectors)

    def gap(self, points: Tensor, gradients: Tensor) -> Tensor:
        """gᵀ(v - δ) by the Lagrangian's multiplier λ of the ball at v.

        Σ[(g_i - λv_i)(v_i - δ_i) + ½λ(v_i - δ_i)²] + ½λ(ε² - ‖δ‖²): every product is
        ≥ 0, since v_i is at a limit where g_i - λv_i is not 0.
        """
        unit, length = _rows.unit(gradients), _rows.norm(gradients)
        support = self.linear_maximiser(gradients)
        corner = self.box.linear_maximiser(gradients)
        radius = rows_of(self.size, points)
        # |g_i/v_i| is λ where v_i = g_i/λ, and more where v_i is at its limit.
        each = (unit / support).abs()
        price = torch.where(support == 0, torch.inf, each).flatten(1).amin(1)
        round_ = (_rows.norm(corner) > radius) & price.isfinite()
        price = torch.where(round_, price, 0.0)
        along = _rows.expand(price, points)
        away = support - points
        pressed = ((unit - along * support) * away).clamp(min=0)
        terms = pressed + along * away.square() / 2
        size = _rows.norm(points)
        unspent = price * (radius - size).clamp(min=0) * (radius + size) / 2
        return length * (terms.flatten(1).sum(1) + unspent)

    def steepest(self, gradients: Tensor) -> Tensor:
        """g/‖g‖; 0 where g = 0."""
        return self.ball.steepest(gradients)

    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """Uniform on ball ∩ box, by exact rejection.

        Proposals are independent normal numbers of variance 1/λ, truncated to
        [l_i, h_i]; one is accepted with probability exp(-λ(ε² - ‖z‖²)/2) if ‖z‖ ≤ ε,
        which makes the accepted ones uniform for every λ ≥ 0. With E‖z‖² = ε² about
        one in 1.8·√d is accepted. After 2²⁰ numbers (d above about 5000) the last
        proposal is projected: such a start lies on the ball's boundary, where almost
        all of the volume is.
        """
        lower, upper = (limit.cpu().double() for limit in self.box.limits(like))
        low, high = (x.expand(like.shape).flatten(1).numpy() for x in (lower, upper))
        radius = rows_of(self.size, like).cpu().double().numpy()
        # Limits beyond the ball never bind, and their squares may overflow.
        low = np.maximum(low, -radius[:, None])
        high = np.minimum(high, radius[:, None])
        rate = _tilt(low, high, radius)

        def propose(rows: np.ndarray, numbers: np.ndarray) -> Proposal:
            proposal = _truncated_normal(numbers, low[rows], high[rows], rate[rows])
            shortfall = radius[rows] ** 2 - (proposal**2).sum(1)
            chance = np.exp(-rate[rows] * np.maximum(shortfall, 0.0) / 2)
            return proposal, np.where(shortfall >= 0, chance, 0.0)

        points = accepted(draws, len(low), low.shape[1], propose)
        return self.project(torch.from_numpy(points).reshape(like.shape).to(like))

    def face(self, points: Tensor, gradients: Tensor) -> Face:
        """Held coordinates of the box, and the sphere inside the free ones."""
        room = _rows.expand(rows_of(self.size, points) * tolerances.BOUNDARY, points)
        lower, upper = self.box.limits(points)
        held, _ = held_by_limits(points, gradients, lower, upper, room)
        ball = ball_face(points, gradients, ~held, self.size)
        lagrangian = gradients - _rows.expand(ball.multiplier, points) * points
        _, outward = held_by_limits(points, lagrangian, lower, upper, room)
        pressure = torch.minimum(outward.flatten(1).amin(1), ball.pressure)
        return replace(ball, pressure=pressure)

    def magnitude(self, gradients: Tensor) -> Tensor:
        """‖g‖ `[rows]`."""
        return _rows.norm(gradients)

    def residual(self, points: Tensor, gradients: Tensor, reference: Tensor) -> Tensor:
        """‖Π(δ + τg) - δ‖/ε with the exact projection on ball ∩ box."""
        return projected_residual(self, self.size, points, gradients, reference)

    def residual_floor(
        self,
        points: Tensor,
        gradients: Tensor,
        gradient_norms: Tensor,
        reference: Tensor,
    ) -> Tensor:
        """gᵀ(v - δ)/(3ε·g_ref) for one feasible v = clip(ε·g/‖g‖, l, h).

        The L2 ball's argument holds for every v of a convex set inside the ball.
        """
        radius = rows_of(self.size, points)
        lower, upper = self.box.limits(points)
        shift = self.ball.linear_maximiser(gradients).clamp(lower, upper) - points
        largest = torch.maximum(reference, gradient_norms)
        scale = (3 * radius * largest).clamp(min=tolerances.TINY_NORM)
        return _rows.dot(gradients, shift) / scale


def _tilt(low: np.ndarray, high: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """λ ≥ 0 with E‖z‖² ≈ ε²; any value is right, this one is efficient `[rows]`."""
    flat = ((low**2 + low * high + high**2) / 3).sum(1)
    loose = flat > radius**2
    rate = np.where(loose, low.shape[1] / radius**2, 0.0)
    for _ in range(12):
        root = np.sqrt(rate[loose])[:, None]
        left, right = low[loose] * root, high[loose] * root
        mass = np.maximum(ndtr(right) - ndtr(left), np.finfo(float).tiny)
        edges = (left * np.exp(-(left**2) / 2) - right * np.exp(-(right**2) / 2)) / (
            mass * np.sqrt(2 * np.pi)
        )
        narrow = right - left < 0.1  # there 1 + edges cancels; the moment is flat's
        third = (low[loose] ** 2 + low[loose] * high[loose] + high[loose] ** 2) / 3
        moment = np.where(narrow, third, (1 + edges) / root**2).sum(1)
        rate[loose] *= moment / radius[loose] ** 2
    return rate


def _truncated_normal(
    uniform: np.ndarray, low: np.ndarray, high: np.ndarray, rate: np.ndarray
) -> np.ndarray:
    """Normal numbers of variance 1/rate on [low, high] by inversion; flat at rate 0."""
    root = np.sqrt(rate)[:, None]
    left, right = ndtr(low * root), ndtr(high * root)
    with np.errstate(divide="ignore", invalid="ignore"):
        normal = ndtri(left + uniform * (right - left)) / root
    flat = low + uniform * (high - low)
    # There inversion loses its digits, and the density is flat to 1e-12.
    narrow = (high - low) * root < 1e-6
    numbers: np.ndarray = np.clip(np.where(narrow, flat, normal), low, high)
    return numbers
