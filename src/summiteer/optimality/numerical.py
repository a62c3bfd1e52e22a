"""The prover of last resort: floating-point measurement, never a proof.

Each point is climbed from in float64. If plain ascent leaves its neighbourhood it is
NOT_STATIONARY; else first and second order at the point reached decide.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._ascend import ascend, residual_reference
from summiteer._caller import undisturbed
from summiteer._constants import Constants, network_constants
from summiteer.adversaries import BacktrackingStep, Normalised, ProjectedAscent
from summiteer.networks import TwoLayer, TwoLayerNetwork, recognise
from summiteer.objectives import ScalarLoss
from summiteer.optimality.claims import Claims
from summiteer.optimality.curvature import (
    Curvature,
    dense_curvature,
    lanczos_curvature,
)
from summiteer.optimality.verdict import Verdict
from summiteer.problem import Problem, Rows
from summiteer.regions import Face
from summiteer.starts import GivenStart

#: Steps of ascent that show whether a point stays where it is: most leave at once.
_FIRST_STEPS, _MORE_STEPS = 4, 60


@dataclass(frozen=True, eq=False)
class _Examined:
    """First and second order of the function F at the points; all `[rows]`."""

    face: Face
    tangential: Tensor
    steepness: Tensor
    curvature: Curvature
    sign: Tensor | None


def prove(problem: Problem, points: Tensor, within: float) -> Claims:
    """Measure what the points are; evidence NUMERICAL throughout.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64 perturbations.
        within: search distance in radii.

    Returns:
        Claims with the residual of each point, and the curvature ratio and indices
        where the ascent from it ended.
    """
    reach = within * problem.size
    reached, gain = _climb(problem, points, within)
    moved = _rows.norm(reached - points)
    rows = problem.rows()
    with undisturbed(problem.model):
        left = moved > reach
        at = _rows.choose(left, points, reached)
        examined = _examine(rows, at)
        reference, _ = residual_reference(rows)
        gradient = rows.evaluate(points).gradient
        residual = rows.region.residual(points, gradient, reference)
    inside = rows.region.contains(points, slack=within)
    verdict, reason = _decide(examined, moved, reach, inside)
    multiplier = examined.face.multiplier
    ratio = torch.where(multiplier > 0, examined.curvature.top / multiplier, torch.nan)
    ratio = torch.where(ratio.isfinite(), ratio, torch.nan)
    numbers = {
        "residual": residual,
        "curvature_ratio": ratio,
        "distance_estimate": moved + _newton(examined),
        "gain": gain,
    }
    return Claims.undecided(len(points)).state(
        verdict=verdict,
        reason=reason,
        numbers=numbers,
        indices=_indices(rows, examined),
        certified_point=at,
    )


def _climb(
    problem: Problem, points: Tensor, within: float
) -> tuple[Tensor, Tensor]:
    """Where plain ascent from the points ends, and what it gains.

    The first step is `within` radii long, so that a point next to a maximum does not
    jump to another one.
    """
    climber = ProjectedAscent(Normalised(), BacktrackingStep(first=within))
    first = ascend(problem, climber, GivenStart(points), max_steps=_FIRST_STEPS)
    reached, loss = first.final[0].clone(), first.losses[0].clone()
    near = _rows.norm(reached - points) <= within * problem.size
    going = near & (first.steps[0] == _FIRST_STEPS)
    index = going.nonzero().flatten()
    if len(index):
        some = problem.take(index)
        more = ascend(some, climber, GivenStart(reached[index]), _MORE_STEPS)
        reached[index], loss[index] = more.final[0], more.losses[0]
    with undisturbed(problem.model):
        before = problem.rows().value(points).loss
    return reached, loss - before


def _examine(rows: Rows, points: Tensor) -> _Examined:
    """First and second order of F = s·f for two-layer networks (Prop. 1), else of ℓ."""
    structure, loss = recognise(rows.model), rows.objective
    if isinstance(structure, TwoLayer) and structure.network.outputs is None:
        if isinstance(loss, ScalarLoss):
            return _examine_two_layer(structure.network, loss, rows, points)
    gradient = rows.evaluate(points).gradient
    face = rows.region.face(points, gradient)
    curvature = lanczos_curvature(_hessian_product(rows, points), face, points)
    return _Examined(
        face, _rows.norm(face.project(gradient)), _rows.norm(gradient), curvature, None
    )


@torch.no_grad()
def _examine_two_layer(
    network: TwoLayerNetwork, loss: ScalarLoss, rows: Rows, points: Tensor
) -> _Examined:
    moved = rows.inputs + points
    sign = loss.slope_sign(network(moved), rows.targets)
    slope, bend = network.gradient(moved), network.hessian(moved)
    # Where u = 0 the loss is at its minimum: ∇ℓ = 0 and ∇²ℓ = φ''·∇f∇fᵀ decide.
    outer = slope[:, :, None] * slope[:, None, :] * loss.curvature_bound
    level = (sign == 0)[:, None, None]
    hessian = torch.where(level, outer, sign[:, None, None] * bend)
    gradient = sign[:, None] * slope
    face = rows.region.face(points, gradient)
    curvature = dense_curvature(hessian, face, gradient)
    return _Examined(
        face, _rows.norm(face.project(gradient)), _rows.norm(gradient), curvature, sign
    )


def _hessian_product(rows: Rows, points: Tensor) -> Callable[[Tensor], Tensor]:
    """v ↦ ∇²ℓ·v by two backward passes; 0 where the gradient does not depend on δ."""
    moved = (rows.inputs + points).detach().requires_grad_()
    loss = rows.objective(rows.model(moved), rows.targets)
    (gradient,) = torch.autograd.grad(loss.sum(), moved, create_graph=True)

    def product(vectors: Tensor) -> Tensor:
        if not gradient.requires_grad:
            return torch.zeros_like(vectors)
        (image,) = torch.autograd.grad(
            gradient, moved, vectors, retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(vectors) if image is None else image

    return product


def _newton(examined: _Examined) -> Tensor:
    """Distance to the critical point of the quadratic model on the face.

    Exact for dense spectra; γ/(μ - λ_max) bounds it for maxima where only λ_max is
    known.
    """
    face, curvature = examined.face, examined.curvature
    gap = face.multiplier - curvature.top - curvature.error
    bound = _rows.ratio(examined.tangential, gap.abs())
    known = torch.where(curvature.newton.isnan(), bound, curvature.newton)
    return torch.where(face.dimension == 0, 0.0, known)


def _decide(
    examined: _Examined, moved: Tensor, reach: Tensor, inside: Tensor
) -> tuple[list[Verdict], list[str]]:
    """The verdict of each row, and why."""
    face, curvature = examined.face, examined.curvature
    newton, steep = _newton(examined), examined.steepness
    bend = torch.maximum(curvature.top.abs(), curvature.bottom.abs())
    bend = torch.where(bend.isfinite(), bend, 0.0) + face.multiplier.abs()
    gap = face.multiplier - curvature.top
    doubt = curvature.error + tolerances.CURVATURE_RATIO * bend
    vertex = face.dimension == 0
    held = face.pressure > tolerances.CURVATURE_RATIO * steep
    pushed = face.pressure < -tolerances.CURVATURE_RATIO * steep
    leaves = (moved > reach) | ~inside
    leaves = leaves | (pushed & (face.pressure < -2 * reach * bend))
    away = moved + newton > reach
    flat = (steep == 0) & (bend == 0)
    first_order = held | face.pressure.isinf()
    cases = [
        (leaves & ~inside, Verdict.NOT_STATIONARY, "it lies outside the region"),
        (leaves, Verdict.NOT_STATIONARY, "ascent leaves the neighbourhood"),
        (flat, Verdict.FLAT, "gradient and curvature are zero"),
        (~first_order, Verdict.UNDECIDED, "a constraint's multiplier is near zero"),
        (vertex, Verdict.STRICT_LOCAL_MAXIMUM, "every coordinate is held at its bound"),
        (
            (gap > doubt) & ~away,
            Verdict.STRICT_LOCAL_MAXIMUM,
            "the curvature is below the multiplier on the whole tangent space",
        ),
        (
            (gap < -doubt) & ~away,
            Verdict.SADDLE,
            "the objective curves upwards along the region",
        ),
        (
            (gap.abs() > doubt) & away,
            Verdict.NOT_STATIONARY,
            "the nearest critical point of the quadratic model is farther away",
        ),
        (
            bend == 0,
            Verdict.UNDECIDED,
            "the curvature on the free coordinates is zero: piecewise linear here",
        ),
    ]
    verdicts = [Verdict.UNDECIDED] * len(moved)
    reasons = ["the curvature equals the multiplier within its error"] * len(moved)
    for mask, verdict, reason in reversed(cases):
        for row in mask.nonzero().flatten().tolist():
            verdicts[row], reasons[row] = verdict, reason
    return verdicts, reasons


def _indices(rows: Rows, examined: _Examined) -> dict[str, Tensor]:
    """The regularity indices of mathematics.md §6; empty where they are not known."""
    structure = recognise(rows.model)
    known = isinstance(structure, TwoLayer) and structure.network.outputs is None
    if not known or examined.sign is None or rows.region.norm not in ("l2", "sphere"):
        return {}
    assert isinstance(structure, TwoLayer)
    size = torch.as_tensor(rows.region.size, dtype=torch.float64)
    radius = size.expand(len(rows.inputs))
    constants: Constants = network_constants(structure.network, rows.inputs, radius)
    multiplier = examined.face.multiplier
    majorant = constants.majorant_for(examined.sign)
    steep = multiplier + constants.gradient_floor / radius
    infinite = torch.full_like(multiplier, torch.inf)
    return {
        "global": torch.where(multiplier > 0, majorant / multiplier, infinite),
        "unique": torch.where(multiplier > 0, 2 * majorant / steep, infinite),
        "a_priori": constants.a_priori,
    }
