"""Branch and bound on Prop. 8: a region cut into patches, the highest one first.

On balls the cuts are across leading eigenvectors of the positive part of M (there the
relaxation bends the wrong way), on boxes across coordinates. In a patch pre-activations
have narrower intervals (`patches.py`), so that M_p is smaller, and the slabs have
multipliers of their own (`dual.py`). A half is never given a higher bound than the
whole, and the cuts do not depend on the budget: more budget never gives a worse bound.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer.networks.two_layer import weighted_gram
from summiteer.optimality.ceiling import Ceiling, climb, tangent_bound, whole
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.majorant import tangent_majorant
from summiteer.optimality.patches import Patches
from summiteer.optimality.rounding import Enclosure
from summiteer.optimality.scalar_form import ScalarForm
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface

#: Directions of a frame at most.
_DIRECTIONS = 16
#: Patches cut in one round at most.
_ROUND = 8

#: (surface, patches, rows of the surface, intervals) -> which patches need no cutting.
Settled = Callable[[Surface, Patches, Tensor, Enclosure], Tensor]


@dataclass(frozen=True, eq=False)
class Leaves:
    """A region cut into patches, for each of several functions on it.

    Attributes:
        piece: `[n]` which function (row of the surface) a patch is for.
        patches: that cover its region.
        top: ≥ the function's maximum on the patch `[n]`.
        at: `[n, d]` where the majorant is highest.
        centre: `[n, d]` the p of the majorant that gave the bound.
        settled: `[n]` bool, not to be cut.
    """

    piece: Tensor
    patches: Patches
    top: Tensor
    at: Tensor
    centre: Tensor
    settled: Tensor

    def highest(self, pieces: int) -> Tensor:
        """≥ the maximum of each function `[pieces]`."""
        tops = self.top.new_full((pieces,), -torch.inf)
        return tops.scatter_reduce(0, self.piece, self.top, "amax")

    def take(self, index: Tensor) -> "Leaves":
        """The rows `index`."""
        return Leaves(
            self.piece[index],
            self.patches.take(index),
            self.top[index],
            self.at[index],
            self.centre[index],
            self.settled[index],
        )

    def and_(self, other: "Leaves") -> "Leaves":
        """Both."""
        mine, theirs = self.patches, other.patches
        rows = torch.cat([self.piece, other.piece])
        limits = Limits(
            torch.cat([mine.limits.radius, theirs.limits.radius]),
            torch.cat([mine.limits.lower, theirs.limits.lower]),
            torch.cat([mine.limits.upper, theirs.limits.upper]),
            mine.limits.sphere,
        )
        patches = Patches(
            limits,
            mine.frame,
            torch.cat([mine.low, theirs.low]),
            torch.cat([mine.high, theirs.high]),
        )
        return Leaves(
            rows,
            patches,
            torch.cat([self.top, other.top]),
            torch.cat([self.at, other.at]),
            torch.cat([self.centre, other.centre]),
            torch.cat([self.settled, other.settled]),
        )


@dataclass(frozen=True, eq=False)
class Tree:
    """What branching came to.

    Attributes:
        leaves: at the end.
        spent: patches examined.
        history: (patches examined, upper bounds `[pieces]`) after each round.
    """

    leaves: Leaves
    spent: int
    history: tuple[tuple[int, Tensor], ...]


def branch(
    surface: Surface,
    limits: Limits,
    points: Tensor,
    known: Ceiling,
    goal: float,
    budget: int,
    settled: Settled | None = None,
) -> Tree:
    """Cut the patches with the highest bounds, until all are below `goal` or settled.

    Args:
        surface: several functions of *one* example, one a row.
        limits: their region, one row for each.
        points: the best points known `[pieces, d]`.
        known: bounds on the whole region, one for each function.
        goal: what the maximum is known to reach: patches below it are let alone.
        budget: patches to be examined at most.
        settled: says of patches that need no cutting for another reason.
    """
    pieces = torch.arange(len(surface))
    patches = whole(surface, limits, _frame(surface, limits))
    interval, _ = patches.interval(surface)
    nothing = torch.zeros(len(surface), dtype=torch.bool)
    if settled is not None:
        nothing = settled(surface, patches, pieces, interval)
    leaves = Leaves(pieces, patches, known.top, known.at, known.centre, nothing)
    spent, width = 0, 1
    history = [(0, leaves.highest(len(surface)))]
    while True:
        able = (~(leaves.top < goal) & ~leaves.settled).nonzero().flatten()
        able = able[leaves.top[able].argsort(descending=True, stable=True)][:width]
        if not len(able) or spent + 2 * len(able) > budget:
            break
        rest = torch.ones(len(leaves.top), dtype=torch.bool)
        rest[able] = False
        halves = _halves(surface, leaves.take(able), points, goal, settled)
        leaves = leaves.take(rest.nonzero().flatten()).and_(halves)
        spent, width = spent + 2 * len(able), min(2 * width, _ROUND)
        history.append((spent, leaves.highest(len(surface))))
    return Tree(leaves, spent, tuple(history))


def _frame(surface: Surface, limits: Limits) -> Tensor | None:
    """Leading eigenvectors of Σ Wᵀ diag(κ⁺) W about 0 `[d, k]`; None on boxes."""
    if limits.boxed:
        return None
    weighted = surface.weighted
    centre = surface.at(torch.zeros_like(limits.lower))
    weights = tangent_majorant(centre, surface.within(limits.radius)).clamp(min=0)
    matrix = weighted_gram(weighted.coordinates, weights.sum(0, keepdim=True))[0]
    vectors: Tensor = torch.linalg.eigh(matrix)[1].flip(1)[:, :_DIRECTIONS]
    return vectors if weighted.basis is None else weighted.basis @ vectors


def _halves(
    surface: Surface,
    leaves: Leaves,
    points: Tensor,
    goal: float,
    settled: Settled | None,
) -> Leaves:
    """Both halves of each leaf, with their bounds."""
    axis = _axis(_gathered(surface, leaves.piece), leaves.patches)
    patches = leaves.patches.halves(axis)
    piece, top, at, centre = (
        torch.cat([x, x]) for x in (leaves.piece, leaves.top, leaves.at, leaves.centre)
    )
    part = _gathered(surface, piece)
    interval, nothing = patches.interval(part)
    top = torch.where(nothing, -torch.inf, top)
    # From the best point known where it lies inside, else from the peak of the whole.
    inside = patches.nearest(points[piece])
    close = (inside - points[piece]).norm(dim=1) <= 1e-9 * patches.limits.reach
    fresh = torch.where(close[:, None], points[piece], patches.nearest(at))
    for each in (centre, fresh):
        index = (~(top < goal)).nonzero().flatten()
        if not len(index):
            break
        aim = top.new_full((len(index),), goal)
        one = tangent_bound(
            part.take(index), patches.take(index), interval[index], each[index], aim
        )
        # NaN is no improvement.
        better = one.top < top[index]
        top[index[better]] = one.top[better]
        at[index[better]] = one.at[better]
        centre = centre.index_copy(0, index[better], each[index[better]])
    done = torch.zeros_like(nothing)
    left = (~(top < goal)).nonzero().flatten()
    if settled is not None and len(left):
        done[left] = settled(
            part.take(left), patches.take(left), piece[left], interval[left]
        )
    return Leaves(piece, patches, top, at, centre, done)


def _axis(surface: Surface, patches: Patches) -> Tensor:
    """Where to cut: across the direction along which most curvature is in doubt.

    Σ_j (range of a_jσ'' on I_j + its positive part)·(w_jᵀv)²·width².
    """
    interval, _ = patches.interval(surface)
    bend = surface.second(interval)
    doubt = bend.upper - bend.lower + bend.upper.clamp(min=0)
    vectors = patches.frame.vectors
    slopes = surface.hidden if vectors is None else surface.hidden @ vectors
    score = (doubt @ slopes.square()) * (patches.high - patches.low).square()
    return score.argmax(1)


def best_everywhere(
    form: ScalarForm, first: FirstOrder, limits: Limits, budget: int
) -> Tensor:
    """Prop. 3 patch by patch: what a prover needs to call p the global maximum.

    C is cut until on every patch either each F_i stays strictly below F(p), or it is F
    itself and μ - λ_max(M_p) > 0 with the tangent majorant M_p of that patch. There
    F(δ) ≤ F(p) + γD - ½(μ - λ_max(M_p))D² (the argument of Prop. 3 needs no convexity:
    M_p majorises F about p at each δ of the patch on its own). So with λ the largest
    of these λ_max(M_p) the inequality of Prop. 3 holds wherever on C F is at least
    F(p): `best_within(first, λ, 0, diameter)` is sound for the whole of C.

    Args:
        form: F and its rivals.
        first: at the real points p.
        limits: C of each row.
        budget: patches per row.

    Returns:
        λ `[rows]`; inf where that was not achieved (NaN never is a proof).
    """
    value = first.place.value.lower
    found = torch.full_like(value, torch.inf)
    for row in range(len(value)):
        only = torch.tensor([row])
        surfaces = (form.surface, *form.rivals)
        stack = stacked([surface.take(only) for surface in surfaces])
        copies = only.expand(len(stack)).clone()
        region, points = limits.take(copies), first.stand.points[copies]
        known = climb(stack, whole(stack, region), points, value[copies])
        goal, near = float(value[row]), _Near(first.take(only))
        tree = branch(stack, region, points, known, goal, budget, near)
        # -inf: F below F(p) everywhere, which no p of C can be.
        done = bool(((tree.leaves.top < goal) | tree.leaves.settled).all())
        if done and bool(near.curvature > -torch.inf):
            found[row] = near.curvature
    return found


class _Near:
    """Patches on which Prop. 3 holds of F, the first piece.

    Args:
        first: at the one point.

    Attributes:
        curvature: the largest λ_max(M_p) of those that were found.
    """

    def __init__(self, first: FirstOrder) -> None:
        self.first = first
        self.curvature = torch.full_like(first.multiplier[0], -torch.inf)

    def __call__(
        self, part: Surface, patches: Patches, piece: Tensor, interval: Enclosure
    ) -> Tensor:
        """See `Settled`."""
        settled = torch.zeros(len(piece), dtype=torch.bool)
        for i in (piece == 0).nonzero().flatten().tolist():
            weights = tangent_majorant(self.first.place, interval[torch.tensor([i])])
            curvature = part.weighted.largest(weights)[0]
            if bool(curvature < self.first.multiplier[0]):
                settled[i] = True
                self.curvature = torch.maximum(self.curvature, curvature)
        return settled


def _gathered(surface: Surface, index: Tensor) -> Surface:
    """Rows in any order, repeated or not: `Surface.take` is for ascending ones only."""
    return replace(
        surface,
        centre=surface.centre[index],
        output=surface.output[index],
        shift=surface.shift[index],
    )


def stacked(surfaces: list[Surface]) -> Surface:
    """Surfaces of one network below each other, as rows of one."""
    first = surfaces[0]

    def joined(parts: list[Enclosure]) -> Enclosure:
        middle = torch.cat([part.middle for part in parts])
        return Enclosure(middle, torch.cat([part.radius for part in parts]))

    return Surface(
        first.activation,
        first.weighted,
        joined([surface.centre for surface in surfaces]),
        joined([surface.output for surface in surfaces]),
        joined([surface.shift for surface in surfaces]),
    )
