"""What is known about a model: asked once, here, and nowhere else.

Recognition is exact or nothing (mathematics.md §10.8): a module of exactly our type,
with nothing attached that could change what it computes.
"""

from dataclasses import dataclass
from typing import TypeAlias

from torch import nn
from torch.nn.modules import module as _global_hooks

from summiteer._typing import Model
from summiteer.networks.two_layer import TwoLayerNetwork


@dataclass(frozen=True, eq=False)
class TwoLayer:
    """The model is a two-layer network, whose closed forms apply."""

    network: TwoLayerNetwork


@dataclass(frozen=True)
class Opaque:
    """Nothing is known but values and derivatives by autograd."""

    reason: str


Structure: TypeAlias = TwoLayer | Opaque

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_GLOBAL_HOOKS = (
    "_global_forward_hooks",
    "_global_forward_pre_hooks",
    "_global_backward_hooks",
    "_global_backward_pre_hooks",
)


def recognise(model: Model) -> Structure:
    """Return what is known about `model`.

    Args:
        model: any callable; sub-classes and wrapped modules are Opaque.

    Returns:
        `TwoLayer`, or `Opaque` with the reason.
    """
    if type(model) is not TwoLayerNetwork:
        return Opaque(f"{type(model).__name__} is not a TwoLayerNetwork")
    attached = _attached(model)
    return Opaque(attached) if attached else TwoLayer(model)


def _attached(module: nn.Module) -> str:
    """Name what is attached to a module that could change its outputs, or ''."""
    for name in _HOOKS:
        if getattr(module, name, None):
            return f"the module has hooks ({name})"
    for name in _GLOBAL_HOOKS:
        if getattr(_global_hooks, name, None):
            return f"torch has global module hooks ({name})"
    overridden = {"forward", "preactivations", "__call__"} & set(vars(module))
    if overridden:
        return f"the module overrides {sorted(overridden)[0]} on the instance"
    if getattr(module, "parametrizations", None) or list(module.children()):
        return "the module has parametrizations or sub-modules"
    return ""
