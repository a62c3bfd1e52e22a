"""One of the maxima that the runs of an example ended in."""

import math
from dataclasses import dataclass

from torch import Tensor

from summiteer.confidence import share_interval
from summiteer.optimality.verdict import Evidence, Verdict


@dataclass(frozen=True, eq=False, repr=False)
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
        apart: PROVED if it is proved to be a maximum, and another one than each of the
            example's others; NUMERICAL if distance says so of one of them, or nothing
            is proved of this one.
        joined: PROVED if all its runs are proved to have ended next to one maximum;
            NUMERICAL if distance says so.
        distance_bound: proved distance from `point` to the maximiser.
        uniqueness_radius: no other maximiser lies within it of `point`, proved; NaN
            where the certificate says nothing of that. Two maxima, one of them strict,
            that lie farther apart than the sum of their distance bounds are proved to
            be two without it.
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
        return share_interval(self.runs, self.restarts)

    def __repr__(self) -> str:
        """What it is and how that is known; not the point."""
        known = f"{self.verdict.name} ({self.evidence.name})"
        numbers = {
            "distance bound": self.distance_bound,
            "uniqueness radius": self.uniqueness_radius,
            "κ": self.curvature_ratio,
            "λ⁺/μ": self.index_global,
        }
        told = "".join(
            f", {name} {value:.3g}"
            for name, value in numbers.items()
            if not math.isnan(value)
        )
        return (
            f"Peak of loss {self.loss:.5g}, {self.runs} of {self.restarts} runs: "
            f"{known}, apart {self.apart.name}, joined {self.joined.name}{told}"
        )
