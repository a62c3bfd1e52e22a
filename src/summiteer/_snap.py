"""Snapping: from a point to the maximiser of the local affine model, and on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._ascend import ascend
from summiteer.adversaries import Step
from summiteer.errors import UserError
from summiteer.outcome import Outcome
from summiteer.problem import Evaluation, Problem, Rows
from summiteer.starts import GivenStart


@dataclass(frozen=True, eq=False)
class Snapped:
    """Where snapping led.

    Attributes:
        points: `[batch, *input]` in the dtype of the problem; the objective there is
            nowhere lower than where it began.
        losses: `[batch]` objective there.
        rounds: `[batch]` how many times the point was replaced.
        gradient_evaluations: of all examples together.
    """

    points: Tensor
    losses: Tensor
    rounds: Tensor
    gradient_evaluations: int


@dataclass(frozen=True)
class _Vertex:
    """δ ← argmax over v in the region of gᵀv, if the objective is not lower there.

    On boxes that is the vertex itself, exactly: the region's own limits, where g is not
    zero. Frank-Wolfe's full step is the same but for the rounding of δ + (v - δ).
    """

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
        """Nothing."""
        return torch.zeros_like(evaluation.loss)

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: Tensor
    ) -> Step:
        """One round; rows that do not rise are stuck where they are."""
        trial = rows.region.linear_maximiser(evaluation.gradient)
        after = rows.evaluate(trial)
        moved = trial - points
        gain = after.loss - evaluation.loss
        # Where the values cannot tell: what both gradients say, ½(g + g')ᵀ(v - δ).
        bend = _rows.dot(evaluation.gradient + after.gradient, moved)
        noise = tolerances.same_loss(moved.dtype) * evaluation.loss.abs()
        level = (gain >= 0) & (gain <= noise) & (bend > 0)
        # A gradient of 0 has no maximiser.
        sloped = evaluation.gradient_norm > 0
        rises = sloped & (level | (gain > noise)) & (_rows.norm(moved) > 0)
        return Step(
            _rows.choose(rises, trial, points),
            state,
            rises.to(state),
            _rows.choose(rises, after, evaluation),
            torch.ones_like(state, dtype=torch.int64),
            ~rises,
        )


def snap(problem: Problem, points: Tensor, rounds: int = 8) -> Snapped:
    """Replace points by the maximisers of their local affine models while they rise.

    p ← argmax over v in C of ∇F(p)ᵀv, kept if F rises, again and again
    (mathematics.md §9). Where F is affine one round is enough. On an L∞ ball or a
    box it ends at an exact vertex, of which Prop. 10 can prove that it is a strict
    local maximum; a point that an attack left short of its vertex is none. Where F does
    not rise the point stays as it was.

    Args:
        problem: what is maximised.
        points: `[batch, *input]` perturbations in the region.
        rounds: at most so many.

    Returns:
        `Snapped`. A round costs one gradient evaluation per example, the first two.

    Raises:
        UserError: the points do not fit the problem; rounds below 1.
    """
    if not (isinstance(rounds, int) and rounds >= 1):
        raise UserError(f"rounds: expected an integer ≥ 1, got {rounds!r}.")
    ascent = ascend(
        problem,
        _Vertex(),
        GivenStart(points),
        max_steps=rounds,
        tolerance=None,
        space="input",
        rescue=False,
    )
    # The round that found nothing higher counts as a step and changed nothing.
    stuck = torch.from_numpy(ascent.outcome[0] != Outcome.STEP_LIMIT).to(points.device)
    return Snapped(
        points=ascent.final[0],
        losses=ascent.losses[0],
        rounds=ascent.steps[0] - stuck.long(),
        gradient_evaluations=ascent.gradient_evaluations,
    )
