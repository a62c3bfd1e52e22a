"""Affine operations on the rows of a batch, forwards and backwards (mathematics.md §9).

Each is v ↦ Av + b with its products by |A|, Aᵀ and |A|ᵀ, and the count of terms that
a rounding bound needs.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, TypeAlias

import torch
from torch import Tensor
from torch.nn import functional

Shape: TypeAlias = tuple[int, ...]
Pair: TypeAlias = tuple[int, int]

#: A quotient that underflows loses up to 2^-1075: less than γ_n of this.
UNDERFLOW = 2.0**-1000


class Affine(Protocol):
    """y = Av + b, v and y of one row flattened or not, as the operation needs them.

    Attributes:
        terms: at least the summands of an entry of Av + b, and the operations that
            made an entry of A or b: what γ_n of a rounding bound counts.
        terms_back: the same of Aᵀy.
    """

    @property
    def terms(self) -> int: ...  # noqa: D102
    @property
    def terms_back(self) -> int: ...  # noqa: D102

    def apply(self, values: Tensor) -> Tensor:
        """Av + b."""

    def magnify(self, sizes: Tensor) -> Tensor:
        """|A|v + |b|, |b| the sum of the magnitudes of what b is made of."""

    def spread(self, sizes: Tensor) -> Tensor:
        """|A|v."""

    def transpose(self, values: Tensor) -> Tensor:
        """Aᵀy."""

    def spread_back(self, sizes: Tensor) -> Tensor:
        """|A|ᵀy."""


@dataclass(frozen=True, eq=False)
class Dense:
    """Wv + b on the last dimension.

    Attributes:
        weight: `[out, in]`.
        bias: `[out]`.
    """

    weight: Tensor
    bias: Tensor

    @property
    def terms(self) -> int:
        """See `Affine`."""
        return self.weight.shape[1] + 1

    @property
    def terms_back(self) -> int:
        """See `Affine`."""
        return self.weight.shape[0]

    @cached_property
    def _size(self) -> Tensor:
        return self.weight.abs()

    def apply(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return values @ self.weight.T + self.bias

    def magnify(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes @ self._size.T + self.bias.abs()

    def spread(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes @ self._size.T

    def transpose(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return values @ self.weight

    def spread_back(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes @ self._size


@dataclass(frozen=True, eq=False)
class Convolution:
    """A two-dimensional convolution with zero padding, as unfold and GEMM.

    Torch's own convolutions may use FFT or Winograd, for which no γ_n holds (§10.1).

    Attributes:
        weight: `[out, channels/groups, height, width]`.
        bias: `[out]`.
        source: (channels, height, width) of the values.
        stride: of both dimensions, as are the next two.
        padding: zeros on each side.
        dilation: distance of the kernel's entries.
        groups: of channels.
    """

    weight: Tensor
    bias: Tensor
    source: tuple[int, int, int]
    stride: Pair = (1, 1)
    padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1

    @property
    def terms(self) -> int:
        """See `Affine`."""
        return self.weight[0].numel() + 1

    @property
    def terms_back(self) -> int:
        """See `Affine`: each entry lies under at most h·w places of the kernel."""
        kernel = self.weight.shape[2] * self.weight.shape[3]
        return self.weight.shape[0] // self.groups + kernel

    @property
    def image(self) -> Pair:
        """Height and width of the result."""
        return window_image(
            self.source[1:], self._kernel, self.stride, self.padding, self.dilation
        )

    @property
    def _kernel(self) -> Pair:
        return (self.weight.shape[2], self.weight.shape[3])

    @cached_property
    def _matrix(self) -> Tensor:
        """`[groups, out/groups, channels/groups · h · w]`."""
        rows = self.weight.shape[0] // self.groups
        return self.weight.reshape(self.groups, rows, -1)

    @cached_property
    def _size(self) -> Tensor:
        return self._matrix.abs()

    def _forward(self, matrix: Tensor, values: Tensor) -> Tensor:
        columns = functional.unfold(
            values,
            self._kernel,
            dilation=self.dilation,
            padding=self.padding,
            stride=self.stride,
        )
        # One GEMM per group over all rows: [rows·places, in] @ [in, out].
        made = self._grouped(columns) @ matrix.mT
        return self._together(made, len(values)).reshape(
            len(values), self.weight.shape[0], *self.image
        )

    def _backward(self, matrix: Tensor, values: Tensor) -> Tensor:
        made = self._grouped(values.flatten(2)) @ matrix
        return functional.fold(
            self._together(made, len(values)),
            self.source[1:],
            self._kernel,
            dilation=self.dilation,
            padding=self.padding,
            stride=self.stride,
        )

    def _grouped(self, columns: Tensor) -> Tensor:
        """`[rows, groups·n, places]` as `[groups, rows·places, n]`."""
        rows, width, places = columns.shape
        each = width // self.groups
        split = columns.reshape(rows, self.groups, each, places).permute(1, 0, 3, 2)
        return split.reshape(self.groups, rows * places, each)

    def _together(self, made: Tensor, rows: int) -> Tensor:
        """The way back from `_grouped`."""
        groups, each = made.shape[0], made.shape[2]
        places = self.image[0] * self.image[1]
        split = made.reshape(groups, rows, places, each).permute(1, 0, 3, 2)
        return split.reshape(rows, groups * each, places)

    def apply(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return self._forward(self._matrix, values) + self.bias[:, None, None]

    def magnify(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return self._forward(self._size, sizes) + self.bias.abs()[:, None, None]

    def spread(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return self._forward(self._size, sizes)

    def transpose(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return self._backward(self._matrix, values)

    def spread_back(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return self._backward(self._size, sizes)


@dataclass(frozen=True, eq=False)
class Normalisation:
    """BatchNorm in eval mode: (v - mean)·factor/√(variance + ε) + offset per channel.

    The exact affine map of its stored tensors; what folding rounds is counted in
    `terms` and `magnify`.

    Attributes:
        mean: `[channels]`.
        variance: `[channels]`.
        factor: `[channels]`.
        offset: `[channels]`.
        epsilon: ε > 0.
        trailing: dimensions of a row after the channels: 0 or 2.
    """

    mean: Tensor
    variance: Tensor
    factor: Tensor
    offset: Tensor
    epsilon: float
    trailing: int

    #: v - mean, its product, the offset; √, +ε, the quotient: each at most once.
    terms: int = 16
    terms_back: int = 16

    def _shaped(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *([1] * self.trailing))

    @cached_property
    def _scale(self) -> Tensor:
        return self._shaped(self.factor / (self.variance + self.epsilon).sqrt())

    def apply(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        moved = values - self._shaped(self.mean)
        return moved * self._scale + self._shaped(self.offset)

    @cached_property
    def _size(self) -> Tensor:
        """|scale|, and no less than what it may have lost by underflow."""
        return self._scale.abs() + UNDERFLOW * (self._shaped(self.factor) != 0).double()

    def magnify(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        moved = sizes + self._shaped(self.mean.abs())
        return moved * self._size + self._shaped(self.offset.abs())

    def spread(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes * self._size

    def transpose(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return values * self._scale

    def spread_back(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes * self._size


@dataclass(frozen=True, eq=False)
class Elementwise:
    """v·factor/divisor + offset, entry by entry.

    Attributes:
        factor: of a row's shape, as are the next two, or broadcast to it.
        divisor: without zeros.
        offset: what is added.
    """

    factor: Tensor
    divisor: Tensor
    offset: Tensor

    #: The quotient, its product, the sum, and one to spare.
    terms: int = 4
    terms_back: int = 4

    @cached_property
    def _scale(self) -> Tensor:
        return self.factor / self.divisor

    def apply(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return values * self._scale + self.offset

    @cached_property
    def _size(self) -> Tensor:
        """|scale|, and no less than what it may have lost by underflow."""
        return self._scale.abs() + UNDERFLOW * (self.factor != 0).double()

    def magnify(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes * self._size + self.offset.abs()

    def spread(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes * self._size

    def transpose(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return values * self._scale

    def spread_back(self, sizes: Tensor) -> Tensor:
        """See `Affine`."""
        return sizes * self._size


@dataclass(frozen=True, eq=False)
class Gather:
    """Entries of the flattened row: a reshape, or one place of every window.

    Attributes:
        index: int64, of the result's shape, into the source flattened.
        source: shape of the source.
    """

    index: Tensor
    source: Shape

    terms: int = 1

    @cached_property
    def terms_back(self) -> int:
        """See `Affine`: how often the most wanted entry is taken."""
        return int(torch.bincount(self.index.flatten()).max())

    def apply(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        flat = values.flatten(1)[:, self.index.flatten()]
        return flat.reshape(len(values), *self.index.shape)

    magnify = apply
    spread = apply

    def transpose(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        count = 1
        for size in self.source:
            count *= size
        made = values.new_zeros(len(values), count)
        made.index_add_(1, self.index.flatten(), values.flatten(1))
        return made.reshape(len(values), *self.source)

    spread_back = transpose


@dataclass(frozen=True, eq=False)
class Reshape:
    """The same numbers in another shape.

    Attributes:
        source: before.
        shape: after.
    """

    source: Shape
    shape: Shape

    terms: int = 0
    terms_back: int = 0

    def apply(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return values.reshape(len(values), *self.shape)

    magnify = apply
    spread = apply

    def transpose(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        return values.reshape(len(values), *self.source)

    spread_back = transpose


@dataclass(frozen=True, eq=False)
class AveragePool:
    """The mean of each window, zero padding counted: Σ/(height·width of the window).

    Attributes:
        source: (channels, height, width).
        kernel: of the window.
        stride: of the windows.
        padding: zeros on each side.
    """

    source: tuple[int, int, int]
    kernel: Pair
    stride: Pair
    padding: Pair = (0, 0)

    @property
    def terms(self) -> int:
        """See `Affine`."""
        return self.kernel[0] * self.kernel[1] + 2

    terms_back = terms

    def apply(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        columns = functional.unfold(
            values.flatten(0, 1)[:, None],
            self.kernel,
            padding=self.padding,
            stride=self.stride,
        )
        image = window_image(
            self.source[1:], self.kernel, self.stride, self.padding, (1, 1)
        )
        total = columns.sum(1) / (self.kernel[0] * self.kernel[1])
        return total.reshape(len(values), self.source[0], *image)

    magnify = apply
    spread = apply

    def transpose(self, values: Tensor) -> Tensor:
        """See `Affine`."""
        size = self.kernel[0] * self.kernel[1]
        columns = (values / size).flatten(0, 1).flatten(1)[:, None]
        made = functional.fold(
            columns.expand(-1, size, -1),
            self.source[1:],
            self.kernel,
            padding=self.padding,
            stride=self.stride,
        )
        return made.reshape(len(values), *self.source)

    spread_back = transpose


def window_image(
    image: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> Pair:
    """Height and width of the result of a window that moves over an image."""

    def count(dim: int) -> int:
        reach = dilation[dim] * (kernel[dim] - 1)
        return (image[dim] + 2 * padding[dim] - reach - 1) // stride[dim] + 1

    return count(0), count(1)
