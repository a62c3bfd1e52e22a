"""What one prover says of a batch of points."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from summiteer.optimality.verdict import Evidence, Verdict

#: The regularity indices of mathematics.md §6.
INDICES = ("global", "unique", "a_priori")
#: Per-example numbers a prover may state; NaN where it states nothing.
NUMBERS = (
    "residual",
    "curvature_ratio",
    "distance_bound",
    "loss_gap_bound",
    "best_radius",
    "uniqueness_radius",
    "rate",
    "upper_bound",
    "distance_estimate",
    "gain",
)


@dataclass(frozen=True, eq=False)
class Claims:
    """One prover's word on each example; UNDECIDED where it has none.

    Attributes:
        verdict: per example.
        evidence: per example.
        reason: per example, one clause.
        proposition: per example, "Prop. 6" or "".
        numbers: name from `NUMBERS` -> `[batch]`.
        indices: regularity indices of mathematics.md §6, name -> `[batch]`.
        certified_point: `[batch, *input]` the point that the verdict was found at.
    """

    verdict: Sequence[Verdict]
    evidence: Sequence[Evidence]
    reason: Sequence[str]
    proposition: Sequence[str]
    numbers: dict[str, Tensor] = field(default_factory=dict)
    indices: dict[str, Tensor] = field(default_factory=dict)
    certified_point: Tensor | None = None

    @classmethod
    def undecided(cls, batch: int, reason: str = "") -> Self:
        """No word on any example."""
        return cls(
            [Verdict.UNDECIDED] * batch,
            [Evidence.NUMERICAL] * batch,
            [reason] * batch,
            [""] * batch,
        )

    def state(self, **changes: Any) -> Self:
        """Return the claims with fields replaced; numbers are merged."""
        numbers = {**self.numbers, **changes.pop("numbers", {})}
        return replace(self, numbers=numbers, **changes)

    def prefer(self, other: "Claims") -> "Claims":
        """Return these claims, with `other`'s where these are UNDECIDED.

        Numbers come from these claims where they are not NaN.
        """
        mine = [v is not Verdict.UNDECIDED for v in self.verdict]

        def merged(ours: Sequence[Any], theirs: Sequence[Any]) -> list[Any]:
            pairs = zip(mine, ours, theirs, strict=True)
            return [our if keep else their for keep, our, their in pairs]

        numbers = dict(other.numbers)
        for name, value in self.numbers.items():
            spare = numbers.get(name, torch.full_like(value, torch.nan))
            numbers[name] = torch.where(value.isnan(), spare, value)
        point = self.certified_point
        if point is None or other.certified_point is None:
            point = other.certified_point if point is None else point
        else:
            keep = torch.tensor(mine).reshape(-1, *[1] * (point.ndim - 1))
            point = torch.where(keep, point, other.certified_point)
        return Claims(
            merged(self.verdict, other.verdict),
            merged(self.evidence, other.evidence),
            merged(self.reason, other.reason),
            merged(self.proposition, other.proposition),
            numbers,
            {**other.indices, **self.indices},
            point,
        )
