"""Examples to attack: bundled, in tables of arrays, or a folder of idx files."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from summiteer.data._files import existing
from summiteer.data.column import Column, Held
from summiteer.data.idx import SPLITS, open_idx
from summiteer.data.tables import open_tensors
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


@dataclass(frozen=True, eq=False)
class Streamed:
    """Examples to attack, of which some at a time are read.

    Attributes:
        name: the bundled name or the file.
        inputs: `[n, *input]`.
        targets: `[n, …]`.
    """

    name: str
    inputs: Column
    targets: Column


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


_SUFFIXES = (".npz", ".safetensors", ".pt")


def load_data(source: str) -> Dataset:
    """Return the data named on the command line, in memory.

    Args:
        source: see `open_data`.

    Raises:
        UserError: no such file, another format, missing entries, pickled objects.
    """
    data = open_data(source)
    return Dataset(source, data.inputs.whole(), data.targets.whole())


def open_data(source: str) -> Streamed:
    """Return the data named on the command line, to be read some rows at a time.

    Args:
        source: a name in `BUNDLED`; an .npz, .safetensors or .pt file with `inputs` and
            `targets` (or `labels`); or a folder of MNIST's idx files, for whose
            train split `:train` follows the folder (test split, `:t10k`, if nothing
            does): inputs pixels/255 as `[n, 1, height, width]` float32.

    Raises:
        UserError: no such file, another format, missing entries, pickled objects.
    """
    if source in BUNDLED:
        arrays = BUNDLED[source]()
        inputs, labels = (Held.of(torch.from_numpy(np.array(a))) for a in arrays)
        return Streamed(source, inputs, labels)
    folder, split = _folder(source)
    if folder.is_dir():
        return Streamed(source, *open_idx(folder, split))
    bundled = ", ".join(BUNDLED)
    hint = f"give a file, a folder of MNIST's idx files, or {bundled}"
    path = existing("DATA", source, hint)
    if path.suffix not in _SUFFIXES:
        raise UserError(
            f"DATA: {path} must be {', '.join(_SUFFIXES[:-1])} or {_SUFFIXES[-1]} with "
            f"`inputs` and `targets`, a folder of idx files, or one of "
            f"{bundled}."
        )
    columns = open_tensors("DATA", path)
    targets = columns.get("targets", columns.get("labels"))
    missing = ["inputs"] * ("inputs" not in columns)
    missing += ["targets (or labels)"] * (targets is None)
    if missing or targets is None:
        raise UserError(
            f"DATA: {path} lacks {' and '.join(missing)}; it has "
            f"{', '.join(sorted(columns)) or 'nothing'}: save them under these names."
        )
    return Streamed(source, columns["inputs"], targets)


def _folder(source: str) -> tuple[Path, str]:
    """A folder and the split that may follow it."""
    place, _, split = source.rpartition(":")
    if split in SPLITS and not Path(source).is_dir():
        return Path(place), split
    return Path(source), SPLITS[0]
