"""The stronger attack, and what it leaves of the examples that were held out."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.adversaries import default_attack
from summiteer.ascent import Ascent
from summiteer.population import Population
from summiteer.problem import Problem
from summiteer.starts import CentreStart, JoinedStart, Start, UniformStart

#: Steps of the stronger attack: this many, or `_MORE` times the training attack's.
_LEAST_STEPS, _MORE = 20, 2
_AT_ONCE = 512


@dataclass(frozen=True)
class Figures:
    """Means over examples.

    Attributes:
        loss: of the objective, where it is finite; None where it is nowhere.
        accuracy: share that is right, NaN losses counting as errors; None without
            labels.
    """

    loss: float | None
    accuracy: float | None


@dataclass(frozen=True)
class StrongAttack:
    """AutoPGD with more steps than the training attack, from the centre and at random.

    Where AutoPGD is not defined, backtracking ascent takes its place.

    Args:
        max_steps: of each run.
        restarts: runs from random points besides the one from the centre.
        seed: of these.
    """

    max_steps: int
    restarts: int = 1
    seed: int = 0

    @classmethod
    def beyond(cls, max_steps: int, start: Start, seed: int = 0) -> "StrongAttack":
        """The one that a training attack is measured by: more steps, no fewer runs.

        Args:
            max_steps: of the training attack.
            start: of the training attack.
            seed: of the random starts.
        """
        return cls(max(_LEAST_STEPS, _MORE * max_steps), _runs(start), seed)

    @property
    def evaluations(self) -> int:
        """Gradient evaluations per example, at most, rescues aside."""
        return (1 + self.restarts) * (self.max_steps + 1)

    def __call__(self, problem: Problem, start: Start | None = None) -> Ascent:
        """Run it.

        Args:
            problem: of the examples.
            start: in place of its own.
        """
        if start is None:
            start = CentreStart() + UniformStart(restarts=self.restarts, seed=self.seed)
        adversary = default_attack(problem.feasible, self.max_steps)
        return ascend(problem, adversary, start, self.max_steps, tolerance=None)


def _runs(start: Start) -> int:
    """How many runs it starts, at least one."""
    if isinstance(start, JoinedStart):
        return sum(map(_runs, start.parts))
    return int(getattr(start, "restarts", 1))


def blocks(population: Population, model: Model) -> Iterator[Problem]:
    """The examples, some at a time.

    Args:
        population: all of them.
        model: in place of the population's.
    """
    for index in torch.split(torch.arange(len(population)), _AT_ONCE):
        yield population.part(index).with_model(model)


def strong_figures(
    population: Population, model: Model, attack: StrongAttack
) -> tuple[Figures, Figures]:
    """(under attack, clean): of all examples, the model in eval mode.

    Args:
        population: the examples.
        model: whose problem it is.
        attack: the stronger one.
    """
    robust, clean = Total(), Total()
    for problem in blocks(population, model):
        found = attack(problem)
        robust.add(found.best_loss, found.misclassified)
        with undisturbed(model):
            here = problem.rows().value(torch.zeros_like(problem.inputs))
        clean.add(here.loss, here.wrong if problem.labelled else None)
    return robust.figures(), clean.figures()


class Total:
    """A running mean of losses and errors, summed in float64 in the order they come.

    Losses that are not finite are left out of the mean; a NaN is evidence of nothing,
    least of all of a right answer, and counts as an error.
    """

    def __init__(self) -> None:
        self._loss, self._finite, self._wrong, self._count = 0.0, 0, 0, 0
        self._labelled = True

    def add(self, losses: Tensor, wrong: Tensor | None) -> None:
        """Add examples.

        Args:
            losses: `[rows]`.
            wrong: `[rows]` bool, or None without labels.
        """
        losses = losses.detach().double()
        known = losses.isfinite()
        self._loss += float(losses[known].sum())
        self._finite += int(known.sum())
        self._count += len(losses)
        if wrong is None:
            self._labelled = False
        else:
            self._wrong += int((wrong | losses.isnan()).sum())

    def figures(self) -> Figures:
        """The means."""
        accuracy = 1 - self._wrong / self._count if self._labelled else None
        loss = self._loss / self._finite if self._finite else None
        return Figures(loss, accuracy)
