"""What makes a result mean less than it seems to: seen, effect, remedy."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Finding:
    """One entry of `findings` in result.json.

    Attributes:
        code: a constant name such as TRAIN_MODE; one per kind of finding.
        seen: what was seen, with numbers; a clause that begins with the argument it is
            about ("model: …").
        effect: what it does to the result.
        remedy: what to do.
        examples: ids of the examples it is about; None where it is about all.
    """

    code: str
    seen: str
    effect: str = ""
    remedy: str = ""
    examples: tuple[int, ...] | None = None

    @property
    def text(self) -> str:
        """One sentence: seen: effect; remedy."""
        clauses = [clause for clause in (self.effect, self.remedy) if clause]
        return f"{self.seen}: {'; '.join(clauses)}." if clauses else f"{self.seen}."

    def as_json(self) -> dict[str, Any]:
        """The entry itself; `text` is what a terminal shows."""
        return {
            "code": self.code,
            "examples": None if self.examples is None else list(self.examples),
            "text": self.text,
            "seen": self.seen,
            "effect": self.effect,
            "remedy": self.remedy,
        }

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> Self:
        """From `as_json`."""
        ids = entry["examples"]
        return cls(
            entry["code"],
            entry["seen"],
            entry["effect"],
            entry["remedy"],
            None if ids is None else tuple(ids),
        )
