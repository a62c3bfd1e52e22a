"""What a certificate speaks of, as a digest."""

import dataclasses
import hashlib
from typing import Any

import torch
from torch import Tensor, nn

from summiteer.objectives import taken
from summiteer.problem import Problem


def subjects(problem: Problem, points: Tensor) -> tuple[str, ...]:
    """SHA-256 of model, objective, input, target, region and point, per example.

    The weights of modules are read; of other callables only the name is known.

    Args:
        problem: the caller's own.
        points: `[batch, *input]`.
    """
    common = hashlib.sha256()
    model = problem.model
    if isinstance(model, nn.Module):
        # The text of a module has the settings that are no weights.
        common.update(repr(model).encode())
        for name, value in sorted(model.state_dict().items()):
            _update(common, (name, value))
    else:
        _update(common, model)
    digests = []
    for i in range(len(points)):
        own = common.copy()
        one = torch.tensor([i], device=points.device)
        region = problem.feasible.take(one)
        objective = taken(problem.objective, one)
        _update(
            own, (objective, problem.inputs[i], problem.targets[i], region, points[i])
        )
        digests.append(own.hexdigest())
    return tuple(digests)


def _update(digest: Any, value: object) -> None:
    """Feed a value of known kind; of unknown ones the name of the type, no address."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        digest.update(f"{plain.dtype}{list(plain.shape)}".encode())
        digest.update(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, tuple):
        for part in value:
            _update(digest, part)
    elif isinstance(value, str | int | float | bool | None):
        digest.update(f"{type(value).__name__}:{value!r};".encode())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        digest.update(type(value).__qualname__.encode())
        for field in dataclasses.fields(value):
            _update(digest, (field.name, getattr(value, field.name)))
    else:
        name = getattr(value, "__qualname__", type(value).__qualname__)
        digest.update(name.encode())
