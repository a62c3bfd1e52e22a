"""Maxima on kinks: multipliers for the kinks, found in floats and proved (Prop. 9).

On N every kink that matters and may be open must have a weight ≤ 0: then
F ≤ F_σ, where it is replaced by the line between its two sides with slope σ. With the
multipliers of the ridge's highest point F_σ presses against the region's boundary.
"""

import torch
from torch import Tensor

from summiteer.optimality.local_form import LocalForm, Patch
from summiteer.optimality.local_maximum import Summit, raised
from summiteer.optimality.ridge import Ridge, along_ridges
from summiteer.optimality.ridge_ascent import highest
from summiteer.optimality.rounding import Enclosure, up
from summiteer.optimality.sharpness import sharp_summit
from summiteer.optimality.stand import Stand, faces, stand
from summiteer.optimality.ties import Ties, ties_of

#: Models of the function that are maximised one after the other.
_MODELS = 12
#: A weight whose positive part is below this share of it is ≤ 0 but for rounding.
_ROUNDING = 1e-12
#: A hop shorter than this, in search distances, leads to the same point.
_SAME = 1e-6
#: A gradient that turns by less than this share has been found.
_TURN = 1e-11
#: Radii of N that are tried, in search distances.
_RADII = (1e-6, 1e-4, 1e-3, 1e-2)


def relaxed_summit(
    form: LocalForm, points: Tensor, reach: Tensor, ball: Tensor
) -> tuple[Stand, Summit, Tensor]:
    """The highest point of the kinked function near the given points, and its proof.

    Args:
        form: of the rows.
        points: given `[rows, d]`, with at most `MOST_TIES` ties within reach.
        reach: the search distance `[rows]`.
        ball: bool `[rows]`, whether the ball is active there.

    Returns:
        The point, what was proved, and the way `[rows, d]` that the kinks leave open.
    """
    standing, ties, found, target = _climbed(form, points, reach, ball)
    best: Summit | None = None
    for share in _RADII:
        patch = form.around(
            standing.points, up(share * reach + standing.slack), chosen=True
        )
        held = _proved(patch, standing, ties, found)
        best = held if best is None else best.better(held)
        if bool(best.proved.all()):
            break
    assert best is not None
    return standing, best, along_ridges(ties, found, target - points)


def _climbed(
    form: LocalForm, given: Tensor, reach: Tensor, ball: Tensor
) -> tuple[Stand, Ties, Ridge, Tensor]:
    """Maximise one model after the other until the point stays."""
    points, zero = given, torch.zeros_like(reach)
    patch = form.around(given, reach)
    ties = ties_of(patch, form.around(given, zero))
    ridge = highest(form, ties, points, reach, ball)
    for _ in range(_MODELS):
        near = ((ridge.points - given).norm(dim=1) <= reach) & ridge.solved
        hop = torch.where(near, (ridge.points - points).norm(dim=1), 0.0)
        points = torch.where(near[:, None], ridge.points, points)
        lean = ties.slope(ridge.multipliers)
        # The same kinks, at the new point and with the new multipliers.
        known = (ties, ridge.multipliers)
        ties = ties_of(patch, form.around(points, zero), known=known)
        ridge = highest(form, ties, points, reach, ball)
        turn = (ties.slope(ridge.multipliers) - lean).norm(dim=1)
        turning = near & (turn > _TURN * lean.norm(dim=1))
        if not bool((turning | (hop > _SAME * reach)).any()):
            break
    near = ridge.solved & ((ridge.points - points).norm(dim=1) <= _SAME * reach)
    points = torch.where(near[:, None], ridge.points, points)
    slope = ties.slope(ridge.multipliers)
    snap = 1e-6 * reach
    free, curved = faces(form.limits, points, slope, torch.zeros_like(points), snap)
    standing = stand(form.limits, points, free, curved & ball)
    return standing, ties, ridge, ridge.points


def _proved(patch: Patch, standing: Stand, ties: Ties, ridge: Ridge) -> Summit:
    """The proof on one neighbourhood."""
    ridges = _ridges(patch)
    slopes = _chosen(patch, ridges, ties, ridge)
    there = patch.form.around(standing.points, standing.slack)
    gap = _gap(patch, there, ridges, slopes)
    valley = [tie & ~ridges[number] for number, tie in patch.ties.items()]
    mixed = torch.zeros_like(ridge.solved)
    for each in valley:
        mixed |= each.flatten(1).any(1)
    found = raised(patch, standing, slopes, gap, ~mixed)
    loose = (standing.free & patch.alive).any(1) & ~standing.curved
    if bool((loose & ~mixed).any()):
        index = (loose & ~mixed).nonzero().flatten()
        widest = _gap(patch, there, ridges, None)
        sharp = sharp_summit(patch, standing, slopes, ties, widest, index)
        found = found.better(sharp)
    return found.where(ridge.solved)


def _ridges(patch: Patch) -> dict[int, Tensor]:
    """Ties whose weight is ≤ 0 on N, whatever the other slopes: bool per step.

    But for rounding, which `_gap` pays for: a weight in [-1, 0] is enclosed as
    something in [-1, 1e-15].
    """
    weights = patch.whole.weights
    return {
        number: tie & (weights[number].upper <= _ROUNDING * weights[number].magnitude)
        for number, tie in patch.ties.items()
    }


def _chosen(
    patch: Patch, ridges: dict[int, Tensor], ties: Ties, ridge: Ridge
) -> dict[int, Enclosure]:
    """One slope for every kink: its side's, or what the multipliers say.

    Valleys, ties that are no ridges, keep all their slopes.
    """
    slopes: dict[int, Enclosure] = {}
    for number, kink in patch.around.kinks.items():
        right = kink.right | (kink.open & (kink.centre.middle >= 0))
        share = kink.side(right)
        flat = share.flatten(1)
        rows, columns = (ties.step == number).nonzero(as_tuple=True)
        spots = ties.place[rows, columns]
        wanted = kink.slope + (1 - kink.slope) * ridge.multipliers[rows, columns]
        still = kink.open.flatten(1)[rows, spots]
        flat[rows[still], spots[still]] = wanted[still].clamp(kink.slope, 1.0)
        chosen = Enclosure.exact(flat.reshape(share.shape))
        slopes[number] = chosen
        if number in ridges:
            valley = patch.ties[number] & ~ridges[number]
            every = kink.slopes
            slopes[number] = Enclosure(
                torch.where(valley, every.middle, chosen.middle),
                torch.where(valley, every.radius, chosen.radius),
            )
    return slopes


def _gap(
    patch: Patch,
    there: Patch,
    ridges: dict[int, Tensor],
    slopes: dict[int, Enclosure] | None,
) -> Tensor:
    """Γ ≥ F_σ(p) - F(p) `[rows]`, over all slopes of the ridges if none are given.

    Ridges are replaced from the output to the input: each by |c_j|·|result - line| with
    its true height at p, c_j any weight that the later ones' slopes allow.
    """
    total = torch.zeros_like(patch.radius)
    for number, tie in ridges.items():
        kink = there.around.kinks[number]
        weight = patch.whole.weights[number]
        above, below = kink.height.upper.clamp(min=0), -kink.height.lower.clamp(max=0)
        if slopes is None:
            above, below = (1 - kink.slope) * above, (1 - kink.slope) * below
        else:
            share = slopes[number].middle
            above, below = (1 - share) * above, (share - kink.slope) * below
        missed = up(weight.magnitude * up(above + below, 3))
        # Where the weight may be η > 0, F ≤ F_σ + η|result - line| on all of N.
        wide = patch.around.kinks[number].height.magnitude
        missed = up(missed + up(2 * weight.upper.clamp(min=0) * wide))
        missed = torch.where(tie, missed, 0.0).flatten(1)
        total = up(total + up(missed.sum(1), missed.shape[1] + 1))
    return total
