"""Files that a user names: found, unpacked and read, never run.

What a header claims is compared with what is there before memory is taken for it.
"""

import gzip
import pickle
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from summiteer.errors import UserError

_CHUNK = 2**20
#: More bytes than this, unpacked from fewer than 1/_RATIO of them, are a bomb: deflate
#: packs zeros by 1032, the emptiest of real images by less than 100.
_HARMLESS, _RATIO = 2**28, 200
#: Where training loops put a state dict beside other things.
_STATES = ("state_dict", "model_state_dict", "model", "net")


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
        UserError: it cannot be read or unpacked, or unpacks to very much.
    """
    parts, left = [], most
    packed = path.suffix == ".gz"
    try:
        size = path.stat().st_size
        with gzip.open(path) if packed else path.open("rb") as file:
            # In pieces: to ask for all at once would reserve what a header claims.
            while left > 0 and (part := file.read(min(_CHUNK, left))):
                parts.append(part)
                left -= len(part)
                if packed:
                    check_bomb(what, path, most - left, size)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{what}: {path} cannot be read: {error}.") from error
    return b"".join(parts)


def read_state(what: str, path: Path) -> dict[str, Tensor]:
    """Return a state dict, wherever in a .safetensors or .pt file it is.

    Args:
        what: the argument that named it.
        path: of the file.

    Raises:
        UserError: see `summiteer.data.tables.open_tensors`.
    """
    if path.suffix in (".npz", ".npy"):
        raise UserError(f"{what}: {path} is no checkpoint; give .safetensors or .pt.")
    if path.suffix == ".safetensors":
        return read_safetensors(what, path)
    # Whatever its name ends in: checkpoints have many.
    return _tensors_in(what, path, _load_torch(what, path), bare=False)


def read_safetensors(what: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .safetensors file by name, or say what is wrong.

    Args:
        what: the argument that named it.
        path: of the file.

    Raises:
        UserError: it is no such file.
    """
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise UserError(
            f"{what}: {path} is not a readable .safetensors file: {first_line(error)}"
        ) from error


def read_torch(what: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a .pt file by name; a bare one has the name "".

    Args:
        what: the argument that named it.
        path: of the file.

    Raises:
        UserError: it would run code, or holds something else.
    """
    return _tensors_in(what, path, _load_torch(what, path), bare=True)


def _load_torch(what: str, path: Path) -> Any:
    """What a .pt file holds, without running code from it."""
    if zipfile.is_zipfile(path):
        check_zip(what, path, path.stat().st_size)
    try:
        with warnings.catch_warnings():
            # A foreign pickle protocol: it loads, or is refused below in our words.
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{what}: {path} needs pickled code to load, which could run anything, "
            "so it is refused; save tensors only: torch.save(model.state_dict(), …) "
            "or a .safetensors file."
        ) from error
    except Exception as error:  # a hostile file meets any error of the unpickler
        raise UserError(
            f"{what}: {path} is not a readable file: {first_line(error)}"
        ) from error


def _tensors_in(what: str, path: Path, held: Any, *, bare: bool) -> dict[str, Tensor]:
    """The tensors of what torch.load gave."""
    if isinstance(held, Tensor) and bare:
        held = {"": held}
    for name in _STATES:
        if isinstance(held, dict) and isinstance(held.get(name), dict):
            held = held[name]
    if bare and isinstance(held, dict):
        # What tools write beside their tensors: names, counts, settings.
        beside = (str, int, float, bool, type(None))
        held = {name: x for name, x in held.items() if type(x) not in beside}
    named = isinstance(held, dict) and all(
        type(value) in (Tensor, nn.Parameter) for value in held.values()
    )
    if not held or not named or not all(isinstance(name, str) for name in held):
        content = "tensors" if bare else "no state dict (name -> tensor)"
        wanted = "expected names and tensors" if bare else "save model.state_dict()"
        has = "does not hold" if bare else "holds"
        raise UserError(f"{what}: {path} {has} {content}; {wanted}.")
    for name, tensor in held.items():
        _check_tensor(what, path, name, tensor)
    return {name: tensor.detach() for name, tensor in held.items()}


def _check_tensor(what: str, path: Path, name: str, tensor: Tensor) -> None:
    plain = tensor.layout is torch.strided and tensor.device.type == "cpu"
    if not plain or tensor.is_quantized:
        raise UserError(
            f"{what}: {path}: {name!r} is a {tensor.layout} tensor on "
            f"{tensor.device}; expected a dense one with its numbers."
        )
    claimed = tensor.numel() * tensor.element_size()
    # Strides of zero let one number claim any size.
    if claimed > max(_HARMLESS, tensor.untyped_storage().nbytes()):
        raise UserError(
            f"{what}: {path}: {name!r} claims the shape {list(tensor.shape)} but holds "
            f"{tensor.untyped_storage().nbytes()} bytes."
        )


def check_zip(what: str, path: Path, size: int) -> None:
    """Refuse an archive that unpacks to very much.

    Args:
        what: the argument that named it.
        path: of the archive.
        size: its bytes.

    Raises:
        UserError: it does, or is no archive.
    """
    if not size:
        raise UserError(f"{what}: {path} is not a readable file: it is empty.")
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise UserError(
            f"{what}: {path} is not a readable {path.suffix} file: it is truncated, or "
            "another format under this name."
        ) from error
    except Exception as error:  # zipfile raises what a broken directory makes it meet
        raise UserError(
            f"{what}: {path} is not a readable {path.suffix} file: {first_line(error)}"
        ) from error
    check_bomb(what, path, unpacked, size)


def check_bomb(what: str, path: Path, unpacked: int, size: int) -> None:
    """Refuse what unpacks to very much.

    Args:
        what: the argument that named it.
        path: of the file.
        unpacked: bytes that it has, or claims to have, unpacked.
        size: its bytes.

    Raises:
        UserError: it does.
    """
    if unpacked > max(_HARMLESS, _RATIO * size):
        raise UserError(
            f"{what}: {path} has {size} bytes and unpacks to {unpacked} or more, which "
            "is refused; if it is meant so, save it without compression."
        )


def first_line(error: BaseException) -> str:
    """Return the first line of an error, no longer than a reader bears.

    Args:
        error: any.
    """
    text = str(error).strip().splitlines() or [""]
    return (text[0] or type(error).__name__)[:200].rstrip(".") + "."
