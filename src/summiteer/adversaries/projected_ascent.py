"""Projected gradient ascent: direction × step rule."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from summiteer.adversaries._adversary import Adversary, Step
from summiteer.adversaries.direction import Direction, Normalised, Sign
from summiteer.adversaries.step_rule import BacktrackingStep, StepRule
from summiteer.problem import Evaluation, Rows
from summiteer.reduction import rotation_invariant
from summiteer.regions import Region


@dataclass(frozen=True)
class ProjectedAscent:
    """δ ← Π_C(δ + size · direction(∇ℓ(δ))) (paper, section 2, `deng2020towards`).

    `RawGradient` with `ConstantStep` is the paper's method; `Sign` with `ConstantStep`
    is PGD on the L∞ ball (`madry2018towards`), one step of it FGSM.

    Args:
        direction: RawGradient, Normalised or Sign.
        step_rule: ConstantStep, LipschitzStep, DecayingStep or BacktrackingStep.
    """

    direction: Direction = field(default_factory=Normalised)
    step_rule: StepRule = field(default_factory=BacktrackingStep)

    @property
    def rotation_invariant(self) -> bool:
        """Whether direction and step rule commute with rotations of the inputs."""
        return all(map(rotation_invariant, (self.direction, self.step_rule)))

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Any:
        """The step rule's state."""
        return self.step_rule.init(rows, points, evaluation)

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: Any
    ) -> Step:
        """One projected step."""
        direction = self.direction(evaluation)
        return self.step_rule.step(rows, points, evaluation, direction, state)


def default_adversary(region: Region) -> Adversary:
    """Steepest direction of the region's norm, backtracking from a quarter radius."""
    curved = region.norm in ("l2", "sphere")
    direction = Normalised() if curved else Sign()
    return ProjectedAscent(direction, BacktrackingStep())
