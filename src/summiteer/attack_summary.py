"""What an attack's arrays say: the content of result.json (architecture.md)."""

from typing import Any

from summiteer.summary import Work, share_of, summary


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
        {"more_steps": more if labelled else None},
    )
