"""Quick bounds of F and of its rivals over the region: Prop. 8 with λ⁺(M) for M.

No factorisation but those that a batch shares. About a point p of the sphere
F(δ) ≤ F(p) + γD - ½(μ - λ⁺)D² with D ≤ 2ε (maximum.py), about the centre
F(δ) ≤ F(0) + ‖g0‖ε + ½λ⁺ε².
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality.bounds import Bounds, majorant_of
from summiteer.optimality.ceiling import surface_bound
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.no_maximum import on_sphere
from summiteer.optimality.rounding import up
from summiteer.optimality.scalar_form import ScalarForm
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Place, Surface
from summiteer.regions import Region

#: Steps of the map T(δ) = εg/‖g‖ towards the maximum of a rival.
_STEPS = 6


def about_centre(centre: Place, radius: Tensor, majorant: Tensor) -> Tensor:
    """≥ F on ‖δ‖ ≤ radius, about 0 `[rows]`.

    Args:
        centre: F at 0.
        radius: `[rows]`.
        majorant: λ⁺(M) there.
    """
    rise = up(centre.gradient.norm().upper * radius)
    bent = up(majorant * radius * radius / 2, 3)
    return up(up(centre.value.upper + rise) + bent)


def about_point(first: FirstOrder, majorant: Tensor, widest: Tensor) -> Tensor:
    """≥ F on the region, about points of the sphere; inf where they are not on it.

    Args:
        first: at p.
        majorant: λ⁺(M) on the region.
        widest: ≥ its diameter.
    """
    gamma, margin = first.leftover, first.multiplier - majorant
    # With a margin the parabola γD - ½ωD² never exceeds γ²/(2ω), without one it is
    # largest at the far end.
    peak = up(gamma * (gamma / (margin * (1 - 2.0**-40))), 3)
    far = up(up(gamma * widest) + up(up(-margin).clamp(min=0) * widest * widest / 2, 3))
    rise = torch.where(margin > 2.0**-40 * majorant, torch.fmin(peak, far), far)
    top = up(first.place.value.upper + rise)
    sound = first.stand.curved & (first.multiplier >= 0) & (first.stand.room >= 0)
    return torch.where(sound, top, torch.inf)


@dataclass(frozen=True, eq=False)
class Rivals:
    """What F has to fear from F_1, …, F_n, all `[rows]`.

    Attributes:
        top: ≥ all F_i on the region; -inf if there are none.
        below: whether none reaches F(p): proved.
        above: whether one does, as far as floats can tell.
    """

    top: Tensor
    below: Tensor
    above: Tensor


def quick_look(
    form: ScalarForm,
    limits: Limits,
    region: Region,
    bounds: Bounds,
    first: FirstOrder,
) -> Rivals:
    """Bound the rivals of F without factorisations of their own.

    Args:
        form: F and its rivals.
        limits: of the region.
        region: the same region, for its support points.
        bounds: of F; all surfaces of one input share σ''.
        first: at p.
    """
    value = first.place.value
    top = torch.full_like(value.middle, -torch.inf)
    above = torch.zeros_like(first.stand.curved)
    for rival in form.rivals:
        majorant = majorant_of(rival, bounds.bend)
        bound = about_centre(bounds.centre.on(rival), limits.reach, majorant)
        index = (~(bound < value.lower)).nonzero().flatten()
        if len(index):
            some, part = rival.take(index), limits.take(index)
            points = _climbed(some, region.take(index))
            above[index] |= some.at(points).value.middle >= value.middle[index]
            if limits.round and not limits.boxed:
                there = on_sphere(some, part, points)
                again = about_point(there, majorant[index], up(2 * part.reach))
                bound[index] = torch.fmin(bound[index], again)
        top = torch.maximum(top, bound)
    return Rivals(top, top < value.lower, above)


def _climbed(surface: Surface, region: Region) -> Tensor:
    """Points of the region where F is high, in floats `[rows, d]`."""
    points = torch.zeros(len(surface), surface.hidden.shape[1]).double()
    for _ in range(_STEPS):
        points = region.linear_maximiser(surface.slope(points)[0])
    return points


def close_look(form: ScalarForm, limits: Limits, goal: Tensor) -> Tensor:
    """Whether no rival reaches `goal` on the region, by Prop. 8 at its best `[rows]`.

    Args:
        form: F and its rivals.
        limits: of the region.
        goal: `[rows]`.
    """
    below = torch.ones_like(goal, dtype=torch.bool)
    for rival in form.rivals:
        index = below.nonzero().flatten()
        if not len(index):
            break
        some = rival.take(index), limits.take(index)
        below[index] = surface_bound(*some, threshold=goal[index]) < goal[index]
    return below
