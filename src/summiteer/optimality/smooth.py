"""The prover of smooth two-layer networks (mathematics.md §§4-7): a ladder.

First a curvature bound shared by the batch, one factorisation; then, for the rows that
it does not settle, the tangent majorant and the Hessian at the point, one each; then
the negative certificates at the given points. What is proved is a statement about the
caller's own weights in real arithmetic (§10).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.optimality.claims import Claims
from summiteer.optimality.curvature import Curvature, lanczos_curvature
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.majorant import shared_top, tangent_majorant, verified_top
from summiteer.optimality.maximum import (
    Reach,
    best_within,
    held_within,
    only_point,
    strict_maximum,
)
from summiteer.optimality.no_maximum import Refuted, not_stationary, saddle
from summiteer.optimality.polish import newton
from summiteer.optimality.rounding import (
    Enclosure,
    arithmetic_fault,
    down,
    length,
    up,
)
from summiteer.optimality.scalar_form import ScalarForm, reproduces, scalar_form
from summiteer.optimality.stand import Limits, limits_of, stand
from summiteer.optimality.surface import Surface, gradient_floor, lipschitz, unit
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.problem import Problem
from summiteer.regions import Face

#: Where between an estimated eigenvalue and what it must stay below a factor is tried.
_SHARES = (0.25, 0.9)


@dataclass(frozen=True, eq=False)
class Bounds:
    """Constants of each row on the whole region, rounded up `[rows]`.

    Attributes:
        lipschitz: L.
        wiggle: Λ.
        majorant: λ⁺(M).
        floor: g_min, rounded down.
    """

    lipschitz: Tensor
    wiggle: Tensor
    majorant: Tensor
    floor: Tensor

    def take(self, index: Tensor) -> "Bounds":
        """The rows `index`."""
        return _rows.take(self, index)


def prove(problem: Problem, points: Tensor, within: float) -> Claims:
    """Prove what can be proved of the points.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64 perturbations.
        within: search distance in radii.

    Returns:
        Claims; UNDECIDED with the reason where nothing was proved.
    """
    fault = arithmetic_fault()
    if fault:
        return Claims.undecided(len(points), f"arithmetic: {fault}")
    if problem.inputs.device.type != "cpu" or points.ndim != 2:
        return Claims.undecided(len(points), "proofs need [batch, d] on the CPU")
    with torch.no_grad(), torch.device("cpu"):
        limits = limits_of(problem.feasible, points)
        if limits is None:
            kind = type(problem.feasible).__name__
            return Claims.undecided(len(points), f"{kind} is not a region proofs know")
        form = scalar_form(problem, points)
        if isinstance(form, str):
            return Claims.undecided(len(points), form)
        same = reproduces(form, problem, points)
        reach = down(within * problem.size.to(torch.float64), 2)
        return _Proof(form, limits, points, reach).claims(same)


class _Proof:
    """The ladder for one batch.

    Args:
        form: the problem as φ(max F_i).
        limits: of the region.
        points: given.
        reach: the search distance.
    """

    def __init__(
        self, form: ScalarForm, limits: Limits, points: Tensor, reach: Tensor
    ) -> None:
        self.form, self.limits, self.points, self.reach = form, limits, points, reach
        surface = form.surface
        polished, free, curved = newton(surface, limits, points, reach)
        standing = stand(limits, polished, free, curved)
        self.first = FirstOrder(surface.at(standing.points, standing.slack), standing)
        self.bounds = bounds_of(surface, limits)
        gap = (Enclosure.exact(polished) - points).norm().upper
        self.moved = up(gap + standing.slack)
        self.lead = form.lead(standing.points, standing.slack, limits.reach)
        nan = torch.full_like(reach, torch.nan)
        self.numbers = {
            name: nan.clone()
            for name in (
                "distance_bound",
                "loss_gap_bound",
                "best_radius",
                "uniqueness_radius",
                "rate",
                "upper_bound",
                "guaranteed_gain",
                "multiplier",
                "curvature",
                "tangential",
                "margin",
                "curvature_ratio",
            )
        }
        self.verdict = [Verdict.UNDECIDED] * len(points)
        self.reason = [""] * len(points)
        self.proposition = [""] * len(points)
        self.direction = torch.full_like(points, torch.nan)
        self.open = torch.ones_like(curved)

    def claims(self, same: Tensor) -> Claims:
        """Climb the ladder."""
        self.open &= same
        whole = self._diameter()
        majorant = self.bounds.majorant
        zero = torch.zeros_like(majorant)
        shared = best_within(self.first, majorant, zero, whole)
        self._settle_global(shared, majorant, torch.arange(len(whole)), "Prop. 3")
        index = self.open.nonzero().flatten()
        if len(index):
            self._rows(index)
        self._uniqueness()
        index = self.open.nonzero().flatten()
        if len(index):
            self._refute(index)
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
        )

    def _diameter(self) -> Tensor:
        return up(2 * self.limits.reach)

    def _settle_global(
        self, best: Reach, curvature: Tensor, index: Tensor, proposition: str
    ) -> None:
        """Rows whose F is proved best in all of C, and no rival higher."""
        form, first = self.form.take(index), self.first.take(index)
        value = first.place.value
        top = up(value.upper + best.gain)
        distance = up(self.moved[index] + best.distance)
        sound = ~best.margin.isnan() & (distance <= self.reach[index])
        sound &= self.open[index] & (self.lead[index] > best.distance)
        for rival in form.rivals:
            sound &= _below(rival, self.limits.take(index), value.lower)
        self._write(
            sound,
            index,
            Verdict.GLOBAL_MAXIMUM,
            proposition,
            "the multiplier exceeds the curvature on the whole region",
            distance_bound=distance,
            loss_gap_bound=self._gap(index, top),
            best_radius=self._diameter()[index],
            margin=best.margin,
            multiplier=first.multiplier,
            curvature=curvature,
            tangential=first.leftover,
            upper_bound=form.link.ceiling(top),
        )

    def _gap(self, index: Tensor, top: Tensor) -> Tensor:
        """≥ what the objective at the maximiser exceeds that at the given point."""
        given = self.form.surface.take(index).at(self.points[index])
        return self.form.link.rise(given.value.lower, top)

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
            self.numbers[name][rows] = values[sound]
        self.open[rows] = False

    def _rows(self, index: Tensor) -> None:
        """Row by row: the tangent majorant on C, then the Hessian at the point."""
        first, limits = self.first.take(index), self.limits.take(index)
        surface = first.place.surface
        weighted = surface.weighted
        majorant = tangent_majorant(first.place, surface.within(limits.reach))
        full = _estimate(surface, majorant, first, tangent=False)
        able = first.stand.curved & (full.top < first.multiplier)
        if bool(able.any()):
            some = able.nonzero().flatten()
            guess = _between(full.top[some], first.multiplier[some], _SHARES[0])
            top = weighted.top(Enclosure.exact(majorant[some]), guess)
            part = first.take(some)
            best = best_within(
                part, top, torch.zeros_like(top), self._diameter()[index[some]]
            )
            self._settle_global(best, top, index[some], "Prop. 3 with M_p")
        left = self.open[index].nonzero().flatten()
        if len(left):
            self._local(index[left])

    def _local(self, index: Tensor) -> None:
        """Prop. 6 at the point, with one factorisation of H."""
        first, bounds = self.first.take(index), self.bounds.take(index)
        standing = first.stand
        heavy = first.place.bend
        surface = first.place.surface
        tangent = _estimate(surface, heavy.middle, first, tangent=True)
        limit = torch.where(standing.curved, first.multiplier, 0.0)
        ratio = torch.where(limit > 0, tangent.top / limit, torch.nan)
        self.numbers["curvature_ratio"][index] = ratio
        vertex = ~standing.free.any(1)
        curvature = torch.where(vertex, -torch.inf, torch.inf).to(limit)
        able = ((tangent.top < limit) & ~vertex).nonzero().flatten()
        push = torch.zeros_like(limit)
        for share in _SHARES:
            able = able[curvature[able].isinf()]
            if not len(able):
                break
            guess = _between(tangent.top[able], limit[able], share)
            part = first.take(able)
            _, across, above = part.normal_bend
            push = 4 * (above + guess.abs())
            push = push + 4 * across.square() / (guess - tangent.top[able]).abs()
            curvature[able] = surface.weighted.top(
                heavy[able],
                guess,
                standing.normal[able],
                torch.where(part.stand.curved, push, 0.0),
                standing.free[able],
            )
        sphere = self.limits.sphere
        clipped = curvature
        if not sphere:
            clipped = torch.where(standing.curved, curvature.clamp(min=0), curvature)
        reach, unique = strict_maximum(first, clipped, bounds.lipschitz, bounds.wiggle)
        distance = up(self.moved[index] + reach.distance)
        sound = ~reach.margin.isnan() | (vertex & ~reach.distance.isnan())
        sound &= (distance <= self.reach[index]) & (self.lead[index] > reach.distance)
        top = up(first.place.value.upper + reach.gain)
        unique = torch.minimum(unique, self.lead[index])
        self._write(
            sound & self.open[index],
            index,
            Verdict.STRICT_LOCAL_MAXIMUM,
            "Prop. 6",
            "the curvature is below the multiplier on the whole tangent space",
            distance_bound=distance,
            loss_gap_bound=self._gap(index, top),
            uniqueness_radius=down(unique - self.moved[index]).clamp(min=0),
            margin=reach.margin,
            multiplier=first.multiplier,
            curvature=clipped,
            tangential=first.tangential,
        )

    def _uniqueness(self) -> None:
        """Props. 4 and 2 for the maxima on whole balls."""

    def _refute(self, index: Tensor) -> None:
        """Prop. 7 at the given points."""
        form, limits = self.form.take(index), self.limits.take(index)
        points, reach = self.points[index], up(self.reach[index], 4)
        bounds = self.bounds.take(index)
        lead = form.lead(points, torch.zeros_like(reach), limits.reach)
        refuted = not_stationary(
            form.surface, limits, points, reach, bounds.lipschitz, lead, form.mirrored
        )
        self._write_refuted(refuted, index, form, Verdict.NOT_STATIONARY)

    def _write_refuted(
        self, refuted: Refuted, index: Tensor, form: ScalarForm, verdict: Verdict
    ) -> None:
        low = form.surface.at(self.points[index]).value.lower
        texts = {
            Verdict.NOT_STATIONARY: "the gradient keeps it from being critical",
            Verdict.SADDLE: "the objective curves upwards along the region",
        }
        self.direction[index[refuted.proved]] = refuted.direction[refuted.proved]
        self._write(
            refuted.proved,
            index,
            verdict,
            "Prop. 7",
            texts[verdict],
            guaranteed_gain=form.link.climb(low, refuted.gain),
        )


def bounds_of(surface: Surface, limits: Limits) -> Bounds:
    """Constants on the whole region; factorisations are shared by the batch."""
    interval = surface.within(limits.reach)
    weighted = surface.weighted
    group = _groups(surface)
    steep, wiggle = surface.steep(interval), surface.wiggle(interval)
    wiggle = up(wiggle * weighted.lengths)
    one = torch.zeros_like(group)
    ones = torch.ones_like(steep[:1])
    spectral = verified_top(weighted, ones)[0]
    constants = []
    for heavy in (steep, wiggle):
        crude = torch.minimum(lipschitz(weighted, heavy), up(heavy.amax(1) * spectral))
        constants.append(torch.minimum(crude, shared_top(weighted, heavy, one)))
    majorant = shared_top(weighted, surface.upward(interval), group).clamp(min=0)
    centre = surface.at(torch.zeros_like(limits.lower))
    floor = down(centre.gradient.norm().lower - up(constants[0] * limits.reach))
    sloped = gradient_floor(centre, interval, unit(centre.gradient.middle))
    floor = torch.maximum(floor, sloped).clamp(min=0)
    return Bounds(constants[0], constants[1], majorant, floor)


def _groups(surface: Surface) -> Tensor:
    """Rows of equal output weights, by a number that tells them apart."""
    weights = surface.output.middle
    probe = torch.cos(torch.arange(weights.shape[1], dtype=torch.float64))
    _, group = torch.unique(weights @ probe, return_inverse=True)
    return group


def _between(low: Tensor, high: Tensor, share: float) -> Tensor:
    return low + share * (high - low)


def _estimate(
    surface: Surface, weights: Tensor, first: FirstOrder, tangent: bool
) -> Curvature:
    """Lanczos on Wᵀ diag(D) W, on the tangent space or the whole space: an estimate."""
    standing = first.stand
    like = standing.points
    normal = standing.normal.middle if tangent else torch.zeros_like(like)
    free = standing.free if tangent else torch.ones_like(standing.free)
    nothing = first.multiplier
    face = Face(free, normal, nothing, nothing)
    return lanczos_curvature(lambda v: surface.bent(weights, v), face, like)


def _below(rival: Surface, limits: Limits, value: Tensor) -> Tensor:
    """Whether F_i < value on all of C: by its value, slope and curvature at 0."""
    centre = rival.at(torch.zeros_like(limits.lower))
    interval = rival.within(limits.reach)
    heavy = rival.upward(interval).clamp(min=0)
    curvature = lipschitz(rival.weighted, heavy)
    radius = limits.reach
    rise = up(centre.gradient.norm().upper * radius)
    bound = up(up(centre.value.upper + rise) + up(curvature * radius * radius / 2, 3))
    return bound < value


_ = (held_within, only_point, length, saddle)
