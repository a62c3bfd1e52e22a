"""A module of torch as a piecewise-linear network, by tracing its forward.

Exact or nothing (mathematics.md §10.8): every module is of a known type or a plain
container, every operation and each of its arguments is on a list, and the result is
compared with the module itself.
"""

import operator
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.modules import activation, batchnorm, conv, dropout, linear, pooling

from summiteer.networks.affine import Reshape, Shape
from summiteer.networks.construction import Construction, Unknown, Value
from summiteer.networks.layers import (
    FUNCTIONAL,
    FUNCTIONS,
    IN_PLACE,
    LAYERS,
    METHODS,
)
from summiteer.networks.piecewise_linear import PiecewiseLinear, Rectifier
from summiteer.networks.plain_code import refuse_other_code
from summiteer.networks.two_layer import attached
from summiteer.networks.untouched import (
    changed,
    codes,
    copied_otherwise,
    global_hooks,
    inside,
)

_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
_CODE = codes(
    {
        base
        for known in (*LAYERS, *_CONTAINERS)
        for base in known.__mro__
        if base is not object
    }
)
#: The files of torch whose layers call functions of `torch.nn.functional`.
_FILES = (activation, batchnorm, conv, dropout, linear, pooling)
#: Of the comparison with the module: rounding is far below, another function above.
_TOLERANCE = 1e-8
_ROWS = 3


def traced(model: nn.Module, shape: Shape) -> PiecewiseLinear | str:
    """The network that `model` is in eval mode, or why it is none.

    Args:
        model: of known layers; its forward is called, and nothing in it changes.
        shape: of a row of its input.
    """
    modules = inside(model)
    try:
        _examine(modules)
        refuse_other_code([module for _, module in modules], _CONTAINERS)
        with _evaluating(modules):
            graph, holder = _graph(model)
            network = _Reader(graph, holder, shape).read()
            _compare(model, network)
    except Unknown as error:
        return str(error)
    except Exception as error:
        # Modules may be stranger than any list of checks: then nothing is known.
        return f"{type(error).__name__} while it was read: {_first_line(error)}"
    return network


def _examine(modules: list[tuple[str, nn.Module]]) -> None:
    """Refuse whatever could make a module compute something else than its class."""
    reason = global_hooks() or changed(_CODE)
    if reason:
        raise Unknown(reason)
    for name, kept in FUNCTIONAL.items():
        if getattr(functional, name, None) is not kept:
            raise Unknown(f"torch.nn.functional.{name} was replaced")
    for file in _FILES:
        if vars(file).get("F") is not functional:
            raise Unknown(f"{file.__name__}.F was replaced")
    for name, module in modules:
        where = f"{name or 'the model'} ({type(module).__name__})"
        own = attached(module)
        reason = f"has {own}" if own else copied_otherwise(module)
        if reason:
            raise Unknown(f"{where}: {reason}")
        if type(module) in LAYERS and module._modules:
            raise Unknown(f"{where}: it has sub-modules")


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


@contextmanager
def _evaluating(modules: list[tuple[str, nn.Module]]) -> Iterator[None]:
    """Eval mode without the user's own `eval`, no warnings, no gradients."""
    training = [(module, vars(module)["training"]) for _, module in modules]
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        try:
            for module, _ in training:
                vars(module)["training"] = False
            yield
        finally:
            for module, flag in training:
                vars(module)["training"] = flag


class _Proxy(fx.Proxy):
    """Keeps x += y apart from x + y, which torch's own does not."""

    def __iadd__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.iadd, other)

    def __isub__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.isub, other)

    def __imul__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.imul, other)

    def __itruediv__(self, other: Any) -> fx.Proxy:
        return self._changed(operator.itruediv, other)

    def _changed(self, function: Any, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", function, (self, other), {})


class _Tracer(fx.Tracer):
    #: Buffers too are stand-ins: nothing is computed, or changed, while tracing.
    proxy_buffer_attributes = True

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return type(m) in LAYERS

    def proxy(self, node: fx.Node) -> fx.Proxy:
        return _Proxy(node, self)


def _graph(model: nn.Module) -> tuple[fx.Graph, nn.Module]:
    # Held by a sequence of ours: whatever the tracer stores is stored there, and the
    # model is called with one argument.
    holder = nn.Sequential()
    holder._modules["0"] = model
    try:
        graph = _Tracer().trace(holder)
    except Exception as error:
        why = f"{type(error).__name__}: {_first_line(error)}"
        raise Unknown(f"torch.fx cannot trace it ({why})") from error
    return graph, holder


class _Reader:
    """Reads a graph node by node into steps."""

    def __init__(self, graph: fx.Graph, holder: nn.Module, shape: Shape) -> None:
        self.nodes = list(graph.nodes)
        self.place = {node: i for i, node in enumerate(self.nodes)}
        self.holder = holder
        self.build = Construction(shape)
        self.results: dict[fx.Node, Any] = {}
        # Number of a value -> number of the value whose memory it may share.
        self.memory = {0: 0}

    def read(self) -> PiecewiseLinear:
        """The network."""
        for node in self.nodes:
            self.build.name = _name(node)
            try:
                result = self._result(node)
            except Unknown as error:
                raise Unknown(f"{self.build.name}: {error}") from error
            except TypeError as error:
                raise Unknown(f"{self.build.name}: an unknown argument") from error
            if node.op == "output":
                if not isinstance(result, Value):
                    raise Unknown("the output is not one computed value")
                return self.build.finish(result)
            self.results[node] = result
            if isinstance(result, Value):
                self._share(node, result)
        raise Unknown("there is no output")

    def _result(self, node: fx.Node) -> Any:
        args = fx.node.map_arg(node.args, self.results.__getitem__)
        kwargs = fx.node.map_arg(node.kwargs, self.results.__getitem__)
        if node.op == "placeholder":
            if self.place[node] or args:
                raise Unknown("a second input")
            return self.build.input()
        if node.op == "output":
            return args[0]
        if node.op == "get_attr":
            return self._tensor(str(node.target))
        if node.op == "call_module":
            return self._layer(node, args, kwargs)
        known: dict[Any, Any] = FUNCTIONS if node.op == "call_function" else METHODS
        handler = known.get(node.target)
        if handler is None:
            raise Unknown("not an operation of piecewise-linear networks")
        if handler is FUNCTIONS[functional.max_pool2d]:
            return self._pool(node, handler, args, kwargs)
        return handler(self.build, *args, **kwargs)

    def _layer(self, node: fx.Node, args: Any, kwargs: Any) -> Any:
        layer = self.holder.get_submodule(str(node.target))
        if len(args) != 1 or kwargs:
            raise Unknown("more than one argument")
        handler = LAYERS[type(layer)]
        if type(layer) is nn.MaxPool2d:
            return self._pool(node, handler, (args[0], layer), {})
        return handler(self.build, args[0], layer)

    def _tensor(self, target: str) -> Tensor:
        """A parameter, buffer or tensor attribute of the model."""
        if not target.startswith("0."):
            raise Unknown("a tensor that is no attribute of the model")
        held: Any = self.holder
        for name in target.split("."):
            held = getattr(held, name)
        if not isinstance(held, Tensor):
            raise Unknown(f"{type(held).__name__} is no tensor")
        return held

    def _pool(self, node: fx.Node, handler: Any, args: Any, kwargs: Any) -> Value:
        """Max ∘ rectifier = rectifier ∘ max: no ties of dead units (§9)."""
        source = args[0] if args else None
        first = self._rectifier(source, node) if isinstance(source, Value) else None
        if first is None or not isinstance(source, Value):
            pooled: Value = handler(self.build, *args, **kwargs)
            return pooled
        step = self.build.steps[first.number - 1]
        assert isinstance(step.operation, Rectifier)
        before: Value = Value(step.sources[0], first.shape)
        # Reshapes between the two, again.
        before = self.build.reshape(before, source.shape)
        pooled = handler(self.build, before, *args[1:], **kwargs)
        return self.build.rectifier(pooled, step.operation.slope)

    def _rectifier(self, value: Value, node: fx.Node) -> Value | None:
        """The rising rectifier, reshaped or not, that only `node` takes."""
        current, reader = value.number, node
        while current:
            holding = [n for n, r in self.results.items() if _numbered(r, current)]
            users = {user for held in holding for user in held.users}
            if users - set(holding) - {reader, node}:
                return None
            step = self.build.steps[current - 1]
            if isinstance(step.operation, Rectifier):
                return Value(current, step.shape) if step.operation.slope >= 0 else None
            if not isinstance(step.operation, Reshape) or not holding:
                return None
            reader, current = holding[0], step.sources[0]
        return None

    def _share(self, node: fx.Node, result: Value) -> None:
        """Note whose memory a result may share; refuse to overwrite what is used."""
        number = result.number
        while number not in self.memory and isinstance(
            self.build.steps[number - 1].operation, Reshape
        ):
            number = self.build.steps[number - 1].sources[0]
        owner = self.memory.get(number, number)
        if self._in_place(node):
            first = node.args[0] if node.args else None
            source = self.results.get(first) if isinstance(first, fx.Node) else None
            if not isinstance(source, Value):
                raise Unknown(f"{self.build.name}: it may change what is not computed")
            owner = self.memory[source.number]
            if owner == 0:
                raise Unknown(f"{self.build.name}: it may change the input in place")
            for other, held in self.results.items():
                if other is node or not isinstance(held, Value):
                    continue
                later = any(self.place[u] > self.place[node] for u in other.users)
                if later and self.memory.get(held.number) == owner:
                    raise Unknown(
                        f"{self.build.name}: it may change {_name(other)} in place, "
                        "which is used afterwards"
                    )
        self.memory[result.number] = owner

    def _in_place(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            layer = self.holder.get_submodule(str(node.target))
            # Dropout has the attribute too, and changes nothing in eval mode.
            rectifiers = (nn.ReLU, nn.LeakyReLU)
            return (
                type(layer) in rectifiers
                and getattr(layer, "inplace", None) is not False
            )
        if node.op not in ("call_function", "call_method"):
            return False
        if node.target in IN_PLACE:
            return True
        positions: dict[Any, int] = {functional.relu: 1, functional.leaky_relu: 2}
        place = positions.get(node.target)
        given = node.args[place] if place and len(node.args) > place else False
        return node.kwargs.get("inplace", given) is not False


def _numbered(result: Any, number: int) -> bool:
    return isinstance(result, Value) and result.number == number


def _name(node: fx.Node) -> str:
    """What messages call a node: the layer's own name, or the graph's."""
    if node.op == "call_module":
        return "the model" if node.target == "0" else str(node.target)[2:]
    return node.name


def _compare(model: nn.Module, network: PiecewiseLinear) -> None:
    """A last look: both compute the same numbers."""
    draws = torch.Generator().manual_seed(0)
    shape = (_ROWS, *network.shape)
    inputs = torch.randn(shape, dtype=torch.float64, generator=draws)
    tensors = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    weights = {
        name: w.detach().cpu().double() if w.is_floating_point() else w.detach().cpu()
        for name, w in tensors.items()
    }
    try:
        outputs = torch.func.functional_call(model, weights, (inputs.clone(),))
    except Exception as error:
        raise Unknown(f"the model raised {type(error).__name__} when called") from error
    expected = network.evaluate(inputs)
    if type(outputs) is not Tensor or outputs.shape != expected.shape:
        raise Unknown("the model's output has another shape than its trace")
    size = float(expected.abs().max())
    if not bool(((outputs - expected).abs() <= _TOLERANCE * (size + 1e-300)).all()):
        raise Unknown("the model's values are not those of its trace")
