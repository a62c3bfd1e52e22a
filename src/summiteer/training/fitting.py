"""The alternation: maximise over perturbations, minimise over weights."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.cells import JSON, digest
from summiteer.errors import UserError
from summiteer.interruption import check
from summiteer.objectives import check_objective, misclassified, taken
from summiteer.population import Population
from summiteer.problem import Problem
from summiteer.store import Store
from summiteer.training.batches import batches, own_world, reseed
from summiteer.training.checkpoint import (
    Checkpoint,
    latest_checkpoint,
    write_checkpoint,
)
from summiteer.training.evaluation import StrongAttack, Total, strong_figures
from summiteer.training.identity import refuse_other, spec_of
from summiteer.training.inner_problem import last_points
from summiteer.training.monitor import Cadence, Monitor, learning_rate_of
from summiteer.training.recipe import Recipe, renewed, trained
from summiteer.training.record import Epoch, InnerProblem
from summiteer.training.result import TrainingResult

#: Told of each epoch when it is done, of those done before too.
EpochProgress: TypeAlias = Callable[[Epoch], None]


@dataclass(frozen=True, eq=False, kw_only=True)
class Training:
    """A training that is about to begin, or to go on.

    Attributes:
        model: trained in place.
        examples: trained on.
        held_out: evaluated after each epoch, or None.
        recipe: how.
        directory: of the checkpoints, or None for none.
        resume: whether to go on from what is in the directory.
        monitor: watches the inner problem, or None.
        share: of the training that watching may take, to plan when the monitor looks;
            None where it decides by itself.
        names: what else is part of the training's identity, such as MODEL and DATA.
        messages: added to.
    """

    model: nn.Module
    examples: Population
    held_out: Population | None
    recipe: Recipe
    directory: Path | None = None
    resume: bool = True
    monitor: Monitor | None = None
    share: float | None = None
    names: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def run(self, progress: EpochProgress | None = None) -> TrainingResult:
        """Train.

        Args:
            progress: told of each epoch.
        """
        model, weights = self.model, trained(self.model)
        spec = None if self.directory is None else self.spec()
        self._examine()
        with own_world(model):
            optimizer, schedule = self._tools()
            with self._opened(spec) as store:
                records = self._restored(store, optimizer, schedule)
                for record in records if progress else ():
                    progress(record)  # type: ignore[misc]
                stopped = self._epochs(store, optimizer, schedule, records, progress)
        model.eval()
        for weight in weights:
            weight.grad = None
        return TrainingResult(
            model,
            optimizer,
            tuple(records),
            stopped,
            tuple(self.messages),
            "" if spec is None else digest(spec),
            self.directory,
        )

    def spec(self) -> dict[str, JSON]:
        """Everything that determines the weights, but for the number of epochs."""
        trained(self.model)
        with own_world(self.model):
            optimizer, schedule = self._tools()
        parts = (self.recipe, self.model, self.examples, self.held_out)
        return {**self.names, **spec_of(*parts, optimizer, schedule)}

    def _tools(self) -> tuple[Any, Any]:
        """Optimiser and schedule, neither of which has made a step."""
        optimizer = self.recipe.optimizer(trained(self.model))
        if not all(hasattr(optimizer, name) for name in ("step", "zero_grad")):
            raise UserError(
                "optimizer: expected a function of the parameters that returns an "
                f"optimiser, it returned {type(optimizer).__name__}."
            )
        if self.recipe.schedule is None:
            return optimizer, None
        schedule = self.recipe.schedule(optimizer)
        if not hasattr(schedule, "step"):
            raise UserError(
                "schedule: expected a function of the optimiser that returns a "
                f"schedule, it returned {type(schedule).__name__}; leave it out for a "
                "constant learning rate."
            )
        return optimizer, schedule

    def _examine(self) -> None:
        """Say before the start what does not fit."""
        head = self.examples.head
        head.examine(warn=False)
        with undisturbed(self.model):
            outputs = head.probe()
        few = torch.arange(len(outputs))
        targets = head.targets[: len(outputs)]
        try:
            check_objective(taken(self.recipe.loss, few), outputs, targets)
        except UserError as error:
            # The objective was looked at by `examine`: this is the other one.
            said = str(error).replace("objective: ", "loss: ", 1)
            raise UserError(said) from error
        if self.held_out is not None:
            self.held_out.head.examine(warn=False)

    @contextmanager
    def _opened(self, spec: dict[str, JSON] | None) -> Iterator[Store | None]:
        """The directory, for this process alone; None without one."""
        if self.directory is None or spec is None:
            yield None
            return
        refuse_other(self.directory, spec, self.resume)
        with Store.open(self.directory, spec) as store:
            yield store

    def _restored(
        self, store: Store | None, optimizer: Any, schedule: Any
    ) -> list[Epoch]:
        """Put everything where the latest checkpoint left it; the epochs done."""
        if store is None:
            return []
        found = latest_checkpoint(store.directory, store.run, self.messages.append)
        if found is None:
            # What cannot be written is refused now, not after an epoch.
            Checkpoint.of(self.model, optimizer, schedule, ()).as_bytes(store.run)
            return []
        if found.epoch > self.recipe.epochs:
            raise UserError(
                f"epochs: expected at least {found.epoch}, as many as {self.directory} "
                f"has already, got {self.recipe.epochs}."
            )
        found.restore(self.model, optimizer, schedule)
        if self.monitor is not None:
            looks = [record.inner for record in found.records]
            self.monitor.resumed([look for look in looks if look is not None])
        return list(found.records)

    def _epochs(
        self,
        store: Store | None,
        optimizer: Any,
        schedule: Any,
        records: list[Epoch],
        progress: EpochProgress | None,
    ) -> str:
        """Make what is missing; why it ended too early, or ""."""
        recipe = self.recipe
        for number in range(len(records), recipe.epochs):
            try:
                record = self._epoch(number, optimizer, schedule, records)
            except _Diverged as stop:
                whose = ", of no finished epoch" if stop.batch else ""
                return (
                    f"the loss became {stop.value} in epoch {number + 1}, batch "
                    f"{stop.batch + 1} of it; the weights are those before that step"
                    f"{whose}. Use a smaller learning rate."
                )
            check()  # an interrupted step is not to be trusted
            records.append(record)
            if store is not None:
                now = Checkpoint.of(self.model, optimizer, schedule, records)
                write_checkpoint(store.directory, now, store.run)
            if progress:
                progress(record)
        return ""

    def _epoch(
        self, number: int, optimizer: Any, schedule: Any, records: list[Epoch]
    ) -> Epoch:
        """One epoch, counted from 0."""
        recipe, began = self.recipe, time.process_time()
        rate = learning_rate_of(optimizer) or 0.0
        robust, clean, spent = Total(), Total(), 0
        parts = batches(self.examples.ids, recipe.batch_size, recipe.seed, number)
        for place, index in enumerate(parts):
            spent += self._step(index, (number, place), optimizer, (robust, clean))
            if schedule is not None and recipe.schedule_per == "batch":
                schedule.step()
        told = robust.figures()
        if schedule is not None and recipe.schedule_per == "epoch":
            plateau = torch.optim.lr_scheduler.ReduceLROnPlateau
            args = (told.loss,) if isinstance(schedule, plateau) else ()
            schedule.step(*args)
        trained_at = time.process_time()
        held_out = self._held_out(number + 1)
        evaluated_at = time.process_time()
        seconds = trained_at - began
        elsewhere = sum(r.seconds + r.evaluation_seconds for r in records)
        elsewhere += evaluated_at - began
        plain = clean.figures()
        return Epoch(
            epoch=number + 1,
            learning_rate=rate,
            train_robust_loss=told.loss,
            train_robust_accuracy=told.accuracy,
            train_clean_loss=plain.loss,
            train_clean_accuracy=plain.accuracy,
            **held_out,
            gradient_evaluations=spent,
            seconds=seconds,
            evaluation_seconds=evaluated_at - trained_at,
            inner=self._look(number + 1, optimizer, elsewhere),
        )

    def _step(
        self,
        index: Tensor,
        place: tuple[int, int],
        optimizer: Any,
        totals: tuple[Total, Total],
    ) -> int:
        """Maximise, minimise; the gradient evaluations of the first.

        Args:
            index: places of the batch's examples.
            place: number of the epoch and of the batch.
            optimizer: of the weights.
            totals: under attack, clean; added to.
        """
        recipe, model = self.recipe, self.model
        problem = self.examples.part(index).with_model(model)
        device, loss = problem.inputs.device, taken(recipe.loss, index)
        model.train()
        reseed(recipe.seed, *place, 0, device)
        points, spent = maximised(problem, recipe, place[0])
        with undisturbed(model), torch.no_grad():
            clean = model(problem.inputs)
            before = loss(clean, problem.targets)
        reseed(recipe.seed, *place, 1, device)
        optimizer.zero_grad()
        outputs = model(problem.inputs + points)
        values = loss(outputs, problem.targets)
        mean = values.mean()
        if not math.isfinite(float(mean.detach())):
            raise _Diverged(float(mean.detach()), place[1])
        torch.autograd.backward(mean)
        optimizer.step()
        for total, at, losses in zip(
            totals, (outputs, clean), (values, before), strict=True
        ):
            labelled = self.examples.labelled
            total.add(losses, misclassified(at, problem.targets) if labelled else None)
        return spent

    def _held_out(self, number: int) -> dict[str, float | None]:
        """What the stronger attack leaves of the examples held out."""
        recipe, last = self.recipe, number == self.recipe.epochs
        if self.held_out is None or (number % recipe.held_out_every and not last):
            return {}
        attack = StrongAttack.beyond(recipe.max_steps, recipe.start, recipe.seed)
        robust, clean = strong_figures(self.held_out, self.model, attack)
        return {
            "held_out_robust_loss": robust.loss,
            "held_out_robust_accuracy": robust.accuracy,
            "held_out_clean_loss": clean.loss,
            "held_out_clean_accuracy": clean.accuracy,
        }

    def _look(
        self, number: int, optimizer: Any, elsewhere: float
    ) -> InnerProblem | None:
        """The inner problem after an epoch."""
        if self.monitor is None:
            return None
        if self.share is None:
            return self.monitor.epoch(self.model, optimizer)
        recipe, look = self.recipe, self.monitor.look
        # Of one run, and of the minimisation: with more runs watching costs less.
        evaluations = len(self.examples) * (recipe.max_steps + 2)
        cadence = Cadence.planned(
            recipe.epochs, evaluations, look, self.share, self.monitor.size
        )
        probes, examined = cadence.probes_of(number, recipe.epochs)
        return self.monitor.at(self.model, optimizer, probes, examined, elsewhere)


def maximised(problem: Problem, recipe: Recipe, epoch: int) -> tuple[Tensor, int]:
    """The points that a step is trained on, and the gradient evaluations made.

    Args:
        problem: of the batch; its model in the mode that it is trained in.
        recipe: how.
        epoch: from 0.
    """
    if recipe.mode == "train":
        problem = problem.with_model(_as_it_is(problem.model))
    found = ascend(
        problem,
        recipe.adversary,
        renewed(recipe.start, epoch),
        recipe.max_steps,
        tolerance=None,
        after_cycle="continue",
        rescue=False,
    )
    best = recipe.train_on == "best"
    points = found.best if best else last_points(found.losses, found.final)
    return points, found.gradient_evaluations


def _as_it_is(model: Model) -> Model:
    """The model as a plain function, whose modes nobody sees or sets."""
    return lambda inputs: model(inputs)


class _Diverged(Exception):
    """A loss that is not finite."""

    def __init__(self, value: float, batch: int) -> None:
        super().__init__(value)
        self.value, self.batch = value, batch
