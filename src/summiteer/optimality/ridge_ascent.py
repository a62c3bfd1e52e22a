"""Ascent of a piecewise-linear network along its kinks, in floats.

Gradient steps zigzag across a ridge. Here each step maximises the function as its kinks
within a trust radius see it (`ties.py`), moves towards that point by at most the trust
radius, and doubles or halves it as the objective rises or not.
"""

from dataclasses import replace

import torch
from torch import Tensor

from summiteer.optimality.local_form import LocalForm
from summiteer.optimality.ridge import Ridge, ridge_in_box, ridge_on_ball
from summiteer.optimality.ties import Ties, ridges_near, ties_of
from summiteer.regions import Region

#: Kinks of one row that are taken on.
MOST_TIES = 64
#: Models that are maximised one after the other.
_STEPS = 80
#: A slope below this share of its parts is none.
_FLAT = 1e-9
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
    ridge = ridge_on_ball(ties, form.limits, points)
    index = (~ball & ordinary).nonzero().flatten()
    if len(index):
        boxed = ridge_in_box(
            ties.take(index), form.limits.take(index), points[index], reach[index]
        )
        ridge = Ridge(
            ridge.points.index_copy(0, index, boxed.points),
            ridge.multipliers.index_copy(0, index, boxed.multipliers),
            ridge.solved.index_copy(0, index, boxed.solved),
        )
    ridge = _on_plateau(ties, points, reach, ridge)
    return replace(ridge, solved=ridge.solved & ordinary)


def _on_plateau(ties: Ties, points: Tensor, reach: Tensor, ridge: Ridge) -> Ridge:
    """Where nothing rises once some ridges are off: the nearest point with them off.

    εv/‖v‖ is no point to go to where v = 0.
    """
    slope = ties.slope(ridge.multipliers).norm(dim=1)
    each = (ties.weight.abs() * ties.normal.norm(dim=2)).amax(1)
    flat = slope <= _FLAT * torch.maximum(each, ties.rest.norm(dim=1))
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
        growth = torch.where(wider, 2.0, torch.where(rises, 1.0, 0.4)).to(trust)
        trust[rows] = growth * trust[rows]
        going = (trust[rows] > 1e-6 * reach[rows]) & (
            ~rises | (hop > _STILL * reach[rows])
        )
        rows = rows[going]
        if not len(rows):
            break
    return result


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
