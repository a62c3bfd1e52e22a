"""What is known about a model: asked once, here, and nowhere else.

Recognition is exact or nothing (mathematics.md §10.8): a module of exactly our type,
with nothing attached that could change what it computes, and with the code that this
package was loaded with.
"""

from dataclasses import dataclass
from typing import Any, TypeAlias

from torch import Tensor, nn
from torch.nn.modules import module as _torch_module

from summiteer._typing import Model
from summiteer.errors import UserError
from summiteer.networks.activations import ACTIVATIONS, Activation
from summiteer.networks.two_layer import TwoLayerNetwork, attached


@dataclass(frozen=True, eq=False)
class TwoLayer:
    """The model is a two-layer network, whose closed forms apply."""

    network: TwoLayerNetwork

    @property
    def scalar(self) -> TwoLayerNetwork | None:
        """The network as one with a scalar output; None if it has several outputs."""
        network = self.network
        if network.outputs == 1:
            return TwoLayerNetwork(
                network.hidden_weights,
                network.output_weights[0],
                network.hidden_bias,
                network.output_bias[0],
                activation=network.activation,
            )
        return network if network.outputs is None else None


@dataclass(frozen=True)
class Opaque:
    """Nothing is known but values and derivatives by autograd."""

    reason: str

    @property
    def scalar(self) -> None:
        """No network is known."""


Structure: TypeAlias = TwoLayer | Opaque

_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)
#: What nn.Module contributes to calling and copying a network.
_CALLING = (
    "__call__",
    "_wrapped_call_impl",
    "_call_impl",
    "__getattr__",
    "__getattribute__",
    "__deepcopy__",
    "__reduce_ex__",
)


def recognise(model: Model) -> Structure:
    """Return what is known about `model`.

    Args:
        model: any callable; sub-classes and wrapped modules are Opaque.

    Returns:
        `TwoLayer`, or `Opaque` with the reason. nn.Sequential(nn.Linear, σ, nn.Linear)
        is one where torch's σ is exactly ours: not nn.Softplus, which is the identity
        above its threshold.
    """
    if type(model) is nn.Sequential:
        return _sequence(model)
    if type(model) is not TwoLayerNetwork:
        kind = "a sub-class of" if isinstance(model, TwoLayerNetwork) else "not a"
        return Opaque(f"{type(model).__name__} is {kind} TwoLayerNetwork")
    reason = _altered(model)
    return Opaque(reason) if reason else TwoLayer(model)


def _sequence(model: nn.Sequential) -> Structure:
    """A sequence of plain torch layers as the two-layer network that it is."""
    layers = [model, *model.children()]
    kinds = [type(layer) for layer in layers]
    if len(kinds) != 4 or not set(kinds) <= set(_LAYERS):
        return Opaque("the sequence is not Linear, a known activation, Linear")
    for owner in kinds:
        if _code(owner) != _LAYERS[owner]:
            return Opaque(f"the class {owner.__name__} was changed after import")
    for layer in layers:
        reason = _copied_otherwise(layer)
        if reason:
            return Opaque(reason)
        if type(layer) is nn.Linear:
            # As attributes: a weight need not be a parameter.
            for weight in (layer.weight, layer.bias):
                if type(weight) not in (Tensor, nn.Parameter, type(None)):
                    return Opaque(f"a weight is a {type(weight).__name__}")
        if layer is not model and list(layer.children()):
            return Opaque(f"{type(layer).__name__} has sub-modules")
    try:
        network = TwoLayerNetwork.from_module(model)
    except UserError as error:
        return Opaque(str(error))
    reason = _altered(network)
    return Opaque(reason) if reason else TwoLayer(network)


def _altered(network: TwoLayerNetwork) -> str:
    """Say why a network may not compute what its class promises, or ''."""
    changed = attached(network)
    if changed:
        return f"the network has {changed}"
    copied = _copied_otherwise(network)
    if copied:
        return copied
    for name in _GLOBAL_HOOKS:
        if getattr(_torch_module, name):
            return f"torch has global module hooks ({name})"
    if list(network.children()):
        return "the network has sub-modules"
    if network.activation not in ACTIVATIONS.values():
        return "the activation is not one of the package's own"
    weights = (
        network.hidden_weights,
        network.output_weights,
        network.hidden_bias,
        network.output_bias,
    )
    for weight in weights:
        if type(weight) not in (Tensor, nn.Parameter):
            return f"a weight is a {type(weight).__name__}, not a plain tensor"
    for owner, code in _CODE.items():
        if _code(owner) != code:
            return f"the class {owner.__name__} was changed after import"
    return ""


def _copied_otherwise(module: nn.Module) -> str:
    """Name what could make a copy another network (`double` makes one), or ''."""
    for owner in (module, *module.parameters(recurse=False)):
        for name in vars(owner):
            if name.startswith("__"):
                return f"{type(owner).__name__} has its own {name}"
    return ""


def _code(owner: type) -> dict[str, Any]:
    """Return the methods and properties that a class defines itself."""
    if owner is nn.Module:
        return {name: vars(owner).get(name) for name in _CALLING}
    kinds = (property, classmethod, staticmethod)
    return {
        name: value
        for name, value in vars(owner).items()
        if callable(value) or isinstance(value, kinds)
    }


_CODE: dict[type, dict[str, Any]] = {
    owner: _code(owner)
    for owner in (
        nn.Module,
        TwoLayerNetwork,
        Activation,
        *(type(known) for known in ACTIVATIONS.values()),
    )
}
#: torch's layers whose functions are exactly ours.
_LAYERS: dict[type, dict[str, Any]] = {
    owner: _code(owner)
    for owner in (
        nn.Sequential,
        nn.Linear,
        nn.Tanh,
        nn.Sigmoid,
        nn.GELU,
        nn.SiLU,
        nn.ReLU,
    )
}
