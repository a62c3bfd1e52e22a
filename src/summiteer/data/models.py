"""Models named on the command line: factories, and .onnx files.

Reading a file never runs code from it, the model factory that the user names excepted.
"""

import importlib
import importlib.util
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from summiteer.data._files import existing, read_state
from summiteer.data.onnx_file import load_onnx
from summiteer.errors import SummiteerWarning, UserError

#: What wrappers put before the names of a state dict.
_WRAPPERS = ("module.", "_orig_mod.")
#: So many names of each kind are shown.
_FEW = 4


def load_model(source: str, weights: str | None = None) -> Any:
    """Return the model that is named on the command line.

    Args:
        source: `file.py:factory` or `package.module:factory`. The factory takes no
            arguments; an nn.Module under that name is taken as it is. Or `x.onnx`, see
            `load_onnx`.
        weights: a .safetensors or .pt file with its state dict, there by itself or
            under `state_dict`, `model_state_dict`, `model` or `net`; names may all
            begin with what nn.DataParallel or torch.compile put there. Nothing in the
            file is run.

    Raises:
        UserError: the file, module, factory or weights cannot be used.

    Warns:
        SummiteerWarning: names were changed, or weights are NaN or infinite.
    """
    if source.endswith(".onnx"):
        if weights is not None:
            raise UserError(f"--weights: {source} has its own; leave them out.")
        return load_onnx(source).module
    model = _made(source)
    if weights is not None:
        _load_weights(model, weights)
    _say_non_finite(model, weights or source)
    return model


def named_object(argument: str, source: str) -> object:
    """Return what a user named in a file or package of theirs, which is run for it.

    Args:
        argument: that named it, for messages.
        source: `file.py:name` or `package.module:name`.

    Raises:
        UserError: the file, module or name cannot be used.
    """
    place, colon, name = source.rpartition(":")
    if not colon or not place or not name:
        what, more = ("factory", " or x.onnx") if argument == "MODEL" else ("name", "")
        raise UserError(
            f"{argument}: expected file.py:{what}, package.module:{what}{more}, got "
            f"{source!r}."
        )
    file = place.endswith(".py")
    module = _load_file(argument, place) if file else _load_package(argument, place)
    if not hasattr(module, name):
        public = [key for key, value in vars(module).items() if _ours(value, module)]
        raise UserError(
            f"{argument}: {place} has no {name!r}; it defines "
            f"{', '.join(sorted(public)) or 'nothing callable'}."
        )
    found: object = getattr(module, name)
    return found


def _made(source: str) -> Any:
    """What the factory returned."""
    model = named_object("MODEL", source)
    if not isinstance(model, nn.Module):
        if not callable(model):
            raise UserError(f"MODEL: {source} is not a factory (not callable).")
        place = source.rpartition(":")[0]
        file = place.endswith(".py")
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
    return model


def _ours(value: object, module: object) -> bool:
    home = getattr(value, "__module__", None)
    return callable(value) and home == getattr(module, "__name__", None)


def _load_file(argument: str, place: str) -> object:
    path = existing(argument, place, "the part before the colon names a file")
    spec = importlib.util.spec_from_file_location(f"summiteer_user_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise UserError(f"{argument}: {path} cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(spec)
    with _searching(path.resolve().parent):
        # Classes defined there can then be pickled for worker processes.
        sys.modules[spec.name] = module
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            del sys.modules[spec.name]
            raise UserError(
                f"{argument}: running {path} failed: {type(error).__name__}: {error}"
            ) from error
    return module


def _load_package(argument: str, place: str) -> object:
    with _searching(Path.cwd()):
        try:
            return importlib.import_module(place)
        except Exception as error:
            raise UserError(
                f"{argument}: importing {place} failed: {type(error).__name__}: {error}"
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
    own = model.state_dict()
    state = _without_prefix(read_state("--weights", path), own)
    wrong = _mismatches(state, own)
    if wrong:
        raise UserError(
            f"--weights: {path} does not fit the model: {'; '.join(wrong)}."
        )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:  # the model may have its own idea of its state
        detail = " ".join(str(error).split())[:500]
        raise UserError(
            f"--weights: {path} does not fit the model: {detail}"
        ) from error


def _without_prefix(
    state: dict[str, Tensor], own: Mapping[str, object]
) -> dict[str, Tensor]:
    """The state without what a wrapper put before all its names.

    nn.DataParallel puts `module.`, torch.compile `_orig_mod.`.
    """
    for prefix in _WRAPPERS:
        ours = any(name.startswith(prefix) for name in own)
        if state and not ours and all(name.startswith(prefix) for name in state):
            warnings.warn(
                f"--weights: the prefix {prefix!r} of all names was left out.",
                SummiteerWarning,
                stacklevel=2,
            )
            state = {name.removeprefix(prefix): value for name, value in state.items()}
    return state


def _mismatches(state: Mapping[str, Tensor], own: Mapping[str, object]) -> list[str]:
    """What keeps a state from being the model's, a few names of each kind."""
    shapes = [
        f"{name} {list(value.shape)} where the model has {list(here.shape)}"
        for name, value in state.items()
        if isinstance(here := own.get(name), Tensor) and here.shape != value.shape
    ]
    kinds = {
        "it lacks": [name for name in own if name not in state],
        "it has, and the model has not,": [name for name in state if name not in own],
        "of another shape:": shapes,
    }
    return [f"{text} {_few(names)}" for text, names in kinds.items() if names]


def _few(names: list[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


def _say_non_finite(model: object, source: str) -> None:
    """Warn of weights that make every output NaN."""
    if not isinstance(model, nn.Module):
        return
    tensors = [*model.named_parameters(), *model.named_buffers()]
    bad = [
        name
        for name, value in tensors
        if value.is_floating_point() and not bool(value.isfinite().all())
    ]
    if bad:
        warnings.warn(
            f"MODEL: {source} has NaN or infinite numbers in {_few(bad)}: its outputs "
            "and everything said about them may be worthless.",
            SummiteerWarning,
            stacklevel=2,
        )
