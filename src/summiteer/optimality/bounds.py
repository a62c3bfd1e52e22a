"""Constants of a surface on its region, proved: L, Λ, λ⁺(M) and g_min (§5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality.definite import Weighted
from summiteer.optimality.majorant import groups, shared_top
from summiteer.optimality.rounding import Enclosure, down, up
from summiteer.optimality.surface import Place, Surface, gradient_floor, lipschitz, unit


@dataclass(frozen=True, eq=False)
class Bounds:
    """Constants of each row on the whole region `[rows]`.

    Attributes:
        lipschitz: L, rounded up.
        majorant: λ⁺(M), rounded up.
        floor: g_min, rounded down.
        regular: whether ‖g0‖ > 2Lε: Prop. 5 holds before any ascent. It implies
            μ + g_min/ε ≥ 2(‖g0‖ - Lε)/ε > 2L ≥ 2λ⁺(M), so that Props. 3 and 4 find
            all that it promises: one maximiser, global, the only KKT point.
        bend: σ'' of every neuron there `[rows, m]`.
        sloped: σ' of every neuron there `[rows, m]`.
        centre: F at the inputs themselves.
    """

    lipschitz: Tensor
    majorant: Tensor
    floor: Tensor
    regular: Tensor
    bend: Enclosure
    sloped: Enclosure
    centre: Place


def bounds_of(surface: Surface, radius: Tensor) -> Bounds:
    """The constants; factorisations are shared by the batch.

    Args:
        surface: F of each row.
        radius: of a ball about the inputs that holds all points of interest `[rows]`.
    """
    interval = surface.within(radius)
    bend, sloped = surface.bent_range(interval), surface.sloped_range(interval)
    weighted = surface.weighted
    steep = (surface.output * bend).magnitude
    one = torch.zeros(len(steep), dtype=torch.int64)
    shared = shared_top(weighted, steep, one)
    gradient = torch.minimum(_crude(weighted, steep), shared)
    centre = surface.at(torch.zeros(len(radius), surface.hidden.shape[1]).double())
    steepness, growth = centre.gradient.norm().lower, up(gradient * radius)
    floor = down(steepness - growth)
    least = gradient_floor(centre, sloped, unit(centre.gradient.middle))
    return Bounds(
        lipschitz=gradient,
        majorant=majorant_of(surface, bend),
        floor=torch.maximum(floor, least).clamp(min=0),
        regular=steepness > up(2 * growth),
        bend=bend,
        sloped=sloped,
        centre=centre,
    )


def wiggle_of(surface: Surface, interval: Enclosure) -> Tensor:
    """Λ where the pre-activations lie in `interval` `[rows, m]`, rounded up `[rows]`.

    No factorisation of its own, and nothing that rows would share.
    """
    weighted = surface.weighted
    return _crude(weighted, up(surface.wiggle(interval) * weighted.lengths))


def majorant_of(surface: Surface, bend: Enclosure) -> Tensor:
    """λ⁺(M), rounded up `[rows]`.

    Args:
        surface: F of each row.
        bend: σ'' where it has to hold (`Surface.bent_range`).
    """
    upward = (surface.output * bend).upper
    return shared_top(surface.weighted, upward, groups(surface)).clamp(min=0)


def constants_around(place: Place, reach: Tensor) -> tuple[Tensor, Tensor]:
    """L and Λ within `reach` of the points, rounded up `[rows]` both.

    No factorisation of their own: the smaller of Σ|D_j|‖w_j‖² and max|D_j|·‖W‖₂².

    Args:
        place: the points.
        reach: `[rows]`.
    """
    surface, interval = place.surface, place.around(reach)
    gradient = _crude(surface.weighted, surface.steep(interval))
    return gradient, wiggle_of(surface, interval)


def _crude(weighted: Weighted, heavy: Tensor) -> Tensor:
    """The bounds of λ_max(Wᵀ diag(|D|) W) that need no factorisation of their own."""
    return torch.minimum(
        lipschitz(weighted, heavy), up(heavy.amax(1) * weighted.spectral)
    )
