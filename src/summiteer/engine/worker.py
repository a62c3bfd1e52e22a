"""What a worker does with a cell, and what it must have in common with the driver."""

import pickle
import platform
import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

import torch

from summiteer._version import __version__
from summiteer.cells import Cell
from summiteer.engine.completion import Completion, Measurement, completed
from summiteer.errors import UserError

#: Warnings, random state and working directory belong to the process, not the thread.
_ALONE = threading.Lock()


def versions() -> Mapping[str, str]:
    """What must be the same on the driver and on all workers."""
    python = ".".join(platform.python_version_tuple()[:2])
    same = {"summiteer": __version__, "torch": str(torch.__version__), "python": python}
    return MappingProxyType(same)


def worked(
    function: Callable[[Cell], Measurement], cell: Cell, expected: Mapping[str, str]
) -> Completion:
    """Run a function on a cell, alone in this process and on one thread.

    Args:
        function: what to do.
        cell: to what.
        expected: `versions` of the driver.

    Raises:
        UserError: the versions differ; the cell is not run.
    """
    here = versions()
    apart = [name for name, value in expected.items() if here.get(name) != value]
    if apart:
        named = ", ".join(
            f"{name} {here.get(name)} where the driver has {expected[name]}"
            for name in apart
        )
        raise UserError(
            f"--scheduler: the worker on {platform.node()} has {named}; install the "
            "same versions on all workers."
        )
    with _ALONE:
        # OpenMP keeps the number per thread, and this may be a new one.
        torch.set_num_threads(1)
        return _portable(completed(function, cell))


def _portable(completion: Completion) -> Completion:
    """With an error that can be sent, and says where it was raised.

    Not every exception can be pickled, and hardly any traceback.
    """
    error = completion.error
    if error is None:
        return completion
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:
        error = RuntimeError(f"{type(error).__name__}: {error}")
    error.add_note(completion.trace)
    return replace(completion, error=error)
