"""Reasons to stop besides stationarity."""

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from summiteer.errors import UserError
from summiteer.problem import Evaluation


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


@dataclass(frozen=True)
class Reached:
    """Stop an example, all its restarts, once the objective is at least `level`.

    A targeted attack that succeeds when the model says t ascends
    `TargetedMargin(t, over="all")` until `Reached(0.0)`; it has succeeded where
    `ascent.best_loss >= 0`, at `ascent.best`.

    Args:
        level: in units of the objective.
    """

    level: float

    def __post_init__(self) -> None:
        number = isinstance(self.level, int | float) and not math.isnan(self.level)
        if not number or isinstance(self.level, bool):
            raise UserError(f"level: expected a number, got {self.level!r}.")

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """`[rows]` bool; NaN is never enough."""
        return evaluation.loss >= self.level
