"""Cells: frozen pieces of work, each named by a hash of its full specification."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

#: What a JSON document can hold.
JSON: TypeAlias = (
    "bool | int | float | str | Sequence[JSON] | Mapping[str, JSON] | None"
)


def as_json(value: object, path: str = "value") -> JSON:
    """Copy a value into plain dicts, lists, strings and numbers.

    Mappings, lists, tuples and numpy scalars are converted; everything that JSON cannot
    say exactly is refused, so that two different specifications never look the same.

    Args:
        value: Anything made of mappings with string keys, lists, tuples, strings,
            booleans, integers, finite floats and None.
        path: How errors call the value.

    Returns:
        The copy; it shares nothing mutable with `value`.

    Raises:
        TypeError: Something in it is of another type; names where.
        ValueError: A float in it is NaN or infinite; names where.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str.__str__(value)  # str() of a string enum would give its label
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{path} is {value}, which JSON cannot hold; use None")
        return float(value)
    if isinstance(value, np.bool_ | np.integer | np.float16 | np.float32):
        return as_json(value.item(), path)
    if isinstance(value, list | tuple):
        return [as_json(entry, f"{path}[{i}]") for i, entry in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"{path} has the key {key!r}; keys must be strings")
        return {
            str.__str__(key): as_json(entry, f"{path}[{key!r}]")
            for key, entry in value.items()
        }
    raise TypeError(f"{path} is a {type(value).__name__}, which JSON cannot hold")


def finite(value: float | None) -> float | None:
    """Say None for what JSON cannot hold: NaN and infinite numbers.

    Args:
        value: Any number, or None already.
    """
    return float(value) if value is not None and math.isfinite(value) else None


def canonical_json(value: object) -> str:
    """Write a value as the one JSON text that stands for it.

    Keys are sorted, nothing is spaced, floats are written by `repr`: 1, 1.0, True are
    three texts, and so are 0.0 and -0.0; a tuple is written as a list.

    Args:
        value: See `as_json`.

    Returns:
        ASCII text.

    Raises:
        TypeError: Something in it is of a type that JSON does not know; names where.
        ValueError: A float in it is NaN or infinite; names where.
    """
    return json.dumps(as_json(value), sort_keys=True, separators=(",", ":"))


def digest(value: object) -> str:
    """Name a value by its content.

    Args:
        value: See `as_json`.

    Returns:
        The first 16 hexadecimal digits of the SHA-256 of its canonical JSON.
    """
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:16]


def digest_arrays(arrays: Mapping[str, np.ndarray | Tensor]) -> str:
    """Name arrays by their names, dtypes, shapes and bytes.

    A tensor and a numpy array of equal content have equal digests, whatever their
    strides, byte order or device, and whatever the order of the mapping.

    Args:
        arrays: Arrays or tensors by name.

    Returns:
        16 hexadecimal digits.

    Raises:
        TypeError: An array is of a dtype that torch does not know, such as objects.
    """
    state = ArrayDigest()
    for name, array in sorted(arrays.items()):
        tensor = as_tensor(array)
        state.begin(name, tensor.dtype, tuple(tensor.shape))
        state.add(tensor)
    return state.name()


class ArrayDigest:
    """`digest_arrays` of arrays that are never in memory as a whole.

    The arrays come one after the other in the order of their names: `begin`, then `add`
    for parts of it.
    """

    def __init__(self) -> None:
        self._state = hashlib.sha256()

    def begin(self, name: str, dtype: torch.dtype, shape: Sequence[int]) -> None:
        """Announce an array.

        Args:
            name: its name, after that of the one before.
            dtype: of all of its parts.
            shape: of the whole.
        """
        kind = str(dtype).removeprefix("torch.")
        self._state.update(canonical_json([name, kind, list(shape)]).encode())

    def add(self, part: Tensor) -> None:
        """Add the next numbers of the array, in the order of its rows.

        Args:
            part: of any shape.
        """
        flat = as_tensor(part).reshape(-1)
        self._state.update(flat.view(torch.uint8).numpy().data)

    def name(self) -> str:
        """Return the 16 hexadecimal digits."""
        return self._state.hexdigest()[:16]


def as_tensor(array: np.ndarray | Tensor) -> Tensor:
    """Lay out an array as a contiguous tensor on the CPU, without its history.

    Args:
        array: A numpy array of any strides and byte order, or a tensor.

    Returns:
        A tensor with memory of its own.

    Raises:
        TypeError: The dtype is one that torch does not know, such as objects.
    """
    if isinstance(array, Tensor):
        # `contiguous` keeps the odd strides of axes of length 1; a copy has none.
        return array.detach().cpu().clone(memory_format=torch.contiguous_format)
    native = array.dtype.newbyteorder("=")
    # A copy, for torch warns of arrays that are read-only and refuses negative strides.
    return torch.from_numpy(np.array(array, dtype=native, order="C"))


@dataclass(frozen=True, eq=False)
class Cell:
    """One piece of work that can be done anywhere, alone, and only once.

    Cells are equal when their names are. They are immutable, hashable and picklable.

    Attributes:
        kind: What is to be done.
        spec: All that determines the result; kept as a read-only copy, in which lists
            have become tuples.
    """

    kind: str
    spec: Mapping[str, JSON]

    def __post_init__(self) -> None:
        spec = _frozen(as_json(self.spec, "spec"))
        object.__setattr__(self, "spec", spec)

    @cached_property
    def name(self) -> str:
        """The digest of kind and specification, 16 hexadecimal digits."""
        return digest([self.kind, self.spec])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Cell) and self.name == other.name

    def __hash__(self) -> int:
        return hash(self.name)

    def __reduce__(self) -> tuple[type["Cell"], tuple[str, Mapping[str, JSON]]]:
        # Read-only mappings cannot be pickled; their plain copies can.
        return Cell, (self.kind, cast("Mapping[str, JSON]", as_json(self.spec)))


def _frozen(value: JSON) -> JSON:
    if isinstance(value, list):
        return tuple(_frozen(entry) for entry in value)
    if isinstance(value, dict):
        return MappingProxyType({key: _frozen(entry) for key, entry in value.items()})
    return value
