"""Curvature over a part of the region: of a batch, or tangent at a point (§5)."""

import torch
from torch import Tensor

from summiteer.networks.activations.base import UNIT_ROUNDOFF
from summiteer.optimality.definite import Weighted
from summiteer.optimality.rounding import Enclosure, gamma, up
from summiteer.optimality.surface import Place, Surface

#: Pieces on which the quotient of the tangent majorant is bounded.
_PIECES = 64
#: Points at which it is guessed whether it is worth bounding.
_GUESSES = 9
#: Numbers held at once while they are: 1 MiB, which stays in the cache.
_NUMBERS = 2**17


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
    # Not by a product of matrices, in which equal rows may be rounded differently.
    key = (weights * probe).sum(1)
    group: Tensor = torch.unique(key, return_inverse=True)[1]
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
    sigma, low, high = surface.activation, interval.lower, interval.upper
    hull = _joined(low, high, inner)
    ceiling, third = surface.upward(hull), surface.wiggle(hull)
    share = torch.linspace(0, 1, _PIECES + 1, dtype=torch.float64)[:, None, None]
    ends = low + (high - low) * share
    ends[0], ends[-1] = low, high  # exactly: nothing of I_j may be left out
    # q at the exact floats `ends` and the middle of h_p's enclosure, with its rounding.
    middle = inner.middle
    here, slope = sigma.value(middle), sigma.first(middle)
    away, there = ends - middle, sigma.value(ends)
    line = slope * away
    size = there.abs() + here.abs() + 3 * line.abs()
    lost = sigma.value_error(ends) + sigma.value_error(middle)
    lost = lost + away.abs() * sigma.first_error(middle) + 8 * UNIT_ROUNDOFF * size
    rise, square = there - here - line, away * away
    # 2a·N/t² with a and N enclosed: the largest of the products' ends.
    a = surface.output
    top = torch.maximum(rise + lost, torch.zeros_like(rise))
    least = torch.minimum(rise - lost, torch.zeros_like(rise))
    signed = torch.where(a.middle >= 0, rise + lost, rise - lost) * a.middle
    wide = torch.maximum(top, -least) * a.radius + 8 * UNIT_ROUNDOFF * signed.abs()
    quotient = 2 * (signed + wide)
    # t² is rounded: divided by what makes the quotient larger.
    edge = torch.where(quotient > 0, 1 - 8 * UNIT_ROUNDOFF, 1 + 8 * UNIT_ROUNDOFF)
    quotient = up(quotient / (square * edge), 2)
    length = (high - low) / _PIECES
    # Half a piece, its rounding, and the doubt about h_p (∂q/∂h_p ≤ 2|a|c3/3).
    slack = up(third * (0.51 * length + 4 * inner.radius) / 3, 6)
    bound = up(torch.maximum(quotient[:-1], quotient[1:]) + slack, 3)
    near = up(away.abs(), 2)
    close = torch.minimum(near[:-1], near[1:]) <= up(1.01 * length + 8 * inner.radius)
    # What is close lies, h_p included, within two lengths of h_p.
    local = surface.upward(inner.widened(up(2.2 * length + 10 * inner.radius, 3)))
    bound = torch.where(close, local, bound.nan_to_num(torch.inf, torch.inf))
    return torch.minimum(bound.amax(0), ceiling)


def tangent_guess(place: Place, interval: Enclosure) -> Tensor:
    """Roughly κ, hardly above it: in floats, at a few points of I_j `[rows, m]`.

    Args:
        place: p.
        interval: I_j `[rows, m]`.
    """
    surface = place.surface
    sigma, a, middle = surface.activation, surface.output.middle, place.inner.middle
    here, slope = sigma.value(middle), sigma.first(middle)
    largest = a * sigma.second(middle)
    low, high = interval.lower, interval.upper
    for share in torch.linspace(0, 1, _GUESSES, dtype=torch.float64):
        away = low + (high - low) * share - middle
        rise = sigma.value(middle + away) - here - slope * away
        quotient = 2 * a * rise / (away * away)
        # 0/0 at h_p itself, where σ'' counts.
        clear = away.abs() > 1e-4 * (high - low)  # far above rounding of the quotient
        largest = torch.where(clear, torch.maximum(largest, quotient), largest)
    # In the tails the quotients are rounding.
    return torch.minimum(largest, surface.upward(_joined(low, high, place.inner)))


def _joined(low: Tensor, high: Tensor, inner: Enclosure) -> Enclosure:
    """The hull of [low, high] and h_p."""
    return Enclosure.between(
        torch.minimum(low, inner.lower), torch.maximum(high, inner.upper)
    )
