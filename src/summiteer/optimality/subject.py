"""What a certificate speaks of, as a digest."""

import dataclasses
import hashlib
import math
from collections.abc import Callable

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
            _update(common.update, (name, value))
    else:
        _update(common.update, model)
    objective, region = problem.objective, problem.feasible
    parts = zip(
        _each(objective, len(points), lambda one: taken(objective, one)),
        _each(problem.inputs, len(points)),
        _each(problem.targets, len(points)),
        _each(region, len(points), region.take),
        _each(points, len(points)),
        strict=True,
    )
    digests = []
    for part in parts:
        own = common.copy()
        own.update(b"".join(part))
        digests.append(own.hexdigest())
    return tuple(digests)


def _each(
    value: object, count: int, take: Callable[[Tensor], object] | None = None
) -> list[bytes]:
    """What `_update` makes of each row, in one go where the rows need no `take`.

    Args:
        value: a tensor `[count, ...]`, or what `take` takes rows of.
        count: how many rows.
        take: an index `[1]` -> the value of that row.
    """
    if isinstance(value, Tensor):
        plain = value.detach().cpu().contiguous()
        head = f"{plain.dtype}{list(plain.shape[1:])}".encode()
        flat = plain.reshape(count, math.prod(plain.shape[1:]))
        rows = flat.view(torch.uint8).numpy()
        return [head + row.tobytes() for row in rows]
    if take is None or not _per_example(value):
        return [_written(value)] * count
    return [_written(take(index)) for index in torch.split(torch.arange(count), 1)]


def _per_example(value: object) -> bool:
    """Whether there is a tensor in it, or something that may hold one."""
    if isinstance(value, str | int | float | bool | None):
        return False
    if isinstance(value, tuple):
        return any(map(_per_example, value))
    if dataclasses.is_dataclass(value):
        return any(_per_example(part) for part in vars(value).values())
    return True


def _written(value: object) -> bytes:
    """What `_update` feeds."""
    fed: list[bytes] = []
    _update(fed.append, value)
    return b"".join(fed)


def _update(feed: Callable[[bytes], object], value: object) -> None:
    """Feed a value of known kind; of unknown ones the name of the type, no address."""
    if isinstance(value, Tensor):
        plain = value.detach().cpu().clone(memory_format=torch.contiguous_format)
        feed(f"{plain.dtype}{list(plain.shape)}".encode())
        feed(plain.reshape(-1).view(torch.uint8).numpy().tobytes())
    elif isinstance(value, tuple):
        for part in value:
            _update(feed, part)
    elif isinstance(value, str | int | float | bool | None):
        feed(f"{type(value).__name__}:{value!r};".encode())
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        feed(type(value).__qualname__.encode())
        for field in dataclasses.fields(value):
            _update(feed, (field.name, getattr(value, field.name)))
    else:
        name = getattr(value, "__qualname__", type(value).__qualname__)
        feed(name.encode())
