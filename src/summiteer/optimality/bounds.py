"""Constants of a surface on its region, proved: L, Λ, λ⁺(M) and g_min (§5)."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality.majorant import groups, shared_top, verified_top
from summiteer.optimality.rounding import down, up
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface, gradient_floor, lipschitz, unit


@dataclass(frozen=True, eq=False)
class Bounds:
    """Constants of each row on the whole region `[rows]`.

    Attributes:
        lipschitz: L, rounded up.
        wiggle: Λ, rounded up.
        majorant: λ⁺(M), rounded up.
        floor: g_min, rounded down.
    """

    lipschitz: Tensor
    wiggle: Tensor
    majorant: Tensor
    floor: Tensor


def bounds_of(surface: Surface, limits: Limits) -> Bounds:
    """The constants; factorisations are shared by the batch.

    Args:
        surface: F of each row.
        limits: of the region.
    """
    interval = surface.within(limits.reach)
    weighted = surface.weighted
    wiggle = up(surface.wiggle(interval) * weighted.lengths)
    steep = surface.steep(interval)
    spectral = verified_top(weighted, torch.ones_like(steep[:1]))[0]
    one = torch.zeros(len(steep), dtype=torch.int64)
    constants = []
    for heavy in (steep, wiggle):
        crude = torch.minimum(lipschitz(weighted, heavy), up(heavy.amax(1) * spectral))
        constants.append(torch.minimum(crude, shared_top(weighted, heavy, one)))
    upward = surface.upward(interval)
    majorant = shared_top(weighted, upward, groups(surface)).clamp(min=0)
    centre = surface.at(torch.zeros_like(limits.lower))
    floor = down(centre.gradient.norm().lower - up(constants[0] * limits.reach))
    sloped = gradient_floor(centre, interval, unit(centre.gradient.middle))
    floor = torch.maximum(floor, sloped).clamp(min=0)
    return Bounds(constants[0], constants[1], majorant, floor)
