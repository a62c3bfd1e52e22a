"""Files that a user names: found, unpacked and read, never run.

What a header claims is compared with what is there before memory is taken for it.
"""

import gzip
import math
import pickle
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from summiteer.errors import UserError

_CHUNK = 2**20
#: More bytes than this, unpacked from fewer than 1/_RATIO of them, are a bomb: deflate
#: packs zeros by 1032, the emptiest of real images by less than 100.
_HARMLESS, _RATIO = 2**28, 200
#: Formats of `read_tensors`.
TABLES = (".npz", ".npy", ".safetensors", ".pt", ".pth")
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
                    _check_bomb(what, path, most - left, size)
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{what}: {path} cannot be read: {error}.") from error
    return b"".join(parts)


def read_tensors(what: str, path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name; a bare one has the name "".

    Args:
        what: the argument that named it.
        path: one of `TABLES`.

    Raises:
        UserError: it is another file, would run code, or claims what it does not hold.
    """
    readers = {
        ".npz": _read_npz,
        ".npy": _read_npy,
        ".safetensors": read_safetensors,
        ".pt": _read_torch,
        ".pth": _read_torch,
    }
    if path.suffix not in readers:
        raise UserError(f"{what}: {path} must be one of {', '.join(TABLES)}.")
    return readers[path.suffix](what, path)


def read_state(what: str, path: Path) -> dict[str, Tensor]:
    """Return a state dict, wherever in a .safetensors or .pt file it is.

    Args:
        what: the argument that named it.
        path: of the file.

    Raises:
        UserError: see `read_tensors`.
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
            f"{what}: {path} is not a readable .safetensors file: {_line(error)}"
        ) from error


def _read_npz(what: str, path: Path) -> dict[str, Tensor]:
    _check_zip(what, path, path.stat().st_size)
    tensors = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                with archive.open(member) as file:
                    name = member.filename.removesuffix(".npy")
                    tensors[name] = _array(what, path, name, file, member.file_size)
    except UserError:
        raise
    except Exception as error:  # zipfile, zlib and numpy raise what they meet
        raise UserError(
            f"{what}: {path} is not a readable .npz file: {_line(error)}"
        ) from error
    return tensors


def _read_npy(what: str, path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            return {"": _array(what, path, "", file, path.stat().st_size)}
    except (OSError, EOFError) as error:
        raise UserError(
            f"{what}: {path} is not a readable .npy file: {_line(error)}"
        ) from error


def _array(what: str, path: Path, name: str, file: IO[bytes], size: int) -> Tensor:
    """One array of a file of `size` bytes, its header checked against them."""
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
            f"{what}: {path} does not hold arrays in NumPy's format: {_line(error)}"
        ) from error
    if dtype.hasobject or dtype.kind not in "biufc":
        raise UserError(f"{what}: {_no_numbers(path, name, dtype)}.")
    claimed = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or claimed > size:
        raise UserError(
            f"{what}: {path} is truncated or false: its header claims the shape "
            f"{list(shape)} of {dtype}, {claimed} bytes, and it has {size}."
        )
    content = file.read(claimed)
    if len(content) != claimed:
        raise UserError(f"{what}: {path} is truncated; get the file again.")
    flat = np.frombuffer(content, dtype)
    array = flat.reshape(shape[::-1]).T if columns else flat.reshape(shape)
    # In the machine's order of bytes, and a copy that may be written.
    return torch.from_numpy(array.astype(dtype.newbyteorder("="), order="C"))


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


def _read_torch(what: str, path: Path) -> dict[str, Tensor]:
    return _tensors_in(what, path, _load_torch(what, path), bare=True)


def _load_torch(what: str, path: Path) -> Any:
    """What a .pt file holds, without running code from it."""
    if zipfile.is_zipfile(path):
        _check_zip(what, path, path.stat().st_size)
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
            f"{what}: {path} is not a readable file: {_line(error)}"
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


def _check_zip(what: str, path: Path, size: int) -> None:
    """Refuse an archive that unpacks to very much."""
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
            f"{what}: {path} is not a readable {path.suffix} file: {_line(error)}"
        ) from error
    _check_bomb(what, path, unpacked, size)


def _check_bomb(what: str, path: Path, unpacked: int, size: int) -> None:
    if unpacked > max(_HARMLESS, _RATIO * size):
        raise UserError(
            f"{what}: {path} has {size} bytes and unpacks to {unpacked} or more, which "
            "is refused; if it is meant so, save it without compression."
        )


def _line(error: BaseException) -> str:
    """The first line of an error, no longer than a reader bears."""
    text = str(error).strip().splitlines() or [""]
    return (text[0] or type(error).__name__)[:200].rstrip(".") + "."
