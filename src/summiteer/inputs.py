"""Inputs and their box, checked before anything is done with them."""

import torch
from torch import Tensor

from summiteer._typing import Model
from summiteer.errors import UserError, listed
from summiteer.precision import model_dtype


def check_inputs(
    model: Model, inputs: Tensor, box: tuple[float, float] | None
) -> Tensor:
    """Return `inputs` detached, or say what is wrong with them.

    Args:
        model: for its dtype.
        inputs: `[batch, *input]`.
        box: (lo, hi) or None.

    Raises:
        UserError: shape, dtype, NaN or Inf (all bad indices), or outside the box.
    """
    if not isinstance(inputs, Tensor):
        raise UserError(
            f"inputs: expected a torch tensor [batch, *input], got "
            f"{type(inputs).__name__}; use torch.as_tensor."
        )
    if inputs.ndim < 2 or inputs.numel() == 0:
        remedy = "; use inputs[:, None] for one number each" * (inputs.ndim == 1)
        raise UserError(
            "inputs: expected [batch, *input] with at least one example and one "
            f"coordinate, got shape {list(inputs.shape)}{remedy}."
        )
    own = model_dtype(model)
    if not inputs.is_floating_point() or (own is not None and own != inputs.dtype):
        wanted = own or torch.float32
        raise UserError(
            f"inputs: expected {wanted} (the model's own), got {inputs.dtype}; use "
            f"inputs.to({wanted})."
        )
    bad = bad_examples(inputs)
    if bad:
        raise UserError(
            f"inputs: NaN or infinite values in examples {listed(bad)}; remove "
            "them, or use --skip-bad on the command line."
        )
    if box is not None:
        low, high = check_box(box)
        outside = ((inputs < low) | (inputs > high)).flatten(1).any(1)
        if bool(outside.any()):
            rows = outside.nonzero().flatten().tolist()
            raise UserError(
                f"inputs: examples {listed(rows)} lie outside the box "
                f"[{low:g}, {high:g}] "
                f"(seen {float(inputs.min()):g} … {float(inputs.max()):g}); give the "
                "data's own box or none (box=None; on the command line, --box LO,HI "
                "or --box none), and normalise inside the model, not before."
            )
    return inputs.detach()


def bad_examples(inputs: Tensor) -> list[int]:
    """Return the indices of examples with NaN or infinite entries."""
    bad = ~inputs.isfinite().flatten(1).all(1)
    return [int(i) for i in bad.nonzero().flatten()]


def check_box(box: tuple[float, float]) -> tuple[float, float]:
    """Return (lo, hi) as floats, or say what is wrong.

    Args:
        box: the two limits in input coordinates.

    Raises:
        UserError: not two finite numbers lo < hi.
    """
    try:
        low, high = (float(limit) for limit in box)
    except (TypeError, ValueError):
        low = high = float("nan")
    if not (low < high and abs(low) < float("inf") and abs(high) < float("inf")):
        raise UserError(f"box: expected two finite numbers lo < hi, got {box!r}.")
    return low, high
