"""One of the maxima that the runs of an example ended in."""

from dataclasses import dataclass

from scipy.stats import beta
from torch import Tensor

from summiteer.landscape.maxima import CONFIDENCE
from summiteer.optimality.verdict import Evidence, Verdict


@dataclass(frozen=True, eq=False)
class Peak:
    """A maximum, its basin, and how both are known; numbers are NaN where not known.

    Attributes:
        point: `[*input]` float64, the end point that stands for it: of those with the
            strongest evidence the highest.
        loss: objective there.
        sign: of F = s·f, which way the loss pushes the single output there (of ½u² the
            sign of u); 0 for other models and losses.
        runs: how many ended here.
        restarts: of how many, all independent uniform starts.
        share: runs / restarts.
        share_interval: Clopper and Pearson's 95 % interval of the probability that a
            run from a uniform start ends here (`clopper1934use`); of each maximum for
            itself.
        verdict: at `point`.
        evidence: of the verdict.
        apart: PROVED if it is proved to be another maximum than each of the example's
            others, so far as one of them is proved at all; NUMERICAL if distance says
            so of one of them.
        joined: PROVED if all its runs are proved to have ended next to one maximum;
            NUMERICAL if distance says so.
        distance_bound: proved distance from `point` to the maximiser.
        uniqueness_radius: see `Certificate`.
        curvature_ratio: κ = λ_max(tangent)/μ; below 1 at a strict maximum.
        index_global: λ⁺(M)/μ, measured; below 1 it is the global maximum of F.
        index_unique: 2λ⁺(M)/(μ + g_min/ε), measured; below 1 F has no other.
    """

    point: Tensor
    loss: float
    sign: int
    runs: int
    restarts: int
    verdict: Verdict
    evidence: Evidence
    apart: Evidence
    joined: Evidence
    distance_bound: float
    uniqueness_radius: float
    curvature_ratio: float
    index_global: float
    index_unique: float

    @property
    def share(self) -> float:
        """Of the restarts."""
        return self.runs / self.restarts

    @property
    def share_interval(self) -> tuple[float, float]:
        """See `Peak`."""
        return proportion_interval(self.runs, self.restarts)


def proportion_interval(hits: int, draws: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a probability (`clopper1934use`).

    Args:
        hits: of the draws.
        draws: independent, at least one.
    """
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, hits, draws - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, draws - hits) if hits < draws else 1.0
    return float(low), float(high)
