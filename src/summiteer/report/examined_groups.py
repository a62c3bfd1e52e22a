"""What the examined points of a run are, counted: all of them, and the survivors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality import Verdict
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.wording import plain

#: Kinds of points that are told apart -> what colour they have.
KINDS: Mapping[str, str] = {
    "global maximum, proved": "violet",
    "local maximum, proved": "green",
    "maximum, numerical": "green",
    "not stationary, proved": "orange",
    "not stationary, numerical": "orange",
    "saddle, proved": "pink",
    "saddle, numerical": "pink",
    "flat, proved": "gold",
    "flat, numerical": "gold",
    "undecided": "quiet",
}
_PROVED_MAXIMA = ("global maximum, proved", "local maximum, proved")
_NO_MAXIMA = ("not stationary", "saddle")


@dataclass(frozen=True)
class Group:
    """Points of one group of examples.

    Attributes:
        examples: how many.
        counts: name of `KINDS` -> how many, of those that there are.
        bounded: how many proved maxima have a proved bound of what is to be gained up
            to them.
        gain: the largest of these bounds; None without any.
    """

    examples: int
    counts: Mapping[str, int]
    bounded: int = 0
    gain: float | None = None

    @classmethod
    def of(cls, recorded: RecordedRun, mask: Tensor) -> "Group":
        """The examined points of some examples.

        Args:
            recorded: of the run.
            mask: `[n]` bool, which examples.
        """
        kinds = torch.tensor([*map(list(KINDS).index, kinds_of(recorded))])
        counts = {}
        for number, name in enumerate(KINDS):
            count = int((mask & (kinds == number)).sum())
            if count:
                counts[name] = count
        proved = mask & (kinds < len(_PROVED_MAXIMA))
        bounds = recorded.numbers.get("loss_gap_bounds")
        known = torch.zeros(0) if bounds is None else bounds[proved]
        known = known[known.isfinite()]
        gain = float(known.max()) if len(known) else None
        return cls(int(mask.sum()), counts, len(known), gain)

    @property
    def proved(self) -> int:
        """How many are proved to be near a maximum."""
        return sum(self.counts.get(name, 0) for name in _PROVED_MAXIMA)

    @property
    def measured(self) -> int:
        """How many were measured, not proved, to be near one."""
        return self.counts.get("maximum, numerical", 0)

    def no_maximum(self, evidence: str) -> int:
        """How many are no maximum.

        Args:
            evidence: "proved" or "numerical": how that is known.
        """
        names = [f"{name}, {evidence}" for name in _NO_MAXIMA]
        return sum(self.counts.get(name, 0) for name in names)

    def flat(self, evidence: str) -> int:
        """How many lie near a plateau.

        Args:
            evidence: "proved" or "numerical".
        """
        return self.counts.get(f"flat, {evidence}", 0)

    @property
    def undecided(self) -> int:
        """How many the measurement does not decide."""
        return self.counts.get("undecided", 0)


def kinds_of(recorded: RecordedRun) -> list[str]:
    """The kind of each example's examined point, a name of `KINDS`.

    Args:
        recorded: of the run.
    """
    pairs = zip(recorded.named("verdict"), recorded.named("evidence"), strict=True)
    return [_kind(Verdict[verdict], evidence) for verdict, evidence in pairs]


def _kind(verdict: Verdict, evidence: str) -> str:
    if verdict is Verdict.UNDECIDED:
        return "undecided"
    name = plain(verdict.name)
    if verdict.is_maximum:
        name = "maximum" if evidence == "NUMERICAL" else name.removeprefix("strict ")
    return f"{name}, {evidence.lower()}"
