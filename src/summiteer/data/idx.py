"""A folder of idx files, the format that MNIST and its relatives come in."""

import math
import struct
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from summiteer.data._files import read_bytes
from summiteer.errors import UserError

#: What a folder of idx files may be asked for; the first if nothing is said.
SPLITS = ("t10k", "train")
_UNSIGNED_BYTE = 0x08
#: No more unpacked bytes than this are believed.
_MOST = 2**33


def read_idx(folder: Path, split: str) -> tuple[Tensor, Tensor]:
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
    pixels = _array(_file(folder, f"{split}-images", "idx3-ubyte"), 3)
    labels = _array(_file(folder, f"{split}-labels", "idx1-ubyte"), 1)
    if len(pixels) != len(labels):
        raise UserError(
            f"DATA: {folder} holds {len(pixels)} {split} images but {len(labels)} "
            "labels; expected one label per image."
        )
    inputs = torch.from_numpy(pixels)[:, None].to(torch.float32).div_(255)
    return inputs, torch.from_numpy(labels).long()


def _file(folder: Path, stem: str, kind: str) -> Path:
    names = [f"{stem}{dash}{kind}{end}" for end in ("", ".gz") for dash in "-."]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise UserError(
        f"DATA: {folder} is a directory without {names[0]} or {names[2]}; expected "
        f"the idx files of MNIST (FOLDER or FOLDER:{SPLITS[1]}), or an .npz file."
    )


def _array(path: Path, dimensions: int) -> np.ndarray:
    """The unsigned bytes of one idx file, its header checked against its length."""
    length = 4 + 4 * dimensions
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
    content = read_bytes("DATA", path, length + count + 1)
    if len(content) != length + count:
        word = "has more than" if len(content) > length + count else "is truncated: of"
        rest = "" if word[0] == "h" else f" it has {len(content) - length}"
        raise UserError(
            f"DATA: {path} {word} the {count} bytes of its shape {list(shape)}{rest}; "
            "get the file again."
        )
    # A copy, because torch shares memory only with arrays that may be written.
    return np.frombuffer(content, np.uint8, count, length).reshape(shape).copy()
