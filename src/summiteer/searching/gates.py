"""Gradients through closed gates.

Where σ' = 0 the gradient does not know what opening a unit would bring. A network whose
units have closed is a plateau with one poor maximum, and all runs end there, however
many. In the backward pass alone, for every unit of every activation σ,

    σ̃'(t) = σ'(t) where σ'(t) ≠ 0, and slope elsewhere,

takes the place of σ'(t): the chain rule then tells the way to units that are closed
now. For max(t, 0) that is 1 where t > 0 and slope elsewhere: the gradient of a network
with the same gates that leak. It is no gradient of the outputs, so that a run
through closed gates is followed by one with true gradients from where it led; the
values, and with them everything that a search reports, are the network's own, bit by
bit.

Relatives: backpropagation as if some layers were linear, which is slope 1
(`guo2020backpropagating`).
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from summiteer._typing import Model

#: Measured on the properties of mnistfc 2021, see docs/benchmarks-search.md: the deeper
#: the network, the smaller the slopes that lead anywhere.
SLOPE = 0.03


class _Ajar(torch.autograd.Function):
    """Given values, with given derivatives by t, entry by entry."""

    @staticmethod
    def forward(context: Any, t: Tensor, values: Tensor, derivative: Tensor) -> Tensor:
        context.save_for_backward(derivative)
        return values.view_as(values)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (derivative,) = context.saved_tensors
        return derivative * gradients[0], None, None


def _named(*names: str) -> frozenset[Callable[..., Any]]:
    """What torch, its tensors and its functional form have under these names."""
    places = (torch, torch.Tensor, functional)
    found = (getattr(place, name, None) for place in places for name in names)
    return frozenset(function for function in found if function is not None)


#: Functions of each entry of the first argument, with σ' = 0 on a whole side. What is
#: not named here, such as torch.where, keeps its gradients; so do tanh and the sigmoid,
#: which never close: left ajar they broke no example that runs towards rivals did not.
_ACTIVATIONS = _named(
    *("relu", "relu_", "relu6", "threshold", "threshold_", "hardtanh", "hardtanh_"),
    *("clamp", "clamp_", "clamp_min", "clamp_min_", "clamp_max", "clamp_max_"),
    *("clip", "clip_", "hardsigmoid"),
)


class _Gates(TorchFunctionMode):
    """Every activation that is met is left ajar.

    torch keeps modes per thread: other threads see nothing of this one, and a model
    that computes in threads of its own keeps its gradients there. What is scripted or
    compiled keeps them too.
    """

    def __init__(self, slope: float) -> None:
        super().__init__()
        self.slope = slope

    def __torch_function__(
        self,
        function: Callable[..., Any],
        types: Any,
        arguments: tuple[Any, ...] = (),
        options: dict[str, Any] | None = None,
    ) -> Any:
        """Call the function, or the activation that is ajar in its place."""
        options = options or {}
        if function in _ACTIVATIONS:
            t, *others = (*arguments, *options.values())
            numbers = not any(isinstance(value, Tensor) for value in others)
            if _differentiated(t) and numbers:
                bound = options if arguments else _without_first(options)
                # Inside torch.func's transforms there are no derivatives by hand.
                with suppress(RuntimeError):
                    return self._ajar(t, lambda t: function(t, *arguments[1:], **bound))
        return function(*arguments, **options)

    def _ajar(self, t: Tensor, activation: Callable[[Tensor], Tensor]) -> Tensor:
        with torch.enable_grad():
            alone = t.detach().requires_grad_()
            copy = alone.clone()
            values = activation(copy)
            # Of the sum: given the ones explicitly, torch imports sympy (seconds).
            (derivative,) = torch.autograd.grad(values.sum(), alone)
        ajar = torch.where(derivative == 0, self.slope, derivative)
        made: Tensor = _Ajar.apply(t, values.detach(), ajar)  # type: ignore[no-untyped-call]
        # What works in place returns what it was given, changed.
        return t.copy_(made) if values is copy else made


def _without_first(options: dict[str, Any]) -> dict[str, Any]:
    """The options without the first argument, given by its name."""
    first, *_ = options
    return {name: value for name, value in options.items() if name != first}


def _differentiated(t: Any) -> bool:
    """Whether gradients by it are asked for now, and it is nothing but a tensor."""
    if torch.compiler.is_compiling() or type(t) not in (Tensor, torch.nn.Parameter):
        return False
    return torch.is_grad_enabled() and t.requires_grad


@dataclass(frozen=True, eq=False)
class Ajar:
    """A model with the values of `module` and gradients through closed gates.

    Attributes:
        module: the caller's model.
        slope: what σ' is taken for where it is 0, in the backward pass.
    """

    module: Model
    slope: float = SLOPE

    def __call__(self, inputs: Tensor) -> Tensor:
        """The module's outputs on `inputs` `[rows, *input]`."""
        with _Gates(self.slope):
            outputs: Tensor = self.module(inputs)
        return outputs
