"""The driver: it alone writes the store, one record per finished cell."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from summiteer.cells import Cell
from summiteer.engine import Completion, Engine, Measurement, Serial
from summiteer.interruption import check
from summiteer.store import Store

#: `progress(done, total)` is called after every cell.
Progress: TypeAlias = Callable[[int, int], None]


@dataclass(frozen=True)
class Tally:
    """How a pass over the cells ended.

    Attributes:
        done: cells finished by it.
        failed: cells whose function raised.
    """

    done: int
    failed: int


def counting(
    progress: Progress | None, done: int, total: int
) -> Callable[[Completion], None]:
    """Tell how many cells are done: now, and after each one that is recorded.

    Args:
        progress: is told; nobody if None.
        done: before the first.
        total: of the run.

    Returns:
        To be called after each, `finished` of `work_through`.
    """
    numbers = itertools.count(done)

    def told(_: Completion | None = None) -> None:
        if progress:
            progress(next(numbers), total)

    told()
    return told


def work_through(
    store: Store,
    cells: Iterable[tuple[int, Cell]],
    function: Callable[[Cell], Measurement],
    engine: Engine | None = None,
    finished: Callable[[Completion], None] | None = None,
    keep_failures: bool = True,
) -> Tally:
    """Run the cells and record each as soon as it is there.

    Args:
        store: open for writing.
        cells: (number of the arrays file, cell); those that are to be run.
        function: cell -> what is recorded of it.
        engine: `Serial` if None.
        finished: told of each cell after it is recorded.
        keep_failures: whether a failed cell becomes a record and the others go on; if
            not, its exception is raised.

    Returns:
        How many were done, and failed.
    """
    numbers: dict[Cell, int] = {}

    def announced() -> Iterable[Cell]:
        for number, cell in cells:
            numbers[cell] = number
            yield cell

    done = failed = 0
    for completion in (engine or Serial()).map_cells(function, announced()):
        check()
        cell, error = completion.cell, completion.error
        where = completion.environment
        number = numbers.pop(cell)
        if completion.measurement is not None:
            measured = completion.measurement
            store.put(
                cell, number, measured.record, measured.arrays, measured.metadata, where
            )
            done += 1
        elif error is not None:
            if not keep_failures:
                raise error
            text = f"{type(error).__name__}: {error}"
            store.fail(cell, text, completion.trace, where)
            failed += 1
        if finished:
            finished(completion)
    return Tally(done, failed)
