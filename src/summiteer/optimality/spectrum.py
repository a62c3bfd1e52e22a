"""Where eigenvalues of Wᵀ diag(D) W lie, by Lanczos: to try factors, never to prove."""

from collections.abc import Callable

import torch
from torch import Tensor

from summiteer.optimality.curvature import Curvature, lanczos_curvature
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.stand import Stand
from summiteer.optimality.surface import Surface
from summiteer.regions import Face

#: Lanczos steps for what is reported and followed, and for where a factor is tried.
LONG, SHORT = 32, 16


def on_everything(surface: Surface, weights: Tensor, points: Tensor) -> Curvature:
    """Lanczos on Wᵀ diag(D) W, in the whole space: an estimate."""
    nothing = torch.zeros_like(points[:, 0])
    every = torch.ones_like(points, dtype=torch.bool)
    face = Face(every, torch.zeros_like(points), nothing, nothing)
    return lanczos_curvature(lambda v: surface.bent(weights, v), face, points, SHORT)


def on_face(
    surface: Surface, weights: Tensor, standing: Stand, products: int
) -> Curvature:
    """Lanczos on Wᵀ diag(D) W, on the tangent spaces of the faces: an estimate."""
    nothing = torch.zeros_like(standing.slack)
    face = Face(standing.free, standing.normal.middle, nothing, nothing)
    return lanczos_curvature(
        lambda v: surface.bent(weights, v), face, standing.points, products
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
            ratio = on_face(surface, weights, standing, LONG).top / multiplier
            return torch.where(standing.curved & (multiplier > 0), ratio, torch.nan)

    return measure
