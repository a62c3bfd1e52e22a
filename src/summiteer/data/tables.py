"""Tables of arrays: .npz, .npy, .safetensors and .pt files, opened and checked."""

import json
import math
import struct
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import safetensors
import torch
from safetensors import SafetensorError
from torch import Tensor

from summiteer.data._files import check_zip, first_line, read_torch
from summiteer.data.column import (
    Column,
    Filed,
    Held,
    Stretch,
    opened_plain,
    state_of,
)
from summiteer.errors import UserError

#: Formats of `open_tensors`.
TABLES = (".npz", ".npy", ".safetensors", ".pt", ".pth")
#: What a .safetensors file calls its numbers.
_SAFE_DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}


def open_tensors(what: str, path: Path) -> dict[str, Column]:
    """Return the tensors of a file by name; a bare one has the name "".

    Only heads are read, but of .pt files and arrays in the order of columns: these are
    in memory as a whole.

    Args:
        what: the argument that named it.
        path: one of `TABLES`.

    Raises:
        UserError: it is another file, would run code, or claims what it does not hold.
    """
    readers = {
        ".npz": _open_npz,
        ".npy": _open_npy,
        ".safetensors": _open_safetensors,
        ".pt": _open_torch,
        ".pth": _open_torch,
    }
    if path.suffix not in readers:
        raise UserError(f"{what}: {path} must be one of {', '.join(TABLES)}.")
    return readers[path.suffix](what, path)


class _Head(NamedTuple):
    """What the head of an array says, checked against the bytes that there are."""

    shape: tuple[int, ...]
    columns: bool
    dtype: np.dtype[Any]
    length: int

    @property
    def size(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def _open_npz(what: str, path: Path) -> dict[str, Column]:
    check_zip(what, path, path.stat().st_size)
    state = state_of(what, path)
    columns: dict[str, Column] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                with archive.open(member) as file:
                    head = _head(what, path, name, file, member.file_size)
                columns[name] = _member(what, path, member, head, state)
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise what they meet
        raise UserError(
            f"{what}: {path} is not a readable .npz file: {first_line(error)}"
        ) from error
    return columns


def _member(
    what: str, path: Path, member: zipfile.ZipInfo, head: _Head, state: tuple[int, int]
) -> Column:
    """An array of an archive: where it was not packed, at its place in the file."""
    start, check = head.length, None
    opened: Callable[[], IO[bytes]] = partial(_unzipped, path, member.filename)
    if member.compress_type == zipfile.ZIP_STORED and not member.flag_bits & 1:
        opened = partial(opened_plain, path)
        with opened() as file:
            file.seek(member.header_offset + 26)
            # A local head of 30 bytes, the last four of which say how it goes on.
            sizes = struct.unpack("<2H", file.read(4))
            begin = member.header_offset + 30 + sum(sizes)
            file.seek(begin)
            before = zlib.crc32(file.read(head.length))
        start = begin + head.length
        if head.length + head.size == member.file_size:
            check = (before, member.CRC)
    return _column(what, path, head, start, opened, state, check)


def _unzipped(path: Path, name: str) -> IO[bytes]:
    return zipfile.ZipFile(path).open(name)


def _open_npy(what: str, path: Path) -> dict[str, Column]:
    state = state_of(what, path)
    try:
        with path.open("rb") as file:
            head = _head(what, path, "", file, state[0])
    except (OSError, EOFError) as error:
        raise UserError(
            f"{what}: {path} is not a readable .npy file: {first_line(error)}"
        ) from error
    if head.length + head.size > state[0]:
        raise UserError(f"{what}: {path} is truncated; get the file again.")
    opened = partial(opened_plain, path)
    return {"": _column(what, path, head, head.length, opened, state, None)}


def _head(what: str, path: Path, name: str, file: IO[bytes], size: int) -> _Head:
    """The head of an array in a file of `size` bytes."""
    try:
        version = np.lib.format.read_magic(file)
        read = (
            np.lib.format.read_array_header_1_0
            if version == (1, 0)
            else np.lib.format.read_array_header_2_0
        )
        shape, columns, dtype = read(file)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise UserError(
            f"{what}: {path} does not hold arrays in NumPy's format: "
            f"{first_line(error)}"
        ) from error
    if dtype.hasobject or dtype.kind not in "biufc":
        raise UserError(f"{what}: {_no_numbers(path, name, dtype)}.")
    head = _Head(shape, columns, dtype, file.tell())
    if min(shape, default=0) < 0 or head.size > size:
        raise UserError(
            f"{what}: {path} is truncated or false: its header claims the shape "
            f"{list(shape)} of {dtype}, {head.size} bytes, and it has {size}."
        )
    return head


def _column(
    what: str,
    path: Path,
    head: _Head,
    start: int,
    opened: Callable[[], IO[bytes]],
    state: tuple[int, int],
    check: tuple[int, int] | None,
) -> Column:
    """The rows of an array; all at once where they are not one after the other."""
    shape, native = head.shape, head.dtype.newbyteorder("=")

    def decoded(content: bytearray) -> Tensor:
        numbers = np.frombuffer(content, head.dtype)
        return torch.from_numpy(numbers.astype(native, copy=False))

    rows = math.prod(shape[1:]) * head.dtype.itemsize
    stretch = Stretch(what, path, start, rows, opened, state, decoded, check=check)
    dtype = torch.from_numpy(np.empty(0, native)).dtype
    if not (head.columns and len(shape) > 1):
        return Filed(shape, dtype, stretch)
    turned = Filed(shape[::-1], dtype, replace(stretch, row_bytes=_rest(shape, native)))
    return Held.of(turned.whole().permute(*range(len(shape))[::-1]).contiguous())


def _rest(shape: tuple[int, ...], dtype: np.dtype[Any]) -> int:
    """Bytes of one entry of the last axis."""
    return math.prod(shape[:-1]) * dtype.itemsize


def _open_safetensors(what: str, path: Path) -> dict[str, Column]:
    state = state_of(what, path)
    try:
        # Its reader checks the head: names, dtypes, and places within the file.
        with safetensors.safe_open(path, framework="pt") as file:
            names = list(file.keys())
            shapes = {n: tuple(file.get_slice(n).get_shape()) for n in names}
        with path.open("rb") as raw:
            length = int.from_bytes(raw.read(8), "little")
            head = json.loads(raw.read(length))
        kinds = {name: _SAFE_DTYPES[head[name]["dtype"]] for name in shapes}
    except KeyError as error:
        raise UserError(
            f"{what}: {path} holds numbers of a kind that is not read here: {error}."
        ) from error
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"{what}: {path} is not a readable .safetensors file: {first_line(error)}"
        ) from error
    columns: dict[str, Column] = {}
    for name, shape in shapes.items():
        dtype = kinds[name]
        stretch = Stretch(
            what,
            path,
            8 + length + head[name]["data_offsets"][0],
            math.prod(shape[1:]) * dtype.itemsize,
            partial(opened_plain, path),
            state,
            partial(torch.frombuffer, dtype=dtype),
        )
        columns[name] = Filed(shape, dtype, stretch)
    return columns


def _no_numbers(path: Path, name: str, dtype: np.dtype[Any]) -> str:
    """What an array holds in place of numbers, and what to do."""
    place = f"`{name}` in {path}" if name else f"{path}"
    if dtype.hasobject:
        return (
            f"{place} holds something other than plain arrays of numbers ({dtype}); "
            "objects would have to be unpickled, which could run anything"
        )
    kind = "text" if dtype.kind in "US" else "no plain array of numbers"
    return f"{place} is {kind} ({dtype}); save numbers, classes as 0, 1, …"


def _open_torch(what: str, path: Path) -> dict[str, Column]:
    return {name: Held.of(values) for name, values in read_torch(what, path).items()}
