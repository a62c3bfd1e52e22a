"""Positive certificates of smooth two-layer networks: Props. 3, 4 and 6.

All three speak of the real point p of a `Stand`, on the L2 ball, the sphere, boxes and
their intersection at once:

Prop. 3, sharpened to ball ∩ box. With multipliers μ ≥ 0 of the ball and λ_i ≥ 0 of held
coordinates, g = μp + Σ s_iλ_ie_i + r. For δ ∈ C, D = ‖δ - p‖: s_i(δ - p)_i ≤ 0 and
pᵀ(δ - p) ≤ -D²/2 (‖p‖ = ε), so F(δ) ≤ F(p) + ‖r‖D - ½ωD² with ω = μ - λ⁺(M). The rest
is as in mathematics.md §6. With ∇²F(δ) ≼ H + ΛD on the segment, ω = μ - λ⁺(H) - ΛR/3
serves within R.

Prop. 6 holds in the free coordinates, on the sphere of radius e = √(ε² - ‖p_held‖²).
With sin θ ≤ θ = r/e and 1 - cos θ ≤ θ²/2 its α(r) ≥ a₀ - a₁r - a₂r², which is what is
evaluated. Strict complementarity at the maximiser, s_i(g_i - μp_i) larger than its
drift on the way, makes it a strict local maximiser over C.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.rounding import down, up


@dataclass(frozen=True, eq=False)
class Reach:
    """Where a maximiser lies, all `[rows]`; NaN where nothing was proved.

    Attributes:
        distance: ≥ the distance from p to it.
        gain: ≥ F there - F(p).
        radius: the distance from p up to which the statement holds.
        margin: ω or α: what was shown to be positive.
    """

    distance: Tensor
    gain: Tensor
    radius: Tensor
    margin: Tensor


def best_within(
    first: FirstOrder, curvature: Tensor, wiggle: Tensor, radius: Tensor
) -> Reach:
    """Prop. 3: nothing within `radius` of p is better than p by more than `gain`.

    Args:
        first: at the points.
        curvature: ≥ λ_max(M) or λ_max(H) `[rows]`.
        wiggle: Λ where H is bounded only at the point, 0 for a majorant M.
        radius: R `[rows]`.
    """
    stand, gamma = first.stand, first.leftover
    bent = up(curvature + up(wiggle * radius / 3, 3))
    # On a sphere pᵀ(δ - p) = -D²/2 exactly: no sign of μ or λ is needed there.
    margin = down(first.multiplier - bent)
    distance = up(2 * gamma / margin, 2)
    gain = up(gamma * (gamma / margin) / 2, 4)
    # p must lie in C: not if its slack may carry a free coordinate out.
    sound = (margin > 0) & stand.curved & (radius > distance) & (stand.room >= 0)
    return Reach(*_where(sound, distance, gain, radius, margin))


def strict_maximum(
    first: FirstOrder,
    curvature: Tensor,
    lipschitz: Tensor,
    wiggle: Tensor,
    around: Tensor | None = None,
) -> tuple[Reach, Tensor]:
    """Prop. 6: exactly one critical point of the face, a strict local maximiser.

    Args:
        first: at the points.
        curvature: ≥ λ_max of H on the tangent space of the face; on balls and boxes
            with an active ball at least 0 (the clip of Prop. 6).
        lipschitz: L on the region.
        wiggle: Λ on the region.
        around: `[rows]`, if L and Λ hold only so far around p.

    Returns:
        (Reach of the smallest distance and the largest geodesic radius, uniqueness):
        the second is the Euclidean distance from p within which no other point of the
        region is a KKT point.
    """
    stand, gamma = first.stand, first.tangential
    curved, e = stand.curved, stand.radius.lower
    a0, a1, a2 = _slopes(first, curvature, lipschitz, wiggle)
    limit = torch.where(curved, torch.minimum(1.5 * e, stand.room), stand.room)
    furthest = torch.full_like(limit, torch.inf) if around is None else around
    limit = torch.minimum(limit, furthest)
    # The largest r with α(r) > 0 is below the root of the quadratic.
    root = 2 * a0 / (a1 + (a1 * a1 + 4 * a0 * a2).sqrt())
    wide = torch.minimum(0.9375 * root, down(limit))
    wide = torch.where(root.isnan(), limit, wide)

    def alpha(radius: Tensor) -> Tensor:
        spent = up(a1 * radius) + up(a2 * radius * radius, 3)
        return down(a0 - up(spent))

    sound = (wide > 0) & (alpha(wide) > 0) & (down(alpha(wide) * wide) > gamma)
    near = torch.minimum(wide, up(2 * gamma / a0, 2))
    near = torch.where(down(alpha(near) * near) > gamma, near, wide)
    margin = alpha(near)
    distance = up(gamma / margin, 2)
    held = held_within(first, lipschitz)
    sound = sound & (held > distance)
    gain = up(gamma * (gamma / margin) / 2, 4)
    # A geodesic ball of radius r holds the chord 2e sin(r/2e) ≥ r - r³/(24e²).
    chord = torch.where(
        curved, down(wide - up(wide * (wide / e).square() / 24, 5)), wide
    )
    inner = down(first.steepness.lower / lipschitz, 2)
    # No point off the sphere is critical as long as ∇F cannot vanish.
    unique = torch.minimum(chord, held)
    unique = torch.where(curved, torch.minimum(unique, inner), unique)
    # Next to held coordinates of a sphere the drift is known on the face only.
    loose = curved & (stand.side != 0).any(1)
    unique = torch.where(loose, torch.nan, unique)
    vertex = ~stand.free.any(1)
    zero = torch.zeros_like(gain)
    distance, gain = (torch.where(vertex, zero, x) for x in (distance, gain))
    corner = torch.minimum(held, furthest)
    unique, wide = (torch.where(vertex, corner, x) for x in (unique, wide))
    # A ball may cut the vertex off.
    sound = torch.where(vertex, (held > 0) & (stand.room >= 0), sound)
    reach = Reach(*_where(sound, distance, gain, wide, margin))
    return reach, torch.where(sound, unique, torch.nan)


def _slopes(
    first: FirstOrder, curvature: Tensor, lipschitz: Tensor, wiggle: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """(a₀, a₁, a₂) with α(r) ≥ a₀ - a₁r - a₂r² (see the head of this file)."""
    curved, e = first.stand.curved, first.stand.radius.lower
    gamma = first.tangential
    _, across, above = first.normal_bend
    # Tangent vectors elsewhere keep less of a negative λ: sin²θ less (spheres only).
    above = up(above + (-curvature).clamp(min=0))
    a0 = down(first.multiplier_low - curvature)
    a1 = torch.where(
        curved,
        up(
            up(lipschitz / e) + up(gamma / e / e, 3) + up(2 * across / e, 2) + wiggle, 4
        ),
        wiggle,
    )
    pull = up(first.outward.magnitude / e, 2)
    a2 = torch.where(
        curved,
        up(
            up(wiggle / e / 2, 3) + up(pull / e / e / e / 2, 5) + up(above / e / e, 3),
            3,
        ),
        0.0,
    )
    return a0, a1, a2


def held_within(first: FirstOrder, lipschitz: Tensor) -> Tensor:
    """≤ how far from p all held coordinates stay held: s_i(g_i - μp_i) > 0 `[rows]`.

    Each moves by at most (L + |p_i|·|dμ|)‖q - p‖; inf where nothing is held.

    Args:
        first: at the points.
        lipschitz: L on the region.
    """
    stand = first.stand
    drift = torch.where(stand.curved, first.drift(lipschitz), 0.0)
    rate = lipschitz[:, None] + drift[:, None] * stand.points.abs()
    each = torch.where(stand.side == 0, torch.inf, down(first.pressure / up(rate, 2)))
    return down(each.amin(1))


def only_point(
    first: FirstOrder,
    near: Tensor,
    majorant: Tensor,
    lipschitz: Tensor,
    floor: Tensor,
    radius: Tensor,
) -> tuple[Tensor, Tensor]:
    """Prop. 4 on a whole ball: whether the maximiser is the only KKT point of C.

    μ(p*) + g_min/ε > 2λ⁺(M) at the exact p*, μ(p*) ≥ μ(p) - D(L/ε + ‖g‖/ε²).

    Args:
        first: at the points.
        near: ≥ how far p* is (Prop. 3 or 6).
        majorant: λ⁺(M) on C, rounded up.
        lipschitz: L on C.
        floor: g_min ≤ ‖∇F‖ on C.
        radius: ε.

    Returns:
        (only, ≤ μ(p*)).
    """
    lost = up(near * first.drift(lipschitz))
    multiplier = down(first.multiplier_low - lost)
    total = down(multiplier + down(floor / radius))
    only = first.stand.curved & (total > up(2 * majorant))
    return only, torch.where(first.stand.curved, multiplier, torch.nan)


def _where(sound: Tensor, *values: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.where(sound, value, torch.nan) for value in values)


def unique_within(
    first: FirstOrder, near: Tensor, majorant: Tensor, lipschitz: Tensor
) -> Tensor:
    """Prop. 4 with drift: no other KKT point within this distance of p `[rows]`.

    A second one, p2, has (μ1 + μ2)/2 ≤ λ⁺(M) and μ2 ≥ μ1 - d·|p1 - p2|, d the drift of
    the multiplier: |p1 - p2| ≥ 2(μ1 - λ⁺)/d; interior ones are at least ‖g‖/L away.

    Args:
        first: at the points.
        near: ≥ the distance D from p to the exact maximiser p1.
        majorant: λ⁺(M) on C.
        lipschitz: L on C.
    """
    e = first.stand.radius.lower
    # At p1 the gradient is at most LD longer than at p.
    drift = up(first.drift(lipschitz) + up(lipschitz * near / e / e, 4))
    multiplier = down(first.multiplier_low - up(near * drift))
    apart = down(2 * down(multiplier - majorant) / drift, 2)
    inner = down(down(first.steepness.lower - up(lipschitz * near)) / lipschitz)
    room = down(torch.minimum(apart, inner) - near)
    return torch.where(first.stand.curved & (room > 0), room, torch.nan)


def whole_curvature(first: FirstOrder, tangent: Tensor) -> Tensor:
    """≥ λ_max(H) from that on the tangent space, nᵀHn and ‖PHn‖: a 2 x 2 matrix.

    Args:
        first: at the points, no coordinate held.
        tangent: ≥ λ_max on the tangent space.
    """
    _, across, along = first.normal_bend
    half = up(up(tangent - along).abs() / 2)
    root = up(up(half * half + across * across, 3).sqrt(), 2)
    return up(up(up(tangent + along) / 2) + root)


def best_vertex(first: FirstOrder, majorant: Tensor, widths: Tensor) -> Tensor:
    """§6: a vertex of a box is a global maximiser if |g_i| ≥ ½D_i(h_i - l_i) for all i.

    F(δ) ≤ F(p) + Σ_i [-|g_i|t_i + ½D_it_i²] with t_i = |δ_i - p_i| ≤ h_i - l_i.

    Args:
        first: at the points.
        majorant: D_i with diag(D) ≽ M, D ≥ 0, `[rows, d]`.
        widths: h_i - l_i rounded up, `[rows, d]`.

    Returns:
        `[rows]` bool.
    """
    needed = up(majorant * widths / 2, 2)
    held = (first.stand.side == 0) | (first.pressure >= needed)
    return held.all(1) & ~first.stand.free.any(1) & ~first.stand.curved
