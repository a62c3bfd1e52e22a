"""Where eigenvalues of Wᵀ diag(D) W lie, by Lanczos: to try factors, never to prove."""

from collections.abc import Callable

import torch
from torch import Tensor

from summiteer.optimality.curvature import Curvature, lanczos_curvature
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.stand import Stand
from summiteer.optimality.surface import Surface
from summiteer.regions import Face

#: Lanczos steps for κ, which is reported, and for where a factor is tried.
_CURVATURE, _GUESS = 32, 16


def estimate(
    surface: Surface, weights: Tensor, first: FirstOrder, tangent: bool
) -> Curvature:
    """Lanczos on Wᵀ diag(D) W, on the tangent space or the whole space: an estimate."""
    standing = first.stand
    if tangent:
        return _on_face(surface, weights, standing)
    like, nothing = standing.points, first.multiplier
    face = Face(
        torch.ones_like(standing.free), torch.zeros_like(like), nothing, nothing
    )
    return lanczos_curvature(lambda v: surface.bent(weights, v), face, like, _GUESS)


def _on_face(surface: Surface, weights: Tensor, standing: Stand) -> Curvature:
    """On the tangent spaces of the faces."""
    nothing = torch.zeros_like(standing.slack)
    face = Face(standing.free, standing.normal.middle, nothing, nothing)
    return lanczos_curvature(
        lambda v: surface.bent(weights, v), face, standing.points, _CURVATURE
    )


def curving(first: FirstOrder) -> Callable[[], Tensor]:
    """Return a function that measures κ = λ_max(tangent)/μ (§4) `[rows]`.

    That costs 32 products per example, which not everybody wants. NaN where no sphere
    holds the point, or μ ≤ 0.

    Args:
        first: at the certified points.
    """
    surface, inner = first.place.surface, first.place.inner.middle
    standing, multiplier = first.stand, first.multiplier

    def measure() -> Tensor:
        with torch.no_grad():
            weights = surface.output.middle * surface.activation.second(inner)
            ratio = _on_face(surface, weights, standing).top / multiplier
            return torch.where(standing.curved & (multiplier > 0), ratio, torch.nan)

    return measure
