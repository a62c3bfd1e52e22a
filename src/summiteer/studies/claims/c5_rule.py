"""C5's rule: how steps to a threshold grow with the input scale, per network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from summiteer.studies.claims.claim import Standing
from summiteer.studies.claims.rules import overturned
from summiteer.studies.descent.crossing import mean_over_steps, sustained_steps
from summiteer.studies.statistics import Array, Estimate, slopes, student

#: Steps that grow by less than 26 % over a decade of c are no effect.
NEGLIGIBLE = 0.1
#: So many of the three thresholds must agree.
AGREEING = 2


@dataclass(frozen=True, eq=False)
class Runs:
    """The same networks trained at several scales.

    Attributes:
        scales: `[k]`, rising.
        steps: to each threshold, `[3, networks, k]`; `never` where it was not met.
        never: K + 1.
        mean_loss: over the run, `[networks, k]`.
        start_loss: at step 0, `[networks, k]`.
        edge: at which scales the best rate was on the edge of those tried `[k]`.
    """

    scales: Array
    steps: Array
    never: float
    mean_loss: Array
    start_loss: Array
    edge: Sequence[bool]

    @classmethod
    def of(
        cls,
        scales: Sequence[float],
        curves: Sequence[Tensor],
        at: Sequence[int],
        levels: Sequence[float],
        edge: Sequence[bool],
    ) -> "Runs":
        """From curves of the reported loss.

        Args:
            scales: `[k]`.
            curves: of each scale, `[networks, points]`.
            at: the steps of the points.
            levels: three thresholds.
            edge: of each scale.
        """
        points = torch.tensor(at)
        steps = [
            torch.stack([sustained_steps(c, points, level) for c in curves], 1)
            for level in levels
        ]
        means = torch.stack([mean_over_steps(c, points) for c in curves], 1)
        start = torch.stack([c[:, 0] for c in curves], 1)
        return cls(
            np.asarray(scales, float),
            torch.stack(steps).numpy(),
            float(at[-1] + 1),
            means.numpy(),
            start.double().numpy(),
            edge,
        )

    def within(self, low: float, high: float) -> "Runs":
        """Return the scales from `low` to `high` alone."""
        # Scales are written in decimals: they meet the ends up to rounding.
        inside = (self.scales >= low * 0.999) & (self.scales <= high * 1.001)
        edge = [bool(e) for e, i in zip(self.edge, inside, strict=True) if i]
        return Runs(
            self.scales[inside],
            self.steps[:, :, inside],
            self.never,
            self.mean_loss[:, inside],
            self.start_loss[:, inside],
            edge,
        )

    def growth(self) -> list[Estimate]:
        """Slopes of log(1 + steps) over log c per threshold; > 0: smaller is faster."""
        return [student(slopes(self.scales, 1 + each)) for each in self.steps]

    def loss_growth(self) -> Estimate:
        """The same of the mean loss over the run."""
        return student(slopes(self.scales, self.mean_loss))

    def relative_growth(self) -> Estimate:
        """The same of the mean loss divided by that at step 0."""
        return student(slopes(self.scales, self.mean_loss / self.start_loss))

    def reached(self) -> list[bool]:
        """Which thresholds more than half of the networks miss at one end at most."""
        missed = (self.steps >= self.never).mean(1) > 0.5
        return [not (ends[0] and ends[-1]) for ends in missed]

    def overturned(self) -> list[frozenset[Standing]]:
        """Verdicts by each threshold that longer training could overturn."""
        return [
            overturned(self.scales, [bool((s >= self.never).any()) for s in each.T])
            for each in self.steps
        ]


def crossing_standing(runs: Runs) -> Standing:
    """The verdict on one setting and protocol in one range of scales.

    INCONCLUSIVE where a best rate was on the edge; NOT_REACHED where fewer than two
    thresholds were reached; SUPPORTED where the intervals of at least two lie above
    +0.1 and the mean loss grows with c; REVERSED where two lie below -0.1; NO_EFFECT
    where two lie within ±0.1; else INCONCLUSIVE. A threshold that was not reached
    counts for nothing, and one that some network missed for no verdict that longer
    training could overturn (see `overturned`).

    Args:
        runs: in that range.
    """
    if any(runs.edge):
        return Standing.INCONCLUSIVE
    found = zip(runs.growth(), runs.overturned(), runs.reached(), strict=True)
    growth = [(estimate, open_) for estimate, open_, reached in found if reached]
    if len(growth) < AGREEING:
        return Standing.NOT_REACHED

    def agreeing(verdict: Standing, holds: Callable[[Estimate], bool]) -> int:
        return sum(holds(each) and verdict not in open_ for each, open_ in growth)

    above = agreeing(Standing.SUPPORTED, lambda each: each.low > NEGLIGIBLE)
    below = agreeing(Standing.REVERSED, lambda each: each.high < -NEGLIGIBLE)
    none = agreeing(
        Standing.NO_EFFECT, lambda each: max(-each.low, each.high) <= NEGLIGIBLE
    )
    if above >= AGREEING and runs.loss_growth().value > 0:
        return Standing.SUPPORTED
    if below >= AGREEING:
        return Standing.REVERSED
    if none >= AGREEING:
        return Standing.NO_EFFECT
    return Standing.INCONCLUSIVE


def majority(standings: Sequence[Standing]) -> Standing:
    """The verdict over several settings.

    What more than half of them say, unless one says the opposite; else INCONCLUSIVE.

    Args:
        standings: of the settings.
    """
    opposite = {
        Standing.SUPPORTED: Standing.REVERSED,
        Standing.REVERSED: Standing.SUPPORTED,
    }
    for each in (Standing.SUPPORTED, Standing.REVERSED, Standing.NO_EFFECT):
        enough = 2 * standings.count(each) > len(standings)
        if enough and opposite.get(each) not in standings:
            return each
    return Standing.INCONCLUSIVE


def cause(doubled: Sequence[Standing], relu: Standing) -> Standing:
    """Whether the landscape can be what makes small scales faster.

    Started from f ≡ 0 the same weights make the same kind of landscape, and ReLU's
    landscape at step 0 does not depend on c at all. So SUPPORTED needs the effect in
    every doubled network and none for ReLU; NOT_SUPPORTED is: none, or the reverse, in
    every doubled network; else INCONCLUSIVE.

    Args:
        doubled: verdicts on the networks that start from f ≡ 0.
        relu: on the ReLU network.
    """
    none = {Standing.NO_EFFECT, Standing.REVERSED}
    if doubled and all(each in none for each in doubled):
        return Standing.NOT_SUPPORTED
    remains = bool(doubled) and all(each is Standing.SUPPORTED for each in doubled)
    if remains and relu in none:
        return Standing.SUPPORTED
    return Standing.INCONCLUSIVE
