"""Ascent with momentum: MI-FGSM and its relatives."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.adversaries._adversary import Step
from summiteer.adversaries.direction import Direction, Sign
from summiteer.adversaries.step_rule import StepRule
from summiteer.errors import UserError
from summiteer.problem import Evaluation, Rows


@dataclass(frozen=True, eq=False)
class _State:
    """What a run carries on.

    Attributes:
        velocity: `[rows, *input]`.
        rule: of the step rule.
    """

    velocity: Tensor
    rule: Any


@dataclass(frozen=True)
class MomentumAscent:
    """u ← decay·u + g/‖g‖₁, δ ← Π_C(δ + size·direction(u)) (`dong2018boosting`).

    MI-FGSM is Sign() with ConstantStep(radius/steps) from the centre; with
    DecayingStep it is sign ascent with decay and momentum. g/‖g‖₁ is 0 where g = 0.
    Departures from the paper: the projection is exact on region ∩ box ∩ mask; the
    best iterate is kept, not the last one only. BacktrackingStep asks for ascent
    directions, which u need not be: such runs stall.

    Args:
        step_rule: ConstantStep, DecayingStep, ….
        direction: of u: Sign, Normalised or RawGradient.
        decay: the paper's μ ≥ 0; 0 leaves the gradient alone.
    """

    step_rule: StepRule
    direction: Direction = field(default_factory=Sign)
    decay: float = 1.0

    def __post_init__(self) -> None:
        if not (isinstance(self.decay, int | float) and 0 <= self.decay < float("inf")):
            raise UserError(f"decay: expected a number ≥ 0, got {self.decay!r}.")

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> _State:
        """No velocity yet."""
        rule = self.step_rule.init(rows, points, evaluation)
        return _State(torch.zeros_like(evaluation.gradient), rule)

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: _State
    ) -> Step:
        """One projected step along the accumulated gradient."""
        velocity = self.decay * state.velocity + _by_sum(evaluation.gradient)
        direction = self.direction(replace(evaluation, gradient=velocity))
        made = self.step_rule.step(rows, points, evaluation, direction, state.rule)
        return replace(made, state=_State(velocity, made.state), restless=True)


def _by_sum(gradients: Tensor) -> Tensor:
    """g/‖g‖₁, 0 where g = 0; by its largest entry first, so that nothing overflows."""
    largest = gradients.abs().flatten(1).amax(1)
    largest = torch.where(largest > 0, largest, 1.0)
    scaled = gradients / _rows.expand(largest, gradients)
    total = scaled.abs().flatten(1).sum(1)
    return scaled / _rows.expand(torch.where(total > 0, total, 1.0), scaled)
