"""The rows still in the batch of the ascent loop, and what a step makes of them."""

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.adversaries import Adversary, Step
from summiteer.loop.patience import Patience
from summiteer.problem import Evaluation, Problem, Rows
from summiteer.recurrence import Recurrence, memoryless
from summiteer.spaces import Chosen


@dataclass(frozen=True, eq=False)
class Working:
    """The rows still in the batch; points and state are opaque to the loop."""

    run: Tensor  # number of the run: restart · batch + example
    running: Tensor
    points: Any
    evaluation: Evaluation
    state: Any
    reference: Any  # None where no residual is asked for
    best: Any  # of rows that are not leading
    best_loss: Tensor
    leading: Tensor  # the point itself is the best so far
    wrong: Any
    found: Tensor
    size: Tensor
    displacement: Tensor
    recurrence: Recurrence | None  # None where steps depend on more than the point
    patience: Patience | None
    period: Tensor | None  # of rows whose last step closed a cycle, 0 of others
    stalled: Tensor | None
    broken: Tensor | None


def residual_reference(rows: Rows, centre: Tensor | None = None) -> tuple[Tensor, int]:
    """The residual's scale (mathematics.md §3): two gradient evaluations per row.

    The largest magnitude of the gradient at the centre and at the boundary point in
    its direction: the support point of the region, ε·g/‖g‖ on an L2 ball, the steepest
    vertex on a box; the support point of (1, …, 1) where the gradient is zero.

    Args:
        rows: one row per example is enough.
        centre: the gradient at the centre if it is known already.

    Returns:
        What `Region.residual` takes as `reference` (`[rows]`, or `[rows, *input]`), and
        the gradient evaluations spent.
    """
    region, gradient, spent = rows.region, centre, len(rows.inputs)
    if gradient is None:
        middle = region.project(torch.zeros_like(rows.inputs))
        gradient, spent = rows.evaluate(middle).gradient, 2 * spent
    flat = _rows.expand(~(_rows.norm(gradient) > 0), gradient)
    boundary = region.linear_maximiser(torch.where(flat, 1.0, gradient))
    beyond = rows.evaluate(boundary).gradient
    # A model that breaks at one of these points says nothing about the scale there.
    known = (region.magnitude(g).nan_to_num(0.0, 0.0) for g in (gradient, beyond))
    return torch.maximum(*known), spent


def begin(
    problem: Problem,
    adversary: Adversary,
    points: Tensor,
    measured: bool,
    patience: int | None,
    space: Chosen | None,
) -> tuple[Rows, Working, int]:
    """All rows before the first step.

    Args:
        problem: what is maximised.
        adversary: the method.
        points: `[restarts, batch, *input]` the starts.
        measured: whether residuals are asked for.
        patience: as for `ascend`.
        space: of a two-layer network, or None.

    Returns:
        The problem at the rows, the rows, and the gradient evaluations spent.
    """
    restarts, batch = points.shape[:2]
    index = torch.arange(batch, device=points.device).repeat(restarts)
    flat = points.flatten(0, 1)
    rows = space.rows(index, flat) if space else problem.rows_of_runs(index)
    flat = rows.enter(flat)
    evaluation, broken = rows.evaluate(flat), None
    if not _rows.all_finite(evaluation.loss):
        broken = ~evaluation.loss.isfinite()
        evaluation = replace(
            evaluation, loss=evaluation.loss.masked_fill(broken, torch.nan)
        )
    reference, spent = None, 0
    if measured:
        centre = None
        if not bool(points[0].any()):
            centre = rows.lift_gradient(evaluation.gradient)[:batch]
        reference, spent = residual_reference(problem.rows(), centre)
        reference = reference[index]
    never = torch.zeros(len(index), dtype=torch.bool, device=points.device)
    best_loss = evaluation.loss.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    patient, recurrence = None, None
    if patience is not None:
        # A float32 model may answer in float64: its rounding is that of float32.
        unit = max(torch.finfo(t.dtype).eps for t in (points, best_loss))
        patient = Patience.begin(patience, unit, best_loss)
        # `best_loss` is a buffer that the loop overwrites.
        best_loss = best_loss.clone()
    if memoryless(adversary):
        recurrence = Recurrence.begin(flat, evaluation.loss)
    working = Working(
        run=torch.arange(len(index), device=points.device),
        running=~never,
        points=flat,
        evaluation=evaluation,
        state=adversary.init(rows, flat, evaluation),
        reference=reference,
        best=_rows.copy(flat),
        best_loss=best_loss,
        leading=evaluation.loss > -torch.inf,
        wrong=_rows.copy(flat),
        found=never.clone(),
        size=torch.zeros_like(evaluation.loss),
        displacement=torch.zeros_like(evaluation.loss),
        recurrence=recurrence,
        patience=patient,
        period=None,
        stalled=None,
        broken=broken,
    )
    return rows, working, len(index) + spent


def residual(rows: Rows, now: Working) -> Tensor:
    """The first-order residual `[rows]`; see `Region.residual`."""
    return rows.residual(now.points, now.evaluation, now.reference)


def _keep_best(now: Working, loss: Tensor) -> Tensor:
    """Update best-so-far in place for the next `loss`; return which rows lead then.

    A point is copied when the step away from it shows that it was a peak: runs that
    only climb copy nothing until they finish.
    """
    leading = loss > now.best_loss
    index = (now.leading > leading).nonzero().flatten()  # led, and no longer does
    if len(index):
        _rows.put(now.best, index, now.points)
    torch.fmax(now.best_loss, loss, out=now.best_loss)
    return leading


def keep_first_wrong(now: Working) -> None:
    """Update the first misclassified iterate of each row, in place."""
    fresh = now.evaluation.wrong > now.found
    index = fresh.nonzero().flatten()
    if len(index):
        _rows.put(now.wrong, index, now.points)
        now.found.logical_or_(fresh)


def move(
    rows: Rows,
    now: Working,
    made: Step,
    evaluation: Evaluation,
    step: int,
    watched: bool,
) -> Working:
    """The working set after a step; rows that left the finite numbers are put back.

    Args:
        rows: the problem at these rows.
        now: before the step.
        made: the step.
        evaluation: at the points made.
        step: number of the step, from 1.
        watched: whether to ask if the points still move.
    """
    stalled, broken, points = made.stuck, None, made.points
    displacement, patience = now.displacement, now.patience
    if watched:
        displacement = rows.distance(points, now.points)
        if not made.restless:
            stalled = _either(stalled, _still(rows, points, displacement))
    if not _rows.all_finite(evaluation.loss):
        broken = ~evaluation.loss.isfinite()
        points = _rows.choose(~broken, points, now.points)
        evaluation = _rows.choose(~broken, evaluation, now.evaluation)
    recurrence, period = now.recurrence, None
    if recurrence is not None:
        recurrence, period = recurrence.look(
            rows, step, points, evaluation.loss, now.running
        )
    if period is not None:
        # A point that comes back because it is fixed, or moves by rounding alone.
        apart = rows.distance(points, now.points)
        still = _still(rows, points, apart) & (period > 0)
        stalled = _either(stalled, still)
        period = period.masked_fill(still if broken is None else still | broken, 0)
    leading = _keep_best(now, evaluation.loss)
    if patience is not None:
        patience, idle = patience.look(step, now.best_loss)
        stalled = _either(stalled, idle)
    return replace(
        now,
        points=points,
        evaluation=evaluation,
        state=made.state,
        leading=leading,
        size=made.size,
        displacement=displacement,
        recurrence=recurrence,
        patience=patience,
        period=period,
        stalled=stalled,
        broken=broken,
    )


def move_to_best(
    rows: Rows, now: Working, which: Tensor, state: Any, step: int
) -> tuple[Working, int]:
    """Put the rows `which` back to the best point of their run, with another state.

    Args:
        rows: the problem at these rows.
        now: the rows.
        which: `[rows]` bool.
        state: the method's, of all rows.
        step: number of the step made last.

    Returns:
        The rows, and the gradient evaluations spent.
    """
    best = _rows.choose(now.leading, now.points, now.best)
    points = _rows.choose(which, best, now.points)
    index = which.nonzero().flatten()
    fresh = rows.take(index).evaluate(_rows.take(points, index))
    names = ("loss", "gradient", "wrong")
    evaluation = Evaluation(
        *(
            getattr(now.evaluation, name).index_copy(0, index, getattr(fresh, name))
            for name in names
        )
    )
    recurrence = now.recurrence
    if recurrence is not None:
        recurrence = recurrence.restarted(which, step, points, evaluation.loss)
    moved = replace(
        now,
        points=points,
        evaluation=evaluation,
        state=state,
        leading=now.leading | which,
        recurrence=recurrence,
        period=None,
    )
    return moved, len(index)


def _still(rows: Rows, points: Any, displacement: Tensor) -> Tensor:
    """Rows that a step did not move beyond rounding: ‖δ_t - δ_(t-1)‖ ≤ 4u‖x + δ_t‖."""
    # u = eps/2, the unit of rounding; both sides may be 0.
    unit = 0.5 * torch.finfo(displacement.dtype).eps
    return displacement <= tolerances.STALL_ULPS * unit * rows.magnitude(points)


def _either(mask: Tensor | None, other: Tensor) -> Tensor | None:
    """Rows in either mask; None for none."""
    if mask is None:
        return other if bool(other.any()) else None
    return mask | other
