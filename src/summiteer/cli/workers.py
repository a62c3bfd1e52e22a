"""--workers and --scheduler: the engine that runs the cells of a command."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from summiteer.cli.options import check_least
from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.engine import Engine

Workers = Annotated[
    int,
    typer.Option(help="processes of this machine that share the work, a thread each"),
]
Scheduler = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="tcp://HOST:PORT of a Dask scheduler whose workers do the work",
    ),
]


def check_workers(workers: int, scheduler: str | None) -> None:
    """Refuse what means nothing.

    Args:
        workers: --workers.
        scheduler: --scheduler.
    """
    check_least("--workers", workers, 1)
    if scheduler is not None and workers > 1:
        raise UserError(
            "--workers, --scheduler: a scheduler has its own workers; give one of the "
            "two."
        )


@contextmanager
def engine_for(
    workers: int, scheduler: str | None, device: str = "cpu"
) -> Iterator["Engine"]:
    """Give the engine that a user asked for, and end its workers afterwards.

    To be opened before the store, so that nothing is begun where it cannot be.

    Args:
        workers: --workers.
        scheduler: --scheduler.
        device: --device: on a cluster each cell then needs a worker's GPU.
    """
    from summiteer.engine import opened

    check_workers(workers, scheduler)
    gpu = scheduler is not None and device != "cpu"
    with opened(workers, scheduler, {"GPU": 1} if gpu else None) as engine:
        yield engine
