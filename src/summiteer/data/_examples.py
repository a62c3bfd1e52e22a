"""Examples as an attack takes them: dtype, number, shape and box."""

import math

import torch
from torch import Tensor

from summiteer.data.dataset import Dataset
from summiteer.errors import UserError

#: So many numbers of examples are listed.
_SHOWN = 20


def examples(
    dataset: Dataset,
    dtype: torch.dtype,
    limit: int | None = None,
    skip_bad: bool = False,
    shape: tuple[int, ...] | None = None,
) -> tuple[Tensor, Tensor, Tensor, list[str]]:
    """Return inputs, targets, ids and notes about what was changed.

    Args:
        dataset: as loaded.
        dtype: of the inputs, and of targets that are floats.
        limit: the first so many; all if None.
        skip_bad: whether to leave out examples with NaN or infinity.
        shape: of one input if the model says so; used where the count of numbers fits.

    Raises:
        UserError: these are no examples, or the limit is below 1.
    """
    inputs, targets = dataset.inputs, dataset.targets
    if inputs.ndim < 2 or targets.ndim < 1:
        raise UserError(
            "DATA: expected inputs [n, *input] and targets [n, ...], got "
            f"{list(inputs.shape)} and {list(targets.shape)} in {dataset.name}."
        )
    if inputs.is_complex():
        raise UserError(f"DATA: expected real inputs, got {inputs.dtype}.")
    if len(inputs) != len(targets):
        raise UserError(
            f"DATA: {len(inputs)} inputs but {len(targets)} targets in {dataset.name}."
        )
    if limit is not None and limit < 1:
        raise UserError(f"--limit: expected an integer ≥ 1, got {limit}.")
    ids = torch.arange(len(inputs))[:limit]
    inputs, targets = inputs[:limit].to(dtype), targets[:limit]
    if targets.is_floating_point():
        targets = targets.to(dtype)
    notes = []
    good = inputs.isfinite().flatten(1).all(1)
    if skip_bad and not bool(good.all()):
        bad = ids[~good].tolist()
        inputs, targets, ids = inputs[good], targets[good], ids[good]
        noun = "example" if len(bad) == 1 else "examples"
        notes.append(f"skipped {len(bad)} {noun} with NaN or Inf: {_few(bad)}")
    given = tuple(inputs.shape[1:])
    if shape and shape != given and math.prod(shape) == math.prod(given):
        inputs = inputs.reshape(-1, *shape)
        notes.append(f"inputs {list(given)} are given to the model as {list(shape)}")
    return inputs, targets, ids, notes


def _few(numbers: list[int]) -> str:
    """The first of them: a reader needs no thousand."""
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{numbers[:_SHOWN]}{more}"


def box_of(text: str | None, inputs: Tensor) -> tuple[float, float] | None:
    """Return the box in input coordinates, or None.

    Args:
        text: LO,HI or none; if None, [0, 1] where all inputs lie there.
        inputs: `[n, *input]`.

    Raises:
        UserError: the text is something else.
    """
    if text is None:
        inside = bool(((inputs >= 0) & (inputs <= 1)).all())
        return (0.0, 1.0) if inside else None
    if text.strip().lower() == "none":
        return None
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"--box: expected LO,HI or none, got {text!r}.") from None
    return low, high


def box_note(limits: tuple[float, float] | None, inputs: Tensor) -> str:
    """Say which box was chosen for the user and why.

    Args:
        limits: of the box, or None.
        inputs: `[n, *input]`.
    """
    if limits:
        return "box 0,1 (the data lie there)"
    low, high = float(inputs.min()), float(inputs.max())
    note = f"box none (the data span {low:g} … {high:g}); --box LO,HI keeps them inside"
    if low >= 0 and 2 < high <= 255:
        note += "\nthese look like pixels 0..255: is --radius in the same units?"
    return note
