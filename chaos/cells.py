"""Cells that cost nothing, and leave a trace each time one is run."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from summiteer.cells import Cell
from summiteer.engine import Measurement


def cells(count: int) -> tuple[Cell, ...]:
    """So many different cells."""
    return tuple(Cell("chaos", {"number": number}) for number in range(count))


@dataclass(frozen=True)
class Work:
    """A cell's function: determined by the cell, but for the trace that it leaves.

    Attributes:
        log: a file that is given a line "number pid" whenever a cell is begun.
        pause: seconds that a cell takes at least.
        deadly: numbers of the cells that end their process.
    """

    log: Path
    pause: float = 0.02
    deadly: tuple[int, ...] = ()

    def __call__(self, cell: Cell) -> Measurement:
        """A record and an array that depend on the number alone."""
        number = int(str(cell.spec["number"]))
        line = f"{number} {os.getpid()}\n".encode()
        file = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        os.write(file, line)
        os.close(file)
        if number in self.deadly:
            os.kill(os.getpid(), 9)
        time.sleep(self.pause)
        generator = torch.Generator().manual_seed(number)
        matrix = torch.randn(40, 40, generator=generator, dtype=torch.float64)
        values = torch.linalg.eigvalsh(matrix @ matrix.T)
        record = {"number": number, "largest": float(values[-1])}
        return Measurement(record, {"spectrum": values}, {"about": f"cell {number}"})


def begun(log: Path) -> list[tuple[int, int]]:
    """(number, pid) of every time that a cell was begun.

    Args:
        log: of `Work`.
    """
    if not log.exists():
        return []
    lines = log.read_text().splitlines()
    return [(int(number), int(pid)) for number, pid in map(str.split, lines)]
