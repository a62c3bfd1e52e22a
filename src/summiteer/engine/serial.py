"""The engine that needs nothing: one cell after the other, in this process."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

from summiteer.cells import Cell
from summiteer.engine.completion import Completion, Measurement, completed


class Engine(Protocol):
    """Runs a function on cells."""

    def map_cells(
        self, function: Callable[[Cell], Measurement], cells: Iterable[Cell]
    ) -> Iterator[Completion]:
        """Run a function on every cell and hand out each answer once it is there.

        Lazy: whoever stores an answer before asking for the next one loses at most the
        cells that were running when all was interrupted.

        Args:
            function: what to do with a cell. It is given nothing but the cell; engines
                with other processes pickle it.
            cells: in any order; they are taken when they are needed.

        Yields:
            What became of each, in any order.
        """
        ...


@dataclass(frozen=True)
class Serial:
    """Cells in their order, in this process."""

    def map_cells(
        self, function: Callable[[Cell], Measurement], cells: Iterable[Cell]
    ) -> Iterator[Completion]:
        """See `Engine.map_cells`."""
        for cell in cells:
            yield completed(function, cell)
