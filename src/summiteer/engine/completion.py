"""What became of one cell."""

import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from summiteer.cells import Cell
from summiteer.environment import environment


@dataclass(frozen=True, eq=False)
class Measurement:
    """What a cell's function returns: all of it is determined by the cell.

    Attributes:
        record: numbers and texts, see `cells.as_json`; no times, which differ.
        arrays: by name.
        metadata: strings to be kept beside the arrays.
    """

    record: Mapping[str, Any]
    arrays: Mapping[str, Tensor] | None = None
    metadata: Mapping[str, str] | None = None


@dataclass(frozen=True, eq=False)
class Completion:
    """One cell, done or failed.

    Attributes:
        cell: which.
        measurement: what its function returned; None if it failed.
        error: what it raised; None if it did not.
        trace: the traceback as text; empty without an error.
        environment: versions and machine of the process that ran it, and "seconds".
    """

    cell: Cell
    measurement: Measurement | None
    error: Exception | None = None
    trace: str = ""
    environment: Mapping[str, Any] = field(default_factory=dict)


def completed(function: Callable[[Cell], Measurement], cell: Cell) -> Completion:
    """Run a function on a cell; an exception is part of the answer.

    Args:
        function: what to do.
        cell: to what.
    """
    began = time.monotonic()
    measurement, error, trace = None, None, ""
    try:
        measurement = function(cell)
    except Exception as caught:
        error, trace = caught, traceback.format_exc()
    seconds = round(time.monotonic() - began, 3)
    where = {**environment(), "seconds": seconds}
    return Completion(cell, measurement, error, trace, where)
