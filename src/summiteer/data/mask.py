"""Which coordinates may move, from a file."""

import math

import torch
from torch import Tensor

from summiteer.data._files import existing
from summiteer.data.column import Column, Held
from summiteer.data.tables import TABLES, open_tensors
from summiteer.errors import UserError


def open_mask(source: str, row: tuple[int, ...], ids: Tensor) -> Column | Tensor:
    """Return the mask of a file.

    Args:
        source: one of `TABLES`, with one tensor, or one that is called `mask`: bool, or
            integers 0 and 1; `[*input]`, or one row per example of the data.
        row: the shape of an input.
        ids: `[n]`, which of the data's examples are attacked.

    Returns:
        bool, True where a coordinate may move: a tensor `[*input]`, or the rows
        `[n, *input]` of a file.

    Raises:
        UserError: the file cannot be read, or holds no mask of these inputs.
    """
    path = existing("--mask", source, f"give {', '.join(TABLES)}")
    held = open_tensors("--mask", path)
    if len(held) != 1 and "mask" not in held:
        raise UserError(
            f"--mask: {path} must hold one tensor, or one called mask; it has "
            f"{', '.join(sorted(held)) or 'none'}."
        )
    (mask,) = held.values() if len(held) == 1 else (held["mask"],)
    whole = not (mask.dtype.is_floating_point or mask.dtype.is_complex)
    if not mask.shape:
        mask = Held.of(mask.whole()[None])
    if not whole or not all(
        bool(((rows == 0) | (rows == 1)).all()) for _, rows in mask.blocks()
    ):
        raise UserError(
            f"--mask: {path} must hold bools, or integers 0 and 1 (1: may move), got "
            f"{mask.dtype}; save mask.astype(bool)."
        )
    size = math.prod(row)
    each = math.prod(mask.shape) != size and len(mask.shape) > 1
    if each and len(mask) > int(ids.max()) and math.prod(mask.row) == size:
        return mask.seen_as(torch.bool, row).chosen(ids)
    if math.prod(mask.shape) != size:
        raise UserError(
            f"--mask: {path} has the shape {list(mask.shape)}; expected {list(row)}, "
            f"or [examples of DATA, *{list(row)}]."
        )
    moves = mask.whole().to(torch.bool)
    if not bool(moves.any()):
        raise UserError(f"--mask: {path} lets no coordinate move.")
    return moves.reshape(row)
