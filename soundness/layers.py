"""Piecewise-linear networks as truth sees them: flat vectors in 80-bit floats.

Nothing of the package is used. Each layer maps `[rows, in]` values with their error
bounds, and Jacobians `[rows, in, d]`, and knows the torch module it stands for.
"""

from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import summiteer as sm
from soundness.sigma import SIGMA, ULP

Array = NDArray[Any]
LONG = np.longdouble


@dataclass(frozen=True, eq=False)
class Kinks:
    """How far the kinks of one layer are from turning `[rows, units]`.

    Attributes:
        height: v of max(v, slope·v), or the lead of a window's largest entry.
        doubt: bound of its 80-bit rounding.
        slope: its Jacobian `[rows, units, d]` float64, or None if not asked for.
    """

    height: Array
    doubt: Array
    slope: Array | None


@dataclass(eq=False)
class Flow:
    """What runs through a network.

    Attributes:
        value: `[rows, units]` 80-bit.
        error: bound of its rounding, float64.
        slope: Jacobian `[rows, units, d]` float64, or None.
        kinks: of every layer so far.
    """

    value: Array
    error: Array
    slope: Array | None
    kinks: list[Kinks] = field(default_factory=list)


def times(left: Array, right: Array) -> Array:
    """The product in 80-bit floats, for which there is no BLAS."""
    total = np.zeros((*left.shape[:-1], right.shape[-1]), LONG)
    for j in range(right.shape[0]):
        if right[j].any():
            total += left[..., j, None] * right[j]
    return total


def _tensor(array: Array) -> torch.Tensor:
    return torch.from_numpy(np.array(array, float))


@dataclass(frozen=True, eq=False)
class Linear:
    """Wv + b, as nn.Linear or, where `kernel` is given, as the convolution it is.

    Attributes:
        weight: `[out, in]`.
        bias: `[out]`.
        kernel: `[out channels, in channels, h, w]`.
        offset: `[out channels]`.
        padding: of the convolution.
    """

    weight: Array
    bias: Array
    kernel: Array | None = None
    offset: Array | None = None
    padding: int = 0

    def push(self, flow: Flow) -> Flow:
        """One layer further."""
        wide = self.weight.astype(LONG)
        value = times(flow.value, wide.T) + self.bias.astype(LONG)
        size = np.abs(self.weight)
        count = self.weight.shape[1] + 2
        reach = np.abs(flow.value).astype(float) @ size.T + np.abs(self.bias)
        error = flow.error @ size.T + 1.01 * count * ULP * reach
        slope = flow.slope
        if slope is not None:
            slope = np.einsum("oi,rid->rod", self.weight, slope)
        return Flow(value, error * (1 + 1e-9), slope, flow.kinks)

    def module(self) -> nn.Module:
        """The torch module."""
        if self.kernel is None:
            dense = nn.Linear(self.weight.shape[1], len(self.weight)).double()
            _fill(dense.weight, self.weight)
            _fill(dense.bias, self.bias)
            return dense
        assert self.offset is not None
        out, inner, high, wide = self.kernel.shape
        size = (high, wide)
        conv = nn.Conv2d(inner, out, size, padding=self.padding).double()
        assert conv.bias is not None
        _fill(conv.weight, self.kernel)
        _fill(conv.bias, self.offset)
        return conv


def _fill(weight: torch.Tensor, array: Array) -> None:
    with torch.no_grad():
        weight.copy_(_tensor(array))


@dataclass(frozen=True, eq=False)
class Leaky:
    """max(v, slope·v): ReLU for 0, |v| for -1."""

    slope: float = 0.0

    def push(self, flow: Flow) -> Flow:
        """One layer further."""
        low = LONG(self.slope) * flow.value
        on = flow.value > 0
        kinks = Kinks(flow.value, flow.error, flow.slope)
        error = flow.error + ULP * np.abs(low).astype(float)
        slope = flow.slope
        if slope is not None:
            slope = np.where(on[..., None], slope, self.slope * slope)
        value = np.where(on, flow.value, low)
        return Flow(value, error, slope, [*flow.kinks, kinks])

    def module(self) -> nn.Module:
        """The torch module."""
        return nn.LeakyReLU(self.slope) if self.slope else nn.ReLU()


@dataclass(frozen=True, eq=False)
class Pool:
    """The largest of each window.

    Attributes:
        windows: `[out, places]` indices of entries.
        size: of the window, which does not overlap.
    """

    windows: Array
    size: tuple[int, int]

    def push(self, flow: Flow) -> Flow:
        """One layer further."""
        taken = flow.value[:, self.windows]
        best = taken.argmax(-1)[..., None]
        value = np.take_along_axis(taken, best, -1)[..., 0]
        others = taken.copy()
        np.put_along_axis(others, best, -np.inf, -1)
        second = others.argmax(-1)[..., None]
        lead = value - np.take_along_axis(taken, second, -1)[..., 0]
        error = flow.error[:, self.windows].max(-1)
        slope, apart = flow.slope, None
        if slope is not None:
            inner = slope[:, self.windows]
            first = np.take_along_axis(inner, best[..., None], 2)[:, :, 0]
            apart = first - np.take_along_axis(inner, second[..., None], 2)[:, :, 0]
            slope = first
        kinks = Kinks(lead, 2 * error + ULP * np.abs(lead).astype(float), apart)
        return Flow(value, error, slope, [*flow.kinks, kinks])

    def module(self) -> nn.Module:
        """The torch module."""
        return nn.MaxPool2d(self.size)


@dataclass(frozen=True, eq=False)
class Norm:
    """BatchNorm in eval mode: (v - mean)·factor/√(variance + ε) + offset.

    Attributes:
        numbers: mean, variance, factor, offset, `[4, channels]`.
        repeat: entries per channel.
        epsilon: ε.
    """

    numbers: Array
    repeat: int
    epsilon: float = 1e-5

    def push(self, flow: Flow) -> Flow:
        """One layer further."""
        wide = np.repeat(self.numbers, self.repeat, 1).astype(LONG)
        mean, variance, factor, offset = wide
        scale = factor / np.sqrt(variance + LONG(self.epsilon))
        value = (flow.value - mean) * scale + offset
        size = (np.abs(flow.value) + np.abs(mean)) * np.abs(scale) + np.abs(offset)
        steep = np.abs(scale).astype(float)
        error = flow.error * steep * (1 + 1e-9) + 8 * ULP * size.astype(float)
        slope = flow.slope
        if slope is not None:
            slope = scale.astype(slope.dtype)[:, None] * slope
        return Flow(value, error, slope, flow.kinks)

    def module(self) -> nn.Module:
        """The torch module."""
        kind: Any = nn.BatchNorm1d if self.repeat == 1 else nn.BatchNorm2d
        norm = kind(self.numbers.shape[1], eps=self.epsilon).double()
        names = ("running_mean", "running_var", "weight", "bias")
        for name, array in zip(names, self.numbers, strict=True):
            _fill(getattr(norm, name), array)
        return norm


@dataclass(frozen=True, eq=False)
class Standard:
    """(v - mean)/std, as sm.Standardise.

    Attributes:
        mean: `[d]`, or one number.
        std: the same.
    """

    mean: Array
    std: Array

    def push(self, flow: Flow) -> Flow:
        """One layer further."""
        value = (flow.value - self.mean.astype(LONG)) / self.std.astype(LONG)
        size = (np.abs(flow.value) + np.abs(self.mean)).astype(float)
        error = (flow.error + 4 * ULP * size) / self.std * (1 + 1e-9)
        slope = flow.slope
        if slope is not None:
            slope = slope / self.std.astype(slope.dtype)[:, None]
        return Flow(value, error, slope, flow.kinks)

    def module(self) -> nn.Module:
        """The torch module."""
        return sm.Standardise(self.mean.tolist(), self.std.tolist(), torch.float64)


@dataclass(frozen=True, eq=False)
class Smooth:
    """σ(v) of a two-layer network of the package's own.

    Attributes:
        name: of σ.
    """

    name: str

    def push(self, flow: Flow) -> Flow:
        """One layer further."""
        v, off = flow.value, flow.error
        value, first, second = SIGMA[self.name](v)
        steep, bend = np.abs(first).astype(float), np.abs(second).astype(float)
        size = (np.abs(value) + (steep + ULP) * np.abs(v)).astype(float)
        error = (steep + (bend + 4 * off) * off) * off
        error = error + 64 * ULP * (1 + np.abs(v).astype(float)) ** 2 * size
        slope = flow.slope
        if slope is not None:
            slope = first.astype(slope.dtype)[..., None] * slope
        # No kink: nothing moves it.
        none = None if slope is None else np.zeros_like(slope)
        kinks = Kinks(np.ones_like(v), np.zeros_like(off), none)
        return Flow(value, error, slope, [*flow.kinks, kinks])

    def module(self) -> nn.Module:
        """There is none: it is a part of sm.TwoLayerNetwork."""
        raise NotImplementedError


class Plus(nn.Module):
    """v + inner(v)."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """See the class."""
        return values + self.inner(values)


@dataclass(frozen=True, eq=False)
class Skip:
    """v + layers(v)."""

    layers: tuple["Layer", ...]

    def push(self, flow: Flow) -> Flow:
        """One layer further."""
        inner = flow
        for layer in self.layers:
            inner = layer.push(inner)
        value = flow.value + inner.value
        error = flow.error + inner.error + ULP * np.abs(value).astype(float)
        slope = None
        if flow.slope is not None and inner.slope is not None:
            slope = flow.slope + inner.slope
        return Flow(value, error, slope, inner.kinks)

    def module(self) -> nn.Module:
        """The torch module."""
        return Plus(nn.Sequential(*(layer.module() for layer in self.layers)))


@dataclass(frozen=True, eq=False)
class Flat:
    """From an image to its entries."""

    def push(self, flow: Flow) -> Flow:
        """Nothing changes."""
        return flow

    def module(self) -> nn.Module:
        """The torch module."""
        return nn.Flatten()


Layer: TypeAlias = Linear | Leaky | Pool | Norm | Skip | Flat | Standard | Smooth


def convolution(
    kernel: Array, offset: Array, image: tuple[int, int, int], padding: int
) -> tuple[Linear, tuple[int, int, int]]:
    """The matrix of a convolution of stride 1, and the image it makes.

    Args:
        kernel: `[out, in, h, w]`.
        offset: `[out]`.
        image: (channels, height, width).
        padding: zeros on each side.
    """
    out, inner, high, wide = kernel.shape
    _, rows, columns = image
    tall, broad = rows + 2 * padding - high + 1, columns + 2 * padding - wide + 1
    matrix = np.zeros((out, tall, broad, inner, rows, columns))
    for y in range(tall):
        for x in range(broad):
            for down in range(high):
                for across in range(wide):
                    i, j = y + down - padding, x + across - padding
                    if 0 <= i < rows and 0 <= j < columns:
                        matrix[:, y, x, :, i, j] = kernel[:, :, down, across]
    count = out * tall * broad
    flat = matrix.reshape(count, -1)
    bias = np.repeat(offset, tall * broad)
    return Linear(flat, bias, kernel, offset, padding), (out, tall, broad)


def pool(
    image: tuple[int, int, int], size: tuple[int, int]
) -> tuple[Pool, tuple[int, int, int]]:
    """Max-pooling without overlap, and the image it makes."""
    channels, rows, columns = image
    high, wide = size
    tall, broad = rows // high, columns // wide
    numbers = np.arange(channels * rows * columns).reshape(image)
    cut = numbers[:, : tall * high, : broad * wide]
    cut = cut.reshape(channels, tall, high, broad, wide).transpose(0, 1, 3, 2, 4)
    return Pool(cut.reshape(channels * tall * broad, -1), size), (channels, tall, broad)
