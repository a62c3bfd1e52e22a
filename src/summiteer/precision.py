"""A model examined in float64, and the precision it really computes in."""

import copy
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from summiteer._typing import Model
from summiteer.networks import TwoLayer, as_two_layer

#: What a forward pass may raise that does not accept float64.
_REFUSALS = (RuntimeError, ValueError, TypeError)


@dataclass(frozen=True, eq=False)
class DoubleModel:
    """A module evaluated at float64 copies of its parameters and buffers.

    Attributes:
        module: the caller's, not touched.
        weights: name -> float64 copy.
    """

    module: nn.Module
    weights: dict[str, Tensor]

    def __call__(self, inputs: Tensor) -> Tensor:
        """The module's outputs on `inputs` `[rows, *input]`."""
        outputs: Tensor = torch.func.functional_call(
            self.module, self.weights, (inputs,)
        )
        return outputs


@dataclass(frozen=True, eq=False)
class AsItIs:
    """A model that cannot compute in float64: called in its own dtype.

    Attributes:
        module: the caller's model, a module or not.
        dtype: what its inputs are cast to.
    """

    module: Model
    dtype: torch.dtype

    def __call__(self, inputs: Tensor) -> Tensor:
        """The model's outputs on `inputs` `[rows, *input]`, as float64."""
        return self.module(inputs.to(self.dtype)).double()


def in_double(model: Model, probe: Tensor) -> Model:
    """Return `model` as a function of float64 inputs, its weights copied to float64.

    Call it inside `undisturbed`.

    Args:
        model: the caller's; itself if it is not a module, or is float64 already.
        probe: a few inputs in the model's own dtype.

    Returns:
        A recognised network of our own, or `DoubleModel`; `AsItIs` where the model does
        not accept float64.
    """
    exact = double(model) if isinstance(model, nn.Module) else model
    if probe.dtype == torch.float64:
        return exact
    try:
        with torch.no_grad():
            exact(probe.double())
    except _REFUSALS:
        return AsItIs(model, probe.dtype)
    return exact


def double(module: nn.Module) -> Model:
    """Return `module` as a float64 function; itself if it is float64 already."""
    named = {**dict(module.named_parameters()), **dict(module.named_buffers())}
    if all(w.dtype == torch.float64 for w in named.values() if w.is_floating_point()):
        return module
    if isinstance(as_two_layer(module), TwoLayer):
        # Plain weights and nothing attached: a copy is the same network.
        return copy.deepcopy(module).double()
    weights = {
        name: w.detach().double() if w.is_floating_point() else w.detach()
        for name, w in named.items()
    }
    return DoubleModel(module, weights)


def model_dtype(model: Model) -> torch.dtype | None:
    """The dtype of the model's first floating-point parameter; None if it has none."""
    if isinstance(model, nn.Module):
        for weight in (*model.parameters(), *model.buffers()):
            if weight.is_floating_point():
                return weight.dtype
    return None


def lowest_precision(model: Model, probe: Tensor) -> torch.dtype:
    """The coarsest dtype that float64 inputs meet on their way through `model`.

    Casts in Python code are seen, those inside compiled operations only by their
    results. Call it inside `undisturbed`.

    Args:
        model: as `in_double` returns it.
        probe: a few float64 inputs.
    """
    watch = _Watch()
    with torch.no_grad(), watch:
        model(probe)
    return watch.lowest


class _Watch(TorchFunctionMode):
    """Sees every operation that takes a finer floating dtype and returns a coarser."""

    def __init__(self) -> None:
        super().__init__()
        self.lowest: torch.dtype = torch.float64

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        given = [a.dtype for a in args if isinstance(a, Tensor) and _real(a)]
        if isinstance(result, Tensor) and _real(result) and given:
            finest = min(torch.finfo(dtype).eps for dtype in given)
            eps = torch.finfo(result.dtype).eps
            if eps > max(finest, torch.finfo(self.lowest).eps):
                self.lowest = result.dtype
        return result


def _real(tensor: Tensor) -> bool:
    return tensor.is_floating_point()
