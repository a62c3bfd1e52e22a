"""Arithmetic on rows: tensors `[rows, *input]` with one point per row.

Nothing here loops over rows in Python. Points and states are opaque to the ascent
loop: `take` and `choose` also work on frozen dataclasses of tensors.
"""

import dataclasses
import math
from collections.abc import Sequence
from functools import cache
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from summiteer import tolerances

T = TypeVar("T")

#: Squares added in one running sum.
_BLOCK = 256
#: The reciprocal of a norm above this is a subnormal number in float32.
_HUGE_NORM = 1e37


def expand(per_row: Tensor, like: Tensor) -> Tensor:
    """Return `per_row` `[rows]` as a view that broadcasts against `like`."""
    return per_row.reshape(-1, *([1] * (like.ndim - 1)))


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product of each pair of rows, `[rows]`."""
    products: Tensor = torch.linalg.vecdot(left.flatten(1), right.flatten(1))
    return products


def norm(vectors: Tensor) -> Tensor:
    """Return the Euclidean norm of each row `[rows]`, free of under- and overflow."""
    return norm_and_kind(vectors)[0]


def norm_and_kind(vectors: Tensor) -> tuple[Tensor, bool]:
    """`norm`, and whether all of them are `ordinary`: asked once, used twice."""
    flat = vectors.flatten(1)
    norms = _length(flat)
    if ordinary(norms) or not flat.numel():
        return norms, True
    # Squares of tiny entries underflow (a gradient of 1e-30 is not zero), squares of
    # huge ones overflow: scale such rows by their largest entry first.
    usual = (norms > tolerances.TINY_NORM) & norms.isfinite()
    rows = (~usual).nonzero().flatten()
    odd = flat[rows]
    safe = _largest(odd)
    rescued = _length(odd / safe[:, None]) * safe
    return norms.index_copy(0, rows, rescued), False


def unit(vectors: Tensor, known: tuple[Tensor, bool] | None = None) -> Tensor:
    """Return each row divided by its norm; 0 stays 0.

    Args:
        vectors: the rows.
        known: their `norm_and_kind` if it is known already.
    """
    norms, all_usual = known or norm_and_kind(vectors)
    units = vectors * expand(norms.reciprocal(), vectors)
    if all_usual:
        return units
    # 1/norm over- or underflows there, or the norm itself does; other rows keep their
    # bits, so that a row never depends on its companions.
    usual = (norms > tolerances.TINY_NORM) & (norms < _HUGE_NORM)
    rows = (~usual).nonzero().flatten()
    odd = vectors[rows]
    odd = odd / expand(_largest(odd.flatten(1)), odd)
    length = _length(odd.flatten(1))
    odd = odd / expand(torch.where(length > 0, length, 1.0), odd)
    return units.index_copy(0, rows, odd)


def ordinary(norms: Tensor) -> bool:
    """Whether squares and reciprocals of all norms are normal numbers."""
    if not norms.numel():
        return True
    low, high = norms.aminmax()
    # NaN compares false.
    return float(low) > tolerances.TINY_NORM and float(high) < _HUGE_NORM


def _length(flat: Tensor) -> Tensor:
    """√Σv² of each row `[rows]`, in blocks: torch adds in few, long running sums.

    Equal entries round the same way, d/100 units in all: 5e-5 of an ImageNet norm in
    float32, which would put projections as far outside.
    """
    block = _block(flat.shape[1])
    whole = flat.shape[1] // block * block
    if whole <= block:
        norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
        return norms
    blocks = flat[:, :whole].reshape(len(flat), whole // block, block)
    parts = torch.linalg.vector_norm(blocks, dim=2)
    if whole < flat.shape[1]:
        rest = torch.linalg.vector_norm(flat[:, whole:], dim=1, keepdim=True)
        parts = torch.cat([parts, rest], 1)
    return _length(parts)


@cache
def _block(width: int) -> int:
    """At most `_BLOCK`, at least half of it; without a rest if that can be."""
    sizes = range(_BLOCK, _BLOCK // 2, -1)
    return next((size for size in sizes if width % size == 0), _BLOCK)


def _largest(flat: Tensor) -> Tensor:
    """The largest magnitude in each row, 1 where that is no use as a scale."""
    most = flat.abs().amax(1)
    return torch.where((most > 0) & most.isfinite(), most, 1.0)


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator with 0/0 = 0."""
    return torch.where(numerator == 0, 0.0, numerator / denominator)


def take(tree: T, index: Tensor) -> T:
    """Return the rows `index` of a tensor, or of every tensor in a dataclass."""
    if isinstance(tree, Tensor):
        # Several times faster than tree[index].
        return cast(T, tree.index_select(0, index) if tree.ndim else tree)
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields: dict[str, Any] = {
            field.name: take(getattr(tree, field.name), index)
            for field in dataclasses.fields(tree)
        }
        return dataclasses.replace(tree, **fields)
    return tree


def all_finite(values: Tensor) -> bool:
    """Whether every entry is finite (a sum is the cheapest test that can say yes)."""
    return math.isfinite(float(values.sum())) or bool(values.isfinite().all())


def choose(mask: Tensor, chosen: T, otherwise: T) -> T:
    """Return row by row `chosen` where `mask` `[rows]`, else `otherwise`."""
    # Several times faster than torch.where with a broadcast mask.
    return merge(mask.nonzero().flatten(), chosen, otherwise)


def merge(index: Tensor, chosen: T, otherwise: T) -> T:
    """Return `otherwise` with the rows `index` of `chosen`: tensors, dataclasses."""
    if isinstance(chosen, Tensor) and isinstance(otherwise, Tensor):
        return cast(T, otherwise.index_copy(0, index, chosen.index_select(0, index)))
    if dataclasses.is_dataclass(chosen) and not isinstance(chosen, type):
        fields: dict[str, Any] = {
            field.name: merge(
                index, getattr(chosen, field.name), getattr(otherwise, field.name)
            )
            for field in dataclasses.fields(chosen)
        }
        return dataclasses.replace(chosen, **fields)
    return chosen


def put(target: T, index: Tensor, source: T) -> None:
    """Overwrite the rows `index` of `target`, in place, with those of `source`.

    Only for buffers of our own that nothing else refers to.
    """
    if isinstance(target, Tensor) and isinstance(source, Tensor):
        target.index_copy_(0, index, source.index_select(0, index))
    elif dataclasses.is_dataclass(target):
        for field in dataclasses.fields(target):
            put(getattr(target, field.name), index, getattr(source, field.name))


def copy(tree: T) -> T:
    """Return a copy whose tensors nothing else refers to."""
    if isinstance(tree, Tensor):
        return cast(T, tree.clone())
    if dataclasses.is_dataclass(tree) and not isinstance(tree, type):
        fields: dict[str, Any] = {
            field.name: copy(getattr(tree, field.name))
            for field in dataclasses.fields(tree)
        }
        return dataclasses.replace(tree, **fields)
    return tree


def joined(parts: Sequence[T]) -> T:
    """Return the rows of several dataclasses of tensors, one after the other."""
    names = [field.name for field in dataclasses.fields(cast(Any, parts[0]))]
    columns = ([getattr(part, name) for part in parts] for name in names)
    return type(parts[0])(*map(torch.cat, columns))
