"""The recipe: everything that determines a training besides model and data."""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import torch
from torch import nn

from summiteer._typing import Model
from summiteer.adversaries import Adversary, named_adversary
from summiteer.cells import JSON
from summiteer.errors import UserError
from summiteer.objectives import Objective
from summiteer.regions import Region
from summiteer.starts import BoundaryStart, JoinedStart, Start, UniformStart

Mode: TypeAlias = Literal["eval", "train"]
TrainOn: TypeAlias = Literal["final", "best"]
#: Parameters that are trained -> an optimiser of torch, or what behaves like one.
OptimizerFactory: TypeAlias = Callable[[list[nn.Parameter]], Any]
#: An optimiser -> a schedule of torch's.
ScheduleFactory: TypeAlias = Callable[[Any], Any]

OPTIMIZERS = ("sgd", "adam", "adamw")
_LEAST = {"max_steps": 0, "epochs": 1, "batch_size": 1, "held_out_every": 1, "seed": 0}
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


@dataclass(frozen=True)
class NamedOptimizer:
    """An optimiser of torch by its name.

    Args:
        name: "sgd", "adam" or "adamw".
        learning_rate: a positive number.
        momentum: of sgd.
        weight_decay: at least 0.
    """

    name: str = "sgd"
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise UserError(
                f"optimizer: expected one of {', '.join(OPTIMIZERS)}, or a function of "
                f"the parameters that returns an optimiser, got {shown(self.name)}; "
                "the weights trained are a copy's, so write lambda weights: "
                "torch.optim.SGD(weights, 0.1)."
            )
        check_number("learning_rate", self.learning_rate, 0, strict=True)
        check_number("momentum", self.momentum, 0)
        check_number("weight_decay", self.weight_decay, 0)

    def __call__(self, parameters: list[nn.Parameter]) -> Any:
        """The optimiser of these parameters."""
        rate, decay = self.learning_rate, self.weight_decay
        if self.name == "sgd":
            return torch.optim.SGD(
                parameters, rate, momentum=self.momentum, weight_decay=decay
            )
        kind = torch.optim.Adam if self.name == "adam" else torch.optim.AdamW
        return kind(parameters, rate, weight_decay=decay)


@dataclass(frozen=True, eq=False, kw_only=True)
class Recipe:
    """See `summiteer.adversarial_training`, whose arguments these are."""

    adversary: Adversary
    start: Start
    loss: Objective
    optimizer: OptimizerFactory
    schedule: ScheduleFactory | None = None
    schedule_per: Literal["epoch", "batch"] = "epoch"
    max_steps: int = 10
    mode: Mode = "eval"
    train_on: TrainOn = "final"
    epochs: int = 10
    batch_size: int = 128
    held_out_every: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        for name, least in _LEAST.items():
            check_integer(name, getattr(self, name), least)
        for name, choices in (
            ("mode", ("eval", "train")),
            ("train_on", ("final", "best")),
            ("schedule_per", ("epoch", "batch")),
        ):
            if getattr(self, name) not in choices:
                raise UserError(
                    f"{name}: expected {' or '.join(map(repr, choices))}, got "
                    f"{getattr(self, name)!r}."
                )
        check_attack(self.adversary, self.start)
        if self.schedule is not None and not callable(self.schedule):
            raise UserError(
                "schedule: expected a function of the optimiser that returns a "
                f"schedule of torch, got {shown(self.schedule)}; write lambda made: "
                "CosineAnnealingLR(made, epochs)."
            )

    def as_json(self) -> dict[str, JSON]:
        """What of it belongs to a training's identity: all but how long it goes on."""
        schedule = None if self.schedule is None else self.schedule_per
        return {
            "adversary": named(self.adversary),
            "start": named(self.start),
            "max_steps": self.max_steps,
            "mode": self.mode,
            "train_on": self.train_on,
            "loss": named(self.loss),
            "schedule_per": schedule,
            "batch_size": self.batch_size,
            "held_out_every": self.held_out_every,
            "seed": self.seed,
        }


def default_training_attack(region: Region, max_steps: int) -> Adversary:
    """PGD as it is trained with: constant steps of 2.5·radius/steps.

    Args:
        region: whose steepest direction is taken (`madry2018towards`).
        max_steps: of each run.
    """
    return named_adversary("pgd", region, max_steps)


def renewed(start: Start, epoch: int) -> Start:
    """The same rule with random points of its own in every epoch.

    Args:
        start: any; one without random points stays.
        epoch: from 0.
    """
    if isinstance(start, JoinedStart):
        return JoinedStart(tuple(renewed(part, epoch) for part in start.parts))
    if isinstance(start, UniformStart | BoundaryStart):
        return replace(start, first=start.first + epoch * start.restarts)
    return start


def named(value: object) -> str:
    """A text that stands for an object in every process."""
    name = getattr(value, "__qualname__", None)
    if name is not None and not isinstance(value, type):
        return f"{getattr(value, '__module__', '')}.{name}"
    return _ADDRESS.sub("", repr(value))


def shown(value: object) -> str:
    """A value in a message: short ones as they are, of others the kind."""
    if isinstance(value, str | int | float):
        return repr(value)
    kind = value if isinstance(value, type) else type(value)
    return f"the class {kind.__name__}" if kind is value else kind.__name__


def check_attack(adversary: object, start: object) -> None:
    """Refuse what is no adversary, or no start."""
    made = not isinstance(adversary, type)
    if not (made and all(hasattr(adversary, name) for name in ("init", "step"))):
        raise UserError(
            "adversary: expected an adversary such as ProjectedAscent(Sign()), got "
            f"{shown(adversary)}; leave it out for PGD."
        )
    if not isinstance(start, Start):
        raise UserError(
            f"start: expected a start such as UniformStart(), got {shown(start)}."
        )


def check_function(name: str, value: object) -> None:
    """Refuse an objective that cannot be called; None is the default one."""
    if value is not None and not callable(value):
        raise UserError(
            f"{name}: expected a function of outputs and targets such as "
            f"CrossEntropy(), got {shown(value)}."
        )


def check_integer(name: str, value: object, least: int) -> None:
    """Refuse what is no integer, or too small."""
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least:  # type: ignore[operator]
        raise UserError(f"{name}: expected an integer ≥ {least}, got {value!r}.")


def check_number(name: str, value: object, least: float, strict: bool = False) -> None:
    """Refuse what is no finite number, or too small."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits = number and least <= value < float("inf")  # type: ignore[operator]
    if not fits or (strict and value == least):
        sign = ">" if strict else "≥"
        raise UserError(f"{name}: expected a number {sign} {least:g}, got {value!r}.")


def trained(model: Model) -> list[nn.Parameter]:
    """The parameters that are trained.

    Raises:
        UserError: there are none.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"model: expected an nn.Module to train, got {type(model).__name__}."
        )
    found: Iterable[nn.Parameter] = model.parameters()
    parameters = [weight for weight in found if weight.requires_grad]
    if not parameters:
        raise UserError(
            "model: it has no parameter that requires a gradient, so there is nothing "
            "to train; unfreeze some: parameter.requires_grad_()."
        )
    return parameters
