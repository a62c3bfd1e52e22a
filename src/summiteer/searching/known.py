"""What a search knows of each example so far."""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.ascent import Ascent
from summiteer.searching.basins import Basins
from summiteer.searching.runs import Ends, Runs

T = TypeVar("T", int, Tensor)


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of each example, all `[batch]` but the points.

    Attributes:
        best: `[batch, *input]` where the problem's objective is highest.
        best_loss: the objective there.
        broken: bool, whether a misclassified point was met.
        broken_points: `[batch, *input]` that point; NaN where there is none.
        source: int64, the number of the source that broke the example, or else found
            `best`.
        runs: int64, made so far.
        spent: int64, gradient evaluations.
        rows: evaluated with gradient, of all examples together; see `Ends.rows`.
        risen: bool, whether the last runs raised `best_loss`.
        towards: `[batch, K]` the problem's objective at the highest point of the runs
            towards each class; -∞ without any.
        basins: the end points of the problem's own runs.
    """

    best: Tensor
    best_loss: Tensor
    broken: Tensor
    broken_points: Tensor
    source: Tensor
    runs: Tensor
    spent: Tensor
    rows: int
    risen: Tensor
    towards: Tensor
    basins: Basins

    @classmethod
    def of(cls, ascent: Ascent, steps: int, classes: int) -> "Known":
        """What the first ascent, source 0, has found.

        Args:
            ascent: of all examples.
            steps: planned.
            classes: K; 0 of a problem without.
        """
        batch = len(ascent.best)
        never = torch.zeros(batch, dtype=torch.int64, device=ascent.best.device)
        broken, points = ascent.misclassified, ascent.misclassified_points
        if broken is None or points is None:
            broken = torch.zeros_like(never, dtype=torch.bool)
            points = torch.full_like(ascent.best, torch.nan)
        made = never + len(ascent.steps)
        return cls(
            best=ascent.best,
            best_loss=ascent.best_loss,
            broken=broken,
            broken_points=points,
            source=never,
            runs=made,
            spent=_spent(ascent, steps).to(never),
            rows=ascent.gradient_evaluations,
            risen=torch.ones_like(never, dtype=torch.bool),
            towards=ascent.best_loss.new_full((batch, classes), -torch.inf),
            basins=Basins.of(ascent),
        )

    def after(self, runs: Runs, ends: Ends, source: int) -> "Known":
        """What is known when runs have been made.

        Args:
            runs: that were made.
            ends: what they came to.
            source: the number of where they came from.
        """
        example, batch = ends.example, len(self.best)
        place, top = _highest(ends.loss, example, batch)
        # Any number is higher than none: NaN compares false.
        higher = (top > self.best_loss) | (self.best_loss.isnan() & (top > -torch.inf))
        best = _rows.choose(higher, ends.best[place], self.best)
        first, any_ = _highest(ends.wrong.to(ends.loss.dtype), example, batch)
        newly = (any_ > 0) & ~self.broken
        points = _rows.choose(newly, ends.wrong_points[first], self.broken_points)
        # Who finds the same point again, an ulp higher, has not found it.
        noise = tolerances.same_loss(top.dtype) * self.best_loss.abs()
        credit = higher & ~(top <= self.best_loss + noise)
        found = newly | (credit & ~self.broken)
        number = torch.bincount(example, minlength=batch)
        spent = torch.zeros_like(self.spent).index_add(0, example, ends.spent)
        towards = self.towards
        if runs.rivals is not None:
            cell = example * towards.shape[1] + runs.rivals
            heights = ends.loss.nan_to_num(-torch.inf, torch.inf, -torch.inf)
            flat = towards.flatten().scatter_reduce(0, cell, heights, "amax")
            towards = flat.reshape(towards.shape)
        return replace(
            self,
            best=best,
            best_loss=torch.where(higher, top, self.best_loss),
            broken=self.broken | newly,
            broken_points=points,
            source=torch.where(found, source, self.source),
            runs=self.runs + number,
            spent=self.spent + spent,
            rows=self.rows + ends.rows,
            risen=higher,
            towards=towards,
            basins=self.basins.after(runs, ends),
        )

    def nearest_first(self, rivals: Tensor) -> Tensor:
        """The rivals of each example, those towards which its runs got highest first.

        Args:
            rivals: `[batch, ranks]`; ties stay in this order.
        """
        heights = self.towards.gather(1, rivals)
        order = heights.argsort(stable=True, dim=1, descending=True)
        return rivals.gather(1, order)


def rescue_cost(steps: T) -> T:
    """The most gradient evaluations of a rescue of one run, see `Ascent.rescue`.

    In float64 and with the margin: three to ask whether it is needed, and the run once
    more.

    Args:
        steps: of the run; -1 where it was not made again.
    """
    return 2 * (steps + 4)


def _spent(ascent: Ascent, planned: int) -> Tensor:
    """`[batch]` gradient evaluations of runs whose steps cost one each.

    What a rescue costs is known of all examples together, and charged at its most to
    those that it looked at; `steps` are then those of the run that was made again.
    """
    rescued = ascent.rescue > 0
    asked = ascent.zero_gradient.any(0) | rescued
    steps = ascent.steps.masked_fill(rescued, planned)
    again = torch.where(rescued, planned, -1)
    return (steps + 1).sum(0) + torch.where(asked, rescue_cost(again), 0)


def _highest(values: Tensor, example: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """(the run of each example's highest value, that value); (0, -inf) without runs.

    Ties go to the first run; NaN is lowest.
    """
    values = values.nan_to_num(-torch.inf, torch.inf, -torch.inf)
    top = torch.full((batch,), -torch.inf, dtype=values.dtype, device=values.device)
    top = top.scatter_reduce(0, example, values, "amax")
    number = torch.arange(len(values), device=values.device)
    here = torch.where(values == top[example], number, len(values))
    place = torch.full((batch,), len(values), device=values.device)
    place = place.scatter_reduce(0, example, here, "amin")
    return place.masked_fill(place == len(values), 0), top
