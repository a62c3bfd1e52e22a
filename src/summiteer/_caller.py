"""The caller's world, left as it was."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from summiteer._typing import Model

#: Modules that behave differently in train mode.
_MODAL = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)


@contextmanager
def undisturbed(model: Model) -> Iterator[None]:
    """Examine `model` in eval mode, with gradients on, and restore everything after.

    Restored: each module's train/eval flag, the global random state (a model may draw
    from it), and grad and inference mode.

    Args:
        model: any callable; only an nn.Module has modes.
    """
    modules = list(model.modules()) if isinstance(model, nn.Module) else []
    training = [module for module in modules if module.training]
    cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
    devices = range(torch.cuda.device_count()) if cuda else []
    with (
        torch.random.fork_rng(devices=devices),
        torch.inference_mode(False),
        torch.enable_grad(),
    ):
        try:
            for module in training:
                module.training = False
            yield
        finally:
            for module in training:
                module.training = True


def behaves_differently_in_training(model: Model) -> str:
    """Name the first module in train mode whose outputs depend on the mode, or ''."""
    if not isinstance(model, nn.Module):
        return ""
    for module in model.modules():
        if module.training and isinstance(module, _MODAL):
            return type(module).__name__
    return ""
