"""Vertices towards the nearest examples of other classes."""

import math

import torch
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer.errors import UserError, listed
from summiteer.problem import Problem

#: Examples that are looked through for the nearest, and numbers of their inputs in all.
_MOST, _NUMBERS = 10_000, 2**27

#: Pairs of inputs whose distances are held at once.
_PAIRS = 2**22
#: So many more than are asked for are ranked exactly.
_SPARE = 8


def most_neighbours(row: tuple[int, ...]) -> int:
    """So many examples are looked through for the nearest.

    Args:
        row: the shape of one input.
    """
    return max(1, min(_MOST, _NUMBERS // max(1, math.prod(row))))


def usable_neighbours(
    problem: Problem, inputs: Tensor, labels: Tensor
) -> tuple[tuple[Tensor, Tensor] | None, str]:
    """Return examples that can show a problem's runs the way, and a note.

    Args:
        problem: a classifier's; see `Problem.box`.
        inputs: `[n, *input]`, of the problem's shape or as many numbers each.
        labels: `[n]` integers. Those that the model has no output for are left out.

    Returns:
        (inputs, labels), None where no label is left; what was left out, or "".

    Raises:
        UserError: the inputs do not fit or lie outside the box, or these are no labels.
    """
    row = tuple(problem.inputs.shape[1:])
    _check_examples(problem, inputs, labels, row)
    inputs = inputs.reshape(-1, *row)
    with undisturbed(problem.model):
        outputs = problem.probe()
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not problem.labelled:
        raise UserError(
            "neighbours: only for classification with one output per class; leave "
            "them out."
        )
    known = (labels >= 0) & (labels < outputs.shape[1])
    note, lost = "", sorted(set(labels[~known].tolist()))
    if lost:
        note = (
            f"neighbours: {int((~known).sum())} of {len(labels)} examples left out, "
            f"whose labels {listed(lost)} the model has no output for"
        )
    if not bool(known.any()):
        return None, note
    return (inputs[known], labels[known].to(torch.int64)), note


def _check_examples(
    problem: Problem, inputs: Tensor, labels: Tensor, row: tuple[int, ...]
) -> None:
    if labels.shape != inputs.shape[:1] or labels.is_floating_point():
        raise UserError(
            "neighbours: expected inputs [n, *input] and one integer label each, got "
            f"{list(inputs.shape)} and {labels.dtype} {list(labels.shape)}."
        )
    given = tuple(inputs.shape[1:])
    if not len(inputs) or math.prod(given) != math.prod(row):
        raise UserError(
            f"neighbours: expected at least one input of shape {list(row)}, as the "
            f"model's, got {len(inputs)} of {list(given)}."
        )
    wrong = ~inputs.isfinite()
    if problem.box is not None:
        low, high = problem.box
        wrong |= (inputs < low) | (inputs > high)
    bad = wrong.flatten(1).any(1).nonzero().flatten().tolist()
    if bad:
        where = "" if problem.box is None else " or outside the box {:g}, {:g}"
        raise UserError(
            "neighbours: not finite"
            + where.format(*(problem.box or ()))
            + f" in examples {listed(bad)}; give data in the units of the inputs."
        )


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
    for k in torch.unique(classes).tolist():
        index = (labels.to(others.device) == k).nonzero().flatten()
        if len(index) <= rank:
            continue
        which = (classes == k).nonzero().flatten()
        unique, back = torch.unique(examples[which], return_inverse=True)
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
    return torch.cat(
        [_ranked(p, others, count)[:, rank] for p in torch.split(points, size)]
    )


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
