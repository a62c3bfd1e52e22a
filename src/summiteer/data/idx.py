"""A folder of idx files, the format that MNIST and its relatives come in."""

import gzip
import math
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import IO, cast

import torch
from torch import Tensor

from summiteer.data._files import check_bomb, read_bytes
from summiteer.data.column import Column, Filed, Stretch, opened_plain, state_of
from summiteer.errors import UserError

#: What a folder of idx files may be asked for; the first if nothing is said.
SPLITS = ("t10k", "train")
_UNSIGNED_BYTE = 0x08
#: No more unpacked bytes than this are believed.
_MOST = 2**33


def open_idx(folder: Path, split: str) -> tuple[Column, Column]:
    """Return images and labels of one split.

    The files are SPLIT-images-idx3-ubyte and SPLIT-labels-idx1-ubyte, or with a dot
    for the second dash, plain or with .gz.

    Args:
        folder: that holds them.
        split: one of `SPLITS`.

    Returns:
        inputs `[n, 1, height, width]` float32 = pixels/255 and labels `[n]` int64.

    Raises:
        UserError: a file is missing, truncated or something else.
    """
    pixels = _array(_file(folder, f"{split}-images", "idx3-ubyte"), 3, _unit)
    labels = _array(_file(folder, f"{split}-labels", "idx1-ubyte"), 1, Tensor.long)
    if len(pixels) != len(labels):
        raise UserError(
            f"DATA: {folder} holds {len(pixels)} {split} images but {len(labels)} "
            "labels; expected one label per image."
        )
    return pixels.seen_as(pixels.dtype, (1, *pixels.row)), labels


def _unit(pixels: Tensor) -> Tensor:
    return pixels.to(torch.float32).div_(255)


def _file(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{dash}{kind}{end}" for end in ("", ".gz") for dash in "-."]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"DATA: {folder} is a directory without {names[0]} or {names[2]}; expected "
        f"the idx files of MNIST (FOLDER or FOLDER:{SPLITS[1]}), or an .npz file."
    )


def _array(path: Path, dimensions: int, meant: Callable[[Tensor], Tensor]) -> Column:
    """The unsigned bytes of one idx file, its header checked against its length."""
    length = 4 + 4 * dimensions
    state = state_of("DATA", path)
    header = read_bytes("DATA", path, length)
    magic = bytes([0, 0, _UNSIGNED_BYTE, dimensions])
    if len(header) < length or header[:4] != magic:
        raise UserError(
            f"DATA: {path} is not an idx file of unsigned bytes in {dimensions} "
            f"dimensions: expected it to begin with {magic.hex()}, got "
            f"{header[:4].hex() or 'nothing'} ({len(header)} bytes of header)."
        )
    shape = struct.unpack(f">{dimensions}I", header[4:])
    count = math.prod(shape)
    if not 0 < count < _MOST:
        raise UserError(
            f"DATA: {path} claims the shape {list(shape)}; expected at least one "
            f"example and fewer than {_MOST} bytes."
        )
    packed = path.suffix == ".gz"
    if packed:
        check_bomb("DATA", path, length + count, state[0])
    elif state[0] != length + count:
        word = "has more than" if state[0] > length + count else "is truncated: of"
        rest = "" if word[0] == "h" else f" it has {state[0] - length}"
        raise UserError(
            f"DATA: {path} {word} the {count} bytes of its shape {list(shape)}{rest}; "
            "get the file again."
        )

    def decoded(content: bytearray) -> Tensor:
        return meant(torch.frombuffer(content, dtype=torch.uint8))

    opened: Callable[[], IO[bytes]] = partial(opened_plain, path)
    if packed:
        opened = partial(_unpacked, path)
    row = math.prod(shape[1:])
    stretch = Stretch("DATA", path, length, row, opened, state, decoded, packed)
    return Filed(shape, meant(torch.empty(0, dtype=torch.uint8)).dtype, stretch)


def _unpacked(path: Path) -> IO[bytes]:
    return cast("IO[bytes]", gzip.open(path))
