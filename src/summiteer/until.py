"""Reasons to stop that look at the objective alone."""

import math
from dataclasses import dataclass

from torch import Tensor

from summiteer.errors import UserError
from summiteer.problem import Evaluation


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
