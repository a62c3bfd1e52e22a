"""One ascent towards each of the most likely other classes, judged by one objective."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from summiteer import _rows
from summiteer._ascend import ascend, default_start
from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary
from summiteer.ascent import PER_RUN, Ascent
from summiteer.errors import UserError
from summiteer.objectives import Objective, TargetedDLR, TargetedMargin
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.starts import GivenStart, Start
from summiteer.until import Misclassified, Until

#: Rivals `[rows]` -> what is ascended towards them, such as the class TargetedMargin.
Targeted = Callable[[Tensor], Objective]


def likeliest_rivals(problem: Problem, count: int) -> Tensor:
    """The classes k ≠ y in the order of the outputs z_k(x) at the clean inputs.

    Ties go to the lower class.

    Args:
        problem: with outputs `[batch, K]` and class labels.
        count: how many; at most K - 1 there are.

    Returns:
        `[batch, min(count, K - 1)]` integers, the likeliest first.

    Raises:
        UserError: the problem has no classes, or `count` is below 1.
    """
    if not isinstance(count, int) or isinstance(count, bool) or count < 1:
        raise UserError(f"rivals: expected an integer ≥ 1, got {count!r}.")
    problem.examine()
    with undisturbed(problem.model), torch.no_grad():
        outputs = problem.model(problem.inputs)
    targets = problem.targets
    if outputs.ndim != 2 or outputs.shape[1] < 2 or targets.is_floating_point():
        raise UserError(
            "rivals: other classes need outputs [batch, K] with K ≥ 2 and integer "
            f"labels, got outputs {list(outputs.shape)} and {targets.dtype} targets; "
            "use ascend."
        )
    others = torch.arange(outputs.shape[1] - 1, device=outputs.device)
    others = others + (others >= targets[:, None]).long()
    ranked = outputs.gather(1, others).argsort(stable=True, dim=1, descending=True)
    return others.gather(1, ranked[:, :count])


def multi_targeted(
    problem: Problem,
    adversary: Adversary | None = None,
    start: Start | None = None,
    max_steps: int = 500,
    rivals: int = 9,
    objective: Targeted | None = None,
    until: Until | None = None,
) -> Ascent:
    """Ascend towards each of the most likely other classes, one after the other.

    A margin is the largest of K - 1 differences; a run that follows the largest may
    climb the wrong one, or leave each before it pays, where runs towards one class
    each would arrive (`gowal2019alternative`; with `TargetedDLR` the targeted APGD of
    `croce2020reliable`). What came of all runs is then judged by the problem's own
    objective, at the best point of each rank by the targeted one and at every end
    point.

    Departures from the papers: the rivals are ranked once, at the clean input; each
    rank has all the starts.

    Args:
        problem: of a classifier with outputs `[batch, K]`.
        adversary: a frozen method; `default_adversary` of the region if None.
        start: where runs begin, the same for every rank; as `ascend` if None.
        max_steps: the longest run.
        rivals: how many classes; K - 1 at most.
        objective: rivals `[rows]` -> objective, such as `TargetedMargin`. TargetedDLR
            if None, and TargetedMargin below four classes.
        until: a further reason to stop. With `Misclassified()` an example that is
            broken is not attacked towards later ranks.

    Returns:
        `Ascent` with restarts = ranks × starts, those of the likeliest rival first.
        `best`, `best_loss`, `best_restart` and `losses` are by the problem's
        objective; `residual` and `outcome` are of the targeted objective that a run
        ascended. A run that was not made, for the example was broken before, has
        SUCCEEDED after 0 steps at the misclassified point; its residual is NaN.

    Raises:
        UserError: the problem has no classes, or an argument cannot be used.
    """
    ranked = likeliest_rivals(problem, rivals)
    kind = objective or _default(problem)
    problem.with_objective(kind(ranked[:, 0])).examine_targets()
    with undisturbed(problem.model):
        points = (start or default_start()).points(problem)
    ascent = None
    left = torch.arange(len(problem), device=ranked.device)
    for classes in ranked.T:
        part = None
        if ascent is not None and len(left) < len(problem):
            part = _not_made(problem, ascent, len(points))
        if len(left):
            some = problem.take(left)
            made = ascend(
                some.with_objective(kind(classes[left])),
                adversary,
                GivenStart(points[:, left]),
                max_steps,
                until=until,
            )
            with undisturbed(problem.model):
                made, _ = made.confirmed(some)
            part = made if part is None else _among(part, left, made)
        assert part is not None  # the first rank is made for all
        ascent = part if ascent is None else _beside(ascent, part)
        if type(until) is Misclassified and ascent.misclassified is not None:
            left = (~ascent.misclassified).nonzero().flatten()
    assert ascent is not None  # there is one rival at least
    return ascent


def _default(problem: Problem) -> Targeted:
    """The ratio where there are classes enough, else the margin."""
    with undisturbed(problem.model):
        classes = problem.probe().shape[1]
    return TargetedDLR if classes >= 4 else TargetedMargin


def _not_made(problem: Problem, ascent: Ascent, starts: int) -> Ascent:
    """One rank of runs that were not made, for examples that are broken already.

    Args:
        problem: of all examples.
        ascent: what is known of them.
        starts: runs per rank.
    """
    points, broken = ascent.misclassified_points, ascent.misclassified
    assert points is not None
    assert broken is not None
    index = broken.nonzero().flatten()
    losses = torch.full_like(ascent.best_loss, torch.nan)
    if len(index):
        with undisturbed(problem.model):
            value = problem.take(index).rows().value(points[index])
        losses[index] = value.loss
    blank: dict[str, Any] = {
        name: torch.zeros_like(getattr(ascent, name)[:starts]) for name in PER_RUN
    }
    blank["final"] = points.expand(starts, *points.shape).clone()
    blank["losses"] = losses.expand(starts, -1).clone()
    blank["residual"] = torch.full_like(blank["residual"], torch.nan)
    return replace(
        ascent,
        **blank,
        rescue=torch.zeros_like(ascent.rescue),
        outcome=np.full((starts, len(points)), Outcome.SUCCEEDED, dtype=object),
        gradient_evaluations=0,
        forward_evaluations=len(index),
    )


def _among(blank: Ascent, index: Tensor, made: Ascent) -> Ascent:
    """The runs that were made, of the examples `index`, among those that were not."""
    spent = blank.forward_evaluations + made.forward_evaluations
    return replace(blank.with_examples(index, made), forward_evaluations=spent)


def _beside(first: Ascent, second: Ascent) -> Ascent:
    """The runs of both, of the same examples; ties go to the first."""
    runs: dict[str, Any] = {
        name: torch.cat([getattr(first, name), getattr(second, name)])
        for name in PER_RUN
    }
    low = [a.best_loss.nan_to_num(-torch.inf, torch.inf) for a in (first, second)]
    better = low[1] > low[0]
    wrong, points = first.misclassified, first.misclassified_points
    if wrong is not None and points is not None:
        assert second.misclassified is not None
        points = _rows.choose(wrong, points, second.misclassified_points)
        wrong = wrong | second.misclassified
    later = second.best_restart + len(first.losses)
    return replace(
        first,
        **runs,
        best=_rows.choose(better, second.best, first.best),
        best_loss=torch.where(better, second.best_loss, first.best_loss),
        best_restart=torch.where(better, later, first.best_restart),
        misclassified=wrong,
        misclassified_points=points,
        rescue=torch.maximum(first.rescue, second.rescue),
        outcome=np.concatenate([first.outcome, second.outcome]),
        gradient_evaluations=first.gradient_evaluations + second.gradient_evaluations,
        forward_evaluations=first.forward_evaluations + second.forward_evaluations,
        trajectory=None,
    )
