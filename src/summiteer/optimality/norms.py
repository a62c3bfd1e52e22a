"""Upper bounds of the norms of affine operations: how far they carry a change."""

from collections.abc import Hashable
from functools import lru_cache
from typing import cast

import torch
from torch import Tensor

from summiteer.networks.affine import (
    Affine,
    Convolution,
    Dense,
    Elementwise,
    Gather,
    Normalisation,
    Reshape,
)
from summiteer.optimality.rounding import TINY, length

#: Squarings of WᵀW in the bound of ‖W‖₂: within d^(1/64) of it.
_SQUARINGS = 4


def row_lengths(operation: Affine) -> Tensor | None:
    """≥ ‖A_j‖₂ of each row, to broadcast against the result; None if not known."""
    if isinstance(operation, Dense):
        return length(operation.weight)
    if isinstance(operation, Convolution):
        return length(operation.weight.flatten(1))[:, None, None]
    return None


def operator_norm(operation: Affine) -> float:
    """≥ ‖A‖₂."""
    return _operator_norm(cast("Hashable", operation))


@lru_cache(maxsize=64)
def _operator_norm(operation: Hashable) -> float:
    """See `operator_norm`: operations are frozen, and equal only to themselves."""
    if isinstance(operation, Dense):
        return _spectral(operation.weight)
    if isinstance(operation, Convolution):
        # ‖unfold(v)‖² ≤ (windows that an entry lies in)·‖v‖².
        matrix = operation.weight.flatten(1)
        windows = 1
        for dim, size in enumerate(operation.weight.shape[2:]):
            dense = operation.dilation[dim] == 1
            windows *= -(-size // operation.stride[dim]) if dense else size
        return _upper(_spectral(matrix) * float(windows) ** 0.5)
    if isinstance(operation, Elementwise):
        return _upper(float((operation.factor / operation.divisor).abs().max()))
    if isinstance(operation, Normalisation):
        ones = torch.ones_like(operation.mean)
        shaped = ones.reshape(1, -1, *([1] * operation.trailing))
        return _upper(float(operation.spread(shaped).max()))
    if isinstance(operation, Gather):
        return _upper(float(operation.terms_back) ** 0.5)
    if isinstance(operation, Reshape):
        return 1.0
    # A mean of k entries, each in at most k windows.
    return 1.0 + 1e-9


def _upper(value: float) -> float:
    """A bit more than a computed number of few operations."""
    return value * (1 + 1e-9) + TINY


def _spectral(matrix: Tensor) -> float:
    """≥ ‖W‖₂ of one matrix of any scale."""
    scale = float(torch.linalg.matrix_norm(matrix))
    usual = 1e-100 < scale < 1e100 and max(matrix.shape) <= 10**5
    if not usual:
        return _upper(scale) if scale > 1e-100 else 1e-99
    return float(spectral(matrix / scale)) * scale * (1 + 1e-9)


def spectral(matrices: Tensor, squarings: int = _SQUARINGS) -> Tensor:
    """≥ ‖W‖₂ `[…]`: ‖W‖₂² = ‖G‖₂, G = WᵀW; ‖G‖₂² = ‖G²‖₂, …, at last ≤ ‖·‖_F.

    A product of n×n matrices with ‖·‖_F = 1 errs by at most γ_n in that norm, and has
    ‖·‖₂ ≥ 1/n: relative errors of n²·u each, 1e-6 for n = 10⁵. 1e-140 is added, more
    than squares that underflow can hide.

    Args:
        matrices: `[…, rows, columns]`.
        squarings: k: the bound is within columns^(2^-(k+2)) of the norm.
    """
    if matrices.shape[-2] < matrices.shape[-1]:
        matrices = matrices.mT
    scale = torch.linalg.matrix_norm(matrices)
    safe = torch.where(scale > 0, scale, 1.0)
    unit = matrices / safe[..., None, None]
    gram, bound, power = unit.mT @ unit, scale, 0.5
    for _ in range(squarings):
        size = torch.linalg.matrix_norm(gram)
        size = torch.where(size > 0, size, 1.0)
        bound = bound * size**power
        gram = gram / size[..., None, None]
        gram = gram @ gram
        power /= 2
    bound = bound * torch.linalg.matrix_norm(gram) ** power
    result: Tensor = bound * (1 + 1e-5) + 1e-140
    return result
