"""Arithmetic on rows: tensors `[rows, *input]` with one point per row.

Nothing here loops over rows in Python. Points and states are opaque to the ascent
loop: `take` and `choose` also work on frozen dataclasses of tensors.
"""

import dataclasses
import math
from typing import Any, TypeVar

import torch
from torch import Tensor

from summiteer import tolerances

T = TypeVar("T")


def expand(per_row: Tensor, like: Tensor) -> Tensor:
    """Return `per_row` `[rows]` as a view that broadcasts against `like`."""
    return per_row.reshape(-1, *([1] * (like.ndim - 1)))


def dot(left: Tensor, right: Tensor) -> Tensor:
    """Return the inner product of each pair of rows, `[rows]`."""
    return torch.linalg.vecdot(left.flatten(1), right.flatten(1))


def norm(vectors: Tensor) -> Tensor:
    """Return the Euclidean norm of each row `[rows]`, free of under- and overflow."""
    flat = vectors.flatten(1)
    norms: Tensor = torch.linalg.vector_norm(flat, dim=1)
    if _ordinary(norms) or not flat.numel():
        return norms
    # Squares of tiny entries underflow (a gradient of 1e-30 is not zero), squares of
    # huge ones overflow: scale such rows by their largest entry first.
    largest = flat.abs().amax(1)
    safe = torch.where((largest > 0) & largest.isfinite(), largest, 1.0)
    rescued = torch.linalg.vector_norm(flat / safe[:, None], dim=1) * safe
    usual = (norms > tolerances.TINY_NORM) & norms.isfinite()
    return torch.where(usual, norms, rescued)


def unit(vectors: Tensor, norms: Tensor | None = None) -> Tensor:
    """Return each row divided by its norm (computed if not given); 0 stays 0."""
    norms = norm(vectors) if norms is None else norms
    if _ordinary(norms):
        return vectors * expand(norms.reciprocal(), vectors)
    # Scaled by powers of two first, since 1/norm may overflow; the largest entry of a
    # row is then of order one, so that its norm can be taken afresh.
    exponent = torch.frexp(norms.nan_to_num(nan=1.0, posinf=1.0)).exponent
    scaled = torch.ldexp(vectors, -expand(exponent, vectors))
    length = torch.linalg.vector_norm(scaled.flatten(1), dim=1)
    return scaled / expand(torch.where(length > 0, length, 1.0), scaled)


def _ordinary(norms: Tensor) -> bool:
    """Whether no norm is so small or large that its square was not representable."""
    if not norms.numel():
        return True
    # NaN compares false.
    return float(norms.min()) > tolerances.TINY_NORM and float(norms.max()) < torch.inf


def ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """Return numerator / denominator with 0/0 = 0."""
    return torch.where(numerator == 0, 0.0, numerator / denominator)


def take(tree: T, index: Tensor) -> T:
    """Return the rows `index` of a tensor, or of every tensor in a dataclass."""
    if isinstance(tree, Tensor):
        return tree[index] if tree.ndim else tree
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
    if isinstance(chosen, Tensor) and isinstance(otherwise, Tensor):
        # Several times faster than torch.where with a broadcast mask.
        index = mask.nonzero().flatten()
        return otherwise.index_copy(0, index, chosen[index])
    if dataclasses.is_dataclass(chosen) and not isinstance(chosen, type):
        fields: dict[str, Any] = {
            field.name: choose(
                mask, getattr(chosen, field.name), getattr(otherwise, field.name)
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
        target[index] = source[index]
    elif dataclasses.is_dataclass(target):
        for field in dataclasses.fields(target):
            put(getattr(target, field.name), index, getattr(source, field.name))
