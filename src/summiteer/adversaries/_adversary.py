"""What an adversary is to the ascent loop: a frozen method with a pure step."""

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from summiteer.problem import Evaluation, Rows


@dataclass(frozen=True, eq=False)
class Step:
    """What one step made.

    Attributes:
        points: `[rows, *input]`.
        state: the method's state after the step, a tensor or a dataclass of tensors.
        size: `[rows]` step size used.
        evaluation: at the new points where the step needed it, else None.
        spent: `[rows]` gradient evaluations made inside the step, or None for none.
        stuck: `[rows]` bool, rows that found no step to make; None for none.
        restless: whether a row that this step did not move may be moved by a later
            one: by momentum, by another size.
    """

    points: Tensor
    state: Any
    size: Tensor
    evaluation: Evaluation | None = None
    spent: Tensor | None = None
    stuck: Tensor | None = None
    restless: bool = False


class Adversary(Protocol):
    """A first-order method. The loop owns evaluation, stopping and recording."""

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Any:
        """Return the state before the first step."""

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: Any
    ) -> Step:
        """Return the next points; nothing is changed in place."""
