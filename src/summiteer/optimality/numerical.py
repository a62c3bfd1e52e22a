"""The prover of last resort: floating-point measurement, never a proof.

Each point is climbed from in float64. If plain ascent leaves its neighbourhood it is
NOT_STATIONARY; else first and second order at the point reached decide.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import BacktrackingStep, Normalised, ProjectedAscent
from summiteer.draws import PLATEAU, Draws
from summiteer.networks import TwoLayerNetwork, recognise
from summiteer.objectives import ScalarLoss
from summiteer.optimality.claims import Claims
from summiteer.optimality.curvature import (
    Curvature,
    dense_curvature,
    lanczos_curvature,
)
from summiteer.optimality.decision import Measured, decide
from summiteer.outcome import Outcome
from summiteer.problem import Problem, Rows
from summiteer.regions import Face
from summiteer.regions._region import rows_of
from summiteer.starts import GivenStart

#: Steps of ascent that show whether a point stays where it is. Most leave at once; few
#: creep, and only those far from stationary go on to the last round.
_ROUNDS = (4, 60, 200)
#: Residual, in units of `within`, below which second order says more than more steps.
_CREEPING = 1e-2
#: Largest dimension of a dense spectrum: 10 ms a row; above it 32 Hessian products.
_DENSE_DIMENSION = 256
#: Points around a plateau or a maximum at which the objective is compared.
_AROUND = 8
#: Distances, in search distances, at which they lie: kinks show at every scale.
_DISTANCES = (1.0, 1e-2)
#: A search distance of fewer than ten units of rounding of x + δ resolves nothing.
_RESOLVED = 0.1


@dataclass(frozen=True, eq=False)
class _Examined:
    """First and second order of the function F at the points; all `[rows]`."""

    face: Face
    tangential: Tensor
    steepness: Tensor
    curvature: Curvature | None
    sign: Tensor | None


@dataclass(frozen=True, eq=False)
class _Climb:
    """Where plain ascent from the points ends; all `[rows, …]`."""

    reached: Tensor
    gain: Tensor
    stalled: Tensor


def prove(problem: Problem, points: Tensor, within: float, budget: int = 0) -> Claims:
    """Measure what the points are; evidence NUMERICAL throughout.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64 perturbations.
        within: search distance in radii.
        budget: of proofs; not used.

    Returns:
        Claims with the curvature ratio where the ascent from each point ended.
    """
    rows, reach = problem.rows(), within * problem.size
    with undisturbed(problem.model):
        precision = problem.precision()
        climb = _climb(problem, points, within, tolerances.stationary(precision))
        left = _rows.norm(climb.reached - points) > reach
        at = _rows.choose(left, points, climb.reached)
        examined = _examine(rows, at, reach)
        measured = replace(
            _measure(points, at, examined),
            left=left,
            stalled=climb.stalled,
            inside=rows.region.contains(points, slack=within),
            doubt=tolerances.curvature_ratio(precision),
        )
        measured = replace(
            measured,
            level=_level(rows, points, reach, measured.vanishing),
            rises=_rises(rows, at, reach, examined.face, torch.finfo(precision).eps),
            coarse=_unit(rows) > _RESOLVED * reach,
        )
    verdict, reason = decide(measured, reach)
    if precision != torch.float64:
        inner = str(precision).removeprefix("torch.")
        reason = [f"{text}; the model computes in {inner} inside" for text in reason]
    multiplier = examined.face.multiplier
    ratio = torch.where(multiplier > 0, measured.top / multiplier, torch.nan)
    numbers = {
        "curvature_ratio": torch.where(ratio.isfinite(), ratio, torch.nan),
        "distance_estimate": measured.distance,
        "gain": climb.gain,
    }
    return Claims.undecided(len(points)).state(
        verdict=verdict,
        reason=reason,
        numbers=numbers,
        certified_point=at,
    )


def _climb(problem: Problem, points: Tensor, within: float, tolerance: float) -> _Climb:
    """Where plain ascent from the points ends, and what it gains.

    The first step is `within` radii long, so that a point next to a maximum does not
    jump to another one.
    """
    climber = ProjectedAscent(Normalised(), BacktrackingStep(first=within))
    before = problem.rows().value(points).loss
    reached, loss = points.clone(), before.clone()
    stalled = torch.zeros_like(before, dtype=torch.bool)
    index = torch.arange(len(points), device=points.device)
    exact = tolerance <= tolerances.stationary(torch.float64)
    for steps in _ROUNDS:
        some, start = problem.take(index), GivenStart(reached[index])
        # In the saturated tail of an activation the residual is small and yet ascent
        # goes on for ever: the first steps are made whatever it is.
        first = exact and steps == _ROUNDS[0]
        stop = None if first else tolerance
        run = ascend(some, climber, start, max_steps=steps, tolerance=stop)
        reached[index], loss[index] = run.final[0], run.losses[0]
        ended = [outcome is Outcome.STALLED for outcome in run.outcome[0]]
        stalled[index] = torch.tensor(ended, device=points.device)
        near = _rows.norm(reached[index] - points[index]) <= within * some.size
        limit = [outcome is Outcome.STEP_LIMIT for outcome in run.outcome[0]]
        going = near & torch.tensor(limit, device=points.device)
        if steps == _ROUNDS[1]:
            going &= run.residual[0] > _CREEPING * within
        index = index[going]
        if not len(index):
            break
    return _Climb(reached, loss - before, stalled)


def _examine(rows: Rows, points: Tensor, reach: Tensor) -> _Examined:
    """First and second order of F = s·f for two-layer networks (Prop. 1), else of ℓ."""
    network, loss = recognise(rows.model).scalar, rows.objective
    if network is not None and isinstance(loss, ScalarLoss):
        return _examine_two_layer(network, loss, rows, points, reach)
    gradient = rows.evaluate(points).gradient
    face = rows.region.face(points, gradient)
    curvature: Curvature | None = None
    try:
        curvature = lanczos_curvature(_hessian_product(rows, points), face, points)
    except RuntimeError as error:
        # What autograd says of operations that have no second derivative.
        if "derivative" not in str(error) and "differentia" not in str(error):
            raise
    return _Examined(
        face, _rows.norm(face.project(gradient)), _rows.norm(gradient), curvature, None
    )


@torch.no_grad()
def _examine_two_layer(
    network: TwoLayerNetwork,
    loss: ScalarLoss,
    rows: Rows,
    points: Tensor,
    reach: Tensor,
) -> _Examined:
    moved = rows.inputs + points
    output, slope = network(moved), network.gradient(moved)
    sign = loss.slope_sign(output, rows.targets)
    # Prop. 1 needs one sign on the whole neighbourhood; where it may change, near the
    # loss's minimum u = 0, ℓ itself is examined: ∇²ℓ = φ'∇²f + φ''∇f∇fᵀ.
    room = reach * _rows.norm(slope)
    signs = [loss.slope_sign(output + way, rows.targets) for way in (-room, room)]
    first, second = _derivatives(rows, output)
    changing = signs[0] != signs[1]
    weight = torch.where(changing, first, sign)[:, None]
    outer = torch.where(changing, second, 0.0)[:, None] * slope
    gradient = weight * slope
    face = rows.region.face(points, gradient)

    def hessians(index: Tensor) -> Tensor:
        bend = weight[index, :, None] * network.hessian(moved[index])
        return bend + outer[index, :, None] * slope[index, None, :]

    def product(vectors: Tensor) -> Tensor:
        bent = weight * network.hessian_product(moved, vectors)
        return bent + outer * _rows.dot(slope, vectors)[:, None]

    if slope.shape[1] <= _DENSE_DIMENSION:
        curvature = dense_curvature(hessians, face, gradient)
    else:
        curvature = lanczos_curvature(product, face, points)
    return _Examined(
        face, _rows.norm(face.project(gradient)), _rows.norm(gradient), curvature, sign
    )


@torch.enable_grad()
def _derivatives(rows: Rows, outputs: Tensor) -> tuple[Tensor, Tensor]:
    """φ' and φ'' of the loss at one output per row."""
    value = outputs.detach().requires_grad_()
    loss = rows.objective(value, rows.targets)
    (first,) = torch.autograd.grad(loss.sum(), value, create_graph=True)
    if not first.requires_grad:
        return first, torch.zeros_like(first)
    (second,) = torch.autograd.grad(first.sum(), value)
    return first.detach(), second


def _hessian_product(rows: Rows, points: Tensor) -> Callable[[Tensor], Tensor]:
    """Return v ↦ ∇²ℓ·v by two backward passes; 0 where ∇ℓ is constant."""
    moved = (rows.inputs + points).detach().requires_grad_()
    loss = rows.objective(rows.model(moved), rows.targets)
    gradient = None
    if loss.requires_grad:
        (gradient,) = torch.autograd.grad(
            loss.sum(), moved, create_graph=True, allow_unused=True
        )
    if gradient is not None and not gradient.requires_grad:
        # Either f is linear, or autograd has lost the way without a word.
        aside = tolerances.BOUNDARY * rows_of(rows.region.size, points)
        again = rows.evaluate(points + _rows.expand(aside, points)).gradient
        if not torch.equal(again, gradient):
            raise RuntimeError("the gradient is not differentiable")

    def product(vectors: Tensor) -> Tensor:
        if gradient is None or not gradient.requires_grad:
            return torch.zeros_like(vectors)
        along = (gradient * vectors).sum()
        (image,) = torch.autograd.grad(
            along, moved, retain_graph=True, allow_unused=True
        )
        return torch.zeros_like(vectors) if image is None else image

    return product


def _measure(points: Tensor, at: Tensor, examined: _Examined) -> Measured:
    """First and second order at the points reached; what the climb told is added."""
    face, curvature = examined.face, examined.curvature
    nothing = torch.full_like(examined.tangential, torch.nan)
    moved = _rows.norm(at - points)
    if curvature is None:
        curvature = Curvature(nothing, nothing, nothing, None)
    if curvature.newton is None:
        # γ/(μ - λ_max) bounds the Newton step of maxima; of saddles it is no bound, but
        # there a direction of ascent is what counts.
        gap = face.multiplier - curvature.top - curvature.error
        distance = moved + _rows.ratio(examined.tangential, gap.abs())
    else:
        step = curvature.newton.reshape(at.shape)
        distance = _rows.norm(at + step - points).nan_to_num(torch.inf)
    no = torch.zeros_like(moved, dtype=torch.bool)
    return Measured(
        dimension=face.dimension,
        pressure=face.pressure,
        multiplier=face.multiplier,
        steepness=examined.steepness,
        top=curvature.top,
        bottom=curvature.bottom,
        error=curvature.error,
        distance=torch.where(face.dimension == 0, moved, distance),
        exact=~no if curvature.newton is not None else no,
        left=no,
        stalled=no,
        inside=~no,
        level=no,
        rises=no,
        coarse=no,
        doubt=tolerances.CURVATURE_RATIO,
    )


def _level(rows: Rows, points: Tensor, reach: Tensor, asked: Tensor) -> Tensor:
    """Whether the objective is the same all around the points that are `asked`."""
    index = asked.nonzero().flatten()
    if not len(index):
        return asked
    some, middle = rows.take(index), points[index]
    here, same = some.value(middle).loss, torch.ones_like(index, dtype=torch.bool)
    for beside in _around(some, middle, reach[index]):
        same &= some.value(beside).loss == here
    return asked.index_copy(0, index, same)


def _around(rows: Rows, points: Tensor, distance: Tensor) -> Iterator[Tensor]:
    """Yield points of the region in random directions from `points`."""
    names = torch.zeros(len(points), dtype=torch.int64)
    for restart in range(_AROUND):
        numbers = Draws(0, names, names + restart, PLATEAU).normal(points[0].numel())
        way = _rows.unit(numbers).reshape(points.shape).to(points)
        yield rows.region.project(points + _rows.expand(distance, way) * way)


def _rises(
    rows: Rows, points: Tensor, reach: Tensor, face: Face, unit: float
) -> Tensor:
    """Whether a point beside is higher than the gradient on the face allows.

    At a maximum of a differentiable function ℓ(q) ≤ ℓ(p) + γ‖q - p‖ near by, γ the
    gradient on the face. A kink through p, where autograd gives one side's gradient,
    breaks that.
    """
    here = rows.evaluate(points)
    along = _rows.norm(face.project(here.gradient))
    # The face may be left by BOUNDARY: what is gained by closing that gap is no kink.
    gap = tolerances.BOUNDARY * rows_of(rows.region.size, points)
    outwards = _rows.unit(here.gradient, here.gradient_norm)
    closed = rows.region.project(points + _rows.expand(gap, outwards) * outwards)
    base = torch.fmax(here.loss, rows.value(closed).loss)
    noise = 4 * tolerances.SAME_LOSS * unit * base.abs()
    rises = torch.zeros_like(base, dtype=torch.bool)
    for share in _DISTANCES:
        for beside in _around(rows, points, share * reach):
            allowed = 2 * along * _rows.norm(beside - points) + noise
            rises |= rows.value(beside).loss > base + allowed
    return rises


def _unit(rows: Rows) -> Tensor:
    """The largest unit of rounding of an entry of x `[rows]`."""
    largest = rows.inputs.abs().flatten(1).amax(1)
    return torch.finfo(largest.dtype).eps * largest
