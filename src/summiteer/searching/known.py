"""What a search knows of each example so far."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.ascent import Ascent
from summiteer.searching.runs import Ends, Runs


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
    """

    best: Tensor
    best_loss: Tensor
    broken: Tensor
    broken_points: Tensor
    source: Tensor
    runs: Tensor
    spent: Tensor

    @classmethod
    def of(cls, ascent: Ascent) -> "Known":
        """What the first ascent, source 0, has found."""
        batch = len(ascent.best)
        never = torch.zeros(batch, dtype=torch.int64, device=ascent.best.device)
        broken, points = ascent.misclassified, ascent.misclassified_points
        if broken is None or points is None:
            broken = torch.zeros_like(never, dtype=torch.bool)
            points = torch.full_like(ascent.best, torch.nan)
        # One evaluation at the start of each run, one after each step.
        spent = (ascent.steps + 1).sum(0).to(never)
        made = never + len(ascent.steps)
        return cls(ascent.best, ascent.best_loss, broken, points, never, made, spent)

    def after(self, runs: Runs, ends: Ends, source: int) -> "Known":
        """What is known when runs have been made.

        Args:
            runs: that were made.
            ends: what they came to.
            source: the number of where they came from.
        """
        example, batch = ends.example, len(self.best)
        place, top = _highest(ends.loss, example, batch)
        higher = top > self.best_loss
        best = _rows.choose(higher, ends.best[place], self.best)
        first, any_ = _highest(ends.wrong.to(ends.loss.dtype), example, batch)
        newly = (any_ > 0) & ~self.broken
        points = _rows.choose(newly, ends.best[first], self.broken_points)
        found = newly | (higher & ~self.broken)
        number = torch.bincount(example, minlength=batch)
        spent = torch.zeros_like(self.spent).index_add(0, example, ends.spent)
        return replace(
            self,
            best=best,
            best_loss=torch.where(higher, top, self.best_loss),
            broken=self.broken | newly,
            broken_points=points,
            source=torch.where(found, source, self.source),
            runs=self.runs + number,
            spent=self.spent + spent,
        )


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
