"""Which maxima the problem's own runs ended in, and what they leave unseen.

Good's estimate needs independent draws from one law. Restarts of the problem's own
objective from uniform points are; the other runs are not: the first one, which may
begin at the centre, those towards rivals, through closed gates, towards neighbours,
from the strongest point or from the way uphill of a certificate. They are chosen, and
most of them climb something else. So with

    n = random restarts made, f₁ = maxima that exactly one of these met,

the probability that one more random restart ends in a maximum that none has met is
estimated by f₁/n; see `landscape.unseen_mass` for its bias and its bound. The search of
an example has seen enough when

    (f₁ + 1)/(n + 1) ≤ `Effort.unseen`,

which that probability does not exceed on average, and which no single lucky restart can
make small. To stop there picks a low estimate: it then tends to be below the truth.

Runs that `until` ended are not at maxima. An example with one is not counted at all: to
leave out these runs alone would leave out what they would have met.

End points of 20 steps are not at maxima yet. Those between which there is no valley are
one (`landscape.distinct_maxima`); on networks trained on digits and MNIST this counts
within one what polishing every end point to its maximum counts, where distance alone
counts up to fifteen too many.

What is kept: the end points and the objective there, `Effort.restarts` + 1 times the
size of the inputs of one block.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.ascent import Ascent
from summiteer.landscape import Maxima, distinct_maxima, unseen_mass
from summiteer.problem import Problem
from summiteer.searching.runs import Ends, Runs, cut_short


@dataclass(frozen=True, eq=False)
class Basins:
    """End points of the problem's own runs: the first, then the random restarts.

    Attributes:
        points: `[1 + restarts, batch, *input]` highest point of each run.
        losses: `[1 + restarts, batch]` the objective there; NaN where no run was made.
        made: `[1 + restarts, batch]` bool, whether the run was made.
        whole: `[batch]` bool, whether no run of the example was cut short.
    """

    points: Tensor
    losses: Tensor
    made: Tensor
    whole: Tensor

    @classmethod
    def of(cls, ascent: Ascent) -> "Basins":
        """That of the first run."""
        cut = cut_short(ascent)
        return cls(
            ascent.best[None],
            ascent.best_loss[None],
            torch.ones_like(cut[:1]),
            ~cut.any(0),
        )

    def after(self, runs: Runs, ends: Ends) -> "Basins":
        """Those with more runs; only random restarts are kept.

        Args:
            runs: that were made.
            ends: what they came to.
        """
        if runs.draw is None or not len(runs.draw):
            return self
        place = runs.draw + 1
        missing = int(place.max()) + 1 - len(self.points)
        points, losses, made = self.points, self.losses, self.made
        if missing > 0:
            points = _longer(points, missing, 0)
            losses = _longer(losses, missing, torch.nan)
            made = _longer(made, missing, False)
        where = (place, ends.example)
        whole = self.whole.clone()
        whole[ends.example[ends.cut]] = False
        return Basins(
            points=points.index_put(where, ends.best),
            losses=losses.index_put(where, ends.loss),
            made=made.index_put(where, torch.ones_like(ends.cut)),
            whole=whole,
        )

    def take(self, examples: Tensor) -> "Basins":
        """Those of the examples with these indices."""
        return Basins(
            self.points[:, examples],
            self.losses[:, examples],
            self.made[:, examples],
            self.whole[examples],
        )

    def losses_of(self, restarts: int) -> Tensor:
        """`[1 + restarts, batch]` losses, with rows for the restarts no one made.

        Args:
            restarts: at least as many as were made.
        """
        return _longer(self.losses, 1 + restarts - len(self.losses), torch.nan)

    def maxima(self, problem: Problem, best: Tensor) -> tuple[Maxima, Tensor]:
        """What the runs met, and which of these maxima the best point belongs to.

        Args:
            problem: of these examples.
            best: `[batch, *input]`.

        Returns:
            `Maxima` of the runs, and `[batch]` the number of the best point's; -1 where
            it belongs to none that a run ended in.
        """
        counted = self.made & self.whole
        labels = torch.full((len(counted) + 1, len(best)), -1)
        index = self.whole.nonzero().flatten()
        if len(index):
            some = problem.take(index)
            joined = distinct_maxima(
                torch.cat([self.points[:, index], best[None, index]]),
                some.size,
                torch.cat([counted[:, index], self.whole[None, index]]),
                problem=some,
            )
            labels[:, index.cpu()] = joined.label.cpu()
        label, number = labels[:-1], labels[-1]
        count = label.amax(0) + 1
        drawn = counted.cpu()
        drawn[0] = False
        seen = Maxima(label, count, *unseen_mass(label, drawn))
        return seen, number.masked_fill(number >= count, -1)


def _longer(tensor: Tensor, missing: int, value: float) -> Tensor:
    """The tensor and so many more rows, all of one value."""
    rows = tensor.new_full((missing, *tensor.shape[1:]), value)
    return torch.cat([tensor, rows])


def seen_enough(seen: Maxima, limit: float) -> Tensor:
    """`[batch]` bool: another restart is not likely to end somewhere new.

    Args:
        seen: see `Basins.maxima`.
        limit: of (f₁ + 1)/(n + 1).
    """
    draws = (seen.label[1:] >= 0).sum(0)
    # NaN, where nothing was drawn, compares false.
    return (seen.unseen * draws + 1) / (draws + 1) <= limit
