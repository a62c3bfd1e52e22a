"""Whether torch's own functions are still those that this package was loaded with.

A proof computes with them. A replaced `torch.sigmoid`, or a mode that looks at every
operation, may return anything; the rounding that is proved would be that of another
function (mathematics.md §10.8).
"""

from types import BuiltinFunctionType
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import _get_current_function_mode_stack
from torch.utils._device import DeviceContext

#: What activations, objectives and affine maps use; others replace its attention.
_FUNCTIONAL = (
    "logsigmoid",
    "silu",
    "leaky_relu",
    "softplus",
    "fold",
    "unfold",
    "one_hot",
)


def _kept() -> dict[str, tuple[object, dict[str, Any]]]:
    """Owner's name -> (owner, name -> function)."""
    plain = {
        name: value
        for name, value in vars(torch).items()
        if isinstance(value, BuiltinFunctionType) or name in torch.functional.__all__
    }
    return {
        "torch": (torch, plain),
        "torch.linalg": (torch.linalg, dict(vars(torch.linalg))),
        "torch.nn.functional": (
            functional,
            {name: getattr(functional, name) for name in _FUNCTIONAL},
        ),
        "Tensor": (torch.Tensor, dict(vars(torch.Tensor))),
    }


_KEPT = _kept()
_BASE = frozenset(dir(torch._C.TensorBase))


def tampered() -> str:
    """Say which of torch's functions are not what they were, or ''."""
    for owner, (holder, kept) in _KEPT.items():
        now = vars(holder)
        for name, function in kept.items():
            if now.get(name) is not function:
                return f"{owner}.{name} was replaced"
    # A new attribute of Tensor hides the function of the same name that it inherits.
    for name in vars(torch.Tensor).keys() - _KEPT["Tensor"][1].keys():
        if name in _BASE:
            return f"Tensor.{name} was replaced"
    modes = _get_current_function_mode_stack()  # type: ignore[no-untyped-call]
    for mode in modes:
        if type(mode) is not DeviceContext:
            return f"the function mode {type(mode).__name__} is active"
    if torch._C._len_torch_dispatch_stack():
        return "a dispatch mode is active"
    return ""
