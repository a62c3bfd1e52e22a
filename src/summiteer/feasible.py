"""Region ∩ box ∩ mask as one region."""

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.errors import UserError
from summiteer.regions import Box, Region, intersect
from summiteer.regions._region import rows_of
from summiteer.regions.intervals import Intervals


def feasible(
    region: Region,
    inputs: Tensor,
    box: tuple[float, float] | None,
    mask: Tensor | None,
) -> Region:
    """Region ∩ box ∩ mask, in perturbation coordinates.

    Args:
        region: bound to the inputs.
        inputs: x `[batch, *input]`.
        box: (lo, hi) of x + δ, or None.
        mask: bool `[*input]` or `[batch, *input]`, which coordinates may move, or None.

    Raises:
        UserError: the mask does not fit inputs or region.
    """
    if box is not None:
        region = intersect(region, _perturbation_box(inputs, *box))
    if mask is not None:
        held = _mask_box(inputs, mask, region)
        if region.norm == "sphere":
            raise UserError(
                "mask: a sphere within fewer coordinates is not a region here; use "
                "L2Ball, whose maxima lie on the sphere too unless interior."
            )
        region = intersect(region, held)
    return region


def _perturbation_box(inputs: Tensor, low: float, high: float) -> Box:
    """The box on x + δ as bounds on δ that hold after rounding of x + δ too."""
    lower, upper = low - inputs, high - inputs
    infinity = torch.full_like(inputs, torch.inf)
    lower = torch.where(inputs + lower < low, torch.nextafter(lower, infinity), lower)
    upper = torch.where(inputs + upper > high, torch.nextafter(upper, -infinity), upper)
    return Box(lower.clamp(max=0), upper.clamp(min=0)).bind(inputs)


def _mask_box(inputs: Tensor, mask: Tensor, region: Region) -> Box:
    """The coordinates that may not move, as a box of width 0 there."""
    if mask.dtype != torch.bool or mask.shape not in (inputs.shape, inputs.shape[1:]):
        raise UserError(
            f"mask: expected a bool tensor {list(inputs.shape[1:])} or "
            f"{list(inputs.shape)}, got {mask.dtype} {list(mask.shape)}."
        )
    moves = mask.to(inputs.device)
    if isinstance(region, Intervals):
        # Not by its size, which may be any length that the user names.
        lower, upper = (limit.expand(inputs.shape) for limit in region.limits(inputs))
        return Box(torch.where(moves, lower, 0.0), torch.where(moves, upper, 0.0))
    # Wide enough never to bind where the coordinate may move.
    wide = 2 * rows_of(region.size, inputs).to(inputs)
    room = torch.where(moves, _rows.expand(wide, inputs), 0.0).expand(inputs.shape)
    return Box(-room, room).bind(inputs)
