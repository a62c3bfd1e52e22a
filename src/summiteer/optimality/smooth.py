"""The prover of smooth two-layer networks (mathematics.md §§4-7): a ladder.

First curvature bounds shared by the batch, one factorisation each; then, for the rows
that they do not settle, the tangent majorant and the Hessian at the point, one each;
then the negative certificates at the given points. What is proved is a statement about
the caller's own weights in real arithmetic (§10).
"""

import torch
from torch import Tensor

from summiteer.optimality.bounds import (
    Bounds,
    bounds_of,
    constants_around,
    wiggle_of,
)
from summiteer.optimality.branching import best_everywhere
from summiteer.optimality.claims import Claims
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.majorant import (
    diagonal_majorant,
    tangent_guess,
    tangent_majorant,
)
from summiteer.optimality.maximum import (
    Reach,
    best_vertex,
    best_within,
    only_point,
    strict_maximum,
    unique_within,
    whole_curvature,
)
from summiteer.optimality.newton import newton
from summiteer.optimality.no_maximum import Refuted
from summiteer.optimality.premises import OTHER_MODEL, on_cpu, premises
from summiteer.optimality.rate import contraction
from summiteer.optimality.refutation import refutations
from summiteer.optimality.rivals import (
    about_centre,
    about_point,
    close_look,
    quick_look,
)
from summiteer.optimality.rounding import (
    Enclosure,
    down,
    length,
    up,
)
from summiteer.optimality.scalar_form import ScalarForm, reproduces, scalar_form
from summiteer.optimality.spectrum import SHORT, curving, on_everything, on_face
from summiteer.optimality.stand import Limits, stand
from summiteer.optimality.surface import Place
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.problem import Problem

#: Where between an estimated eigenvalue and what it must stay below a factor is tried.
_SHARES = (0.25, 0.9)
_STRICT = "the curvature is below the multiplier on the whole tangent space"
_BEST = "the multiplier exceeds the curvature on the whole region"
_PARTS = "each part of the region is lower, or curves less than the multiplier"
_VERTEX = "at this vertex every slope outweighs the curvature across the box"


def prove(problem: Problem, points: Tensor, within: float, budget: int = 0) -> Claims:
    """Prove what can be proved of the points.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64 perturbations.
        within: search distance in radii.
        budget: parts of the region per row that branch and bound may examine.

    Returns:
        Claims; UNDECIDED with the reason where nothing was proved.
    """
    limits = premises(problem)
    if isinstance(limits, str):
        return Claims.undecided(len(points), limits)
    with torch.no_grad(), on_cpu():
        form = scalar_form(problem, points)
        if isinstance(form, str):
            return Claims.undecided(len(points), form)
        given = form.surface.at(points)
        same = reproduces(form, problem, points, given)
        reach = down(within * problem.size.to(torch.float64), 2)
        return _Ladder(problem, form, limits, given, reach, same, budget).claims()


class _Ladder:
    """The proofs of one batch, and what they came to.

    Args:
        problem: in float64.
        form: the problem as φ(max F_i).
        limits: of the region.
        given: F at the given points.
        reach: the search distance.
        same: whether the model was seen to compute what the form says.
        budget: of branch and bound.
    """

    def __init__(
        self,
        problem: Problem,
        form: ScalarForm,
        limits: Limits,
        given: Place,
        reach: Tensor,
        same: Tensor,
        budget: int,
    ) -> None:
        self.budget, self.given, points = budget, given, given.points
        self.form, self.limits, self.points, self.reach = form, limits, points, reach
        surface = form.surface
        polished, free, curved = newton(surface, limits, points, reach)
        standing = stand(limits, polished, free, curved)
        self.first = FirstOrder(surface.at(standing.points, standing.slack), standing)
        #: A radius that holds C and the given points, which may lie a bit outside.
        self.extent = torch.maximum(limits.reach, length(points))
        self.bounds: Bounds = bounds_of(surface, self.extent)
        gap = (Enclosure.exact(polished) - points).norm().upper
        #: From the given points to the real ones that are examined.
        self.moved = up(gap + standing.slack)
        self.lead = form.lead_at(self.first.place, self.bounds.sloped)
        self.diameter = up(2 * limits.reach)
        whole, majorant = limits.reach, self.bounds.majorant
        #: What F has to fear from its rivals.
        self.rivals = quick_look(
            form, limits, problem.feasible, self.bounds, self.first
        )
        top = torch.fmin(
            about_centre(self.bounds.centre, whole, majorant),
            about_point(self.first, majorant, self.diameter),
        )
        top = torch.maximum(top, self.rivals.top)
        self.open = same.clone()
        self.near = torch.full_like(reach, torch.nan)
        ceiling = form.link.ceiling(top).masked_fill(~same, torch.nan)
        self.numbers = {"upper_bound": ceiling}
        self.direction = torch.full_like(points, torch.nan)
        self.verdict = [Verdict.UNDECIDED] * len(points)
        self.reason = [
            "no inequality of Props. 3 to 7 holds with this curvature"
            if good
            else OTHER_MODEL
            for good in same.tolist()
        ]
        self.proposition = [""] * len(points)

    def claims(self) -> Claims:
        """Climb the ladder."""
        everyone = torch.arange(len(self.points))
        majorant = self.bounds.majorant
        zero = torch.zeros_like(majorant)
        shared = best_within(self.first, majorant, zero, self.diameter)
        self._best(everyone, shared, majorant, "Prop. 3")
        if self.limits.boxed and not self.limits.round:
            self._vertices(everyone)
        index = (self.open & ~self.rivals.above).nonzero().flatten()
        if len(index):
            self._tangent(index)
        index = (self.open & ~self.rivals.above).nonzero().flatten()
        if len(index) and self.budget:
            self._branch(index)
        for rung in (self._local, self._refute):
            index = self.open.nonzero().flatten()
            if len(index):
                rung(index)
        self._unique()
        evidence = [
            Evidence.NUMERICAL if v is Verdict.UNDECIDED else Evidence.PROVED
            for v in self.verdict
        ]
        return Claims(
            self.verdict,
            evidence,
            self.reason,
            self.proposition,
            self.numbers,
            certified_point=self.first.stand.points,
            direction=self.direction,
            curving=curving(self.first),
        )

    def _best(
        self,
        index: Tensor,
        best: Reach,
        curvature: Tensor,
        proposition: str,
        reason: str = _BEST,
    ) -> None:
        """Rows whose F is proved best in all of C, and no rival higher."""
        form, first = self.form.take(index), self.first.take(index)
        value = first.place.value
        top = up(value.upper + best.gain)
        distance = up(self.moved[index] + best.distance)
        sound = ~best.margin.isnan() & (distance <= self.reach[index])
        sound &= self.open[index] & (self.lead[index] > best.distance)
        doubt = sound & ~self.rivals.below[index] & ~self.rivals.above[index]
        some = index[doubt]
        if len(some):
            region, goal = self.limits.take(some), value.lower[doubt]
            self.rivals.below[some] = close_look(self.form.take(some), region, goal)
            self.rivals.above[some] = ~self.rivals.below[some]
        sound &= self.rivals.below[index]
        self.near[index[sound]] = best.distance[sound]
        self._write(
            sound,
            index,
            Verdict.GLOBAL_MAXIMUM,
            proposition,
            reason,
            distance_bound=distance,
            loss_gap_bound=self._gap(index, top),
            best_radius=self.diameter[index],
            margin=best.margin,
            multiplier=first.multiplier,
            curvature=curvature,
            tangential=first.leftover,
            upper_bound=form.link.ceiling(top),
        )

    def _gap(self, index: Tensor, top: Tensor) -> Tensor:
        """≥ what the objective at the maximiser exceeds that at the given point."""
        return self.form.link.rise(self.given.value.lower[index], top)

    def _write(
        self,
        sound: Tensor,
        index: Tensor,
        verdict: Verdict,
        proposition: str,
        reason: str,
        **numbers: Tensor,
    ) -> None:
        rows = index[sound]
        for row in rows.tolist():
            self.verdict[row] = verdict
            self.proposition[row] = proposition
            self.reason[row] = reason
        for name, values in numbers.items():
            self._note(name, rows, values[sound])
        self.open[rows] = False

    def _note(self, name: str, rows: Tensor, values: Tensor) -> None:
        nothing = torch.full_like(self.reach, torch.nan)
        self.numbers.setdefault(name, nothing)[rows] = values

    def _vertices(self, index: Tensor) -> None:
        """The global vertex test of boxes, with λ⁺ and with row sums for D."""
        surface, limits = self.form.surface, self.limits
        widths = up(limits.upper - limits.lower)
        level = self.bounds.majorant[:, None].expand_as(widths)
        rows = diagonal_majorant(surface, surface.within(limits.reach))
        sound = best_vertex(self.first, level, widths)
        sound |= best_vertex(self.first, rows, widths)
        zero = torch.where(sound, 0.0, torch.nan).to(self.reach)
        self._best(
            index, Reach(zero, zero, zero, zero), self.bounds.majorant, "§6", _VERTEX
        )

    def _tangent(self, index: Tensor) -> None:
        """Prop. 3 on C with the tangent majorant, one factorisation a row."""
        first, limits = self.first.take(index), self.limits.take(index)
        surface = first.place.surface
        interval = surface.within(limits.reach)
        guess = on_everything(
            surface, tangent_guess(first.place, interval), first.stand.points
        )
        able = first.stand.curved & (guess.top < first.multiplier)
        some = able.nonzero().flatten()
        if not len(some):
            return
        part = first.take(some)
        majorant = tangent_majorant(part.place, interval[some])
        guess = on_everything(surface.take(some), majorant, part.stand.points)
        middle = _between(guess.top, part.multiplier, _SHARES[0])
        top = surface.weighted.top(Enclosure.exact(majorant), middle)
        top = top if limits.sphere else top.clamp(min=0)
        best = best_within(part, top, torch.zeros_like(top), self.diameter[index[some]])
        self._best(index[some], best, top, "Prop. 3 with M_p")

    def _branch(self, index: Tensor) -> None:
        """Prop. 8 on the parts of C, within the budget of each row."""
        first, limits = self.first.take(index), self.limits.take(index)
        top = best_everywhere(self.form.take(index), first, limits, self.budget)
        top = top if limits.sphere else top.clamp(min=0)
        self.rivals.below[index] |= top.isfinite()
        best = best_within(first, top, torch.zeros_like(top), self.diameter[index])
        self._best(index, best, top, "Prop. 3 in parts", _PARTS)

    def _local(self, index: Tensor) -> None:
        """Prop. 6 at the point, with one factorisation of H (two if λ_max is close)."""
        first, bounds = self.first.take(index), self.bounds
        curvature = self._curvature(first)
        if not self.limits.sphere:
            curved = first.stand.curved
            curvature = torch.where(curved, curvature.clamp(min=0), curvature)
        wiggle = self._wiggle(index)
        self._strict(index, curvature, bounds.lipschitz[index], wiggle)
        # In the tails of σ, L and Λ of the region say nothing of what is near.
        left = (self.open[index] & curvature.isfinite()).nonzero().flatten()
        if len(left):
            around = self.reach[index[left]]
            some = self.first.take(index[left])
            constants = constants_around(some.place, around)
            self._strict(index[left], curvature[left], *constants, around)

    def _strict(
        self,
        index: Tensor,
        curvature: Tensor,
        lipschitz: Tensor,
        wiggle: Tensor,
        around: Tensor | None = None,
    ) -> None:
        """Write what Prop. 6 gives with these constants."""
        first = self.first.take(index)
        reach, unique = strict_maximum(first, curvature, lipschitz, wiggle, around)
        distance = up(self.moved[index] + reach.distance)
        sound = ~reach.distance.isnan() & self.open[index]
        sound &= (distance <= self.reach[index]) & (self.lead[index] > reach.distance)
        best, radius = self._best_radius(index, first, curvature)
        # What is best within R may exceed p by more than the maximiser of Prop. 6 does.
        gain = torch.fmax(reach.gain, best)
        top = up(first.place.value.upper + gain)
        unique = torch.minimum(unique, self.lead[index])
        self.near[index[sound]] = reach.distance[sound]
        self._write(
            sound,
            index,
            Verdict.STRICT_LOCAL_MAXIMUM,
            "Prop. 6",
            _STRICT,
            distance_bound=distance,
            loss_gap_bound=self._gap(index, top),
            best_radius=radius,
            uniqueness_radius=down(unique - self.moved[index]).clamp(min=0),
            margin=reach.margin,
            multiplier=first.multiplier,
            curvature=curvature,
            tangential=first.tangential,
        )

    def _wiggle(self, index: Tensor) -> Tensor:
        """Λ on a ball that holds the region and the given points."""
        surface = self.form.surface.take(index)
        return wiggle_of(surface, surface.within(self.extent[index]))

    def _curvature(self, first: FirstOrder) -> Tensor:
        """≥ λ_max(H) on the tangent space of the face; inf where not proved."""
        standing, heavy = first.stand, first.place.bend
        surface = first.place.surface
        top = on_face(surface, heavy.middle, standing, SHORT).top
        limit = torch.where(standing.curved, first.multiplier, 0.0)
        vertex = ~standing.free.any(1)
        curvature = torch.where(vertex, -torch.inf, torch.inf).to(limit)
        able = ((top < limit) & ~vertex).nonzero().flatten()
        for share in _SHARES:
            able = able[curvature[able].isinf()]
            if not len(able):
                break
            guess = _between(top[able], limit[able], share)
            part = first.take(able)
            _, across, above = part.normal_bend
            gap = (guess - top[able]).clamp(min=1e-300)
            push = 4 * (above + guess.abs() + across.square() / gap)
            curvature[able] = surface.weighted.top(
                heavy[able],
                guess,
                standing.normal[able],
                torch.where(part.stand.curved, push, 0.0),
                standing.free[able],
            )
        return curvature

    def _best_radius(
        self, index: Tensor, first: FirstOrder, tangent: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Prop. 3 with H + ΛR/3: (gain, R) such that p is best within R but for it."""
        nothing = torch.full_like(tangent, torch.nan)
        if self.limits.boxed:
            return nothing, nothing
        whole = whole_curvature(first, tangent)
        if not self.limits.sphere:
            whole = whole.clamp(min=0)
        wiggle = self._wiggle(index)
        radius = (1.5 * (first.multiplier - whole) / wiggle).clamp(min=0)
        radius = torch.minimum(radius, self.diameter[index])
        best = best_within(first, whole, wiggle, radius)
        # Beyond the lead a rival may be higher.
        inner = torch.minimum(best.radius, self.lead[index])
        inner = down(inner - self.moved[index])
        return best.gain, torch.where(inner > 0, inner, torch.nan)

    def _unique(self) -> None:
        """Props. 2 and 4 for the maxima of whole balls."""
        limits, bounds = self.limits, self.bounds
        found = torch.tensor([v.is_maximum for v in self.verdict])
        index = (found & self.first.stand.curved).nonzero().flatten()
        if limits.boxed or limits.sphere or not len(index):
            return
        first, near = self.first.take(index), self.near[index]
        lipschitz, majorant = bounds.lipschitz[index], bounds.majorant[index]
        radius = limits.radius[index]
        apart = unique_within(first, near, majorant, lipschitz)
        only, multiplier = only_point(
            first, near, majorant, lipschitz, bounds.floor[index], radius
        )
        apart = torch.where(only, self.diameter[index], apart)
        apart = torch.minimum(apart, self.lead[index])
        apart = down(apart - self.moved[index])
        apart = torch.where(only & (self.lead[index] > 2 * radius), 2 * radius, apart)
        known = self.numbers.get("uniqueness_radius", torch.full_like(near, torch.nan))
        if len(known) == len(self.points):
            known = known[index]
        best = torch.fmax(known, apart)
        self._note("uniqueness_radius", index, torch.where(best > 0, best, torch.nan))
        for row in index[only].tolist():
            which = "5, known before any ascent" if bounds.regular[row] else "4"
            self.reason[row] += f"; it is F's only KKT point (Prop. {which})"
        self._note("lipschitz", index, lipschitz)
        self._note("majorant", index, majorant)
        self._note("least_multiplier", index, multiplier)
        self._note(
            "rate", index, contraction(down(2 / lipschitz), multiplier, majorant)
        )

    def _refute(self, index: Tensor) -> None:
        """Prop. 7 at the given points."""
        form, bounds = self.form.take(index), self.bounds
        for verdict, reason, refuted in refutations(
            form,
            self.limits.take(index),
            self.points[index],
            up(self.reach[index], 4),
            self.extent[index],
            (bounds.lipschitz[index], self._wiggle(index)),
        ):
            self._refuted(index, refuted, verdict, reason)

    def _refuted(
        self, index: Tensor, refuted: Refuted, verdict: Verdict, reason: str
    ) -> None:
        """Write negative verdicts where none is yet."""
        sound = refuted.proved & self.open[index]
        self.direction[index[sound]] = refuted.direction[sound]
        gain = self.form.link.climb(refuted.low, refuted.gain)
        self._write(sound, index, verdict, "Prop. 7", reason, guaranteed_gain=gain)


def _between(low: Tensor, high: Tensor, share: float) -> Tensor:
    return low + share * (high - low)
