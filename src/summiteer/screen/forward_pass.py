"""One forward pass, watched: which operations the inputs meet on their way."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from summiteer._typing import Model

#: Operations that are flat between jumps: their derivative is 0 or missing.
_FLAT = {
    *("round", "floor", "ceil", "trunc", "fix", "sign", "sgn", "signbit", "heaviside"),
    *("argmax", "argmin", "argsort", "bucketize", "searchsorted", "one_hot"),
    *("floor_divide", "histc", "quantize_per_tensor", "quantize_per_channel"),
    *("fake_quantize_per_tensor_affine", "fake_quantize_per_channel_affine"),
    *("gt", "ge", "lt", "le", "eq", "ne", "greater", "less", "isclose"),
    *("int", "long", "short", "byte", "bool", "char"),
}
#: Calls of automatic differentiation.
_GRADIENTS = {"grad", "backward", "autograd_grad"}
#: Operations that hand the inputs on as they are.
_SAME = {"clone", "contiguous", "to", "float", "double", "view", "reshape", "flatten"}
_SUBTRACT, _DIVIDE = {"sub", "subtract"}, {"div", "divide", "true_divide"}


@dataclass(frozen=True, eq=False)
class ForwardPass:
    """What one forward pass did.

    Attributes:
        flat: names of operations that are flat between jumps, in order.
        differentiates: whether automatic differentiation was called inside.
        mean: of a normalisation (x - mean)/std that the inputs meet first; None where
            there is none.
        std: of the same.
    """

    flat: tuple[str, ...]
    differentiates: bool
    mean: Tensor | None
    std: Tensor | None


def watch(model: Model, inputs: Tensor) -> ForwardPass:
    """Run the model once and say what it did; call it inside `undisturbed`.

    Operations inside compiled or scripted code are not seen.

    Args:
        model: the caller's.
        inputs: `[rows, *input]`.
    """
    moved = inputs.detach().clone().requires_grad_()
    eye = _Watch(moved)
    with eye:
        model(moved)
    both = eye.mean is not None and eye.std is not None
    return ForwardPass(
        tuple(dict.fromkeys(eye.flat)),
        eye.differentiates,
        eye.mean if both else None,
        eye.std if both else None,
    )


class _Watch(TorchFunctionMode):
    def __init__(self, inputs: Tensor) -> None:
        super().__init__()
        self.flat: list[str] = []
        self.differentiates = False
        self.mean: Tensor | None = None
        self.std: Tensor | None = None
        #: The inputs, as far as nothing but a normalisation has happened to them.
        self._followed: Tensor | None = inputs

    def __torch_function__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        name = str(getattr(func, "__name__", "")).strip("_")
        given = args[0] if args else None
        result = func(*args, **(kwargs or {}))
        if name in _GRADIENTS:
            self.differentiates = True
        elif isinstance(result, Tensor) and isinstance(given, Tensor):
            whole = not result.is_floating_point() and given.is_floating_point()
            if name in _FLAT or (name in {"to", "type"} and whole):
                self.flat.append(name)
        if given is self._followed and isinstance(result, Tensor):
            self._follow(name, args, kwargs or {}, result)
        return result

    def _follow(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], result: Tensor
    ) -> None:
        other = args[1] if len(args) > 1 else kwargs.get("other")
        if name in _SUBTRACT and self.mean is None and other is not None:
            self.mean = torch.as_tensor(other).detach().double()
        elif name in _DIVIDE and self.mean is not None and other is not None:
            self.std = torch.as_tensor(other).detach().double()
            result = result.new_empty(0)  # nothing more to follow
        elif name not in _SAME:
            # Properties (shape, requires_grad) come here too, with no tensor as result.
            return
        self._followed = result
