"""Runs that no longer improve, though they may well still move."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from summiteer import tolerances


@dataclass(frozen=True, eq=False)
class Patience:
    """When the best objective of each row last rose.

    A rise counts where the best objective exceeds the value at the last rise that
    counted by more than tolerances.SAME_LOSS units of rounding of it: rises too small
    to count add up until they do.

    Attributes:
        steps: a row without a rise that counts for so many steps has STALLED.
        unit: the unit of rounding of the dtype, eps.
        loss: `[rows]` best objective at the last rise that counted.
        since: `[rows]` step of it.
    """

    steps: int
    unit: float
    loss: Tensor
    since: Tensor

    @classmethod
    def begin(cls, steps: int, unit: float, best: Tensor) -> Self:
        """Begin at step 0.

        Args:
            steps: see `Patience`.
            unit: likewise.
            best: `[rows]` objective at the starts, -inf where it is not finite.
        """
        return cls(steps, unit, best, torch.zeros_like(best, dtype=torch.int64))

    def look(self, step: int, best: Tensor) -> tuple[Self, Tensor]:
        """Compare the best objective after `step`.

        Args:
            step: number of the step made last.
            best: `[rows]`.

        Returns:
            What to compare later ones with, and `[rows]` bool: out of patience.
        """
        noise = tolerances.SAME_LOSS * self.unit * self.loss.abs()
        # The least value: anything finite is above it.
        rose = best > self.loss + noise.masked_fill(noise.isinf(), 0.0)
        loss = torch.where(rose, best, self.loss)
        since = self.since.masked_fill(rose, step)
        return replace(self, loss=loss, since=since), step - since >= self.steps
