"""Which end points lie next to the same maximum, and which to different ones: proved.

Of a given point p_i let a certificate say, PROVED: a local maximiser p*_i lies within
D_i of it (`distance_bound`), and no other one within U_i of it (`uniqueness_radius`:
Props. 3, 4 and 6, where Prop. 4 is what keeps two maxima apart). With r = ‖p_i - p_j‖:

- *same*: r + D_j < U_i. Then p*_j lies where p*_i is the only one, so that p*_j = p*_i.
  Points equal in every bit are the same too: one maximiser serves both. So it does
  where Prop. 3 proves both to be the global maximum: whatever is as high as p_i lies
  within D_i of it.
- *different*: r > D_i + D_j. Then p*_i ≠ p*_j. These are two maxima and not two points
  of one plateau if one of them is isolated (a strict one): a connected set of local
  maximisers has one value, and near an isolated maximiser nobody else has its value.

Distances are rounded so that either inequality is one between real numbers. Where
neither holds, distance decides, NUMERICAL. The number of maxima is at least that of end
points any two of which are different.
"""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor

from summiteer.landscape.maxima import distances
from summiteer.optimality.certificate import Certificate
from summiteer.optimality.rounding import TINY_NORM, down, up
from summiteer.optimality.verdict import Evidence, Verdict

_ISOLATED = (Verdict.STRICT_LOCAL_MAXIMUM, Verdict.GLOBAL_MAXIMUM)


@dataclass(frozen=True, eq=False)
class Separation:
    """What is proved of each pair of end points.

    Attributes:
        same: `[batch, runs, runs]` bool, next to one maximum.
        different: `[batch, runs, runs]` bool, next to two maxima.
        proved: `[runs, batch]` bool, of which end points a maximum is proved.
    """

    same: Tensor
    different: Tensor
    proved: Tensor

    @classmethod
    def of(cls, points: Tensor, certificate: Certificate) -> Self:
        """What the certificate of all end points says about pairs of them.

        Args:
            points: `[runs, batch, *input]`.
            certificate: of the points, flattened to `[runs · batch]`.
        """
        shape = points.shape[:2]
        verdict, evidence = certificate.verdict, certificate.evidence
        known = [
            v.is_maximum and e is Evidence.PROVED
            for v, e in zip(verdict, evidence, strict=True)
        ]
        proved = torch.tensor(known, dtype=torch.bool).reshape(shape)
        unique = certificate.uniqueness_radius
        # Of a global maximum it is the uniqueness that says that it is a strict one.
        strict = [
            v is _ISOLATED[0] or (v is _ISOLATED[1] and u)
            for v, u in zip(verdict, (unique > 0).tolist(), strict=True)
        ]
        isolated = torch.tensor(strict, dtype=torch.bool).reshape(shape)
        best = [
            v is _ISOLATED[1] and proposition.startswith("Prop. 3")
            for v, proposition in zip(verdict, certificate.proposition, strict=True)
        ]
        return cls.by_bounds(
            points,
            certificate.distance_bound.reshape(shape),
            unique.reshape(shape),
            proved,
            isolated & proved,
            torch.tensor(best, dtype=torch.bool).reshape(shape),
        )

    @classmethod
    def by_bounds(
        cls,
        points: Tensor,
        bound: Tensor,
        unique: Tensor,
        proved: Tensor,
        isolated: Tensor,
        best: Tensor | None = None,
    ) -> Self:
        """The rules themselves.

        Args:
            points: `[runs, batch, *input]`.
            bound: D `[runs, batch]`.
            unique: U `[runs, batch]`; NaN where nothing is known.
            proved: `[runs, batch]` bool, whether a maximiser lies within D.
            isolated: `[runs, batch]` bool, whether it is proved to be a strict one.
            best: `[runs, batch]` bool, whether all that is as high as the point is
                proved to lie within D; none if None.
        """
        both = _pairs(proved, proved)
        apart = distances(points)
        # A sum of squares of differences, and its root.
        operations = points[0, 0].numel() + 4
        most, least = up(apart, operations) + TINY_NORM, down(apart, operations)
        least = least - TINY_NORM
        mine, other = bound.T[:, :, None], bound.T[:, None, :]
        different = (least > up(mine + other)) & both
        different &= isolated.T[:, :, None] | isolated.T[:, None, :]
        # NaN compares false.
        same = (up(most + other) < unique.T[:, :, None]) & both
        same |= (apart == 0) & both
        if best is not None:
            same |= _pairs(best & proved, best & proved)
        return cls(same | same.mT, different, proved)

    def least(self) -> list[int]:
        """A proved lower bound of the number of distinct maxima, per example."""
        found = zip(self.different, self.proved.T, strict=True)
        return [len(_mutual(different, proved)) for different, proved in found]


def _pairs(rows: Tensor, columns: Tensor) -> Tensor:
    """`[batch, runs, runs]` bool from two `[runs, batch]`."""
    return rows.T[:, :, None] & columns.T[:, None, :]


def _mutual(different: Tensor, proved: Tensor) -> list[int]:
    """End points any two of which are different: greedily, the most apart first.

    Args:
        different: `[runs, runs]` bool.
        proved: `[runs]` bool.
    """
    chosen: list[int] = []
    for run in different.sum(1).argsort(descending=True, stable=True).tolist():
        if bool(proved[run]) and bool(different[run, chosen].all()):
            chosen.append(run)
    return chosen
