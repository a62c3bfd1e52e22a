"""Piecewise-linear networks in rational numbers: every operation by its definition.

Values are numpy arrays of `Fraction`, one row at a time. Nothing of the package's
arithmetic is used, only its description of the network.
"""

import math
from fractions import Fraction

import numpy as np
import torch

from summiteer.networks.affine import (
    AveragePool,
    Convolution,
    Dense,
    Elementwise,
    Gather,
    Normalisation,
    Reshape,
)
from summiteer.networks.piecewise_linear import (
    Addition,
    Maximum,
    PiecewiseLinear,
    Rectifier,
    Step,
    max_pool,
)

F64 = torch.float64
#: √ is taken with so many more digits: far below any rounding of float64.
_DIGITS = 10**400


def rational(values):
    """The floats of a tensor, exactly."""
    flat = [Fraction(v) for v in values.detach().flatten().tolist()]
    made = np.empty(len(flat), dtype=object)
    made[:] = flat
    return made.reshape(tuple(values.shape))


def root(number):
    """√ of a fraction, to 200 digits."""
    top = number.numerator * number.denominator * _DIGITS
    return Fraction(math.isqrt(top), number.denominator) / math.isqrt(_DIGITS)


def _shaped(values, trailing):
    return rational(values).reshape(-1, *([1] * trailing))


def _places(operation, kernel, dilation=(1, 1)):
    """(row, column, kernel row, kernel column, y, x) of all that lies in the image."""
    _, height, width = operation.source
    rows, columns = (
        (size + 2 * pad - step * (k - 1) - 1) // stride + 1
        for size, pad, step, k, stride in zip(
            (height, width),
            operation.padding,
            dilation,
            kernel,
            operation.stride,
            strict=True,
        )
    )
    for row, column, down, across in np.ndindex(rows, columns, *kernel):
        y = row * operation.stride[0] - operation.padding[0] + down * dilation[0]
        x = column * operation.stride[1] - operation.padding[1] + across * dilation[1]
        if 0 <= y < height and 0 <= x < width:
            yield row, column, down, across, y, x


def _convolved(operation, values, shape, affine):
    weight = rational(operation.weight)
    made = np.full(shape, Fraction(0), dtype=object)
    kernel = weight.shape[2:]
    inner, outer = weight.shape[1], weight.shape[0] // operation.groups
    for row, column, down, across, y, x in _places(
        operation, kernel, operation.dilation
    ):
        for group in range(operation.groups):
            seen = values[group * inner : (group + 1) * inner, y, x]
            part = weight[group * outer : (group + 1) * outer, :, down, across]
            made[group * outer : (group + 1) * outer, row, column] += part @ seen
    return made + _shaped(operation.bias, 2) if affine else made


def _averaged(operation, values, shape):
    made = np.full(shape, Fraction(0), dtype=object)
    for row, column, _, _, y, x in _places(operation, operation.kernel):
        made[:, row, column] += values[:, y, x]
    return made / (operation.kernel[0] * operation.kernel[1])


def mapped(operation, values, shape, affine=True):
    """Av + b of one row, or Av alone."""
    zero = 1 if affine else 0
    if isinstance(operation, Dense):
        made = values @ rational(operation.weight).T
        return made + zero * rational(operation.bias)
    if isinstance(operation, Convolution):
        return _convolved(operation, values, shape, affine)
    if isinstance(operation, Normalisation):
        mean, variance, factor, offset = (
            _shaped(x, operation.trailing)
            for x in (
                operation.mean,
                operation.variance,
                operation.factor,
                operation.offset,
            )
        )
        deviation = np.vectorize(root, otypes=[object])(
            variance + Fraction(operation.epsilon)
        )
        return (values - zero * mean) * factor / deviation + zero * offset
    if isinstance(operation, Elementwise):
        factor, divisor, offset = (
            rational(x) for x in (operation.factor, operation.divisor, operation.offset)
        )
        return values * factor / divisor + zero * offset
    if isinstance(operation, Gather):
        return values.reshape(-1)[operation.index.numpy()]
    if isinstance(operation, Reshape):
        return values.reshape(operation.shape)
    assert isinstance(operation, AveragePool)
    return _averaged(operation, values, shape)


def evaluated(network, inputs, slopes=None, affine=True):
    """(all values, heights of kinks by step) of one row.

    Args:
        network: the program.
        inputs: of one row.
        slopes: step -> share of the right side; each kink's own side if None.
        affine: whether the offsets count.
    """
    values, heights = [inputs], {}
    for number, step in enumerate(network.steps):
        sources = [values[i] for i in step.sources]
        operation = step.operation
        if isinstance(operation, Addition):
            made = sources[0] + sources[1]
        elif isinstance(operation, Rectifier):
            height = heights[number] = sources[0]
            side = Fraction(operation.slope)
            share = np.where(height > 0, Fraction(1), side)
            made = height * (share if slopes is None else slopes[number])
        elif isinstance(operation, Maximum):
            absent = operation.absent.numpy()
            height = heights[number] = sources[1] - sources[0]
            share = np.where((height > 0) & ~absent, Fraction(1), Fraction(0))
            share = share if slopes is None else slopes[number]
            made = sources[0] + height * share
        else:
            made = mapped(operation, sources[0], step.shape, affine)
        values.append(made)
    return values, heights


def gradient(network, form, slopes):
    """Of the linear form of the outputs with these slopes, entry by entry."""
    made = np.empty(network.shape, dtype=object)
    for place in np.ndindex(*network.shape):
        unit = np.full(network.shape, Fraction(0), dtype=object)
        unit[place] = Fraction(1)
        outputs = evaluated(network, unit, slopes, affine=False)[0][-1]
        made[place] = (outputs * form).sum()
    return made


def inside(enclosure, truth, row):
    """Whether the exact numbers of a row lie in their enclosure."""
    gaps = abs(truth - rational(enclosure.middle[row]))
    radius = enclosure.radius[row].flatten().tolist()
    return all(
        math.isinf(room) or gap <= Fraction(room)
        for gap, room in zip(gaps.flatten(), radius, strict=True)
    )


class Program:
    """Steps appended one by one, with random weights of a seed.

    Args:
        shape: of a row of the input.
        seed: of the weights.
    """

    def __init__(self, shape, seed=0):
        self.shape, self.steps, self.shapes = shape, [], [shape]
        self.generator = torch.Generator().manual_seed(seed)

    def random(self, *shape):
        return torch.randn(*shape, generator=self.generator, dtype=F64)

    def append(self, operation, sources, shape):
        self.steps.append(Step(operation, sources, tuple(shape)))
        self.shapes.append(tuple(shape))
        return len(self.steps)

    def dense(self, width, source=None, scale=1.0):
        source = len(self.steps) if source is None else source
        fan = self.shapes[source][-1]
        weight = scale * self.random(width, fan) / fan**0.5
        shape = (*self.shapes[source][:-1], width)
        operation = Dense(weight, 0.3 * scale * self.random(width))
        return self.append(operation, (source,), shape)

    def convolution(self, channels, kernel, groups=1, **how):
        source = self.shapes[-1]
        weight = self.random(channels, source[0] // groups, *kernel)
        weight /= weight[0].numel() ** 0.5
        bias = 0.3 * self.random(channels)
        operation = Convolution(weight, bias, source, groups=groups, **how)
        return self.append(operation, (len(self.steps),), (channels, *operation.image))

    def normalisation(self, scale=1.0):
        shape = self.shapes[-1]
        mean, factor, offset = (0.5 * self.random(shape[0]) for _ in range(3))
        variance = (scale * self.random(shape[0])).square()
        operation = Normalisation(
            scale * mean, variance, factor + 1, offset, 1e-5, len(shape) - 1
        )
        return self.append(operation, (len(self.steps),), shape)

    def elementwise(self, scale=1.0):
        shape = self.shapes[-1]
        factor, divisor, offset = (self.random(*shape) for _ in range(3))
        operation = Elementwise(scale * factor, divisor.sign() + divisor, offset)
        return self.append(operation, (len(self.steps),), shape)

    def rectifier(self, slope=0.0):
        return self.append(Rectifier(slope), (len(self.steps),), self.shapes[-1])

    def pool(self, kernel, stride, padding=(0, 0), dilation=(1, 1)):
        return max_pool(
            self.shapes[-1],
            kernel,
            stride,
            padding,
            dilation,
            self.append,
            len(self.steps),
        )

    def average(self, kernel, stride, padding=(0, 0)):
        source = self.shapes[-1]
        operation = AveragePool(source, kernel, stride, padding)
        sizes = zip(source[1:], kernel, stride, padding, strict=True)
        image = [(n + 2 * p - k) // s + 1 for n, k, s, p in sizes]
        return self.append(operation, (len(self.steps),), (source[0], *image))

    def flatten(self):
        source = self.shapes[-1]
        shape = (math.prod(source),)
        return self.append(Reshape(source, shape), (len(self.steps),), shape)

    def add(self, left, right):
        return self.append(Addition(), (left, right), self.shapes[left])

    @property
    def network(self):
        return PiecewiseLinear(tuple(self.steps), self.shape)
