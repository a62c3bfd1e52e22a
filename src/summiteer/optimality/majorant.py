"""Curvature over a part of the region: shared by a batch, and tangent at a point (§5)."""

import torch
from torch import Tensor

from summiteer.networks.activations.base import UNIT_ROUNDOFF
from summiteer.optimality.definite import Weighted
from summiteer.optimality.rounding import Enclosure, gamma, up
from summiteer.optimality.surface import Place, Surface

#: Pieces on which the quotient of the tangent majorant is bounded.
_PIECES = 64
#: Numbers held at once while they are.
_NUMBERS = 2**24


def shared_top(weighted: Weighted, weights: Tensor, group: Tensor) -> Tensor:
    """Upper bounds of λ_max(Wᵀ diag(D_i) W), one factorisation per group of rows.

    D_i ≤ the largest D of the group, entry by entry.

    Args:
        weighted: W.
        weights: D `[rows, m]`.
        group: `[rows]` numbers from 0.
    """
    return weighted.largest(grouped(weights, group))[group]


def diagonal_majorant(surface: Surface, interval: Enclosure) -> Tensor:
    """D `[rows, d]` with diag(D_i) ≽ M_i: row sums Σ_k |M_ik| of a shared majorant.

    Shared by the rows of equal output weights: their largest c⁺ makes one M ≽ all M_i.

    Args:
        surface: F of each row.
        interval: I_j `[rows, m]`.
    """
    upward, group = surface.upward(interval), groups(surface)
    hidden = surface.hidden
    shared = grouped(upward, group)
    error = gamma(len(hidden.T) + len(hidden) + 4)
    tops = []
    for heavy in shared:
        matrix = (heavy[:, None] * hidden).T @ hidden
        reach = (heavy.abs() * hidden.abs().sum(1)) @ hidden.abs()
        tops.append(up(matrix.abs().sum(1) + error * reach, len(hidden.T) + 8))
    return torch.stack(tops)[group]


def groups(surface: Surface) -> Tensor:
    """Rows of equal output weights, by a number that tells them apart `[rows]`."""
    weights = surface.output.middle
    probe = torch.cos(torch.arange(weights.shape[1], dtype=torch.float64))
    _, group = torch.unique(weights @ probe, return_inverse=True)
    return group


def grouped(weights: Tensor, group: Tensor) -> Tensor:
    """The largest D of each group of rows, entry by entry `[groups, m]`."""
    count = int(group.max()) + 1 if len(group) else 0
    largest = weights.new_full((count, weights.shape[1]), -torch.inf)
    index = group[:, None].expand_as(weights)
    return largest.scatter_reduce(0, index, weights, "amax")


def tangent_majorant(place: Place, interval: Enclosure) -> Tensor:
    """κ_j with Wᵀ diag(κ) W = M_p: F lies below its tangent at p plus ½(·)ᵀM_p(·).

    κ_j = sup over h ∈ I_j of q(h) = 2a_j[σ(h) - σ(h_p) - σ'(h_p)(h - h_p)]/(h - h_p)².
    On a piece of I_j, q exceeds the larger of its values at the ends by at most
    |a_j|c3_j/3 times half the length; on pieces that touch h_p it is at most the
    supremum of a_jσ'' between them and h_p. Never above c⁺ (§5).

    Args:
        place: p.
        interval: I_j `[rows, m]`; h_p need not lie in it.

    Returns:
        `[rows, m]`, rounded up.
    """
    surface = place.surface
    count, width = interval.middle.shape
    step = max(1, _NUMBERS // (_PIECES * width))
    parts = []
    for index in torch.split(torch.arange(count), step):
        some = Place(surface.take(index), place.points[index], place.inner[index])
        parts.append(_tangent(some, interval[index]))
    return torch.cat(parts) if parts else interval.middle.clone()


def _tangent(place: Place, interval: Enclosure) -> Tensor:
    """`tangent_majorant` of a few rows."""
    surface, inner = place.surface, place.inner
    sigma, a = surface.activation, surface.output
    low, high = interval.lower, interval.upper
    ceiling = surface.upward(_joined(low, high, inner))
    share = torch.linspace(0, 1, _PIECES + 1, dtype=torch.float64)[:, None, None]
    ends = low + (high - low) * share
    ends[0], ends[-1] = low, high  # exactly: nothing of I_j may be left out
    # q at exact floats `ends`, h_p an enclosure: numerator and square enclosed.
    here, slope = sigma.value(inner.middle), sigma.first(inner.middle)
    base = Enclosure(here, up(sigma.value_error(inner.middle)))
    tilt = Enclosure(slope, up(sigma.first_error(inner.middle)))
    # h_p is anywhere within its radius: at its middle q differs by the Lipschitz bound.
    exact = Enclosure.exact(ends) - inner.middle
    rise = Enclosure(sigma.value(ends), up(sigma.value_error(ends))) - base
    rise = rise - tilt * exact
    square = exact * exact
    twice = Enclosure(2 * rise.middle, 2 * rise.radius) * a
    quotient = up(twice.upper.clamp(min=0) / square.lower) - torch.where(
        twice.upper < 0, -twice.upper / square.upper * (1 - 8 * UNIT_ROUNDOFF), 0.0
    )
    third = surface.wiggle(_joined(low, high, inner))
    length = (high - low) / _PIECES
    # Half a piece, its rounding, and the doubt about h_p (∂q/∂h_p ≤ 2|a|c3/3).
    slack = up(third * (0.51 * length + 4 * inner.radius) / 3, 6)
    bound = up(torch.maximum(quotient[:-1], quotient[1:]) + slack, 3)
    near = up((Enclosure.exact(ends) - inner).middle.abs() + 2 * inner.radius)
    close = torch.minimum(near[:-1], near[1:]) <= up(1.01 * length + 8 * inner.radius)
    # What is close lies, h_p included, within two lengths of h_p.
    local = surface.upward(inner.widened(up(2.2 * length + 10 * inner.radius, 3)))
    bound = torch.where(close, local, bound.nan_to_num(torch.inf, torch.inf))
    return torch.minimum(bound.amax(0), ceiling)


def _joined(low: Tensor, high: Tensor, inner: Enclosure) -> Enclosure:
    """The hull of [low, high] and h_p."""
    return Enclosure.between(
        torch.minimum(low, inner.lower), torch.maximum(high, inner.upper)
    )
