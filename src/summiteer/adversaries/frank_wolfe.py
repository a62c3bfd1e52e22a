"""Frank-Wolfe: steps towards the maximiser of the local linear model; its gap."""

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from summiteer import _rows
from summiteer._caller import undisturbed
from summiteer.adversaries._adversary import Step
from summiteer.adversaries.step_rule import StepRule, check_positive, search
from summiteer.errors import UserError
from summiteer.problem import Evaluation, Problem, Rows
from summiteer.spaces import rotation_invariant


@dataclass(frozen=True)
class OpenLoopStep:
    """γ_t = 2/(t + 2), t = 0, 1, … (`freund2016new`).

    The first step is a full one. It asks for no evaluation besides the loop's own, and
    the loss need not rise at every step.
    """

    rotation_invariant: ClassVar[bool] = True

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
        """The step number `[rows]`."""
        return torch.zeros_like(evaluation.loss)

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Tensor,
    ) -> Step:
        """See `StepRule.step`."""
        size = 2.0 / (state + 2.0)
        return Step(rows.advance(points, direction, size), state + 1, size)


@dataclass(frozen=True)
class ShortStep:
    """γ = min(1, G/(M‖d‖²)), d = v - δ, with a backtracked curvature M.

    Each step begins with `ease`·M of the last one and doubles M until the quadratic
    model is a lower bound: ℓ(δ + γd) ≥ ℓ + γG - ½Mγ²‖d‖² (`pedregosa2020linearly`,
    algorithm 2, with its factors 0.9 and 2). At γ = G/(M‖d‖²) that is a gain of ½γG:
    Armijo's test with slope ½, which is what is asked here, at γ = 1 too.

    Args:
        ease: what the curvature of the last step is multiplied by, at most 1.
        halvings: give up (the run has STALLED) after so many trials in one step.
    """

    rotation_invariant: ClassVar[bool] = True

    ease: float = 0.9
    halvings: int = 50

    def __post_init__(self) -> None:
        check_positive("ease", self.ease)
        if self.ease > 1:
            raise UserError(f"ease: expected 0 < ease ≤ 1, got {self.ease!r}.")
        _check_trials(self.halvings)

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
        """M `[rows]`: 0, so that the first step begins with γ = 1."""
        return torch.zeros_like(evaluation.loss)

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Tensor,
    ) -> Step:
        """See `StepRule.step`; `direction` is v - δ."""
        gap = _rows.dot(evaluation.gradient, direction).clamp(min=0)
        square = _rows.dot(direction, direction)
        # γ = 1 where M = 0; of two zeros the search says that there is no step.
        first = _rows.ratio(gap, self.ease * state * square)
        first = torch.where(state > 0, first, 1.0).clamp(max=1.0)
        found = search(rows, points, evaluation, direction, first, 0.5, self.halvings)
        tight = _rows.ratio(gap, found.size * square)
        assert found.spent is not None
        curvature = torch.where(found.spent == 1, self.ease * state, tight)
        return replace(found, state=curvature)


@dataclass(frozen=True)
class FullStep:
    """γ = 1: on to the maximiser v of gᵀv over the region, if the loss rises by it.

    On a ball or a box v is a vertex (a point of the sphere): this is snapping to the
    maximiser of the local affine model. A run has STALLED where the loss does not rise.

    Args:
        halvings: trials γ = 1, ½, ¼, …, of which the first that rises is taken.
    """

    rotation_invariant: ClassVar[bool] = True

    halvings: int = 1

    def __post_init__(self) -> None:
        _check_trials(self.halvings)

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
        """1 `[rows]`."""
        return torch.ones_like(evaluation.loss)

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Tensor,
    ) -> Step:
        """See `StepRule.step`."""
        found = search(rows, points, evaluation, direction, state, 0.0, self.halvings)
        return replace(found, state=state)


@dataclass(frozen=True)
class FrankWolfe:
    """δ ← δ + γ(v - δ), v = argmax gᵀv over the region (`frank1956algorithm`).

    Convex combinations stay inside; what rounding adds is projected away. The linear
    maximiser is the exact one of region ∩ box ∩ mask. From the papers it departs in
    that the function ascended need not be concave: then the gap G = gᵀ(v - δ) tends to
    0 (`lacostejulien2016convergence`) and bounds no distance to the maximum.

    Args:
        step_rule: γ: ShortStep, OpenLoopStep, FullStep, or any rule for steps along
            v - δ, such as ConstantStep(0.1).
    """

    step_rule: StepRule = field(default_factory=ShortStep)

    @property
    def rotation_invariant(self) -> bool:
        """Whether the step rule commutes with rotations; the maximiser does."""
        return rotation_invariant(self.step_rule)

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Any:
        """The step rule's state."""
        return self.step_rule.init(rows, points, evaluation)

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: Any
    ) -> Step:
        """One step towards the maximiser."""
        towards = rows.region.linear_maximiser(evaluation.gradient) - points
        return self.step_rule.step(rows, points, evaluation, towards, state)


def frank_wolfe_gap(problem: Problem, points: Tensor) -> Tensor:
    """G = max over v in the region of gᵀ(v - δ), g = ∇ℓ(δ): 0 exactly where stationary.

    Of the loss of adversarial training it is FOSC (`wang2019convergence`). Of a concave
    objective it bounds what is missing: max ℓ - ℓ(δ) ≤ G. On convex regions G ≥ 0; it
    has the unit of the loss, where `residual` has none.

    Args:
        problem: what is maximised.
        points: `[batch, *input]` perturbations in the region.

    Returns:
        `[batch]`.

    Raises:
        UserError: the points do not fit the problem.
    """
    if not isinstance(points, Tensor) or points.shape != problem.inputs.shape:
        got = list(points.shape) if isinstance(points, Tensor) else type(points)
        raise UserError(
            f"points: expected perturbations {list(problem.inputs.shape)}, got {got}."
        )
    problem.examine()
    given = points.to(problem.inputs)
    with undisturbed(problem.model):
        gradient = problem.rows().evaluate(given).gradient
    return problem.feasible.gap(given, gradient)


def _check_trials(halvings: int) -> None:
    if not (isinstance(halvings, int) and halvings >= 1):
        raise UserError(f"halvings: expected an integer ≥ 1, got {halvings!r}.")
