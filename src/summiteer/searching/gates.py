"""Gradients through closed gates.

Where σ' = 0 the gradient does not know what opening a unit would bring. A network whose
outputs have saturated is a plateau with one poor maximum, and all runs end there,
however many. The same network with σ' replaced by a small slope *in the backward pass
alone* tells the way to units that are closed now; its values, and with them everything
that a search reports, are the network's own.

Relatives: the straight-through estimator; backpropagation as if the network were linear
(`guo2020backpropagating`), which is slope 1 from some layer on.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from summiteer._typing import Model

#: Of the five hard properties of mnistfc 2021, slope 0.1 solved all, 0.3 two, 1 one.
SLOPE = 0.1


class _Ajar(torch.autograd.Function):
    """max(t, 0), whose derivative is `slope` where it is 0."""

    @staticmethod
    def forward(context: Any, values: Tensor, slope: float) -> Tensor:
        context.save_for_backward(values)
        context.slope = slope
        return values.clamp(min=0)

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        (values,) = context.saved_tensors
        (gradient,) = gradients
        return torch.where(values > 0, gradient, context.slope * gradient), None


#: What computes max(t, 0) of its first argument, and nothing else.
_RECTIFIERS: frozenset[Callable[..., Any]] = frozenset(
    {
        torch.relu,
        torch.relu_,
        torch.Tensor.relu,
        torch.Tensor.relu_,
        functional.relu,
        functional.relu_,
    }
)


class _Gates(TorchFunctionMode):
    """Every rectifier that is met is left ajar."""

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
        """Call the function, or the rectifier that is ajar in its place."""
        if function in _RECTIFIERS:
            values = arguments[0] if arguments else (options or {})["input"]
            return _Ajar.apply(values, self.slope)  # type: ignore[no-untyped-call]
        return function(*arguments, **(options or {}))


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
