"""Counting claims, comparisons and violations."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass
class Kind:
    """One kind of claim.

    Attributes:
        claims: statements of certificates that were looked at.
        checks: single comparisons with truth.
        violations: comparisons that failed.
        worst: largest observed / claimed, violations included.
    """

    claims: int = 0
    checks: int = 0
    violations: int = 0
    worst: float = 0.0


@dataclass
class Tally:
    """Every kind of claim, and the first violations of each.

    Attributes:
        kinds: by name.
        stories: of violations, at most a few of each kind.
        verdicts: how many examples were given which verdict.
        unresolved: maxima that truth could not pin down, or without a radius.
        where: what is being checked now, for the stories.
        rows: names of the rows being checked, for the stories; None if 0, 1, ….
    """

    kinds: dict[str, Kind] = field(default_factory=dict)
    stories: list[str] = field(default_factory=list)
    verdicts: dict[str, int] = field(default_factory=dict)
    unresolved: int = 0
    where: str = ""
    rows: Array | None = None

    def compare(
        self, kind: str, seen: Array, claimed: Array, doubt: Array | float = 0.0
    ) -> None:
        """Check seen ≤ claimed + doubt, entry by entry; NaN claims nothing.

        Args:
            kind: of the claim.
            seen: `[claims, …]` what truth says.
            claimed: `[claims]` bounds.
            doubt: of truth, broadcastable to `seen`.
        """
        seen = np.asarray(seen)
        if not seen.size:
            return
        seen = seen.reshape(len(seen), -1)
        bound = np.asarray(claimed).reshape(-1, 1)
        room = np.asarray(doubt)
        room = room.reshape(len(room), -1) if room.ndim else room
        known = (
            ~np.isnan(seen)
            & ~np.isnan(bound)
            & (bound > -np.inf)
            & np.isfinite(room + 0 * seen)
        )
        wrong = known & (seen > bound + room)
        entry = self.kinds.setdefault(kind, Kind())
        entry.claims += int(known.any(1).sum())
        entry.checks += int(known.sum())
        entry.violations += int(wrong.sum())
        with np.errstate(all="ignore"):
            ratio = np.where(known & (bound > 0), (seen - room) / bound, 0)
        if ratio.size:
            entry.worst = max(entry.worst, float(ratio.max()))
        for row in np.flatnonzero(wrong.any(1))[:2]:
            if sum(story.startswith(f"{kind}:") for story in self.stories) < 8:
                column = int(np.argmax(np.where(wrong[row], seen[row], -np.inf)))
                self.stories.append(
                    f"{kind}: row {self._row(row)}: {float(seen[row, column]):.17g} > "
                    f"{float(bound[row, 0]):.17g} in {self.where}"
                )

    def refuse(self, kind: str, bad: Array, count: int | None = None) -> None:
        """Check that nothing of `bad` is true.

        Args:
            kind: of the claim.
            bad: bool `[claims, …]`, where truth contradicts.
            count: comparisons made, if not one per entry.
        """
        if not len(bad):
            return
        bad = np.asarray(bad).reshape(len(bad), -1)
        entry = self.kinds.setdefault(kind, Kind())
        entry.claims += len(bad)
        entry.checks += bad.size if count is None else count
        entry.violations += int(bad.sum())
        for row in np.flatnonzero(bad.any(1))[:2]:
            if sum(story.startswith(f"{kind}:") for story in self.stories) < 8:
                self.stories.append(f"{kind}: row {self._row(row)} in {self.where}")

    def _row(self, row: int) -> int:
        return int(row if self.rows is None else self.rows[row])

    @property
    def violations(self) -> int:
        """Of all kinds."""
        return sum(kind.violations for kind in self.kinds.values())

    @property
    def checks(self) -> int:
        """Of all kinds."""
        return sum(kind.checks for kind in self.kinds.values())

    @property
    def claims(self) -> int:
        """Of all kinds."""
        return sum(kind.claims for kind in self.kinds.values())

    def table(self) -> str:
        """What was counted, one line per kind."""
        lines = [
            f"{'claim':34}{'claims':>10}{'checks':>12}{'violations':>12}{'worst':>12}"
        ]
        for name, kind in sorted(self.kinds.items()):
            lines.append(
                f"{name:34}{kind.claims:>10}{kind.checks:>12}{kind.violations:>12}"
                f"{kind.worst:>12.6f}"
            )
        lines.append(
            f"{'all':34}{self.claims:>10}{self.checks:>12}{self.violations:>12}"
        )
        verdicts = ", ".join(f"{k} {n}" for k, n in sorted(self.verdicts.items()))
        lines += [f"verdicts: {verdicts}"]
        lines += [f"maxima not pinned down, or without a radius: {self.unresolved}"]
        return "\n".join([*lines, *self.stories])
