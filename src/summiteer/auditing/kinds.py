"""What a given point is by its looks: the clean input, a random start, one step."""

from dataclasses import dataclass
from enum import Enum

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.auditing.excess import (
    ULPS,
    Excess,
    displaced,
    room_of,
    size_of,
)
from summiteer.auditing.given import Given
from summiteer.problem import Problem
from summiteer.regions import L1Ball
from summiteer.regions._region import order_of
from summiteer.regions.intervals import Intervals
from summiteer.starts import UniformStart

#: Fewer coordinates than this do not tell chance from purpose.
_FEWEST = 20
#: Signs that agree with the gradient's by chance: within three standard deviations.
_DEVIATIONS = 3.0
#: √n·D of Kolmogorov and Smirnov that chance exceeds once in a thousand.
_KOLMOGOROV = 1.95
#: Losses of uniform points compared with, and how far above their mean is no chance.
_RANDOM_POINTS, _SPREADS = 8, 5.0
#: Radii; a random start of the right size may be off by its tool's own mistake.
_LONGEST = 1.5
#: A step along the gradient: relative distance from it, or share of signs that differ.
_ALIKE, _OTHERS = 1e-3, 0.01


class Kind(Enum):
    """What a given point is by its looks; the text is printed beside it."""

    NOT_FINITE = "NaN or infinite: no input at all"
    CLEAN = "the clean input itself, up to rounding"
    RANDOM_START = "a random start: no gradient was followed"
    SINGLE_STEP = "what one step along the clean input's gradient gives"
    OUTSIDE = "outside the region, and nothing else that is known"
    VERTEX = "a vertex: every coordinate that may move is at a limit"
    BOUNDARY = "on the boundary of the region"
    INTERIOR = "inside the region, away from its boundary"

    @property
    def code(self) -> int:
        """The number that files and tensors use."""
        return _CODES[self]


_CODES = {kind: code for code, kind in enumerate(Kind)}
KIND_NAMES = tuple(kind.name for kind in Kind)


@dataclass(frozen=True, eq=False)
class _Looked:
    """What the tests look at, float64.

    Attributes:
        delta: x' - x `[rows, d]`; 0 where x' is not finite.
        gradient: at the clean input `[rows, d]`.
        low: how far each coordinate may fall `[rows, d]`.
        high: how far it may rise.
        unit: of rounding `[rows, d]`.
        length: ‖δ‖ `[rows]` in the region's norm.
        radius: `[rows]`.
        order: of the norm.
    """

    delta: Tensor
    gradient: Tensor
    low: Tensor
    high: Tensor
    unit: Tensor
    length: Tensor
    radius: Tensor
    order: float

    @property
    def moves(self) -> Tensor:
        """Coordinates that may move at all."""
        return self.high - self.low > ULPS * self.unit


def kinds_of(
    problem: Problem, given: Given, excess: Excess, clean_gradient: Tensor, seed: int
) -> Tensor:
    """The code of each example's `Kind`, int8; the first that fits, in their order.

    Args:
        problem: of the same examples; call it inside `undisturbed`.
        given: of the same examples.
        excess: of the same examples.
        clean_gradient: of the objective at the clean inputs `[rows, *input]`.
        seed: of the random points compared with.
    """
    looked = _look(problem, given, excess, clean_gradient)
    chance = _like_chance(looked, isinstance(problem.region, L1Ball))
    chance &= looked.length <= _LONGEST * looked.radius
    index = chance.nonzero().flatten()
    if len(index):
        # Costs forward passes, so only where nothing else tells it from chance.
        chance[index] = _as_low_as_chance(
            problem.take(index.cpu()), given.inputs[index], seed
        )
    tests = (
        (Kind.NOT_FINITE, excess.length.isnan()),
        (Kind.CLEAN, _clean(looked, given, problem.inputs)),
        (Kind.SINGLE_STEP, _one_step(problem, looked)),
        (Kind.RANDOM_START, chance),
        (Kind.OUTSIDE, ~excess.inside & ~excess.rounded),
        (Kind.VERTEX, _vertex(looked)),
        (Kind.BOUNDARY, _boundary(looked)),
    )
    codes = torch.full_like(excess.length, Kind.INTERIOR.code, dtype=torch.int8)
    for kind, mask in reversed(tests):
        codes = codes.masked_fill(mask, kind.code)
    return codes


def _look(problem: Problem, given: Given, excess: Excess, gradient: Tensor) -> _Looked:
    inputs, size = problem.inputs.double(), size_of(problem)
    delta = displaced(problem.inputs, given.inputs).nan_to_num(0.0)
    low, high = _limits(problem, inputs, size)
    return _Looked(
        delta=delta.flatten(1),
        gradient=gradient.double().nan_to_num(0.0).flatten(1),
        low=low.flatten(1),
        high=high.flatten(1),
        unit=excess.unit.nan_to_num(0.0),
        length=excess.length.nan_to_num(0.0),
        radius=size,
        order=order_of(problem.region),
    )


def _limits(problem: Problem, inputs: Tensor, size: Tensor) -> tuple[Tensor, Tensor]:
    """The interval in which each coordinate of δ may lie, whatever the others do."""
    feasible = problem.feasible
    if isinstance(feasible, Intervals):
        lower, upper = feasible.limits(inputs)
        return lower.expand(inputs.shape), upper.expand(inputs.shape)
    edge = _rows.expand(size, inputs).expand(inputs.shape)
    low, high = -edge, edge
    if problem.box is not None:
        low = torch.maximum(low, problem.box[0] - inputs)
        high = torch.minimum(high, problem.box[1] - inputs)
    if problem.mask is not None:
        moves = problem.mask.to(inputs.device)
        low, high = low * moves, high * moves
    return low, high


def _clean(looked: _Looked, given: Given, inputs: Tensor) -> Tensor:
    """|δ_i| ≤ two units of rounding, or a level of the file's grid, if x is not on it.

    A grid as coarse as half the radius would hide an attack: it is not counted. Of such
    units of rounding only one is, at the number itself: what a cast of x may leave.
    """
    half = looked.radius / 2
    step = given.step.to(looked.delta.device)
    step = torch.where(step <= half, step, 0.0)
    room = ULPS * looked.unit
    width = torch.linalg.vector_norm(room, looked.order, dim=1)
    cast = given.rounding.to(room.device)[:, None] * inputs.double().flatten(1).abs()
    room = torch.where((width <= half)[:, None], room, cast)
    return (looked.delta.abs() <= torch.maximum(room, step[:, None])).all(1)


def _one_step(problem: Problem, looked: _Looked) -> Tensor:
    """δ is t·sign g(x), or t·g(x)/‖g(x)‖, clipped into the box.

    t is ε, ‖δ‖, or what fits best where nothing is clipped.
    """
    slope = looked.gradient
    steepest = problem.region.steepest(slope.reshape(problem.inputs.shape)).flatten(1)
    found = torch.zeros_like(looked.length, dtype=torch.bool)
    room = ULPS * looked.unit
    free = (looked.delta > looked.low + room) & (looked.delta < looked.high - room)
    fitted = _rows.ratio(
        (looked.delta * steepest * free).sum(1), (steepest.square() * free).sum(1)
    )
    for size in (looked.length, looked.radius, fitted.clamp(min=0)):
        step = (steepest * size[:, None]).clamp(looked.low, looked.high)
        apart = looked.delta - step
        if looked.order == torch.inf:
            # Another summation turns the signs of the smallest entries.
            counted = looked.moves & (slope != 0)
            off = (apart.abs() > 2 * ULPS * looked.unit) & counted
            found |= off.sum(1) <= _OTHERS * counted.sum(1)
        else:
            found |= apart.norm(dim=1) <= _ALIKE * step.norm(dim=1)
    return found & (slope.abs().amax(1) > 0) & (looked.length > 0)


def _like_chance(looked: _Looked, sparse: bool) -> Tensor:
    """The signs of δ have nothing to do with those of g(x), its sizes are a start's.

    Signs: s_i = sign δ_i, and towards the limit where clipping took δ_i away. By chance
    Σ s_i·sign(g_i)/√n and Σ s_i·g_i/‖g‖ are standard normal numbers. Sizes, where
    nothing clips: |δ_i|/max|δ| of uniform numbers (L∞, boxes), |δ_i| of normal ones
    (L2), by Kolmogorov and Smirnov. An L1 start is sparse: signs decide alone there.
    """
    delta, slope = looked.delta, looked.gradient
    still = delta.abs() <= ULPS * looked.unit
    towards = torch.where(-looked.low < looked.high, -1.0, 1.0).to(delta)
    sign = torch.where(still, towards, delta.sign())
    clipped = still & (torch.minimum(-looked.low, looked.high) <= ULPS * looked.unit)
    counted = looked.moves & (slope != 0) & (~still | clipped)
    sign = sign * counted
    count = counted.sum(1)
    agree = (sign * slope.sign()).sum(1) / count.clamp(min=1).sqrt()
    weight = (slope * counted).norm(dim=1)
    pull = _rows.ratio((sign * slope).sum(1), weight)
    chance = (count >= _FEWEST) & (agree.abs() <= _DEVIATIONS)
    chance &= pull.abs() <= _DEVIATIONS
    return chance if sparse else chance & _sizes_of_a_start(looked, still)


def _sizes_of_a_start(looked: _Looked, still: Tensor) -> Tensor:
    size = looked.delta.abs()
    boxed = looked.order == torch.inf
    reach = looked.radius[:, None]
    if not boxed:  # three standard deviations of a coordinate: few are clipped
        typical = (size.square().sum(1) / looked.moves.sum(1).clamp(min=1)).sqrt()
        reach = torch.minimum(reach, 3 * typical[:, None])
    room = torch.where(looked.delta > 0, looked.high, -looked.low)
    counted = (room >= reach - ULPS * looked.unit) & ~still & looked.moves
    count = counted.sum(1)
    if boxed:
        scale = (size * counted).amax(1)
    else:
        total = (size.square() * counted).sum(1)
        scale = (total / count.clamp(min=1)).sqrt()
    share = _rows.ratio(size, scale[:, None].expand(size.shape))
    share = share if boxed else torch.erf(share / 2**0.5)
    ordered = torch.where(counted, share, torch.inf).sort(1).values
    rank = torch.arange(1, size.shape[1] + 1, device=size.device, dtype=size.dtype)
    over = count.clamp(min=1)[:, None]
    gap = torch.maximum(rank / over - ordered, ordered - (rank - 1) / over)
    gap = torch.where(rank <= count[:, None], gap, 0.0).amax(1)
    return (count >= _FEWEST) & (gap * count.sqrt() <= _KOLMOGOROV)


def _as_low_as_chance(problem: Problem, moved: Tensor, seed: int) -> Tensor:
    """The loss is no higher than at uniform points, up to five of their spreads."""
    start = UniformStart(restarts=_RANDOM_POINTS, seed=seed)
    rows = problem.rows()
    losses = torch.stack([rows.value(p).loss.double() for p in start.points(problem)])
    shift = (moved.double() - problem.inputs.double()).to(problem.inputs)
    loss = rows.value(shift).loss.double()
    return loss <= losses.mean(0) + _SPREADS * losses.std(0)


def _vertex(looked: _Looked) -> Tensor:
    """Every coordinate at a limit; in L1 one coordinate has it all."""
    room = 2 * ULPS * looked.unit
    delta = looked.delta
    if looked.order == torch.inf:
        at = (delta >= looked.high - room) | (delta <= looked.low + room)
        whole: Tensor = (at | ~looked.moves).all(1)
        return whole
    if looked.order == 1.0:
        one = (delta.abs() > room).sum(1) == 1
        return one & _boundary(looked)
    return torch.zeros_like(looked.length, dtype=torch.bool)


def _boundary(looked: _Looked) -> Tensor:
    """‖δ‖ = ε up to rounding."""
    room = 2 * ULPS * looked.unit
    if looked.order == torch.inf:
        at = looked.delta.abs() >= looked.radius[:, None] - room
        return (at & looked.moves).any(1)
    least = looked.radius - room_of(looked.order, looked.delta, room)
    found: Tensor = looked.length >= least
    return found
