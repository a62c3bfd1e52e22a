"""Adversarial training: maximise over perturbations, minimise over weights."""

import copy
from os import PathLike
from pathlib import Path

import torch
from torch import Tensor, nn

from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary
from summiteer.errors import UserError
from summiteer.objectives import Objective, default_objective
from summiteer.population import Population
from summiteer.problem import Problem
from summiteer.regions import Region
from summiteer.screen import drawn
from summiteer.starts import GivenStart, Start, UniformStart
from summiteer.training.fitting import EpochProgress, Training
from summiteer.training.monitor import BUDGET, PROBES, Monitor
from summiteer.training.recipe import (
    Mode,
    NamedOptimizer,
    OptimizerFactory,
    Recipe,
    ScheduleFactory,
    TrainOn,
    check_function,
    check_number,
    default_training_attack,
    shown,
    trained,
)
from summiteer.training.result import TrainingResult


def adversarial_training(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    *,
    region: Region,
    objective: Objective | None = None,
    loss: Objective | None = None,
    box: tuple[float, float] | None = None,
    adversary: Adversary | None = None,
    start: Start | None = None,
    max_steps: int = 10,
    mode: Mode = "eval",
    train_on: TrainOn = "final",
    optimizer: str | OptimizerFactory = "sgd",
    learning_rate: float = 0.1,
    schedule: ScheduleFactory | None = None,
    schedule_per: str = "epoch",
    epochs: int = 10,
    batch_size: int = 128,
    held_out: tuple[Tensor, Tensor] | None = None,
    held_out_every: int = 1,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    resume: bool = True,
    monitor: Monitor | None = None,
    watch: float = BUDGET,
    progress: EpochProgress | None = None,
) -> TrainingResult:
    """Minimise over w: mean over i of max over δ_i in region of ℓ(model_w(x_i + δ_i)).

    By alternation (`madry2018towards`): for each batch the adversary ascends the
    objective from the start for `max_steps` steps at the present weights, then the
    optimiser makes one step on the mean loss at the points found. Each epoch takes all
    examples once in an order of its own.

    A copy of the model is trained; the caller's, and torch's random state, are left as
    they were. With the same arguments the result is the same to the last bit on the
    same machine with one thread; also after any interruption, with `checkpoint`.

    Args:
        model: any nn.Module, `[batch, *input]` -> `[batch]` or `[batch, K]`. Trained
            are its parameters that require gradients.
        inputs: `[n, *input]` in the model's dtype, on its device.
        targets: `[n, …]`, as the objective needs them.
        region: the set of allowed perturbations.
        objective: what is ascended; as for `summiteer.attack` if None: CrossEntropy
            for labels, Logistic for ±1, Quadratic else.
        loss: what is minimised; the objective if None.
        box: (lo, hi) in input coordinates, or None.
        adversary: the training attack; PGD with steps of 2.5·radius/max_steps along
            the region's steepest direction if None.
        start: where it begins; one uniform point, another one in every epoch, if None.
        max_steps: of the adversary. 1 with `ConstantStep(1.25·radius)` is the fast
            training of `wong2020fast`; 0 trains on the start: with `CentreStart()` on
            clean examples.
        mode: of the model during the maximisation. "eval": batch norm uses its running
            statistics and dropout is off. "train", as some recipes have it: by the
            batch's own statistics; each pass of the ascent moves the running ones, and
            draws a dropout mask of its own. The minimisation is in train mode always,
            everything that is measured in eval mode, but for the robust loss and
            accuracy on the training examples, which are the minimisation's own.
        train_on: "final": the last iterate, as the published recipes do (of several
            runs the one with the highest objective there); "best": the highest of all
            iterates of all runs.
        optimizer: "sgd" (with momentum 0.9), "adam" or "adamw"; or a function of the
            list of parameters that returns an optimiser of torch, or what has its
            `step`, `zero_grad`, `state_dict`, `load_state_dict` and `param_groups`.
        learning_rate: of an optimiser named; a function knows its own.
        schedule: a function of the optimiser that returns a schedule of
            torch.optim.lr_scheduler; ReduceLROnPlateau is given the robust training
            loss.
        schedule_per: "epoch" or "batch": when the schedule makes a step.
        epochs: how many in all. A larger number later goes on from a checkpoint.
        batch_size: examples of a step; the last batch of an epoch may be smaller.
        held_out: (inputs, targets) that are not trained on, attacked after each epoch
            by AutoPGD with twice as many steps, at least 20, from the centre and a
            random point.
        held_out_every: epochs from one such evaluation to the next; the last epoch is
            always evaluated.
        seed: of the order of examples, the default start, the model's own random
            numbers, the probes.
        checkpoint: a directory, made if it does not exist, in which model, optimiser,
            schedule and curves are kept after each epoch.
        resume: whether to go on from what is there; if not, it must be empty.
        monitor: watches the inner problem in place of the one made by `watch`.
        watch: the share of the training, reckoned in gradient evaluations, that
            watching 64 training examples may take; 0 for none. A small training is
            looked at in few epochs, always after the last one; see `Monitor`.
        progress: called with each `Epoch` when it is done, and when it is resumed.

    Returns:
        `TrainingResult`: the model, its curves, and what there was to be alarmed about.

    Raises:
        UserError: an argument cannot be used, or the directory holds another training.
    """
    trained(model)
    check_number("watch", watch, 0)
    check_function("objective", objective)
    check_function("loss", loss)
    if isinstance(start, GivenStart):
        raise UserError(
            "start: GivenStart has points for given examples, batches change; use "
            "UniformStart(), BoundaryStart() or CentreStart()."
        )
    if not callable(optimizer):
        optimizer = NamedOptimizer(optimizer, learning_rate)
    copied = copied_model(model)
    examples = _population(copied, inputs, targets, objective, region, box)
    ascended = examples.head.objective
    recipe = Recipe(
        adversary=adversary or default_training_attack(region, max_steps),
        start=start or UniformStart(seed=seed),
        loss=loss or ascended,
        optimizer=optimizer,
        schedule=schedule,
        schedule_per=schedule_per,  # type: ignore[arg-type]
        max_steps=max_steps,
        mode=mode,
        train_on=train_on,
        epochs=epochs,
        batch_size=batch_size,
        held_out_every=held_out_every,
        seed=seed,
    )
    others = None
    if held_out is not None:
        others = _held_out(copied, held_out, ascended, region, box)
    training = Training(
        model=copied,
        examples=examples,
        held_out=others,
        recipe=recipe,
        directory=_directory(checkpoint),
        resume=resume,
        monitor=monitor or watcher(examples, recipe, watch),
        share=None if monitor else watch,
    )
    return training.run(progress)


def _directory(checkpoint: str | Path | None) -> Path | None:
    """Where checkpoints are kept; None for nowhere."""
    if checkpoint is None:
        return None
    if not isinstance(checkpoint, str | PathLike):
        raise UserError(
            "checkpoint: expected the path of a directory, got "
            f"{shown(checkpoint)}; leave it out to keep none."
        )
    directory = Path(checkpoint)
    if directory.is_file():
        raise UserError(
            f"checkpoint: expected a directory, {directory} is a file; name another."
        )
    return directory


def copied_model(model: nn.Module) -> nn.Module:
    """A copy that shares nothing with the caller's.

    Args:
        model: the caller's.

    Raises:
        UserError: it cannot be copied.
    """
    try:
        copied = copy.deepcopy(model)
    except Exception as error:
        raise UserError(
            f"model: it cannot be copied ({type(error).__name__}: {error}); give one "
            "that copy.deepcopy takes, before its first forward pass if need be."
        ) from error
    for weight in copied.parameters():
        weight.grad = None
    return copied


def watcher(examples: Population, recipe: Recipe, watch: float) -> Monitor | None:
    """The monitor of a training; None for none.

    Args:
        examples: trained on.
        recipe: how.
        watch: the share of the training that it may take.
    """
    if not watch:
        return None
    return Monitor(
        examples.part(drawn(examples.ids, recipe.seed, PROBES)),
        adversary=recipe.adversary,
        start=recipe.start,
        max_steps=recipe.max_steps,
        probes=PROBES,
        seed=recipe.seed,
    )


def _population(
    model: nn.Module,
    inputs: Tensor,
    targets: Tensor,
    objective: Objective | None,
    region: Region,
    box: tuple[float, float] | None,
) -> Population:
    """The examples of a caller, in memory."""
    from_targets = torch.as_tensor(targets)
    plain = objective or _any_objective
    problem = Problem(model, inputs, from_targets, plain, region, box=box)
    if objective is None:
        with undisturbed(model):
            chosen = default_objective(problem.probe(), problem.targets)
        problem = problem.with_objective(chosen)
    problem.examine(warn=False)
    return Population.of(problem)


def _any_objective(outputs: Tensor, targets: Tensor) -> Tensor:
    """In place of the objective until the outputs are known."""
    return outputs.flatten(1).sum(1)


def _held_out(
    model: nn.Module,
    held_out: tuple[Tensor, Tensor],
    objective: Objective,
    region: Region,
    box: tuple[float, float] | None,
) -> Population:
    """The examples that are not trained on."""
    try:
        inputs, targets = held_out
    except (TypeError, ValueError):
        raise UserError(
            "held_out: expected two tensors (inputs, targets), got "
            f"{type(held_out).__name__}."
        ) from None
    try:
        return _population(model, inputs, targets, objective, region, box)
    except UserError as error:
        raise UserError(f"held_out: {error}") from error
