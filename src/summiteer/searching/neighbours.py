"""Vertices towards the nearest examples of other classes."""

import torch
from torch import Tensor

from summiteer.problem import Problem

#: Pairs of inputs whose distances are held at once.
_PAIRS = 2**22
#: So many more than are asked for are ranked exactly.
_SPARE = 8


def towards_neighbours(
    problem: Problem,
    data: tuple[Tensor, Tensor],
    examples: Tensor,
    classes: Tensor,
    rank: int,
) -> tuple[Tensor, Tensor]:
    """The region's support points in the direction of other examples.

    With z the input of class k that is nearest to x (the one after `rank` nearer ones),
    argmax of (z - x)ᵀδ over the feasible δ: on a box a vertex, on a ball the point of
    its surface towards z.

    Args:
        problem: of all examples.
        data: (inputs `[n, *input]`, labels `[n]`) to choose z from.
        examples: `[runs]` indices.
        classes: `[runs]` k.
        rank: how many nearer ones are left out.

    Returns:
        `[runs, *input]` points, and `[runs]` bool: whether the class has so many.
    """
    inputs, labels = data
    others = inputs.to(problem.inputs).flatten(1)
    own = problem.inputs.flatten(1)
    chosen = torch.zeros_like(examples)
    there = torch.zeros_like(examples, dtype=torch.bool)
    for k in classes.unique().tolist():
        index = (labels.to(others.device) == k).nonzero().flatten()
        if len(index) <= rank:
            continue
        which = (classes == k).nonzero().flatten()
        unique, back = examples[which].unique(return_inverse=True)
        near = _nearest(own[unique], others[index], rank)
        chosen[which] = index[near[back]]
        there[which] = True
    rows = problem.rows(examples)
    way = inputs.to(problem.inputs)[chosen] - problem.inputs[examples]
    return rows.region.linear_maximiser(way), there


def _nearest(points: Tensor, others: Tensor, rank: int) -> Tensor:
    """The index of the (rank + 1)-th nearest of `others`, ties to the first."""
    # There are no distances in half precision.
    kind = torch.promote_types(points.dtype, torch.float32)
    points, others = points.to(kind), others.to(kind)
    size = max(1, _PAIRS // len(others))
    count = min(len(others), rank + 1 + _SPARE)
    return torch.cat([_ranked(p, others, count)[:, rank] for p in points.split(size)])


def _ranked(points: Tensor, others: Tensor, count: int) -> Tensor:
    """The nearest `[rows, count]`, the nearest first.

    Distances by a product of matrices are quick, but rounded, and not alike for every
    number of rows; the few nearest by them are ranked by their differences. So the
    result does not depend on the size of a block, unless more than `_SPARE` further
    ones lie equally near up to that rounding and are not the same input.
    """
    middle = others.mean(0)
    near = torch.cdist(points - middle, others - middle)
    index = near.topk(count, dim=1, largest=False).indices.sort(1).values
    exact = torch.stack(
        [(points - others[column]).square().sum(1) for column in index.T], dim=1
    )
    return index.gather(1, exact.argsort(stable=True, dim=1))
