"""What one prover says of a batch of points."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Self

import torch
from torch import Tensor

from summiteer.optimality.verdict import Evidence, Verdict

#: Per-example numbers a prover may state, NaN where it states nothing: fields of
#: `Certificate`, which says what they mean.
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
    "guaranteed_gain",
    "measured_gain",
    "tangential",
    "multiplier",
    "curvature",
    "margin",
    "lipschitz",
    "majorant",
    "least_multiplier",
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
        certified_point: `[batch, *input]` the point that the verdict was found at.
        direction: `[batch, *input]` the way uphill of negative verdicts, NaN elsewhere.
        curving: measures κ `[batch]` where `numbers` has none, for who asks for it.
    """

    verdict: Sequence[Verdict]
    evidence: Sequence[Evidence]
    reason: Sequence[str]
    proposition: Sequence[str]
    numbers: dict[str, Tensor] = field(default_factory=dict)
    certified_point: Tensor | None = None
    direction: Tensor | None = None
    curving: Callable[[], Tensor] | None = None

    def __post_init__(self) -> None:
        unknown = set(self.numbers) - set(NUMBERS)
        assert not unknown, f"numbers that no certificate has: {unknown}"

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

    @property
    def open(self) -> Tensor:
        """The rows without a verdict, as indices."""
        rows = [v is Verdict.UNDECIDED for v in self.verdict]
        return torch.tensor(rows, dtype=torch.bool).nonzero().flatten()

    def filled(self, index: Tensor, other: "Claims") -> "Claims":
        """Return these claims with `other`'s at the rows `index`.

        Numbers of these claims stay where `other` states none.

        Args:
            index: rows of these claims, in the order of `other`.
            other: claims on those rows.
        """
        rows = index.tolist()

        def merged(ours: Sequence[Any], theirs: Sequence[Any]) -> list[Any]:
            result = list(ours)
            for row, their in zip(rows, theirs, strict=True):
                result[row] = their
            return result

        numbers = {name: value.clone() for name, value in self.numbers.items()}
        for name, value in other.numbers.items():
            nothing = value.new_full((len(self.verdict),), torch.nan)
            mine = numbers.setdefault(name, nothing)
            mine[index] = torch.where(value.isnan(), mine[index], value)
        return Claims(
            merged(self.verdict, other.verdict),
            merged(self.evidence, other.evidence),
            # Who has nothing to say of a row leaves the reason that is there.
            merged(self.reason, _spoken(other.reason, self.reason, rows)),
            merged(self.proposition, other.proposition),
            numbers,
            _filled(self, self.certified_point, index, other.certified_point),
            _filled(self, self.direction, index, other.direction),
            self._curving(index, other.curving),
        )

    def _curving(
        self, index: Tensor, theirs: Callable[[], Tensor] | None
    ) -> Callable[[], Tensor] | None:
        """Ours, with theirs at the rows `index`."""
        ours, batch = self.curving, len(self.verdict)
        if theirs is None:
            return ours

        def measure() -> Tensor:
            values = theirs()
            base = values.new_full((batch,), torch.nan) if ours is None else ours()
            return base.index_copy(0, index, values)

        return measure


def _spoken(theirs: Sequence[str], ours: Sequence[str], rows: list[int]) -> list[str]:
    return [their or ours[row] for row, their in zip(rows, theirs, strict=True)]


def _filled(
    claims: Claims, ours: Tensor | None, index: Tensor, theirs: Tensor | None
) -> Tensor | None:
    if theirs is None:
        return ours
    if ours is None:
        ours = theirs.new_full((len(claims.verdict), *theirs.shape[1:]), torch.nan)
    return ours.index_copy(0, index, theirs)
