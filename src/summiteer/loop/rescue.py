"""Runs whose gradient is lost to rounding, made again where it is not.

Where z_y leads all z_k by more than 103 the gradient of the cross-entropy log(1 + Σ
exp(z_k - z_y)) is exactly zero in float32, by more than 745 in float64: a run there is
said to be stationary, or its gradient masked, though there is everything to climb.
Logits with a common offset of 1e8 are wrong in another way: float32 keeps nothing of
their differences. What is made again, with the same method from the same start:

1. In float64: runs that end with a gradient that is exactly zero, if it is not zero
   there in float64; and all runs of examples whose float32 outputs differ by less than
   a hundred units of their rounding. Of losses that do not saturate a zero gradient
   must also leave a residual above its tolerance in float64: a zero by symmetry is none
   of rounding's.
2. With the margin max z_k - z_y as objective, in float64: runs that end where the
   gradient of the loss is zero in float64 too, and that of the margin is not. With one
   rival the loss increases with the margin, which is then the same problem. With K - 1
   of them log(1 + e^m) ≤ loss ≤ log(1 + (K - 1)e^m): what is ascended there is the
   largest term, and a maximum of the one need not be a maximum of the other.

What they reached is rounded to the dtype of the caller's problem and judged by its own
model and objective, which may not see the difference (a loss of 0 stays 0): of equal
values that of the run made again is taken as best, and only what the caller's model
itself misclassifies counts. Step counts, `residual` and `zero_gradient` of such a run
are those of what it ascended; a recorded trajectory stays that of the first attempt.

Where nothing is gained nothing changes: a model that is flat, a dead ReLU network, an
activation that is saturated in float64 too. Of a model that does not accept float64
only the margin is asked, in its own dtype.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.ascent import Ascent
from summiteer.loop.saturation import SATURATING, TINY_LOSS, going
from summiteer.loop.working import residual_reference
from summiteer.objectives import Margin
from summiteer.outcome import Outcome
from summiteer.precision import AsItIs
from summiteer.problem import Problem, Rows

#: problem, starts `[restarts, batch, *input]` -> what their runs came to.
Climb: TypeAlias = Callable[[Problem, Tensor], Ascent]

#: Outputs that differ by fewer units of rounding drown: two digits are left.
_DROWNED = 100.0
DOUBLE, MARGIN = 1, 2


def rescued(
    problem: Problem, ascent: Ascent, starts: Tensor, climb: Climb, custom: bool
) -> Ascent:
    """Make runs again whose gradient could not be seen. Call it inside `undisturbed`.

    Args:
        problem: the caller's.
        ascent: what its runs came to.
        starts: `[restarts, batch, *input]` where they began.
        climb: makes runs.
        custom: whether something else than misclassification ends runs. It may look at
            the objective's value: then the margin does not take its place.

    Returns:
        `ascent` itself where no run is in question.
    """
    drowned = _drowned(problem)
    if drowned is None and not bool(ascent.zero_gradient.any()):
        return ascent
    for kind, other in _others(problem):
        if kind == MARGIN and custom:
            continue
        hidden, spent = _hidden(problem, ascent, other, kind)
        total = ascent.gradient_evaluations + spent
        ascent = replace(ascent, gradient_evaluations=total)
        if kind == DOUBLE and drowned is not None:
            hidden = hidden | drowned
        run = hidden.flatten().nonzero().flatten()
        if not len(run):
            continue
        again = other.take(run % len(problem))
        # Starts of the caller's dtype may lie outside by its rounding.
        begin = again.feasible.project(starts.flatten(0, 1)[run].to(other.inputs))
        found = climb(again, begin[None])
        ascent = _joined(problem, ascent, run, found, kind, custom)
    return ascent


def _others(problem: Problem) -> Iterator[tuple[int, Problem]]:
    """The problems in which a gradient may be seen that the caller's does not show."""
    exact = problem.in_double()
    if isinstance(exact.model, AsItIs):
        exact = problem
    elif problem.inputs.dtype != torch.float64:
        yield DOUBLE, exact
    if type(problem.objective) in SATURATING:
        yield MARGIN, replace(exact, objective=Margin())


def _hidden(
    problem: Problem, ascent: Ascent, other: Problem, kind: int
) -> tuple[Tensor, int]:
    """`[restarts, batch]` bool: flat runs with a way up in `other`; evaluations."""
    flat = ascent.zero_gradient
    run = flat.flatten().nonzero().flatten()
    if not len(run):
        return flat, 0
    rows = other.rows(run % len(problem))
    points = ascent.final.flatten(0, 1)[run].to(other.inputs)
    points = rows.region.project(points)
    evaluation, spent = rows.evaluate(points), len(run)
    lost = going(rows, points, evaluation)
    if kind == MARGIN:
        # Where the loss itself can have no gradient: e^m is no normal number.
        tiny = torch.finfo(other.inputs.dtype).tiny
        lost = lost & (evaluation.loss <= float(np.log(tiny)))
    elif type(problem.objective) in SATURATING:
        lost = lost & (evaluation.loss < TINY_LOSS)
    else:
        reference, more = residual_reference(rows)
        spent += more
        measure = rows.residual(points, evaluation, reference)
        lost = lost & (measure > tolerances.stationary(torch.float64))
    hidden = flat.flatten().index_copy(0, run, lost)
    return hidden.reshape(flat.shape), spent


def _drowned(problem: Problem) -> Tensor | None:
    """`[batch]` bool: float32 keeps nothing of how an example's outputs differ.

    A few examples are asked, all of them only where one of those drowns; None if not.
    """
    if not problem.labelled or problem.inputs.dtype != torch.float32:
        return None
    if not bool(coarse(problem.probe()).any()):
        return None
    exact = problem.in_double()
    if isinstance(exact.model, AsItIs):
        return None
    with torch.no_grad():
        own, true = problem.model(problem.inputs), exact.model(exact.inputs)
    drowned = coarse(own) & ~coarse(true)
    return drowned if bool(drowned.any()) else None


def coarse(outputs: Tensor) -> Tensor:
    """`[rows]`: the outputs differ by few units of rounding of the largest.

    Args:
        outputs: `[rows, K]`; false for any other.
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not outputs.is_floating_point():
        return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)
    least, most = outputs.aminmax(dim=1)
    unit = torch.finfo(outputs.dtype).eps
    largest = torch.maximum(least.abs(), most.abs())
    return most - least < _DROWNED * unit * largest


def _joined(
    problem: Problem,
    ascent: Ascent,
    run: Tensor,
    found: Ascent,
    kind: int,
    custom: bool,
) -> Ascent:
    """The ascent with runs made again, judged by the caller's model and objective.

    Args:
        problem: the caller's.
        ascent: what its own runs came to.
        run: `[runs]` their numbers, restart · batch + example.
        found: of these runs, one restart each.
        kind: for `Ascent.rescue`.
        custom: see `rescued`.
    """
    example, shape = run % len(problem), ascent.losses.shape
    rows = problem.rows(example)
    final, best = (_own(rows, points) for points in (found.final[0], found.best))
    at_final, at_best = rows.value(final), rows.value(best)
    rows_spent = 2 * len(run)
    outcome = ascent.outcome.copy().reshape(-1)
    number = run.cpu().numpy()
    outcome[number] = found.outcome[0]
    if problem.labelled and not custom:
        # It succeeded in float64 only.
        lost = (found.outcome[0] == Outcome.SUCCEEDED) & ~at_final.wrong.cpu().numpy()
        outcome[number[lost]] = Outcome.STALLED
    changes = {
        "final": final,
        "losses": at_final.loss.masked_fill(~at_final.loss.isfinite(), torch.nan),
        **{
            name: getattr(found, name)[0]
            for name in ("residual", "steps", "period", "zero_gradient")
        },
    }
    per_run: dict[str, Any] = {
        name: _put(getattr(ascent, name), run, value) for name, value in changes.items()
    }
    rescue = ascent.rescue.clone()
    rescue[example] = rescue[example].clamp(min=kind)
    ascent = replace(
        ascent, **per_run, outcome=outcome.reshape(tuple(shape)), rescue=rescue
    )
    ascent = _with_best(ascent, run, best, at_best.loss, found.best_loss)
    if ascent.misclassified is not None:
        assert found.misclassified_points is not None
        claimed = _own(rows, found.misclassified_points.nan_to_num(0.0))
        wrong = rows.value(claimed).wrong
        rows_spent += len(run)
        points, wrong = _rows.choose(wrong, claimed, best), wrong | at_best.wrong
        points = _rows.choose(wrong, points, final)
        ascent = _with_errors(ascent, example, points, wrong | at_final.wrong)
    return replace(
        ascent,
        gradient_evaluations=ascent.gradient_evaluations + found.gradient_evaluations,
        forward_evaluations=ascent.forward_evaluations + rows_spent,
    )


def _own(rows: Rows, points: Tensor) -> Tensor:
    """Points in the caller's dtype and region."""
    return rows.region.project(points.to(rows.inputs))


def _put(values: Tensor, run: Tensor, new: Tensor) -> Tensor:
    """`[restarts, batch, …]` with the runs numbered `run` replaced."""
    flat = values.flatten(0, 1)
    return flat.index_copy(0, run, new.to(flat)).reshape(values.shape)


def _with_best(
    ascent: Ascent, run: Tensor, points: Tensor, loss: Tensor, ascended: Tensor
) -> Ascent:
    """Take the best of the runs made again where no other is higher.

    Args:
        ascent: of all runs.
        run: `[runs]` numbers of those made again.
        points: `[runs, *input]` their best points.
        loss: `[runs]` the caller's objective there.
        ascended: `[runs]` that of the objective they ascended; it decides on ties.
    """
    batch = len(ascent.best)
    example = run % batch
    loss = loss.nan_to_num(-torch.inf).to(ascent.best_loss)
    order = np.lexsort([x.cpu().numpy() for x in (ascended, loss, example)])
    ranked = torch.from_numpy(order).to(run.device)
    last = torch.ones_like(ranked, dtype=torch.bool)
    last[:-1] = example[ranked][1:] != example[ranked][:-1]
    top = ranked[last]
    taken = loss[top] >= ascent.best_loss[example[top]].nan_to_num(-torch.inf)
    top = top[taken]
    index = example[top]
    return replace(
        ascent,
        best=ascent.best.index_copy(0, index, points[top]),
        best_loss=ascent.best_loss.index_copy(0, index, loss[top]),
        best_restart=ascent.best_restart.index_copy(0, index, run[top] // batch),
    )


def _with_errors(
    ascent: Ascent, example: Tensor, points: Tensor, wrong: Tensor
) -> Ascent:
    """Add misclassified points `[runs, *input]` of examples that had none."""
    assert ascent.misclassified is not None
    assert ascent.misclassified_points is not None
    known = ascent.misclassified
    index = (wrong & ~known[example]).nonzero().flatten()
    # Of several runs of one example, the first.
    first = torch.full_like(known, len(example), dtype=torch.int64)
    first = first.scatter_reduce(0, example[index], index, "amin")
    fresh = (first < len(example)).nonzero().flatten()
    kept = ascent.misclassified_points.index_copy(0, fresh, points[first[fresh]])
    return replace(
        ascent,
        misclassified=known.index_fill(0, fresh, True),
        misclassified_points=kept,
    )
