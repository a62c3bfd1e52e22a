"""Vertices towards the nearest examples of other classes."""

import torch
from torch import Tensor

from summiteer.problem import Problem

#: Pairs of inputs whose distances are held at once.
_PAIRS = 2**22


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
    size = max(1, _PAIRS // len(others))
    # There are no distances in half precision.
    kind = torch.promote_types(points.dtype, torch.float32)
    points, others = points.to(kind), others.to(kind)
    parts = [
        torch.cdist(some, others).topk(rank + 1, dim=1, largest=False).indices[:, rank]
        for some in points.split(size)
    ]
    return torch.cat(parts)
