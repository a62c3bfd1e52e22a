"""The ascent loop: the only one."""

from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary, Step, default_adversary
from summiteer.ascent import SPACES, Ascent, Space
from summiteer.errors import UserError
from summiteer.outcome import Outcome, outcomes
from summiteer.problem import Evaluation, Problem, Rows
from summiteer.reduction import Reduction, choose
from summiteer.starts import CentreStart, Start, UniformStart
from summiteer.trajectory import Recorder, Tape

_RUNNING = -1
#: Rows are copied together once no more than this share of them is still running; at
#: once where a step searches, for finished rows would make it search in vain.
_COMPACT = 0.75
#: Freeing a block of this size teaches glibc to keep up to twice as much free memory.
#: Without that it returns tensors to the kernel at every step, and fetching them again
#: costs as much as the arithmetic on them. More than 32 MiB it does not learn from.
_KEEP_MEMORY = 31 << 20
#: Whether the step still moves a run is asked every so many steps: one that does not
#: will not do so later either.
_WATCH = 8


class Until(Protocol):
    """A reason to stop besides stationarity."""

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """`[rows]` bool: this row has what was asked for."""


@dataclass(frozen=True)
class Misclassified:
    """Stop an example, all its restarts, once any iterate of it is misclassified."""

    rotation_invariant: ClassVar[bool] = True

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """`[rows]` bool."""
        return evaluation.wrong


@dataclass(frozen=True, eq=False)
class _Working:
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
    stalled: Tensor | None
    broken: Tensor | None


def ascend(
    problem: Problem,
    adversary: Adversary | None = None,
    start: Start | None = None,
    max_steps: int = 500,
    recorder: Recorder | None = None,
    until: Until | None = None,
    tolerance: float | None = -1.0,
    space: Space = "auto",
) -> Ascent:
    """Run a first-order adversary on every example from every start.

    Each run stops by itself: when its residual (mathematics.md §3) is at most
    `tolerance`, when `until` is met, when its step no longer moves it, when a number
    is not finite. Finished runs leave the batch, so cost follows the work left. The
    point made by the last step is evaluated too.

    Args:
        problem: what is maximised.
        adversary: a frozen method; `default_adversary` of the region if None.
        start: where runs begin; the centre and four uniform points if None.
        max_steps: the longest run.
        recorder: what to keep of the way; nothing if None.
        until: a further reason to stop, such as `Misclassified()`.
        tolerance: residual called STATIONARY; the dtype's default if negative; None
            measures no residual and stops for none.
        space: where runs of a two-layer network on a whole L2 ball or sphere are
            computed: in the "input" space, in the "row" space of W, which gives the
            same iterates to rounding, or ("auto") where it takes less time.

    Returns:
        `Ascent`. Nothing of the caller's is changed.

    Raises:
        UserError: model, objective or start do not fit the problem, or the row space
            cannot be had.
    """
    if space not in SPACES:
        raise UserError(f"space: expected one of {list(SPACES)}, got {space!r}.")
    if not (isinstance(max_steps, int) and max_steps >= 0):
        raise UserError(f"max_steps: expected an integer ≥ 0, got {max_steps!r}.")
    if isinstance(until, Misclassified) and not problem.labelled:
        raise UserError(
            "until: Misclassified() needs labels (integers, or ±1 for one output); "
            f"the targets are {problem.targets.dtype} values."
        )
    if tolerance is not None and tolerance < 0:
        tolerance = tolerances.stationary(problem.inputs.dtype)
    torch.empty(_KEEP_MEMORY, dtype=torch.uint8)
    problem.examine()
    adversary = adversary or default_adversary(problem.feasible)
    with undisturbed(problem.model):
        points = (start or default_start()).points(problem)
        runs = len(points) * len(problem)
        if recorder is not None:
            recorder = replace(recorder, every=recorder.stride(max_steps, runs))
        reduction = None
        if space != "input":
            methods = [adversary] if until is None else [adversary, until]
            reduction = choose(problem, methods, runs, max_steps, space == "row")
        climb = partial(_climb, adversary, max_steps, recorder, until, tolerance)
        ascent = climb(problem, points, reduction)
        if reduction is None:
            return ascent
        ascent, doubtful = ascent.confirmed(problem)
        if not len(doubtful):
            return ascent
        # The step that rounding decided may have ended these runs: others decide.
        again = climb(problem.take(doubtful), points[:, doubtful], None)
        return ascent.with_examples(doubtful, again)


def _climb(
    adversary: Adversary,
    max_steps: int,
    recorder: Recorder | None,
    until: Until | None,
    tolerance: float | None,
    problem: Problem,
    points: Tensor,
    reduction: Reduction | None,
) -> Ascent:
    """The loop itself, from `points` `[restarts, batch, *input]`."""
    measured = tolerance is not None or recorder is not None
    rows, now, spent = _begin(problem, adversary, points, measured, reduction)
    batch = len(problem)
    tape = Tape(recorder, max_steps, len(points), batch) if recorder else None
    results = _Results(points, now.evaluation.loss.dtype)
    share = 1.0
    for step in range(max_steps + 1):
        if tape is not None and tape.wants(step):
            _record(tape, step, rows, now)
        _keep_first_wrong(now)
        outcome = _judge(rows, now, until, tolerance, batch)
        if step == max_steps:
            outcome = _at_limit(now, outcome)
        if outcome is not None:
            rows, now = results.close(step, rows, now, outcome, share)
        if step == max_steps or not len(now.run):
            break
        made = adversary.step(rows, now.points, now.evaluation, now.state)
        evaluation = made.evaluation or rows.evaluate(made.points)
        spent += len(now.run) if made.spent is None else int(made.spent.sum())
        share = _COMPACT if made.spent is None else 1.0
        watched = step % _WATCH == 0 or (tape is not None and tape.wants(step + 1))
        now = _move(rows, now, made, evaluation, watched)
    return results.ascent(problem, spent, tape, "row" if reduction else "input")


def default_start() -> Start:
    """The centre and four uniform points, seed 0."""
    return CentreStart() + UniformStart(restarts=4)


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


def _begin(
    problem: Problem,
    adversary: Adversary,
    points: Tensor,
    measured: bool,
    reduction: Reduction | None,
) -> tuple[Rows, _Working, int]:
    restarts, batch = points.shape[:2]
    index = torch.arange(batch, device=points.device).repeat(restarts)
    flat = points.flatten(0, 1)
    rows = reduction.rows(index, flat) if reduction else problem.rows(index)
    flat = rows.enter(flat)
    evaluation, broken = rows.evaluate(flat), None
    if not _rows.all_finite(evaluation.loss):
        broken = ~evaluation.loss.isfinite()
        evaluation = replace(
            evaluation, loss=evaluation.loss.masked_fill(broken, torch.nan)
        )
    at_centre = not bool(points[0].any())
    centre = None
    if at_centre:
        centre = rows.lift_gradient(evaluation.gradient)[:batch]
    reference, spent = None, 0
    if measured:
        reference, spent = residual_reference(problem.rows(), centre)
        reference = reference[index]
    never = torch.zeros(len(index), dtype=torch.bool, device=points.device)
    working = _Working(
        run=torch.arange(len(index), device=points.device),
        running=~never,
        points=flat,
        evaluation=evaluation,
        state=adversary.init(rows, flat, evaluation),
        reference=reference,
        best=_rows.copy(flat),
        best_loss=evaluation.loss.nan_to_num(-torch.inf, torch.inf, -torch.inf),
        leading=evaluation.loss > -torch.inf,
        wrong=_rows.copy(flat),
        found=never.clone(),
        size=torch.zeros_like(evaluation.loss),
        displacement=torch.zeros_like(evaluation.loss),
        stalled=None,
        broken=broken,
    )
    return rows, working, len(index) + spent


def _residual(rows: Rows, now: _Working) -> Tensor:
    return rows.residual(now.points, now.evaluation, now.reference)


def _near(rows: Rows, now: _Working, tolerance: float) -> Tensor | None:
    """The residual of rows that may be stationary, of others a lower bound.

    None if no row can be stationary.
    """
    floor = rows.residual_floor(now.points, now.evaluation, now.reference)
    # NaN compares false: rows that are not finite are looked at exactly.
    if float(floor.min()) > tolerance:
        return None
    index = (~(floor > tolerance)).nonzero().flatten()
    near = replace(now, state=None, best=None, wrong=None)
    exact = _residual(rows.take(index), _rows.take(near, index))
    return floor.index_copy(0, index, exact)


def _record(tape: Tape, step: int, rows: Rows, now: _Working) -> None:
    running, residual = now.running, _residual(rows, now)
    if now.broken is not None:  # its last step led nowhere
        running = running & ~now.broken
    tape.write(
        step,
        now.run[running],
        loss=now.evaluation.loss[running],
        residual=residual[running],
        norm=rows.length(now.points)[running],
        step_size=now.size[running],
        displacement=now.displacement[running],
    )


def _keep_best(now: _Working, loss: Tensor) -> Tensor:
    """Update best-so-far in place for the next `loss`; return which rows lead then.

    A point is copied when the step away from it shows that it was a peak: runs that
    only climb copy nothing until they finish.
    """
    leading = loss > now.best_loss
    peak = now.leading & ~leading
    if bool(peak.any()):
        _rows.put(now.best, peak.nonzero().flatten(), now.points)
    torch.fmax(now.best_loss, loss, out=now.best_loss)
    return leading


def _keep_first_wrong(now: _Working) -> None:
    """Update the first misclassified iterate of each row, in place."""
    fresh = now.evaluation.wrong & ~now.found
    if bool(fresh.any()):
        _rows.put(now.wrong, fresh.nonzero().flatten(), now.points)
        now.found.logical_or_(fresh)


def _judge(
    rows: Rows,
    now: _Working,
    until: Until | None,
    tolerance: float | None,
    batch: int,
) -> Tensor | None:
    """The code of each row's `Outcome`, -1 where it goes on; None if all go on."""
    residual = None if tolerance is None else _near(rows, now, tolerance)
    if (
        residual is None
        and until is None
        and now.stalled is None
        and now.broken is None
    ):
        return None
    outcome = torch.full_like(now.run, _RUNNING)
    if now.stalled is not None:
        outcome = outcome.masked_fill(now.stalled, Outcome.STALLED.code)
    if residual is not None and tolerance is not None:
        still = residual <= tolerance
        outcome = outcome.masked_fill(still, Outcome.STATIONARY.code)
        outcome = outcome.masked_fill(_zero(now, residual), Outcome.ZERO_GRADIENT.code)
        outcome = outcome.masked_fill(~residual.isfinite(), Outcome.NON_FINITE.code)
    if until is not None:
        met = until(now.evaluation) & now.running
        succeeded = torch.zeros(batch, dtype=torch.bool, device=met.device)
        succeeded[now.run[met] % batch] = True
        outcome = outcome.masked_fill(
            succeeded[now.run % batch], Outcome.SUCCEEDED.code
        )
    if now.broken is not None:
        outcome = outcome.masked_fill(now.broken, Outcome.NON_FINITE.code)
    return outcome


def _at_limit(now: _Working, outcome: Tensor | None) -> Tensor:
    """What is still running has met its step limit."""
    limit = torch.full_like(now.run, Outcome.STEP_LIMIT.code)
    return limit if outcome is None else torch.where(outcome < 0, limit, outcome)


def _zero(now: _Working, residual: Tensor) -> Tensor:
    """Rows whose gradient is exactly zero here and at both reference points."""
    flat = residual == 0
    if bool(flat.any()):
        largest = now.reference.reshape(len(flat), -1).amax(1)
        flat = flat & (largest == 0) & (_rows.norm(now.evaluation.gradient) == 0)
    return flat


def _move(
    rows: Rows, now: _Working, made: Step, evaluation: Evaluation, watched: bool
) -> _Working:
    """The working set after a step; rows that left the finite numbers are put back."""
    displacement, stalled, broken = now.displacement, None, None
    if watched:
        displacement = rows.distance(made.points, now.points)
        # u‖x+δ‖ with u = eps/2, the unit of rounding; both may be 0.
        unit = 0.5 * torch.finfo(displacement.dtype).eps
        scale = rows.magnitude(made.points)
        still = displacement <= tolerances.STALL_ULPS * unit * scale
        stalled = still if bool(still.any()) else None
    if made.stuck is not None:
        stalled = made.stuck if stalled is None else stalled | made.stuck
    points = made.points
    if not _rows.all_finite(evaluation.loss):
        broken = ~evaluation.loss.isfinite()
        points = _rows.choose(~broken, points, now.points)
        evaluation = _rows.choose(~broken, evaluation, now.evaluation)
    return replace(
        now,
        points=points,
        evaluation=evaluation,
        state=made.state,
        leading=_keep_best(now, evaluation.loss),
        size=made.size,
        displacement=displacement,
        stalled=stalled,
        broken=broken,
    )


class _Results:
    """Where finished runs are written, in the order of (restart, example).

    Args:
        points: `[restarts, batch, *input]` the starts.
        loss: dtype of the losses, which is the model's.
    """

    def __init__(self, points: Tensor, loss: torch.dtype) -> None:
        self._shape = points.shape
        flat = points.flatten(0, 1)
        self.final, self.best = flat.clone(), flat.clone()
        self.wrong = torch.full_like(flat, torch.nan)
        self.residual = flat.new_full((len(flat),), torch.nan)
        self.losses = self.residual.to(loss, copy=True)
        self.best_loss = self.losses.clone()
        self.found = torch.zeros_like(self.losses, dtype=torch.bool)
        self.outcome = torch.zeros_like(self.losses, dtype=torch.int64)
        self.steps = torch.zeros_like(self.outcome)

    def close(
        self,
        step: int,
        rows: Rows,
        now: _Working,
        outcome: Tensor,
        share: float,
    ) -> tuple[Rows, _Working]:
        """Write rows that have just finished; drop them if at most `share` go on."""
        finished = now.running & (outcome >= 0)
        if not bool(finished.any()):
            return rows, now
        index = finished.nonzero().flatten()
        done, run = _rows.take(now, index), now.run[index]
        ended = rows.take(index)
        self.final[run] = ended.lift(done.points)
        self.losses[run] = done.evaluation.loss
        best = _rows.choose(done.leading, done.points, done.best)
        self.best[run] = ended.lift(best)
        self.best_loss[run] = done.best_loss
        self.wrong[run[done.found]] = ended.lift(done.wrong)[done.found]
        self.found[run] = done.found
        self.outcome[run] = outcome[index]
        self.steps[run] = step
        if now.broken is not None:  # the step that broke does not count
            self.steps[run] -= now.broken[finished].long() if step else 0
        if now.reference is not None:
            self.residual[run] = _residual(ended, done)
        now = replace(now, running=now.running & ~finished)
        left = now.running.nonzero().flatten()
        if len(left) <= share * len(now.run):
            return rows.take(left), _rows.take(now, left)
        return rows, now

    def ascent(
        self, problem: Problem, spent: int, tape: Tape | None, space: Space
    ) -> Ascent:
        """Put the runs together."""
        restarts, batch = self._shape[:2]

        def shaped(values: Tensor) -> Tensor:
            return values.reshape(restarts, batch, *values.shape[1:])

        best_loss = shaped(self.best_loss)
        winner = best_loss.argmax(0)
        example = torch.arange(batch, device=winner.device)
        found = shaped(self.found)
        first = found.byte().argmax(0)
        wrong = shaped(self.wrong)[first, example]
        return Ascent(
            final=shaped(self.final),
            best=shaped(self.best)[winner, example],
            # -∞ is what best-so-far began with: no iterate had a finite objective.
            best_loss=best_loss.masked_fill(best_loss == -torch.inf, torch.nan)[
                winner, example
            ],
            best_restart=winner,
            losses=shaped(self.losses),
            residual=shaped(self.residual),
            misclassified=found.any(0) if problem.labelled else None,
            misclassified_points=wrong if problem.labelled else None,
            outcome=outcomes(shaped(self.outcome)),
            steps=shaped(self.steps),
            gradient_evaluations=spent,
            trajectory=tape.trajectory() if tape else None,
            space=space,
        )
