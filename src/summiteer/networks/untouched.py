"""Whether classes and modules are still what this package was loaded with."""

from collections.abc import Iterable
from typing import Any

from torch import nn
from torch.nn.modules import module as _torch_module

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

Code = dict[type, dict[str, Any]]


def code(owner: type) -> dict[str, Any]:
    """Return the methods and properties that a class defines itself."""
    if owner is nn.Module:
        return {name: vars(owner).get(name) for name in _CALLING}
    kinds = (property, classmethod, staticmethod)
    return {
        name: value
        for name, value in vars(owner).items()
        if callable(value) or isinstance(value, kinds)
    }


def codes(owners: Iterable[type]) -> Code:
    """The code of each class, to be compared with later.

    Args:
        owners: the classes.
    """
    return {owner: code(owner) for owner in owners}


def changed(kept: Code, owners: Iterable[type] | None = None) -> str:
    """Say which class is not what it was, or ''.

    Args:
        kept: what `codes` returned when the package was loaded.
        owners: which of them; all if omitted.
    """
    for owner in kept if owners is None else owners:
        if code(owner) != kept[owner]:
            return f"the class {owner.__name__} was changed after import"
    return ""


def global_hooks() -> str:
    """Say whether torch has hooks for every module, or ''."""
    for name in _GLOBAL_HOOKS:
        if getattr(_torch_module, name):
            return f"torch has global module hooks ({name})"
    return ""


def copied_otherwise(module: nn.Module) -> str:
    """Name what could make a copy another network (`double` makes one), or ''."""
    for owner in (module, *module.parameters(recurse=False)):
        for name in vars(owner):
            if name.startswith("__"):
                return f"{type(owner).__name__} has its own {name}"
    return ""


def inside(model: nn.Module) -> list[tuple[str, nn.Module]]:
    """Every module in `model` with its path, whatever its class says about that.

    Args:
        model: comes first, with the path ''.
    """
    found: dict[int, tuple[str, nn.Module]] = {}
    pending = [("", model)]
    while pending:
        path, module = pending.pop(0)
        if id(module) not in found:
            found[id(module)] = (path, module)
            children = vars(module).get("_modules", {})
            pending += [
                (f"{path}.{name}".lstrip("."), child)
                for name, child in children.items()
                if child is not None
            ]
    return list(found.values())
