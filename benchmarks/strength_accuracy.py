"""Robust accuracy: a search beside AutoAttack, in whole and in its first two parts."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import summiteer as sm
from benchmarks.auto_attack import Counted, Part, auto_attack, kept
from benchmarks.strength_settings import Setting, wrong

#: What APGD-CE and APGD-T spend on an example that they do not break: a run of 100
#: steps and nine of as many.
EQUAL = 1010
#: Whose proofs and all are timed.
WHOLE_EXAMPLES = 50


@dataclass(frozen=True)
class Attacked:
    """What an attack of ours came to.

    Attributes:
        robust: `[examples]` which are still classified rightly, ties as errors.
        gradients: rows evaluated with gradient.
        forwards: rows evaluated without; None where nobody counted.
        seconds: of processor time.
    """

    robust: list[bool]
    gradients: int
    forwards: int | None
    seconds: float


@dataclass(frozen=True)
class Compared:
    """One setting.

    Attributes:
        setting: what was attacked.
        parts: of AutoAttack, in order, as many as count.
        ours: a search.
        whole: `sm.attack` with its proofs, of the first `WHOLE_EXAMPLES`; None where it
            is not asked for.
    """

    setting: Setting
    parts: list[Part]
    ours: Attacked
    whole: Attacked | None = None

    @property
    def theirs(self) -> list[bool]:
        """Which examples all parts leave."""
        return self.parts[-1].robust


def searched(
    setting: Setting,
    effort: str,
    budget: int | None = None,
    without: tuple[str, ...] = (),
) -> tuple[Attacked, sm.Search]:
    """Search until misclassified; what counts as broken is asked of the model again."""
    counted = Counted(setting.model)
    problem = setting.problem().with_model(counted)
    began = time.process_time()
    found = sm.search(
        problem, effort, budget=budget, until=sm.Misclassified(), without=without
    )
    seconds = time.process_time() - began
    points = found.misclassified_points
    assert points is not None
    robust = ~wrong(setting, points.nan_to_num(0.0))
    # What the search says that it spent, or what the model has seen, if that is more.
    gradients = max(found.gradient_evaluations, counted.gradients)
    return Attacked(robust.tolist(), gradients, counted.forwards, seconds), found


def attacked(setting: Setting) -> Attacked:
    """`sm.attack` with screen, certificates and all."""
    began = time.process_time()
    found = sm.attack(
        setting.model,
        setting.inputs,
        setting.labels,
        region=setting.region,
        until=sm.Misclassified(),
    )
    seconds = time.process_time() - began
    robust = ~wrong(setting, found.perturbations)
    gradients = found.result["gradient_evaluations"]
    return Attacked(robust.tolist(), gradients, None, seconds)


def known(setting: Setting, peers: bool) -> list[Part] | None:
    """AutoAttack's parts; None where no run is kept and none is to be made."""
    call = auto_attack if peers else kept
    return call(
        setting.model,
        setting.inputs,
        setting.labels,
        setting.norm,
        setting.radius,
    )


def beside_standard(setting: Setting, peers: bool) -> Compared | None:
    """Standard effort beside the whole of AutoAttack.

    Args:
        setting: what is attacked.
        peers: whether to run AutoAttack where no earlier run is kept.
    """
    parts = known(setting, peers)
    if parts is None:
        return None
    ours, _ = searched(setting, "standard")
    few = replace(setting, examples=min(setting.examples, WHOLE_EXAMPLES))
    return Compared(setting, parts, ours, attacked(few))


def beside_two(setting: Setting, peers: bool) -> Compared | None:
    """Thorough effort within `EQUAL` beside APGD-CE and APGD-T; see above."""
    parts = known(setting, peers)
    if parts is None:
        return None
    ours, _ = searched(setting, "thorough", EQUAL)
    return Compared(setting, parts[:2], ours)


def missed(robust: Sequence[bool], other: Sequence[bool]) -> list[int]:
    """The examples that are robust for the first and broken by the other."""
    pairs = zip(robust, other, strict=True)
    return [i for i, (one, two) in enumerate(pairs) if one and not two]


def total(parts: Iterable[Part], name: str) -> float:
    """The sum of a column over parts."""
    return float(sum(getattr(part, name) for part in parts))
