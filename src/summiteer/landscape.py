"""Distinct maxima among the end points of many runs, and what they leave unseen."""

from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree
from scipy.stats import beta
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._caller import undisturbed
from summiteer.errors import UserError
from summiteer.problem import Problem, Rows

#: Points of a way on which a valley is looked for. On digits 3 overlook some, 7 count
#: as many maxima as exact polishing of all end points does.
_ON_THE_WAY = 7
#: Confidence of the upper bound of what is unseen.
CONFIDENCE = 0.95
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
    of their own. With a problem, two neighbours are the same maximum as well if there
    is no valley between them: if at none of 7 points evenly spaced from one to the
    other is the objective below the lower of both (by more than `tolerances.VALLEY` of
    it). Neighbours are the links of the shortest tree that joins all end points of an
    example. A valley narrower than the spacing is overlooked; a ridge that bends away
    from the straight way is taken for two maxima.

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
    links = _links(points.detach(), counted)
    same = links.length <= threshold * size.detach().cpu().double()[links.example]
    if problem is not None:
        far = (~same).nonzero().flatten()
        same[far] = _no_valley(problem, points.detach(), links.take(far)).cpu()
    label = _labels(links.take(same.nonzero().flatten()), counted)
    count = label.amax(0) + 1
    return Maxima(label, count, *unseen_mass(label, counted))


def unseen_mass(label: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
    """Estimate the probability that one more draw ends in a maximum not seen yet.

    With n draws, f₁ of which ended where no other run did, Good's estimate
    (`good1953population`) is f₁/n. Its bias is known: averaged over the draws the
    probability is at most what f₁/n estimates, and at most (f₁ + 1)/(n + 1).

    The bound cuts the draws in two by their order. Of the later m = ⌈n/2⌉ let j end in
    maxima that neither the earlier draws nor the other runs met. These m are
    independent draws that hit what was unseen then, a set that contains what is unseen
    now, so that the upper limit of Clopper and Pearson (`clopper1934use`) for j of m
    holds with its confidence, for every number of draws. With none new it is
    1 - 0.05^(1/m): 0.95 for one later draw, 0.45 for 5, 0.06 for 50.

    Both speak of maxima as they are told apart by the labels, and of a number of draws
    that was fixed beforehand: a search that stops because it likes the estimate has
    picked it.

    Args:
        label: `[runs, batch]` number of each run's maximum, -1 for none.
        drawn: `[runs, batch]` bool, which runs are independent draws, in this order.
            The others, of starts that were chosen, only make their maxima known.

    Returns:
        (estimate, upper bound) `[batch]` float64; NaN where nothing was drawn.
    """
    batch = label.shape[1]
    estimate = torch.full((batch,), torch.nan, dtype=torch.float64)
    bound = estimate.clone()
    drawn = drawn & (label >= 0)
    for i in range(batch):
        own, known = label[drawn[:, i], i], label[~drawn[:, i], i]
        n = len(own)
        if not n:
            continue
        new = own[~torch.isin(own, known)]
        estimate[i] = int((new.bincount() == 1).sum()) / n if len(new) else 0.0
        early, late = own[: n // 2], own[n // 2 :]
        missed = int((~torch.isin(late, torch.cat([known, early]))).sum())
        bound[i] = _upper_limit(missed, len(late))
    return estimate, bound


def _upper_limit(hits: int, draws: int) -> float:
    """Clopper and Pearson's: at a higher probability so few hits are too rare."""
    if hits == draws:
        return 1.0
    return float(beta.ppf(CONFIDENCE, hits + 1, draws - hits))


@dataclass(frozen=True, eq=False)
class _Links:
    """Pairs of runs of one example; all `[links]`, on the processor.

    Attributes:
        example: its index.
        left: one run.
        right: the other.
        length: the distance of their end points, in units of inputs.
    """

    example: Tensor
    left: Tensor
    right: Tensor
    length: Tensor

    def take(self, index: Tensor) -> "_Links":
        """The links `index`."""
        return _rows.take(self, index)


def _links(points: Tensor, counted: Tensor) -> _Links:
    """The shortest tree that joins the runs counted, of each example.

    Without its links longer than t it is what single linkage at t joins.
    """
    restarts, batch = counted.shape
    first, second = torch.triu_indices(restarts, restarts, 1)
    size = max(1, _AT_ONCE // points[:, 0].numel())
    lengths = []
    for part in points.split(size, dim=1):
        flat = part.cpu().double().flatten(2).transpose(0, 1)
        apart = torch.cdist(flat, flat, compute_mode="donot_use_mm_for_euclid_dist")
        lengths.append(apart[:, first, second])
    used = (counted[first] & counted[second]).T
    example, pair = used.nonzero(as_tuple=True)
    length = torch.cat(lengths)[used].numpy()
    left, right = first[pair], second[pair]
    ends = ((example * restarts + k).numpy() for k in (left, right))
    nodes = restarts * batch
    # A link of no length would be none to scipy.
    stored = np.maximum(length, np.finfo(float).tiny)
    pairs = coo_matrix((stored, tuple(ends)), (nodes, nodes))
    tree = minimum_spanning_tree(pairs).tocoo()
    one, other = (torch.from_numpy(e.astype(np.int64)) for e in (tree.row, tree.col))
    kept = torch.from_numpy(tree.data)
    return _Links(one // restarts, one % restarts, other % restarts, kept)


def _no_valley(problem: Problem, points: Tensor, links: _Links) -> Tensor:
    """`[links]` bool: the objective is nowhere lower than at the lower end."""
    if not len(links.example):
        return torch.zeros(0, dtype=torch.bool)
    with undisturbed(problem.model):
        if torch.finfo(problem.inputs.dtype).eps > torch.finfo(torch.float32).eps:
            problem = problem.in_double()
        rows = problem.rows(links.example.to(problem.inputs.device))
        ends = [
            points[run, links.example].to(problem.inputs)
            for run in (links.left, links.right)
        ]
        lower = torch.minimum(*(rows.value(end).loss for end in ends))
        lowest = lower
        for step in range(1, _ON_THE_WAY + 1):
            between = _between(rows, *ends, step / (_ON_THE_WAY + 1))
            # NaN is no way.
            there = rows.value(between).loss.nan_to_num(-torch.inf)
            lowest = torch.minimum(lowest, there)
        return lowest >= lower - tolerances.VALLEY * lower.abs()


def _between(rows: Rows, start: Tensor, end: Tensor, share: float) -> Tensor:
    """The point a share of the way from start to end, neither shorter nor longer.

    Maxima lie on the boundary mostly, the straight way between them inside: its points
    are drawn out to the length between those of the ends, and projected.
    """
    straight = torch.lerp(start, end, share)
    length = torch.lerp(_rows.norm(start), _rows.norm(end), share)
    drawn = _rows.unit(straight) * _rows.expand(length, straight)
    return rows.region.project(drawn)


def _labels(joined: _Links, counted: Tensor) -> Tensor:
    """Number the groups of each example in order of first appearance; -1 if none."""
    restarts, batch = counted.shape
    ends = tuple(
        (joined.example * restarts + run).numpy() for run in (joined.left, joined.right)
    )
    nodes = restarts * batch
    graph = coo_matrix((np.ones(len(ends[0])), ends), (nodes, nodes))
    _, component = connected_components(graph, directed=False)
    label = torch.full((restarts, batch), -1)
    for i in range(batch):
        used = counted[:, i]
        own = component[i * restarts : (i + 1) * restarts][used.numpy()]
        _, first, group = np.unique(own, return_index=True, return_inverse=True)
        label[used, i] = torch.from_numpy(np.argsort(np.argsort(first))[group])
    return label
