"""The state of optimisers and schedules as tensors and JSON, without pickles."""

from collections import Counter, OrderedDict, defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
from torch import Tensor

from summiteer.errors import UserError

_PLAIN = (bool, int, float, str)


def encoded(value: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """A value as JSON; its tensors go into `tensors` under names made of `path`.

    Dicts, lists, tuples, counters, numbers, strings, None and tensors are known.

    Args:
        value: what `state_dict()` returned, or a part of it.
        tensors: name -> tensor, added to.
        path: where the value is.

    Raises:
        UserError: something else is in it; says where.
    """
    if value is None or type(value) in _PLAIN:
        return value
    if isinstance(value, Tensor):
        tensors[path] = value
        return {"tensor": path}
    if isinstance(value, np.generic):
        return encoded(value.item(), tensors, path)
    if isinstance(value, list | tuple):
        kind = "list" if isinstance(value, list) else "tuple"
        parts = [encoded(v, tensors, f"{path}.{i}") for i, v in enumerate(value)]
        return {kind: parts}
    if type(value) in (dict, OrderedDict, defaultdict, Counter):
        kind = "counter" if isinstance(value, Counter) else "dict"
        pairs = []
        for key, entry in value.items():
            if type(key) not in _PLAIN:
                raise _unknown(key, path)
            pairs.append([key, encoded(entry, tensors, f"{path}.{key}")])
        return {kind: pairs}
    raise _unknown(value, path)


def decoded(value: Any, tensors: Mapping[str, Tensor]) -> Any:
    """What `encoded` was given.

    Args:
        value: what it returned.
        tensors: by name.
    """
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind in ("list", "tuple"):
        parts = [decoded(part, tensors) for part in content]
        return parts if kind == "list" else tuple(parts)
    pairs = {key: decoded(entry, tensors) for key, entry in content}
    return Counter(pairs) if kind == "counter" else pairs


def _unknown(value: object, path: str) -> UserError:
    return UserError(
        f"checkpoint: {path} is a {type(value).__name__}, which is not written without "
        "pickles; use an optimiser and a schedule whose state is tensors, numbers and "
        "text, or train without checkpoint."
    )
