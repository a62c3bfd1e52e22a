"""Runs of one kind: where they begin, towards what, and what they come to."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import default_attack
from summiteer.objectives import TargetedMargin
from summiteer.problem import Problem
from summiteer.searching.gates import Ajar
from summiteer.starts import GivenStart
from summiteer.until import Until


@dataclass(frozen=True, eq=False)
class Runs:
    """Runs to be made.

    Attributes:
        example: `[runs]` the index of each one's example in the problem.
        points: `[runs, *input]` where it begins; projected on the feasible region.
        steps: of each.
        rivals: `[runs]` the class that each ascends towards; None for the problem's own
            objective.
        slope: of closed gates in the backward pass; 0 for gradients as they are. Such a
            run is followed by one as long with true gradients, from where it led.
    """

    example: Tensor
    points: Tensor
    steps: int
    rivals: Tensor | None = None
    slope: float = 0.0

    @property
    def cost(self) -> int:
        """Gradient evaluations of each run."""
        return (self.steps + 1) * (2 if self.slope else 1)

    def within(self, allowed: Tensor) -> "Runs":
        """The first runs of each example that its remaining budget pays for.

        Args:
            allowed: `[batch]` gradient evaluations left.
        """
        # The how-manieth of its example each run is, from 0.
        order = self.example.argsort(stable=True)
        sorted_ = self.example[order]
        first = torch.searchsorted(sorted_, sorted_)
        rank = torch.empty_like(order)
        rank[order] = torch.arange(len(order), device=order.device) - first
        kept = (rank + 1) * self.cost <= allowed[self.example]
        return self.take(kept.nonzero().flatten())

    def take(self, index: Tensor) -> "Runs":
        """The runs `index`."""
        rivals = None if self.rivals is None else self.rivals[index]
        return replace(
            self,
            example=self.example[index],
            points=self.points[index],
            rivals=rivals,
        )


@dataclass(frozen=True, eq=False)
class Ends:
    """What runs came to.

    Attributes:
        example: `[runs]`.
        best: `[runs, *input]` where the objective that the run ascended was highest; a
            misclassified point where there was one.
        loss: `[runs]` the problem's own objective there.
        wrong: `[runs]` bool, whether that point is misclassified.
        spent: `[runs]` int64, gradient evaluations.
    """

    example: Tensor
    best: Tensor
    loss: Tensor
    wrong: Tensor
    spent: Tensor


def made(problem: Problem, runs: Runs, until: Until | None) -> Ends:
    """Make the runs.

    Args:
        problem: of all examples.
        runs: at least one.
        until: as `ascend`'s.
    """
    some = problem.take(runs.example)
    own = some
    if runs.rivals is not None:
        some = some.with_objective(TargetedMargin(runs.rivals))
    points, spent = runs.points, torch.zeros_like(runs.example)
    if runs.slope:
        led, cost = _climb(
            some.with_model(Ajar(problem.model, runs.slope)), points, runs.steps, until
        )
        spent = spent + cost
        points = led
    best, cost = _climb(some, points, runs.steps, until)
    with undisturbed(problem.model):
        value = own.rows().value(best)
    return Ends(runs.example, best, value.loss, value.wrong, spent + cost)


def _climb(
    problem: Problem, points: Tensor, steps: int, until: Until | None
) -> tuple[Tensor, Tensor]:
    """(best or misclassified points, gradient evaluations of each run)."""
    ascent = ascend(
        problem,
        default_attack(problem.feasible, steps),
        GivenStart(points),
        steps,
        until=until,
        tolerance=None,
        rescue=False,
    )
    best = ascent.best
    if ascent.misclassified is not None and ascent.misclassified_points is not None:
        shape = (-1, *[1] * (best.ndim - 1))
        wrong = ascent.misclassified.reshape(shape)
        best = torch.where(wrong, ascent.misclassified_points, best)
    # One evaluation at the start, one after each step.
    return best, ascent.steps[0] + 1
