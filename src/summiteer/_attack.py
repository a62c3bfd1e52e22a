"""The main job: attack a model on data and say what the robust accuracy is worth."""

import warnings
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._ascend import Ascent, Misclassified, ascend
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.adversaries import Adversary
from summiteer.errors import SummiteerWarning, UserError
from summiteer.objectives import (
    CrossEntropy,
    Logistic,
    Objective,
    Quadratic,
    scalar,
)
from summiteer.optimality import Evidence, Verdict, local_optimality, shares
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.regions import Region
from summiteer.starts import CentreStart, GivenStart, Start, UniformStart

#: Numbers per point that a block may hold at once; a point is kept about ten times.
_BLOCK_NUMBERS = 2**23
_LARGEST_BLOCK = 256

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
        stop_on_success: stop an example once it is misclassified.
        within: search distance of verdicts, in radii.
        tolerance: for regression, |f - y| that counts as right, or None.
    """

    region: Region
    box: tuple[float, float] | None = None
    objective: Objective | None = None
    effort: Effort = EFFORTS["standard"]
    adversary: Adversary | None = None
    seed: int = 0
    stop_on_success: bool = False
    within: float = tolerances.WITHIN
    tolerance: float | None = None


@dataclass(frozen=True, eq=False)
class Attack:
    """What an attack found.

    Attributes:
        perturbations: `[n, *input]` float64, the strongest found for each example: the
            one of highest objective, or a misclassified one where that is not.
        arrays: per example, see `attack_block`.
        result: the content of result.json (architecture.md), without run and files.
    """

    perturbations: Tensor
    arrays: Mapping[str, Tensor]
    result: Mapping[str, Any]

    @property
    def robust_accuracy(self) -> float | None:
        """Share still correct, or None for regression."""
        return self.result["robust_accuracy"]  # type: ignore[no-any-return]

    @property
    def clean_accuracy(self) -> float | None:
        """Share correct without attack, or None for regression."""
        return self.result["clean_accuracy"]  # type: ignore[no-any-return]


def attack(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    region: Region,
    box: tuple[float, float] | None = (0.0, 1.0),
    objective: Objective | None = None,
    effort: str = "standard",
    adversary: Adversary | None = None,
    seed: int = 0,
    stop_on_success: bool = False,
    within: float = tolerances.WITHIN,
    block_size: int | None = None,
) -> Attack:
    """Attack every example and examine what was found.

    Args:
        model: an nn.Module or callable; run in eval mode, left as it was.
        inputs: `[n, *input]` in the model's dtype.
        targets: labels, ±1 or floats; see `default_objective`.
        region: the set of allowed perturbations.
        box: (lo, hi) in input coordinates, or None.
        objective: what is ascended.
        effort: "standard" or "thorough".
        adversary: the region's default if None.
        seed: of the random starts.
        stop_on_success: stop an example once it is misclassified.
        within: search distance of verdicts, in radii.
        block_size: examples attacked at once; chosen by memory if None.

    Returns:
        `Attack`.

    Raises:
        UserError: an argument cannot be used.

    Warns:
        SummiteerWarning: what makes the result mean less than it seems to.
    """
    if effort not in EFFORTS:
        raise UserError(f"effort: expected one of {list(EFFORTS)}, got {effort!r}.")
    settings = Settings(
        region,
        box,
        objective,
        EFFORTS[effort],
        adversary,
        seed,
        stop_on_success,
        within,
    )
    problem = problem_of(model, inputs, targets, settings)
    size = block_size or default_block_size(inputs, settings.effort.restarts + 1)
    blocks, messages = [], []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SummiteerWarning)
        for index in blocks_of(len(problem), size):
            blocks.append(attack_block(problem.take(index), settings))
    for warning in caught:
        text = str(warning.message)
        if not issubclass(warning.category, SummiteerWarning):
            warnings.warn_explicit(
                warning.message, warning.category, warning.filename, warning.lineno
            )
        elif text not in messages:
            messages.append(text)
            warnings.warn(text, SummiteerWarning, stacklevel=2)
    arrays = gather(blocks)
    result = summarise(arrays, settings, problem, messages)
    return Attack(arrays["perturbations"], arrays, result)


def problem_of(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    settings: Settings,
    ids: Tensor | None = None,
) -> Problem:
    """Return the checked problem of an attack; the default objective if none is given.

    Args:
        model: the caller's.
        inputs: `[n, *input]`.
        targets: `[n, …]`.
        settings: of the attack.
        ids: one integer per example; 0, 1, … if None.

    Raises:
        UserError: an argument cannot be used.
    """
    problem = Problem(
        model,
        inputs,
        torch.as_tensor(targets),
        settings.objective or Quadratic(),
        settings.region,
        box=settings.box,
        ids=ids,
    )
    if settings.objective is not None:
        return problem
    with undisturbed(model):
        objective = default_objective(problem.probe(), problem.targets)
    return replace(problem, objective=objective)


def default_objective(outputs: Tensor, targets: Tensor) -> Objective:
    """Choose the objective by outputs and targets (architecture.md, Defaults).

    `[b, K ≥ 2]` with integer labels: CrossEntropy. `[b]` or `[b, 1]` with floats:
    Logistic if they are exactly ±1, else Quadratic. `[b, K]` with floats: Quadratic.

    Args:
        outputs: of the model.
        targets: of the user.

    Raises:
        UserError: integers with one output, with the remedy.
    """
    several = outputs.ndim == 2 and outputs.shape[1] > 1
    if not targets.is_floating_point():
        if several:
            return CrossEntropy()
        raise UserError(
            f"targets: the model has one output, so integer labels ({targets.dtype}) "
            "do not fit; use floats -1 and +1 (2*targets - 1 for 0 and 1), or float "
            "targets for regression."
        )
    one = scalar(targets).ndim == 1 and not several
    if one and bool((targets.abs() == 1).all()):
        return Logistic()
    if one and bool(((targets == 0) | (targets == 1)).all()):
        raise UserError(
            "targets: all are 0 or 1; use 2*targets - 1 for labels -1 and +1, or name "
            "the objective (--objective quadratic) if this is regression."
        )
    return Quadratic()


def default_block_size(inputs: Tensor, runs: int) -> int:
    """Examples attacked at once, by memory; recorded with the run."""
    fits = _BLOCK_NUMBERS // (runs * inputs[0].numel())
    return max(1, min(_LARGEST_BLOCK, fits))


def blocks_of(count: int, size: int) -> Iterator[Tensor]:
    """The indices of each block of at most `size` examples."""
    for first in range(0, count, size):
        yield torch.arange(first, min(first + size, count))


def attack_block(problem: Problem, settings: Settings) -> dict[str, Tensor]:
    """Attack one block and examine it.

    Args:
        problem: of the block's examples.
        settings: of the attack.

    Returns:
        Arrays with one entry per example: ids, inputs, targets, perturbations
        (float64), losses (at the perturbation), clean_losses, residuals (float64
        examination), outcome, verdict, evidence (int8 codes, see the *_NAMES tables),
        correct (clean), survived, flipped (by more_steps), gradient_evaluations.
    """
    effort = settings.effort
    start = CentreStart() + UniformStart(restarts=effort.restarts, seed=settings.seed)
    until = Misclassified() if settings.stop_on_success and problem.labelled else None
    ascent = ascend(problem, settings.adversary, start, effort.max_steps, until=until)
    points = _strongest(problem, ascent)
    certificate = local_optimality(problem, points, settings.within)
    with undisturbed(problem.model):
        rows = problem.rows()
        clean, after = rows.value(torch.zeros_like(points)), rows.value(points)
    survived = (
        ~ascent.misclassified if ascent.misclassified is not None else ~clean.wrong
    )
    flipped, spent = _continue(problem, settings, ascent, survived)
    example = torch.arange(len(problem))
    codes = np.vectorize(lambda outcome: outcome.code, otypes=[np.int8])
    outcome = torch.from_numpy(codes(ascent.outcome))[
        ascent.best_restart.cpu(), example
    ]
    return {
        "ids": torch.as_tensor(problem.ids),
        "inputs": problem.inputs.cpu(),
        "targets": problem.targets.cpu(),
        "perturbations": points.double().cpu(),
        "losses": after.loss.double().cpu(),
        "clean_losses": clean.loss.double().cpu(),
        "residuals": certificate.residual.double().cpu(),
        "outcome": outcome,
        "verdict": _codes(VERDICT_NAMES, [v.name for v in certificate.verdict]),
        "evidence": _codes(EVIDENCE_NAMES, [e.name for e in certificate.evidence]),
        "correct": (~clean.wrong).cpu(),
        "survived": survived.cpu(),
        "flipped": flipped.cpu(),
        "gradient_evaluations": torch.tensor([ascent.gradient_evaluations + spent]),
    }


def _codes(names: tuple[str, ...], values: list[str]) -> Tensor:
    return torch.tensor([names.index(value) for value in values], dtype=torch.int8)


def _strongest(problem: Problem, ascent: Ascent) -> Tensor:
    """Highest objective, or a misclassified iterate where that one is classified."""
    if ascent.misclassified is None or ascent.misclassified_points is None:
        return ascent.best
    with undisturbed(problem.model):
        wrong = problem.rows().value(ascent.best).wrong
    swap = ascent.misclassified & ~wrong
    shape = (-1, *[1] * (ascent.best.ndim - 1))
    return torch.where(swap.reshape(shape), ascent.misclassified_points, ascent.best)


def _continue(
    problem: Problem, settings: Settings, ascent: Ascent, survived: Tensor
) -> tuple[Tensor, int]:
    """Which survivors `more_steps` further steps of every run would flip."""
    flipped = torch.zeros_like(survived)
    index = survived.nonzero().flatten()
    if not (problem.labelled and len(index) and settings.effort.more_steps):
        return flipped, 0
    start: Start = GivenStart(ascent.final[:, index])
    more = ascend(
        problem.take(index),
        settings.adversary,
        start,
        settings.effort.more_steps,
        until=Misclassified(),
    )
    assert more.misclassified is not None
    flipped[index] = more.misclassified
    return flipped, more.gradient_evaluations


def gather(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put the arrays of all blocks together, in order."""
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def summarise(
    arrays: Mapping[str, Tensor],
    settings: Settings,
    problem: Problem,
    messages: list[str],
) -> dict[str, Any]:
    """Return result.json's content (architecture.md), null where undefined.

    Args:
        arrays: of all blocks.
        settings: of the attack.
        problem: for what the targets are.
        messages: of the warnings met.
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
        "seed": settings.seed,
        "examples": count,
        "region": {
            "norm": settings.region.norm,
            "radius": float(radius) if radius.ndim == 0 else radius.tolist(),
            "box": list(settings.box) if settings.box else None,
        },
        "objective": type(problem.objective).__name__,
        "clean_accuracy": _share(arrays["correct"]) if labelled else None,
        "robust_accuracy": _share(survived) if labelled else None,
        "proved_robust_accuracy": None,
        "loss": {
            "clean_mean": _mean(arrays["clean_losses"]),
            "attacked_mean": _mean(arrays["losses"]),
        },
        "within_tolerance": _within_tolerance(arrays, settings, problem),
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
    }
    result["findings"] = _findings(arrays, result, messages)
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
    still = arrays["residuals"][mask] <= tolerance
    known = shares([v for v, _ in pairs], [e for _, e in pairs])
    return {"stationary": _share(still), **known}


def _within_tolerance(
    arrays: Mapping[str, Tensor], settings: Settings, problem: Problem
) -> dict[str, float] | None:
    """Regression: shares with |f - y| ≤ tolerance, before and after; ½(f-y)² = loss."""
    if settings.tolerance is None or not isinstance(problem.objective, Quadratic):
        return None
    most = 0.5 * settings.tolerance**2
    return {
        "tolerance": settings.tolerance,
        "clean": _share(arrays["clean_losses"] <= most),
        "attacked": _share(arrays["losses"] <= most),
    }


def _findings(
    arrays: Mapping[str, Tensor], result: Mapping[str, Any], messages: list[str]
) -> list[dict[str, Any]]:
    """What makes the result mean less than it seems to: code, examples, text."""
    findings: list[dict[str, Any]] = [
        {"code": "WARNING", "examples": None, "text": text} for text in messages
    ]
    outcomes, flat = result["outcomes"], Outcome.ZERO_GRADIENT
    if outcomes.get(flat.name):
        rows = (arrays["outcome"] == flat.code).nonzero().flatten().tolist()
        text = (
            f"the gradient is exactly zero for {len(rows)} examples, at the point, the "
            "centre and the boundary: gradient masking; the robust accuracy says "
            "nothing about them. Attack a differentiable version of the model."
        )
        findings.append({"code": "ZERO_GRADIENT", "examples": rows, "text": text})
        warnings.warn("model: " + text, SummiteerWarning, stacklevel=4)
    broken = Outcome.NON_FINITE
    if outcomes.get(broken.name):
        rows = (arrays["outcome"] == broken.code).nonzero().flatten().tolist()
        text = (
            f"loss or gradient became NaN or infinite for {len(rows)} examples; their "
            "last finite point was kept."
        )
        findings.append({"code": "NON_FINITE", "examples": rows, "text": text})
    more, survivors = result["more_steps"], result["survivors"]["examples"]
    if more and more["flipped"]:
        rows = arrays["flipped"].nonzero().flatten().tolist()
        text = (
            f"{more['steps']} more steps flip {more['flipped']} of {survivors} "
            "survivors: the attack is not converged and the robust accuracy is too "
            "high. Use --effort thorough or more --steps."
        )
        findings.append({"code": "NOT_CONVERGED", "examples": rows, "text": text})
    return findings


def _count(names: tuple[str, ...], codes: Tensor) -> dict[str, int]:
    counts = torch.bincount(codes.long(), minlength=len(names)).tolist()
    return {name: n for name, n in zip(names, counts, strict=True) if n}


def _share(mask: Tensor) -> float:
    return float(mask.double().mean())


def _mean(values: Tensor) -> float | None:
    finite = values[values.isfinite()]
    return float(finite.mean()) if len(finite) else None
