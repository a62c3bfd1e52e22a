"""Projected gradient ascent: direction × step rule."""

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from summiteer.adversaries._adversary import Adversary, Step
from summiteer.adversaries.auto_pgd import AutoPGD
from summiteer.adversaries.direction import Direction, Normalised, Sign
from summiteer.adversaries.step_rule import BacktrackingStep, StepRule
from summiteer.problem import Evaluation, Rows
from summiteer.recurrence import memoryless
from summiteer.regions import Region
from summiteer.spaces import rotation_invariant


@dataclass(frozen=True)
class ProjectedAscent:
    """δ ← Π_C(δ + size · direction(∇ℓ(δ))) (paper, section 2, `deng2020towards`).

    `RawGradient` with `ConstantStep` is the paper's method. Others are settings, run
    from `CentreStart()` by `ascend(problem, …, max_steps=T)`, with ε the radius:

    - FGSM (`goodfellow2015explaining`): `ProjectedAscent(Sign(), ConstantStep(ε))`,
      T = 1.
    - BIM (`kurakin2017adversarial`): `ProjectedAscent(Sign(), ConstantStep(ε/T))`,
      often with ε/10.
    - PGD (`madry2018towards`): the same from `UniformStart()`.

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

    @property
    def memoryless(self) -> bool:
        """Whether a step depends on the point alone, so that iterates may cycle."""
        return all(map(memoryless, (self.direction, self.step_rule)))

    def shrunk(self, state: Any, which: Tensor) -> Any:
        """The state with half the step size for the rows `which` `[rows]` bool.

        None where the step rule has no size that stays.
        """
        shrunk = getattr(self.step_rule, "shrunk", None)
        return None if shrunk is None else shrunk(state, which)

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
    """Backtracking from a quarter radius along the `steepest` direction."""
    return ProjectedAscent(steepest(region), BacktrackingStep())


def steepest(region: Region) -> Direction:
    """The direction that suits a region.

    sign(g) on boxes, g/‖g‖₂ on round regions and on the L1 ball: its own steepest
    direction moves one coordinate, where the exact projection of a Euclidean step
    chooses how many.
    """
    return Sign() if region.boxed else Normalised()


def default_attack(region: Region, steps: int) -> Adversary:
    """`AutoPGD` where it is defined, else `default_adversary`.

    Args:
        region: of the problem; only its norm is asked.
        steps: how many are planned.
    """
    if region.norm in ("l1", "l2", "linf", "box"):
        return AutoPGD(steps)
    return default_adversary(region)
