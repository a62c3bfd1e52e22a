"""Certified upper bounds of an objective over its region, and robustness.

Smooth networks are bounded by Prop. 8, those with kinks by chords (Prop. 9). An
objective of a two-layer network is an increasing function of a few surfaces
F_i: of ±(f - y), of -yf, of the margins z_k - z_y. What bounds each bounds the whole.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer.networks import as_two_layer
from summiteer.networks.activations.base import UNIT_ROUNDOFF
from summiteer.objectives import (
    CrossEntropy,
    Objective,
    classifies,
    margin,
    scalar,
)
from summiteer.optimality.branching import branch, stacked
from summiteer.optimality.ceiling import Ceiling, climb, whole
from summiteer.optimality.chords import chords
from summiteer.optimality.points import check_budget, checked
from summiteer.optimality.premises import OTHER_MODEL, on_cpu, premises
from summiteer.optimality.relu_form import Kinked
from summiteer.optimality.rounding import Enclosure, down, up
from summiteer.optimality.scalar_form import (
    known_network,
    margin_surfaces,
    scalar_form,
    signed,
)
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface
from summiteer.problem import Problem

#: A gap below this share of the value is closed.
_CLOSED = 1e-8
#: By how many of its own rounding errors a model's value may miss that of its form.
_OWN = 4
#: Units of rounding of log Σ exp, its exponentials and its sum of K.
_LOG_SUM = 64
#: Steps of the ascent that finds where a margin may be lost.
_CLIMBS = 8


@dataclass(frozen=True, eq=False)
class Bracket:
    """What the maximum of each example lies between; float64.

    Attributes:
        lower: proved: the objective reaches it, at a given point or at the start.
        upper: proved: nowhere on the region is the objective higher. NaN if unknown.
        spent: `[batch]` int64, patches of the region that branching examined.
        history: (patches, upper bounds `[batch]`) after each round of branching.
        reason: why there is no bound, "" where there is one.
    """

    lower: Tensor
    upper: Tensor
    spent: Tensor
    history: tuple[tuple[int, Tensor], ...]
    reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.reason)

    def __repr__(self) -> str:
        unknown = sum(map(bool, self.reason))
        gaps = self.gap[~self.gap.isnan()]
        told = (
            f"gaps {float(gaps.min()):.3g} … {float(gaps.max()):.3g}, "
            if len(gaps)
            else ""
        )
        return (
            f"Bracket of {len(self)} maxima: {told}{unknown} without an upper bound; "
            "see lower, upper, reason"
        )

    @property
    def gap(self) -> Tensor:
        """Upper - lower, rounded up `[batch]`."""
        return up(self.upper - self.lower)


@dataclass(frozen=True, eq=False)
class _Pieces:
    """An objective as an increasing function of surfaces of one network.

    Attributes:
        surfaces: F_i, of the whole batch each.
        join: enclosures of the F_i `[pieces, batch]` to one of the objective.
        highest: whether only the largest F_i counts.
    """

    surfaces: tuple[Surface, ...]
    join: Callable[[Enclosure], Enclosure]
    highest: bool

    def __post_init__(self) -> None:
        # They share W: what is known of it is found once.
        weighted = self.surfaces[0].weighted
        shared = tuple(replace(each, weighted=weighted) for each in self.surfaces)
        object.__setattr__(self, "surfaces", shared)

    def above(self, tops: Tensor) -> Tensor:
        """The objective where each F_i is at most its top `[pieces, batch]`."""
        return self.join(Enclosure.exact(tops)).upper


def upper_bound(
    problem: Problem, points: Tensor | None = None, budget: int = 0
) -> Bracket:
    """Bound each example's maximum from both sides, with proofs (Prop. 8).

    The region's maximum lies in [lower, upper], whatever any attack finds. Models other
    than two-layer networks have no bound: NaN, with the reason.

    Args:
        problem: what is maximised.
        points: perturbations `[batch, *input]`, the best known; they are projected on
            the region first. The start of the region if None.
        budget: patches per example that branch and bound may examine (smooth networks
            only).

    Returns:
        The bracket. A larger budget never gives a higher upper bound.

    Raises:
        UserError: points of the wrong shape or not finite; a negative budget; a model
            that does not fit.
    """
    check_budget(budget)
    if points is not None:
        points = checked(problem, points).double()
    problem.examine()
    with undisturbed(problem.model):
        return _bracket(problem.in_double(), points, budget)


def proved_robust(problem: Problem) -> Tensor | None:
    """Which examples are proved correct on the whole region, whatever is ascended.

    Every margin z_k - z_y (-yf for one output and targets ±1) is bounded below 0, the
    clean input included where the region holds 0. For spheres their balls count.

    Args:
        problem: in float64.

    Returns:
        `[batch]` bool, False where nothing was proved; None where the model or the
        region is not known, or the targets are no labels.
    """
    known = premises(problem, kinked=True)
    if isinstance(known, str) or not classifies(problem.targets):
        return None
    with torch.no_grad(), on_cpu():
        surfaces = _margins(problem)
        if surfaces is None:
            return None
        pieces = _Pieces(surfaces, _largest, True)
        robust = _agrees(problem, pieces, margin)
        zero = problem.inputs.new_zeros(len(robust))
        highest = [_ascended(problem, surface) for surface in pieces.surfaces]
        for surface, points in zip(pieces.surfaces, highest, strict=True):
            # Rows that are lost already are not worth a factorisation.
            robust &= surface.at(points).value.middle < 0
        for surface, points in zip(pieces.surfaces, highest, strict=True):
            index = robust.nonzero().flatten()
            if not len(index):
                break
            some, limits = surface.take(index), known.take(index)
            bound = _ceiling(some, limits, points[index], None, zero[index]).top
            robust[index] = bound < 0
    return robust


def _ascended(problem: Problem, surface: Surface) -> Tensor:
    """Points where F is high, by the conditional gradient method in floats."""
    region = problem.feasible
    points = region.project(torch.zeros_like(problem.inputs))
    best, highest = points, surface.at(points).value.middle
    for turn in range(_CLIMBS):
        end = region.linear_maximiser(surface.slope(points)[0])
        points = points + (end - points) * (2 / (turn + 2))
        value = surface.at(points).value.middle
        best = torch.where((value > highest)[:, None], points, best)
        highest = torch.fmax(highest, value)
    return best


def _margins(problem: Problem) -> tuple[Surface, ...] | None:
    """The surfaces that are all negative exactly where an example is correct."""
    network = known_network(problem, kinked=True)
    single = as_two_layer(problem.model).scalar
    if isinstance(network, str):
        return None
    if single is None:
        if problem.targets.is_floating_point():
            return None
        return margin_surfaces(network, problem.inputs, problem.targets)
    if not problem.targets.is_floating_point():
        return None
    sign = -scalar(problem.targets).double()
    return (signed(single, problem.inputs, sign),)


def _pieces(problem: Problem, points: Tensor) -> _Pieces | str:
    """The objective through its surfaces, or why it has none."""
    form = scalar_form(problem, points, kinked=True)
    if not isinstance(form, str):
        link = form.link

        def join(values: Enclosure) -> Enclosure:
            best = _largest(values)
            low, high = best.lower, best.upper
            return Enclosure.between(down(link.value(low), 32), link.ceiling(high))

        return _Pieces((form.surface, *form.rivals), join, True)
    network = known_network(problem, kinked=True)
    if type(problem.objective) is CrossEntropy and not isinstance(network, str):
        surfaces = margin_surfaces(network, problem.inputs, problem.targets)
        return _Pieces(surfaces, _log_sum, False)
    return form


def _largest(values: Enclosure) -> Enclosure:
    """max_i of `[pieces, batch]`."""
    return Enclosure.between(values.lower.amax(0), values.upper.amax(0))


def _log_sum(values: Enclosure) -> Enclosure:
    """log(1 + Σ exp F_i), the cross-entropy of margins F_i `[pieces, batch]`."""

    def summed(margins: Tensor) -> tuple[Tensor, Tensor]:
        every = torch.cat([margins, torch.zeros_like(margins[:1])])
        result = torch.logsumexp(every, 0)
        # exp(F - max) errs by (F - max)u, which its own smallness outweighs.
        size = 1 + every.amax(0).abs() + result.abs()
        return result, up((_LOG_SUM + 2 * len(every)) * UNIT_ROUNDOFF * size, 4)

    low, error = summed(values.lower)
    high, doubt = summed(values.upper)
    return Enclosure.between(down(low - error).clamp(min=0), up(high + doubt))


def _bracket(problem: Problem, points: Tensor | None, budget: int) -> Bracket:
    """See `upper_bound`."""
    known = premises(problem, kinked=True)
    count = len(problem)
    if not isinstance(known, str):
        with torch.no_grad(), on_cpu():
            start = problem.feasible.project(torch.zeros_like(problem.inputs))
            if points is not None:
                points = problem.feasible.project(points)
            pieces = _pieces(problem, start if points is None else points)
            if not isinstance(pieces, str):
                same = _agrees(problem, pieces)
                given = (start,) if points is None else (start, points)
                return _Search(pieces, known, given, budget).bracket(same)
            known = pieces
    nothing = torch.full((count,), torch.nan, dtype=torch.float64)
    none = torch.zeros(count, dtype=torch.int64)
    return Bracket(nothing, nothing, none, (), (known,) * count)


def _agrees(
    problem: Problem, pieces: _Pieces, objective: Objective | None = None
) -> Tensor:
    """Whether the model computes what its surfaces say, at its inputs `[batch]`.

    Args:
        problem: in float64.
        pieces: of the objective.
        objective: the problem's own if None.
    """
    zero = torch.zeros_like(problem.inputs)
    values = [surface.at(zero).value for surface in pieces.surfaces]
    wide = Enclosure(
        torch.stack([value.middle for value in values]),
        _OWN * torch.stack([value.radius for value in values]),
    )
    objective = problem.objective if objective is None else objective
    computed = objective(problem.model(problem.inputs), problem.targets)
    whole = pieces.join(wide)
    room = up(1e-12 * whole.magnitude)
    return (computed >= whole.lower - room) & (computed <= whole.upper + room)


def _ceiling(
    surface: Surface,
    limits: Limits,
    points: Tensor,
    floor: Tensor | None,
    goal: Tensor,
) -> Ceiling:
    """An upper bound of F: Prop. 8, or chords where the activation has a kink.

    Args:
        surface: F.
        limits: of the region.
        points: the best known.
        floor: what F is proved to reach on the region, or None.
        goal: a bound below it is good enough.
    """
    if surface.activation.smooth:
        return climb(surface, whole(surface, limits), points, goal)
    found = chords(Kinked.of(surface), limits, floor, goal)
    return Ceiling(found.top, found.at, found.at)


def _feasible(limits: Limits, points: Tensor) -> Tensor:
    """≥ the distance of projected points to real points of the region `[rows]`.

    p·min(1, ε/‖p‖): the box holds 0, and so the shorter point too.
    """
    size = Enclosure.exact(points).norm()
    outside = up(size.upper - limits.radius)
    if limits.sphere:
        outside = torch.maximum(outside, up(limits.radius - size.lower))
    return outside.clamp(min=0)


class _Search:
    """Bounds of one batch from both sides.

    Args:
        pieces: of the objective.
        limits: of the region.
        given: points of the region `[batch, d]`, one choice after the other.
        budget: patches per example.
    """

    def __init__(
        self,
        pieces: _Pieces,
        limits: Limits,
        given: tuple[Tensor, ...],
        budget: int,
    ) -> None:
        self.pieces, self.limits, self.budget = pieces, limits, budget
        choices = [self._values(points) for points in given]
        lows = torch.stack([pieces.join(values).lower for values in choices])
        best = lows.argmax(0)
        self.lower = lows.amax(0)
        rows = torch.arange(len(best))
        self.points = torch.stack(given)[best, rows]
        floors = torch.stack([values.lower for values in choices])
        #: What each piece is known to reach `[pieces, batch]`.
        self.floors = floors[best, :, rows].T

    def _values(self, points: Tensor) -> Enclosure:
        """Each F_i at real points of the region next to these `[pieces, batch]`."""
        slack = _feasible(self.limits, points)
        values = [surface.at(points, slack).value for surface in self.pieces.surfaces]
        return Enclosure(
            torch.stack([value.middle for value in values]),
            torch.stack([value.radius for value in values]),
        )

    def bracket(self, same: Tensor) -> Bracket:
        """Bound every piece, then branch where there is a budget and a gap.

        Args:
            same: `[batch]` whether the model was seen to compute what its surfaces say.
        """
        roots = self._roots()
        tops = torch.stack([root.top for root in roots])
        spent = torch.zeros(len(same), dtype=torch.int64)
        history = [(0, self.pieces.above(tops))]
        if self.budget > 0 and self.pieces.surfaces[0].activation.smooth:
            tops, spent, history = self._branch(roots, same)
        upper = self.pieces.above(tops)
        known = same & upper.isfinite() & self.lower.isfinite()
        reason = [
            "" if fine else "the numbers overflow" if good else OTHER_MODEL
            for fine, good in zip(known.tolist(), same.tolist(), strict=True)
        ]
        return Bracket(
            torch.where(known, self.lower, torch.nan),
            torch.where(known, upper, torch.nan),
            spent,
            tuple((n, torch.where(known, tops, torch.nan)) for n, tops in history),
            tuple(reason),
        )

    def _roots(self) -> list[Ceiling]:
        """One bound of each piece; the later ones only need to stay below the first."""
        roots: list[Ceiling] = []
        enough = self._closed(self.floors)
        goal = enough.amax(0)
        for i, surface in enumerate(self.pieces.surfaces):
            highest = self.pieces.highest
            aim = goal if highest else enough[i]
            root = _ceiling(surface, self.limits, self.points, self.floors[i], aim)
            if highest:
                goal = torch.fmax(goal, root.top)
            roots.append(root)
        return roots

    def _closed(self, floors: Tensor) -> Tensor:
        return floors + _CLOSED * floors.abs()

    def _branch(
        self, roots: list[Ceiling], same: Tensor
    ) -> tuple[Tensor, Tensor, list[tuple[int, Tensor]]]:
        """(bounds `[pieces, batch]`, patches `[batch]`, history), row by row."""
        count = len(roots)
        trees = []
        for row in range(len(same)):
            only = torch.tensor([row])
            copies = only.expand(count).clone()
            stack = stacked([each.take(only) for each in self.pieces.surfaces])
            known = Ceiling(
                torch.cat([root.top[only] for root in roots]),
                torch.cat([root.at[only] for root in roots]),
                torch.cat([root.centre[only] for root in roots]),
            )
            floors = self._closed(self.floors[:, row])
            goal = float(floors.amax() if self.pieces.highest else floors.amin())
            limits, points = self.limits.take(copies), self.points[copies]
            budget = self.budget if bool(same[row]) else 0
            trees.append(branch(stack, limits, points, known, goal, budget))
        steps = sorted({n for tree in trees for n, _ in tree.history})
        history = []
        for n in steps:
            each = [[t for m, t in tree.history if m <= n][-1] for tree in trees]
            tops = torch.stack(each, 1)
            history.append((n, self.pieces.above(tops)))
        return tops, torch.tensor([tree.spent for tree in trees]), history
