"""The main job: attack a model on data and say what the robust accuracy is worth."""

import copy
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from summiteer import _rows, tolerances
from summiteer._ascend import Misclassified, Until, ascend
from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.adversaries import Adversary
from summiteer.ascent import Ascent
from summiteer.attack_summary import (
    EFFORTS,
    EVIDENCE_NAMES,
    VERDICT_NAMES,
    Settings,
    summarise,
)
from summiteer.data import Property
from summiteer.errors import SummiteerWarning, UserError, collected_warnings
from summiteer.objectives import Margin, Objective, Quadratic, default_objective
from summiteer.optimality import local_optimality
from summiteer.optimality.bracket import proved_robust
from summiteer.outcome import Outcome
from summiteer.problem import Problem, model_dtype
from summiteer.regions import Box, Region
from summiteer.starts import CentreStart, GivenStart, Start, UniformStart

#: Numbers per point that a block may hold at once; a point is kept about ten times.
_BLOCK_NUMBERS = 2**23
_LARGEST_BLOCK = 256


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
        accuracy: float | None = self.result["robust_accuracy"]
        return accuracy

    @property
    def clean_accuracy(self) -> float | None:
        """Share correct without attack, or None for regression."""
        accuracy: float | None = self.result["clean_accuracy"]
        return accuracy


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
    until: Until | None = None,
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
        until: `Misclassified()` stops an example once it is.
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
        region=region,
        box=box,
        objective=objective,
        effort=EFFORTS[effort],
        adversary=adversary,
        seed=seed,
        until=until,
        within=within,
    )
    began = time.monotonic()
    with collected_warnings() as messages:
        problem = problem_of(model, inputs, targets, settings)
        problem.examine()
        size = block_size_of(problem, settings, block_size)
        blocks = [
            attack_block(problem.take(index), settings)
            for index in blocks_of(len(problem), size)
        ]
    arrays = gather(blocks)
    seconds = round(time.monotonic() - began, 3)
    result = summarise(arrays, settings, problem, messages, seconds=seconds)
    for finding in result["findings"]:
        warnings.warn(finding["text"], SummiteerWarning, stacklevel=2)
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


def property_problem(
    model: Model, claim: Property, shape: tuple[int, ...] | None = None
) -> Problem:
    """Return the problem of violating a property, in float64 throughout.

    One example, the centre of the box; the region is the box in perturbation
    coordinates, rounded inwards (`Property.around`); the objective is the margin
    max over rivals j of Y_j - Y_label, which is at least 0 exactly at violations.

    Args:
        model: an nn.Module, of which a float64 copy is attacked, or a callable.
        claim: the property.
        shape: of one input of the model; `[n]` if None.

    Raises:
        UserError: the property does not fit the model, or its box is one point.
    """
    model = _double_copy(model)
    centre, lower, upper = claim.around(torch.float64)
    shape = shape or tuple(centre.shape)
    if centre.numel() != torch.Size(shape).numel():
        raise UserError(
            f"--property: {claim.name} declares {centre.numel()} inputs, but the model "
            f"takes {list(shape)}."
        )
    radius = float((upper - lower).max()) / 2
    if radius == 0:
        raise UserError(
            f"--property: the box of {claim.name} is one point; run the model on it."
        )
    inputs = centre.reshape(1, *shape)
    region = Box(lower.reshape(shape), upper.reshape(shape), radius=radius)
    label = torch.tensor([claim.label])
    problem = Problem(model, inputs, label, Margin(), region)
    with undisturbed(model):
        outputs = problem.probe()
    if outputs.shape != (1, claim.outputs):
        raise UserError(
            f"--property: {claim.name} declares {claim.outputs} outputs, but the "
            f"model's output for one input has the shape {list(outputs.shape)}."
        )
    if len(claim.rivals) == claim.outputs - 1:
        return problem
    chosen = _selection(claim)
    both = (
        nn.Sequential(*(model if isinstance(model, nn.Sequential) else [model]), chosen)
        if isinstance(model, nn.Module)
        else lambda values: chosen(model(values))
    )
    return replace(problem, model=both, targets=torch.zeros_like(label))


def _double_copy(model: Model) -> Model:
    return copy.deepcopy(model).double() if isinstance(model, nn.Module) else model


def _selection(claim: Property) -> nn.Linear:
    """The outputs of label and rivals, in this order, exactly: sums with zeros."""
    kept = [claim.label, *claim.rivals]
    layer = nn.Linear(claim.outputs, len(kept), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(claim.outputs, dtype=torch.float64)[kept])
        layer.bias.zero_()
    return layer


@dataclass(frozen=True)
class Margins:
    """How a property fares at one input.

    Attributes:
        rival: j of the largest Y_j among the rivals, in float64.
        margin: Y_rival - Y_label in float64; the property is violated if ≥ 0.
        own: the largest Y_j - Y_label in the model's own dtype at the nearest of its
            numbers inside the box; None where it has no other dtype or no such number.
        inside: whether the input lies inside the declared box.
        outputs: Y_0, Y_1, … in float64.
    """

    rival: int
    margin: float
    own: float | None
    inside: bool
    outputs: tuple[float, ...]

    @property
    def violated(self) -> bool:
        """Inside the box and Y_rival ≥ Y_label in float64; NaN violates nothing."""
        return self.inside and self.margin >= 0


def property_margins(model: Model, claim: Property, point: Tensor) -> Margins:
    """Evaluate a property at one input, afresh.

    Args:
        model: the caller's.
        claim: the property.
        point: `[1, *input]` float64.
    """
    rivals = list(claim.rivals)

    def outputs_of(network: Model, values: Tensor) -> Tensor:
        with undisturbed(network), torch.no_grad():
            return network(values)[0].double()

    outputs = outputs_of(_double_copy(model), point)
    margins = outputs[rivals] - outputs[claim.label]
    best = int(margins.argmax())
    own, dtype = None, model_dtype(model)
    if dtype is not None and dtype != torch.float64:
        nearest = _nearest(claim, point, dtype)
        if nearest is not None:
            theirs = outputs_of(model, nearest)
            own = float((theirs[rivals] - theirs[claim.label]).max())
    return Margins(
        rival=rivals[best],
        margin=float(margins[best]),
        own=own,
        inside=bool(claim.contains(point)),
        outputs=tuple(outputs.tolist()),
    )


def _nearest(claim: Property, point: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The nearest input of another dtype inside the box, or None."""
    try:
        lower, upper = claim.limits(dtype)
    except UserError:
        return None
    shape = point.shape
    return point.to(dtype).clamp(lower.reshape(shape), upper.reshape(shape))


def block_size_of(problem: Problem, settings: Settings, wanted: int | None) -> int:
    """Examples attacked at once: `wanted`, or what memory holds of all restarts.

    Args:
        problem: of all examples.
        settings: of the attack.
        wanted: by the user, or None.

    Raises:
        UserError: `wanted` is below 1.
    """
    if wanted is not None:
        if wanted < 1:
            raise UserError(f"block_size: expected an integer ≥ 1, got {wanted}.")
        return wanted
    runs = settings.effort.restarts + 1
    fits = _BLOCK_NUMBERS // (runs * problem.inputs[0].numel())
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
        correct (clean), masked (gradient exactly zero and no maximum), broken (any run
        met NaN or infinity), survived, flipped (by more_steps), proved_robust (int8: 1
        proved correct on the whole region, 0 not, -1 no bound known),
        gradient_evaluations.
    """
    effort = settings.effort
    start: Start = CentreStart()
    if effort.restarts:
        start += UniformStart(restarts=effort.restarts, seed=settings.seed)
    ascent = ascend(
        problem, settings.adversary, start, effort.max_steps, until=settings.until
    )
    points = _strongest(problem, ascent)
    certificate = local_optimality(problem, points, settings.within)
    with undisturbed(problem.model):
        rows = problem.rows()
        clean, after = rows.value(torch.zeros_like(points)), rows.evaluate(points)
    _check_inside(problem, points)
    # NaN is evidence of nothing, least of all of a right answer.
    correct = ~clean.wrong & ~clean.loss.isnan()
    survived = correct
    if ascent.misclassified is not None:
        survived = correct & ~ascent.misclassified
    robust = _proved_robust(problem, survived)
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
        "correct": correct.cpu(),
        "masked": (_rows.norm(after.gradient) == 0).cpu() & ~certificate.maximum.cpu(),
        "broken": torch.from_numpy((ascent.outcome == Outcome.NON_FINITE).any(0)),
        "survived": survived.cpu(),
        "flipped": flipped.cpu(),
        "proved_robust": robust,
        "gradient_evaluations": torch.tensor([ascent.gradient_evaluations + spent]),
    }


def _codes(names: tuple[str, ...], values: list[str]) -> Tensor:
    return torch.tensor([names.index(value) for value in values], dtype=torch.int8)


def _check_inside(problem: Problem, points: Tensor) -> None:
    """An adversary of the user's own may forget to project; that proves nothing."""
    outside = (~problem.feasible.contains(points)).nonzero().flatten()
    if len(outside):
        ids = torch.as_tensor(problem.ids)[outside.cpu()].tolist()
        raise UserError(
            f"adversary: its points left the region for examples {ids}; make every "
            "step with rows.advance, which projects."
        )


def _strongest(problem: Problem, ascent: Ascent) -> Tensor:
    """Highest objective, or a misclassified iterate where that one is classified."""
    example = torch.arange(len(problem), device=ascent.best.device)
    final = ascent.final[ascent.best_restart, example]
    loss = ascent.losses[ascent.best_restart, example]
    # On a plateau of equal losses the end point is the one that has converged.
    noise = tolerances.SAME_LOSS * torch.finfo(loss.dtype).eps * loss.abs()
    points = _rows.choose(ascent.best_loss - loss <= noise, final, ascent.best)
    if ascent.misclassified is None or ascent.misclassified_points is None:
        return points
    with undisturbed(problem.model):
        wrong = problem.rows().value(points).wrong
    return _rows.choose(
        ascent.misclassified & ~wrong, ascent.misclassified_points, points
    )


def _proved_robust(problem: Problem, survived: Tensor) -> Tensor:
    """See `attack_block`; what an attack has broken needs no bound."""
    index = survived.nonzero().flatten()
    # One example, if none survived, tells whether there is a bound at all.
    asked = index if len(index) else torch.zeros(1, dtype=torch.int64)
    with undisturbed(problem.model):
        proved = proved_robust(problem.take(asked).in_double())
    robust = torch.zeros(len(survived), dtype=torch.int8)
    if proved is None:
        return robust - 1
    return robust.index_copy(0, index.cpu(), proved[: len(index)].to(torch.int8).cpu())


def _continue(
    problem: Problem, settings: Settings, ascent: Ascent, survived: Tensor
) -> tuple[Tensor, int]:
    """Which survivors `more_steps` further steps of every run would flip."""
    flipped = torch.zeros_like(survived)
    index = survived.nonzero().flatten()
    if not (problem.labelled and len(index) and settings.effort.more_steps):
        return flipped, 0
    more = ascend(
        problem.take(index),
        settings.adversary,
        GivenStart(ascent.final[:, index]),
        settings.effort.more_steps,
        until=Misclassified(),
    )
    assert more.misclassified is not None
    flipped[index] = more.misclassified
    return flipped, more.gradient_evaluations


def gather(blocks: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Put the arrays of all blocks together, in order."""
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}
