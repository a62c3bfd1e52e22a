"""Beyond one basin: runs that end somewhere else than all the restarts do."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import default_attack
from summiteer.ascent import Ascent
from summiteer.errors import UserError
from summiteer.multi_target import likeliest_rivals
from summiteer.problem import Problem
from summiteer.searching.effort import EFFORTS, Effort
from summiteer.searching.known import Known
from summiteer.searching.runs import made
from summiteer.searching.sources import NAMES, SOURCES, Quest
from summiteer.starts import CentreStart
from summiteer.trajectory import Recorder
from summiteer.until import Misclassified, Until


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
        spent: `[batch]` int64, gradient evaluations.
        ascent: the runs of the problem's own objective, with which it began.
    """

    best: Tensor
    best_loss: Tensor
    misclassified: Tensor | None
    misclassified_points: Tensor | None
    source: Tensor
    runs: Tensor
    spent: Tensor
    ascent: Ascent
    sources: tuple[str, ...] = NAMES

    @property
    def gradient_evaluations(self) -> int:
        """Of all examples together."""
        return int(self.spent.sum())

    def __repr__(self) -> str:
        """Counts, not tensors."""
        parts = [f"mean best loss {float(self.best_loss.mean()):.4g}"]
        if self.misclassified is not None:
            parts.append(f"misclassified {int(self.misclassified.sum())}")
        parts.append(f"{self.gradient_evaluations} gradient evaluations")
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
    problem.examine()
    steps = min(effort.max_steps, max(0, allowed - 1))
    ascent = ascend(
        problem,
        default_attack(problem.feasible, max(1, steps)),
        CentreStart(),
        steps,
        recorder=Recorder(fields=("loss",)),
        until=until,
        tolerance=None,
    )
    known = Known.of(ascent)
    quest = Quest(problem, effort, seed, _ranked(problem), neighbours or _own(problem))
    for number, (name, source) in enumerate(SOURCES.items(), 1):
        turn = 0
        while name not in without:
            open_ = _open(known, until, allowed)
            runs = source(quest, known, open_, turn) if len(open_) else None
            if runs is None:
                break
            runs = runs.within(allowed - known.spent)
            if len(runs.example):
                known = known.after(runs, made(problem, runs, until), number)
            turn += 1
    labelled = problem.labelled
    return Search(
        known.best,
        known.best_loss,
        known.broken if labelled else None,
        known.broken_points if labelled else None,
        known.source,
        known.runs,
        known.spent,
        ascent,
    )


def _effort(effort: str | Effort) -> Effort:
    if isinstance(effort, Effort):
        return effort
    if effort not in EFFORTS:
        raise UserError(f"effort: expected one of {list(EFFORTS)}, got {effort!r}.")
    return EFFORTS[effort]


def _open(known: Known, until: Until | None, allowed: int) -> Tensor:
    """The examples that may still be worked at."""
    left = known.spent < allowed
    if isinstance(until, Misclassified):
        left = left & ~known.broken
    return left.nonzero().flatten()


def _ranked(problem: Problem) -> Tensor | None:
    """The other classes of each example, the likeliest first; None without classes."""
    with undisturbed(problem.model):
        outputs = problem.probe()
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not problem.labelled:
        return None
    return likeliest_rivals(problem, outputs.shape[1] - 1)


def _own(problem: Problem) -> tuple[Tensor, Tensor] | None:
    """The problem's own examples, where they have labels."""
    return (problem.inputs, problem.targets) if problem.labelled else None
