"""Models named on the command line: factories, and .onnx files.

Reading a file never runs code from it, the model factory that the user names excepted.
"""

import importlib
import importlib.util
import pickle
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from summiteer.data._files import existing, read_safetensors
from summiteer.data.onnx_file import load_onnx
from summiteer.errors import UserError


def load_model(source: str, weights: str | None = None) -> Any:
    """Return the model that is named on the command line.

    Args:
        source: `file.py:factory` or `package.module:factory`. The factory takes no
            arguments; an nn.Module under that name is taken as it is. Or `x.onnx`, see
            `load_onnx`.
        weights: a .safetensors or .pt file with its state dict; nothing is unpickled.

    Raises:
        UserError: the file, module, factory or weights cannot be used.
    """
    if source.endswith(".onnx"):
        if weights is not None:
            raise UserError(f"--weights: {source} has its own; leave them out.")
        return load_onnx(source).module
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name:
        raise UserError(
            "MODEL: expected file.py:factory, package.module:factory or x.onnx, got "
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
    path = existing("MODEL", place, "the part before the colon names a file")
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
    path = existing("--weights", source, "give a .safetensors or .pt file")
    if path.suffix == ".safetensors":
        state = read_safetensors(path)
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
