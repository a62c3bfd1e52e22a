"""Users' and bundled data, and models named on the command line.

Reading a file never runs code from it, the model factory that the user names excepted.
"""

import importlib
import importlib.util
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from summiteer.errors import UserError


@dataclass(frozen=True, eq=False)
class Dataset:
    """Examples to attack.

    Attributes:
        name: the bundled name or the file.
        inputs: `[n, *input]` float64 or as stored.
        targets: `[n, …]` integer labels or floats.
    """

    name: str
    inputs: Tensor
    targets: Tensor


def _digits() -> tuple[np.ndarray, np.ndarray]:
    """8×8 handwritten digits, pixels/16 in [0, 1] (`alpaydin1998optical`)."""
    from sklearn.datasets import load_digits

    inputs, labels = load_digits(return_X_y=True)
    return inputs / 16.0, labels


def _diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Regression: ten standardised features, standardised target."""
    from sklearn.datasets import load_diabetes

    inputs, targets = load_diabetes(return_X_y=True)
    return inputs, (targets - targets.mean()) / targets.std()


def _breast_cancer() -> tuple[np.ndarray, np.ndarray]:
    """Two classes, thirty features, each scaled to [0, 1]."""
    from sklearn.datasets import load_breast_cancer

    inputs, labels = load_breast_cancer(return_X_y=True)
    low, high = inputs.min(0), inputs.max(0)
    return (inputs - low) / (high - low), labels


BUNDLED: dict[str, Callable[[], tuple[np.ndarray, np.ndarray]]] = {
    "digits": _digits,
    "diabetes": _diabetes,
    "breast-cancer": _breast_cancer,
}


def load_data(source: str) -> Dataset:
    """Return the data named on the command line.

    Args:
        source: a name in `BUNDLED`, or an .npz or .safetensors file with `inputs` and
            `targets` (or `labels`).

    Raises:
        UserError: no such file, another format, missing entries, pickled objects.
    """
    if source in BUNDLED:
        arrays = BUNDLED[source]()
        return Dataset(source, *(torch.from_numpy(np.array(a)) for a in arrays))
    path = _existing("DATA", source, f"or one of {', '.join(BUNDLED)}")
    readers = {".npz": _read_npz, ".safetensors": _read_safetensors}
    if path.suffix not in readers:
        raise UserError(
            f"DATA: {path} must be .npz or .safetensors with `inputs` and `targets`, "
            f"or one of {', '.join(BUNDLED)}."
        )
    tensors = readers[path.suffix](path)
    if "targets" not in tensors and "labels" in tensors:
        tensors["targets"] = tensors["labels"]
    missing = [name for name in ("inputs", "targets") if name not in tensors]
    if missing:
        raise UserError(
            f"DATA: {path} lacks {' and '.join(missing)}; it has "
            f"{', '.join(sorted(tensors)) or 'nothing'}."
        )
    return Dataset(source, tensors["inputs"], tensors["targets"])


def _read_npz(path: Path) -> dict[str, Tensor]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: torch.from_numpy(archive[name]) for name in archive.files}
    except (ValueError, TypeError) as error:
        raise UserError(
            f"DATA: {path} holds something other than plain arrays of numbers "
            f"({error}); save it with numpy.savez(inputs=..., targets=...)."
        ) from error
    except (OSError, zipfile.BadZipFile, EOFError) as error:
        raise UserError(f"DATA: {path} is not a readable .npz file: {error}") from error


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(
            f"{path} is not a readable .safetensors file: {error}"
        ) from error


def load_model(source: str, weights: str | None = None) -> Any:
    """Return the model that a factory named on the command line makes.

    Args:
        source: `file.py:factory` or `package.module:factory`. The factory takes no
            arguments; an nn.Module under that name is taken as it is.
        weights: a .safetensors or .pt file with its state dict; nothing is unpickled.

    Raises:
        UserError: the file, module, factory or weights cannot be used.
    """
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name:
        raise UserError(
            "MODEL: expected file.py:factory or package.module:factory, got "
            f"{source!r}."
        )
    file = place.endswith(".py")
    module = _load_file(place) if file else _load_package(place)
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if _ours(value, module)]
        raise UserError(
            f"MODEL: {place} has no {name!r}; it defines "
            f"{', '.join(sorted(public)) or 'nothing callable'}."
        )
    model = getattr(module, name)
    if not isinstance(model, nn.Module):
        if not callable(model):
            raise UserError(f"MODEL: {source} is not a factory (not callable).")
        try:
            # A factory may import its neighbours only when it runs.
            with _searching(Path(place).resolve().parent if file else Path.cwd()):
                model = model()
        except Exception as error:
            raise UserError(
                f"MODEL: {source}() failed: {type(error).__name__}: {error}"
            ) from error
    if not callable(model):
        raise UserError(
            f"MODEL: {source}() returned {type(model).__name__}; expected an nn.Module "
            "or a callable."
        )
    if weights is not None:
        _load_weights(model, weights)
    return model


def _ours(value: object, module: object) -> bool:
    home = getattr(value, "__module__", None)
    return callable(value) and home == getattr(module, "__name__", None)


def _load_file(place: str) -> object:
    path = _existing("MODEL", place, "the part before the colon names a file")
    spec = importlib.util.spec_from_file_location(f"summiteer_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"MODEL: {path} cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(spec)
    with _searching(path.resolve().parent):
        # Classes defined there can then be pickled for worker processes.
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[spec.name]
            raise UserError(
                f"MODEL: running {path} failed: {type(error).__name__}: {error}"
            ) from error
    return module


def _load_package(place: str) -> object:
    with _searching(Path.cwd()):
        try:
            return importlib.import_module(place)
        except Exception as error:
            raise UserError(
                f"MODEL: importing {place} failed: {type(error).__name__}: {error}"
            ) from error


@contextmanager
def _searching(folder: Path) -> Iterator[None]:
    """Look for modules in `folder` first, as `python file.py` would."""
    before = list(sys.path)
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path[:] = before


def _load_weights(model: object, source: str) -> None:
    if not isinstance(model, nn.Module):
        raise UserError(
            f"--weights: only an nn.Module takes weights, got {type(model).__name__}."
        )
    path = _existing("--weights", source, "give a .safetensors or .pt file")
    if path.suffix == ".safetensors":
        state = _read_safetensors(path)
    else:
        state = _read_checkpoint(path)
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        detail = " ".join(str(error).split())
        raise UserError(
            f"--weights: {path} does not fit the model: {detail}"
        ) from error


def _read_checkpoint(path: Path) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            # A foreign pickle protocol: it loads, or is refused below in our words.
            warnings.simplefilter("ignore")
            state = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"--weights: {path} needs pickled code to load, which could run anything, "
            "so it is refused; save the state dict: torch.save(model.state_dict(), …) "
            "or a .safetensors file."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError, KeyError) as error:
        detail = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(
            f"--weights: {path} is not a readable file: {detail}"
        ) from error
    if isinstance(state, dict) and isinstance(state.get("state_dict"), dict):
        state = state["state_dict"]
    if not isinstance(state, dict) or not all(
        isinstance(value, Tensor) for value in state.values()
    ):
        raise UserError(
            f"--weights: {path} holds no state dict (name -> tensor); save "
            "model.state_dict()."
        )
    return cast("dict[str, Tensor]", state)


def _existing(what: str, source: str, hint: str) -> Path:
    path = Path(source)
    if not path.is_file():
        state = "is a directory" if path.is_dir() else "does not exist"
        raise UserError(f"{what}: {path} {state}; {hint}.")
    return path
