"""Models and surroundings that were tampered with.

`ALTERED` models compute something else than their weights say: they must never be
PROVED to be anything. `AMBIENT` changes of torch's global state must change no proof:
what is still PROVED must agree with what is proved without them. `LIES` are functions
of torch that return slightly wrong values: a proof must not use them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import summiteer as sm
from summiteer.networks.activations import Activation

Change = Callable[[sm.TwoLayerNetwork], Any]


class Sub(sm.TwoLayerNetwork):
    """A sub-class that adds a bump."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """Not quite the network."""
        return super().forward(inputs) + 1e-3 * torch.sin(9 * inputs.sum(1))


def _bumped(module: Any, arguments: Any, output: torch.Tensor) -> torch.Tensor:
    return output + 1e-3 * torch.sin(9 * arguments[0].sum(1))


@contextmanager
def forward_hook(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """A hook on the outputs."""
    handle = network.register_forward_hook(_bumped)
    yield network
    handle.remove()


@contextmanager
def forward_pre_hook(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """A hook on the inputs."""
    handle = network.register_forward_pre_hook(lambda _, given: (given[0] * 1.01,))
    yield network
    handle.remove()


@contextmanager
def global_hook(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """A hook on the outputs of all modules."""
    handle = nn.modules.module.register_module_forward_hook(_bumped)
    yield network
    handle.remove()


@contextmanager
def subclass(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """A sub-class with a forward pass of its own."""
    network.__class__ = Sub
    yield network


@contextmanager
def own_forward(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """An instance with a forward pass of its own."""
    plain = network.forward
    object.__setattr__(network, "forward", lambda x: _bumped(None, (x,), plain(x)))
    yield network


@contextmanager
def class_forward(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """The class's forward pass replaced."""
    plain = sm.TwoLayerNetwork.forward
    with patch.object(
        sm.TwoLayerNetwork,
        "forward",
        lambda self, x: _bumped(None, (x,), plain(self, x)),
    ):
        yield network


@contextmanager
def class_call(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """Module's call replaced."""
    plain = nn.Module._call_impl
    with patch.object(
        nn.Module, "_call_impl", lambda self, x: _bumped(None, (x,), plain(self, x))
    ):
        yield network


@contextmanager
def activation_method(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """The second derivative of the activation replaced."""
    kind = type(network.activation)
    plain = kind.second
    with patch.object(kind, "second", lambda self, t: 0.5 * plain(self, t)):
        yield network


@contextmanager
def activation_bounds(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """The activations' own bounds replaced."""
    plain = Activation.sup_second
    with patch.object(
        Activation, "sup_second", lambda self, low, up: 0.1 * plain(self, low, up)
    ):
        yield network


@contextmanager
def parametrized(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """Output weights that are computed from others."""

    class Doubled(nn.Module):
        def forward(self, weight: torch.Tensor) -> torch.Tensor:
            return 2 * weight

    nn.utils.parametrize.register_parametrization(network, "output_weights", Doubled())
    yield network


@contextmanager
def compiled_form(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """A module that calls something else, as torch.compile does."""
    object.__setattr__(network, "_compiled_call_impl", lambda x: x.sum(1))
    yield network


@contextmanager
def lambda_model(network: sm.TwoLayerNetwork) -> Iterator[Any]:
    """A plain function around the network."""
    yield lambda x: _bumped(None, (x,), network(x))


#: name -> context manager from a network to the model to be examined.
ALTERED: dict[str, Change] = {
    change.__name__: change
    for change in (
        forward_hook,
        forward_pre_hook,
        global_hook,
        subclass,
        own_forward,
        class_forward,
        class_call,
        activation_method,
        activation_bounds,
        parametrized,
        compiled_form,
        lambda_model,
    )
}


class Passing(TorchFunctionMode):
    """A function mode that makes every product a little too small."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if func in (torch.sigmoid, torch.Tensor.matmul, torch.Tensor.__matmul__):
            result = result * (1 - 1e-6)
        return result


class Dispatching(TorchDispatchMode):
    """A dispatch mode that makes every product a little too small."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor) and "mm" in str(func):
            result = result * (1 - 1e-6)
        return result


def _lie(owner: Any, name: str, factor: float) -> Callable[[], Any]:
    plain = getattr(owner, name)

    def wrong(*given: Any, **named: Any) -> Any:
        result = plain(*given, **named)
        return result * factor if isinstance(result, torch.Tensor) else result

    return lambda: patch.object(owner, name, wrong)


#: name -> context manager under which torch itself is wrong.
LIES: dict[str, Callable[[], Any]] = {
    "function mode": Passing,
    "dispatch mode": Dispatching,
    "sigmoid": _lie(torch, "sigmoid", 1 + 1e-7),
    "sigmoid halved": _lie(torch, "sigmoid", 0.5),
    "tanh": _lie(torch, "tanh", 1 + 1e-7),
    "exp": _lie(torch, "exp", 0.9),
    "logsigmoid": _lie(nn.functional, "logsigmoid", 1 + 1e-7),
    "softplus": _lie(nn.functional, "softplus", 1 + 1e-7),
    "Tensor.abs": _lie(torch.Tensor, "abs", 0.5),
    "Tensor.__matmul__": _lie(torch.Tensor, "__matmul__", 1 - 1e-6),
    "Tensor.sum": _lie(torch.Tensor, "sum", 1 - 1e-6),
    "linalg.vecdot": _lie(torch.linalg, "vecdot", 0.5),
    "nextafter": _lie(torch, "nextafter", 1.0 - 1e-9),
    "maximum": _lie(torch, "maximum", 0.9),
}


@contextmanager
def _switched(get: Callable[[], Any], put: Callable[[Any], Any], to: Any) -> Any:
    before = get()
    put(to)
    try:
        yield
        if get() != to:
            raise AssertionError(f"{to} was not left as it was")
    finally:
        put(before)


def _flushing() -> bool:
    return bool((torch.tensor([1e-310], dtype=torch.float64) * 1.0 == 0).all())


#: name -> context manager of a global state in which proofs must still be true.
AMBIENT: dict[str, Callable[[], Any]] = {
    f"default {dtype}": lambda dtype=dtype: _switched(
        torch.get_default_dtype, torch.set_default_dtype, dtype
    )
    for dtype in (torch.float16, torch.bfloat16, torch.float32, torch.float64)
} | {
    "flush denormal": lambda: _switched(_flushing, torch.set_flush_denormal, True),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no grad": torch.no_grad,
    "default device": lambda: torch.device("cpu"),
    "meta device": lambda: torch.device("meta"),
    "deterministic": lambda: _switched(
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
        True,
    ),
}


def state() -> tuple[object, ...]:
    """What of torch's global state a certificate must leave as it found it."""
    probe = torch.tensor([1.0], device="cpu")
    return (
        torch.get_default_dtype(),
        torch.is_grad_enabled(),
        torch.is_inference_mode_enabled(),
        torch.is_autocast_enabled("cpu"),
        _flushing(),
        torch.get_num_threads(),
        torch.get_rng_state().sum().item(),
        torch.are_deterministic_algorithms_enabled(),
        len(nn.modules.module._global_forward_hooks),
        probe.dtype,
        torch.get_default_device(),
    )
