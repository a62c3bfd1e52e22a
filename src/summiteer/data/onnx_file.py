"""Networks from .onnx files: a chain becomes an nn.Sequential of torch's own layers.

The file is data: nothing in it is run, and every operator that is not in the table of
`summiteer.data.onnx_layers` is refused.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from summiteer.data._files import existing
from summiteer.data.onnx_layers import KNOWN, constant_layer, layers_of
from summiteer.data.onnx_node import MOST_NUMBERS, Node, check_size, refuse
from summiteer.errors import UserError

#: Versions of the default operator set whose meaning is implemented.
_OLDEST, _NEWEST = 7, 27
_TYPES = {1: torch.float32, 11: torch.float64}


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """What an .onnx file holds.

    Attributes:
        module: in eval mode, `[rows, *input]` -> the file's output; weights in the
            file's dtype.
        input_shape: of one example: the file's input without its first dimension.
    """

    module: nn.Module
    input_shape: tuple[int, ...]


class Additions(nn.Module):
    """A network with residual additions: layers and sums in order of evaluation.

    Args:
        layers: one per step, nn.Identity where the step adds.
        sources: for each step the values that it takes, 0 for the input, k for the
            result of step k-1: one for a layer, two for an addition.
    """

    def __init__(self, layers: list[nn.Module], sources: list[tuple[int, ...]]) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.sources = tuple(sources)

    def forward(self, inputs: Tensor) -> Tensor:
        """The last step's result; torch.fx can trace it."""
        values = [inputs]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            if len(sources) == 1:
                values.append(layer(values[sources[0]]))
            else:
                left, right = values[sources[0]], values[sources[1]]
                values.append(left + right)
        return values[-1]


class Join(nn.Module):
    """Values side by side along one axis.

    Args:
        axis: counted with the batch.
    """

    def __init__(self, axis: int) -> None:
        super().__init__()
        self.axis = axis

    def forward(self, *values: Tensor) -> Tensor:
        """One value."""
        return torch.cat(values, self.axis)


class Joins(Additions):
    """The same where values are also put side by side; proofs do not know it."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The last step's result."""
        values = [inputs]
        for layer, sources in zip(self.layers, self.sources, strict=True):
            values.append(_combined(layer, [values[source] for source in sources]))
        return values[-1]


def _combined(layer: nn.Module, taken: list[Tensor]) -> Tensor:
    if len(taken) == 2 and not isinstance(layer, Join):
        return taken[0] + taken[1]
    made: Tensor = layer(*taken)
    return made


def load_onnx(source: str) -> OnnxModel:
    """Return the network of an .onnx file (needs the extra `onnx`).

    The network is the file's in real arithmetic. Gemm's alpha and beta are multiplied
    into the weights in the file's dtype where they are not 1. A constant added after a
    MatMul, or after a Conv without bias, becomes that layer's bias. Which operators
    proofs know is said in `summiteer.data.onnx_layers`.

    Args:
        source: the file. Its first input dimension is taken as the batch.

    Raises:
        UserError: the package onnx is missing, the file cannot be read, or it holds an
            operator or a form of one that is not known.
    """
    path = existing("MODEL", source, "give an .onnx file")
    try:
        import onnx
    except ImportError as error:
        raise UserError(
            "MODEL: .onnx files need the package onnx; pip install 'summiteer[onnx]'."
        ) from error
    try:
        model = onnx.load(path, load_external_data=False)
    except Exception as error:  # protobuf's errors have no common class of their own
        raise UserError(f"MODEL: {path} is not an .onnx file: {error}") from error
    _check_operators(path, model)
    try:
        # Our own look at the table came first: it can say what is known instead.
        # By its path, from which external data are found.
        onnx.checker.check_model(str(path))
    except (onnx.checker.ValidationError, ValueError) as error:
        detail = " ".join(str(error).split())
        raise UserError(f"MODEL: {path} is not a valid model: {detail}") from error
    return _Builder(path, model).build()


def _check_operators(path: Path, model: Any) -> None:
    """Versions and operators that are known."""
    if not model.graph.node:
        raise UserError(f"MODEL: {path} is not an .onnx file with operators in it.")
    for used in model.opset_import:
        if used.domain in ("", "ai.onnx") and not _OLDEST <= used.version <= _NEWEST:
            raise UserError(
                f"MODEL: {path} uses operator set {used.version}; known are {_OLDEST} "
                f"to {_NEWEST}."
            )
    for node in model.graph.node:
        if node.op_type not in KNOWN or node.domain not in ("", "ai.onnx"):
            name = ".".join(part for part in (node.domain, node.op_type) if part)
            raise UserError(
                f"MODEL: {path} uses {name} (node {_name(node)!r}), which is not "
                f"known; known are {', '.join(sorted(KNOWN))}."
            )


def _name(node: Any) -> str:
    return str(node.name or (node.output[0] if node.output else ""))


class _Builder:
    """Goes through the nodes in order and keeps each value's shape by computing it."""

    def __init__(self, path: Path, model: Any) -> None:
        self.path, self.graph = path, model.graph
        self.opset = next(
            (u.version for u in model.opset_import if u.domain in ("", "ai.onnx")), 1
        )
        self.constants = {
            tensor.name: self._tensor(tensor) for tensor in self.graph.initializer
        }
        self.layers: list[nn.Module] = []
        self.sources: list[tuple[int, ...]] = []
        #: Which value (0: the input, k: the result of step k-1) has which name.
        self.place: dict[str, int] = {}
        self.values: list[Tensor] = []

    def build(self) -> OnnxModel:
        """The module, in eval mode."""
        if self.graph.sparse_initializer:
            raise UserError(f"MODEL: {self.path} has sparse weights; save dense ones.")
        given = [i for i in self.graph.input if i.name not in self.constants]
        if len(given) != 1 or len(self.graph.output) != 1:
            raise UserError(
                f"MODEL: {self.path} must have one input and one output, got "
                f"{len(given)} and {len(self.graph.output)}."
            )
        shape, dtype = self._input(given[0])
        self.place[given[0].name] = 0
        # Two rows, so that no layer can mistake the batch for something of size 1.
        self.values.append(torch.zeros(2, *shape, dtype=dtype))
        for raw in self._needed():
            self._add(self._node(raw))
        last = self.place.get(self.graph.output[0].name)
        if last is None or not self.layers:
            raise UserError(f"MODEL: {self.path}: the output is not made of the input.")
        return OnnxModel(self._module(last).eval().requires_grad_(), shape)

    def _input(self, given: Any) -> tuple[tuple[int, ...], torch.dtype]:
        kind = given.type.tensor_type
        sizes = [int(d.dim_value) for d in kind.shape.dim]
        if len(sizes) < 2 or any(size < 1 for size in sizes[1:]):
            shown = [size or "free" for size in sizes]
            raise UserError(
                f"MODEL: {self.path} takes inputs of shape {shown}; expected [batch, "
                "...] with fixed sizes after the first."
            )
        if kind.elem_type not in _TYPES:
            raise UserError(
                f"MODEL: {self.path} takes inputs of ONNX type {kind.elem_type}; "
                "expected float32 (1) or float64 (11)."
            )
        if math.prod(sizes[1:]) > MOST_NUMBERS:
            raise UserError(
                f"MODEL: {self.path} takes inputs of shape {sizes}: more than "
                f"{MOST_NUMBERS} numbers in one example."
            )
        self.batch = sizes[0]
        return tuple(sizes[1:]), _TYPES[kind.elem_type]

    def _needed(self) -> list[Any]:
        """The nodes that the output is made of, in the file's order."""
        wanted, nodes = {self.graph.output[0].name}, []
        for raw in reversed(self.graph.node):
            if wanted & set(raw.output):
                wanted |= set(raw.input)
                nodes.append(raw)
        return nodes[::-1]

    def _node(self, raw: Any) -> Node:
        from onnx import helper

        attributes: dict[str, Any] = {}
        for attribute in raw.attribute:
            value = helper.get_attribute_value(attribute)
            if hasattr(value, "data_type"):
                value = self._tensor(value)
            attributes[attribute.name] = value
        node = Node(
            path=self.path,
            kind=raw.op_type,
            name=_name(raw),
            attributes=attributes,
            constants={
                i: self.constants[name]
                for i, name in enumerate(raw.input)
                if name in self.constants
            },
            inputs=tuple(raw.input),
            output=raw.output[0],
            batch=self.batch,
            opset=int(self.opset),
        )
        if any(raw.output[1:]):
            refuse(node, "expected one output, as in inference")
        return node

    def _add(self, node: Node) -> None:
        moving = [n for n in node.inputs if n and n not in self.constants]
        if not moving:
            self.constants[node.output] = _constant(node)
            return
        missing = [name for name in moving if name not in self.place]
        if missing:
            refuse(node, f"its input {missing[0]!r} comes from no earlier node")
        if node.kind == "Add":
            self._sum(node, [self.place[name] for name in moving])
            return
        if node.kind == "Concat":
            self._join(node)
            return
        if node.kind in ("Mul", "Sub") and 0 in node.constants and len(moving) == 1:
            self._turned(node, self.place[moving[0]])
            return
        if node.inputs[0] != moving[0] or len(moving) > 1:
            refuse(node, "expected all but its first input to be constants")
        place = self.place[moving[0]]
        for layer in layers_of(node, self.values[place]):
            place = self._step(node, layer.eval(), (place,))
        self.place[node.output] = place

    def _step(self, node: Node, layer: nn.Module, sources: tuple[int, ...]) -> int:
        taken = [self.values[source] for source in sources]
        if isinstance(layer, Join):
            check_size(node, [sum(value[0].numel() for value in taken)])
        try:
            with torch.no_grad():
                value = _combined(layer, taken)
        except (RuntimeError, ValueError, TypeError) as error:
            refuse(node, " ".join(str(error).split()))
        self.layers.append(layer)
        self.sources.append(sources)
        self.values.append(value)
        return len(self.values) - 1

    def _turned(self, node: Node, place: int) -> None:
        """constant·x, or constant - x = -x + constant."""
        value, constant = self.values[place], node.constants[0]
        if node.kind == "Sub":
            minus = torch.tensor(-1.0, dtype=value.dtype)
            layer = constant_layer(node, "Mul", minus, value)
            place = self._step(node, layer, (place,))
        kind = "Add" if node.kind == "Sub" else "Mul"
        layer = constant_layer(node, kind, constant, value)
        self.place[node.output] = self._step(node, layer, (place,))

    def _join(self, node: Node) -> None:
        """Values of one example side by side."""
        names = [name for name in node.inputs if name]
        if any(name in self.constants for name in names):
            refuse(node, "expected computed values, got a constant")
        places = [self.place[name] for name in names]
        ndim = self.values[places[0]].ndim
        axis = int(node.attributes.get("axis", 1))
        axis += ndim if axis < 0 else 0
        if not 0 < axis < ndim:
            refuse(node, f"expected an axis of the example, got {axis}")
        self.place[node.output] = self._step(node, Join(axis), tuple(places))

    def _sum(self, node: Node, places: list[int]) -> None:
        if len(places) == 2:
            left, right = (self.values[place].shape for place in places)
            if left != right:
                refuse(node, f"the shapes {list(left)} and {list(right)} differ")
            place = self._step(node, nn.Identity(), (places[0], places[1]))
            self.place[node.output] = place
            return
        (constant,) = node.constants.values()
        (place,) = places
        if not self._as_bias(node, place, constant):
            layer = constant_layer(node, "Add", constant, self.values[place])
            self.place[node.output] = self._step(node, layer, (place,))

    def _as_bias(self, node: Node, place: int, constant: Tensor) -> bool:
        """Make an added constant the bias of the layer before, where that is exact."""
        if list(self.place.values()).count(place) > 1 or self._readers(node) > 1:
            return False
        layer = self.layers[place - 1] if place else None
        if not isinstance(layer, nn.Linear | nn.Conv2d) or layer.bias is not None:
            return False
        value = self.values[place]
        # The output channels are the dimension that the bias belongs to.
        channel = value.ndim - 1 if isinstance(layer, nn.Linear) else 1
        if constant.ndim > value.ndim or constant.dtype != value.dtype:
            return False
        aligned = constant.reshape(
            [1] * (value.ndim - constant.ndim) + [*constant.shape]
        )
        others = [n for i, n in enumerate(aligned.shape) if i != channel]
        if any(n != 1 for n in others):
            return False
        if aligned.shape[channel] not in (1, value.shape[channel]):
            return False
        bias = aligned.flatten().to(value).expand(value.shape[channel]).clone()
        layer.bias = nn.Parameter(bias)
        with torch.no_grad():
            self.values[place] = value + aligned
        self.place[node.output] = place
        return True

    def _readers(self, node: Node) -> int:
        """How many nodes take the value that a constant is added to."""
        (name,) = (n for n in node.inputs if n not in self.constants)
        taken = sum(list(raw.input).count(name) for raw in self._needed())
        return int(taken) + int(name == self.graph.output[0].name)

    def _module(self, last: int) -> nn.Module:
        chain = [(step,) for step in range(len(self.layers))]
        layers, sources = self.layers[:last], self.sources[:last]
        if sources == chain[:last]:
            return nn.Sequential(*layers)
        if any(isinstance(layer, Join) for layer in layers):
            return Joins(layers, sources)
        return Additions(layers, sources)

    def _tensor(self, tensor: Any) -> Tensor:
        """The numbers of a tensor; external ones only from the file's own folder."""
        from onnx import TensorProto, numpy_helper

        folder = self.path.resolve().parent
        if tensor.data_location == TensorProto.EXTERNAL:
            location = _external(tensor.external_data)
            file = (folder / location).resolve()
            if not location or folder not in file.parents or not file.is_file():
                raise UserError(
                    f"MODEL: {self.path} wants the numbers of {tensor.name!r} from "
                    f"{location!r}, which is no file in its own folder."
                )
        try:
            array = numpy_helper.to_array(tensor, base_dir=str(folder))
            return torch.from_numpy(array.copy())
        except Exception as error:  # onnx raises what its reader happens to meet
            raise UserError(
                f"MODEL: {self.path}: the numbers of {tensor.name!r} cannot be read: "
                f"{error}"
            ) from error


def _external(entries: Any) -> str:
    pairs: Mapping[str, str] = {entry.key: entry.value for entry in entries}
    return str(pairs.get("location", ""))


def _constant(node: Node) -> Tensor:
    """The value of a node without moving inputs."""
    kinds = {
        "value_float": torch.float32,
        "value_floats": torch.float32,
        "value_int": torch.int64,
        "value_ints": torch.int64,
    }
    value = None
    if node.kind == "Identity" and node.constants:
        value = node.constants[0]
    elif node.kind == "Constant" and len(node.attributes) == 1:
        ((name, given),) = node.attributes.items()
        if name == "value" and isinstance(given, Tensor):
            value = given
        elif name in kinds:
            value = torch.tensor(given, dtype=kinds[name])
    if value is None:
        refuse(node, "expected an input that is no constant, or a dense Constant")
    return value
