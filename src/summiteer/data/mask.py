"""Which coordinates may move, from a file."""

import torch
from torch import Tensor

from summiteer.data._files import TABLES, existing, read_tensors
from summiteer.errors import UserError


def load_mask(source: str, inputs: Tensor, ids: Tensor) -> Tensor:
    """Return the mask of a file.

    Args:
        source: one of `TABLES`, with one tensor, or one that is called `mask`: bool, or
            integers 0 and 1; `[*input]`, or one row per example of the data.
        inputs: `[n, *input]`, those that are attacked.
        ids: `[n]`, which of the data's examples they are.

    Returns:
        bool `[*input]` or `[n, *input]`, True where a coordinate may move.

    Raises:
        UserError: the file cannot be read, or holds no mask of these inputs.
    """
    path = existing("--mask", source, f"give {', '.join(TABLES)}")
    held = read_tensors("--mask", path)
    if len(held) != 1 and "mask" not in held:
        raise UserError(
            f"--mask: {path} must hold one tensor, or one called mask; it has "
            f"{', '.join(sorted(held)) or 'none'}."
        )
    (mask,) = held.values() if len(held) == 1 else (held["mask"],)
    whole = not mask.is_floating_point() and not mask.is_complex()
    if not whole or not bool(((mask == 0) | (mask == 1)).all()):
        raise UserError(
            f"--mask: {path} must hold bools, or integers 0 and 1 (1: may move), got "
            f"{mask.dtype}; save mask.astype(bool)."
        )
    mask = mask.to(torch.bool)
    row = inputs.shape[1:]
    each = mask.numel() != row.numel() and mask.ndim > 1
    if each and len(mask) > int(ids.max()) and mask[0].numel() == row.numel():
        return mask[ids].reshape(inputs.shape)
    if mask.numel() != row.numel():
        raise UserError(
            f"--mask: {path} has the shape {list(mask.shape)}; expected {list(row)}, "
            f"or [examples of DATA, *{list(row)}]."
        )
    if not bool(mask.any()):
        raise UserError(f"--mask: {path} lets no coordinate move.")
    return mask.reshape(row)
