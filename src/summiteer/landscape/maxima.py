"""Distinct maxima among the end points of many runs, and what they leave unseen."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from summiteer import tolerances
from summiteer._caller import undisturbed
from summiteer.confidence import share_limit
from summiteer.errors import UserError
from summiteer.problem import Problem

#: Points of a way on which a valley is looked for.
_ON_THE_WAY = 7
#: Higher end points that each is compared with, the nearest first.
_TRIES = 3
#: Numbers whose distances are computed at once, in float64.
_AT_ONCE = 2**24


@dataclass(frozen=True, eq=False)
class Maxima:
    """End points grouped into distinct maxima; measured, not proved.

    Attributes:
        label: `[restarts, batch]` number of the maximum each run ended in, from 0
            within each example in order of first appearance; -1 where not counted.
        count: `[batch]` distinct maxima per example.
        unseen: `[batch]` Good-Turing estimate of the probability that one more run
            ends in a maximum not seen yet; see `unseen_mass`.
        unseen_bound: `[batch]` upper confidence bound of that probability, 95 %.
    """

    label: Tensor
    count: Tensor
    unseen: Tensor
    unseen_bound: Tensor

    def runs(self, example: int) -> list[int]:
        """How many of the runs counted ended in each maximum of an example.

        Args:
            example: its index.

        Returns:
            One number per maximum; divided by their sum they are the shares.
        """
        own = self.label[:, example]
        numbers: list[int] = own[own >= 0].bincount().tolist()
        return numbers

    def __repr__(self) -> str:
        """Counts, not tensors."""
        known = self.count > 0
        if not bool(known.any()):
            return f"Maxima of {len(self.count)} examples: no run was counted"
        count, unseen = self.count[known].double(), self.unseen[known].nanmean()
        return (
            f"Maxima of {len(self.count)} examples: {float(count.mean()):.3g} seen on "
            f"average, at most {int(count.max())}; estimated chance that one more run "
            f"ends in another {float(unseen):.3g}"
        )


def distinct_maxima(
    points: Tensor,
    size: Tensor,
    counted: Tensor | None = None,
    threshold: float = tolerances.SAME_MAXIMUM,
    problem: Problem | None = None,
) -> Maxima:
    """Group end points by single linkage: same if nearer than `threshold` radii.

    Runs of few steps, and runs that zigzag along a kink, end near a maximum at points
    of their own. With a problem each end point also joins the nearest higher one
    between which and itself there is no valley, if one of the three nearest is such:
    if at none of 7 points evenly spaced from one to the other (projected on the region)
    is the objective below the lower of both, by more than `tolerances.VALLEY` of it.
    This is hill-valley clustering (`maree2018real`). A valley narrower than the spacing
    is overlooked; a ridge that bends away from the straight way makes two maxima of
    one; an end point at a saddle counts for one of the maxima above it.

    Args:
        points: `[restarts, batch, *input]`.
        size: `[batch]` radii.
        counted: `[restarts, batch]` bool, which runs to count (those that reached a
            maximum); all if None.
        threshold: in radii.
        problem: whose objective says what is a valley; distance alone decides if None.

    Returns:
        Labels and counts; `unseen` and `unseen_bound` hold where the runs counted are
        independent draws from one law, such as `UniformStart`'s.

    Raises:
        UserError: shapes do not fit.
    """
    if points.ndim < 3 or size.shape != points.shape[1:2]:
        raise UserError(
            "points: expected [restarts, batch, *input] with one size per example, got "
            f"{list(points.shape)} and sizes {list(size.shape)}."
        )
    if counted is None:
        counted = torch.ones(points.shape[:2], dtype=torch.bool)
    if counted.shape != points.shape[:2]:
        raise UserError(
            f"counted: expected [restarts, batch] = {list(points.shape[:2])}, got "
            f"{list(counted.shape)}."
        )
    if problem is not None and len(problem) != points.shape[1]:
        raise UserError(
            f"problem: expected one of {points.shape[1]} examples, as the points have, "
            f"got {len(problem)}."
        )
    counted = counted.cpu()
    apart = distances(points.detach())
    keep = counted.T
    apart[~(keep[:, :, None] & keep[:, None, :])] = torch.inf
    near = apart <= threshold * size.detach().cpu().double()[:, None, None]
    if problem is not None:
        near |= uphill_joins(problem, points.detach(), apart, counted)
    label = labels(near, counted)
    return Maxima(label, label.amax(0) + 1, *unseen_mass(label, counted))


def unseen_mass(label: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the probability that one more draw ends in a maximum not drawn yet.

    With n draws, f₁ of which ended where no other did, Good's estimate
    (`good1953population`) is f₁/n. Averaged over the draws the probability is at most
    what f₁/n estimates, and at most (f₁ + 1)/(n + 1).

    The bound cuts the draws in two by their order. Of the later m = ⌈n/2⌉ let j end in
    maxima that the earlier ones did not meet. These m are independent draws that hit
    what was unseen then, a set that contains what is unseen now, so that the upper
    limit of Clopper and Pearson (`clopper1934use`) for j of m holds with its
    confidence, for every number of draws. With none new it is 1 - 0.05^(1/m): 0.95 for
    one later draw, 0.45 for 5, 0.06 for 50.

    Both speak of maxima as they are told apart by the labels, and of a number of draws
    that was fixed beforehand: a search that stops because it likes the estimate has
    picked it.

    Args:
        label: `[runs, batch]` number of each run's maximum, -1 for none.
        drawn: `[runs, batch]` bool, which runs are independent draws, in this order;
            the others are left out.

    Returns:
        (estimate, upper bound) `[batch]` float64; NaN where nothing was drawn.
    """
    drawn = drawn & (label >= 0)
    number = drawn.sum(0)
    late = drawn & (drawn.cumsum(0) > number // 2)
    # [runs, runs, batch]: which draws ended where which others did, themselves too.
    same = (label[:, None] == label) & drawn[:, None] & drawn
    once = (drawn & (same.sum(1) == 1)).sum(0)
    missed = (late & ~(same & ~late).any(1)).sum(0)
    bound = share_limit(missed, late.sum(0))
    none = number == 0
    estimate = once.double() / number.clamp(min=1)
    return estimate.masked_fill(none, torch.nan), bound.masked_fill(none, torch.nan)


def distances(points: Tensor) -> Tensor:
    """‖p_i - p_j‖₂ `[batch, restarts, restarts]` float64, on the processor.

    Args:
        points: `[restarts, batch, *input]`.
    """
    size = max(1, _AT_ONCE // points[:, 0].numel())
    parts = []
    for first in range(0, points.shape[1], size):
        some = points[:, first : first + size]
        flat = some.cpu().double().flatten(2).transpose(0, 1)
        # Not from inner products: they lose the distances of near points.
        parts.append(
            torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        )
    return torch.cat(parts)


def uphill_joins(
    problem: Problem, points: Tensor, apart: Tensor, counted: Tensor
) -> Tensor:
    """Which run joins which higher one without a valley between; `distinct_maxima`.

    Args:
        problem: whose objective says what is a valley.
        points: `[restarts, batch, *input]`.
        apart: their `distances`, ∞ where a pair is not to be looked at.
        counted: `[restarts, batch]` bool.

    Returns:
        `[batch, restarts, restarts]` bool: this run joins that one.
    """
    joined = torch.zeros_like(apart, dtype=torch.bool)
    with undisturbed(problem.model):
        if torch.finfo(problem.inputs.dtype).eps > torch.finfo(torch.float32).eps:
            problem = problem.in_double()
        points = points.to(problem.inputs)
        rows = problem.rows()
        loss = torch.stack([rows.value(ends).loss for ends in points]).cpu().T
        first = torch.arange(len(points))
        # Of equal ones the first is the higher one: each joins one that it is not.
        higher = loss[:, None, :] > loss[:, :, None]
        equal = loss[:, None, :] == loss[:, :, None]
        higher |= equal & (first[None, :] < first[:, None])
        ranked = apart.masked_fill(~higher, torch.inf).sort(dim=2, stable=True)
        waiting = counted.T.clone()
        for rank in range(min(_TRIES, len(points))):
            distance, chosen = ranked.values[:, :, rank], ranked.indices[:, :, rank]
            example, run = (waiting & distance.isfinite()).nonzero(as_tuple=True)
            other = chosen[example, run]
            open_way = _no_valley(problem, points, example, run, other).cpu()
            example, run, other = (t[open_way] for t in (example, run, other))
            joined[example, run, other] = True
            waiting[example, run] = False
    return joined


def _no_valley(
    problem: Problem, points: Tensor, example: Tensor, run: Tensor, other: Tensor
) -> Tensor:
    """`[pairs]` bool: between both the objective is not below that of the lower one."""
    if not len(example):
        return torch.zeros(0, dtype=torch.bool)
    rows = problem.rows(example.to(points.device))
    ends = points[run, example], points[other, example]
    lower = torch.minimum(*(rows.value(end).loss for end in ends))
    lowest = lower
    for step in range(1, _ON_THE_WAY + 1):
        between = torch.lerp(*ends, step / (_ON_THE_WAY + 1))
        there = rows.value(rows.region.project(between)).loss
        lowest = torch.minimum(lowest, there)
    # NaN compares false.
    return lowest >= lower - tolerances.VALLEY * lower.abs()


def labels(joined: Tensor, counted: Tensor) -> Tensor:
    """Number the groups of each example in order of first appearance; -1 if none.

    Args:
        joined: `[batch, restarts, restarts]` bool, which runs are in one group.
        counted: `[restarts, batch]` bool.

    Returns:
        `[restarts, batch]` int64.
    """
    restarts, batch = counted.shape
    example, left, right = (index.numpy() for index in joined.nonzero(as_tuple=True))
    nodes = restarts * batch
    graph = coo_matrix(
        (np.ones(len(left)), (example * restarts + left, example * restarts + right)),
        shape=(nodes, nodes),
    )
    _, component = connected_components(graph, directed=False)
    groups = torch.from_numpy(component).reshape(batch, restarts)
    # [batch, restarts, restarts]: which runs that are counted are in each one's group.
    same = (groups[:, :, None] == groups[:, None]) & counted.T[:, None]
    first = same.int().argmax(2)
    begins = counted.T & (first == torch.arange(restarts))
    number = (begins.cumsum(1) - 1).gather(1, first)
    return number.T.masked_fill(~counted, -1)
