"""Beyond one basin: runs that end somewhere else than all the restarts do."""

import warnings
from collections import Counter
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.ascent import Ascent
from summiteer.errors import SummiteerWarning, UserError
from summiteer.landscape import Maxima
from summiteer.multi_target import likeliest_rivals
from summiteer.problem import Problem
from summiteer.searching.basins import seen_enough
from summiteer.searching.effort import Effort, effort_of
from summiteer.searching.known import Known, rescue_cost
from summiteer.searching.neighbours import usable_neighbours
from summiteer.searching.quest import Quest
from summiteer.searching.runs import made, method
from summiteer.searching.sources import NAMES, RAISING, SOURCES
from summiteer.starts import CentreStart, GivenStart
from summiteer.trajectory import Recorder
from summiteer.until import Misclassified, Until

#: Runs of an example that are made at once, for the memory that they take.
RUNS_AT_ONCE = 8
#: A budget up to here is spent on one run.
_SMALL = 20
#: What is kept of the budget for the strongest point: where nothing ends the search,
#: and where success does.
_RESERVE = (0.25, 0.09)

#: Why no more maxima of an example were looked for, in order of precedence.
STOPPED = ("broken", "budget", "seen enough", "nothing left to try")
BROKEN, SPENT, ENOUGH, NOTHING = STOPPED


@dataclass(frozen=True, eq=False, repr=False)
class Search:
    """What a search found.

    Attributes:
        best: `[batch, *input]` where the problem's objective is highest.
        best_loss: `[batch]` the objective there.
        misclassified: `[batch]` bool, whether any point met was; None where targets are
            not labels.
        misclassified_points: `[batch, *input]` such a point, NaN where there is none;
            None where targets are not labels.
        source: `[batch]` int64, which of `sources` broke the example, or else found
            `best`.
        runs: `[batch]` int64, how many were made.
        spent: `[batch]` int64, gradient evaluations; at most the budget. A rescue (see
            `ascend`) is charged at the most that it may have cost.
        gradient_evaluations: rows evaluated with gradient, of all examples together:
            those of `spent`, and those that had finished before the loop left them out
            of its batch.
        stopped: `[batch]` why no more maxima of each example were looked for: "broken"
            (it is misclassified); "budget" (a run was not made that it did not pay
            for); "seen enough" (see `Effort.unseen`); "nothing left to try".
        maxima: what the first run (row 0 of `label`) and the random restarts (a row
            each) ended in, and what these restarts leave unseen; see
            `summiteer.searching.basins` for which runs are counted.
        restart_losses: `[1 + restarts, batch]` the highest objective of each of these
            runs, in their order, as many rows as the effort has restarts; NaN where no
            run was made. It never exceeds `best_loss`.
        best_maximum: `[batch]` int64, the number in `maxima` of the one that `best`
            belongs to; -1 where none of these runs ended in it.
        ascent: the runs of the problem's own objective, with which it began.
    """

    best: Tensor
    best_loss: Tensor
    misclassified: Tensor | None
    misclassified_points: Tensor | None
    source: Tensor
    runs: Tensor
    spent: Tensor
    gradient_evaluations: int
    stopped: tuple[str, ...]
    maxima: Maxima
    restart_losses: Tensor
    best_maximum: Tensor
    ascent: Ascent
    sources: tuple[str, ...] = NAMES

    def __repr__(self) -> str:
        """Counts, not tensors."""
        parts = [f"mean best loss {float(self.best_loss.mean()):.4g}"]
        if self.misclassified is not None:
            parts.append(f"misclassified {int(self.misclassified.sum())}")
        parts.append(f"{self.gradient_evaluations} gradient evaluations")
        ended = Counter(self.stopped).most_common()
        parts.append("ended by " + ", ".join(f"{name} {n}" for name, n in ended))
        return f"Search of {len(self.best)} examples: {'; '.join(parts)}"


def search(
    problem: Problem,
    effort: str | Effort = "standard",
    *,
    neighbours: tuple[Tensor, Tensor] | None = None,
    budget: int | None = None,
    seed: int = 0,
    until: Until | None = None,
    without: tuple[str, ...] = (),
) -> Search:
    """Look for the highest maximum of each example within a budget.

    Args:
        problem: what is maximised.
        effort: "standard", "thorough", or an `Effort`.
        neighbours: (inputs, labels) of examples whose classes show the way; the
            problem's own if None.
        budget: gradient evaluations per example; the effort's if None.
        seed: of the random starts.
        until: a reason to leave an example alone; `Misclassified()` in an attack.
        without: sources that are left out, of `sm.search`'s `sources`.

    Returns:
        `Search`. Nothing of the caller's is changed.

    Raises:
        UserError: an argument cannot be used.
    """
    effort = _effort(effort)
    allowed = effort.budget if budget is None else budget
    _check(allowed, until, without)
    problem.examine()  # which asks what mode the caller's model is in
    # Before anything is made: tensors of inference mode could not be written to.
    with undisturbed(problem.model):
        shown = _shown(problem, neighbours)
        ranked, classes = _ranked(problem, effort)
        quest = Quest(problem, effort, allowed, seed, ranked, shown)
        ascent = _first(quest, until)
        known, refused = _looked(
            quest, Known.of(ascent, _steps(quest), classes), until, without
        )
        maxima, best_maximum = known.basins.maxima(problem, known.best)
    labelled = problem.labelled
    return Search(
        known.best,
        known.best_loss,
        known.broken if labelled else None,
        known.broken_points if labelled else None,
        known.source,
        known.runs,
        known.spent,
        known.rows,
        _stopped(known, refused, seen_enough(maxima, effort.unseen)),
        maxima,
        known.basins.losses_of(effort.restarts),
        best_maximum,
        ascent,
    )


def _looked(
    quest: Quest, known: Known, until: Until | None, without: tuple[str, ...]
) -> tuple[Known, Tensor]:
    """What is known when every source was asked; who was refused a run `[batch]`."""
    allowed = quest.budget
    reserve = int(_RESERVE[until is not None] * allowed)
    refused = torch.zeros_like(known.broken)
    for number, (name, source) in enumerate(SOURCES.items(), 1):
        if name in without:
            continue
        turn = 0
        if name != "strongest":  # which is there to leave nothing
            refused |= known.spent >= allowed
        while True:
            open_ = _open(known, until, allowed, name)
            runs = source(quest, known, open_, turn) if len(open_) else None
            if runs is None:
                break
            kept = 0 if name == "strongest" else reserve
            runs, dear = runs.within(allowed - kept - known.spent)
            refused[dear] = True
            for part in runs.parts(RUNS_AT_ONCE):
                still = torch.isin(part.example, _open(known, until, allowed, name))
                part = part.take(still.nonzero().flatten())
                if len(part.example):
                    ends = made(quest.problem, part, until)
                    known = known.after(part, ends, number)
            turn += 1
        if name == "rivals" and quest.rivals is not None:
            quest = replace(quest, rivals=known.nearest_first(quest.rivals))
    return known, refused


def _first(quest: Quest, until: Until | None) -> Ascent:
    """The first run, of the problem's own objective; all of a small budget.

    Most examples break on the way from the centre, before a random point has paid for
    itself.
    """
    problem, steps = quest.problem, _steps(quest)
    everyone = torch.arange(len(problem), device=problem.inputs.device)
    attack = isinstance(until, Misclassified)
    start = CentreStart() if attack else GivenStart(quest.starts(everyone, 0))
    return ascend(
        problem,
        method(steps),
        start,
        steps,
        recorder=Recorder(fields=("loss",)),
        until=until,
        tolerance=None,
        rescue=quest.budget >= rescue_cost(steps) + steps + 1,
    )


def _steps(quest: Quest) -> int:
    """Of the first run."""
    allowed = quest.budget
    share = allowed if allowed <= _SMALL else max(_SMALL // 2, allowed // 10)
    return min(quest.effort.max_steps, share - 1)


def _stopped(known: Known, refused: Tensor, over: Tensor) -> tuple[str, ...]:
    """Why the search of each example ended.

    Args:
        known: of all examples.
        refused: `[batch]` bool, whether a run was not made for its cost.
        over: `[batch]` bool, whether the restarts have seen enough.
    """
    reasons = zip(known.broken.tolist(), refused.tolist(), over.tolist(), strict=True)
    return tuple(
        BROKEN if done else SPENT if poor else ENOUGH if seen else NOTHING
        for done, poor, seen in reasons
    )


def _check(budget: int, until: Until | None, without: tuple[str, ...]) -> None:
    if until is not None and not callable(until):
        raise UserError(
            f"until: expected a reason to stop such as Misclassified(), got {until!r}."
        )
    if not isinstance(budget, int) or isinstance(budget, bool) or budget < 1:
        raise UserError(f"budget: expected an integer ≥ 1, got {budget!r}.")
    unknown = [name for name in without if name not in SOURCES]
    if isinstance(without, str) or unknown:
        raise UserError(
            f"without: expected some of {list(SOURCES)} in a tuple, got {without!r}."
        )


def _effort(effort: str | Effort) -> Effort:
    return effort if isinstance(effort, Effort) else effort_of(effort)


def _open(known: Known, until: Until | None, allowed: int, name: str) -> Tensor:
    """The examples that a source may still work at."""
    left = known.spent < allowed
    if isinstance(until, Misclassified) or name not in RAISING:
        left = left & ~known.broken
    return left.nonzero().flatten()


def _ranked(problem: Problem, effort: Effort) -> tuple[Tensor | None, int]:
    """The rivals of each example, the likeliest first, and K; (None, 0) without."""
    with undisturbed(problem.model):
        outputs = problem.probe()
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not problem.labelled:
        return None, 0
    classes = outputs.shape[1]
    most = classes - 1 if effort.rivals is None else min(effort.rivals, classes - 1)
    return (likeliest_rivals(problem, most), classes) if most else (None, 0)


def _shown(
    problem: Problem, neighbours: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor] | None:
    """The neighbours that were given, checked; else the problem's own labelled ones."""
    if neighbours is None:
        return (problem.inputs, problem.targets) if problem.labelled else None
    try:
        inputs, labels = map(torch.as_tensor, neighbours)
    except (TypeError, ValueError) as error:
        raise UserError(
            "neighbours: expected (inputs [n, *input], labels [n]) as tensors, got "
            f"{type(neighbours).__name__}: {error}."
        ) from error
    known, note = usable_neighbours(problem, inputs, labels)
    if note:
        warnings.warn(note + ".", SummiteerWarning, stacklevel=4)
    return known
