"""Concave minorants of two-layer ReLU networks, maximised over a convex region.

mathematics.md §8. With c_j ≤ 0 the function

    F(δ) = k + lᵀδ + Σ_j c_j relu(w_jᵀδ + h_j)

is concave, and relu(t) = max over 0 ≤ λ ≤ 1 of λt makes its maximum over a convex
region C a minimum over multipliers:

    max_C F = min over λ ∈ [0, 1]^m of k + Σ_j λ_j c_j h_j + σ_C(v(λ)),
    v(λ) = l + Σ_j λ_j c_j w_j,

σ_C(v) = max_C vᵀδ the support function: ε‖v‖ on a ball, Σ_i max(v_i l_i, v_i h_i) on a
box. Every λ gives an upper bound, every δ ∈ C a lower one, and their difference is

    σ_C(v) - vᵀδ + Σ_j c_j (λ_j a_j - relu(a_j)),  a_j = w_jᵀδ + h_j,

a sum of terms ≥ 0: δ must be a support point of v, and λ_j = 1 where a_j > 0, 0 where
a_j < 0. Only at the kinks that the maximiser sits on is λ_j in between.

On a ball σ_C is smooth but at v = 0, where the maximiser is interior. On a box it is
piecewise linear and the maximum is a linear program: v_i = 0 in every coordinate in
which the maximiser lies strictly between its limits. On their intersection it is
either. One method serves all: proximal point steps on the primal,

    δ⁺ = argmax over C of F(δ) - ½μ‖δ - δ°‖²,

whose dual is smooth in λ everywhere, its maximiser being Π_C(δ° + v(λ)/μ). That dual is
minimised by projected Newton steps: Newton's in the multipliers that no bound holds,
with the derivative of Π_C in the Hessian, clipped to the bounds, shortened until the
dual falls. On a linear program proximal point steps end at a solution after finitely
many; on curved regions they converge the faster the smaller μ is.
"""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.regions import Region
from summiteer.regions.intersection import Intersection
from summiteer.regions.intervals import Intervals

#: Proximal steps at most; eight are usual.
_PROXIMAL = 30
#: μ in units of (size of v)/(size of C). It begins at the first, on boxes at the next,
#: where v/μ would otherwise leave no coordinate between its limits; is divided by ten
#: down to the third; and goes on to the last where the gap no longer halves.
#: Searches that begin with a relative gap below `_CLOSE` begin at the third.
_CLOSE = 1e-4
_FIRST_WEIGHT, _FIRST_ON_BOXES, _USUAL_WEIGHT, _LAST_WEIGHT = 0.1, 10.0, 1e-2, 1e-4
#: Newton steps per proximal step, and halvings of one of them.
_NEWTON, _HALVINGS = 40, 12
#: Numbers in one gathered block of rows of W: 128 MiB in float64.
_CHUNK = 2**24
#: Newton's matrix gets so much of the relative violation on its diagonal (that of U is
#: 1), and multipliers so near to a bound that pulls them are moved to it.
_RIDGE, _NEAR = 0.01, 0.1


@dataclass(frozen=True, eq=False)
class ReluMinorant:
    """F(δ) = constant + linearᵀδ + Σ_j weight_j·relu(w_jᵀδ + height_j), concave.

    Attributes:
        hidden: W `[m, d]`, shared by all rows.
        height: `[rows, m]` pre-activations at δ = 0.
        weight: `[rows, m]`, ≤ 0; 0 where a neuron does not take part.
        linear: `[rows, d]`.
        constant: `[rows]`.
    """

    hidden: Tensor
    height: Tensor
    weight: Tensor
    linear: Tensor
    constant: Tensor

    def value(self, points: Tensor) -> Tensor:
        """F `[rows]` at `points` `[rows, d]`, in floating point."""
        bent = torch.relu(torch.addmm(self.height, points, self.hidden.T))
        return self.constant + _dot(self.linear, points) + _dot(self.weight, bent)

    def direction(self, multipliers: Tensor) -> Tensor:
        """v(λ) = linear + Wᵀ(weight ⊙ λ), `[rows, d]`."""
        return torch.addmm(self.linear, self.weight * multipliers, self.hidden)

    def take(self, index: Tensor) -> Self:
        """Return the rows `index`."""
        return replace(
            self,
            height=self.height[index],
            weight=self.weight[index],
            linear=self.linear[index],
            constant=self.constant[index],
        )


@dataclass(frozen=True, eq=False)
class Peak:
    """The maximum of a minorant over a region, between two bounds in floating point.

    Attributes:
        points: `[rows, d]` in the region, F there is `lower`. The support point of
            `direction` wherever that is as high; on boxes, and where `direction` is
            zero up to rounding, it need not be.
        multipliers: λ `[rows, m]` in [0, 1].
        direction: v(λ) `[rows, d]`.
        upper: the dual value at λ, `[rows]`.
        lower: F at `points`, `[rows]`.
        gap: `[rows]` upper - lower ≥ 0, as a sum of terms ≥ 0 and so without the
            rounding of the difference. It is large where the search failed.
        evaluations: `[rows]` int64, pairs of products with W and Wᵀ spent.
    """

    points: Tensor
    multipliers: Tensor
    direction: Tensor
    upper: Tensor
    lower: Tensor
    gap: Tensor
    evaluations: Tensor


def maximise(
    minorant: ReluMinorant, region: Region, multipliers: Tensor | None = None
) -> Peak:
    """Maximise a concave minorant over a convex region, row by row.

    Args:
        minorant: F of each row.
        region: C, bound to the rows; an L2 ball, intervals or their intersection.
        multipliers: λ `[rows, m]` to begin at; the signs of the heights if None.

    Returns:
        `Peak`; look at its gap.
    """
    with torch.no_grad():
        dual = _Dual.of(minorant, region)
        if multipliers is None:
            forces, centre = dual.top * (dual.height > 0), torch.zeros_like(dual.linear)
        else:
            kept = multipliers[:, dual.neurons]
            forces = dual.top * kept.clamp(0.0, 1.0)
            centre = region.linear_maximiser(dual.direction(forces))
        peak = _proximal_steps(minorant, dual, forces, centre)
    return replace(peak, evaluations=dual.tally)


# ---------------------------------------------------------------------- the dual
@dataclass(frozen=True, eq=False)
class _Dual:
    """The dual in θ_j = -λ_j c_j‖w_j‖, 0 ≤ θ ≤ top, for unit rows u_j of W.

    φ(θ) = max over C of vᵀδ - ½μ‖δ - δ°‖² - θᵀη, v = l - Uᵀθ, η_j = h_j/‖w_j‖, and
    ∂φ/∂θ = -(η + Uδ).
    """

    unit: Tensor  # U [m, d], of the neurons that take part in any row
    gram: Tensor  # UUᵀ
    neurons: Tensor  # their numbers
    height: Tensor
    top: Tensor
    linear: Tensor
    region: Region
    row: Tensor  # number of each row in the tally
    tally: Tensor  # products with W and Wᵀ so far, counted in place

    @classmethod
    def of(cls, minorant: ReluMinorant, region: Region) -> "_Dual":
        lengths = _rows.norm(minorant.hidden)
        top = -minorant.weight * lengths
        neurons = (top > 0).any(0).nonzero().flatten()
        unit = minorant.hidden[neurons] / lengths[neurons, None]
        return cls(
            unit=unit,
            gram=unit @ unit.T,
            neurons=neurons,
            height=minorant.height[:, neurons] / lengths[neurons],
            top=top[:, neurons],
            linear=minorant.linear,
            region=region,
            row=torch.arange(len(top), device=top.device),
            tally=torch.zeros(len(top), dtype=torch.int64, device=top.device),
        )

    def count(self, pairs: int) -> None:
        self.tally.index_add_(0, self.row, torch.full_like(self.row, pairs))

    def direction(self, forces: Tensor) -> Tensor:
        return torch.addmm(self.linear, forces, self.unit, alpha=-1)

    def activation(self, points: Tensor) -> Tensor:
        """η + Uδ."""
        return torch.addmm(self.height, points, self.unit.T)

    def take(self, index: Tensor) -> "_Dual":
        return replace(
            self,
            height=self.height[index],
            top=self.top[index],
            linear=self.linear[index],
            region=self.region.take(index),
            row=self.row[index],
        )


@dataclass(frozen=True, eq=False)
class _Iterate:
    """θ and what follows from it; `_rows.take` picks rows."""

    forces: Tensor
    pull: Tensor  # δ° + v/μ
    points: Tensor  # Π_C(pull)
    active: Tensor  # η + Uδ
    value: Tensor  # φ


def _iterate(dual: _Dual, forces: Tensor, centre: Tensor, weight: Tensor) -> _Iterate:
    dual.count(1)
    direction = dual.direction(forces)
    pull = torch.addcmul(centre, direction, weight[:, None].reciprocal())
    points = dual.region.project(pull)
    moved = points - centre
    value = _dot(direction, points) - 0.5 * weight * _dot(moved, moved)
    value = value - _dot(forces, dual.height)
    return _Iterate(forces, pull, points, dual.activation(points), value)


# -------------------------------------------------------------- proximal point steps
def _proximal_steps(
    minorant: ReluMinorant, dual: _Dual, forces: Tensor, centre: Tensor
) -> Peak:
    eps = torch.finfo(centre.dtype).eps
    ones = torch.ones_like(centre)
    size = torch.maximum(
        _rows.norm(dual.region.linear_maximiser(ones)),
        _rows.norm(dual.region.linear_maximiser(-ones)),
    ).clamp(min=torch.finfo(centre.dtype).tiny ** 0.5)
    force = torch.hypot(_rows.norm(dual.linear), _rows.norm(dual.top))
    force = torch.where(force > 0, force, 1.0)
    noise = eps * (force * size + _dot(dual.top, dual.height.abs()))
    best = _peak(minorant, dual.region, dual, forces, centre)
    left = (best.gap > noise).nonzero().flatten()
    bounded = isinstance(dual.region, Intervals | Intersection)
    first = _FIRST_ON_BOXES if bounded else _FIRST_WEIGHT
    share = torch.full_like(size, first)
    share[best.gap <= _CLOSE * force * size] = _USUAL_WEIGHT
    idle = torch.zeros_like(dual.row)
    for step in range(_PROXIMAL):
        if not len(left):
            break
        weight = share[left] * force[left] / size[left]
        wanted = (0.01 * best.gap / (force * size)).clamp(max=1e-2 * 0.01**step)[left]
        precision = (share[left].reciprocal(), wanted)
        now = dual.take(left)
        iterate = _newton_steps(
            now, forces[left], centre[left], weight, precision, size[left]
        )
        forces[left], centre[left] = iterate.forces, iterate.points
        some = minorant.take(left)
        found = _peak(some, now.region, now, iterate.forces, centre[left])
        rough = (found.gap > noise[left]).nonzero().flatten()
        if len(rough) and step > 2:
            part = now.take(rough)
            sharp = _polished(part, _rows.take(iterate, rough))
            sharper = _peak(some.take(rough), part.region, part, *sharp)
            won = sharper.gap < found.gap[rough]
            _put(found, rough[won], sharper, won)
        better = found.gap < best.gap[left]
        halved = found.gap < 0.5 * best.gap[left]
        _put(best, left[better], found, better)
        idle[left] = torch.where(
            halved | (share[left] > _LAST_WEIGHT), 0, idle[left] + 1
        )
        less = torch.where(share > _USUAL_WEIGHT, 0.1 * share, 0.3 * share)
        less = torch.where(
            share > 1.01 * _USUAL_WEIGHT, less.clamp(min=_USUAL_WEIGHT), less
        )
        change = left[~halved | (share[left] > 1.01 * _USUAL_WEIGHT)]
        share[change] = less[change].clamp(min=_LAST_WEIGHT)
        left = left[(best.gap[left] > noise[left]) & (idle[left] < 4)]
    return best


def _put(target: Peak, index: Tensor, source: Peak, chosen: Tensor) -> None:
    for name in vars(target):
        getattr(target, name)[index] = getattr(source, name)[chosen]


def _peak(
    minorant: ReluMinorant, region: Region, dual: _Dual, forces: Tensor, points: Tensor
) -> Peak:
    """The bounds at θ and at the better of `points` and the support point of v."""
    dual.count(2)
    multipliers = (minorant.height > 0).to(forces)
    share = torch.where(dual.top > 0, forces / dual.top, multipliers[:, dual.neurons])
    multipliers[:, dual.neurons] = share.clamp(0.0, 1.0)
    direction = minorant.direction(multipliers)
    support = region.linear_maximiser(direction)
    base = minorant.constant + _dot(multipliers * minorant.weight, minorant.height)
    upper = base + _dot(direction, support)

    def gap(at: Tensor) -> Tensor:
        active = torch.addmm(minorant.height, at, minorant.hidden.T)
        wrong = minorant.weight * (multipliers * active - active.relu())
        return wrong.sum(1) + _dot(direction, support - at).clamp(min=0.0)

    ours, theirs = gap(points), gap(support)
    chosen = theirs <= ours
    points = torch.where(chosen[:, None], support, points)
    return Peak(
        points=points,
        multipliers=multipliers,
        direction=direction,
        upper=upper,
        lower=minorant.value(points),
        gap=torch.where(chosen, theirs, ours),
        evaluations=torch.zeros_like(dual.row),
    )


def _polished(dual: _Dual, now: _Iterate) -> tuple[Tensor, Tensor]:
    """(θ, δ) with a = 0 at the kinks and v = 0 where no limit holds δ, if both can be.

    That is what a maximiser satisfies which no curved boundary holds: one linear system
    for δ in its free coordinates, one for θ at the kinks.
    """
    free = (now.forces > 0) & (now.forces < dual.top)
    most = max(int(free.sum(1).max()), 1)
    index = free.byte().topk(min(most, free.shape[1]), dim=1).indices
    valid = free.gather(1, index)
    moving = _derivative(dual.region, now.pull, now.points)[0]
    rows = dual.unit[index] * moving[:, None] * valid[..., None]
    system = rows @ rows.mT
    ridge = 1e2 * torch.finfo(system.dtype).eps
    system.diagonal(dim1=1, dim2=2).add_(torch.where(valid, ridge, 1.0))
    factor = torch.linalg.cholesky_ex(system)[0]
    forces, points = now.forces, now.points
    for _ in range(2):
        wanted = (-dual.activation(points).gather(1, index) * valid)[..., None]
        change = (rows.mT @ torch.cholesky_solve(wanted, factor))[..., 0]
        points = dual.region.project(points + change.nan_to_num())
        excess = rows @ dual.direction(forces)[..., None]
        change = torch.cholesky_solve(excess, factor)[..., 0].nan_to_num() * valid
        forces = torch.minimum(
            forces.scatter_add(1, index, change).clamp(min=0.0), dual.top
        )
    return forces, points


# ------------------------------------------------------------ projected Newton steps
def _newton_steps(
    dual: _Dual,
    forces: Tensor,
    centre: Tensor,
    weight: Tensor,
    precision: tuple[Tensor, Tensor],
    size: Tensor,
) -> _Iterate:
    """Minimise φ over 0 ≤ θ ≤ top until every activation is consistent with its θ."""
    done = _iterate(dual, forces, centre, weight)
    # Rounding of v/μ reaches the activations as far as Π_C lets it.
    spread, wanted = precision
    stretch = _derivative(dual.region, done.pull, done.points)[1]
    rounding = 8 * torch.finfo(size.dtype).eps * (1 + stretch * spread)
    accuracy = torch.maximum(rounding, wanted) * size
    left = torch.arange(len(forces), device=forces.device)
    now, stuck = _rows.take(done, left), torch.zeros_like(left, dtype=torch.bool)
    for _ in range(_NEWTON):
        error = _violation(dual, now)
        going = (error > accuracy) & ~stuck
        if not bool(going.all()):
            _rows_put(done, left[~going], now, ~going)
            index = going.nonzero().flatten()
            if not len(index):
                return done
            left, now, dual = left[index], _rows.take(now, index), dual.take(index)
            centre, weight = centre[index], weight[index]
            accuracy = accuracy[index]
        step = _step(dual, now, weight, error[going] / size[left])
        now, stuck = _line_search(dual, now, centre, weight, step)
    _rows_put(done, left, now, torch.ones_like(left, dtype=torch.bool))
    return done


def _rows_put(
    target: _Iterate, index: Tensor, source: _Iterate, chosen: Tensor
) -> None:
    for name in vars(target):
        getattr(target, name)[index] = getattr(source, name)[chosen]


def _violation(dual: _Dual, now: _Iterate) -> Tensor:
    """By how much an activation contradicts its θ, at most, `[rows]`."""
    up = now.active.clamp(min=0.0) * (now.forces < dual.top)
    down = (-now.active).clamp(min=0.0) * (now.forces > 0)
    both = torch.maximum(up, down)
    return both.amax(1) if both.shape[1] else both.new_zeros(len(both))


def _step(dual: _Dual, now: _Iterate, weight: Tensor, error: Tensor) -> Tensor:
    """Newton's step in θ where no bound holds it; to the bound where one is near."""
    near = dual.top * (error.clamp(max=1e-2) * _NEAR)[:, None]
    sinks = (now.forces <= near) & (now.active < 0)
    rises = (now.forces >= dual.top - near) & (now.active > 0)
    step = torch.where(sinks, -now.forces, torch.where(rises, dual.top - now.forces, 0))
    free = ~(sinks | rises) & (dual.top > 0)
    most = int(free.sum(1).max())
    if not most:
        return step
    rows = max(1, _CHUNK // (most * max(most, now.points.shape[1])))
    parts = torch.split(torch.arange(len(step), device=step.device), rows)
    return torch.cat(
        [
            _newton(
                dual.take(i), _rows.take(now, i), weight[i], step[i], free[i], error[i]
            )
            for i in parts
        ]
    )


def _newton(
    dual: _Dual,
    now: _Iterate,
    weight: Tensor,
    step: Tensor,
    free: Tensor,
    error: Tensor,
) -> Tensor:
    """Solve (1/μ) U J Uᵀ p = a on the free neurons, J the derivative of Π_C."""
    most = int(free.sum(1).max())
    index = free.byte().topk(most, dim=1).indices
    valid = free.gather(1, index)
    moving, stretch, tilt = _derivative(dual.region, now.pull, now.points)
    if isinstance(dual.region, Intervals | Intersection):
        rows = dual.unit[index] * moving[:, None]
        system = rows @ rows.mT
    else:
        system = dual.gram[index[:, :, None], index[:, None, :]]
    lean = (tilt @ dual.unit.T).gather(1, index)
    system = system - lean[:, :, None] * lean[:, None, :]
    system = system * (valid[:, :, None] & valid[:, None, :])
    ridge = (_RIDGE * error).clamp(min=1e3 * torch.finfo(system.dtype).eps, max=1.0)
    system.diagonal(dim1=1, dim2=2).add_(torch.where(valid, ridge[:, None], 1.0))
    # Multipliers that are moved to their bounds change what the others see.
    shift = (step @ dual.unit) * moving
    shift = shift - _dot(shift, tilt)[:, None] * tilt
    change = (shift @ dual.unit.T).gather(1, index)
    scale = (weight / stretch)[:, None]
    wanted = (scale * now.active.gather(1, index) - change) * valid
    factor, info = torch.linalg.cholesky_ex(system)
    solved = torch.cholesky_solve(wanted[..., None], factor)[..., 0]
    usable = (info == 0) & solved.isfinite().all(1)
    solved = torch.where(usable[:, None] & valid, solved, 0.0)
    return step.scatter_add(1, index, solved)


def _derivative(
    region: Region, pull: Tensor, points: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Π_C'(pull) = stretch·(diag(moving) - tilt tiltᵀ) at `points` = Π_C(pull)."""
    moving = torch.ones_like(points)
    stretch = torch.ones_like(points[:, 0])
    tilt = torch.zeros_like(points)
    if isinstance(region, Intervals):
        return (points == pull).to(points), stretch, tilt
    if isinstance(region, Intersection):
        low, high = region.box.limits(points)
        moving = ((points > low) & (points < high)).to(points)
    inside = (points == pull) | (moving == 0)
    curved = ~inside.all(1)
    free = pull * moving
    length = _rows.norm(free)
    curved = curved & (length > 0)
    reach = _rows.norm(points * moving) / torch.where(length > 0, length, 1.0)
    stretch = torch.where(curved & (reach > 0), reach, 1.0)
    tilt = _rows.unit(free) * curved[:, None]
    return moving, stretch, tilt


def _line_search(
    dual: _Dual, now: _Iterate, centre: Tensor, weight: Tensor, step: Tensor
) -> tuple[_Iterate, Tensor]:
    """Shorten the step, clipped to 0 ≤ θ ≤ top, until φ falls; else a safe one."""
    eps = torch.finfo(step.dtype).eps
    result = _rows.take(now, torch.arange(len(step), device=step.device))
    left = torch.arange(len(step), device=step.device)
    stuck = torch.zeros_like(left, dtype=torch.bool)
    size = 1.0
    noise = now.value.abs() + 2 * _dot(now.forces, dual.height.abs())
    noise = 64 * eps * noise
    error = _violation(dual, now)
    for halving in range(_HALVINGS + 1):
        some, old = dual.take(left), _rows.take(now, left)
        if halving == _HALVINGS:
            # ‖U‖²/μ bounds the curvature.
            bound = dual.gram.abs().sum(1).max()
            push = old.active * (weight[left] / bound)[:, None]
        else:
            push = size * step[left]
        forces = torch.minimum((old.forces + push).clamp(min=0.0), some.top)
        new = _iterate(some, forces, centre[left], weight[left])
        promised = _dot(old.active, forces - old.forces)
        falls = (promised > 0) & (new.value <= old.value - 1e-4 * promised)
        # What φ cannot resolve, its gradient can.
        level = new.value <= old.value + noise[left]
        falls = falls | (level & (_violation(some, new) < 0.9 * error[left]))
        if halving == _HALVINGS:
            stuck[left] = promised <= noise[left]
            falls = torch.ones_like(falls)
        _rows_put(result, left[falls], new, falls)
        left = left[~falls]
        if not len(left):
            break
        size *= 0.5 if halving < 4 else 0.1
    return result, stuck


def _dot(left: Tensor, right: Tensor) -> Tensor:
    return (left * right).sum(1)
