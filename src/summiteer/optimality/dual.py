"""Lagrangian duals of F's quadratic majorant over a patch: upper bounds (Prop. 8).

With D from `majorant.py`, F(δ) ≤ F(p) + gᵀ(δ - p) + ½(δ - p)ᵀM(δ - p) on the patch,
M = Wᵀ diag(D) W, for *any* p of R^d. Add ½λ(ε² - ‖δ‖²) ≥ 0 of the ball and
½ν_i(hi_i - v_iᵀδ)(v_iᵀδ - lo_i) ≥ 0 of the slabs (on boxes: of the coordinates). About
any z the sum is q + rᵀ(δ - z) - ½(δ - z)ᵀA(δ - z), A = λI + V diag(ν) Vᵀ - M, and so
    max F ≤ q + max over t ≤ T of (‖r‖t - ½αt²),
T ≥ ‖δ - z‖ and α ≤ λ_min(A) proved by a factorisation. This holds for every λ, ν ≥ 0
and z: they are chosen in plain floats.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.networks.two_layer import weighted_gram
from summiteer.optimality.patches import Patches, halved, peak
from summiteer.optimality.rounding import Enclosure, down, up
from summiteer.optimality.surface import Place

#: Numbers of a batch of matrices held at once, of which a solver needs a few.
_NUMBERS = 2**22
#: λ stays above the top of the spectrum by this share of its size: what a factorisation
#: can still see through rounding. It costs as much of the bound, relatively.
_ABOVE = 1e-9
#: Bisections for λ, and ternary steps for the λ of the separable bound.
_HALVINGS, _THIRDS = 60, 60


@dataclass(frozen=True, eq=False)
class Multipliers:
    """Chosen in floats; all bounds hold whatever they are.

    Attributes:
        ball: λ ≥ 0 `[rows]`; 0 where there is no ball.
        slabs: ν ≥ 0 `[rows, k]`.
        at: z `[rows, d]`, about the maximiser of the majorant.
        below: `[rows]` between λ_max(M - V diag(ν) Vᵀ) and λ.
    """

    ball: Tensor
    slabs: Tensor
    at: Tensor
    below: Tensor


def bound(
    place: Place, weights: Tensor, patches: Patches, chosen: Multipliers
) -> Tensor:
    """≥ max F over each patch `[rows]`; NaN or inf where the floats were no good.

    Args:
        place: at floats p (no slack).
        weights: D `[rows, m]`, exact.
        patches: of the same rows.
        chosen: λ, ν, z.
    """
    hidden, frame = place.surface.hidden, patches.frame
    z, gradient = chosen.at, place.gradient
    step = Enclosure.exact(z) - place.points
    moved = step @ hidden.T
    bent = Enclosure.exact(weights) * moved
    value = place.value + gradient.dot(step) + halved(moved.dot(bent))
    left = gradient + bent @ hidden
    lagrangian = weights
    if patches.limits.round:
        radius = Enclosure.exact(patches.limits.radius)
        room = radius * radius - Enclosure.exact(z).dot(z)
        value += halved(room * chosen.ball)
        left -= Enclosure.exact(z) * chosen.ball[:, None]
    if frame.size:
        along = frame.along(z)
        above, below = Enclosure.exact(patches.high) - along, along - patches.low
        value += halved((above * below).dot(chosen.slabs))
        left += frame.back(halved((above - below) * chosen.slabs))
        lagrangian = torch.cat([weights, -chosen.slabs], 1)
    top = frame.stacked.top(Enclosure.exact(lagrangian), chosen.below)
    least = down(chosen.ball - top)
    size = left.norm().upper
    far = up(patches.limits.reach + Enclosure.exact(z).norm().upper)
    hill = torch.where(least > 0, up(size * size / (2 * least), 4), torch.inf)
    away = up(size * far + up((-least).clamp(min=0) * far * far / 2, 4), 2)
    sound = (chosen.ball >= 0) & (chosen.slabs >= 0).all(1)
    total = up(value.upper + torch.minimum(hill, away))
    return torch.where(sound, total, torch.inf)


def separable_bound(place: Place, curvature: Tensor, patches: Patches) -> Tensor:
    """≥ max F over each patch from λ⁺ ≥ λ_max(M) alone: no factorisation `[rows]`.

    With t = δ - p and any λ ≥ 0, coordinate by coordinate: F(p) + ½λ(ε² - ‖p‖²) +
    Σ_i max over l_i - p_i ≤ t ≤ h_i - p_i of (g_i - λp_i)t + ½(λ⁺ - λ)t². On a ball
    with p = 0 it is F(0) + ‖g‖ε + ½λ⁺ε².

    Args:
        place: at floats p (no slack).
        curvature: λ⁺ `[rows]`.
        patches: of the same rows.
    """
    gradient, points = place.gradient, place.points
    limits = patches.limits
    low = torch.full_like(points, -torch.inf)
    high = -low
    if patches.frame.vectors is None:
        low, high = patches.low, patches.high
    value = place.value
    bend = curvature
    if limits.round:
        pull = _pull(gradient.middle, points, curvature, limits.radius, low, high)
        gradient = gradient - Enclosure.exact(points) * pull[:, None]
        radius = Enclosure.exact(limits.radius)
        room = radius * radius - Enclosure.exact(points).dot(points)
        value = value + halved(room * pull)
        bend = up(curvature - pull)
    ends = [Enclosure.exact(end) - points for end in (low, high)]
    if patches.frame.vectors is not None:
        # One summand along the gradient: ‖c‖²/(2|e|), not a sum of d rounded ones.
        gradient = Enclosure.exact(gradient.norm().upper[:, None])
        ends = [Enclosure.exact(end[:, :1]) for end in (low, high)]
    each = peak(gradient, bend[:, None], *ends)
    return (value + Enclosure.exact(each).dot(torch.ones_like(each))).upper


def _pull(
    gradient: Tensor,
    points: Tensor,
    curvature: Tensor,
    radius: Tensor,
    low: Tensor,
    high: Tensor,
) -> Tensor:
    """The λ of `separable_bound` in floats: on a pure ball λ⁺ + ‖g - λ⁺p‖/ε."""
    turned = gradient - curvature[:, None] * points
    most: Tensor = curvature + turned.norm(dim=1) / radius
    if not bool(low.isfinite().any()):
        # The bend λ⁺ - λ must come out negative, even where g = λ⁺p.
        most = most.clamp(min=0) + 1e-12 * (curvature.abs() + most.abs())
        return most + 1e-290
    low, high = low - points, high - points
    outside = radius.square() - points.square().sum(1)

    def height(pull: Tensor) -> Tensor:
        slope = gradient - pull[:, None] * points
        bend = (curvature - pull)[:, None]
        peaks = torch.where(bend < 0, (slope / -bend).clamp(low, high), low)
        best = [slope * t + 0.5 * bend * t * t for t in (low, high, peaks)]
        return torch.stack(best).amax(0).sum(1) + 0.5 * pull * outside

    left, right = torch.zeros_like(most), most.clamp(min=0)
    for _ in range(_THIRDS):
        first, second = left + (right - left) / 3, right - (right - left) / 3
        lower = height(first) <= height(second)
        left, right = torch.where(lower, left, first), torch.where(lower, second, right)
    best: Tensor = 0.5 * (left + right)
    return best


def trust_region(place: Place, weights: Tensor, patches: Patches) -> Multipliers:
    """The best λ of a whole ball from the spectrum of M, in the row space of W."""
    step = max(1, _NUMBERS // place.surface.weighted.coordinates.shape[1] ** 2)
    parts = [
        _trust_region(place.take(index), weights[index], patches.take(index))
        for index in torch.split(torch.arange(len(weights)), step)
    ]
    return joined(parts)


def _trust_region(place: Place, weights: Tensor, patches: Patches) -> Multipliers:
    surface, points = place.surface, place.points
    weighted, radius = surface.weighted, patches.limits.radius
    matrix = weighted_gram(weighted.coordinates, weights)
    # Numbers that overflow would stop the solver for all rows.
    spectrum, vectors = torch.linalg.eigh(matrix.nan_to_num(0.0, 0.0, 0.0))
    pull = place.gradient.middle - surface.bent(weights, points)
    if weighted.basis is not None:
        pull = pull @ weighted.basis
    along = torch.einsum("rij,ri->rj", vectors, pull)
    size = along.norm(dim=1) / radius
    top = spectrum[:, -1]
    if weighted.reduced:
        top = top.clamp(min=0)
    above = _ABOVE * (spectrum.abs().amax(1) + size)
    low = (top + above).clamp(min=0)
    high = torch.maximum(top + size, low)
    lowest = low
    for _ in range(_HALVINGS):
        middle = 0.5 * (low + high)
        long = (along / (middle[:, None] - spectrum)).norm(dim=1) > radius
        low, high = torch.where(long, middle, low), torch.where(long, high, middle)
    inside = (along / (lowest[:, None] - spectrum)).norm(dim=1) <= radius
    ball = torch.where(inside, lowest, high)
    at = torch.einsum("rij,rj->ri", vectors, along / (ball[:, None] - spectrum))
    if weighted.basis is not None:
        at = at @ weighted.basis.T
    slabs = points.new_zeros(len(points), 0)
    return Multipliers(ball, slabs, at, top + 0.5 * (ball - top))


def joined(parts: list[Multipliers]) -> Multipliers:
    """The rows of all parts, one after the other."""
    return Multipliers(
        torch.cat([part.ball for part in parts]),
        torch.cat([part.slabs for part in parts]),
        torch.cat([part.at for part in parts]),
        torch.cat([part.below for part in parts]),
    )
