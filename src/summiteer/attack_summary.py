"""What an attack's arrays say: the content of result.json (architecture.md)."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._ascend import Until
from summiteer._version import __version__
from summiteer.adversaries import Adversary
from summiteer.objectives import Objective
from summiteer.optimality import Evidence, Verdict, shares
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.regions import Region

OUTCOME_NAMES = tuple(outcome.name for outcome in Outcome)
VERDICT_NAMES = tuple(verdict.name for verdict in Verdict)
EVIDENCE_NAMES = tuple(evidence.name for evidence in Evidence)


@dataclass(frozen=True)
class Effort:
    """How much work an attack is.

    Attributes:
        restarts: runs from uniform points, besides the one from the centre.
        max_steps: of each run.
        more_steps: spent afterwards on the survivors, to see what they would flip.
    """

    restarts: int
    max_steps: int
    more_steps: int = 50


EFFORTS = {"standard": Effort(4, 100), "thorough": Effort(19, 500)}


@dataclass(frozen=True, eq=False)
class Settings:
    """Everything that determines an attack besides model and data.

    Attributes:
        region: the set of allowed perturbations.
        box: (lo, hi) in input coordinates, or None.
        objective: what is ascended; `default_objective` if None.
        effort: restarts and steps.
        adversary: the region's default if None.
        seed: of the starts.
        until: a further reason to stop, such as `Misclassified()`.
        within: search distance of verdicts, in radii.
        right_within: for regression, |f - y| that counts as right, or None.
    """

    region: Region
    box: tuple[float, float] | None = None
    objective: Objective | None = None
    effort: Effort = EFFORTS["standard"]
    adversary: Adversary | None = None
    seed: int = 0
    until: Until | None = None
    within: float = tolerances.WITHIN
    right_within: float | None = None


def summarise(
    arrays: Mapping[str, Tensor],
    settings: Settings,
    problem: Problem,
    messages: Sequence[str],
    *,
    seconds: float,
    run: str | None = None,
    files: Sequence[str] = (),
) -> dict[str, Any]:
    """Return result.json's content (architecture.md), null where undefined.

    Args:
        arrays: of all blocks.
        settings: of the attack.
        problem: for what the targets are.
        messages: of the warnings met.
        seconds: of computing.
        run: id of the run, None outside a store.
        files: of the run.
    """
    labelled, survived = problem.labelled, arrays["survived"]
    count = len(survived)
    everyone = torch.ones_like(survived)
    verdicts = _verdicts(arrays, everyone)
    table: dict[str, Counter[str]] = {}
    for verdict, evidence in verdicts:
        table.setdefault(verdict.name, Counter())[evidence.name] += 1
    survivors = int(survived.sum()) if labelled else None
    radius = torch.as_tensor(settings.region.size, dtype=torch.float64)
    result: dict[str, Any] = {
        "schema": 1,
        "command": "attack",
        "version": __version__,
        "run": run,
        "seed": settings.seed,
        "examples": count,
        "region": {
            "norm": settings.region.norm,
            "radius": float(radius) if radius.ndim == 0 else radius.tolist(),
            "box": list(settings.box) if settings.box else None,
        },
        "objective": objective_name(problem.objective),
        "clean_accuracy": _share(arrays["correct"]) if labelled else None,
        "robust_accuracy": _share(survived) if labelled else None,
        "proved_robust_accuracy": _proved_robust(arrays["proved_robust"]),
        "loss": {
            "clean_mean": _mean(arrays["clean_losses"]),
            "attacked_mean": _mean(arrays["losses"]),
        },
        "outcomes": _count(OUTCOME_NAMES, arrays["outcome"]),
        "verdicts": {name: dict(known) for name, known in table.items()},
        "shares": _shares(arrays, everyone, problem),
        "survivors": {
            "examples": survivors,
            "shares": _shares(arrays, survived, problem) if survivors else None,
        },
        "more_steps": {
            "steps": settings.effort.more_steps,
            "flipped": int(arrays["flipped"].sum()),
        }
        if labelled
        else None,
        "gradient_evaluations": int(arrays["gradient_evaluations"].sum()),
        "seconds": seconds,
    }
    result["findings"] = _findings(arrays, result, messages)
    result["files"] = list(files)
    if settings.right_within is not None:
        result["within_tolerance"] = _right(arrays, settings.right_within)
    return result


def _verdicts(
    arrays: Mapping[str, Tensor], mask: Tensor
) -> list[tuple[Verdict, Evidence]]:
    pairs = zip(
        arrays["verdict"][mask].tolist(), arrays["evidence"][mask].tolist(), strict=True
    )
    return [(Verdict[VERDICT_NAMES[v]], Evidence[EVIDENCE_NAMES[e]]) for v, e in pairs]


def _shares(
    arrays: Mapping[str, Tensor], mask: Tensor, problem: Problem
) -> dict[str, float]:
    pairs = _verdicts(arrays, mask)
    tolerance = tolerances.stationary(problem.inputs.dtype)
    # A zero gradient that is no maximum's is no stationary point: it is masking.
    still = (arrays["residuals"][mask] <= tolerance) & ~arrays["masked"][mask]
    known = shares([v for v, _ in pairs], [e for _, e in pairs])
    return {"stationary": _share(still), **known}


def _proved_robust(codes: Tensor) -> float | None:
    """The share proved correct on the whole region; None where no bound is known."""
    return None if bool((codes < 0).any()) else _share(codes == 1)


def _right(arrays: Mapping[str, Tensor], tolerance: float) -> dict[str, float]:
    """Regression: shares with |f - y| ≤ tolerance, before and after; ½(f-y)² = loss."""
    most = 0.5 * tolerance**2
    return {
        "tolerance": tolerance,
        "clean": _share(arrays["clean_losses"] <= most),
        "attacked": _share(arrays["losses"] <= most),
    }


def objective_name(objective: object) -> str:
    """The name of an objective's class, or of a function."""
    if isinstance(objective, type) or not hasattr(objective, "__qualname__"):
        return type(objective).__name__
    return str(objective.__qualname__)


def _findings(
    arrays: Mapping[str, Tensor], result: Mapping[str, Any], messages: Sequence[str]
) -> list[dict[str, Any]]:
    """What makes the result mean less than it seems to: code, example ids, text."""
    findings: list[dict[str, Any]] = [
        {"code": "WARNING", "examples": None, "text": text} for text in messages
    ]

    def found(code: str, mask: Tensor, text: str) -> None:
        ids = arrays["ids"][mask].tolist()
        findings.append({"code": code, "examples": ids, "text": text})

    flat = arrays["masked"]
    if bool(flat.any()):
        found(
            "ZERO_GRADIENT",
            flat,
            f"model: the gradient is exactly zero at the end point of "
            f"{int(flat.sum())} examples, and it is no maximum: gradient masking; the "
            "robust accuracy says nothing about them. Attack a differentiable version.",
        )
    broken = arrays["broken"]
    if bool(broken.any()):
        found(
            "NON_FINITE",
            broken,
            f"model: loss or gradient became NaN or infinite in runs of "
            f"{int(broken.sum())} examples; their last finite points were kept.",
        )
    more, survivors = result["more_steps"], result["survivors"]["examples"]
    if more and more["flipped"]:
        found(
            "NOT_CONVERGED",
            arrays["flipped"],
            f"{more['steps']} more steps flip {more['flipped']} of {survivors} "
            "survivors: the attack is not converged and the robust accuracy is too "
            "high; give it more steps or more effort.",
        )
    return findings


def _count(names: tuple[str, ...], codes: Tensor) -> dict[str, int]:
    counts = torch.bincount(codes.long(), minlength=len(names)).tolist()
    return {name: n for name, n in zip(names, counts, strict=True) if n}


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _mean(values: Tensor) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.mean()) if len(finite) else None
