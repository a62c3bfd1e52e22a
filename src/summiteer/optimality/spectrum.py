"""Where eigenvalues of Wᵀ diag(D) W lie, by Lanczos: to try factors, never to prove."""

import torch
from torch import Tensor

from summiteer.optimality.curvature import Curvature, lanczos_curvature
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.surface import Surface
from summiteer.regions import Face

#: Lanczos steps for κ, which is reported, and for where a factor is tried.
_CURVATURE, _GUESS = 32, 16


def estimate(
    surface: Surface, weights: Tensor, first: FirstOrder, tangent: bool
) -> Curvature:
    """Lanczos on Wᵀ diag(D) W, on the tangent space or the whole space: an estimate."""
    standing = first.stand
    like = standing.points
    normal = standing.normal.middle if tangent else torch.zeros_like(like)
    free = standing.free if tangent else torch.ones_like(standing.free)
    nothing = first.multiplier
    face = Face(free, normal, nothing, nothing)
    products = _CURVATURE if tangent else _GUESS
    return lanczos_curvature(lambda v: surface.bent(weights, v), face, like, products)
