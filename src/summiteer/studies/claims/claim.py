"""A claim: what is said, what is measured, and the rule that decides."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, TypeAlias

from torch import Tensor

from summiteer.studies.study import Study

#: How much is measured: `--quick` on digits, the usual, and `--full-mnist`.
Extent: TypeAlias = Literal["quick", "full", "full-mnist"]


class Standing(Enum):
    """What the measurement says of a claim."""

    SUPPORTED = "supported"
    NO_EFFECT = "no effect"
    REVERSED = "reversed"
    NOT_SUPPORTED = "not supported"
    INCONCLUSIVE = "inconclusive"
    NOT_REACHED = "not reached"
    NOT_JUDGED = "not judged"
    AS_IT_MUST = "as it must be"
    BUG = "a bug of ours"


@dataclass(frozen=True, eq=False)
class Row:
    """One finished cell, as a claim's rule sees it.

    Attributes:
        parameters: of the cell, defaults included.
        record: its numbers.
        arrays: loads its arrays.
    """

    parameters: Mapping[str, Any]
    record: Mapping[str, Any]
    arrays: Callable[[], Mapping[str, Tensor]]


#: Name of a study -> the rows of its finished cells, in its order.
Known: TypeAlias = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Judgement:
    """What the rule says about one protocol in one regime.

    Attributes:
        protocol: how it was measured, in a few words.
        regime: where, in a few words: an activation, a range of scales, data.
        standing: the verdict.
        sentence: what was seen, with its numbers, for a reader.
        effect: the number that the rule judges; None if there is none.
        low: lower end of its 95 % interval.
        high: upper end of it.
        numbers: whatever else was measured, for result.json.
        quantity: what the effect is, in a few words; shares begin with "share".
    """

    protocol: str
    regime: str
    standing: Standing
    sentence: str
    effect: float | None = None
    low: float | None = None
    high: float | None = None
    numbers: Mapping[str, Any] = field(default_factory=dict)
    quantity: str = ""


@dataclass(frozen=True)
class Claim:
    """One of C1 to C7 (mathematics.md §11).

    Attributes:
        key: "C1".
        title: in a few words.
        statement: what the paper says, in our words.
        rule: how it is decided, fixed before anything is measured, in words.
        studies: extent, what is known -> what has to be measured. It is asked again
            when its studies are done, until it names no new one, so that a study may
            rest on what another found. Equal cells, of other claims too, run once.
        judge: what is known, extent -> one judgement per protocol and regime, the
            first of which is the claim's primary one.
    """

    key: str
    title: str
    statement: str
    rule: str
    studies: Callable[[Extent, Known], tuple[Study, ...]]
    judge: Callable[[Known, Extent], tuple[Judgement, ...]]
