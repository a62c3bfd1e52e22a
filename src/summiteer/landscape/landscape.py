"""The landscape of the inner problem, as seen from many starts."""

from collections import Counter
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from summiteer.errors import UserError
from summiteer.landscape.maxima import Maxima
from summiteer.landscape.peak import Peak
from summiteer.landscape.ways import Ways
from summiteer.optimality.certificate import Certificate
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.problem import Problem


@dataclass(frozen=True, eq=False, repr=False)
class Landscape:
    """What runs from uniform starts found, per example; see `explore`.

    Attributes:
        problem: what was explored, in float64.
        starts: `[restarts, batch, *input]` where the runs began.
        ends: `[restarts, batch, *input]` float64, where they ended.
        losses: `[restarts, batch]` objective there.
        sign: `[restarts, batch]` int8, s of F = s·f there (of ½u² the sign of u); 0 for
            models of several outputs and other losses.
        outcome: `[restarts, batch]` object array of `Outcome`, of the adversary's runs.
        steps: `[restarts, batch]` that they made.
        arrived: of the points where the adversary's runs ended, `[restarts · batch]`.
        certificate: of `ends`, `[restarts · batch]`: the same, but for runs that ended
            at no maximum and were climbed on from there (`polish`).
        maxima: which maximum each end belongs to, numbered from the highest; -1 where
            no maximum was found; and what the runs leave unseen.
        peaks: per example its maxima, the highest first.
        at_least: `[batch]` int64, proved lower bound of the number of local maxima. It
            may exceed `count`: where u is proved to take both signs, ½u² has a maximum
            for each, met or not.
        at_most: `[batch]` float64, proved upper bound of it; ∞ where nothing is known.
        a_priori: `[batch]` q of Prop. 5, measured; below 1 there is one maximum per
            sign of u. NaN for models without it.
        ways: what the runs were like.
        gradient_evaluations: of the runs, without polishing and certificates.
    """

    problem: Problem
    starts: Tensor
    ends: Tensor
    losses: Tensor
    sign: Tensor
    outcome: np.ndarray
    steps: Tensor
    arrived: Certificate
    certificate: Certificate
    maxima: Maxima
    peaks: tuple[tuple[Peak, ...], ...]
    at_least: Tensor
    at_most: Tensor
    a_priori: Tensor
    ways: Ways
    gradient_evaluations: int

    def __len__(self) -> int:
        return len(self.peaks)

    @property
    def restarts(self) -> int:
        """Runs per example."""
        return len(self.ends)

    @property
    def count(self) -> Tensor:
        """`[batch]` distinct maxima seen, by proof where there is one, or distance."""
        return self.maxima.count

    @property
    def complete(self) -> Tensor:
        """`[batch]` bool: the landscape is proved to have no other local maximum."""
        return self.at_least == self.at_most

    @property
    def spread(self) -> Tensor:
        """`[batch]` (highest - lowest loss of the maxima)/highest; NaN for none."""
        spreads = []
        for peaks in self.peaks:
            losses = [peak.loss for peak in peaks]
            top = max(losses, default=0.0)
            spreads.append((top - min(losses)) / abs(top) if top else torch.nan)
        return torch.tensor(spreads, dtype=torch.float64)

    def per_sign(self, example: int) -> dict[int, int]:
        """Count distinct maxima by the sign of the slope; see `Peak.sign`.

        Args:
            example: its index.
        """
        return dict(Counter(peak.sign for peak in self.peaks[self.index_of(example)]))

    def verdicts(self, example: int) -> dict[tuple[Verdict, Evidence], int]:
        """Count what the points are where the adversary's runs of an example ended.

        Args:
            example: its index.
        """
        rows = range(self.index_of(example), self.restarts * len(self), len(self))
        arrived = self.arrived
        pairs = ((arrived.verdict[r], arrived.evidence[r]) for r in rows)
        return dict(Counter(pairs))

    def saddles(self, example: int) -> int:
        """How many runs ended at a point that is no maximum though it is nearly flat.

        Args:
            example: its index.
        """
        found = self.verdicts(example).items()
        return sum(n for (verdict, _), n in found if verdict is Verdict.SADDLE)

    def index_of(self, example: int) -> int:
        """Return the index from 0; negative ones count from the end.

        Args:
            example: its index.

        Raises:
            UserError: there is no such example.
        """
        whole = isinstance(example, int) and not isinstance(example, bool)
        if not (whole and -len(self) <= example < len(self)):
            raise UserError(
                f"example: expected an index below {len(self)}, got {example!r}; it is "
                "the place among the examples explored, not the row of the data."
            )
        return example % len(self)

    def __repr__(self) -> str:
        """Counts, not tensors."""
        batch, known = len(self), int(self.complete.sum())
        met = float((self.maxima.label >= 0).double().mean())
        return (
            f"Landscape of {batch} examples × {self.restarts} runs: "
            f"{100 * met:.3g} % ended at a maximum; distinct maxima "
            f"{float(self.count.double().mean()):.3g} seen on average, "
            f"{int(self.count.max())} where most; completely known (proved) {known}"
        )
