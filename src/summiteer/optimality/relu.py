"""The prover of two-layer networks with kinks: Prop. 9 (mathematics.md §8).

The points are polished by DC ascent: F_π, F with its convex neurons straightened by the
pattern π at a point, is maximised over the whole region, and π taken anew. Where all
convex neurons keep their pattern around the maximiser, F = F_π there, and a maximiser
of the concave F_π is a local maximiser of F.

Convex neurons too near to their kinks are left open: around the point F is the largest
of the F_π over their 2^t completions. If every completion has its maximisers within R
of the point, R such that all other neurons keep their pattern, the best of them is a
local maximiser of F: it lies inside the neighbourhood and nothing in it is higher. So
ties need not be exact.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks import TwoLayerNetwork
from summiteer.networks.proximal_dual import EVALUATIONS
from summiteer.networks.relu_minorant import maximise
from summiteer.optimality.chords import Chords, chords
from summiteer.optimality.claims import Claims
from summiteer.optimality.completions import AWAY, Completed, complete
from summiteer.optimality.hold import Hold, hold, lean, strict
from summiteer.optimality.premises import OTHER_MODEL, on_cpu, premises
from summiteer.optimality.relu_form import Kinked, region_of
from summiteer.optimality.rounding import Enclosure, down, length, up
from summiteer.optimality.scalar_form import (
    ScalarForm,
    known_network,
    reproduces,
    scalar_form,
)
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.problem import Problem

#: Patterns that DC ascent goes through at most; a dozen is usual.
_PATTERNS = 100
_LOCAL = "its units' pattern makes F concave, and it is the maximum of that"
_TIES = "it is the maximum of every completion of the convex units at their kinks"
_CUT = f"{EVALUATIONS} products with the weights did not find its pattern's maximum"
_ALL = "no convex unit has its kink where F is as high: F is concave there"


def prove(problem: Problem, points: Tensor, within: float, budget: int = 0) -> Claims:
    """Prove what can be proved of the points.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64 perturbations.
        within: search distance in radii.
        budget: not used.

    Returns:
        Claims; UNDECIDED with the reason where nothing was proved, and without one
        where the network is smooth.
    """
    limits = premises(problem, kinked=True)
    if isinstance(limits, str):
        return Claims.undecided(len(points), limits)
    network = known_network(problem, kinked=True)
    if isinstance(network, str) or network.activation.smooth:
        return Claims.undecided(len(points))
    with torch.no_grad(), on_cpu():
        form = scalar_form(problem, points, kinked=True)
        if isinstance(form, str):
            return Claims.undecided(len(points), form)
        same = reproduces(form, problem, points)
        reach = down(within * problem.size.to(torch.float64), 2)
        index = Kinked.of(form.surface).ordinary(limits).nonzero().flatten()
        nothing = Claims.undecided(len(points), "the numbers overflow")
        if not len(index):
            return nothing
        form, limits, points = form.take(index), limits.take(index), points[index]
        prover = _Prover(network, form, limits, points, reach[index], same[index])
        return nothing.filled(index, prover.claims())


@dataclass(frozen=True, eq=False)
class _Summits:
    """Ends of DC ascent in floats.

    Attributes:
        points: `[rows, d]`.
        shares: `[rows, m]`, the pattern used and the multipliers found.
        cut: `[rows]` bool, the work that a search may take was not enough.
    """

    points: Tensor
    shares: Tensor
    cut: Tensor


def ascend_patterns(
    kinked: Kinked, limits: Limits, points: Tensor
) -> tuple[_Summits, _Summits]:
    """DC ascent from the points: (after one pattern, at the end)."""
    region = region_of(limits)
    pattern = (kinked.heights(points) > 0).to(points)
    first: _Summits | None = None
    rows, start = torch.arange(len(points)), None
    cut = torch.zeros(len(points), dtype=torch.bool)
    last = _Summits(points.clone(), pattern.clone(), cut)
    best = torch.full_like(points[:, 0], -torch.inf)
    for _ in range(_PATTERNS):
        some = kinked.take(rows)
        peak = maximise(some.minorant(pattern), region.take(rows), start)
        shares = torch.where(some.convex, pattern, peak.multipliers)
        last.points[rows], last.shares[rows] = peak.points, shares
        last.cut[rows] = peak.cut
        first = first or _rows.copy(last)
        now = (some.heights(peak.points) > 0).to(points)
        # Until the pattern is the one just used, or F no longer rises.
        value = some.values(peak.points)
        going = ((now != pattern) & some.convex).any(1) & (value > best[rows])
        going &= ~peak.cut
        best[rows] = value
        going = going.nonzero().flatten()
        if not len(going):
            break
        rows, pattern, start = rows[going], now[going], peak.multipliers[going]
    assert first is not None
    return first, last


def nearest_peak(
    surface: Surface, limits: Limits, points: Tensor
) -> tuple[Tensor, Tensor]:
    """Where DC ascent ends, in floats, and whether that is a maximum of its pattern.

    Args:
        surface: F of each row.
        limits: of the region.
        points: `[rows, d]`.
    """
    kinked = Kinked.of(surface)
    if not bool(kinked.ordinary(limits).all()):
        return points, torch.zeros(len(points), dtype=torch.bool)
    last = ascend_patterns(kinked, limits, points)[1]
    same = (kinked.heights(last.points) > 0) == (last.shares > 0)
    return last.points, ~last.cut & (same | ~kinked.convex).all(1)


class _Prover:
    """The proofs of one batch.

    Args:
        network: f.
        form: the problem as φ(max F_i).
        limits: of the region.
        points: given.
        reach: the search distance.
        same: whether the model was seen to compute what the form says.
    """

    def __init__(
        self,
        network: TwoLayerNetwork,
        form: ScalarForm,
        limits: Limits,
        points: Tensor,
        reach: Tensor,
        same: Tensor,
    ) -> None:
        self.form, self.limits, self.points, self.reach = form, limits, points, reach
        self.same, self.network = same, network
        self.kinked = Kinked.of(form.surface)
        first, last = ascend_patterns(self.kinked, limits, points)
        away = _rows.norm(last.points - points) > reach
        chosen = _rows.choose(away, first, last)
        self.cut = chosen.cut
        self.hold: Hold = hold(self.kinked, limits, chosen.points, chosen.shares)
        standing = self.hold.lean.stand
        gap = (Enclosure.exact(standing.points) - points).norm().upper
        #: From the given points to the real ones that are examined.
        self.moved = up(gap + standing.slack)
        self.extent = torch.maximum(limits.reach, length(standing.points))
        self.extent = up(self.extent + standing.slack)
        self.lead = form.lead(standing.points, standing.slack, self.extent)
        self.value = form.surface.at(standing.points, standing.slack).value
        self.diameter = up(2 * limits.reach)
        self.chords = self._chords(last)

    def _chords(self, last: _Summits) -> Chords:
        """Where F may be as high as at the end of DC ascent, a point of C."""
        outer = lean(self.kinked, self.limits, last.points, last.shares).stand
        there = self.form.surface.at(outer.points, outer.slack).value.lower
        floor = torch.where(outer.room >= 0, there, -torch.inf)
        inside = self.hold.lean.stand.room >= 0
        here = torch.where(inside, self.value.lower, -torch.inf)
        floor = torch.maximum(floor, here)
        return chords(self.kinked, self.limits, floor, start=last.shares)

    def claims(self) -> Claims:
        """What is proved of each row."""
        done = complete(self.network, self.kinked, self.limits, self.hold)
        top = torch.where(done.tied, done.top, up(self.value.upper + self.hold.rise))
        distance = up(self.moved + done.radius)
        sound = self.same & ~done.radius.isnan() & (distance <= self.reach)
        sound &= self.lead > done.radius
        below, rivals = self._rivals()
        whole = sound & below & self._concave(done)
        single = self._strict(done, sound)
        radius, unique = self._radii(done, sound, single)
        radius = torch.where(whole, self.diameter, radius)
        given = self.form.surface.at(self.points).value.lower
        ceiling = self.form.link.ceiling(torch.maximum(self.chords.top, rivals))
        leant = self.hold.lean

        def where(mask: Tensor, values: Tensor) -> Tensor:
            return torch.where(mask, values, torch.nan)

        numbers = {
            "upper_bound": where(self.same, ceiling),
            "distance_bound": where(sound, distance),
            "loss_gap_bound": where(sound, self.form.link.rise(given, top)),
            "best_radius": where(sound, radius),
            "uniqueness_radius": unique,
            "multiplier": where(sound & leant.stand.curved, leant.multiplier),
            "tangential": where(sound, leant.leftover),
        }
        verdicts = [
            Verdict.GLOBAL_MAXIMUM
            if best
            else Verdict.STRICT_LOCAL_MAXIMUM
            if one
            else Verdict.LOCAL_MAXIMUM
            if good
            else Verdict.UNDECIDED
            for best, one, good in zip(
                whole.tolist(), single.tolist(), sound.tolist(), strict=True
            )
        ]
        proved = sound.tolist()
        return Claims(
            verdicts,
            [Evidence.PROVED if good else Evidence.NUMERICAL for good in proved],
            self._reasons(done, sound, whole, distance),
            ["Prop. 9" if good else "" for good in proved],
            numbers,
            certified_point=leant.stand.points,
        )

    def _rivals(self) -> tuple[Tensor, Tensor]:
        """(whether no rival reaches F(p), ≥ all of them) `[rows]`."""
        below = torch.ones_like(self.same)
        highest = torch.full_like(self.reach, -torch.inf)
        for rival in self.form.rivals:
            top = self._over(Kinked.of(rival))
            below &= top < self.value.lower
            highest = torch.maximum(highest, top)
        return below, highest

    def _over(self, rival: Kinked) -> Tensor:
        """≥ a rival on C, as low as can be where it may reach F(p) `[rows]`."""
        goal = self.value.lower
        top = chords(rival, self.limits, goal=goal).top
        index = (~(top < goal)).nonzero().flatten()
        if len(index):
            top[index] = chords(rival.take(index), self.limits.take(index)).top
        return top

    def _concave(self, done: Completed) -> Tensor:
        """Whether F is the F_π proved here, wherever it is as high as anywhere."""
        on, off = self.chords.lower >= 0, self.chords.upper <= 0
        kept = torch.where(self.hold.lean.shares > 0, on, off)
        return (kept | done.open | ~self.kinked.convex).all(1)

    def _strict(self, done: Completed, sound: Tensor) -> Tensor:
        """Whether the local maximiser is isolated."""
        alone = strict(self.kinked, self.limits, self.hold, sound & ~done.tied)
        return alone | (sound & done.strict)

    def _radii(
        self, done: Completed, sound: Tensor, single: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(best_radius, uniqueness_radius): up to the next kink of a convex neuron."""
        inner, kinked = self.hold.lean.inner, self.kinked
        away = torch.maximum(inner.lower, -inner.upper).clamp(min=0)
        away = down(away / kinked.lengths)
        other = kinked.convex & ~done.open
        radius = torch.where(other, away, torch.inf).amin(1)
        radius = torch.minimum(torch.minimum(radius, self.lead), self.diameter)
        radius = down(radius - self.moved).clamp(min=0)
        radius = torch.where(sound & (radius > 0), radius, torch.nan)
        # Of the ball, whose concave part has one maximiser; a sphere may have others.
        one = single & ~done.tied & (not self.limits.sphere)
        return radius, torch.where(one, radius, torch.nan)

    def _reasons(
        self, done: Completed, sound: Tensor, whole: Tensor, distance: Tensor
    ) -> list[str]:
        standing, reasons = self.hold.lean.stand, []
        ties = (self.hold.touching(self.kinked) & self.kinked.concave).sum(1)
        for row, good in enumerate(sound.tolist()):
            if good:
                kept = _TIES if done.tied[row] else _LOCAL
                reasons.append(_ALL if whole[row] else kept)
            elif not self.same[row]:
                reasons.append(OTHER_MODEL)
            elif self.hold.spread[row].isnan() and self.cut[row]:
                reasons.append(_CUT)
            elif self.hold.spread[row].isnan():
                count = int(standing.free[row].sum())
                tied = int(ties[row])
                reasons.append(
                    f"{tied} units at their kinks do not hold its {count} free "
                    "coordinates"
                )
            elif done.reason[row]:
                reasons.append(done.reason[row])
            elif not distance[row] <= self.reach[row]:
                reasons.append(AWAY)
            else:
                reasons.append("another output, or the other sign, is as high near it")
        return reasons
