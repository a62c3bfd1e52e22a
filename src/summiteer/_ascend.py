"""The ascent loop: the only one."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary, default_adversary
from summiteer.ascent import SPACES, Ascent, Space
from summiteer.errors import UserError
from summiteer.loop.rescue import rescued
from summiteer.loop.results import Results
from summiteer.loop.saturation import saturated
from summiteer.loop.working import (
    Working,
    begin,
    keep_first_wrong,
    move,
    move_to_best,
    residual,
)
from summiteer.outcome import Outcome
from summiteer.problem import Problem, Rows
from summiteer.spaces import Chosen, choose
from summiteer.starts import CentreStart, Start, UniformStart
from summiteer.trajectory import Recorder, Tape
from summiteer.until import Misclassified, Until

AfterCycle: TypeAlias = Literal["stop", "refine", "continue"]
AFTER_CYCLE = get_args(AfterCycle)

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


def ascend(
    problem: Problem,
    adversary: Adversary | None = None,
    start: Start | None = None,
    max_steps: int = 500,
    recorder: Recorder | None = None,
    until: Until | None = None,
    tolerance: float | None = -1.0,
    space: Space = "auto",
    patience: int | None = None,
    after_cycle: AfterCycle = "stop",
    rescue: bool = True,
) -> Ascent:
    """Run a first-order adversary on every example from every start.

    Each run stops by itself: when its residual (mathematics.md §3) is at most
    `tolerance` and not only because the loss is saturated (see `loop.saturation`),
    when `until` is met, when its step no longer moves it, when its iterates repeat,
    when a number is not finite. Finished runs leave the batch, so cost follows the work
    left. The point made by the last step is evaluated too.

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
        patience: a run whose best objective has not risen beyond rounding
            (`tolerances.SAME_LOSS`) for so many steps has STALLED; None to wait for
            ever. Normalised steps of constant size circle a maximum inside an L2 ball
            and repeat exactly late or never, as do methods with a memory. `residual` at
            `final` says how far from stationary such a run was stopped.
        after_cycle: what follows where the iterates of a method without memory repeat
            exactly. "stop", as the published methods would for ever do the same: the
            run ends as CYCLE. "refine": it goes on from its best point with half the
            step size, again and again (for step rules that have a size); an attack
            should. "continue": nothing is looked for, and `final` is what a published
            method returns, whichever member its last step happened to meet.
        rescue: make runs that end where the gradient is exactly zero, and those of
            models whose outputs drown in a common offset, again in float64, and if need
            be with the margin as objective; see `summiteer.loop.rescue`.

    Returns:
        `Ascent`. Nothing of the caller's is changed.

    Raises:
        UserError: model, objective or start do not fit the problem, or the space
            cannot be had.
    """
    _check(problem, max_steps, until, space, patience, after_cycle)
    if tolerance is not None and tolerance < 0:
        tolerance = tolerances.stationary(problem.inputs.dtype)
    torch.empty(_KEEP_MEMORY, dtype=torch.uint8)
    problem.examine()
    adversary = adversary or default_adversary(problem.feasible)
    with undisturbed(problem.model):
        points = (start or default_start()).points(problem)
        runs = len(points) * len(problem)
        if recorder is not None:
            size = problem.inputs[0].numel()
            recorder = replace(recorder, every=recorder.stride(max_steps, runs, size))
        methods = [adversary] if until is None else [adversary, until]
        chosen = choose(problem, methods, runs, max_steps, space)
        plan = _Plan(
            adversary, max_steps, recorder, until, tolerance, patience, after_cycle
        )
        ascent = plan.climb(problem, points, chosen)
        if ascent.space != "input":
            ascent, doubtful = ascent.confirmed(problem)
            if len(doubtful):
                # The step that rounding decided may have ended them: others decide.
                again = plan.climb(problem.take(doubtful), points[:, doubtful])
                ascent = ascent.with_examples(doubtful, again)
        if rescue and max_steps:
            silent = replace(plan, recorder=None)
            custom = not isinstance(until, Misclassified | None)
            ascent = rescued(problem, ascent, points, silent.climb, custom)
        return ascent


def _check(
    problem: Problem,
    max_steps: int,
    until: Until | None,
    space: str,
    patience: int | None,
    after_cycle: str,
) -> None:
    if space not in SPACES:
        raise UserError(f"space: expected one of {list(SPACES)}, got {space!r}.")
    if after_cycle not in AFTER_CYCLE:
        raise UserError(
            f"after_cycle: expected one of {list(AFTER_CYCLE)}, got {after_cycle!r}."
        )
    if not (isinstance(max_steps, int) and max_steps >= 0):
        raise UserError(f"max_steps: expected an integer ≥ 0, got {max_steps!r}.")
    if patience is not None and not (isinstance(patience, int) and patience >= 1):
        raise UserError(f"patience: expected an integer ≥ 1 or None, got {patience!r}.")
    if isinstance(until, Misclassified) and not problem.labelled:
        raise UserError(
            "until: Misclassified() needs labels (integers, or ±1 for one output); "
            f"the targets are {problem.targets.dtype} values."
        )


@dataclass(frozen=True)
class _Plan:
    """What all runs of one ascent have in common; see `ascend`."""

    adversary: Adversary
    max_steps: int
    recorder: Recorder | None
    until: Until | None
    tolerance: float | None
    patience: int | None
    after_cycle: AfterCycle

    def climb(
        self, problem: Problem, points: Tensor, space: Chosen | None = None
    ) -> Ascent:
        """The loop itself, from `points` `[restarts, batch, *input]`."""
        adversary, recorder, max_steps = self.adversary, self.recorder, self.max_steps
        measured = self.tolerance is not None or (
            recorder is not None and recorder.measures
        )
        rows, now, spent = begin(
            problem, adversary, points, measured, self.patience, space
        )
        if self.after_cycle == "continue":
            now = replace(now, recurrence=None)
        batch = len(problem)
        tape = Tape(recorder, max_steps, points) if recorder else None
        results = Results(points, now.evaluation.loss.dtype)
        share, before = 1.0, now
        for step in range(max_steps + 1):
            if tape is not None and tape.wants(step):
                _record(tape, step, rows, now, before)
            keep_first_wrong(now)
            results.keep_period(now)
            if self.after_cycle == "refine" and now.period is not None:
                now, extra = _refined(
                    adversary, rows, now, now.period, step, step == max_steps
                )
                spent += extra
            outcome = _judge(rows, now, self.until, self.tolerance, batch)
            if step == max_steps:
                outcome = _at_limit(now, outcome)
            if outcome is not None:
                rows, now = results.close(step, rows, now, outcome, share)
            if step == max_steps or not len(now.run):
                break
            before = now
            made = adversary.step(rows, now.points, now.evaluation, now.state)
            evaluation = made.evaluation or rows.evaluate(made.points)
            spent += len(now.run) if made.spent is None else int(made.spent.sum())
            share = _COMPACT if made.spent is None else 1.0
            watched = step % _WATCH == 0 or (tape is not None and tape.wants(step + 1))
            now = move(rows, now, made, evaluation, step + 1, watched)
        return results.ascent(problem, spent, tape, space.name if space else "input")


def default_start() -> Start:
    """The centre and four uniform points, seed 0."""
    return CentreStart() + UniformStart(restarts=4)


def _near(rows: Rows, now: Working, tolerance: float) -> Tensor | None:
    """The residual of rows that may be stationary, of others a lower bound.

    None if no row can be stationary.
    """
    floor = rows.residual_floor(now.points, now.evaluation, now.reference)
    # NaN compares false: rows that are not finite are looked at exactly.
    if float(floor.min()) > tolerance:
        return None
    index = (~(floor > tolerance)).nonzero().flatten()
    near = replace(now, state=None, best=None, wrong=None)
    exact = residual(rows.take(index), _rows.take(near, index))
    return floor.index_copy(0, index, exact)


def _record(tape: Tape, step: int, rows: Rows, now: Working, before: Working) -> None:
    """Write what is asked for, and compute nothing else.

    Args:
        tape: to write on.
        step: number of the step made last.
        rows: the problem at these rows.
        now: after the step.
        before: the same rows before it.
    """
    running = now.running
    if now.broken is not None:  # its last step led nowhere
        running = running & ~now.broken
    known: dict[str, Callable[[], Tensor]] = {
        "loss": lambda: now.evaluation.loss,
        "residual": lambda: residual(rows, now),
        "norm": lambda: rows.length(now.points),
        "step_size": lambda: now.size,
        "displacement": lambda: now.displacement,
        "gap": lambda: _gap(rows, now),
        "rise": lambda: now.evaluation.loss - before.evaluation.loss,
        "gradient_norm": lambda: now.evaluation.gradient_norm,
        "gradient_change": lambda: _turn(rows, now, before),
        "point": lambda: rows.lift(now.points),
    }
    values = {name: known[name]()[running] for name in tape.fields}
    tape.write(step, now.run[running], **values)


def _gap(rows: Rows, now: Working) -> Tensor:
    """The Frank-Wolfe gap `[rows]`: the maximum of gᵀ(v - δ) over the region."""
    gradient = rows.lift_gradient(now.evaluation.gradient)
    return rows.region.gap(rows.lift(now.points), gradient)


def _turn(rows: Rows, now: Working, before: Working) -> Tensor:
    """‖∇ℓ(δ_t) - ∇ℓ(δ_(t-1))‖ `[rows]`."""
    gradients = (each.evaluation.gradient for each in (now, before))
    after, earlier = (rows.lift_gradient(gradient) for gradient in gradients)
    return _rows.norm(after - earlier)


def _judge(
    rows: Rows,
    now: Working,
    until: Until | None,
    tolerance: float | None,
    batch: int,
) -> Tensor | None:
    """The code of each row's `Outcome`, -1 where it goes on; None if all go on."""
    measure = None if tolerance is None else _near(rows, now, tolerance)
    norms, usual = now.evaluation.norm_and_kind
    if tolerance is None and not usual and not _rows.all_finite(norms):
        # The loss may not know of a coordinate that the next step would make NaN.
        lost = ~norms.isfinite()
        now = replace(now, broken=lost if now.broken is None else now.broken | lost)
    reasons = (measure, until, now.period, now.stalled, now.broken)
    if all(reason is None for reason in reasons):
        return None
    outcome = torch.full_like(now.run, _RUNNING)
    if now.period is not None:
        outcome = outcome.masked_fill(now.period > 0, Outcome.CYCLE.code)
    if now.stalled is not None:
        outcome = outcome.masked_fill(now.stalled, Outcome.STALLED.code)
    if measure is not None and tolerance is not None:
        still = measure <= tolerance
        if bool(still.any()):
            # No step up could be found: then saturation does not matter.
            stalled = torch.zeros_like(still) if now.stalled is None else now.stalled
            still = still & (stalled | ~saturated(rows, now.points, now.evaluation))
        outcome = outcome.masked_fill(still, Outcome.STATIONARY.code)
        outcome = outcome.masked_fill(_zero(now, measure), Outcome.ZERO_GRADIENT.code)
        outcome = outcome.masked_fill(~measure.isfinite(), Outcome.NON_FINITE.code)
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


def _refined(
    adversary: Adversary,
    rows: Rows,
    now: Working,
    period: Tensor,
    step: int,
    last: bool,
) -> tuple[Working, int]:
    """Let rows that cycle go on from their best points with smaller steps."""
    which = (period > 0) & now.running
    if now.stalled is not None:  # out of patience
        which = which & ~now.stalled
    shrunk = getattr(adversary, "shrunk", None)
    state = shrunk(now.state, which) if shrunk and bool(which.any()) else None
    if state is None:
        return now, 0
    if last:  # the limit ended it, not the cycle, which may be one of smaller steps
        return replace(now, period=None), 0
    return move_to_best(rows, now, which, state, step)


def _at_limit(now: Working, outcome: Tensor | None) -> Tensor:
    """What is still running has met its step limit."""
    limit = torch.full_like(now.run, Outcome.STEP_LIMIT.code)
    return limit if outcome is None else torch.where(outcome < 0, limit, outcome)


def _zero(now: Working, measure: Tensor) -> Tensor:
    """Rows whose gradient is exactly zero here and at both reference points."""
    flat = measure == 0
    if bool(flat.any()):
        largest = now.reference.reshape(len(flat), -1).amax(1)
        flat = flat & (largest == 0) & (now.evaluation.gradient_norm == 0)
    return flat
