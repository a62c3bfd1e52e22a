"""Negative certificates of piecewise-linear networks: uphill from everywhere near.

Let v be feasible at every q ∈ C within ρ of the given point p, and vᵀg > 0 for every
Clarke gradient g of F there. Then F rises along v from each such q (Lebourg's mean
value theorem): none of them is a local maximiser. How far F rises from p itself is read
off its values.
"""

from dataclasses import dataclass, replace

import torch
from scipy.optimize import lsq_linear
from torch import Tensor
from torch.nn.functional import one_hot

from summiteer import _rows
from summiteer.optimality.local_form import LocalForm, Patch
from summiteer.optimality.readout import Entropy
from summiteer.optimality.rounding import Enclosure, down, length, up
from summiteer.optimality.stand import Limits
from summiteer.optimality.ties import Ties

#: Guesses of the limits that block a way.
_LIMITS = 4
#: Bisections of a multiplier.
_HALVINGS = 50
#: Shares of the feasible way at which the rise is measured.
_SHARES = (1.0, 0.3, 0.1, 0.01)


@dataclass(frozen=True, eq=False)
class Uphill:
    """A way up, all `[rows]` but the direction.

    Attributes:
        proved: bool, no local maximiser lies within the search distance.
        direction: `[rows, d]`, a unit vector.
        gain: ≤ F(p + tv) - F(p) for some t ≤ ρ with p + tv ∈ C; NaN where none is.
        low: ≤ F(p).
    """

    proved: Tensor
    direction: Tensor
    gain: Tensor
    low: Tensor

    def better(self, other: "Uphill") -> "Uphill":
        """These where proved, else the other ones."""
        return _rows.choose(self.proved, self, other)


def uphill(
    patch: Patch, direction: Tensor | None = None, given: Patch | None = None
) -> Uphill:
    """Whether `direction`, made feasible, leads uphill from everywhere on N.

    Args:
        patch: N around the given points, of the search distance; or its `pinned` part.
        direction: `[rows, d]`; `steepest` if None.
        given: where the gain is measured from; the same patch if None.
    """
    limits, points = patch.form.limits, patch.points
    wanted = steepest(patch) if direction is None else direction
    way = feasible(limits, points, patch.radius, _rows.unit(wanted))
    rise = patch.rise(way)
    usable = torch.isfinite(way).all(1) & (length(way) > 0)
    proved = (rise > 0) & usable & patch.holds
    unit = _rows.unit(torch.where(proved[:, None], way, 0.0))
    gain, low = _measured(patch if given is None else given, unit, proved)
    return Uphill(proved, torch.where(proved[:, None], unit, torch.nan), gain, low)


def pinned(patch: Patch) -> Patch:
    """The part of N on which alone its local maximisers can lie.

    Where every gradient on N presses a coordinate against a limit that it may reach,
    and no sphere is near, a local maximiser has it on that limit. The face with those
    coordinates held is no further from its own nearest point than from p.

    Args:
        patch: N around the given points, of the search distance.
    """
    limits, points = patch.form.limits, patch.points
    at_upper, at_lower = _blocked(limits, points, patch.radius)
    gradient = patch.whole.gradient
    inner = (up(length(points) + patch.radius) < limits.radius) & patch.holds
    high = at_upper & (gradient.lower > 0) & inner[:, None]
    low = at_lower & (gradient.upper < 0) & inner[:, None]
    limits = replace(
        limits,
        lower=torch.where(high, limits.upper, limits.lower),
        upper=torch.where(low, limits.lower, limits.upper),
    )
    points = torch.where(high | low, limits.upper, points)
    form = replace(patch.form, limits=limits)
    return form.around(points, patch.radius)


def curving(patch: Patch, given: Patch) -> Uphill:
    """Whether the cross-entropy curves upwards along a free coordinate all over N.

    Where no kink that matters is open, F is log Σ exp of affine functions, whose second
    derivative along e_i is the variance of the J_ki under the softmax: positive unless
    all J_ki are equal. A coordinate that may move both ways from every q ∈ C ∩ N then
    keeps each of them from being a local maximiser (Prop. 11).

    Args:
        patch: N around the given points, of the search distance; or its `pinned` part.
        given: where the gain is measured from.
    """
    proved = torch.zeros_like(patch.radius, dtype=torch.bool)
    unit = torch.zeros_like(patch.points)
    limits, points = patch.form.limits, patch.points
    at_upper, at_lower = _blocked(limits, points, patch.radius)
    inner = up(length(points) + patch.radius) < limits.radius
    free = ~at_upper & ~at_lower & inner[:, None]
    # Each of K outputs costs a pass: only rows that can be proved are asked.
    index = (free.any(1) & (patch.tied == 0)).nonzero().flatten()
    if isinstance(patch.form.readout, Entropy) and len(index):
        best = _steepness(patch.take(index), patch.form.readout.take(index))
        steepest_of, place = torch.where(free[index], best, 0.0).max(1)
        proved[index] = steepest_of > 0
        unit[index, place] = 1.0
    ahead, low = _measured(given, unit, proved)
    back, _ = _measured(given, -unit, proved)
    forth = ~(back.nan_to_num(0.0) > ahead.nan_to_num(0.0))
    way = torch.where(forth[:, None], unit, -unit)
    return Uphill(
        proved,
        torch.where(proved[:, None], way, torch.nan),
        torch.where(forth, ahead, back),
        low,
    )


def _steepness(patch: Patch, readout: Entropy) -> Tensor:
    """≤ the largest |J_ki - J_yi| over the classes k, for each coordinate `[rows, d]`.

    Args:
        patch: of the rows.
        readout: the patch's.
    """
    own = one_hot(readout.labels, readout.classes).double()
    best = torch.zeros_like(patch.points)
    for unit in torch.eye(readout.classes, dtype=torch.float64):
        apart = Enclosure.exact(unit.expand(len(best), -1) - own)
        slope = patch.pull(apart, patch.slopes).gradient
        best = torch.maximum(best, down(slope.middle.abs() - slope.radius))
    return best


def _blocked(limits: Limits, points: Tensor, radius: Tensor) -> tuple[Tensor, Tensor]:
    """Coordinates whose upper, lower limit some q within R of p may have reached."""
    near = radius[:, None]
    at_upper = limits.upper <= up(points + near)
    at_lower = limits.lower >= down(points - near)
    return at_upper, at_lower


def steepest(patch: Patch) -> Tensor:
    """The way with the best slope for the worst gradient of N, in floats.

    The least element v of {g - μp - (what limits block)} over the enclosure of the
    gradients and μ ≥ 0, by bisection for vᵀp = 0.
    """
    limits, points = patch.form.limits, patch.points
    gradient = patch.whole.gradient
    at_upper, at_lower = _blocked(limits, points, patch.radius)

    def least(multiplier: Tensor) -> Tensor:
        middle = gradient.middle - multiplier[:, None] * points
        way = middle.sign() * (middle.abs() - gradient.radius).clamp(min=0)
        way = torch.where(at_upper, way.clamp(max=0), way)
        return torch.where(at_lower, way.clamp(min=0), way)

    low = torch.zeros_like(patch.radius)
    reaching = _rows.norm(points) + patch.radius >= limits.radius
    size = _rows.norm(points).clamp(min=1e-300)
    high = torch.where(reaching, 2 * _rows.norm(gradient.middle) / size, low)
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        outwards = (least(middle) * points).sum(1) > 0
        low, high = (
            torch.where(outwards, middle, low),
            torch.where(outwards, high, middle),
        )
    return least(high)


def least_way(ties: Ties, limits: Limits, points: Tensor, radius: Tensor) -> Tensor:
    """The way with the best slope for the worst choice of sides, in floats.

    The least element of {g₀ + Σ σ_ja_jw_j - μp - (what limits block)}, σ ∈ [0, 1],
    μ ≥ 0: a least-squares problem with bounds per row, solved again with the limits
    that its solution runs into. Exact where no kink depends on another one.

    Args:
        ties: all kinks within reach, valleys too.
        limits: of the region.
        points: `[rows, d]`.
        radius: the search distance `[rows]`.
    """
    ties = ties.tamed()
    at_upper, at_lower = _blocked(limits, points, radius)
    reaching = _rows.norm(points) + radius >= limits.radius
    ways = []
    for row in range(len(points)):
        real = ties.real[row]
        sides = (ties.weight[row, real, None] * ties.normal[row, real]).T
        outward = points[row, :, None] if bool(reaching[row]) else sides[:, :0]
        matrix, rest = torch.cat([sides, -outward], 1), ties.rest[row]
        bounds = torch.ones(matrix.shape[1], dtype=torch.float64)
        bounds[sides.shape[1] :] = torch.inf
        way = rest
        for _ in range(_LIMITS):
            free = ~((at_upper[row] & (way > 0)) | (at_lower[row] & (way < 0)))
            if not matrix.shape[1] or not bool(free.any()):
                break
            answer = lsq_linear(
                matrix[free].numpy(), -rest[free].numpy(), (0, bounds.numpy())
            )
            way = rest + matrix @ torch.from_numpy(answer.x)
        ways.append(torch.where(free, way, 0.0))
    return torch.stack(ways)


def feasible(limits: Limits, points: Tensor, radius: Tensor, wanted: Tensor) -> Tensor:
    """A way near `wanted` along which every q ∈ C within R of p may go; else NaN.

    Towards a limit that some such q may have reached it does not lead. Where the sphere
    may be reached it has vᵀq < 0 for all of them: v = w - t·p, with
    (w - tp)ᵀq ≤ wᵀp + ‖w‖R - t‖p‖(‖p‖ - R) < 0.

    Args:
        limits: of the region.
        points: p `[rows, d]`.
        radius: R `[rows]`.
        wanted: `[rows, d]`, at most 1 long.
    """
    at_upper, at_lower = _blocked(limits, points, radius)
    size = _rows.norm(points)
    reaching = limits.radius <= up(up(size, points.shape[1] + 4) + radius)
    if limits.sphere:
        return torch.full_like(points, torch.nan)
    normal = _rows.unit(points)
    outward = (wanted * normal).sum(1).clamp(min=0)
    way = wanted - torch.where(reaching, outward, 0.0)[:, None] * normal
    way = torch.where(at_upper, way.clamp(max=0), way)
    way = torch.where(at_lower, way.clamp(min=0), way)
    if not limits.round:
        return way
    # Towards 0 is feasible for coordinates whose limits hold 0 between them.
    inside = (limits.lower <= 0) & (limits.upper >= 0)
    moving = torch.where(inside, points, 0.0)
    square = (moving * moving).sum(1)
    along = (way * points).sum(1)
    size_of = length(way)
    needed = along + size_of * radius
    spare = square - up(_rows.norm(moving) * radius * 2)
    tilt = torch.where(needed > 0, needed, 0.0) / spare * (1 + 1e-6) + 1e-12 * size_of
    tilted = way - tilt[:, None] * moving
    # The limits once more: q_i may pass 0, where -p_i leads outwards.
    tilted = torch.where(at_upper, tilted.clamp(max=0), tilted)
    tilted = torch.where(at_lower, tilted.clamp(min=0), tilted)
    toward = Enclosure.exact(tilted).dot(points).upper
    worst = up(toward + up(length(tilted) * radius))
    good = (worst < 0) & (spare > 0)
    tilted = torch.where(good[:, None], tilted, torch.nan)
    return torch.where(reaching[:, None], tilted, way)


def _measured(patch: Patch, way: Tensor, asked: Tensor) -> tuple[Tensor, Tensor]:
    """(≤ the best rise of F along the way within R and C, ≤ F(p)); NaN if not asked."""
    gain = torch.full_like(patch.radius, torch.nan)
    low, index = gain.clone(), asked.nonzero().flatten()
    if len(index):
        form, radius = patch.form.take(index), patch.radius[index]
        gain[index], low[index] = _rise(form, patch.points[index], radius, way[index])
    return gain, low


def _rise(
    form: LocalForm, points: Tensor, radius: Tensor, way: Tensor
) -> tuple[Tensor, Tensor]:
    """`_measured` on all rows."""
    limits = form.limits
    zero = torch.zeros_like(radius)
    start = form.around(points, zero)
    here = start.value
    best = torch.full_like(radius, torch.nan)
    room = torch.where(
        way > 0,
        (limits.upper - points) / way,
        torch.where(way < 0, (limits.lower - points) / way, torch.inf),
    ).amin(1)
    longest = torch.minimum(radius, room.clamp(min=0)) * (1 - 1e-9)
    for share in _SHARES:
        end = points + (share * longest)[:, None] * way
        inside = ((end <= limits.upper) & (end >= limits.lower)).all(1)
        inside &= length(end) <= limits.radius
        inside &= length(end - points) <= radius
        there = form.around(end, zero)
        rise = down(there.value.lower - here.upper)
        sound = inside & (rise > 0) & start.holds & there.holds
        best = torch.where(sound, torch.fmax(best, rise), best)
    return best, here.lower
