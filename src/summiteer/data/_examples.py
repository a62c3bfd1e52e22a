"""The examples that a command works on: looked at once, in blocks, before the start."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.cells import ArrayDigest
from summiteer.data.column import Column
from summiteer.data.dataset import Streamed
from summiteer.errors import UserError

#: So many numbers of examples are listed.
_SHOWN = 20
#: Seconds after which a reader is told what takes so long.
_LONG = 2.0


@dataclass(frozen=True, eq=False)
class Examples:
    """Examples as an attack takes them, and what one look at all of them said.

    Attributes:
        inputs: `[n, *input]` of the model's dtype and shape.
        targets: `[n, …]`, in memory.
        ids: `[n]` int64, their places in the data.
        digest: `digest_arrays` of inputs, targets and ids.
        low: the least number of all inputs.
        high: the largest.
        bad: places of those with NaN or infinity.
        outside: places of those outside the box that was asked for.
        notes: about what was changed.
    """

    inputs: Column
    targets: Tensor
    ids: Tensor
    digest: str
    low: float
    high: float
    bad: list[int]
    outside: list[int]
    notes: list[str]


def examples(
    data: Streamed,
    dtype: torch.dtype,
    limit: int | None = None,
    skip_bad: bool = False,
    shape: tuple[int, ...] | None = None,
    box: tuple[float, float] | None = None,
    say: Callable[[str], None] = lambda _: None,
) -> Examples:
    """Look at all examples once, block by block.

    Args:
        data: as opened.
        dtype: of the inputs, and of targets that are floats.
        limit: the first so many; all if None.
        skip_bad: whether to leave out examples with NaN or infinity.
        shape: of one input if the model says so; used where the count of numbers fits.
        box: that they should lie in, or None.
        say: is told where it takes long.

    Raises:
        UserError: these are no examples, or the limit is below 1.
    """
    inputs = data.inputs
    _check(data, limit)
    targets = data.targets.read(0, min(len(inputs), limit or len(inputs)))
    targets = targets.to(dtype if targets.is_floating_point() else torch.int64)
    ids = torch.arange(len(targets))
    given, notes = inputs.row, []
    if shape and shape != given and math.prod(shape) == math.prod(given):
        notes.append(f"inputs {list(given)} are given to the model as {list(shape)}")
    else:
        shape = given
    if torch.finfo(dtype).bits < 32 and inputs.dtype != dtype:
        names = [str(kind).removeprefix("torch.") for kind in (inputs.dtype, dtype)]
        notes.append(f"inputs {names[0]} are given to the model as {names[1]}")
    rows = inputs.seen_as(dtype, shape)
    seen = _looked(rows.chosen(ids), targets, ids, box, say)
    if seen.bad and skip_bad:
        good = torch.ones(len(ids), dtype=torch.bool)
        good[seen.bad] = False
        noun = "example" if len(seen.bad) == 1 else "examples"
        skipped = f"skipped {len(seen.bad)} {noun} with NaN or Inf: {_few(seen.bad)}"
        notes.insert(0, skipped)
        targets, ids = targets[good], ids[good]
        # Once more: the digest is that of the others alone.
        seen = _looked(rows.chosen(ids), targets, ids, box, say)
    return Examples(rows.chosen(ids), targets, ids, **vars(seen), notes=notes)


def _check(data: Streamed, limit: int | None) -> None:
    """What can be said before anything is read."""
    inputs, targets = data.inputs, data.targets
    if len(inputs.shape) < 2 or len(targets.shape) < 1:
        raise UserError(
            "DATA: expected inputs [n, *input] and targets [n, ...], got "
            f"{list(inputs.shape)} and {list(targets.shape)} in {data.name}."
        )
    if inputs.dtype.is_complex:
        raise UserError(f"DATA: expected real inputs, got {inputs.dtype}.")
    if len(inputs) != len(targets):
        raise UserError(
            f"DATA: {len(inputs)} inputs but {len(targets)} targets in {data.name}."
        )
    if limit is not None and limit < 1:
        raise UserError(f"--limit: expected an integer ≥ 1, got {limit}.")


@dataclass(frozen=True, eq=False)
class _Seen:
    """See `Examples`."""

    digest: str
    low: float
    high: float
    bad: list[int]
    outside: list[int]


def _looked(
    inputs: Column,
    targets: Tensor,
    ids: Tensor,
    box: tuple[float, float] | None,
    say: Callable[[str], None],
) -> _Seen:
    """One look at all inputs."""
    digest, low, high = ArrayDigest(), math.inf, -math.inf
    bad: list[int] = []
    outside: list[int] = []
    digest.begin("ids", ids.dtype, ids.shape)
    digest.add(ids)
    digest.begin("inputs", inputs.dtype, inputs.shape)
    began, told = time.monotonic(), False
    for first, rows in inputs.blocks():
        if not told and time.monotonic() - began > _LONG:
            told = True
            say(f"reading all {len(inputs)} examples of DATA once, to check them")
        digest.add(rows)
        flat = rows.flatten(1)
        good = flat.isfinite().all(1)
        bad += ids[first + (~good).nonzero().flatten()].tolist()
        flat = flat[good]
        if flat.numel():
            low, high = min(low, float(flat.min())), max(high, float(flat.max()))
        if box is not None:
            out = ((rows < box[0]) | (rows > box[1])).flatten(1).any(1) & good
            outside += ids[first + out.nonzero().flatten()].tolist()
    digest.begin("targets", targets.dtype, targets.shape)
    digest.add(targets)
    return _Seen(digest.name(), low, high, bad, outside)


def _few(numbers: list[int]) -> str:
    """The first of them: a reader needs no thousand."""
    more = f" and {len(numbers) - _SHOWN} more" if len(numbers) > _SHOWN else ""
    return f"{numbers[:_SHOWN]}{more}"


def found_box(low: float, high: float) -> tuple[tuple[float, float] | None, str]:
    """Return the box that the data lie in, and a note on why it was chosen.

    Args:
        low: the least number of all inputs.
        high: the largest.
    """
    if low >= 0 and high <= 1:
        return (0.0, 1.0), "box 0,1 (the data lie there)"
    note = f"box none (the data span {low:g} … {high:g}); --box LO,HI keeps them inside"
    if low >= 0 and 2 < high <= 255:
        note += "\nthese look like pixels 0..255: is --radius in the same units?"
    return None, note
