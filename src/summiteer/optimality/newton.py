"""Newton's method on the Lagrangian, matrix free: what is proved is proved there.

On the face of a point (`stand.py`) the step solves (μI - H)Δ = Pg on the tangent space
by conjugate gradients (at a strict maximum the operator is positive definite); the
plain map T(δ) = εg/‖g‖ would 2-cycle where λ_min < -μ (mathematics.md §4).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.optimality.stand import Limits, faces
from summiteer.optimality.surface import Surface

#: Newton steps; quadratic convergence from a residual of 1e-4 needs three.
_STEPS = 6
#: Conjugate gradient steps in each.
_PRODUCTS = 80
#: Residual of a linear system, relative: two Newton steps then reach rounding.
_SOLVED = 1e-5
#: A tangential gradient below this many units of rounding of ‖g‖ is rounding itself.
_ROUNDING = 64 * torch.finfo(torch.float64).eps
#: One below this is at rest: the maximum is as near, in radii, but for μ/(μ - λ).
_REST = 1e-12


@dataclass(frozen=True, eq=False)
class _Face:
    """First order at points on their faces; all `[rows, …]`."""

    points: Tensor
    free: Tensor
    curved: Tensor
    tangential: Tensor
    multiplier: Tensor
    bend: Tensor
    size: Tensor
    scale: Tensor


def newton(
    surface: Surface, limits: Limits, points: Tensor, reach: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Polish points that are nearly stationary; others stay what they are.

    Args:
        surface: F of each row.
        limits: of the region.
        points: `[rows, d]` float64.
        reach: `[rows]`; no point is moved further, and limits within a tenth of it are
            taken to hold.

    Returns:
        (points, free, curved): with the face that each stands on.
    """
    now = _polished(surface, limits, points, reach)
    return now.points, now.free, now.curved


def settle(
    surface: Surface, limits: Limits, points: Tensor, reach: Tensor
) -> tuple[Tensor, Tensor]:
    """(points, whether they are stationary to `_REST`), of the arguments of `newton`.

    Negative curvature on the way leaves a point where it is: what has come to rest is a
    maximum as far as the steps could see.
    """
    now = _polished(surface, limits, points, reach)
    return now.points, (now.size <= _REST * now.scale) & (now.scale > 0)


def _polished(surface: Surface, limits: Limits, points: Tensor, reach: Tensor) -> _Face:
    """The steps of `newton`."""
    now = _look(surface, limits, points, 0.1 * reach)
    start, index = points, torch.arange(len(points))
    for _ in range(_STEPS):
        here = _rows.take(now, index)
        rough = here.size > _ROUNDING * here.scale
        index, here = index[rough], _rows.take(here, rough.nonzero().flatten())
        if not len(index):
            break
        some = surface.take(index)
        step, sound = _solve(some, here)
        step = torch.where(sound[:, None], step, 0.0)
        moved = here.points + step
        tried = _look(some, limits.take(index), moved, 0.1 * reach[index])
        away = (tried.points - start[index]).norm(dim=1)
        better = (tried.size < here.size) & sound & (away <= reach[index])
        kept = _rows.choose(better, tried, here)
        _rows.put(now, index, _scatter(kept, index, len(now.size)))
        # What no longer halves has met its rounding.
        going = better & (tried.size < 0.5 * here.size)
        index = index[going]
    return now


def _scatter(face: _Face, index: Tensor, count: int) -> _Face:
    """Rows at the places `index` of `count`, for `_rows.put`."""
    back = torch.zeros(count, dtype=torch.int64)
    back[index] = torch.arange(len(index))
    return _rows.take(face, back)


def _look(surface: Surface, limits: Limits, points: Tensor, snap: Tensor) -> _Face:
    """Put points on their faces and look at first order there."""
    points = torch.minimum(torch.maximum(points, limits.lower), limits.upper)
    norm = points.norm(dim=1)
    long = norm > limits.radius
    scale = torch.where(long, limits.radius / norm, 1.0)
    points = points * scale[:, None]
    gradient, bend = surface.slope(points)
    bent = bend @ surface.hidden.square() if limits.boxed else torch.zeros_like(points)
    free, curved = faces(limits, points, gradient, bent, snap)
    nearer = limits.upper - points <= points - limits.lower
    limit = torch.where(nearer, limits.upper, limits.lower)
    held = torch.where(free, 0.0, limit)
    inside = torch.where(free, points, 0.0)
    rest = (limits.radius.square() - held.square().sum(1)).clamp(min=0).sqrt()
    # Scaled twice: the second scaling is by 1 but for rounding.
    for _ in range(2):
        own = inside.norm(dim=1).clamp(min=1e-300)
        factor = torch.where(curved, rest / own, 1.0)
        inside = inside * factor[:, None]
    points = inside + held
    gradient, bend = surface.slope(points)
    gradient_free = gradient * free
    square = inside.square().sum(1).clamp(min=1e-300)
    multiplier = torch.where(curved, (gradient_free * inside).sum(1) / square, 0.0)
    tangential = gradient_free - multiplier[:, None] * inside
    return _Face(
        points,
        free,
        curved,
        tangential,
        multiplier,
        bend,
        tangential.norm(dim=1),
        gradient.norm(dim=1),
    )


def _solve(surface: Surface, face: _Face) -> tuple[Tensor, Tensor]:
    """Conjugate gradients for (μI - H)Δ = Pg on the tangent spaces.

    Returns:
        (Δ, whether the operator showed no negative curvature).
    """
    normal = _rows.unit(face.points * face.free) * face.curved[:, None]

    def tangent(vectors: Tensor) -> Tensor:
        inside = vectors * face.free
        return inside - (inside * normal).sum(1, keepdim=True) * normal

    solution = torch.zeros_like(face.points)
    left = tangent(face.tangential)
    way, square = left.clone(), left.square().sum(1)
    goal = _SOLVED**2 * square
    sound = torch.ones_like(face.curved)
    for _ in range(_PRODUCTS):
        going = sound & (square > goal)
        if not bool(going.any()):
            break
        image = face.multiplier[:, None] * way - surface.bent(face.bend, way)
        image = tangent(image)
        bent = (way * image).sum(1)
        sound = sound & ((bent > 0) | ~going)
        size = torch.where(going & sound, square / bent, 0.0)[:, None]
        solution = solution + size * way
        left = left - size * image
        fresh = left.square().sum(1)
        turn = torch.where(going & sound, fresh / square, 0.0)[:, None]
        way = torch.where((going & sound)[:, None], left + turn * way, way)
        square = torch.where(going & sound, fresh, square)
    return solution, sound
