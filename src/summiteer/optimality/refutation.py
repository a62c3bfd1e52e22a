"""Prop. 7 in its order: first order at the given points, then second."""

from collections.abc import Iterator

import torch
from torch import Tensor

from summiteer.optimality.bounds import constants_around
from summiteer.optimality.no_maximum import Refuted, not_stationary, saddle, searched
from summiteer.optimality.rounding import Enclosure, down, up
from summiteer.optimality.scalar_form import ScalarForm
from summiteer.optimality.spectrum import LONG, on_face
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface
from summiteer.optimality.verdict import Verdict


def refutations(
    form: ScalarForm,
    limits: Limits,
    points: Tensor,
    reach: Tensor,
    extent: Tensor,
    constants: tuple[Tensor, Tensor],
) -> Iterator[tuple[Verdict, str, Refuted]]:
    """Yield what can be shown to have no maximum near: verdict, reason, proof.

    Args:
        form: F and its rivals.
        limits: of the region.
        points: given, `[rows, d]`.
        reach: the search distance ρ, rounded up.
        extent: radius of a ball that holds region and points.
        constants: (L, Λ) on that ball.
    """
    surface = form.surface
    near = _near_by(surface, limits, points, reach)
    lipschitz, wiggle = map(torch.fmin, near, constants)
    lead = form.lead(points, torch.zeros_like(reach), extent)
    away = not_stationary(
        surface, limits, points, reach, lipschitz, lead, form.mirrored
    )
    text = "the gradient keeps every point near by from being critical"
    yield Verdict.NOT_STATIONARY, text, away
    there = searched(surface, limits, points, reach)
    if there is None:
        return
    first, distance = there
    curved = on_face(surface, first.place.bend.middle, first.stand, LONG)
    assert curved.way is not None
    ridge = saddle(first, curved.way, distance, lipschitz, wiggle, lead, reach)
    yield Verdict.SADDLE, "the objective curves upwards along the region", ridge


def _near_by(
    surface: Surface, limits: Limits, points: Tensor, reach: Tensor
) -> tuple[Tensor, Tensor]:
    """L and Λ around the points, wherever Prop. 7 looks.

    Within ρ of the point, at the region's point next to it, and along geodesics of
    2.2ρ from there: a ball of 4ρ and twice the gap to the region holds them all.
    """
    size, radius = Enclosure.exact(points).norm(), limits.radius
    gap = torch.maximum(up(size.upper - radius), up(radius - size.lower))
    gap = torch.where(gap.isfinite() & (gap > 0), gap, 0.0)
    if not limits.sphere:
        # Further inside than ρ the sphere plays no part.
        gap = torch.where(down(radius - size.upper) > reach, 0.0, gap)
    # Of a box, the point next to the given one.
    clipped = torch.clamp(points, limits.lower, limits.upper)
    gap = torch.maximum(gap, (Enclosure.exact(clipped) - points).norm().upper)
    return constants_around(surface.at(points), up(up(4 * reach) + 2 * gap))
