"""What arrays say that attack and audit share: result.json (architecture.md)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._caller import undisturbed
from summiteer._version import __version__
from summiteer.examination import EVIDENCE_NAMES, OUTCOME_NAMES, VERDICT_NAMES
from summiteer.findings import Finding
from summiteer.optimality import Evidence, Verdict, shares
from summiteer.problem import Problem
from summiteer.screen import Screening, signs
from summiteer.settings import Settings


@dataclass(frozen=True, eq=False)
class Work:
    """What a command has done.

    Attributes:
        problem: of all examples, or of the first of them.
        labelled: whether the targets of all are labels.
        settings: of the command.
        arrays: of all blocks, with "survived" and "outcome"; see `attack_block` and
            `audit_block`. Nothing here reads inputs, targets or perturbations, which
            may be left out (`numbers_of`).
        messages: of the warnings met.
        screening: of model and data.
        seconds: of computing.
        run: id of the run, None outside a store.
        files: of the run.
    """

    problem: Problem
    labelled: bool
    settings: Settings
    arrays: Mapping[str, Tensor]
    messages: Sequence[str]
    screening: Screening
    seconds: float
    run: str | None = None
    files: Sequence[str] = ()


def summary(
    command: str, work: Work, accuracies: Mapping[str, Any], more: Mapping[str, Any]
) -> dict[str, Any]:
    """Return result.json's content, null where undefined.

    Args:
        command: "attack" or "audit".
        work: what it has done.
        accuracies: what the command says about accuracy, in its own words.
        more: what else it says, after the survivors.
    """
    problem, settings, arrays = work.problem, work.settings, work.arrays
    labelled, survived = work.labelled, arrays["survived"]
    everyone = torch.ones_like(survived)
    table: dict[str, dict[str, int]] = {}
    for (verdict, evidence), count in _verdicts(arrays, everyone).items():
        table.setdefault(verdict.name, {})[evidence.name] = count
    survivors = int(survived.sum()) if labelled else None
    seen, checks = signs(arrays)
    warned = [Finding("WARNING", text.rstrip(".")) for text in work.messages]
    result: dict[str, Any] = {
        "schema": 1,
        "command": command,
        "version": __version__,
        "run": work.run,
        "seed": settings.seed,
        "examples": len(survived),
        "region": region_record(settings, problem),
        "objective": objective_name(problem.objective),
        "clean_accuracy": share_of(arrays["correct"]) if labelled else None,
        **accuracies,
        "proved_robust_accuracy": _proved_robust(arrays["proved_robust"]),
        "loss": _losses(arrays),
        "examined_in": _precision(problem),
        "outcomes": counts_of(OUTCOME_NAMES, arrays["outcome"]),
        "verdicts": table,
        "shares": _shares(arrays, everyone, problem),
        "survivors": {
            "examples": survivors,
            "shares": _shares(arrays, survived, problem) if survivors else None,
        },
        **more,
        "gradient_evaluations": int(arrays["gradient_evaluations"].sum()),
        "seconds": work.seconds,
        "findings": [f.as_json() for f in (*warned, *work.screening.findings, *seen)],
        "screen": {
            "sample": list(work.screening.sample),
            "checks": {**work.screening.checks, **checks},
        },
        "files": list(work.files),
    }
    if settings.right_within is not None:
        result["within_tolerance"] = _right(arrays, settings.right_within)
    return result


def _verdicts(
    arrays: Mapping[str, Tensor], mask: Tensor
) -> dict[tuple[Verdict, Evidence], int]:
    """How many examples have each verdict, in the order of the first with it."""
    pairs = arrays["verdict"][mask].short() * len(EVIDENCE_NAMES)
    pairs = pairs + arrays["evidence"][mask]
    codes, firsts, counts = np.unique(
        pairs.numpy(), return_index=True, return_counts=True
    )
    found = {}
    for place in firsts.argsort():
        verdict, evidence = divmod(int(codes[place]), len(EVIDENCE_NAMES))
        known = Verdict[VERDICT_NAMES[verdict]], Evidence[EVIDENCE_NAMES[evidence]]
        found[known] = int(counts[place])
    return found


def _shares(
    arrays: Mapping[str, Tensor], mask: Tensor, problem: Problem
) -> dict[str, float]:
    found = _verdicts(arrays, mask)
    tolerance = tolerances.stationary(problem.inputs.dtype)
    # A zero gradient that is no maximum's is no stationary point: it is masking.
    still = (arrays["residuals"][mask] <= tolerance) & ~arrays["masked"][mask]
    known = shares([v for v, _ in found], [e for _, e in found], list(found.values()))
    return {"stationary": share_of(still), **known}


def _losses(arrays: Mapping[str, Tensor]) -> dict[str, float | int | None]:
    """Means over the same examples: those whose losses are finite, clean and after."""
    clean, after = arrays["clean_losses"], arrays["losses"]
    both = clean.isfinite() & after.isfinite()
    return {
        "examples": int(both.sum()),
        "clean_mean": mean_of(clean[both]),
        "attacked_mean": mean_of(after[both]),
    }


def _precision(problem: Problem) -> str:
    """The coarsest precision inside the model as it is examined: float64 if it can."""
    few = problem.take(torch.arange(min(len(problem), 2)))
    with undisturbed(few.model):
        return str(few.in_double().precision()).removeprefix("torch.")


def _proved_robust(codes: Tensor) -> float | None:
    """The share proved correct on the whole region; None where no bound is known."""
    return None if bool((codes < 0).any()) else share_of(codes == 1)


def _right(arrays: Mapping[str, Tensor], tolerance: float) -> dict[str, float]:
    """Regression: shares with |f - y| ≤ tolerance, before and after; ½(f-y)² = loss.

    What is NaN or infinite is not within.
    """
    most = 0.5 * tolerance**2
    return {
        "tolerance": tolerance,
        "not_finite": int((~arrays["losses"].isfinite()).sum()),
        "clean": share_of(arrays["clean_losses"] <= most),
        "attacked": share_of(arrays["losses"] <= most),
    }


def objective_name(objective: object) -> str:
    """The name of an objective's class, or of a function."""
    if isinstance(objective, type) or not hasattr(objective, "__qualname__"):
        return type(objective).__name__
    return str(objective.__qualname__)


def counts_of(names: tuple[str, ...], codes: Tensor) -> dict[str, int]:
    """How many examples have each code, by name; those that none has are left out."""
    counts = torch.bincount(codes.long(), minlength=len(names)).tolist()
    return {name: n for name, n in zip(names, counts, strict=True) if n}


def region_record(settings: Settings, problem: Problem) -> dict[str, Any]:
    """The region as result.json has it.

    Args:
        settings: norm, radius (a list of several) and box.
        problem: of some of the examples.

    Returns:
        With a mask also "moving": how many coordinates may move at least, at most, of
        all; None where the mask has a part for every example, of whom the problem has
        a few.
    """
    radius = torch.as_tensor(settings.region.size, dtype=torch.float64)
    box, whole = settings.box, problem.inputs[0].numel()
    record: dict[str, Any] = {
        "norm": settings.region.norm,
        "radius": radius.tolist(),
        "box": list(box) if box else None,
    }
    if settings.mask is not None:
        counts = settings.mask.reshape(-1, whole).sum(1)
        record["moving"] = [int(counts.min()), int(counts.max()), whole]
    elif problem.mask is not None:
        record["moving"] = [None, None, whole]
    return record


def share_of(mask: Tensor) -> float:
    """The share of true entries."""
    return float(mask.double().mean())


def mean_of(values: Tensor) -> float | None:
    """The mean of what is finite."""
    finite = values[values.isfinite()]
    return float(finite.mean()) if len(finite) else None
