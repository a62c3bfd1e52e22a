"""Local maximisers found independently: projected ascent, then Newton's method.

What Newton's method ends in is believed only as far as its own residual, its own
Hessian and the rounding of 80-bit floats allow (`Found.error`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from soundness.field import LONG, Surface, Zone, length
from soundness.sigma import ULP

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Found:
    """Points of `[batch, n, d]` and what they were seen to be.

    Attributes:
        points: in the region.
        error: ≥ the distance to an exact critical point; infinite where not known.
        alpha: by how much the multiplier exceeds the tangent curvature.
        multiplier: μ, 0 off the sphere.
        press: the smallest multiplier of an active constraint over the gradient's size.
        maximum: strict local maximiser of F beyond doubt.
        saddle: critical, and beyond doubt no local maximiser.
    """

    points: Array
    error: Array
    alpha: Array
    multiplier: Array
    press: Array
    maximum: Array
    saddle: Array


def climb(surface: Surface, points: Array, steps: int) -> Array:
    """Projected gradient ascent on F with a step of its own for each point.

    Args:
        surface: F of each example.
        points: starts `[batch, n, d]`.
        steps: how many.
    """
    zone = surface.field.zone
    now = zone.project(points.astype(float))
    value, gradient, bend = surface.look(now)
    size = (surface.field.hidden**2).sum(1)
    curved = (np.abs(bend) @ size)[..., None]
    slope = length(gradient)[..., None].astype(float)
    width = zone.width[:, None, None]
    step = width / np.maximum(slope + curved * width, 1e-300)
    for _ in range(steps):
        tried = zone.project(now + step * gradient)
        high, ahead, _ = surface.look(tried)
        better = (high > value)[..., None]
        now = np.where(better, tried, now)
        gradient = np.where(better, ahead, gradient)
        value = np.where(better[..., 0], high, value)
        step = np.where(better, 1.6 * step, 0.4 * step)
    return now.astype(LONG)


def _face(surface: Surface, points: Array) -> tuple[Array, Array, Array]:
    """(held, limit, curved) as first order and distance suggest."""
    zone = surface.field.zone
    gradient = surface.look(points)[1]
    near = 1e-7 * zone.width[:, None]
    low, high = zone.lower[:, None], zone.upper[:, None]
    curved = np.abs(length(points) - zone.radius[:, None]) <= near
    up = np.asarray(high - points <= points - low)
    limit = np.where(up, high, low).astype(LONG)
    close = (np.abs(points - limit) <= near[..., None]) & np.isfinite(limit)
    loose = np.where(close, 0, points)
    square = np.maximum((loose * loose).sum(-1), 1e-300)
    mu = np.where(curved, (gradient * loose).sum(-1) / square, 0)[..., None]
    press = np.where(up, 1, -1) * (gradient - mu * points)
    if not zone.sphere:
        curved = curved & (mu[..., 0] > 0)
    return close & ((press > 0) | (low == high)), limit, curved


def newton(surface: Surface, points: Array, steps: int = 12) -> Found:
    """Newton's method on the Lagrangian of the face that each point seems to lie on.

    Args:
        surface: F of each example.
        points: `[batch, n, d]`, in the region.
        steps: how many.
    """
    zone = surface.field.zone
    now = zone.project(points.astype(LONG))
    held, limit, curved = _face(surface, now)
    mu = None
    for turn in range(steps + 1):
        # The last few in 80-bit floats, which correct the rounding of the first.
        now = now.astype(LONG if turn > steps - 4 else float)
        now = np.where(held, limit, now).astype(now.dtype)
        now = on_sphere(zone, now, held, curved)
        gradient = surface.look(now)[1]
        inside = np.where(held, 0, now)
        square = np.maximum((inside * inside).sum(-1), 1e-300)
        mu = np.where(curved, (gradient * inside).sum(-1) / square, 0)
        left = np.where(held, 0, gradient - mu[..., None] * inside)
        hessian = surface.hessian(now)
        if turn < steps:
            step = _solve(hessian, mu, inside, held, curved, left)
            most = 0.2 * zone.width[:, None]
            scale = np.minimum(1, most / np.maximum(length(step), 1e-300))
            now = now + scale[..., None] * step
    return _judged(surface, now, held, curved, mu, left, hessian)


def on_sphere(zone: Zone, points: Array, held: Array, curved: Array) -> Array:
    """Free coordinates scaled so that points lie on the sphere, where `curved`."""
    inside = np.where(held, 0, points)
    fixed = np.where(held, points, 0)
    radius = zone.radius[:, None].astype(points.dtype)
    with np.errstate(invalid="ignore"):
        rest = np.sqrt(np.maximum(radius**2 - (fixed * fixed).sum(-1), 0))
    own = np.maximum(length(inside), 1e-300)
    factor = np.where(curved, rest / own, 1)
    return np.asarray(inside * factor[..., None] + fixed)


def _solve(
    hessian: Array, mu: Array, inside: Array, held: Array, curved: Array, left: Array
) -> Array:
    """(μI - H)Δ + p·dμ = r on the free coordinates, pᵀΔ = 0 on the sphere."""
    dim = inside.shape[-1]
    scale = np.maximum(np.abs(hessian).max((-1, -2)) + np.abs(mu), 1e-300)
    size = np.maximum(length(inside), 1e-300)
    free = ~held
    matrix = np.zeros((*inside.shape[:-1], dim + 1, dim + 1))
    inner = (mu[..., None, None] * np.eye(dim) - hessian) / scale[..., None, None]
    matrix[..., :dim, :dim] = inner * free[..., None] * free[..., None, :]
    matrix[..., range(dim), range(dim)] += held
    normal = np.where(curved[..., None], inside / size[..., None], 0)
    matrix[..., :dim, dim] = matrix[..., dim, :dim] = normal
    matrix[..., dim, dim] = ~curved
    side = np.concatenate([left / scale[..., None], 0 * mu[..., None]], -1)
    # A nearly singular system is regularised: Newton's steps are only proposals.
    matrix += 1e-18 * np.eye(dim + 1)
    wrong = ~np.isfinite(matrix).all((-1, -2)) | ~np.isfinite(side).all(-1)
    matrix[wrong] = np.eye(dim + 1)
    side = np.where(wrong[..., None], 0, side).astype(float)
    try:
        step = np.linalg.solve(matrix, side[..., None])[..., 0]
    except np.linalg.LinAlgError:
        step = np.einsum("...ij,...j->...i", np.linalg.pinv(matrix), side)
    return np.asarray(np.nan_to_num(step[..., :dim]))


def _judged(
    surface: Surface,
    points: Array,
    held: Array,
    curved: Array,
    mu: Array,
    left: Array,
    hessian: Array,
) -> Found:
    """Second order, multipliers, and how far the exact critical point may be."""
    zone, dim = surface.field.zone, points.shape[-1]
    free = ~held
    inside = np.where(held, 0, points)
    size = np.maximum(length(inside), 1e-300)
    normal = np.where(curved[..., None], inside / size[..., None], 0)
    project = np.eye(dim) * free[..., None] - np.einsum(
        "...i,...j->...ij", normal, normal
    )
    inner = (project @ hessian @ project).astype(float)
    big = np.abs(inner).sum((-1, -2)) + np.abs(mu).astype(float) + 1e-290
    outside = 2 * big[..., None, None] * (np.eye(dim) - project.astype(float))
    matrix = np.nan_to_num((inner - outside) / big[..., None, None])
    values = np.linalg.eigvalsh(0.5 * (matrix + np.swapaxes(matrix, -1, -2)))
    tangent = free.sum(-1) - curved
    top = np.where(tangent > 0, values[..., -1] * big, -np.inf)
    alpha = np.asarray(mu - top)
    gradient = surface.look(points)[1]
    _, doubt = surface.doubt(points)
    doubt = length(doubt) + 64 * ULP * np.abs(mu) * size
    residual = length(left) + doubt
    noise = 1e-13 * big + 64 * ULP * formed(surface, points)
    firm = np.abs(alpha) > 16 * noise
    error = np.where(firm, 4 * residual / np.abs(alpha), np.inf)
    error = np.where(tangent > 0, error, 0) + 4 * ULP * length(points)
    slack = (gradient - mu[..., None] * points) * np.where(
        zone.upper[:, None] - points <= points - zone.lower[:, None], 1, -1
    )
    fixed = zone.lower == zone.upper
    slack = np.where(held & ~fixed[:, None], slack, np.inf).min(-1)
    push = np.where(curved & (not zone.sphere), mu * size, np.inf)
    press = np.minimum(slack, push)
    scale = length(gradient) + doubt
    # The Hessian's change within the error must not matter either.
    sure = zone.inside(points) & (error <= 1e-6 * zone.width[:, None])
    strict = press > 1e-9 * scale + 4 * doubt
    maximum = sure & strict & (alpha > 16 * noise)
    saddle = sure & (tangent > 0) & (press > 0) & (alpha < -16 * noise)
    return Found(points, error, alpha, mu, press, maximum, saddle)


def formed(surface: Surface, points: Array) -> Array:
    """Σ |a_jσ''(h_j)|‖w_j‖²: what the Hessian was summed up from."""
    bend = np.abs(surface.look(points)[2]).astype(float)
    return np.asarray(bend @ (surface.field.hidden**2).sum(1))
