"""Directions: what is done with the gradient before a step."""

from dataclasses import dataclass
from typing import ClassVar, Protocol

from torch import Tensor

from summiteer import _rows
from summiteer.problem import Evaluation


class Direction(Protocol):
    """A frozen map from gradients to directions, `[rows, *input]` both.

    One that commutes with rotations of the inputs may say so by a class attribute
    `rotation_invariant = True`; see `summiteer.spaces`. One whose directions depend
    on the point alone, by `memoryless = True`; see `summiteer.recurrence`.
    """

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Return the directions."""


@dataclass(frozen=True)
class RawGradient:
    """g: projected gradient ascent as the paper analyses it."""

    rotation_invariant: ClassVar[bool] = True
    memoryless: ClassVar[bool] = True

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Return the gradients themselves."""
        return evaluation.gradient


@dataclass(frozen=True)
class Normalised:
    """g/‖g‖₂ per row, 0 where g = 0; gradients of 1e-30 are not zero."""

    rotation_invariant: ClassVar[bool] = True
    memoryless: ClassVar[bool] = True

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Return the unit vectors."""
        return _rows.unit(evaluation.gradient, evaluation.norm_and_kind)


@dataclass(frozen=True)
class Sign:
    """sign(g), coordinate by coordinate."""

    memoryless: ClassVar[bool] = True

    def __call__(self, evaluation: Evaluation) -> Tensor:
        """Return the signs."""
        return evaluation.gradient.sign()
