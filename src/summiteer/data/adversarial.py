"""ADVERSARIAL: the file in which a tool left its adversarial inputs."""

import math
from pathlib import Path

from torch import Tensor

from summiteer.data._files import existing
from summiteer.data.column import Column
from summiteer.data.tables import TABLES, open_tensors
from summiteer.errors import UserError

#: Names that tools and people give to them, most telling first.
KEYS = (
    "adversarial_inputs",
    "adversarial",
    "adv_inputs",
    "inputs_adv",
    "x_adv",
    "adv_x",
    "adv_images",
    "adv_complete",
    "adv",
)


def load_adversarial(source: str) -> Tensor:
    """Return the adversarial inputs of a file, as they are, in memory.

    Args:
        source: see `open_adversarial`.

    Raises:
        UserError: the file cannot be read or does not say which tensor is meant.
    """
    return open_adversarial(source).whole()


def open_adversarial(source: str) -> Column:
    """Return the adversarial inputs of a file, to be read some rows at a time.

    Args:
        source: .npz, .npy, .safetensors or .pt, read without running code from it;
            FILE:KEY names one of several tensors. Without, it is one of `KEYS`, or
            the only tensor.

    Raises:
        UserError: the file cannot be read or does not say which tensor is meant.
    """
    file, key = _file_and_key(source)
    path = existing("ADVERSARIAL", file, f"give one of {', '.join(TABLES)}")
    tensors = open_tensors("ADVERSARIAL", path)
    has = ", ".join(sorted(name or "a nameless tensor" for name in tensors))
    if key is not None:
        if key not in tensors:
            raise UserError(f"ADVERSARIAL: {path} has no {key!r}; it has {has}.")
        return tensors[key]
    known = [name for name in KEYS if name in tensors]
    if known:
        return tensors[known[0]]
    if len(tensors) == 1:
        return next(iter(tensors.values()))
    raise UserError(
        f"ADVERSARIAL: {path} holds {has or 'nothing'}; say which are the adversarial "
        f"inputs: {path}:KEY."
    )


def aligned(
    adversarial: Column, ids: Tensor, total: int, shape: tuple[int, ...]
) -> Column:
    """Return the rows that belong to the examples that were chosen of DATA.

    Args:
        adversarial: rows for all of DATA, or for the chosen ones alone.
        ids: places of the chosen examples in DATA.
        total: how many DATA has.
        shape: of one input; rows with as many numbers are given this shape.

    Raises:
        UserError: neither as many rows as DATA nor as the chosen examples, or inputs
            of another size.
    """
    rows, chosen = len(adversarial), len(ids)
    if rows not in (total, chosen):
        part = "" if chosen == total else f", or for the {chosen} of them chosen here"
        raise UserError(
            f"ADVERSARIAL: {rows} rows, expected one for each of the {total} examples "
            f"of DATA{part}; give the data that the tool was given, in the same order."
        )
    taken = adversarial.chosen(ids) if rows == total else adversarial
    given = taken.row
    if math.prod(given) != math.prod(shape):
        raise UserError(
            f"ADVERSARIAL: inputs of shape {list(given)}, expected {list(shape)} as in "
            "DATA."
        )
    mine, theirs = _wide(shape), _wide(given)
    if mine != theirs and sorted(mine) == sorted(theirs):
        raise UserError(
            f"ADVERSARIAL: inputs of shape {list(given)}, expected {list(shape)} as in "
            "DATA; the axes are in another order: permute them."
        )
    return taken.seen_as(taken.dtype, shape)


def _wide(shape: tuple[int, ...]) -> list[int]:
    """The shape without its ones."""
    return [size for size in shape if size != 1]


def _file_and_key(source: str) -> tuple[str, str | None]:
    file, colon, key = source.rpartition(":")
    if colon and key and not Path(source).exists():
        return file, key
    return source, None
