"""Piecewise-linear networks of any depth, as a list of affine maps and maxima.

Every operation is affine, or the larger of two affine forms of its sources: the only
kinks are max(left, right), with left = slope·right for a rectifier. Max-pooling is a
chain of such maxima of gathered entries. Values are `[rows, *shape]`; the list is in
order of evaluation (mathematics.md §9).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import Tensor

from summiteer.networks.affine import Affine as Affine
from summiteer.networks.affine import AveragePool as AveragePool
from summiteer.networks.affine import Convolution as Convolution
from summiteer.networks.affine import Dense as Dense
from summiteer.networks.affine import Elementwise as Elementwise
from summiteer.networks.affine import Gather as Gather
from summiteer.networks.affine import Normalisation as Normalisation
from summiteer.networks.affine import Pair as Pair
from summiteer.networks.affine import Reshape as Reshape
from summiteer.networks.affine import Shape as Shape
from summiteer.networks.affine import window_image as window_image


@dataclass(frozen=True, eq=False)
class Addition:
    """left + right, both of the result's shape."""


@dataclass(frozen=True, eq=False)
class Rectifier:
    """max(v, slope·v): ReLU, LeakyReLU, |v|.

    Attributes:
        slope: in [-1, 1); 0 for ReLU, -1 for |v|.
    """

    slope: float = 0.0


@dataclass(frozen=True, eq=False)
class Maximum:
    """max(left, right), entry by entry.

    Attributes:
        absent: bool, of a row's shape: where there is no right one (a window's place
            in the padding, say).
    """

    absent: Tensor


Operation: TypeAlias = Affine | Addition | Rectifier | Maximum


@dataclass(frozen=True, eq=False)
class Step:
    """One operation of a network.

    Attributes:
        operation: what is done.
        sources: which values it takes: 0 is the network's input, i the result of the
            i-th step.
        shape: of a row of its result.
        name: of the layer, for messages.
    """

    operation: Operation
    sources: tuple[int, ...]
    shape: Shape
    name: str = ""


@dataclass(frozen=True, eq=False)
class PiecewiseLinear:
    """A network as steps; its output is the last one's.

    Attributes:
        steps: in order of evaluation.
        shape: of a row of its input.
    """

    steps: tuple[Step, ...]
    shape: Shape

    @property
    def scalar(self) -> None:
        """It is no two-layer network in closed form."""
        return None

    @property
    def last(self) -> int:
        """The number of the value that is its output."""
        return len(self.steps)

    def evaluate(self, inputs: Tensor) -> Tensor:
        """Its output in plain floats `[rows, *shape]`.

        Args:
            inputs: `[rows, *input]`.
        """
        values = [inputs]
        for step in self.steps:
            values.append(plain(step.operation, *(values[i] for i in step.sources)))
        return values[-1]


def plain(operation: Operation, *values: Tensor) -> Tensor:
    """One operation in plain floats."""
    if isinstance(operation, Rectifier):
        return torch.maximum(values[0], operation.slope * values[0])
    if isinstance(operation, Addition):
        return values[0] + values[1]
    if isinstance(operation, Maximum):
        larger = torch.maximum(values[0], values[1])
        return torch.where(operation.absent, values[0], larger)
    return operation.apply(values[0])


def max_pool(
    source: tuple[int, int, int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    append: Callable[[Operation, tuple[int, ...], Shape], int],
    value: int,
) -> int:
    """Append the steps of a max-pooling layer.

    Args:
        source: (channels, height, width).
        kernel: of the window.
        stride: of the windows.
        padding: places on each side that do not count.
        dilation: distance of the window's places.
        append: adds a step (operation, sources, shape) and returns its value's number.
        value: number of the value that is pooled.

    Returns:
        The number of the pooled value.
    """
    channels, height, width = source
    rows, columns = window_image((height, width), kernel, stride, padding, dilation)
    numbers = torch.arange(channels * height * width).reshape(source)
    best: int | None = None
    # The first place that some window has; windows take their own first in its stead.
    first: Tensor | None = None
    shape = (channels, rows, columns)
    for down in range(kernel[0]):
        for across in range(kernel[1]):
            y = torch.arange(rows) * stride[0] - padding[0] + down * dilation[0]
            x = torch.arange(columns) * stride[1] - padding[1] + across * dilation[1]
            inside = ((y >= 0) & (y < height))[:, None] & ((x >= 0) & (x < width))
            index = numbers[:, y.clamp(0, height - 1)][:, :, x.clamp(0, width - 1)]
            absent = ~inside.expand(shape)
            if bool(absent.all()):
                continue
            if first is None:
                first = _first_places(source, kernel, stride, padding, dilation)
                best = append(Gather(first, source), (value,), shape)
            same = absent | (index == first)
            if bool(same.all()):
                continue
            place = append(Gather(index, source), (value,), shape)
            assert best is not None
            best = append(Maximum(same), (best, place), shape)
    assert best is not None
    return best


def _first_places(
    source: tuple[int, int, int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Tensor:
    """The first place of each window that lies in the image `[channels, …]`."""
    channels, height, width = source
    rows, columns = window_image((height, width), kernel, stride, padding, dilation)
    numbers = torch.arange(channels * height * width).reshape(source)

    def first(dim: int, count: int) -> Tensor:
        start = torch.arange(count) * stride[dim] - padding[dim]
        # The smallest multiple of the dilation that brings it inside.
        short = (-start).clamp(min=0)
        return start + -(-short // dilation[dim]) * dilation[dim]

    return numbers[:, first(0, rows)][:, :, first(1, columns)].clone()
