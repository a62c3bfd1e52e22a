"""Upper bounds of F over a patch: Prop. 8 about one centre after the other.

The tangent majorant M_p is at most the majorant M of §5, entry by entry of D, so that M
itself is never tried. Any p of R^d is a centre: 0, the best point known, and where the
majorant about the last centre is highest.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.optimality import dual
from summiteer.optimality.interior_point import interior_point
from summiteer.optimality.majorant import groups, shared_top, tangent_majorant
from summiteer.optimality.patches import Frame, Patches
from summiteer.optimality.rounding import Enclosure
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface, lipschitz

#: Kinds of output weights up to which each has a factorisation of its own.
_KINDS = 4
#: Coordinates of a box up to which each of them has a multiplier.
_COORDINATES = 1024
#: Centres tried after 0 and the given point.
_AGAIN = 2


@dataclass(frozen=True, eq=False)
class Ceiling:
    """Upper bounds, and where the majorants that gave them are highest.

    Attributes:
        top: ≥ max F `[rows]`; inf where nothing was found.
        at: `[rows, d]` floats, to look from next.
        centre: `[rows, d]` the p of the majorant that gave the bound.
    """

    top: Tensor
    at: Tensor
    centre: Tensor


def surface_bound(
    surface: Surface,
    limits: Limits,
    points: Tensor | None = None,
    threshold: Tensor | None = None,
) -> Tensor:
    """A proved upper bound of F over each row's region (Prop. 8) `[rows]`.

    Args:
        surface: F of each row.
        limits: C of each row; of a sphere, its ball.
        points: `[rows, d]` the best points known.
        threshold: `[rows]`; rows whose bound is below it climb no further. The bound is
            one either way.
    """
    return climb(surface, whole(surface, limits), points, threshold).top


def whole(surface: Surface, limits: Limits, vectors: Tensor | None = None) -> Patches:
    """C as one patch: on balls with the frame `vectors` `[d, k]`, k = 0 if None."""
    if not limits.boxed and vectors is None:
        vectors = limits.lower.new_zeros(limits.lower.shape[1], 0)
    return Patches.whole(
        limits, Frame(surface.weighted, None if limits.boxed else vectors)
    )


def climb(
    surface: Surface,
    patches: Patches,
    points: Tensor | None = None,
    threshold: Tensor | None = None,
) -> Ceiling:
    """See `surface_bound`: shared factorisations first, then one for each row.

    Args:
        surface: F of each row.
        patches: of the same rows.
        points: `[rows, d]`, or None.
        threshold: `[rows]`, or None.
    """
    centre = patches.nearest(torch.zeros_like(patches.limits.lower))
    given = [centre] if points is None else [centre, points]
    interval, nothing = patches.interval(surface)
    top = torch.where(nothing, -torch.inf, torch.inf).to(centre)
    found = Ceiling(top, given[-1].clone(), given[-1].clone())
    goal = torch.full_like(top, -torch.inf) if threshold is None else threshold
    for each in given:
        index = (~(found.top < goal) & ~nothing).nonzero().flatten()
        if len(index):
            some = surface.take(index)
            shared = _shared(some, patches.take(index), interval[index], each[index])
            _lower(found, index, Ceiling(shared, found.at[index], each[index]))
    for turn in range(len(given) + _AGAIN):
        index = (~(found.top < goal) & ~nothing).nonzero().flatten()
        if not len(index):
            break
        each = given[turn] if turn < len(given) else patches.nearest(found.at)
        one = tangent_bound(
            surface.take(index),
            patches.take(index),
            interval[index],
            each[index],
            goal[index],
        )
        _lower(found, index, one)
    return found


def _shared(
    surface: Surface, patches: Patches, interval: Enclosure, centres: Tensor
) -> Tensor:
    """The separable bound with one λ⁺ for all rows of one kind `[rows]`."""
    place = surface.at(centres)
    weights = tangent_majorant(place, interval)
    kind = groups(surface)
    if int(kind.max()) >= _KINDS:
        kind = torch.zeros_like(kind)
    shared = shared_top(surface.weighted, weights, kind).clamp(min=0)
    # Where nothing can be factorised (numbers below 1e-100) the crude bound is left.
    crude = lipschitz(surface.weighted, weights.clamp(min=0))
    curvature = torch.where(shared < crude, shared, crude)
    return dual.separable_bound(place, curvature, patches)


def tangent_bound(
    surface: Surface,
    patches: Patches,
    interval: Enclosure,
    centres: Tensor,
    goal: Tensor | None = None,
) -> Ceiling:
    """The dual bound with M_p about p = `centres`, a factorisation or more per row.

    On boxes of many coordinates the separable bound, with each row's own λ⁺(M_p).

    Args:
        surface: F of each row.
        patches: of the same rows.
        interval: their pre-activations `[rows, m]`.
        centres: p `[rows, d]` floats, anywhere.
        goal: `[rows]` a bound below it is good enough.
    """
    place = surface.at(centres)
    weights = tangent_majorant(place, interval)
    if patches.frame.vectors is None and patches.frame.size > _COORDINATES:
        curvature = surface.weighted.largest(weights).clamp(min=0)
        top = dual.separable_bound(place, curvature, patches)
        return Ceiling(top, centres, centres)
    if patches.frame.size:
        chosen = interior_point(place, weights, patches, goal)
    else:
        chosen = dual.trust_region(place, weights, patches)
    at = torch.where(chosen.at.isfinite(), chosen.at, centres)
    return Ceiling(dual.bound(place, weights, patches, chosen), at, centres)


def _lower(found: Ceiling, index: Tensor, other: Ceiling) -> None:
    """Note in `found` what is lower than what it has; NaN never is."""
    better = other.top < found.top[index]
    found.at[index] = other.at
    found.top[index[better]] = other.top[better]
    found.centre[index[better]] = other.centre[better]
