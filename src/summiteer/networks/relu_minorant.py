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
from summiteer.networks.proximal_dual import (
    EVALUATIONS,
    Dual,
    Iterate,
    derivative,
    dot,
    newton_steps,
    put,
)
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

#: A maximum is clearly below a goal by more than this share of its bounds.
_CLEAR = 1e-6


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
        return self.constant + dot(self.linear, points) + dot(self.weight, bent)

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

    @property
    def cut(self) -> Tensor:
        """`[rows]` bool, the search ended for the work that it took, not by itself."""
        return self.evaluations >= EVALUATIONS


def maximise(
    minorant: ReluMinorant,
    region: Region,
    multipliers: Tensor | None = None,
    goal: Tensor | None = None,
) -> Peak:
    """Maximise a concave minorant over a convex region, row by row.

    Args:
        minorant: F of each row.
        region: C, bound to the rows; an L2 ball, intervals or their intersection.
        multipliers: λ `[rows, m]` to begin at; the signs of the heights if None.
        goal: `[rows]`, a row is done once it is known whether its maximum is below.

    Returns:
        `Peak`; look at its gap. A row is given up after `EVALUATIONS` pairs of
        products with W and Wᵀ (or the few that its last step took beyond).
    """
    with torch.no_grad():
        dual = _dual(minorant, region)
        if multipliers is None:
            forces, centre = dual.top * (dual.height > 0), torch.zeros_like(dual.linear)
        else:
            kept = multipliers[:, dual.neurons]
            forces = dual.top * kept.clamp(0.0, 1.0)
            centre = region.linear_maximiser(dual.direction(forces))
        peak = _proximal_steps(minorant, dual, forces, centre, goal)
    return replace(peak, evaluations=dual.tally)


def _dual(minorant: ReluMinorant, region: Region) -> Dual:
    lengths = _rows.norm(minorant.hidden)
    top = -minorant.weight * lengths
    neurons = (top > 0).any(0).nonzero().flatten()
    unit = minorant.hidden[neurons] / lengths[neurons, None]
    return Dual(
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


def _decided(peak: Peak, goal: Tensor | None) -> Tensor:
    """`[rows]` bool, whether the maximum is known to be below or not below the goal."""
    if goal is None:
        return torch.zeros_like(peak.upper, dtype=torch.bool)
    # Clearly below, so that a bound with its rounding is below as well.
    clear = _CLEAR * (peak.upper.abs() + peak.lower.abs())
    return (peak.upper < goal - clear) | (peak.lower >= goal)


def _proximal_steps(
    minorant: ReluMinorant,
    dual: Dual,
    forces: Tensor,
    centre: Tensor,
    goal: Tensor | None,
) -> Peak:
    size, force, noise = _scales(dual)
    best = _peak(minorant, dual.region, dual, forces, centre)
    left = ((best.gap > noise) & ~_decided(best, goal)).nonzero().flatten()
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
        iterate = newton_steps(
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
            put(found, rough[won], sharper, won)
        better = found.gap < best.gap[left]
        halved = found.gap < 0.5 * best.gap[left]
        put(best, left[better], found, better)
        idle[left] = torch.where(
            halved | (share[left] > _LAST_WEIGHT), 0, idle[left] + 1
        )
        less = torch.where(share > _USUAL_WEIGHT, 0.1 * share, 0.3 * share)
        less = torch.where(
            share > 1.01 * _USUAL_WEIGHT, less.clamp(min=_USUAL_WEIGHT), less
        )
        change = left[~halved | (share[left] > 1.01 * _USUAL_WEIGHT)]
        share[change] = less[change].clamp(min=_LAST_WEIGHT)
        going = (best.gap[left] > noise[left]) & (idle[left] < 4)
        left = left[going & ~dual.spent[left] & ~_decided(best, goal)[left]]
    return best


def _peak(
    minorant: ReluMinorant, region: Region, dual: Dual, forces: Tensor, points: Tensor
) -> Peak:
    """The bounds at θ and at the better of `points` and the support point of v."""
    dual.count(2)
    multipliers = (minorant.height > 0).to(forces)
    share = torch.where(dual.top > 0, forces / dual.top, multipliers[:, dual.neurons])
    multipliers[:, dual.neurons] = share.clamp(0.0, 1.0)
    direction = minorant.direction(multipliers)
    support = region.linear_maximiser(direction)
    base = minorant.constant + dot(multipliers * minorant.weight, minorant.height)
    upper = base + dot(direction, support)

    def gap(at: Tensor) -> Tensor:
        active = torch.addmm(minorant.height, at, minorant.hidden.T)
        wrong = minorant.weight * (multipliers * active - active.relu())
        return wrong.sum(1) + dot(direction, support - at).clamp(min=0.0)

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


def _scales(dual: Dual) -> tuple[Tensor, Tensor, Tensor]:
    """The sizes of C and of v, and what rounding makes of the dual's value."""
    eps = torch.finfo(dual.linear.dtype).eps
    ones = torch.ones_like(dual.linear)
    size = torch.maximum(
        _rows.norm(dual.region.linear_maximiser(ones)),
        _rows.norm(dual.region.linear_maximiser(-ones)),
    ).clamp(min=torch.finfo(dual.linear.dtype).tiny ** 0.5)
    force = torch.hypot(_rows.norm(dual.linear), _rows.norm(dual.top))
    force = torch.where(force > 0, force, 1.0)
    noise = eps * (force * size + dot(dual.top, dual.height.abs()))
    return size, force, noise


def _polished(dual: Dual, now: Iterate) -> tuple[Tensor, Tensor]:
    """(θ, δ) with a = 0 at the kinks and v = 0 where no limit holds δ, if both can be.

    That is what a maximiser satisfies which no curved boundary holds: one linear system
    for δ in its free coordinates, one for θ at the kinks.
    """
    free = (now.forces > 0) & (now.forces < dual.top)
    most = max(int(free.sum(1).max()), 1)
    index = free.byte().topk(min(most, free.shape[1]), dim=1).indices
    valid = free.gather(1, index)
    moving = derivative(dual.region, now.pull, now.points)[0]
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
