"""Ascent of a piecewise-linear network along its kinks, in floats.

Gradient steps zigzag across a ridge. Here each step maximises the function as its kinks
within a trust radius see it (`ties.py`), moves towards that point by at most the trust
radius, and doubles it, keeps it or shortens it as the objective rises or not.
"""

from dataclasses import replace

import torch
from torch import Tensor

from summiteer.optimality.local_form import LocalForm
from summiteer.optimality.ridge import Ridge, ridge_in_box, ridge_on_ball
from summiteer.optimality.stand import Limits
from summiteer.optimality.ties import Ties, ridges_near, ties_of
from summiteer.regions import Region

#: Kinks of one row that are taken on.
MOST_TIES = 64
#: Models that are maximised one after the other.
_STEPS = 80
#: The smallest trust radius, in first ones.
_LEAST = 1e-6
#: A slope below this share of its parts is none.
_FLAT = 1e-9
#: Multipliers nearer than this to 0 or 1 are 0 or 1.
_SURE = 1e-7
#: How far inside a plateau its point is put, in search distances.
_INSIDE = 1e-3
#: A step shorter than this share of the first trust radius ends the ascent.
_STILL = 1e-12


def highest(
    form: LocalForm, ties: Ties, points: Tensor, reach: Tensor, ball: Tensor
) -> Ridge:
    """Where the model is highest: on the ball where it is active, else in the box.

    Args:
        form: of the rows.
        ties: at the points.
        points: `[rows, d]`.
        reach: how far the model is trusted where there is no ball `[rows]`.
        ball: bool `[rows]`.
    """
    ordinary, ties = ties.ordinary, ties.tamed()
    ridge = Ridge(points, torch.zeros_like(ties.height), torch.zeros_like(ball))
    for chosen, solve in ((ball, _on_ball), (~ball, ridge_in_box)):
        index = (chosen & ordinary).nonzero().flatten()
        if len(index):
            some = (ties.take(index), form.limits.take(index), points[index])
            ridge = _filled(ridge, index, solve(*some, reach[index]))
    ridge = _on_plateau(ties, points, reach, ridge)
    return replace(ridge, solved=ridge.solved & ordinary)


def _on_ball(ties: Ties, limits: Limits, points: Tensor, reach: Tensor) -> Ridge:
    """See `ridge_on_ball`, which trusts the model everywhere."""
    del reach
    return ridge_on_ball(ties, limits, points)


def _filled(ridge: Ridge, index: Tensor, other: Ridge) -> Ridge:
    """The ridge with `other` at the rows `index`."""
    return Ridge(
        ridge.points.index_copy(0, index, other.points),
        ridge.multipliers.index_copy(0, index, other.multipliers),
        ridge.solved.index_copy(0, index, other.solved),
    )


def _on_plateau(ties: Ties, points: Tensor, reach: Tensor, ridge: Ridge) -> Ridge:
    """Where nothing rises once some ridges are off: the nearest point with them off.

    εv/‖v‖ is no point to go to where v = 0.
    """
    slope = ties.slope(ridge.multipliers).norm(dim=1)
    each = (ties.weight.abs() * ties.normal.norm(dim=2)).amax(1)
    flat = slope <= _FLAT * torch.maximum(each, ties.rest.norm(dim=1))
    # Not where kinks hold the point: their multipliers lie between 0 and 1.
    share = ridge.multipliers
    between = ties.real & (share > _SURE) & (share < 1 - _SURE)
    flat = flat & ~between.any(1)
    room = _INSIDE * reach[:, None] * ties.normal.norm(dim=2)
    off = (ridge.multipliers < 0.5) & ties.real & (ties.height > -room)
    on = (ridge.multipliers > 0.5) & ties.real & (ties.height < room)
    wrong = off | on
    matrix = ties.normal * wrong[:, :, None]
    gram = torch.linalg.pinv(matrix @ matrix.mT, rtol=1e-12, hermitian=True)
    aim = torch.where(off, -room, room)
    wanted = torch.where(wrong, ties.height - aim, 0.0)
    force = torch.bmm(gram, wanted[:, :, None])
    step = torch.bmm(matrix.mT, force)[:, :, 0]
    moved = torch.where(flat[:, None], points - step, ridge.points)
    return Ridge(moved, ridge.multipliers, ridge.solved | flat)


def ridge_ascent(
    form: LocalForm, region: Region, points: Tensor, reach: Tensor
) -> Tensor:
    """Climb from the points; what does not rise stays.

    Args:
        form: of the problem near the points.
        region: bound, of the same rows.
        points: `[rows, d]` in the region.
        reach: the first trust radius `[rows]`.

    Returns:
        `[rows, d]`.
    """
    result, trust = points.clone(), reach.clone()
    rows = torch.arange(len(points))
    zero = torch.zeros_like(reach)
    shape = form.inputs.shape[1:]
    value = form.around(points, zero).value.middle
    for _ in range(_STEPS):
        some, here = form.take(rows), result[rows]
        patch = some.around(here, trust[rows])
        count = ridges_near(patch, some.around(here, zero[rows]))
        few = (count <= MOST_TIES) & patch.holds
        made = _step(some, region.take(rows), here, trust[rows], few, shape)
        there = some.around(made, zero[rows]).value.middle
        hop = (made - here).norm(dim=1)
        rises = few & (there > value[rows]) & (hop > 0)
        result[rows[rises]], value[rows[rises]] = made[rises], there[rises]
        wider = rises & (count <= MOST_TIES // 4)
        trust[rows] *= _growth(rises, wider)
        going = (trust[rows] > _LEAST * reach[rows]) & (
            ~rises | (hop > _STILL * reach[rows])
        )
        rows = rows[going]
        if not len(rows):
            break
    return result


def _growth(rises: Tensor, wider: Tensor) -> Tensor:
    """By how much the trust radius grows: 2 where few kinks are near, 1, or 0.4."""
    growth = torch.full(rises.shape, 0.4, dtype=torch.float64)
    return growth.masked_fill(rises, 1.0).masked_fill(wider, 2.0)


def _step(
    form: LocalForm,
    region: Region,
    points: Tensor,
    trust: Tensor,
    few: Tensor,
    shape: torch.Size,
) -> Tensor:
    """The model's highest point, or the way to it as far as it is trusted."""
    index = few.nonzero().flatten()
    if not len(index):
        return points
    some, here, near = form.take(index), points[index], trust[index]
    ties = ties_of(some.around(here, near), some.around(here, torch.zeros_like(near)))
    ball = here.norm(dim=1) >= some.limits.radius - near
    ridge = highest(some, ties, here, near, ball)
    way = ridge.points - here
    length = way.norm(dim=1)
    share = (near / length.clamp(min=1e-300)).clamp(max=1.0)
    aim = torch.where((share < 1)[:, None], here + share[:, None] * way, ridge.points)
    made = region.take(index).project(aim.reshape(len(index), *shape)).flatten(1)
    made = torch.where((share < 1)[:, None], made, ridge.points)
    good = ridge.solved & made.isfinite().all(1)
    made = torch.where(good[:, None], made, here)
    return points.index_copy(0, index, made)
