"""The prover of L1 balls, alone or in a box: vertices (mathematics.md §6, end).

C = {‖δ‖₁ ≤ ε, l ≤ δ ≤ h}. At a vertex p some coordinates are at their limits (B), at
most one more is not zero, |p_f| = ε - Σ_B|p_i|, and the others are zero. With λ the
multiplier of the ball (λ = s_f g_f, s = sign p; 0 where the ball is not active), p is
the only maximiser of gᵀv over C if

    s_i g_i > λ on B,   ±g_i < λ along every way ±e_i that the box leaves at a zero p_i,

and λ > 0 where the ball is active: then gᵀd < 0 for every feasible d ≠ 0. Where that
holds for every gradient of F next to p (every Clarke gradient, if F has kinks), p is a
strict local maximiser of F over C, since F(q) - F(p) = ḡᵀ(q - p) for one of them. On
the ball alone this is p = ±εe_i, g_ip_i > 0, |g_i| > |g_k| for all k ≠ i.

The other way round: if gᵀ(v - q) > 0 for one v of C, all q of C within ρ of the given
point and all gradients there, none of them is a local maximiser (a Frank-Wolfe gap).
"""

import math
from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from summiteer.optimality import piecewise
from summiteer.optimality.claims import Claims
from summiteer.optimality.local_form import LocalForm
from summiteer.optimality.premises import OTHER_MODEL, on_cpu, premises
from summiteer.optimality.rounding import Enclosure, down, length, up
from summiteer.optimality.scalar_form import (
    Link,
    ScalarForm,
    reproduces,
    scalar_form,
)
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.problem import Problem
from summiteer.regions import Box, L1Ball, L1Intersection
from summiteer.regions._region import rows_of
from summiteer.regions.knapsack import fill

#: The regions that this prover knows, and no class derived from them.
_KNOWN = (L1Ball, L1Intersection)
#: Radius of the neighbourhood that a vertex is best in, in search distances.
_NEAR = 1e-6
_VERTEX = "a vertex of the L1 ball where every slope leads down"
_UPHILL = "every gradient near leads uphill towards one vertex"
_OPEN = "no vertex within the search distance outweighs every other slope"


def prove(problem: Problem, points: Tensor, within: float, budget: int = 0) -> Claims:
    """Prove what can be proved of the points; silent on other regions.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64 perturbations.
        within: search distance in radii.
        budget: of branch and bound; not used.

    Returns:
        Claims; UNDECIDED with the reason where nothing was proved.
    """
    del budget
    region, inputs = problem.feasible, problem.inputs
    if not isinstance(region, L1Ball | L1Intersection) or type(region) not in _KNOWN:
        return Claims.undecided(len(points))
    with torch.no_grad(), on_cpu():
        polytope = _Polytope.of(region, inputs)
        hull = polytope.hull(problem)
        reach = down(within * problem.size.to(torch.float64), 2)
        given = points.flatten(1)
        here = _form(hull, given)
        if isinstance(here, str):
            return Claims.undecided(len(points), here)
        nothing = torch.zeros_like(reach)
        vertex = polytope.vertex(here.gradient(given, nothing).middle)
        # The objective may be another function there.
        there = _form(hull, vertex.points)
        if isinstance(there, str):
            return Claims.undecided(len(points), there)
        found = _Places(polytope, given, reach, here, vertex, there).claims()
    assert found.certified_point is not None
    assert found.direction is not None
    return found.state(
        certified_point=found.certified_point.reshape(points.shape),
        direction=found.direction.reshape(points.shape),
    )


@dataclass(frozen=True, eq=False)
class _Smooth:
    """A smooth two-layer network: F within a radius of points, on C.

    Attributes:
        form: the problem as φ(max F_i).
        same: whether the model was seen to compute what the form says.
    """

    form: ScalarForm
    same: Tensor

    @property
    def link(self) -> Link:
        """φ."""
        return self.form.link

    def gradient(self, points: Tensor, radius: Tensor) -> Enclosure:
        """All of them `[rows, d]`."""
        return self.form.surface.at(points, radius).gradient

    def value(self, points: Tensor, radius: Tensor) -> Enclosure:
        """All of them `[rows]`."""
        return self.form.surface.at(points, radius).value

    def holds(self, points: Tensor, radius: Tensor) -> Tensor:
        """Whether the objective is φ(F) there: F leads all of its rivals."""
        extent = up(length(points) + radius)
        nothing = torch.zeros_like(radius)
        return self.form.lead(points, nothing, extent) > radius


@dataclass(frozen=True, eq=False)
class _Pieces:
    """A piecewise-linear network of any depth; the same as `_Smooth`.

    Attributes:
        form: near the points that it was made at.
        same: whether the model was seen to compute what the form says.
    """

    form: LocalForm
    same: Tensor

    @property
    def link(self) -> Link:
        """See `_Smooth`."""
        return self.form.readout.link

    def gradient(self, points: Tensor, radius: Tensor) -> Enclosure:
        """All Clarke gradients."""
        return self.form.around(points, radius).whole.gradient

    def value(self, points: Tensor, radius: Tensor) -> Enclosure:
        """See `_Smooth`."""
        return self.form.readout.value(self.form.around(points, radius).everywhere)

    def holds(self, points: Tensor, radius: Tensor) -> Tensor:
        """See `_Smooth`."""
        return self.form.around(points, radius).holds


#: F near the points that it was made at.
_Form: TypeAlias = _Smooth | _Pieces


def _form(problem: Problem, points: Tensor) -> _Form | str:
    """F of two-layer smooth networks or of piecewise-linear ones, or why there is none.

    Args:
        problem: on the box around its region.
        points: `[rows, d]`.
    """
    shaped = points.reshape(problem.inputs.shape)
    known = premises(problem)
    if not isinstance(known, str):
        form = scalar_form(problem, shaped)
        if isinstance(form, str):
            return form
        return _Smooth(form, reproduces(form, problem, shaped))
    local = piecewise.local_form(problem, shaped)
    if isinstance(local, str):
        return local
    return _Pieces(local, piecewise.reproduced(problem, local, points))


@dataclass(frozen=True, eq=False)
class _Vertex:
    """One real vertex of C per row.

    Attributes:
        points: `[rows, d]` the floats next to it.
        slack: `[rows]` ≥ the distance to it.
        full: `[rows, d]` bool, at its limit exactly.
        part: bool, the one that takes what is left of ε.
        tight: `[rows]` bool, ‖p‖₁ = ε exactly.
        sound: `[rows]` bool, p is a point of C.
    """

    points: Tensor
    slack: Tensor
    full: Tensor
    part: Tensor
    tight: Tensor
    sound: Tensor


@dataclass(frozen=True, eq=False)
class _Polytope:
    """C, exactly: float64 numbers.

    Attributes:
        radius: ε `[rows]`.
        lower: l `[rows, d]`, at least -ε.
        upper: h, at most ε.
    """

    radius: Tensor
    lower: Tensor
    upper: Tensor

    @classmethod
    def of(cls, region: L1Ball | L1Intersection, like: Tensor) -> "_Polytope":
        """The region of inputs `[rows, *input]` in float64."""
        radius = rows_of(region.size, like).double()
        wide = radius[:, None].expand(like.flatten(1).shape)
        if isinstance(region, L1Ball):
            return cls(radius, -wide, wide)
        lower, upper = (
            x.double().expand(like.shape).flatten(1) for x in region.box.limits(like)
        )
        return cls(radius, torch.maximum(lower, -wide), torch.minimum(upper, wide))

    def hull(self, problem: Problem) -> Problem:
        """The same problem on the smallest box around C."""
        lower, upper = (
            x.reshape(problem.inputs.shape) for x in (self.lower, self.upper)
        )
        box = Box(lower, upper, radius=self.radius)
        return replace(problem, region=box, box=None, mask=None)

    def vertex(self, slopes: Tensor) -> _Vertex:
        """The vertex that maximises a linear function `[rows, d]`."""
        caps = torch.where(slopes > 0, self.upper, -self.lower)
        sizes = fill(slopes.abs(), caps, self.radius)
        # A coordinate that takes all of ε is held by the ball, whatever the limit.
        full = (sizes > 0) & (sizes == caps) & (caps < self.radius[:, None])
        part = (sizes > 0) & ~full
        held = torch.where(full, caps, 0.0)
        # Sums rounded once: their signs are exact.
        left = self._exactly(
            [
                [r, *(-h).tolist()]
                for r, h in zip(self.radius.tolist(), held, strict=True)
            ]
        )
        room = torch.where(part, caps, 0.0).sum(1)
        over = self._exactly(
            [
                [r, *(-h).tolist(), -c]
                for r, h, c in zip(
                    self.radius.tolist(), held, room.tolist(), strict=True
                )
            ]
        )
        one = part.any(1)
        points = torch.where(part, left[:, None], held).copysign(slopes)
        sound = torch.where(one, (left > 0) & (over <= 0), left >= 0)
        sound &= part.sum(1) <= 1
        # Half a unit of rounding of what is left.
        slack = torch.where(one, up(left.abs() * torch.finfo(left.dtype).eps), 0.0)
        return _Vertex(points, slack, full, part, one | (left == 0), sound)

    @staticmethod
    def _exactly(rows: list[list[float]]) -> Tensor:
        return torch.tensor([math.fsum(row) for row in rows], dtype=torch.float64)

    def margin(self, vertex: _Vertex, gradient: Enclosure) -> Tensor:
        """By how much every slope at the vertex leads down `[rows]`; > 0 is strict.

        Args:
            vertex: p.
            gradient: all that F may have there.
        """
        # Turned along p; signs of zeros do not matter.
        side = torch.where(vertex.points < 0, -1.0, 1.0).to(gradient.middle)
        along = Enclosure(side * gradient.middle, gradient.radius)
        nowhere = torch.full_like(side, -torch.inf)
        zero = ~(vertex.full | vertex.part)
        ahead = torch.where(zero & (self.upper > 0), gradient.upper, nowhere)
        behind = torch.where(zero & (self.lower < 0), (-gradient).upper, nowhere)
        most = torch.maximum(ahead, behind).amax(1)
        least = torch.where(vertex.full, along.lower, torch.inf).amin(1)
        one = vertex.part.any(1)
        low = torch.where(vertex.part, along.lower, torch.inf).amin(1)
        high = torch.where(vertex.part, along.upper, nowhere).amax(1)
        # Where limits alone fill the ball any λ ≥ 0 between will do.
        between = torch.where(vertex.tight, (most / 2 + least / 2).clamp(min=0), 0.0)
        between = torch.where(most.isinf(), 0.0, between)
        low, high = torch.where(one, low, between), torch.where(one, high, between)
        margin = torch.minimum(down(low - most), down(least - high))
        return torch.where(one, torch.minimum(margin, low), margin)


@dataclass(frozen=True, eq=False)
class _Places:
    """Given points and the vertices that their gradients lead to.

    Attributes:
        polytope: C.
        given: `[rows, d]`.
        reach: the search distance `[rows]`.
        here: F at the given points.
        vertex: where its gradient leads to.
        there: F at the vertices.
    """

    polytope: _Polytope
    given: Tensor
    reach: Tensor
    here: _Form
    vertex: _Vertex
    there: _Form

    def margin(self, about: Tensor, radius: Tensor) -> Tensor:
        """The margin at the vertex with all gradients within a radius `[rows]`.

        Where it is positive no other point of C there is as high as the vertex.
        """
        margin = self.polytope.margin(self.vertex, self.there.gradient(about, radius))
        known = self.there.holds(about, radius) & self.there.same & self.vertex.sound
        return torch.where(known, margin, torch.nan)

    def claims(self) -> Claims:
        """Vertices that are maxima, then ways uphill."""
        vertex, reach = self.vertex, self.reach
        nothing = torch.zeros_like(reach)
        gap = (Enclosure.exact(vertex.points) - self.given).norm().upper
        distance = up(gap + vertex.slack)
        near = down(_NEAR * reach)
        margin = self.margin(vertex.points, up(near + vertex.slack))
        peak = (margin > 0) & (distance <= reach) & self.here.same
        wide = self.margin(vertex.points, up(reach + distance))
        radius = torch.where(wide > 0, reach, down(near - distance).clamp(min=0))
        origin = torch.zeros_like(vertex.points)
        best = peak & (self.margin(origin, self.polytope.radius) > 0)
        radius = torch.where(best, up(2 * self.polytope.radius), radius)
        low = self.here.value(self.given, nothing).lower
        high = self.there.value(vertex.points, vertex.slack).upper
        rising, gain, way = self._uphill()
        rising &= ~peak
        numbers = {
            "distance_bound": torch.where(peak, distance, torch.nan),
            "loss_gap_bound": self.here.link.rise(low, high).masked_fill(
                ~peak, torch.nan
            ),
            "best_radius": torch.where(peak, radius, torch.nan),
            # Every other point there can be left towards the vertex.
            "uniqueness_radius": torch.where(peak & (radius > 0), radius, torch.nan),
            "margin": torch.where(peak, margin, torch.nan),
            "guaranteed_gain": torch.where(
                rising & (gain > 0), self.here.link.climb(low, gain), torch.nan
            ),
        }
        proved = (peak | rising).tolist()
        return Claims(
            [
                _verdict(*row)
                for row in zip(
                    *(mask.tolist() for mask in (best, peak, rising)), strict=True
                )
            ],
            [Evidence.PROVED if p else Evidence.NUMERICAL for p in proved],
            self._reasons(peak, rising),
            ["Prop. 10" if p else "" for p in proved],
            numbers,
            torch.where(peak[:, None], vertex.points, self.given),
            torch.where(rising[:, None], way, torch.nan),
        )

    def _reasons(self, peak: Tensor, rising: Tensor) -> list[str]:
        same = self.here.same & self.there.same
        return [
            _VERTEX if top else _UPHILL if up_ else _OPEN if known else OTHER_MODEL
            for top, up_, known in zip(
                peak.tolist(), rising.tolist(), same.tolist(), strict=True
            )
        ]

    def _uphill(self) -> tuple[Tensor, Tensor, Tensor]:
        """(whether no maximiser is near, ≤ gain of F along a way, that way).

        gᵀ(v - q) ≥ gᵀ(v̂ - p̂) - ‖g‖(ρ + |v - v̂|) for every q within ρ of the given p̂.
        """
        given, reach, vertex = self.given, self.reach, self.vertex
        gradient = self.here.gradient(given, reach)
        way = Enclosure.exact(vertex.points) - given
        climb = gradient.dot(way).lower
        lost = up(gradient.norm().upper * up(reach + vertex.slack))
        proved = (climb > lost) & self.here.holds(given, reach)
        proved &= self.here.same & vertex.sound
        # Along v̂ - p̂ F rises by climb/‖v̂ - p̂‖ per unit of length, in the box around C.
        far = way.norm().upper
        gain = down(down(climb / far) * torch.minimum(down(reach, 8), down(far, 8)))
        within = (given >= self.polytope.lower) & (given <= self.polytope.upper)
        gain = torch.where(within.all(1), gain, torch.nan)
        flat = way.middle
        unit = flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-300)
        return proved, gain, unit


def _verdict(best: bool, peak: bool, rising: bool) -> Verdict:
    if best:
        return Verdict.GLOBAL_MAXIMUM
    if peak:
        return Verdict.STRICT_LOCAL_MAXIMUM
    return Verdict.NOT_STATIONARY if rising else Verdict.UNDECIDED
