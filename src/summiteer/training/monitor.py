"""The inner problem watched from anybody's training loop."""

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary
from summiteer.errors import UserError
from summiteer.objectives import Objective, Quadratic, default_objective
from summiteer.problem import Problem
from summiteer.regions import Region
from summiteer.screen import drawn
from summiteer.starts import Start, UniformStart
from summiteer.training.alarm import alarm_of
from summiteer.training.evaluation import StrongAttack
from summiteer.training.inner_problem import CERTIFICATES, Look
from summiteer.training.recipe import (
    check_attack,
    check_function,
    check_integer,
    check_number,
    default_training_attack,
    shown,
)
from summiteer.training.record import INNER, InnerProblem

#: Examples watched.
PROBES = 64
#: Share of the training's time that watching may take.
BUDGET = 0.05
#: Fewer probes than this say nothing.
_FEWEST = 8
#: Of the budget, for looks without certificates.
_LOOKS = 0.6


@dataclass(frozen=True)
class Cadence:
    """In which epochs how many probes are looked at, counted back from the last epoch.

    Attributes:
        every: epochs from look to look.
        probes: how many are looked at.
        examine_every: epochs from certificates to certificates.
        examined: of how many probes they are made.
    """

    every: int
    probes: int
    examine_every: int
    examined: int

    @classmethod
    def planned(
        cls, epochs: int, evaluations: int, look: Look, share: float, probes: int
    ) -> "Cadence":
        """Looks may take 3/5 of the share, certificates what these leave.

        Reckoned in gradient evaluations, not in seconds, so that it is the same on
        every machine and after every interruption. The last epoch is always looked at,
        with 8 probes at least, whatever that costs; certificates are left out where
        they cannot be paid for 8 points.

        Args:
            epochs: of the training.
            evaluations: gradient evaluations of an epoch of it.
            look: how it is looked.
            share: of the evaluations of the training.
            probes: how many there are.
        """
        budget, each = share * epochs * evaluations, look.evaluations
        times = min(epochs, math.floor(_LOOKS * budget / (probes * each)))
        if times:
            every, watched = math.ceil(epochs / times), probes
        else:
            fewer = math.floor(_LOOKS * budget / each)
            every, watched = epochs, min(probes, max(_FEWEST, fewer))
        left = budget - math.ceil(epochs / every) * watched * each
        more = CERTIFICATES + watched * look.more_evaluations
        times = min(math.ceil(epochs / every), max(0, math.floor(left / more)))
        if times:
            # Certificates are made at a look.
            return cls(
                every, watched, every * math.ceil(epochs / every / times), watched
            )
        examined = math.floor((left - CERTIFICATES) / look.more_evaluations)
        examined = min(examined, watched) if examined >= _FEWEST else 0
        return cls(every, watched, epochs, examined)

    def probes_of(self, epoch: int, epochs: int) -> tuple[int, int]:
        """(how many are looked at, of how many certificates are made).

        Args:
            epoch: from 1.
            epochs: of the training.
        """
        left = epochs - epoch
        if left % self.every:
            return 0, 0
        return self.probes, 0 if left % self.examine_every else self.examined


class Monitor:
    """Watches the inner maximisation of adversarial training on fixed probe examples.

    One line in a loop of one's own, after each epoch:

        record = monitor.epoch(model, optimizer)

    Everything of the caller's is as it was afterwards: weights, gradients, train/eval
    mode, random state. The model is looked at in eval mode.

    Without `every` it looks when `budget` allows it: it keeps an account of the
    process's time, of which that share of all time spent elsewhere since it was made is
    credited. The first epoch is always looked at, on credit; certificates wait until
    they can be paid. Which epochs are looked at then depends on the machine's speed;
    what is seen does not.

    Args:
        inputs: `[n, *input]` training examples, of which `probes` are drawn by the
            seed; or a `Problem`, whose examples they are and whose other arguments
            hold.
        targets: `[n, …]` of the inputs.
        region: the set of allowed perturbations.
        objective: what is ascended; that of `summiteer.attack` if None.
        box: (lo, hi) in input coordinates, or None.
        adversary: the training attack; PGD with steps of 2.5·radius/max_steps if None.
        start: of the training attack; one uniform point if None.
        max_steps: of the training attack. The stronger attack has twice as many, at
            least 20, from the centre and a random point.
        probes: how many examples are watched.
        seed: of the choice of probes and of the stronger attack's starts.
        budget: the share of the training's time that watching may take; no less than
            what the first look costs.
        every: look, and make certificates, in every so many epochs, whatever it costs.

    Raises:
        UserError: an argument cannot be used.
    """

    def __init__(
        self,
        inputs: Tensor | Problem,
        targets: Tensor | None = None,
        *,
        region: Region | None = None,
        objective: Objective | None = None,
        box: tuple[float, float] | None = None,
        adversary: Adversary | None = None,
        start: Start | None = None,
        max_steps: int = 10,
        probes: int = PROBES,
        seed: int = 0,
        budget: float = BUDGET,
        every: int | None = None,
    ) -> None:
        check_integer("probes", probes, 1)
        check_integer("seed", seed, 0)
        check_integer("max_steps", max_steps, 0)
        check_integer("every", 1 if every is None else every, 1)
        check_number("budget", budget, 0, strict=True)
        check_function("objective", objective)
        self._objective, self._every, self._budget = objective, every, budget
        self._problem = _probes(inputs, targets, region, objective, box, (probes, seed))
        if isinstance(inputs, Problem):
            self._objective = inputs.objective
        ball = self._problem.region
        adversary = adversary or default_training_attack(ball, max_steps)
        start = start or UniformStart(seed=seed)
        check_attack(adversary, start)
        strong = StrongAttack.beyond(max_steps, start, seed)
        self.look = Look(adversary, start, max_steps, strong)
        self._records: list[InnerProblem] = []
        self._credit, self._spent, self._elsewhere = 0.0, 0.0, 0.0
        self._price = 0.0
        self._left = time.process_time()

    @property
    def size(self) -> int:
        """How many examples are watched."""
        return len(self._problem)

    @property
    def records(self) -> tuple[InnerProblem, ...]:
        """One per epoch, with `probes=0` where the budget did not allow a look."""
        return tuple(self._records)

    @property
    def alarms(self) -> tuple[str, ...]:
        """All that it was alarmed about."""
        return tuple(look.alarm for look in self._records if look.alarm)

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """Name -> `[epochs]` float64, NaN where nothing was measured."""
        return {
            name: as_curve([getattr(look, name) for look in self._records])
            for name in ("learning_rate", *INNER)
        }

    def epoch(
        self,
        model: nn.Module,
        optimizer: Any = None,
        *,
        examine: bool | None = None,
    ) -> InnerProblem:
        """Look at the inner problem after an epoch, if it is time to.

        Args:
            model: at its present weights.
            optimizer: its learning rate is noted; may be left out.
            examine: True to look and make certificates of all probes, False to make
                none; by the budget if None.

        Returns:
            The record; also kept in `records`.

        Raises:
            UserError: the model does not fit the probes.
        """
        if not callable(model):
            raise UserError(
                f"model: expected the nn.Module that is trained, got {shown(model)}."
            )
        elapsed = time.process_time() - self._left
        self._elsewhere += elapsed
        self._credit += self._budget * elapsed
        size = len(self._problem)
        number = len(self._records) + 1
        if self._every is not None:
            due = number % self._every == 0
            probes, examined = size * due, size * (due and examine is not False)
        else:
            probes, examined = self._affordable(number, examine)
        if examine:
            probes = examined = size
        reason = "" if probes else self._why_not()
        record = self.at(model, optimizer, probes, examined, left_out=reason)
        self._credit -= record.seconds
        if record.probes:
            parts = record.probes * self.look.evaluations
            certified = record.examined * self.look.more_evaluations
            certified += CERTIFICATES * bool(record.examined)
            share = parts / (parts + certified)
            self._price = record.seconds * share * size / record.probes
        self._left = time.process_time()
        return record

    def _affordable(self, number: int, examine: bool | None) -> tuple[int, int]:
        """How many probes to look at, and of how many to make certificates."""
        size = len(self._problem)
        if number == 1:
            return size, 0
        if self._credit < self._price:
            return 0, 0
        # What a certificate costs beside a look is reckoned as when plans are made.
        more = CERTIFICATES / size + self.look.more_evaluations
        whole = self._price * (1 + more / self.look.evaluations)
        return size, size * (examine is not False and self._credit >= whole)

    def _why_not(self) -> str:
        """Why an epoch is not looked at."""
        if self._every is not None:
            return f"one epoch in {self._every} is"
        share = self._spent / self._elsewhere if self._elsewhere > 0 else math.inf
        return (
            f"watching so far took {share:.3g} times everything else, of which the "
            f"budget is {self._budget:g}; the next look comes when it can be paid"
        )

    def at(
        self,
        model: nn.Module,
        optimizer: Any,
        probes: int,
        examined: int,
        elsewhere: float | None = None,
        left_out: str = "",
    ) -> InnerProblem:
        """Look now, and keep the record.

        Args:
            model: at its present weights.
            optimizer: with its learning rate, or None.
            probes: how many to look at, 0 for none.
            examined: of how many of them to make certificates.
            elsewhere: seconds spent on everything else so far; measured if None.
            left_out: why not, if it does not look.
        """
        number = len(self._records) + 1
        record = InnerProblem(epoch=number, left_out=left_out)
        if probes:
            problem = self._fitted(model)
            if probes < len(problem):
                problem = problem.take(torch.arange(probes))
            record = self.look(problem, model, number, examined)
        self._spent += record.seconds
        other = self._elsewhere if elsewhere is None else elsewhere
        record = replace(
            record,
            learning_rate=learning_rate_of(optimizer),
            alarm=alarm_of(self._records, record),
            cost=self._spent / other if other > 0 else None,
        )
        self._records.append(record)
        return record

    def resumed(self, records: list[InnerProblem]) -> None:
        """Go on after what was recorded before.

        Args:
            records: of the epochs so far.
        """
        self._records = list(records)
        self._spent = sum(record.seconds for record in records)

    def _fitted(self, model: nn.Module) -> Problem:
        """The probes' problem, checked against the model once."""
        problem = self._problem.with_model(model)
        if self._objective is None:
            with undisturbed(model):
                self._objective = default_objective(problem.probe(), problem.targets)
            problem = problem.with_objective(self._objective)
        problem.examine(warn=False)
        self._problem = problem
        return problem


def learning_rate_of(optimizer: Any) -> float | None:
    """That of the first group of an optimiser's parameters.

    Args:
        optimizer: of torch, or None.
    """
    groups = getattr(optimizer, "param_groups", None)
    return float(groups[0]["lr"]) if groups and "lr" in groups[0] else None


def as_curve(values: list[float | None]) -> np.ndarray:
    """Float64, NaN for None.

    Args:
        values: one per epoch.
    """
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _probes(
    inputs: Tensor | Problem,
    targets: Tensor | None,
    region: Region | None,
    objective: Objective | None,
    box: tuple[float, float] | None,
    drawing: tuple[int, int],
) -> Problem:
    """The problem of the probes, its model to come."""
    size, seed = drawing
    if isinstance(inputs, Problem):
        if targets is not None or region is not None or objective is not None:
            raise UserError(
                "inputs: a Problem has its own targets, region and objective; leave "
                "these out."
            )
        ids = torch.as_tensor(inputs.ids)
        return inputs.take(drawn(ids, seed, size))
    if targets is None or not isinstance(region, Region):
        raise UserError(
            "Monitor: expected a Problem, or inputs and targets with a region such as "
            "region=LinfBall(8/255)."
        )
    every = torch.as_tensor(inputs)
    index = drawn(torch.arange(len(every)), seed, size)
    # The radius may differ from example to example: it is bound to all of them first.
    some = region.bind(every).take(index) if _varies(region) else region
    return Problem(
        _absent,
        every[index],
        torch.as_tensor(targets)[index],
        objective or Quadratic(),
        some,
        box=box,
        ids=index,
    )


def _varies(region: Region) -> bool:
    size = region.size
    return isinstance(size, Tensor) and size.ndim > 0


def _absent(inputs: Tensor) -> Tensor:
    """In place of the model, until there is one."""
    raise UserError("model: there is none before the first epoch.")
