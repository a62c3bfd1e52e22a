"""The prover of last resort: floating-point measurement, never a proof.

Each point is climbed from in float64. If plain ascent leaves its neighbourhood it is
NOT_STATIONARY; else first and second order at the point reached decide.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import BacktrackingStep, Normalised, ProjectedAscent
from summiteer.draws import PLATEAU, Draws
from summiteer.optimality.claims import Claims
from summiteer.optimality.critical_cone import (
    CriticalCone,
    cone_curvature,
    critical_cone,
)
from summiteer.optimality.curvature import (
    MORE_PRODUCTS,
    Curvature,
    dense_curvature,
    lanczos_curvature,
)
from summiteer.optimality.decision import ONE_SIDED, Measured, bend_of, decide
from summiteer.optimality.derivatives import derivatives
from summiteer.optimality.escape import escape
from summiteer.optimality.face_newton import face_newton
from summiteer.optimality.verdict import Verdict
from summiteer.outcome import Outcome
from summiteer.problem import Problem, Rows
from summiteer.regions import Face
from summiteer.regions._region import rows_of
from summiteer.starts import GivenStart

#: Steps of ascent that show whether a point stays where it is. Most leave at once; 200
#: more decided two of 250 points on MNIST and cost as much as the attack itself.
_ROUNDS = (4, 60)
#: Points around a plateau or a maximum at which the objective is compared.
_AROUND = 8
#: Distances, in search distances, at which they lie: kinks show at every scale.
_DISTANCES = (1.0, 1e-2)
#: Rows of which the long Lanczos bases are held at once.
_AT_ONCE = 64
_NOTHING_HIGHER = (
    "the gradient is not small, but nothing higher was found: a kink, or noise"
)
#: A search distance of fewer than ten units of rounding of x + δ resolves nothing.
_RESOLVED = 0.1


@dataclass(frozen=True, eq=False)
class _Examined:
    """First and second order of the function F at the points; all `[rows]`."""

    face: Face
    tangential: Tensor
    steepness: Tensor
    curvature: Curvature | None
    cone: CriticalCone | None


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
        climb = replace(climb, reached=_settled(rows, points, climb.reached, reach))
        left = _rows.norm(climb.reached - points) > reach
        at = _rows.choose(left, points, climb.reached)
        doubt = tolerances.curvature_ratio(precision)
        examined = _examine(rows, at, reach, doubt)
        measured = replace(
            _measure(points, at, examined),
            left=left,
            stalled=climb.stalled,
            inside=rows.region.contains(points, slack=within),
            doubt=doubt,
        )
        measured = replace(
            measured,
            level=_level(rows, points, reach, measured.vanishing),
            rises=_rises(rows, at, reach, examined.face, torch.finfo(precision).eps),
            coarse=_unit(rows) > _RESOLVED * reach,
        )
        verdict, reason = decide(measured, reach)
        unit = torch.finfo(precision).eps
        ways = _ways(rows, at, climb.reached, reach, examined, verdict)
        direction, gain = escape(rows, at, ways, reach, unit)
        _doubt_one_sided(measured, gain, verdict, reason)
        lost = measured.inside & gain.isnan() & ~(climb.gain > 0)
        _doubt_unrisen(lost, verdict, reason)
    if precision != torch.float64:
        inner = str(precision).removeprefix("torch.")
        reason = [f"{text}; the model computes in {inner} inside" for text in reason]
    multiplier = examined.face.multiplier
    ratio = torch.where(multiplier > 0, measured.top / multiplier, torch.nan)
    numbers = {
        "curvature_ratio": torch.where(ratio.isfinite(), ratio, torch.nan),
        "distance_estimate": measured.distance,
        "gain": climb.gain,
        "measured_gain": gain,
    }
    return Claims.undecided(len(points)).state(
        verdict=verdict,
        reason=reason,
        numbers=numbers,
        certified_point=at,
        direction=direction,
    )


def _doubt_unrisen(lost: Tensor, verdict: list[Verdict], reason: list[str]) -> None:
    """Withdraw NOT_STATIONARY, in place, where nothing higher was found.

    At a kink the gradient of one side says nothing of the way up.
    """
    for row in lost.nonzero().flatten().tolist():
        if verdict[row] is Verdict.NOT_STATIONARY:
            verdict[row] = Verdict.UNDECIDED
            reason[row] = _NOTHING_HIGHER


def _ways(
    rows: Rows,
    at: Tensor,
    reached: Tensor,
    reach: Tensor,
    examined: _Examined,
    verdict: Sequence[Verdict],
) -> list[Tensor]:
    """Unit vectors along which a point that is no maximum may be left; 0 elsewhere.

    From saddles ± the direction of the largest curvature; from points that are not
    stationary the way that ascent took, and the projected gradient.
    """

    def only(wanted: Verdict, ways: Tensor) -> Tensor:
        mask = torch.tensor([v is wanted for v in verdict], device=at.device)
        return torch.where(_rows.expand(mask, ways), ways, 0.0)

    slope = _rows.unit(rows.evaluate(at).gradient)
    pushed = rows.region.project(at + _rows.expand(reach, slope) * slope) - at
    away = only(Verdict.NOT_STATIONARY, _rows.unit(reached - at))
    steepest = only(Verdict.NOT_STATIONARY, _rows.unit(pushed))
    ways = [away, steepest]
    if examined.curvature is not None and examined.curvature.way is not None:
        way = only(Verdict.SADDLE, examined.curvature.way.reshape(at.shape))
        for turned in (way, -way):
            if examined.cone is not None:
                admitted = _rows.expand(examined.cone.admits(turned), turned)
                turned = torch.where(admitted, turned, 0.0)
            ways.append(turned)
    return ways


def _doubt_one_sided(
    measured: Measured, gain: Tensor, verdict: list[Verdict], reason: list[str]
) -> None:
    """Withdraw saddles that a vanishing multiplier may hold: nothing was gained."""
    for row in ((measured.one_sided > 0) & gain.isnan()).nonzero().flatten().tolist():
        if verdict[row] is Verdict.SADDLE:
            verdict[row] = Verdict.UNDECIDED
            reason[row] = ONE_SIDED.format(count=int(measured.one_sided[row]))


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
        run = ascend(some, climber, start, steps, tolerance=stop, rescue=False)
        reached[index], loss[index] = run.final[0], run.losses[0]
        ended = [outcome is Outcome.STALLED for outcome in run.outcome[0]]
        stalled[index] = torch.tensor(ended, device=points.device)
        near = _rows.norm(reached[index] - points[index]) <= within * some.size
        limit = [outcome is Outcome.STEP_LIMIT for outcome in run.outcome[0]]
        index = index[near & torch.tensor(limit, device=points.device)]
        if not len(index):
            break
    return _Climb(reached, loss - before, stalled)


def _settled(rows: Rows, points: Tensor, reached: Tensor, reach: Tensor) -> Tensor:
    """Newton's method from where ascent ended near by; elsewhere that itself."""
    index = (_rows.norm(reached - points) <= reach).nonzero().flatten()
    if not len(index):
        return reached
    try:
        nearer = face_newton(rows.take(index), reached[index], reach[index])
    except RuntimeError as error:
        if not _no_second_derivative(error):
            raise
        return reached
    return reached.index_copy(0, index, nearer)


def _no_second_derivative(error: RuntimeError) -> bool:
    """What autograd says of operations that have none."""
    return "derivative" in str(error) or "differentia" in str(error)


def _examine(rows: Rows, points: Tensor, reach: Tensor, doubt: float) -> _Examined:
    """First and second order, on the critical cone where multipliers vanish."""
    curvature: Curvature | None = None
    try:
        first = derivatives(rows, points, reach)
        face = rows.region.face(points, first.gradient)
        if first.hessians is not None:
            curvature = dense_curvature(first.hessians, face, first.gradient)
        else:
            curvature = lanczos_curvature(first.product, face, points)
            curvature = _sharpened(curvature, rows, points, reach, face)
        gradient = first.gradient
    except RuntimeError as error:
        if not _no_second_derivative(error):
            raise
        gradient = rows.evaluate(points).gradient
        face = rows.region.face(points, gradient)
    steepness = _rows.norm(gradient)
    plain = _Examined(
        face, _rows.norm(face.project(gradient)), steepness, curvature, None
    )
    if curvature is None:
        return plain
    # Where the gradient is all rounding, what curvature makes of it over the region is
    # the size that tells whether a multiplier vanishes; held coordinates have theirs.
    held = _rows.norm(first.product(_rows.unit((~face.free).to(points))))
    bend = bend_of(curvature.top, curvature.bottom, face.multiplier) + held
    zero = doubt * (steepness + bend * rows_of(rows.region.size, points))
    cone = critical_cone(rows.region, points, gradient, face, zero)
    weak = (cone.count > 0) & (face.pressure >= -zero)
    return _widened(plain, rows, points, reach, gradient, cone, weak)


def _sharpened(
    curvature: Curvature, rows: Rows, points: Tensor, reach: Tensor, face: Face
) -> Curvature:
    """More products where the multiplier lies within the error of the first ones."""
    gap = face.multiplier - curvature.top
    index = ((gap >= 0) & (gap <= curvature.error)).nonzero().flatten()
    for some in torch.split(index, _AT_ONCE) if len(index) else ():
        product = derivatives(rows.take(some), points[some], reach[some]).product
        part = _rows.take(face, some)
        found = lanczos_curvature(product, part, points[some], MORE_PRODUCTS)
        curvature = curvature.put(some, found)
    return curvature


def _widened(
    plain: _Examined,
    rows: Rows,
    points: Tensor,
    reach: Tensor,
    gradient: Tensor,
    cone: CriticalCone,
    weak: Tensor,
) -> _Examined:
    """The same with the cone's curvature in the rows that are `weak`."""
    index, curvature = weak.nonzero().flatten(), plain.curvature
    if not len(index) or curvature is None:
        return plain
    some, at, near = rows.take(index), points[index], reach[index]

    def products(which: Tensor) -> Callable[[Tensor], Tensor]:
        return derivatives(some.take(which), at[which], near[which]).product

    part = cone.take(index)
    found = cone_curvature(products, part, at)
    nothing = torch.zeros_like(points)
    kept = CriticalCone(
        _rows.choose(weak, cone.face, plain.face),
        _rows.choose(weak, cone.side, nothing),
        _rows.choose(weak, cone.radial, nothing),
    )
    wide = curvature.put(index, found)
    tangential = _rows.norm(part.face.project(gradient[index]))
    tangential = plain.tangential.index_copy(0, index, tangential)
    return _Examined(kept.face, tangential, plain.steepness, wide, kept)


def _measure(points: Tensor, at: Tensor, examined: _Examined) -> Measured:
    """First and second order at the points reached; what the climb told is added."""
    face, curvature = examined.face, examined.curvature
    nothing = torch.full_like(examined.tangential, torch.nan)
    moved = _rows.norm(at - points)
    if curvature is None:
        curvature = Curvature(nothing, nothing, nothing, None)
    cone = examined.cone
    one_sided = torch.zeros_like(face.dimension) if cone is None else cone.count
    # γ/(μ - λ_max) bounds the Newton step of maxima; of saddles it is no bound, but
    # there a direction of ascent is what counts.
    gap = face.multiplier - curvature.top
    error = torch.where(curvature.error.isfinite(), curvature.error, 0.0)
    distance = moved + _rows.ratio(examined.tangential, (gap - error).abs())
    exact = torch.zeros_like(moved, dtype=torch.bool)
    if curvature.newton is not None:
        step = curvature.newton.reshape(at.shape)
        modelled = _rows.norm(at + step - points).nan_to_num(torch.inf)
        exact = one_sided == 0
        distance = torch.where(exact, modelled, distance)
    no = torch.zeros_like(moved, dtype=torch.bool)
    return Measured(
        dimension=face.dimension,
        pressure=face.pressure,
        one_sided=one_sided,
        multiplier=face.multiplier,
        steepness=examined.steepness,
        top=curvature.top,
        bottom=curvature.bottom,
        error=curvature.error,
        distance=torch.where(face.dimension == 0, moved, distance),
        exact=exact,
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
    outwards = _rows.unit(here.gradient, here.norm_and_kind)
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
