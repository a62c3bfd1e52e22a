"""A driver to be disturbed: `python -m chaos.driver OUT LOG CELLS WORKERS`."""

import sys
from pathlib import Path

from chaos.cells import Work, cells
from summiteer.driver import Tally, work_through
from summiteer.engine import opened
from summiteer.errors import UserError
from summiteer.interruption import watched
from summiteer.store import Store

SPEC = {"command": "chaos"}


def drive(out: Path, log: Path, count: int, workers: int) -> Tally:
    """Do what the store lacks.

    Args:
        out: directory of the store.
        log: of `Work`.
        count: cells of the study.
        workers: processes.
    """
    with opened(workers) as engine, Store.open(out, SPEC) as store:
        finished = store.names()
        todo = [(n, c) for n, c in enumerate(cells(count)) if c.name not in finished]
        return work_through(store, todo, Work(log), engine)


def main() -> None:
    """Drive; a user's mistake is one sentence and exit code 1."""
    out, log, count, workers = sys.argv[1:]
    try:
        with watched():
            drive(Path(out), Path(log), int(count), int(workers))
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
