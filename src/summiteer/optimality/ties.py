"""A function near a point as its kinks see it: g₀ᵀd + Σ_j a_j·relu(h_j + w_jᵀd).

Nothing here proves; it finds the points and the multipliers that proofs then speak of.
The kinks are those that matter within a search distance of the point. Those with
a_j < 0 are ridges: maxima may lie on them. Of those with a_j > 0 the side at the point
is kept.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks.piecewise_linear import Maximum
from summiteer.optimality.local_form import Patch
from summiteer.optimality.pieces import Backward, backward
from summiteer.optimality.rounding import Enclosure

#: Squares and products of smaller numbers are finite.
_LARGEST = 1e70


@dataclass(frozen=True, eq=False)
class Ties:
    """Ridges near the points, padded to the row with the most of them.

    Attributes:
        step: number of the step `[rows, ties]`, -1 where padded.
        place: index in the step's flattened result.
        height: h_j at the point.
        normal: w_j `[rows, ties, d]`.
        weight: a_j < 0, 0 where padded.
        rest: g₀ `[rows, d]`: the gradient with every ridge off.
    """

    step: Tensor
    place: Tensor
    height: Tensor
    normal: Tensor
    weight: Tensor
    rest: Tensor

    def take(self, index: Tensor) -> "Ties":
        """The rows `index`."""
        return _rows.take(self, index)

    @property
    def real(self) -> Tensor:
        """Where there is a ridge, not padding."""
        return self.step >= 0

    @property
    def ordinary(self) -> Tensor:
        """Rows whose numbers float solvers can work with."""
        sound = self.rest.abs().amax(1) < _LARGEST
        for part in (self.height, self.weight, self.normal.abs().amax(2)):
            sound = sound & (part.abs() < _LARGEST).all(1)
        return sound

    def tamed(self) -> "Ties":
        """The same, rows that are not ordinary without any kink and slope."""
        good = self.ordinary
        return Ties(
            torch.where(good[:, None], self.step, -1),
            self.place,
            torch.where(good[:, None], self.height, 0.0),
            torch.where(good[:, None, None], self.normal, 0.0),
            torch.where(good[:, None], self.weight, 0.0),
            torch.where(good[:, None], self.rest, 0.0),
        )

    def slope(self, multipliers: Tensor) -> Tensor:
        """g₀ + Σ λ_j a_j w_j `[rows, d]`."""
        heavy = multipliers * self.weight
        return self.rest + torch.bmm(heavy[:, None], self.normal)[:, 0]

    def heights(self, step: Tensor) -> Tensor:
        """h_j + w_jᵀd."""
        return self.height + torch.bmm(self.normal, step[:, :, None])[:, :, 0]


def ties_of(
    patch: Patch,
    here: Patch,
    valleys: bool = False,
    known: tuple[Ties, Tensor] | None = None,
) -> Ties:
    """The ridges within a patch.

    Where one kink depends on another, the gradient is a product of their slopes: the
    model is its linearisation at the multipliers that are known.

    Args:
        patch: around the points, of the search distance.
        here: of radius 0 at the same points.
        valleys: take the kinks with a_j > 0 too; their weights are not < 0 then.
        known: ridges found before, and their multipliers.
    """
    sides = _sides(here, known)
    pulled = here.pulled(sides, here.outputs)
    step, place = _places(patch, pulled, valleys)
    shape = step.shape
    height = torch.zeros(shape, dtype=torch.float64)
    weight, on = height.clone(), height.clone()
    normal = height.new_zeros(*shape, patch.points.shape[1])
    for number in patch.ties:
        kink = here.around.kinks[number]
        rows, columns = (step == number).nonzero(as_tuple=True)
        spots = place[rows, columns]
        height[rows, columns] = kink.centre.middle.flatten(1)[rows, spots]
        c = pulled.weights[number].middle.flatten(1)[rows, spots]
        weight[rows, columns] = c * (1 - kink.slope)
        share = sides[number].middle.flatten(1)[rows, spots]
        on[rows, columns] = c * (share - kink.slope)
        normal[rows, columns] = heights_gradient(
            here, number, rows, spots, sides
        ).middle
    rest = pulled.gradient.middle - torch.bmm(on[:, None], normal)[:, 0]
    return Ties(step, place, height, normal, weight, rest)


def _sides(
    here: Patch, known: tuple[Ties, Tensor] | None = None
) -> dict[int, Enclosure]:
    """The slopes of the side that each kink is on, right where it ties."""
    sides = {}
    for number, kink in here.around.kinks.items():
        right = (kink.centre.middle >= 0) & ~kink.left
        share = kink.side(right)
        if known is not None:
            ties, multipliers = known
            rows, columns = (ties.step == number).nonzero(as_tuple=True)
            spots, flat = ties.place[rows, columns], share.flatten(1)
            lean = multipliers[rows, columns]
            flat[rows, spots] = kink.slope + (1 - kink.slope) * lean
            share = flat.reshape(share.shape)
        sides[number] = Enclosure.exact(share)
    return sides


def ridges_near(patch: Patch, here: Patch) -> Tensor:
    """How many ridges `ties_of` will find `[rows]`."""
    weights = here.pulled(_sides(here), here.outputs).weights
    counts = [
        (tie & (weights[number].middle < 0)).flatten(1).sum(1)
        for number, tie in patch.ties.items()
    ]
    # An affine network has no kinks.
    none = torch.zeros(len(patch.points), dtype=torch.int64)
    return torch.stack([none, *counts]).sum(0)


def _places(patch: Patch, pulled: Backward, valleys: bool) -> tuple[Tensor, Tensor]:
    """(step, place) of every ridge, -1 and 0 where a row has no more."""
    rows = len(patch.points)
    steps, owners, places = [], [], []
    for number, tie in patch.ties.items():
        weight = pulled.weights[number].middle
        ridge = tie & ((weight != 0) if valleys else (weight < 0))
        owner, place = ridge.flatten(1).nonzero(as_tuple=True)
        steps.append(torch.full_like(owner, number))
        owners.append(owner)
        places.append(place)
    step_of, owner, place_of = torch.cat(steps), torch.cat(owners), torch.cat(places)
    order = torch.argsort(owner, stable=True)
    step_of, owner, place_of = step_of[order], owner[order], place_of[order]
    each = torch.bincount(owner, minlength=rows)
    column = torch.arange(len(owner)) - (each.cumsum(0) - each)[owner]
    step = torch.full((rows, max(1, int(each.max()))), -1)
    place = torch.zeros_like(step)
    step[owner, column], place[owner, column] = step_of, place_of
    return step, place


def heights_gradient(
    here: Patch,
    number: int,
    rows: Tensor,
    spots: Tensor,
    slopes: dict[int, Enclosure],
) -> Enclosure:
    """∇h_j of single kinks of one step with these slopes, enclosed `[kinks, d]`.

    Args:
        here: at the points.
        number: of the step.
        rows: whose kinks, `[kinks]`.
        spots: their index in the step's flattened result.
        slopes: of all kinks `[points, *shape]`.
    """
    network = here.form.network
    step = network.steps[number]
    shape = here.around.kinks[number].right.shape[1:]
    unit = torch.zeros(len(rows), shape.numel(), dtype=torch.float64)
    unit[torch.arange(len(rows)), spots] = 1.0
    unit = unit.reshape(len(rows), *shape)
    forms = {step.sources[-1]: Enclosure.exact(unit)}
    if isinstance(step.operation, Maximum):
        forms[step.sources[0]] = Enclosure.exact(-unit)
    chosen = {n: slope[rows] for n, slope in slopes.items()}
    back = backward(network, forms, chosen).gradient
    return Enclosure(back.middle.flatten(1), back.radius.flatten(1))
