"""The caller's world, left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import MethodType

import torch
from torch import nn

from summiteer._typing import Model


@contextmanager
def undisturbed(model: Model) -> Iterator[None]:
    """Examine `model` in eval mode, with gradients on, and restore everything after.

    Restored: each module's train/eval flag, torch's global random state (a model may
    draw from it), and grad and inference mode.

    Args:
        model: an nn.Module, or a callable; modes are those of the module that it is, or
            that it plainly holds (a bound method, a functools.partial, an attribute
            `module`).
    """
    # Flags are set one by one: `eval()` may be overridden, and `train()` would forget
    # which sub-modules were frozen. Frozen script modules have no flag.
    modes = [
        (module, bool(module.training))
        for module in _modules(model)
        if hasattr(module, "training")
    ]
    initialised = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    cuda = torch.cuda.is_available() and initialised
    devices = range(torch.cuda.device_count()) if cuda else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            for module, training in modes:
                if training:
                    module.training = False
            yield
        finally:
            # The model itself may have set any of them meanwhile.
            for module, training in modes:
                if module.training != training:
                    module.training = training


def behaves_differently_in_training(model: Model) -> str:
    """Name the first module in train mode whose outputs depend on the mode, or ''."""
    for module in _modules(model):
        if getattr(module, "training", False) and _depends_on_mode(module):
            return type(module).__name__
    return ""


def _modules(model: Model) -> list[nn.Module]:
    """Every module inside `model`, as far as it can be seen."""
    held: object = model
    if not isinstance(held, nn.Module | MethodType | partial):
        held = getattr(held, "module", None)
    while isinstance(held, MethodType | partial):
        held = held.__self__ if isinstance(held, MethodType) else held.func
    return list(held.modules()) if isinstance(held, nn.Module) else []


def _depends_on_mode(module: nn.Module) -> bool:
    if isinstance(module, nn.modules.batchnorm._NormBase):
        # Without running statistics it takes the batch's own in both modes.
        return module.running_mean is not None
    if isinstance(module, nn.modules.dropout._DropoutNd):
        return module.p > 0
    if isinstance(module, nn.RNNBase | nn.MultiheadAttention):
        return module.dropout > 0
    return isinstance(module, nn.RReLU)
