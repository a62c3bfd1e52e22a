"""Runs of one kind: where they begin, towards what, and what they come to."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.utils.checkpoint import CheckpointError

from summiteer import _rows
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary, AutoPGD
from summiteer.ascent import Ascent
from summiteer.objectives import TargetedMargin
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.searching.gates import Ajar
from summiteer.starts import GivenStart
from summiteer.until import Until


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs to be made.

    Attributes:
        example: `[runs]` the index of each one's example in the problem.
        points: `[runs, *input]` where it begins; projected on the feasible region.
        steps: of each.
        rivals: `[runs]` the class that each ascends towards; None for the problem's own
            objective.
        slope: of closed gates in the backward pass; 0 for gradients as they are. Such a
            run is followed by one as long with true gradients, from where it led.
        draw: `[runs]` the number of the random start each began from; None for starts
            that were chosen.
    """

    example: Tensor
    points: Tensor
    steps: int
    rivals: Tensor | None = None
    slope: float = 0.0
    draw: Tensor | None = None

    @property
    def cost(self) -> int:
        """Gradient evaluations of each run."""
        return (self.steps + 1) * (2 if self.slope else 1)

    def within(self, allowed: Tensor) -> tuple["Runs", Tensor]:
        """The first runs of each example that its remaining budget pays for.

        Args:
            allowed: `[batch]` gradient evaluations left.

        Returns:
            Those, and the examples of the others.
        """
        rank = self._rank()
        kept = (rank + 1) * self.cost <= allowed[self.example]
        return self.take(kept.nonzero().flatten()), self.example[~kept]

    def parts(self, most: int) -> Iterator["Runs"]:
        """The runs, in parts of at most so many of any example, in order.

        Args:
            most: runs of an example.
        """
        part = self._rank() // most
        for number in range(int(part.max()) + 1 if len(part) else 0):
            yield self.take((part == number).nonzero().flatten())

    def _rank(self) -> Tensor:
        """The how-manieth of its example each run is, from 0."""
        order = self.example.argsort(stable=True)
        sorted_ = self.example[order]
        first = torch.searchsorted(sorted_, sorted_)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first
        return rank

    def take(self, index: Tensor) -> "Runs":
        """The runs `index`."""
        return replace(
            self,
            example=self.example[index],
            points=self.points[index],
            rivals=None if self.rivals is None else self.rivals[index],
            draw=None if self.draw is None else self.draw[index],
        )


@dataclass(frozen=True, eq=False)
class Ends:
    """What runs came to.

    Attributes:
        example: `[runs]`.
        best: `[runs, *input]` where the objective that the run ascended was highest, or
            its first misclassified point where the problem's own objective is higher.
        loss: `[runs]` the problem's own objective there.
        wrong: `[runs]` bool, whether a point of the run was misclassified.
        wrong_points: `[runs, *input]` that point; NaN where there is none.
        cut: `[runs]` bool, whether the run was ended by `until` or by numbers that are
            not finite, wherever it was then.
        spent: `[runs]` int64, gradient evaluations.
        rows: evaluated with gradient, all together: `spent` and those that had finished
            before their batch was made smaller.
    """

    example: Tensor
    best: Tensor
    loss: Tensor
    wrong: Tensor
    wrong_points: Tensor
    cut: Tensor
    spent: Tensor
    rows: int


def made(problem: Problem, runs: Runs, until: Until | None) -> Ends:
    """Make the runs.

    Args:
        problem: of all examples.
        runs: at least one.
        until: as `ascend`'s.
    """
    some = problem.take(runs.example)
    own = some
    if runs.rivals is not None:
        some = some.with_objective(TargetedMargin(runs.rivals))
    points, spent, rows = runs.points, torch.zeros_like(runs.example), 0
    # The model with open gates is no module, whose mode `ascend` could keep.
    with undisturbed(problem.model):
        if runs.slope:
            ajar = some.with_model(Ajar(problem.model, runs.slope))
            # Checkpoints compute their inside again without the gates, and find that it
            # is not the same: such a model keeps its own gradients.
            with suppress(CheckpointError):
                led = _climb(ajar, points, runs.steps, until)
                points, wrong = led.best, led.misclassified
                if wrong is not None and led.misclassified_points is not None:
                    points = _rows.choose(wrong, led.misclassified_points, points)
                spent, rows = _spent(led), led.gradient_evaluations
        ascent = _climb(some, points, runs.steps, until)
        best, loss, wrong, wrong_points = _judged(own, ascent)
    return Ends(
        runs.example,
        best,
        loss,
        wrong,
        wrong_points,
        cut_short(ascent)[0],
        spent + _spent(ascent),
        rows + ascent.gradient_evaluations,
    )


def method(steps: int) -> Adversary:
    """What all runs of a search climb by: one gradient evaluation per step.

    Args:
        steps: how many are planned.
    """
    return AutoPGD(max(1, steps))


def cut_short(ascent: Ascent) -> Tensor:
    """`[restarts, batch]` bool: `until` or a number that is not finite ended the run.

    Args:
        ascent: of runs.
    """
    codes = ascent.outcome
    cut = (codes == Outcome.SUCCEEDED) | (codes == Outcome.NON_FINITE)
    return torch.from_numpy(np.asarray(cut, dtype=bool)).to(ascent.best.device)


def _climb(problem: Problem, points: Tensor, steps: int, until: Until | None) -> Ascent:
    return ascend(
        problem,
        method(steps),
        GivenStart(points),
        steps,
        until=until,
        tolerance=None,
        rescue=False,
    )


def _spent(ascent: Ascent) -> Tensor:
    """Gradient evaluations of each run: one at the start, one after each step."""
    return ascent.steps[0] + 1


def _judged(own: Problem, ascent: Ascent) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`best`, `loss`, `wrong` and `wrong_points` of `Ends`."""
    rows, best = own.rows(), ascent.best
    value = rows.value(best)
    loss, wrong = value.loss, value.wrong
    wrong_points = _rows.choose(wrong, best, torch.full_like(best, torch.nan))
    claimed, points = ascent.misclassified, ascent.misclassified_points
    index = torch.zeros(0, dtype=torch.int64, device=best.device)
    if claimed is not None:
        index = (claimed & ~wrong).nonzero().flatten()
    if points is None or not len(index):
        return best, loss, wrong, wrong_points
    # Towards a rival the highest point need not be misclassified, an earlier one was.
    there = rows.take(index).value(points[index])
    wrong = wrong.index_copy(0, index, there.wrong)
    broken = index[there.wrong]
    wrong_points = wrong_points.index_copy(0, broken, points[broken])
    higher = there.loss > loss[index]
    place = index[higher]
    best = best.index_copy(0, place, points[place])
    return best, loss.index_copy(0, place, there.loss[higher]), wrong, wrong_points
