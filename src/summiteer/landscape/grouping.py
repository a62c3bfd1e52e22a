"""End points put into groups, one per maximum: proofs first, then distance."""

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer.landscape.maxima import distances, labels, uphill_joins
from summiteer.landscape.separation import Separation
from summiteer.problem import Problem


def grouped(
    problem: Problem,
    points: Tensor,
    counted: Tensor,
    level: Tensor,
    separation: Separation,
) -> Tensor:
    """Number the maxima that end points belong to.

    What is proved to be the same is joined, what is proved to be different is never in
    one group. Other pairs are joined, the nearest first, if they are nearer than
    `tolerances.SAME_MAXIMUM` radii, or if one of them may be a point of a plateau and
    there is no valley on the straight way to the other (see `distinct_maxima`).

    Args:
        problem: of the examples.
        points: `[runs, batch, *input]`.
        counted: `[runs, batch]` bool, which ended at a maximum.
        level: `[runs, batch]` bool, of which the maximum need not be an isolated one.
        separation: what is proved.

    Returns:
        `[runs, batch]` from 0 in order of first appearance; -1 where not counted.
    """
    apart = distances(points)
    pairs = counted.T[:, :, None] & counted.T[:, None, :]
    size = problem.size.detach().cpu().double()
    near = (apart <= tolerances.SAME_MAXIMUM * size[:, None, None]) & pairs
    loose = counted & level
    some = loose.any(0).nonzero().flatten()
    if len(some):
        flat = loose.T[some]
        among = apart[some].masked_fill(~(flat[:, :, None] & pairs[some]), torch.inf)
        joins = uphill_joins(problem.take(some), points[:, some], among, loose[:, some])
        near[some] |= joins | joins.mT
    near = (near & ~separation.different) | (separation.same & pairs)
    label = labels(near, counted)
    for example in _torn(label, separation).tolist():
        groups = _linked(near[example], apart[example], separation, example)
        label[:, example] = labels(groups[None], counted[:, example, None])[:, 0]
    return label


def _torn(label: Tensor, separation: Separation) -> Tensor:
    """Examples with a group that holds two points of different maxima."""
    together = (label.T[:, :, None] == label.T[:, None, :]) & separation.different
    return together.flatten(1).any(1).nonzero().flatten()


def _linked(
    near: Tensor, apart: Tensor, separation: Separation, example: int
) -> Tensor:
    """`[runs, runs]` bool: groups by single linkage that joins no different ones."""
    same, different = separation.same[example], separation.different[example]
    group = torch.eye(len(near), dtype=torch.bool) | same
    pairs = near.triu(1).nonzero()
    for left, right in pairs[apart[pairs[:, 0], pairs[:, 1]].argsort(stable=True)]:
        union = group[left] | group[right]
        if bool(group[left, right]) or bool(different[union][:, union].any()):
            continue
        group[union] = union
    return group
