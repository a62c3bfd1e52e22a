"""One study in a folder, drivers that work on it, and what may never happen to it."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from chaos.cells import begun, cells
from chaos.driver import SPEC, drive
from summiteer.errors import UserError
from summiteer.store import Store

#: Longer than anything here ever takes; nothing is measured by it.
PATIENCE = 900.0
#: (records, files) that must not depend on what happened on the way.
Content: TypeAlias = tuple[dict[str, tuple[object, ...]], dict[str, bytes]]


class BrokenPromiseError(AssertionError):
    """Something was lost, counted twice, or said wrongly."""


def require(kept: object, promise: str) -> None:
    """Raise unless a promise was kept.

    Args:
        kept: whether it was.
        promise: in words.
    """
    if not kept:
        raise BrokenPromiseError(promise)


def until(condition: Callable[[], object], promise: str) -> None:
    """Wait for something that must happen.

    Args:
        condition: whether it has happened.
        promise: that it does, in words.
    """
    deadline = time.monotonic() + PATIENCE
    while not condition():
        require(time.monotonic() < deadline, promise)
        time.sleep(0.002)


def alive(pid: int) -> bool:
    """Whether a process is there, and is no zombie.

    Args:
        pid: its number.
    """
    try:
        state = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return state.rpartition(")")[2].split()[0] != "Z"


@dataclass(eq=False)
class Site:
    """A study of cheap cells.

    Attributes:
        folder: for all its files.
        count: its cells.
        workers: of each driver.
        known: cells that were seen finished: never to be touched again.
    """

    folder: Path
    count: int
    workers: int = 2
    known: dict[str, tuple[object, ...]] = field(default_factory=dict)

    @property
    def out(self) -> Path:
        """The store's directory."""
        return self.folder / "out"

    @property
    def log(self) -> Path:
        """Of all cells that were begun."""
        return self.folder / "log"

    def started(self) -> subprocess.Popen[str]:
        """Start a driver in a process of its own."""
        words = [str(word) for word in (self.out, self.log, self.count, self.workers)]
        return subprocess.Popen(
            [sys.executable, "-m", "chaos.driver", *words],
            cwd=Path(__file__).parents[1],
            stderr=subprocess.PIPE,
            text=True,
            # A shell's background jobs inherit that Ctrl-C is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def ended(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Wait for a driver: its exit code and what it said.

        Args:
            process: from `started`.
        """
        _, said = process.communicate(timeout=PATIENCE)
        return process.returncode, said

    def more(self, process: subprocess.Popen[str], cells: int) -> bool:
        """Wait until so many more cells were begun; False if the driver has ended.

        Args:
            process: from `started`.
            cells: how many.
        """
        wanted = len(begun(self.log)) + cells
        until(
            lambda: len(begun(self.log)) >= wanted or process.poll() is not None,
            "a driver makes progress",
        )
        return process.poll() is None

    def done(self) -> set[int]:
        """The numbers of the cells that were seen finished."""
        numbered = enumerate(cells(self.count))
        return {number for number, cell in numbered if cell.name in self.known}

    def look(self) -> None:
        """What was finished stays, as it was; nothing in the store is half there."""
        now = finished(self.out)
        for name, what in self.known.items():
            require(now.get(name) == what, f"finished cell {name} stays as it was")
        self.known = now

    def check(self) -> None:
        """The study comes to the end that it would have come to undisturbed."""
        undisturbed = self.folder / "undisturbed"
        drive(undisturbed, self.folder / "undisturbed.log", self.count, 1)
        drive(self.out, self.log, self.count, 1)
        self.look()
        require(len(self.known) == self.count, "every cell is there once")
        require(
            content(self.out) == content(undisturbed),
            "records and arrays are those of the undisturbed run",
        )


def finished(out: Path) -> dict[str, tuple[object, ...]]:
    """The finished cells, with time, digest and inode of each as they lie there.

    Args:
        out: directory of a store.
    """
    if not (out / "run.json").exists():
        return {}
    try:
        with Store.read(out) as store:
            records = store.finished()
            for name in records:
                store.arrays(name)  # as recorded
    except UserError as error:
        require("holds no records yet" in str(error), f"the store is readable: {error}")
        return {}
    return {
        name: (
            record.created,
            record.sha256,
            (out / "arrays" / str(record.arrays)).stat().st_ino,
        )
        for name, record in records.items()
    }


def content(out: Path) -> Content:
    """All that must not depend on how a study came to its end.

    Args:
        out: directory of a store.
    """
    with Store.read(out) as store:
        require(store.spec == SPEC, "the store is of this study")
        require(not store.failed(), "no cell has failed")
        records: dict[str, tuple[object, ...]] = {
            name: (r.kind, r.spec, r.values, r.arrays, r.sha256)
            for name, r in store.finished().items()
        }
    names = {cell.name for cell in cells(len(records))}
    require(names == records.keys(), "the cells are the study's")
    files = {
        path.name: path.read_bytes()
        for path in out.rglob("*")
        if path.is_file() and path.name not in {"run.json", "store.sqlite", "run.lock"}
    }
    return records, files


def instant(rng: random.Random) -> float:
    """Seconds from a cell's beginning to some instant in or after it.

    Args:
        rng: draws it.
    """
    return rng.uniform(0.0, 0.06)


def kill(pid: int) -> None:
    """SIGKILL, if there is still anything to be killed.

    Args:
        pid: of the process.
    """
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
