"""Upper bounds of kinked networks by chords, on C and where F is high (Prop. 9).

On an interval [l, u] of h, relu(h) ≤ βh + max(-βl, (1 - β)u, 0) for every β ∈ [0, 1];
with β = u/(u - l) it is the chord. A convex neuron replaced by its chord, the others by
any λ ∈ [0, 1], leave an affine function above F, and its largest value on C bounds F.

Where F reaches a known value, the affine function does so too. That is a smaller part
of C (`hold.py`: a ball about the support point, a box next to it), on which the
intervals are smaller and the chords lower: the bound is found again and again.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks.relu_minorant import maximise
from summiteer.optimality.hold import Lean, lean
from summiteer.optimality.relu_form import Kinked, region_of
from summiteer.optimality.rounding import Enclosure, down, up
from summiteer.optimality.stand import Limits

#: Bounds in a row, each on what the last has left of C.
_TURNS = 12
#: A turn that leaves more than this share of the unstable widths is the last but one.
_WORTH = 0.97


@dataclass(frozen=True, eq=False)
class Chords:
    """Bounds of F on C.

    Attributes:
        top: ≥ max F `[rows]`.
        lower: ≤ h wherever F reaches the floor, `[rows, m]`.
        upper: ≥ h there.
        at: `[rows, d]` floats where the last bound is highest.
    """

    top: Tensor
    lower: Tensor
    upper: Tensor
    at: Tensor

    def unstable(self, kinked: Kinked) -> Tensor:
        """Which convex neurons have their kink where F is high `[rows, m]`."""
        return kinked.convex & (self.lower < 0) & (self.upper > 0)


def chords(
    kinked: Kinked,
    limits: Limits,
    floor: Tensor | None = None,
    goal: Tensor | None = None,
    start: Tensor | None = None,
) -> Chords:
    """Bound F from above on each row's region.

    Args:
        kinked: F.
        limits: C; of a sphere, its ball.
        floor: `[rows]`, values that F is proved to reach on C; None for one bound only.
        goal: `[rows]`, a bound below it is good enough.
        start: `[rows, m]` shares of the concave neurons to begin at.
    """
    low, high = kinked.ranges(limits)
    found = Chords(
        torch.full((len(kinked),), torch.inf, dtype=torch.float64),
        low,
        high,
        torch.zeros_like(limits.lower),
    )
    rows = kinked.ordinary(limits).nonzero().flatten()
    shares = None if start is None else start[rows]
    for _ in range(_TURNS if floor is not None else 1):
        if not len(rows):
            break
        some, part = kinked.take(rows), limits.take(rows)
        before = _widths(found, kinked)[rows]
        shares = _turn(found, some, part, rows, floor, shares, goal)
        after = _widths(found, kinked)[rows]
        going = (after > 0) & (after < _WORTH * before)
        if goal is not None:
            going &= ~(found.top[rows] < goal[rows])
        rows, shares = rows[going], shares[going]
    return found


def _widths(found: Chords, kinked: Kinked) -> Tensor:
    """What the chords can lose, `[rows]`: Σ k·(u - l) of the unstable neurons."""
    wide = (found.upper - found.lower) * kinked.kink.middle.abs()
    return torch.where(found.unstable(kinked), wide, 0.0).sum(1)


def _turn(
    found: Chords,
    kinked: Kinked,
    limits: Limits,
    rows: Tensor,
    floor: Tensor | None,
    start: Tensor | None,
    goal: Tensor | None,
) -> Tensor:
    """One bound, and what of C it leaves; the multipliers found `[rows, m]`."""
    low, high = found.lower[rows], found.upper[rows]
    beta = torch.where(low >= 0, 1.0, torch.where(high <= 0, 0.0, high / (high - low)))
    beta = torch.nan_to_num(beta, 0.5).clamp(0.0, 1.0)
    offset = torch.maximum(up(-beta * low), up(up(1 - beta) * high)).clamp(min=0)
    # A stable neuron has no offset, not even that of rounding.
    offset = torch.where((low >= 0) | (high <= 0), 0.0, offset)
    lift = torch.where(kinked.convex, up(kinked.kink.upper * offset), 0.0)
    lifted = up(lift.sum(1), lift.shape[1])
    # Where the bound is not narrowed further, whether it is below the goal is all.
    enough = None if floor is not None or goal is None else goal[rows]
    peak = maximise(kinked.minorant(beta, lifted), region_of(limits), start, enough)
    shares = torch.where(kinked.convex, beta, peak.multipliers)
    held = lean(kinked, limits, peak.points, shares)
    slope, shares = held.slope, held.shares
    base = kinked.coefficients(shares).dot(kinked.centre) + kinked.shift
    base = base + lifted
    top = up(base.upper + _support(slope, limits, held))
    top = torch.where(top.isnan(), torch.inf, top)
    found.at[rows] = held.stand.points
    found.top[rows] = torch.fmin(found.top[rows], top)
    if floor is not None:
        there = (base + slope.dot(held.stand.points)).upper
        there = up(there + up(slope.norm().upper * held.stand.slack))
        _narrow(found, kinked, limits, rows, held, up(there - floor[rows]))
    return shares


def _support(slope: Enclosure, limits: Limits, held: Lean) -> Tensor:
    """≥ max over C of vᵀδ `[rows]`: of the ball, of the box, or split between them."""
    best = torch.full_like(limits.radius, torch.inf)
    if limits.round:
        best = up(slope.norm().upper * limits.radius)
    if not limits.boxed:
        return best
    best = torch.fmin(best, _box_support(slope, limits))
    if limits.round:
        # v = a + b: ε‖a‖ + max over the box of bᵀδ. a = μp is the best choice.
        standing = held.stand
        inside = _rows.norm(slope.middle * standing.free)
        size = _rows.norm(standing.inside).clamp(min=1e-300)
        part = standing.points * (inside / size)[:, None]
        part = torch.where(standing.free, slope.middle, part)
        round_part = up(Enclosure.exact(part).norm().upper * limits.radius)
        both = up(round_part + _box_support(slope - part, limits))
        best = torch.where(standing.curved, torch.fmin(best, both), best)
    return best


def _box_support(slope: Enclosure, limits: Limits) -> Tensor:
    ends = [
        end * limit
        for end in (slope.lower, slope.upper)
        for limit in (limits.lower, limits.upper)
    ]
    each = up(torch.stack(ends).amax(0))
    total = Enclosure.exact(each).dot(torch.ones_like(each)).upper
    return torch.where(each.isfinite().all(1), total, torch.inf)


def _narrow(
    found: Chords,
    kinked: Kinked,
    limits: Limits,
    rows: Tensor,
    held: Lean,
    gap: Tensor,
) -> None:
    """Note the intervals of h where the affine function is within `gap` of its peak."""
    gap = gap.clamp(min=0)
    way = held.spread(gap)
    able = ~way.isnan()
    # Points that no ball holds lie in C but for rounding.
    way = torch.where(able, way, 3 * limits.reach)
    inner = held.inner.widened(up(way[:, None] * kinked.lengths))
    low, high = found.lower[rows], found.upper[rows]
    low = torch.where(able[:, None], torch.fmax(low, inner.lower), low)
    high = torch.where(able[:, None], torch.fmin(high, inner.upper), high)
    if limits.boxed:
        # ν_i|d_i| ≤ gap + ‖r‖‖d‖.
        room = up(gap + up(held.leftover * way))[:, None]
        reach = up(room / held.pressure)
        points = held.stand.points
        tight = (held.stand.side != 0) & reach.isfinite()
        below = torch.where(tight, down(points - reach), limits.lower)
        above = torch.where(tight, up(points + reach), limits.upper)
        below, above = torch.fmax(below, limits.lower), torch.fmin(above, limits.upper)
        box = kinked.centre + Enclosure.between(below, above) @ kinked.hidden.T
        low, high = torch.fmax(low, box.lower), torch.fmin(high, box.upper)
    found.lower[rows], found.upper[rows] = low, high
