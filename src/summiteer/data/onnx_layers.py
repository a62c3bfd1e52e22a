"""The table of ONNX operators: what each becomes as layers of torch."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from summiteer.errors import UserError


@dataclass(frozen=True, eq=False)
class Node:
    """One operator of a graph.

    Attributes:
        path: of the file, for messages.
        kind: the operator.
        name: the node's, or its output's.
        attributes: as stored.
        constants: the inputs that are constants, by position.
        inputs: names, empty where an optional one is left out.
        output: name of the result.
        batch: the first dimension of the graph's input, 0 if free.
    """

    path: Path
    kind: str
    name: str
    attributes: Mapping[str, Any]
    constants: Mapping[int, Tensor]
    inputs: tuple[str, ...]
    output: str
    batch: int

    def has(self, position: int) -> bool:
        """Whether an optional input is given."""
        return position < len(self.inputs) and bool(self.inputs[position])


def refuse(node: Node, reason: str) -> NoReturn:
    """Say what is wrong with a node.

    Args:
        node: which.
        reason: what was expected, or what came.

    Raises:
        UserError: always.
    """
    raise UserError(f"MODEL: {node.path}, {node.kind} (node {node.name!r}): {reason}.")


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
    "Conv": _convolution,
    "Dropout": _identity,
    "Flatten": _flatten,
    "Gemm": _gemm,
    "GlobalAveragePool": _global_average_pool,
    "Identity": _identity,
    "LeakyRelu": _leaky_relu,
    "MatMul": _matmul,
    "MaxPool": _max_pool,
    "Relu": _relu,
    "Reshape": _reshape,
}
#: Every operator that a file may use.
KNOWN = frozenset({*_LAYERS, "Add", "Constant"})


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
