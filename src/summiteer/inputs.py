"""Inputs, their box and targets, checked before anything is done with them."""

from collections.abc import Sequence

import torch
from torch import Tensor

from summiteer import _rows
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
    refuse_bad(bad_examples(inputs))
    if box is not None:
        low, high = check_box(box)
        outside = ((inputs < low) | (inputs > high)).flatten(1).any(1)
        if bool(outside.any()):
            rows = outside.nonzero().flatten().tolist()
            seen = float(inputs.min()), float(inputs.max())
            refuse_outside(rows, (low, high), seen)
    return inputs.detach()


def refuse_bad(examples: Sequence[int]) -> None:
    """Refuse examples with NaN or infinite entries, if there are any.

    Args:
        examples: their numbers.
    """
    if examples:
        raise UserError(
            f"inputs: NaN or infinite values in examples {listed(examples)}; remove "
            "them, or use --skip-bad on the command line."
        )


def refuse_outside(
    examples: Sequence[int], box: tuple[float, float], seen: tuple[float, float]
) -> None:
    """Refuse examples outside the box, if there are any.

    Args:
        examples: their numbers.
        box: (lo, hi).
        seen: the least and the largest number of all inputs.
    """
    if examples:
        raise UserError(
            f"inputs: examples {listed(examples)} lie outside the box "
            f"[{box[0]:g}, {box[1]:g}] (seen {seen[0]:g} … {seen[1]:g}); give the "
            "data's own box or none (box=None; on the command line, --box LO,HI "
            "or --box none), and normalise inside the model, not before."
        )


def bad_examples(inputs: Tensor) -> list[int]:
    """Return the indices of examples with NaN or infinite entries."""
    if _rows.all_finite(inputs.detach()):
        return []
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


def usable_targets(targets: Tensor, inputs: Tensor, count: int | None = None) -> Tensor:
    """Return targets on the inputs' device: labels int64, others in their dtype.

    Args:
        targets: `[batch, …]`.
        inputs: `[batch, *input]`, or some of them.
        count: the batch; as many as there are inputs if None.

    Raises:
        UserError: not one per example, or NaN or Inf (all bad indices).
    """
    targets, count = ordinary(torch.as_tensor(targets)), count or len(inputs)
    if targets.ndim == 0 or len(targets) != count:
        raise UserError(
            f"targets: expected one per example [{count}, …], got shape "
            f"{list(targets.shape)}."
        )
    if not targets.is_floating_point():
        return targets.to(inputs.device, torch.int64)
    bad = (~targets.isfinite()).flatten(1 if targets.ndim > 1 else 0)
    rows = (bad.any(1) if bad.ndim > 1 else bad).nonzero().flatten().tolist()
    if rows:
        raise UserError(f"targets: NaN or infinite at indices {rows}.")
    return targets.to(inputs)


def ordinary(tensor: Tensor) -> Tensor:
    """Return a copy of a tensor that was made in inference mode, another itself.

    Args:
        tensor: any.
    """
    return tensor.clone() if tensor.is_inference() else tensor
