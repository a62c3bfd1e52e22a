"""The engine with more than one worker: a Dask cluster, of this machine or of many.

The driver hands out cells and takes answers; that workers are lost and their cells run
again is Dask's business. A cell whose workers are lost every time is run once more
alone, so that it is never blamed for its neighbours.
"""

import queue
import time
import uuid
import warnings
from asyncio import CancelledError
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from summiteer.cells import Cell
from summiteer.engine.completion import Completion, Measurement
from summiteer.engine.worker import versions, worked
from summiteer.errors import SummiteerWarning, UserError

#: Cells per worker that are handed out: the one at work, and the next.
_AHEAD = 2
#: Seconds between looks at how many workers there are.
_LOOK = 2.0
#: Seconds without any worker after which the reader is told.
_PATIENCE = 60.0


@dataclass(frozen=True, eq=False)
class Cluster:
    """The workers of a Dask cluster; made by `opened`.

    Attributes:
        client: `distributed.Client`.
        resources: what a cell needs of a worker's resources, such as {"GPU": 1}.
    """

    client: Any
    resources: Mapping[str, float] = field(default_factory=dict)

    def map_cells(
        self, function: Callable[[Cell], Measurement], cells: Iterable[Cell]
    ) -> Iterator[Completion]:
        """See `Engine.map_cells`. At most two cells per worker are on their way.

        Args:
            function: sent with every cell: picklable and small.
            cells: taken as workers become free.

        Yields:
            What became of each, as it becomes known. A cell whose worker is lost again
            and again, alone in the end, has failed.

        Raises:
            UserError: the scheduler is lost, or the workers have other versions.

        Warns:
            SummiteerWarning: workers were lost, or there are none.
        """
        flight = _Flight(self, function)
        waiting = iter(cells)
        suspects: list[Cell] = []
        try:
            flight.launch(waiting)
            while flight.cells:
                cell, completion = flight.landed()
                flight.launch(waiting)
                if completion is None:
                    suspects.append(cell)
                else:
                    yield completion
            for cell in suspects:
                flight.launch(iter([cell]))
                _, completion = flight.landed()
                yield completion or _deadly(cell)
        finally:
            flight.end()
        if flight.lost:
            workers = "1 worker was" if flight.lost == 1 else f"{flight.lost} were"
            warnings.warn(
                f"workers: {workers} lost while at work, and the cells that they had "
                "were run again; nothing finished was lost.",
                SummiteerWarning,
                stacklevel=2,
            )


def _deadly(cell: Cell) -> Completion:
    """What is recorded of a cell that no worker survives."""
    error = RuntimeError(
        "every worker that ran this cell was lost, in the end with this cell alone: "
        "it may need more memory than there is, or crash the process"
    )
    return Completion(cell, None, error)


class _Flight:
    """The cells that are on their way, from `launch` to `landed`."""

    def __init__(
        self, cluster: Cluster, function: Callable[[Cell], Measurement]
    ) -> None:
        self.cells: dict[str, Cell] = {}
        self.lost = 0
        self._cluster, self._client = cluster, cluster.client
        self._function, self._versions = function, dict(versions())
        self._futures: dict[str, Any] = {}
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self._prefix = f"summiteer-{uuid.uuid4().hex[:8]}"
        self._launched = 0
        self._room, self._looked, self._seen = 0, -_LOOK, time.monotonic()
        self._client.subscribe_topic("all", self._heard)

    def launch(self, waiting: Iterator[Cell]) -> None:
        """Hand out as many cells as there is room for."""
        self._look()
        for cell in islice(waiting, max(0, self._room - len(self.cells))):
            self._launched += 1
            key = f"{self._prefix}-{self._launched}"
            future = self._client.submit(
                worked,
                self._function,
                cell,
                self._versions,
                key=key,
                pure=False,
                resources=dict(self._cluster.resources) or None,
            )
            self.cells[key], self._futures[key] = cell, future
            future.add_done_callback(self._fetch)

    def landed(self) -> tuple[Cell, Completion | None]:
        """Wait for a cell; without a completion its workers were lost every time."""
        from distributed.scheduler import KilledWorker

        while True:
            try:
                key, completion, error = self._done.get(timeout=_LOOK)
                break
            except queue.Empty:
                self._look()
        cell = self.cells.pop(key)
        self._futures.pop(key).release()
        if error is None or isinstance(error, KilledWorker):
            return cell, completion
        if isinstance(error, ModuleNotFoundError):
            raise UserError(
                f"--scheduler: a worker lacks {error.name}; install summiteer, and "
                "what your model needs, on all workers."
            ) from error
        if isinstance(error, CancelledError):
            raise _gone() from error
        raise error

    def _fetch(self, future: Any) -> None:
        """Take an answer as soon as it is there: a worker that is lost may lose it."""
        completion, error = None, None
        try:
            completion = future.result()
        except (Exception, CancelledError) as caught:
            error = caught
        self._done.put((future.key, completion, error))

    def end(self) -> None:
        """Nobody waits for what is still on its way."""
        with suppress(Exception):
            self._client.unsubscribe_topic("all")
            if self._futures:
                self._client.cancel(list(self._futures.values()), force=True)

    def _look(self) -> None:
        """How many cells there is room for: workers may come and go."""
        now = time.monotonic()
        if now - self._looked < _LOOK:
            return
        self._looked = now
        if self._client.status not in {"running", "connecting"}:
            raise _gone()
        needed = self._cluster.resources
        try:
            threads = sum(self._client.nthreads().values())
            able = threads and (not needed or _offered(self._client, needed))
        except OSError as error:
            raise _gone() from error
        self._room = max(1, _AHEAD * threads)
        if able:
            self._seen = now
        elif now - self._seen > _PATIENCE:
            self._seen = now
            having = " ".join(f"{name}={count:g}" for name, count in needed.items())
            offer = f" started with --resources {having}" if having else ""
            warnings.warn(
                f"workers: there is no worker{offer}; waiting for one. Ctrl-C keeps "
                "what is finished.",
                SummiteerWarning,
                stacklevel=3,
            )

    def _heard(self, event: tuple[float, Any]) -> None:
        """Count the workers that were lost with cells of ours."""
        _, what = event
        if not isinstance(what, dict) or what.get("action") != "remove-worker":
            return
        ours = [k for k in what["processing-tasks"] if str(k).startswith(self._prefix)]
        self.lost += bool(ours) and not what["expected"]


def _offered(client: Any, needed: Mapping[str, float]) -> bool:
    """Whether a worker has what a cell needs."""
    workers = client.scheduler_info()["workers"].values()
    return any(
        all(worker["resources"].get(name, 0) >= count for name, count in needed.items())
        for worker in workers
    )


def _gone() -> UserError:
    return UserError(
        "--scheduler: the scheduler is gone; what is finished is kept, start it again "
        "and give the same command."
    )
