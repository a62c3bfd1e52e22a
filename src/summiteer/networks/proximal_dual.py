"""The dual of a proximal step on a concave minorant, minimised by Newton's method.

See `summiteer.networks.relu_minorant`, which this serves.
"""

from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.regions import Region
from summiteer.regions.intersection import Intersection
from summiteer.regions.intervals import Intervals

T = TypeVar("T")

#: Newton steps per proximal step, and halvings of one of them.
_NEWTON, _HALVINGS = 40, 12
#: Pairs of products with W and Wᵀ after which the search of a row ends: three in a
#: thousand rows of hard problems need 300, numbers that floats cannot hold any number.
EVALUATIONS = 1000
#: Numbers in one gathered block of rows of W: 128 MiB in float64.
_CHUNK = 2**24
#: Newton's matrix gets so much of the relative violation on its diagonal (that of U is
#: 1), and multipliers so near to a bound that pulls them are moved to it.
_RIDGE, _NEAR = 0.01, 0.1


@dataclass(frozen=True, eq=False)
class Dual:
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

    def count(self, pairs: int) -> None:
        """Count products with W and Wᵀ."""
        self.tally.index_add_(0, self.row, torch.full_like(self.row, pairs))

    @property
    def spent(self) -> Tensor:
        """Which rows have had their `EVALUATIONS`."""
        return self.tally[self.row] >= EVALUATIONS

    def direction(self, forces: Tensor) -> Tensor:
        """V = l - Uᵀθ."""
        return torch.addmm(self.linear, forces, self.unit, alpha=-1)

    def activation(self, points: Tensor) -> Tensor:
        """η + Uδ."""
        return torch.addmm(self.height, points, self.unit.T)

    def take(self, index: Tensor) -> "Dual":
        """Return the rows `index`."""
        return replace(
            self,
            height=self.height[index],
            top=self.top[index],
            linear=self.linear[index],
            region=self.region.take(index),
            row=self.row[index],
        )


@dataclass(frozen=True, eq=False)
class Iterate:
    """θ and what follows from it; `_rows.take` picks rows."""

    forces: Tensor
    pull: Tensor  # δ° + v/μ
    points: Tensor  # Π_C(pull)
    active: Tensor  # η + Uδ
    value: Tensor  # φ


def iterate(dual: Dual, forces: Tensor, centre: Tensor, weight: Tensor) -> Iterate:
    """What follows from θ."""
    dual.count(1)
    direction = dual.direction(forces)
    pull = torch.addcmul(centre, direction, weight[:, None].reciprocal())
    points = dual.region.project(pull)
    moved = points - centre
    value = dot(direction, points) - 0.5 * weight * dot(moved, moved)
    value = value - dot(forces, dual.height)
    return Iterate(forces, pull, points, dual.activation(points), value)


def newton_steps(
    dual: Dual,
    forces: Tensor,
    centre: Tensor,
    weight: Tensor,
    precision: tuple[Tensor, Tensor],
    size: Tensor,
) -> Iterate:
    """Minimise φ over 0 ≤ θ ≤ top until every activation is consistent with its θ."""
    done = iterate(dual, forces, centre, weight)
    # Rounding of v/μ reaches the activations as far as Π_C lets it.
    spread, wanted = precision
    stretch = derivative(dual.region, done.pull, done.points)[1]
    rounding = 8 * torch.finfo(size.dtype).eps * (1 + stretch * spread)
    accuracy = torch.maximum(rounding, wanted) * size
    left = torch.arange(len(forces), device=forces.device)
    now, stuck = _rows.take(done, left), torch.zeros_like(left, dtype=torch.bool)
    for _ in range(_NEWTON):
        error = _violation(dual, now)
        going = (error > accuracy) & ~stuck & ~dual.spent
        if not bool(going.all()):
            put(done, left[~going], now, ~going)
            index = going.nonzero().flatten()
            if not len(index):
                return done
            left, now, dual = left[index], _rows.take(now, index), dual.take(index)
            centre, weight = centre[index], weight[index]
            accuracy = accuracy[index]
        step = _step(dual, now, weight, error[going] / size[left])
        now, stuck = _line_search(dual, now, centre, weight, step)
    put(done, left, now, torch.ones_like(left, dtype=torch.bool))
    return done


def put(target: T, index: Tensor, source: T, chosen: Tensor) -> None:
    """Overwrite the rows `index` of our own buffers by the `chosen` ones."""
    for name in vars(target):
        getattr(target, name)[index] = getattr(source, name)[chosen]


def _violation(dual: Dual, now: Iterate) -> Tensor:
    """By how much an activation contradicts its θ, at most, `[rows]`."""
    up = now.active.clamp(min=0.0) * (now.forces < dual.top)
    down = (-now.active).clamp(min=0.0) * (now.forces > 0)
    both = torch.maximum(up, down)
    return both.amax(1) if both.shape[1] else both.new_zeros(len(both))


def _step(dual: Dual, now: Iterate, weight: Tensor, error: Tensor) -> Tensor:
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
    dual: Dual,
    now: Iterate,
    weight: Tensor,
    step: Tensor,
    free: Tensor,
    error: Tensor,
) -> Tensor:
    """Solve (1/μ) U J Uᵀ p = a on the free neurons, J the derivative of Π_C."""
    most = int(free.sum(1).max())
    index = free.byte().topk(most, dim=1).indices
    valid = free.gather(1, index)
    moving, stretch, tilt = derivative(dual.region, now.pull, now.points)
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
    shift = shift - dot(shift, tilt)[:, None] * tilt
    change = (shift @ dual.unit.T).gather(1, index)
    scale = (weight / stretch)[:, None]
    wanted = (scale * now.active.gather(1, index) - change) * valid
    factor, info = torch.linalg.cholesky_ex(system)
    solved = torch.cholesky_solve(wanted[..., None], factor)[..., 0]
    usable = (info == 0) & solved.isfinite().all(1)
    solved = torch.where(usable[:, None] & valid, solved, 0.0)
    return step.scatter_add(1, index, solved)


def derivative(
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
    dual: Dual, now: Iterate, centre: Tensor, weight: Tensor, step: Tensor
) -> tuple[Iterate, Tensor]:
    """Shorten the step, clipped to 0 ≤ θ ≤ top, until φ falls; else a safe one."""
    eps = torch.finfo(step.dtype).eps
    result = _rows.take(now, torch.arange(len(step), device=step.device))
    left = torch.arange(len(step), device=step.device)
    stuck = torch.zeros_like(left, dtype=torch.bool)
    size = 1.0
    noise = now.value.abs() + 2 * dot(now.forces, dual.height.abs())
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
        new = iterate(some, forces, centre[left], weight[left])
        promised = dot(old.active, forces - old.forces)
        falls = (promised > 0) & (new.value <= old.value - 1e-4 * promised)
        # What φ cannot resolve, its gradient can.
        level = new.value <= old.value + noise[left]
        falls = falls | (level & (_violation(some, new) < 0.9 * error[left]))
        if halving == _HALVINGS:
            stuck[left] = promised <= noise[left]
            falls = torch.ones_like(falls)
        put(result, left[falls], new, falls)
        left = left[~falls]
        if not len(left):
            break
        size *= 0.5 if halving < 4 else 0.1
    return result, stuck


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Inner products of the rows."""
    return (left * right).sum(1)
