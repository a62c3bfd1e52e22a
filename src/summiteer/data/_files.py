"""Files that a user names: found, unpacked and read, never run."""

import gzip
import zlib
from pathlib import Path

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from summiteer.errors import UserError

_CHUNK = 2**20


def existing(what: str, source: str, hint: str) -> Path:
    """Return the path of a file that is there.

    Args:
        what: the argument that named it.
        source: the file.
        hint: what may be given.

    Raises:
        UserError: it is not there or is a directory.
    """
    path = Path(source)
    if not path.is_file():
        state = "is a directory" if path.is_dir() else "does not exist"
        raise UserError(f"{what}: {path} {state}; {hint}.")
    return path


def read_bytes(what: str, path: Path, most: int) -> bytes:
    """Return at most `most` bytes of a file, unpacked where its name ends in .gz.

    Args:
        what: the argument that named it.
        path: of the file.
        most: a small file may claim or unpack to any size.

    Raises:
        UserError: it cannot be read or unpacked.
    """
    parts, left = [], most
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            # In pieces: to ask for all at once would reserve what a header claims.
            while left > 0 and (part := file.read(min(_CHUNK, left))):
                parts.append(part)
                left -= len(part)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{what}: {path} cannot be read: {error}.") from error
    return b"".join(parts)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file by name, or say what is wrong."""
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a readable .safetensors file: {error}"
        ) from error
