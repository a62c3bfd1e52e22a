"""The layers and functions of torch that are affine maps and maxima of two.

Each takes the arguments of torch's own, by the same names; another argument, or another
value of one, is `Unknown`.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from summiteer.networks.affine import Pair
from summiteer.networks.construction import (
    Construction,
    Unknown,
    Value,
    number,
    pair,
    weight,
    whole,
)
from summiteer.networks.shapes import (
    attribute,
    computed,
    dimension,
    flatten,
    item,
    size,
    squeeze,
    unflatten,
    unsqueeze,
    view,
)
from summiteer.networks.standardise import Standardise

#: What a handler is given before torch's arguments.
Handler = Callable[..., Any]


def _no(flag: object, name: str) -> None:
    if flag is not False:
        raise Unknown(f"{name} is {flag!r}")


def linear(build: Construction, input: Any, weight: Any, bias: Any = None) -> Value:
    """F.linear."""
    return build.dense(computed(input), weight, bias)


def convolution(
    build: Construction,
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: Any = 1,
) -> Value:
    """F.conv2d."""
    value = computed(input)
    return build.convolution(value, weight, bias, stride, padding, dilation, groups)


def relu(build: Construction, input: Any, inplace: Any = False) -> Value:
    """F.relu; whether it may be in place is asked elsewhere."""
    return build.rectifier(computed(input), 0.0)


def leaky_relu(
    build: Construction, input: Any, negative_slope: Any = 0.01, inplace: Any = False
) -> Value:
    """F.leaky_relu with a slope in [0, 1)."""
    slope = number(negative_slope, "negative_slope")
    if not 0 <= slope < 1:
        raise Unknown(f"negative_slope is {slope}, expected 0 ≤ slope < 1")
    return build.rectifier(computed(input), slope)


def absolute(build: Construction, input: Any) -> Value:
    """|v| = max(v, -v)."""
    return build.rectifier(computed(input), -1.0)


def clamp(build: Construction, input: Any, min: Any = None, max: Any = None) -> Value:
    """torch.clamp from below at 0."""
    if max is not None or min is None or number(min, "min") != 0:
        raise Unknown("limits other than min=0")
    return build.rectifier(computed(input), 0.0)


def max_pool(
    build: Construction,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: Any = False,
    return_indices: Any = False,
) -> Value:
    """F.max_pool2d."""
    _no(ceil_mode, "ceil_mode")
    _no(return_indices, "return_indices")
    kernel = pair(kernel_size, "kernel_size")
    steps = _stride(stride, kernel)
    around, apart = pair(padding, "padding"), pair(dilation, "dilation")
    return build.max_pool(computed(input), kernel, steps, around, apart)


def average_pool(
    build: Construction,
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: Any = False,
    count_include_pad: Any = True,
    divisor_override: Any = None,
) -> Value:
    """F.avg_pool2d."""
    _no(ceil_mode, "ceil_mode")
    kernel, around = pair(kernel_size, "kernel_size"), pair(padding, "padding")
    if divisor_override is not None:
        raise Unknown(f"divisor_override is {divisor_override!r}")
    if around != (0, 0) and count_include_pad is not True:
        raise Unknown(f"count_include_pad is {count_include_pad!r}")
    return build.average_pool(computed(input), kernel, _stride(stride, kernel), around)


def adaptive_average_pool(build: Construction, input: Any, output_size: Any) -> Value:
    """F.adaptive_avg_pool2d whose windows do not overlap."""
    value = computed(input)
    if len(value.shape) != 3:
        raise Unknown(f"an image is [channels, h, w], not {list(value.shape)}")
    height, width = value.shape[1:]
    sizes = output_size if isinstance(output_size, tuple | list) else [output_size] * 2
    if len(sizes) != 2:
        raise Unknown(f"output_size is {output_size!r}")
    rows = height if sizes[0] is None else whole(sizes[0], "output_size")
    columns = width if sizes[1] is None else whole(sizes[1], "output_size")
    if min(rows, columns) < 1 or height % rows or width % columns:
        raise Unknown(f"windows of several sizes: {height}×{width} to {rows}×{columns}")
    kernel = (height // rows, width // columns)
    return build.average_pool(value, kernel, kernel)


def batch_norm(
    build: Construction,
    input: Any,
    running_mean: Any,
    running_var: Any,
    weight: Any = None,
    bias: Any = None,
    training: Any = False,
    momentum: Any = 0.1,
    eps: Any = 1e-5,
) -> Value:
    """F.batch_norm with given statistics."""
    _no(training, "training")
    if running_mean is None or running_var is None:
        raise Unknown("it has no running statistics, so rows depend on each other")
    value = computed(input)
    return build.normalisation(value, running_mean, running_var, weight, bias, eps)


def dropout(
    build: Construction,
    input: Any,
    p: Any = 0.5,
    training: Any = True,
    inplace: Any = False,
) -> Value:
    """F.dropout outside training."""
    _no(training, "training")
    return computed(input)


def same(build: Construction, input: Any) -> Value:
    """The value itself: contiguous, nn.Identity."""
    return computed(input)


def mean(build: Construction, input: Any, dim: Any, keepdim: Any = False) -> Value:
    """The mean of an image's height and width."""
    value = computed(input)
    dims = dim if isinstance(dim, tuple | list) else [dim]
    places = sorted(dimension(one, value) for one in dims)
    if len(value.shape) != 3 or places != [2, 3] or type(keepdim) is not bool:
        raise Unknown("a mean of other than height and width")
    image = value.shape[1:]
    pooled = build.average_pool(value, (image[0], image[1]), (image[0], image[1]))
    return pooled if keepdim else build.reshape(pooled, value.shape[:1])


def maximum(build: Construction, input: Any, other: Any) -> Value:
    """torch.maximum of two values."""
    return build.maximum(computed(input), computed(other))


def add(build: Construction, input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """X + y of two values, a value and a constant, or two sizes."""
    _one(alpha)
    if _whole(input, other):
        return input + other
    if isinstance(input, Value) and isinstance(other, Value):
        return build.addition(input, other)
    value, constant = _split(input, other)
    return build.elementwise(value, offset=constant)


def subtract(build: Construction, input: Any, other: Any, *, alpha: Any = 1) -> Any:
    """X - y."""
    _one(alpha)
    if _whole(input, other):
        return input - other
    if isinstance(other, Value):
        minus = build.elementwise(other, factor=-1.0)
        return add(build, input, minus)
    return build.elementwise(computed(input), offset=_negative(other))


def multiply(build: Construction, input: Any, other: Any) -> Any:
    """x·constant, or the product of two sizes."""
    if _whole(input, other):
        return input * other
    value, constant = _split(input, other)
    return build.elementwise(value, factor=constant)


def divide(
    build: Construction, input: Any, other: Any, *, rounding_mode: Any = None
) -> Value:
    """x/constant."""
    if rounding_mode is not None or isinstance(other, Value):
        raise Unknown("a division that is not by a constant")
    return build.elementwise(computed(input), divisor=other)


def divide_whole(build: Construction, input: Any, other: Any) -> int:
    """The quotient of two sizes."""
    if not _whole(input, other) or other == 0:
        raise Unknown("a division that is rounded")
    quotient: int = input // other
    return quotient


def negate(build: Construction, input: Any) -> Value:
    """The value with the other sign."""
    return build.elementwise(computed(input), factor=-1.0)


def _whole(*given: object) -> bool:
    return all(type(one) is int for one in given)


def _one(alpha: object) -> None:
    if type(alpha) not in (int, float) or alpha != 1:
        raise Unknown(f"alpha is {alpha!r}")


def _negative(constant: Any) -> Any:
    if isinstance(constant, Tensor):
        return -constant
    return -number(constant, "a constant")


def _split(one: Any, other: Any) -> tuple[Value, Any]:
    """The value and the constant."""
    if isinstance(one, Value) and isinstance(other, Value):
        raise Unknown("a product of two values")
    return (one, other) if isinstance(one, Value) else (computed(other), one)


def _stride(stride: object, kernel: Pair) -> Pair:
    return kernel if stride is None or stride == [] else pair(stride, "stride")


def _conv_layer(build: Construction, value: Any, layer: Any) -> Value:
    if layer.padding_mode != "zeros":
        raise Unknown(f"padding_mode is {layer.padding_mode!r}")
    names = ("weight", "bias", "stride", "padding", "dilation", "groups")
    return convolution(build, value, *(getattr(layer, name) for name in names))


def _max_pool_layer(build: Construction, value: Any, layer: Any) -> Value:
    names = ("kernel_size", "stride", "padding", "dilation", "ceil_mode")
    given = {name: getattr(layer, name) for name in names}
    return max_pool(build, value, **given, return_indices=layer.return_indices)


def _average_pool_layer(build: Construction, value: Any, layer: Any) -> Value:
    names = (
        *("kernel_size", "stride", "padding", "ceil_mode"),
        *("count_include_pad", "divisor_override"),
    )
    given = {name: getattr(layer, name) for name in names}
    return average_pool(build, value, **given)


def _batch_norm_layer(build: Construction, value: Any, layer: Any) -> Value:
    expected = (3,) if type(layer) is nn.BatchNorm2d else (1, 2)
    if len(computed(value).shape) not in expected:
        raise Unknown(f"a row {list(computed(value).shape)}")
    names = ("running_mean", "running_var", "weight", "bias", "eps")
    given = {name: getattr(layer, name) for name in names}
    return batch_norm(build, value, **given)


def _standardise_layer(build: Construction, value: Any, layer: Any) -> Value:
    """Two steps, each exact in real arithmetic, so that each rounding is counted."""
    weight(layer.mean), weight(layer.std)  # plain tensors, before anything is asked
    mean, std = layer.constants(computed(value).shape)
    moved = build.elementwise(computed(value), offset=_negative(mean))
    return build.elementwise(moved, divisor=std)


def _same_layer(build: Construction, value: Any, layer: Any) -> Value:
    return computed(value)


#: Layers by their exact type: handler(construction, value, layer).
LAYERS: dict[type[nn.Module], Handler] = {
    nn.Linear: lambda b, v, l: linear(b, v, l.weight, l.bias),  # noqa: E741
    nn.Conv2d: _conv_layer,
    nn.ReLU: lambda b, v, _: relu(b, v),
    nn.LeakyReLU: lambda b, v, l: leaky_relu(b, v, l.negative_slope),  # noqa: E741
    nn.MaxPool2d: _max_pool_layer,
    nn.AvgPool2d: _average_pool_layer,
    nn.AdaptiveAvgPool2d: lambda b, v, l: adaptive_average_pool(b, v, l.output_size),  # noqa: E741
    nn.Flatten: lambda b, v, l: flatten(b, v, l.start_dim, l.end_dim),  # noqa: E741
    nn.Unflatten: lambda b, v, l: unflatten(b, v, l.dim, l.unflattened_size),  # noqa: E741
    nn.BatchNorm1d: _batch_norm_layer,
    nn.BatchNorm2d: _batch_norm_layer,
    nn.Dropout: _same_layer,
    nn.Dropout1d: _same_layer,
    nn.Dropout2d: _same_layer,
    nn.Dropout3d: _same_layer,
    nn.AlphaDropout: _same_layer,
    nn.FeatureAlphaDropout: _same_layer,
    nn.Identity: _same_layer,
    Standardise: _standardise_layer,
}

#: Functions by identity: handler(construction, *arguments of the function).
FUNCTIONS: dict[Any, Handler] = {
    functional.linear: linear,
    functional.conv2d: convolution,
    functional.relu: relu,
    functional.relu_: relu,
    functional.leaky_relu: leaky_relu,
    functional.max_pool2d: max_pool,
    functional.avg_pool2d: average_pool,
    functional.adaptive_avg_pool2d: adaptive_average_pool,
    functional.batch_norm: batch_norm,
    functional.dropout: dropout,
    torch.relu: relu,
    torch.relu_: relu,
    torch.abs: absolute,
    torch.clamp: clamp,
    torch.flatten: flatten,
    torch.unflatten: unflatten,
    torch.squeeze: squeeze,
    torch.unsqueeze: unsqueeze,
    torch.mean: mean,
    torch.maximum: maximum,
    torch.add: add,
    torch.sub: subtract,
    torch.mul: multiply,
    torch.div: divide,
    torch.neg: negate,
    operator.add: add,
    operator.sub: subtract,
    operator.mul: multiply,
    operator.truediv: divide,
    operator.floordiv: divide_whole,
    operator.iadd: add,
    operator.isub: subtract,
    operator.imul: multiply,
    operator.itruediv: divide,
    operator.neg: negate,
    operator.getitem: item,
    getattr: attribute,
}

#: Methods of a tensor by name.
METHODS: dict[str, Handler] = {
    "relu": relu,
    "relu_": relu,
    "abs": absolute,
    "clamp": clamp,
    "flatten": flatten,
    "unflatten": unflatten,
    "view": view,
    "reshape": view,
    "squeeze": squeeze,
    "unsqueeze": unsqueeze,
    "contiguous": same,
    "mean": mean,
    "maximum": maximum,
    "size": size,
    "add": add,
    "sub": subtract,
    "mul": multiply,
    "div": divide,
    "neg": negate,
}
#: Functions and methods that always write into their first argument.
IN_PLACE: frozenset[Any] = frozenset(
    {
        *(functional.relu_, torch.relu_, "relu_"),
        *(operator.iadd, operator.isub, operator.imul, operator.itruediv),
    }
)
#: torch's own functions that the layers above call.
FUNCTIONAL: dict[str, Any] = {
    name: getattr(functional, name)
    for name in (
        *("linear", "conv2d", "relu", "leaky_relu", "max_pool2d", "avg_pool2d"),
        *("adaptive_avg_pool2d", "batch_norm", "dropout", "dropout1d", "dropout2d"),
        *("dropout3d", "alpha_dropout", "feature_alpha_dropout", "pad"),
    )
}
