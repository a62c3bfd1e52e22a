"""Negative certificates of smooth two-layer networks: Prop. 7, at the given points.

They speak of every point of C within a Euclidean distance ρ of the given one, which
need not lie on the sphere: the nearest sphere point q is at most η away, and the part
of the sphere within ρ of the point lies within geodesic distance 2ε arcsin((ρ + η)/2ε)
of q. No critical point there is a statement about ±F alike, so that it needs no sign of
u (a maximum of ½u² with u = 0 would make ℓ constant, and its points critical).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.rounding import Enclosure, down, up
from summiteer.optimality.stand import Limits, Stand, stand
from summiteer.optimality.surface import Surface


@dataclass(frozen=True, eq=False)
class Refuted:
    """That no local maximiser lies within the search distance, `[rows]` each.

    Attributes:
        proved: bool.
        gain: ≤ what F can be raised within the distance; NaN where not proved.
        direction: `[rows, d]` the way to it, a unit vector (±v for saddles).
        low: ≤ F where that way starts: the given point, or the point of the region
            or of the sphere next to it.
    """

    proved: Tensor
    gain: Tensor
    direction: Tensor
    low: Tensor


def geodesic(chord: Tensor, radius: Tensor) -> Tensor:
    """≥ 2e arcsin(c/2e), the arc over a chord; NaN beyond c = e.

    arcsin x ≤ x + x³/4 for 0 ≤ x ≤ ½: the series' coefficients 1/6, 3/40, 15/336, … sum
    with x² ≤ ¼ to below ¼.
    """
    x = up(chord / radius / 2, 2)
    arc = up(2 * up(radius * up(x + up(x * x * x / 4, 3)), 2))
    return torch.where(x <= 0.5, arc, torch.nan)


def on_sphere(surface: Surface, limits: Limits, points: Tensor) -> FirstOrder:
    """First order at the sphere points nearest to `points` (whole balls only)."""
    free = torch.ones_like(points, dtype=torch.bool)
    norms = points.norm(dim=1)
    near = points * (limits.radius / norms.clamp(min=1e-300))[:, None]
    stood = stand(limits, near, free, torch.ones_like(norms, dtype=torch.bool))
    return FirstOrder(surface.at(near, stood.slack), stood)


def not_stationary(
    surface: Surface,
    limits: Limits,
    points: Tensor,
    distance: Tensor,
    lipschitz: Tensor,
    lead: Tensor,
    mirrored: bool,
) -> Refuted:
    """Prop. 7: first order leaves no KKT point within `distance`.

    On whole balls: γ > ρL_S (no critical point of F|_S), or μ < 0 throughout where F
    leads; and ‖g‖ > Lρ (no interior one), each where that part of C is near. On boxes:
    some g_i ≠ 0 throughout whose limit is further away.

    Args:
        surface: F of each row.
        limits: of the region.
        points: given, `[rows, d]`.
        distance: ρ `[rows]`.
        lipschitz: L on the region.
        lead: how far from the points F is the largest of all (`ScalarForm.lead`).
        mirrored: whether the only rival is -F, whose critical points are the same.
    """
    leads = lead > up(distance)
    place = surface.at(points)
    if not limits.round:
        return _box(surface, limits, points, distance, lipschitz, lead)
    if limits.boxed:
        none = torch.zeros(len(points), dtype=torch.bool)
        nothing = torch.full_like(distance, torch.nan)
        return Refuted(none, nothing, points * 0, nothing)
    steep = place.gradient.norm()
    interior = steep.lower > up(lipschitz * distance)
    sphere = on_sphere(surface, limits, points)
    gap = (Enclosure.exact(points) - sphere.stand.points).norm().upper
    reach = geodesic(up(up(distance + gap) + sphere.stand.slack), limits.radius)
    spread = up(up(sphere.steepness.upper + up(lipschitz * reach)) / limits.radius)
    bend = up(lipschitz + spread)
    slope = sphere.tangential_low
    tangent = slope > up(reach * bend)
    # gᵀn < 0 on all of the cap: what is on the sphere can be left inwards.
    outward = up(sphere.outward.upper / limits.radius)
    inward = (-outward > up(reach * bend)) & leads
    size = Enclosure.exact(points).norm()
    away = down(limits.radius - size.upper) > distance
    proved = torch.where(away, interior, interior & (tangent | inward))
    if limits.sphere:
        proved = tangent
    if not mirrored:
        proved = proved & leads
    # Along the geodesic F rises by γt - ½L_S t², best at t = min(ρ, γ/L_S); from inside
    # along g by ‖g‖t - ½Lt².
    slope = slope.clamp(min=0)
    step = torch.minimum(down(distance, 8), down(slope / bend))
    gain = down(down(slope * step) - up(bend * step * step / 2, 3))
    # What F gains there is the objective's gain only if F leads where the way starts.
    gain = torch.where(lead > up(gap + sphere.stand.slack), gain, torch.nan)
    straight = torch.minimum(down(distance, 8), down(steep.lower / lipschitz))
    risen = down(
        down(steep.lower * straight) - up(lipschitz * straight * straight / 2, 3)
    )
    inner = away & (not limits.sphere)
    gain = torch.where(inner, risen, gain)
    low = torch.where(inner, place.value.lower, sphere.place.value.lower)
    on = sphere.tangent_direction
    inside = place.gradient.middle
    way = torch.where(inner[:, None], inside, on)
    way = way / way.norm(dim=1, keepdim=True).clamp(min=1e-300)
    gain = torch.where(proved & (gain > 0), gain, torch.nan)
    return Refuted(proved, gain, way, low)


def _box(
    surface: Surface,
    limits: Limits,
    points: Tensor,
    distance: Tensor,
    lipschitz: Tensor,
    lead: Tensor,
) -> Refuted:
    """A coordinate whose gradient keeps its sign and whose limit is not near.

    Seen from the point of the box next to the given one, which no point of the box is
    further away from.
    """
    nearest = torch.minimum(torch.maximum(points, limits.lower), limits.upper)
    gap = (Enclosure.exact(nearest) - points).norm().upper
    place = surface.at(nearest)
    gradient = place.gradient
    size = down(gradient.middle.abs() - gradient.radius)
    rest = torch.where(
        gradient.middle > 0,
        down(limits.upper - place.points),
        down(place.points - limits.lower),
    )
    lost = up(lipschitz * distance)[:, None]
    open_ways = (size > lost) & (rest > distance[:, None])
    proved = open_ways.any(1) & (lead > up(distance + gap))
    best = torch.where(open_ways, size, 0.0).argmax(1, keepdim=True)
    slope = size.gather(1, best)[:, 0]
    step = torch.minimum(down(distance, 8), down(slope / lipschitz))
    gain = down(down(slope * step) - up(lipschitz * step * step / 2, 3))
    way = torch.zeros_like(place.points)
    way = way.scatter(1, best, gradient.middle.gather(1, best).sign())
    gain = torch.where(proved & (gain > 0), gain, torch.nan)
    return Refuted(proved, gain, way, place.value.lower)


def saddle(
    first: FirstOrder,
    vectors: Tensor,
    distance: Tensor,
    lipschitz: Tensor,
    wiggle: Tensor,
    lead: Tensor,
    search: Tensor,
) -> Refuted:
    """Prop. 7: second order leaves no local maximiser within `distance` of the points.

    β = vᵀHv - 2sinθ‖Hv‖ - sin²θ‖H‖ - Λρ - max(μ_up, 0) > 0 for a unit tangent v; then F
    rises by at least βt²/2 along one of ±v, t ≤ ρ. Interior points and boxes: vᵀHv > Λρ
    with v in coordinates whose limits are further than ρ.

    Args:
        first: at stands (points of a sphere, or free coordinates).
        vectors: `[rows, d]` where the curvature is large.
        distance: ρ from the points of the stand, geodesic on the sphere `[rows]`.
        lipschitz: L on the region.
        wiggle: Λ on the region.
        lead: how far F is the largest of all.
        search: the search distance, which the gain stays within `[rows]`.
    """
    standing = first.stand
    e, curved = standing.radius.lower, standing.curved
    v = _tangent_unit(standing.normal, vectors * standing.free)
    bent = first.place.bent(v)
    value = bent.dot(v)
    theta = torch.where(curved, up(distance / e), 0.0)
    slack = up(2 * theta * bent.norm().upper, 2)
    slack = up(slack + up(theta * theta * lipschitz, 2) + up(wiggle * distance), 3)
    pull = first.outward.magnitude / e
    rising = up(lipschitz * distance + up(wiggle * distance * distance / 2, 3), 2)
    rising = up(
        rising + up(theta * theta * pull / 2, 4) + up(first.tangential * theta, 2), 3
    )
    multiplier = up(up(first.outward.upper + up(e * rising)) / e / e, 3)
    multiplier = torch.where(curved, multiplier.clamp(min=0), 0.0)
    beta = down(down(value.lower - slack) - multiplier)
    open_ways = torch.where(curved, torch.inf, standing.room)
    proved = (beta > 0) & (lead > distance) & (open_ways > distance)
    step = torch.minimum(distance, down(search, 8))
    gain = down(beta * step * step / 2, 4)
    gain = torch.where(proved, gain, torch.nan)
    return Refuted(proved, gain, v.middle, first.place.value.lower)


def searched(
    surface: Surface, limits: Limits, points: Tensor, distance: Tensor
) -> tuple[FirstOrder, Tensor] | None:
    """First order where `saddle` looks, and how far it has to look from there.

    Points within ρ of the sphere are looked at on the sphere; others, and boxes, as
    they are (given points outside from the nearest one inside), in the coordinates
    whose limits are further away than ρ. Interior maxima next to the sphere are
    excluded by the same v, since β > 0 implies vᵀHv > Λρ.

    Args:
        surface: F of each row.
        limits: of the region.
        points: given.
        distance: ρ.

    Returns:
        (first order, distance); None for a ball ∩ box, where nothing is known.
    """
    if limits.round and limits.boxed:
        return None
    if limits.boxed:
        nearest = torch.minimum(torch.maximum(points, limits.lower), limits.upper)
        gap = (Enclosure.exact(nearest) - points).norm().upper
        points, distance = nearest, up(distance + gap)
    ones = torch.ones_like(distance)
    aside = torch.minimum(down(limits.upper - points), down(points - limits.lower))
    room = torch.full_like(distance, torch.inf)
    flat = Stand(
        points,
        torch.zeros_like(distance),
        aside > distance[:, None],
        torch.zeros_like(points),
        torch.zeros_like(distance, dtype=torch.bool),
        Enclosure.exact(ones),
        room,
    )
    inside = FirstOrder(surface.at(points), flat)
    if not limits.round:
        return inside, distance
    sphere = on_sphere(surface, limits, points)
    gap = (Enclosure.exact(points) - sphere.stand.points).norm().upper
    arc = geodesic(up(up(distance + gap) + sphere.stand.slack), limits.radius)
    size = Enclosure.exact(points).norm().upper
    away = (down(limits.radius - size) > distance) & (not limits.sphere)
    chosen = sphere.stand.replaced(away, flat)
    return FirstOrder(surface.at(chosen.points, chosen.slack), chosen), torch.where(
        away, distance, arc
    )


def _tangent_unit(normal: Enclosure, vectors: Tensor) -> Enclosure:
    """A real unit vector orthogonal to n next to each float one."""
    for _ in range(2):
        along = (vectors * normal.middle).sum(1, keepdim=True)
        vectors = vectors - along * normal.middle
        vectors = vectors / vectors.norm(dim=1, keepdim=True).clamp(min=1e-300)
    off = Enclosure.exact(vectors).dot(normal)
    size = Enclosure.exact(vectors).norm()
    # v - (vᵀn)n is orthogonal; scaling it to length 1 moves it by as much again.
    wrong = torch.maximum(up(size.upper - 1), up(1 - size.lower)).clamp(min=0)
    return Enclosure(
        vectors, up(2 * off.magnitude + wrong, 2)[:, None].expand_as(vectors)
    )
