"""How cells are run. This is the serial engine; others keep its one signature."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from summiteer.cells import Cell

Result = TypeVar("Result")


def map_cells(
    function: Callable[[Cell], Result], cells: Iterable[Cell]
) -> Iterator[tuple[Cell, Result]]:
    """Run a function on every cell and hand out each result as soon as it is there.

    Lazy: whoever stores a result before asking for the next one loses at most the cell
    that was running when the run was interrupted.

    Args:
        function: What to do with a cell. It is given nothing but the cell and should be
            picklable, so that an engine with other processes can run it too.
        cells: The cells; engines other than this one may finish them in any order.

    Yields:
        Each cell with its result.
    """
    for cell in cells:
        yield cell, function(cell)
