"""What an attack's arrays say: the content of result.json (architecture.md)."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from summiteer.problem import Problem
from summiteer.screen import Screening
from summiteer.settings import Settings
from summiteer.summary import share_of, summary


def attack_result(
    arrays: Mapping[str, Tensor],
    settings: Settings,
    problem: Problem,
    messages: Sequence[str],
    screening: Screening,
    *,
    seconds: float,
    run: str | None = None,
    files: Sequence[str] = (),
) -> dict[str, Any]:
    """Return result.json's content (architecture.md), null where undefined.

    Args:
        arrays: of all blocks, see `attack_block`.
        settings: of the attack.
        problem: for what the targets are.
        messages: of the warnings met.
        screening: of model and data.
        seconds: of computing.
        run: id of the run, None outside a store.
        files: of the run.
    """
    labelled = problem.labelled
    more = {
        "steps": settings.effort.more_steps,
        "flipped": int(arrays["flipped"].sum()),
    }
    return summary(
        "attack",
        {"robust_accuracy": share_of(arrays["survived"]) if labelled else None},
        {"more_steps": more if labelled else None},
        arrays,
        settings,
        problem,
        messages,
        screening,
        seconds=seconds,
        run=run,
        files=files,
    )
