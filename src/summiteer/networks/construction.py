"""A piecewise-linear network built layer by layer, every argument checked."""

import math
from dataclasses import dataclass, field
from typing import TypeAlias

import torch
from torch import Tensor, nn

from summiteer.networks.affine import (
    Affine,
    AveragePool,
    Convolution,
    Dense,
    Elementwise,
    Normalisation,
    Pair,
    Reshape,
    Shape,
    window_image,
)
from summiteer.networks.piecewise_linear import (
    Addition,
    Maximum,
    Operation,
    PiecewiseLinear,
    Rectifier,
    Step,
    max_pool,
)

#: Quotients and products of weights of this size are rounded as γ_n says.
_LEAST, _MOST = 2.0**-900, 2.0**900


class Unknown(Exception):
    """Something that no operation here is known to compute; its text says what."""


@dataclass(frozen=True)
class Value:
    """A value of the network: its number in `Step.sources` and the shape of a row."""

    number: int
    shape: Shape


Sizes: TypeAlias = int | tuple[int, ...] | list[int]


def weight(tensor: object) -> Tensor:
    """A tensor of the model as a float64 copy on the CPU, which is exact.

    Raises:
        Unknown: it is no plain, finite, real tensor.
    """
    if not isinstance(tensor, Tensor) or type(tensor) not in (Tensor, nn.Parameter):
        raise Unknown(f"a weight is a {type(tensor).__name__}, not a plain tensor")
    if not tensor.is_floating_point() or tensor.layout is not torch.strided:
        raise Unknown(f"a weight is {tensor.dtype}, {tensor.layout}")
    if tensor.device.type == "meta":
        raise Unknown("a weight has no values yet")
    copied = tensor.detach().to("cpu", torch.float64, copy=True)
    if not bool(copied.isfinite().all()):
        raise Unknown("a weight is not finite")
    return copied.contiguous()


def number(value: object, name: str) -> float:
    """A Python number as the float that it exactly is."""
    if type(value) not in (int, float):
        raise Unknown(f"{name} is a {type(value).__name__}, not a number")
    assert isinstance(value, int | float)
    if not math.isfinite(value) or abs(value) > _MOST or float(value) != value:
        raise Unknown(f"{name} is {value!r}")
    return float(value)


def whole(value: object, name: str) -> int:
    """An integer that is one."""
    if type(value) is not int:
        raise Unknown(f"{name} is {value!r}, not an integer")
    return value


def pair(value: object, name: str) -> Pair:
    """One integer for both dimensions, or two."""
    if isinstance(value, tuple | list) and len(value) == 2:
        return whole(value[0], name), whole(value[1], name)
    return whole(value, name), whole(value, name)


@dataclass(eq=False)
class Construction:
    """The steps so far.

    Attributes:
        shape: of a row of the input.
        steps: in order of evaluation.
        name: of the layer that is being added.
    """

    shape: Shape
    steps: list[Step] = field(default_factory=list)
    name: str = ""

    def input(self) -> Value:
        """The network's input.

        Raises:
            Unknown: it has no numbers, or its shape is no shape.
        """
        if min((whole(size, "a size") for size in self.shape), default=1) < 1:
            raise Unknown(f"rows of the shape {list(self.shape)}")
        return Value(0, self.shape)

    def append(
        self, operation: Operation, sources: tuple[int, ...], shape: Shape
    ) -> int:
        """Add a step; the number of its value."""
        self.steps.append(Step(operation, sources, shape, self.name))
        return len(self.steps)

    def _affine(self, operation: Affine, value: Value, shape: Shape) -> Value:
        return Value(self.append(operation, (value.number,), shape), shape)

    def finish(self, output: Value) -> PiecewiseLinear:
        """The network that computes `output`, without steps that it does not use."""
        if output.number == 0:
            output = self._affine(Reshape(self.shape, self.shape), output, self.shape)
        used, pending = {0}, [output.number]
        while pending:
            current = pending.pop()
            if current not in used:
                used.add(current)
                pending += self.steps[current - 1].sources
        kept = sorted(used)
        numbers = {old: new for new, old in enumerate(kept)}
        steps = []
        for old in kept[1:]:
            step = self.steps[old - 1]
            sources = tuple(numbers[source] for source in step.sources)
            steps.append(Step(step.operation, sources, step.shape, step.name))
        return PiecewiseLinear(tuple(steps), self.shape)

    # Affine layers.

    def dense(self, value: Value, matrix: object, bias: object = None) -> Value:
        """Wv + b on the last dimension."""
        kernel = weight(matrix)
        if kernel.ndim != 2 or value.shape[-1:] != kernel.shape[1:]:
            raise Unknown(
                f"a weight {list(kernel.shape)} for a row {list(value.shape)}"
            )
        shift = self._bias(bias, kernel)
        shape = (*value.shape[:-1], len(kernel))
        return self._affine(Dense(kernel, shift), value, shape)

    def convolution(
        self,
        value: Value,
        kernel: object,
        bias: object,
        stride: object,
        padding: object,
        dilation: object,
        groups: object,
    ) -> Value:
        """A convolution of images, zeros around them."""
        matrix, source = weight(kernel), self._image(value)
        count = whole(groups, "groups")
        if (
            matrix.ndim != 4
            or count < 1
            or matrix.shape[1] * count != source[0]
            or len(matrix) % count
        ):
            raise Unknown(
                f"a kernel {list(matrix.shape)} for a row {list(source)} in "
                f"{count} groups"
            )
        size = (matrix.shape[2], matrix.shape[3])
        steps, apart = pair(stride, "stride"), pair(dilation, "dilation")
        around = _around(padding, size, steps, apart)
        image = _image_of(source, size, steps, around, apart)
        operation = Convolution(
            matrix, self._bias(bias, matrix), source, steps, around, apart, count
        )
        return self._affine(operation, value, (len(matrix), *image))

    @staticmethod
    def _bias(bias: object, matrix: Tensor) -> Tensor:
        if bias is None:
            return matrix.new_zeros(len(matrix))
        shift = weight(bias)
        if shift.shape != matrix.shape[:1]:
            raise Unknown(f"a bias {list(shift.shape)} for {len(matrix)} outputs")
        return shift

    @staticmethod
    def _image(value: Value) -> tuple[int, int, int]:
        """The row as an image: torch takes other ranks without a batch."""
        if len(value.shape) != 3:
            raise Unknown(f"an image is [channels, h, w], not {list(value.shape)}")
        return value.shape[0], value.shape[1], value.shape[2]

    def normalisation(
        self,
        value: Value,
        mean: object,
        variance: object,
        factor: object,
        offset: object,
        epsilon: object,
    ) -> Value:
        """BatchNorm by given statistics."""
        if not value.shape:
            raise Unknown("a row without channels")
        centre, spread = weight(mean), weight(variance)
        scale = torch.ones_like(centre) if factor is None else weight(factor)
        shift = torch.zeros_like(centre) if offset is None else weight(offset)
        if any(t.shape != value.shape[:1] for t in (centre, spread, scale, shift)):
            raise Unknown(f"statistics that do not fit a row {list(value.shape)}")
        added = number(epsilon, "eps")
        if added < 0 or bool((spread < 0).any()) or bool((spread + added <= 0).any()):
            raise Unknown("a variance that is not positive")
        _in_range(scale / (spread + added).sqrt(), scale)
        operation = Normalisation(
            centre, spread, scale, shift, added, len(value.shape) - 1
        )
        return self._affine(operation, value, value.shape)

    def average_pool(
        self, value: Value, kernel: Pair, stride: Pair, padding: Pair = (0, 0)
    ) -> Value:
        """The means of windows, the padding counted."""
        source = self._image(value)
        if any(2 * around > size for around, size in zip(padding, kernel, strict=True)):
            raise Unknown(f"padding {padding} of a window {kernel}")
        image = _image_of(source, kernel, stride, padding, (1, 1))
        operation = AveragePool(source, kernel, stride, padding)
        return self._affine(operation, value, (source[0], *image))

    def elementwise(
        self,
        value: Value,
        factor: object = 1.0,
        divisor: object = 1.0,
        offset: object = 0.0,
    ) -> Value:
        """v·factor/divisor + offset; tensors broadcast to the rows, never beyond."""
        a, b, c = (_constant(one, value.shape) for one in (factor, divisor, offset))
        if bool((b == 0).any()):
            raise Unknown("a division by zero")
        _in_range(a / b, a)
        return self._affine(Elementwise(a, b, c), value, value.shape)

    def reshape(self, value: Value, shape: Shape) -> Value:
        """The same numbers in another shape."""
        if math.prod(shape) != math.prod(value.shape) or min(shape, default=1) < 0:
            raise Unknown(f"a row {list(value.shape)} in the shape {list(shape)}")
        if shape == value.shape:
            return value
        return self._affine(Reshape(value.shape, shape), value, shape)

    # Maxima and sums.

    def rectifier(self, value: Value, slope: float) -> Value:
        """max(v, slope·v)."""
        if not -1 <= slope < 1:
            raise Unknown(f"the slope is {slope}, expected -1 ≤ slope < 1")
        shape = value.shape
        return Value(self.append(Rectifier(slope), (value.number,), shape), shape)

    def addition(self, left: Value, right: Value) -> Value:
        """Left + right."""
        if left.shape != right.shape:
            raise Unknown(f"rows {list(left.shape)} + {list(right.shape)}")
        sources = (left.number, right.number)
        return Value(self.append(Addition(), sources, left.shape), left.shape)

    def maximum(self, left: Value, right: Value) -> Value:
        """max(left, right)."""
        if left.shape != right.shape:
            raise Unknown(f"the maximum of {list(left.shape)} and {list(right.shape)}")
        absent = torch.zeros(left.shape, dtype=torch.bool)
        sources = (left.number, right.number)
        return Value(self.append(Maximum(absent), sources, left.shape), left.shape)

    def max_pool(
        self, value: Value, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
    ) -> Value:
        """The maxima of windows."""
        source = self._image(value)
        image = _image_of(source, kernel, stride, padding, dilation)
        for dim in (0, 1):
            if 2 * padding[dim] > dilation[dim] * (kernel[dim] - 1) + 1:
                raise Unknown(f"padding {padding} of a window {kernel}")
            starts = torch.arange(image[dim]) * stride[dim] - padding[dim]
            places = starts[:, None] + torch.arange(kernel[dim]) * dilation[dim]
            inside = (places >= 0) & (places < source[1 + dim])
            if not bool(inside.any(1).all()):
                raise Unknown("a window that lies in the padding")
        best = max_pool(
            source, kernel, stride, padding, dilation, self.append, value.number
        )
        return Value(best, (source[0], *image))


def _around(padding: object, kernel: Pair, stride: Pair, dilation: Pair) -> Pair:
    """Zeros on each side of a convolution's image."""
    if padding == "valid":
        return 0, 0
    if padding == "same":
        total = [dilation[dim] * (kernel[dim] - 1) for dim in (0, 1)]
        if stride != (1, 1) or total[0] % 2 or total[1] % 2:
            raise Unknown("padding 'same' with more zeros on one side")
        return total[0] // 2, total[1] // 2
    return pair(padding, "padding")


def _image_of(
    source: tuple[int, int, int],
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Pair:
    if min(*kernel, *stride, *dilation) < 1 or min(padding) < 0:
        raise Unknown(
            f"kernel {kernel}, stride {stride}, padding {padding}, dilation {dilation}"
        )
    image = window_image(source[1:], kernel, stride, padding, dilation)
    if min(image) < 1:
        raise Unknown(f"a window {kernel} on a row {list(source)}")
    return image


def _constant(value: object, shape: Shape) -> Tensor:
    """A number or a tensor as one that broadcasts to a row of that shape."""
    if not isinstance(value, Tensor):
        return torch.tensor(number(value, "a constant"), dtype=torch.float64)
    constant = weight(value)
    if constant.ndim == len(shape) + 1 and len(constant) == 1:
        constant = constant[0]
    fits = constant.ndim <= len(shape) and all(
        size in (1, wanted)
        for size, wanted in zip(constant.shape[::-1], shape[::-1], strict=False)
    )
    if not fits:
        raise Unknown(f"a constant {list(value.shape)} for a row {list(shape)}")
    return constant


def _in_range(scale: Tensor, factor: Tensor) -> None:
    """Neither overflow nor underflow has touched a quotient."""
    size = scale.abs()
    normal = (factor == 0) | ((size >= _LEAST) & (size <= _MOST))
    if not bool(normal.all()):
        raise Unknown("a factor out of range")
