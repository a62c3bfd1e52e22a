"""The table of ONNX operators: what each becomes as layers of torch.

Recognised in proofs, behind which verdicts can be PROVED: Add, Sub, Mul and Div by
constants, AveragePool, BatchNormalization, Conv, Dropout, Flatten, Gemm,
GlobalAveragePool, GlobalMaxPool, Identity, LeakyRelu, MatMul, MaxPool, Relu, Reshape,
Squeeze, Unsqueeze, sums of two values. The others (Clip, Concat, Elu, Gelu,
HardSigmoid, HardSwish, LogSoftmax, Pad, PRelu, Selu, Sigmoid, Softmax, Softplus, Tanh,
Transpose) are attacked, and what is said then is NUMERICAL.
"""

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from summiteer.data.onnx_modules import (
    Clip,
    Elu,
    Frame,
    HardSigmoid,
    ParametricRelu,
    Quotient,
    Scale,
    Shift,
    Transpose,
)
from summiteer.data.onnx_node import Node, check_size, refuse


def layers_of(node: Node, value: Tensor) -> list[nn.Module]:
    """Return the layers that do what a node does to its first input.

    Args:
        node: of a kind in `KNOWN`, all but its first input constant.
        value: an example of the first input, two rows.

    Raises:
        UserError: this form of the operator is not known.
    """
    make = _LAYERS.get(node.kind)
    if make is None:
        refuse(node, "not expected here")
    return make(node, value)


def _flatten(node: Node, value: Tensor) -> list[nn.Module]:
    axis = int(node.attributes.get("axis", 1))
    axis += value.ndim if axis < 0 else 0
    # Dimensions of size 1 may be counted to the batch: the numbers are the same.
    if not 1 <= axis <= value.ndim or math.prod(value.shape[1:axis]) != 1:
        refuse(node, f"expected axis 1, got {axis}: it would mix examples")
    return [nn.Flatten(1)]


def _reshape(node: Node, value: Tensor) -> list[nn.Module]:
    if 1 not in node.constants:
        refuse(node, "expected a constant shape")
    shape = [int(n) for n in node.constants[1]]
    zero_copies = not node.attributes.get("allowzero", 0)
    wanted = [
        value.shape[i] if n == 0 and zero_copies and i < value.ndim else n
        for i, n in enumerate(shape)
    ]
    row, rest = value[0].numel(), wanted[1:]
    batch = shape[0] if shape else 1
    if rest.count(-1) == 1:
        known = -math.prod(rest)
        rest = [row // known if n == -1 and known else n for n in rest]
    keeps = batch == -1 or (batch == 0 and zero_copies) or 0 < batch == node.batch
    if not rest or not keeps or math.prod(rest) != row or min(rest) < 1:
        refuse(
            node,
            f"expected [batch, ...] with {row} numbers per example, got shape {shape}",
        )
    if len(rest) == 1:
        return [nn.Flatten(1)]
    return [nn.Flatten(1), nn.Unflatten(1, tuple(rest))]


def _gemm(node: Node, value: Tensor) -> list[nn.Module]:
    alpha, beta = (node.attributes.get(name, 1.0) for name in ("alpha", "beta"))
    if node.attributes.get("transA", 0):
        refuse(node, "expected transA = 0: it would mix examples")
    weight = _weight(node, 1, 2, value)
    weight = weight if node.attributes.get("transB", 0) else weight.T
    bias = None
    if node.has(2):
        bias = _weight(node, 2, None, value)
        if bias.ndim > 2 or (bias.ndim == 2 and len(bias) != 1):
            refuse(node, f"expected one bias per output, got {list(bias.shape)}")
        bias = beta * bias.flatten().expand(len(weight))
    return [_linear(node, alpha * weight, bias)]


def _matmul(node: Node, value: Tensor) -> list[nn.Module]:
    return [_linear(node, _weight(node, 1, 2, value).T, None)]


def _linear(node: Node, weight: Tensor, bias: Tensor | None) -> nn.Module:
    outputs, inputs = weight.shape
    layer = nn.Linear(inputs, outputs, bias is not None, dtype=weight.dtype)
    return _filled(node, layer, weight=weight, bias=bias)


def _convolution(node: Node, value: Tensor) -> list[nn.Module]:
    weight = _weight(node, 1, 4, value)
    bias = _weight(node, 2, 1, value) if node.has(2) else None
    kernel = (int(weight.shape[2]), int(weight.shape[3]))
    groups = int(node.attributes.get("group", 1))
    if _pair(node, "kernel_shape", kernel) != kernel:
        refuse(node, "kernel_shape differs from the weight's shape")
    if groups < 1 or weight.shape[0] % groups:
        refuse(node, f"{weight.shape[0]} channels cannot be in {groups} groups")
    layer = nn.Conv2d(
        int(weight.shape[1]) * groups,
        int(weight.shape[0]),
        kernel,
        stride=_pair(node, "strides", (1, 1)),
        padding=_padding(node),
        dilation=_pair(node, "dilations", (1, 1)),
        groups=groups,
        bias=bias is not None,
        dtype=weight.dtype,
    )
    return [_filled(node, layer, weight=weight, bias=bias)]


def _batch_norm(node: Node, value: Tensor) -> list[nn.Module]:
    if node.attributes.get("training_mode", 0):
        refuse(node, "expected training_mode = 0")
    if not node.attributes.get("spatial", 1):
        refuse(node, "expected spatial = 1")
    scale, offset, mean, variance = (_weight(node, i, 1, value) for i in range(1, 5))
    kind = nn.BatchNorm2d if value.ndim == 4 else nn.BatchNorm1d
    epsilon = float(node.attributes.get("epsilon", 1e-5))
    layer = kind(len(scale), eps=epsilon, dtype=scale.dtype)
    return [
        _filled(
            node,
            layer,
            weight=scale,
            bias=offset,
            running_mean=mean,
            running_var=variance,
        )
    ]


def _max_pool(node: Node, value: Tensor) -> list[nn.Module]:
    _check_image(node, value)
    return [
        nn.MaxPool2d(
            _pair(node, "kernel_shape", None),
            stride=_pair(node, "strides", (1, 1)),
            padding=_padding(node),
            dilation=_pair(node, "dilations", (1, 1)),
        )
    ]


def _average_pool(node: Node, value: Tensor) -> list[nn.Module]:
    _check_image(node, value)
    if _pair(node, "dilations", (1, 1)) != (1, 1):
        refuse(node, "expected no dilations")
    return [
        nn.AvgPool2d(
            _pair(node, "kernel_shape", None),
            stride=_pair(node, "strides", (1, 1)),
            padding=_padding(node),
            count_include_pad=bool(node.attributes.get("count_include_pad", 0)),
        )
    ]


def _global_average_pool(node: Node, value: Tensor) -> list[nn.Module]:
    _check_image(node, value)
    return [nn.AvgPool2d((int(value.shape[2]), int(value.shape[3])))]


def _relu(node: Node, value: Tensor) -> list[nn.Module]:
    return [nn.ReLU()]


def _leaky_relu(node: Node, value: Tensor) -> list[nn.Module]:
    # ONNX's default is the float32 nearest to 0.01, as a stored attribute would be.
    usual = float(torch.tensor(0.01, dtype=torch.float32))
    return [nn.LeakyReLU(float(node.attributes.get("alpha", usual)))]


def constant_layer(node: Node, kind: str, constant: Tensor, value: Tensor) -> nn.Module:
    """The layer that adds, subtracts, multiplies or divides by a constant.

    Args:
        node: of that kind; the constant is its second input, or it commutes.
        kind: Add, Sub, Mul or Div.
        constant: which broadcasts to an example.
        value: an example of the other input, two rows.
    """
    if constant.dtype != value.dtype:
        refuse(node, f"a constant {constant.dtype} meets values {value.dtype}")
    wide = constant.ndim == value.ndim and len(constant) != 1
    fits = constant.ndim <= value.ndim and not wide
    row = value.shape[1:]
    if fits and constant.ndim == value.ndim:
        constant = constant[0]
    pairs = zip(constant.shape[::-1], row[::-1], strict=False)
    if not fits or any(size not in (1, whole) for size, whole in pairs):
        refuse(
            node,
            f"expected a constant that fits one example {list(row)}, got "
            f"{list(constant.shape)}",
        )
    if kind == "Div" and bool((constant == 0).any()):
        refuse(node, "a division by zero")
    makers = {"Add": Shift, "Sub": Shift, "Mul": Scale, "Div": Quotient}
    return makers[kind](-constant if kind == "Sub" else constant.clone())


def _by_constant(node: Node, value: Tensor) -> list[nn.Module]:
    if node.kind == "PRelu":
        slope = _weight(node, 1, None, value)
        made = constant_layer(node, "Mul", slope, value)
        assert isinstance(made, Shift)
        return [ParametricRelu(made.constant)]
    constant = _weight(node, 1, None, value)
    return [constant_layer(node, node.kind, constant, value)]


def _number(node: Node, name: str, usual: float) -> float:
    """An attribute, or the float32 that ONNX takes where there is none."""
    single = float(torch.tensor(usual, dtype=torch.float32))
    return float(node.attributes.get(name, single))


def _smooth(node: Node, value: Tensor) -> list[nn.Module]:
    return [{"Sigmoid": nn.Sigmoid, "Tanh": nn.Tanh}[node.kind]()]


def _softplus(node: Node, value: Tensor) -> list[nn.Module]:
    # Beyond this threshold torch's is the identity to the last bit of float64.
    return [nn.Softplus(threshold=50.0)]


def _gelu(node: Node, value: Tensor) -> list[nn.Module]:
    kind = node.attributes.get("approximate", b"none").decode()
    if kind not in ("none", "tanh"):
        refuse(node, f"expected approximate = none or tanh, got {kind}")
    return [nn.GELU(kind)]


def _elu(node: Node, value: Tensor) -> list[nn.Module]:
    if node.kind == "Elu":
        return [Elu(_number(node, "alpha", 1.0))]
    usual = 1.67326319217681884765625, 1.05070102214813232421875
    return [Elu(_number(node, "alpha", usual[0]), _number(node, "gamma", usual[1]))]


def _hard(node: Node, value: Tensor) -> list[nn.Module]:
    if node.kind == "HardSwish":
        sixth = float(torch.tensor(1 / 6, dtype=torch.float32))
        return [HardSigmoid(sixth, 0.5, times=True)]
    return [HardSigmoid(_number(node, "alpha", 0.2), _number(node, "beta", 0.5))]


def _clip(node: Node, value: Tensor) -> list[nn.Module]:
    limits: list[float | None] = []
    for position, name in ((1, "min"), (2, "max")):
        # An attribute before operator set 11, an input since.
        given = node.attributes.get(name)
        if node.has(position):
            given = _weight(node, position, None, value)
            if given.numel() != 1:
                refuse(node, f"expected one number as {name}, got {list(given.shape)}")
        limits.append(None if given is None else float(given))
    if limits == [None, None]:
        return []
    return [Clip(*limits)]


def _softmax(node: Node, value: Tensor) -> list[nn.Module]:
    axis = int(node.attributes.get("axis", -1 if node.opset >= 13 else 1))
    axis += value.ndim if axis < 0 else 0
    if axis != value.ndim - 1:
        refuse(node, f"expected the last axis, {value.ndim - 1}, got {axis}")
    return [nn.Softmax(-1) if node.kind == "Softmax" else nn.LogSoftmax(-1)]


def _global_max_pool(node: Node, value: Tensor) -> list[nn.Module]:
    _check_image(node, value)
    return [nn.MaxPool2d((int(value.shape[2]), int(value.shape[3])))]


def _axes(node: Node, value: Tensor) -> list[int] | None:
    """Axes that are an attribute, or an input in later operator sets."""
    given = node.attributes.get("axes")
    if node.has(1):
        if 1 not in node.constants:
            refuse(node, "expected constant axes")
        given = node.constants[1].flatten().tolist()
    return None if given is None else [int(axis) for axis in given]


def _squeeze(node: Node, value: Tensor) -> list[nn.Module]:
    axes = _axes(node, value)
    extra = len(axes or ()) if node.kind == "Unsqueeze" else 0
    ndim = value.ndim + extra
    if axes is None:
        if node.kind == "Unsqueeze" or node.batch == 1:
            refuse(node, "expected axes")
        axes = [i for i in range(1, ndim) if value.shape[i] == 1]
    places = {axis + ndim if axis < 0 else axis for axis in axes}
    if not all(0 < place < ndim for place in places) or len(places) < len(axes):
        refuse(node, f"expected different axes of an example, got {axes}")
    row = list(value.shape[1:])
    if node.kind == "Unsqueeze":
        for place in sorted(places):
            row.insert(place - 1, 1)
    else:
        if any(value.shape[place] != 1 for place in places):
            refuse(node, f"axes {axes} of {list(value.shape)} are not of size 1")
        row = [n for i, n in enumerate(row, 1) if i not in places]
    if not row:
        refuse(node, "nothing would be left of an example but the number")
    if len(row) == 1:
        return [nn.Flatten(1)]
    return [nn.Flatten(1), nn.Unflatten(1, tuple(row))]


def _transpose(node: Node, value: Tensor) -> list[nn.Module]:
    usual = range(value.ndim)[::-1]
    order = tuple(int(n) for n in node.attributes.get("perm", usual))
    if sorted(order) != list(range(value.ndim)) or order[0] != 0:
        refuse(node, f"expected the batch to stay first, got perm = {list(order)}")
    return [Transpose(order)]


def _pad(node: Node, value: Tensor) -> list[nn.Module]:
    if node.attributes.get("mode", b"constant") != b"constant":
        refuse(node, "expected mode = constant")
    given = node.attributes.get("pads")
    if node.has(1):
        if 1 not in node.constants or node.has(3):
            refuse(node, "expected constant pads for all axes")
        given = node.constants[1].flatten().tolist()
    pads = [int(n) for n in given or ()]
    filling = float(node.attributes.get("value", 0.0))
    if node.has(2):
        filling = float(_weight(node, 2, None, value))
    count = value.ndim
    wrong = len(pads) != 2 * count or pads[:1] + pads[count : count + 1] != [0, 0]
    if wrong or min(pads) < 0:
        refuse(node, f"expected pads ≥ 0 for each axis but the batch, got {pads}")
    sizes = [n + pads[i] + pads[i + count] for i, n in enumerate(value.shape)]
    check_size(node, sizes[1:])
    # torch counts the axes from the last one.
    turned = [n for i in range(1, count)[::-1] for n in (pads[i], pads[i + count])]
    return [Frame(turned, filling)]


def _identity(node: Node, value: Tensor) -> list[nn.Module]:
    """No layer at all."""
    if node.kind == "Dropout" and node.has(2):
        training = node.constants.get(2)
        if training is None or bool(training):
            refuse(node, "expected training_mode = false")
    return []


_LAYERS: Mapping[str, Callable[[Node, Tensor], list[nn.Module]]] = {
    "AveragePool": _average_pool,
    "BatchNormalization": _batch_norm,
    "Clip": _clip,
    "Conv": _convolution,
    "Div": _by_constant,
    "Dropout": _identity,
    "Elu": _elu,
    "Flatten": _flatten,
    "Gelu": _gelu,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "GlobalMaxPool": _global_max_pool,
    "HardSigmoid": _hard,
    "HardSwish": _hard,
    "Identity": _identity,
    "LeakyRelu": _leaky_relu,
    "LogSoftmax": _softmax,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Mul": _by_constant,
    "PRelu": _by_constant,
    "Pad": _pad,
    "Relu": _relu,
    "Reshape": _reshape,
    "Selu": _elu,
    "Sigmoid": _smooth,
    "Softmax": _softmax,
    "Softplus": _softplus,
    "Squeeze": _squeeze,
    "Sub": _by_constant,
    "Tanh": _smooth,
    "Transpose": _transpose,
    "Unsqueeze": _squeeze,
}
#: Every operator that a file may use.
KNOWN = frozenset({*_LAYERS, "Add", "Concat", "Constant"})


def _weight(node: Node, position: int, ndim: int | None, value: Tensor) -> Tensor:
    """A constant input in the dtype of the values."""
    tensor = node.constants.get(position)
    if tensor is None:
        refuse(node, f"expected its input {position} to be a constant")
    if tensor.dtype != value.dtype or (ndim is not None and tensor.ndim != ndim):
        refuse(
            node,
            f"expected its input {position} to be {value.dtype}"
            f"{'' if ndim is None else f' in {ndim} dimensions'}, got {tensor.dtype} "
            f"{list(tensor.shape)}",
        )
    return tensor


def _filled(node: Node, layer: nn.Module, **tensors: Tensor | None) -> nn.Module:
    """The layer with these parameters and buffers."""
    for name, tensor in tensors.items():
        if tensor is not None:
            stored = getattr(layer, name)
            if stored.shape != tensor.shape:
                shown = f"{list(tensor.shape)} where {list(stored.shape)} fits"
                refuse(node, f"{name} has the shape {shown}")
            with torch.no_grad():
                stored.copy_(tensor)
    return layer


def _pair(node: Node, name: str, usual: tuple[int, int] | None) -> tuple[int, int]:
    given = node.attributes.get(name, usual)
    if given is None or len(given) != 2 or min(given) < 1:
        refuse(node, f"expected {name} with two positive numbers, got {given}")
    return int(given[0]), int(given[1])


def _padding(node: Node) -> tuple[int, int]:
    automatic = node.attributes.get("auto_pad", b"NOTSET").decode()
    if automatic not in ("NOTSET", "VALID"):
        refuse(node, f"expected explicit pads, got auto_pad = {automatic}")
    pads = [int(n) for n in node.attributes.get("pads", ())] or [0, 0, 0, 0]
    if automatic == "VALID":
        pads = [0, 0, 0, 0]
    if len(pads) != 4 or pads[:2] != pads[2:] or min(pads) < 0:
        refuse(node, f"expected equal pads on opposite sides, got {pads}")
    return pads[0], pads[1]


def _check_image(node: Node, value: Tensor) -> None:
    if value.ndim != 4:
        refuse(node, f"expected [batch, channels, height, width], got {value.ndim}-d")
    if node.attributes.get("ceil_mode", 0):
        refuse(node, "expected ceil_mode = 0")
