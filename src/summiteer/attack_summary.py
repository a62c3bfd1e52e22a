"""What an attack's arrays say: the content of result.json (architecture.md)."""

from typing import Any

from summiteer.examination import EVIDENCE_NAMES, VERDICT_NAMES
from summiteer.optimality import Evidence, Verdict
from summiteer.searching import SOURCE_NAMES, STOPPED
from summiteer.summary import Work, counts_of, mean_of, share_of, summary

#: Restarts of an example that estimate anything; see `Effort.unseen`.
_FEWEST = 4


def attack_result(work: Work) -> dict[str, Any]:
    """Return result.json's content (architecture.md), null where undefined.

    Args:
        work: what the attack has done.
    """
    labelled, arrays = work.labelled, work.arrays
    more = {
        "steps": work.settings.effort.more_steps,
        "flipped": int(arrays["flipped"].sum()),
    }
    return summary(
        "attack",
        work,
        {"robust_accuracy": share_of(arrays["survived"]) if labelled else None},
        {"more_steps": more if labelled else None, "search": _search(work)},
    )


def _search(work: Work) -> dict[str, Any] | None:
    """How the search went; None of an adversary of the user's own.

    `found_by`: which source broke the examples that were right before, without labels
    which found the highest point. `early_stop`: whether restarts may have ended once
    little seemed to be left, which makes the bounds nominal. `maxima`, `unseen` and
    `unseen_bound` are means over the survivors (without labels all examples) with at
    least `_FEWEST` restarts from random points, `restarted` of them, without those
    proved to be global maxima: no other holds more. Chosen by that number, never by
    what they met: to leave out whom the bound says nothing about leaves out the least
    known.
    """
    arrays = work.arrays
    if "source" not in arrays:
        return None
    survived, source = arrays["survived"], arrays["source"]
    broken = arrays["correct"] & ~survived
    summit = arrays["verdict"] == VERDICT_NAMES.index(Verdict.GLOBAL_MAXIMUM.name)
    proved = arrays["evidence"] == EVIDENCE_NAMES.index(Evidence.PROVED.name)
    known = (arrays["draws"] >= _FEWEST) & ~(summit & proved)
    if work.labelled:
        known &= survived
    return {
        "budget": work.settings.effort.budget,
        "early_stop": work.settings.effort.restarts > _FEWEST,
        "found_by": counts_of(
            SOURCE_NAMES, source[broken] if work.labelled else source
        ),
        "stopped": counts_of(STOPPED, arrays["stopped"]),
        "restarted": int(known.sum()),
        "maxima": mean_of(arrays["maxima"][known].double()),
        "unseen": mean_of(arrays["unseen"][known]),
        "unseen_bound": mean_of(arrays["unseen_bound"][known]),
    }
