"""What is known about a model: asked once, here, and nowhere else.

Recognition is exact or nothing (mathematics.md §10.8): a module of exactly our type,
with nothing attached that could change what it computes, and with the code that this
package was loaded with.
"""

from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor, nn

from summiteer._typing import Model
from summiteer.errors import UserError
from summiteer.networks.activations import ACTIVATIONS, Abs, Activation, LeakyRelu, Relu
from summiteer.networks.construction import Construction, Unknown
from summiteer.networks.piecewise_linear import PiecewiseLinear, Shape
from summiteer.networks.tracing import traced
from summiteer.networks.two_layer import TwoLayerNetwork, attached
from summiteer.networks.untouched import changed, codes, copied_otherwise, global_hooks


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


Structure: TypeAlias = TwoLayer | PiecewiseLinear | Opaque


def recognise(model: Model, shape: Shape | None = None) -> Structure:
    """Return what is known about `model`, in eval mode.

    Args:
        model: any callable; sub-classes and wrapped modules are Opaque.
        shape: of a row of its inputs. Without it nothing but two-layer networks can be
            recognised; with it the forward of a module may be called once.

    Returns:
        `TwoLayer` where `as_two_layer` finds one, else `PiecewiseLinear` where
        `as_piecewise_linear` does, or `Opaque` with the reason.
    """
    found = as_two_layer(model)
    if isinstance(found, TwoLayer) or shape is None:
        return found
    return as_piecewise_linear(model, shape)


def as_piecewise_linear(model: Model, shape: Shape) -> PiecewiseLinear | Opaque:
    """Return `model` in eval mode as affine maps and maxima, in float64 on the CPU.

    Its parameters are read once, exactly; a later change of the model is not seen.

    Args:
        model: a module of known layers, whose forward is called; or a two-layer network
            with ReLU, LeakyReLU or |t|.
        shape: of a row of its inputs.

    Returns:
        The network, or `Opaque` with the node and the reason.
    """
    if not isinstance(model, nn.Module):
        return Opaque(f"{type(model).__name__} is not an nn.Module")
    if not isinstance(model, TwoLayerNetwork):
        network = traced(model, tuple(shape))
        return Opaque(network) if isinstance(network, str) else network
    found = as_two_layer(model)
    if isinstance(found, Opaque):
        return found
    return _two_layer_steps(found.network, tuple(shape))


def _two_layer_steps(
    network: TwoLayerNetwork, shape: Shape
) -> PiecewiseLinear | Opaque:
    sigma = network.activation
    slope = sigma.negative_slope if isinstance(sigma, LeakyRelu) else None
    slope = _SLOPES.get(type(sigma)) if slope is None else slope
    if slope is None:
        return Opaque(f"{sigma.name} is not max(t, slope·t)")
    build = Construction(shape)
    output, shift = network.output_weights.detach(), network.output_bias.detach()
    try:
        value = build.input()
        value = build.dense(value, network.hidden_weights, network.hidden_bias)
        value = build.rectifier(value, slope)
        if network.outputs is not None:
            return build.finish(build.dense(value, output, shift))
        value = build.dense(value, output[None], shift[None])
        return build.finish(build.reshape(value, ()))
    except Unknown as error:
        return Opaque(str(error))


def as_two_layer(model: Model) -> TwoLayer | Opaque:
    """Return `model` as a two-layer network if it is one; it is never called.

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


def _sequence(model: nn.Sequential) -> TwoLayer | Opaque:
    """A sequence of plain torch layers as the two-layer network that it is."""
    layers = [model, *model.children()]
    kinds = [type(layer) for layer in layers]
    if len(kinds) != 4 or not set(kinds) <= set(_LAYERS):
        return Opaque("the sequence is not Linear, a known activation, Linear")
    reason = changed(_LAYERS, kinds)
    if reason:
        return Opaque(reason)
    for layer in layers:
        reason = copied_otherwise(layer)
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
    own = attached(network)
    if own:
        return f"the network has {own}"
    copied = copied_otherwise(network)
    if copied:
        return copied
    reason = global_hooks()
    if reason:
        return reason
    if list(network.children()):
        return "the network has sub-modules"
    sigma = network.activation
    own_kind = type(sigma) in {type(known) for known in ACTIVATIONS.values()}
    if not own_kind or any(hasattr(Activation, name) for name in vars(sigma)):
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
    return changed(_CODE)


#: Activations that are max(t, slope·t), besides LeakyRelu with its own slope.
_SLOPES: dict[type[Activation], float] = {Relu: 0.0, Abs: -1.0}
_CODE = codes(
    (
        nn.Module,
        TwoLayerNetwork,
        Activation,
        *(type(known) for known in ACTIVATIONS.values()),
    )
)
#: torch's layers whose functions are exactly ours.
_LAYERS = codes(
    (
        nn.Sequential,
        nn.Linear,
        nn.Tanh,
        nn.Sigmoid,
        nn.GELU,
        nn.SiLU,
        nn.ReLU,
        nn.LeakyReLU,
    )
)
