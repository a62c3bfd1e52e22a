"""Studies run: what the store lacks is measured, the rest is read."""

from collections.abc import Callable, Sequence
from pathlib import Path

from summiteer import engine
from summiteer.cells import Cell
from summiteer.driver import Progress, Tally, counting, work_through
from summiteer.engine import Engine, Measurement, one_thread
from summiteer.errors import UserError
from summiteer.store import Store
from summiteer.studies.changes import (
    refuse_changed,
    take_over,
    warn_of_other_code,
)
from summiteer.studies.named import Measuring
from summiteer.studies.result import StudyResult
from summiteer.studies.study import Study


def run_study(
    study: Study,
    store: str | Path,
    workers: int = 1,
    *,
    scheduler: str | None = None,
    retry_failed: bool = False,
    fork: str | Path | None = None,
    progress: Progress | None = None,
) -> StudyResult:
    """Measure the cells that the store lacks.

    A cell that raises is a record with its error, and the others go on.

    Args:
        study: what to measure.
        store: a directory, made if it does not exist.
        workers: processes of this machine; 1 is this one.
        scheduler: address of a Dask scheduler whose workers are used instead.
        retry_failed: whether cells that failed in an earlier run are run again.
        fork: another directory, in which the study is run in place of `store`: what
            that has of its cells, measured by the same versions, is taken over, and
            stays there.
        progress: told before the first and after each cell, with how many are done,
            and all.

    Returns:
        All records of the study, of earlier runs too. They are also in the directory,
        as result.json.

    Raises:
        UserError: the directory holds something else, such as the study before it was
            changed, or is in use; or workers or scheduler cannot be used.
    """
    engine.refuse_unguarded()  # before the store is found to be in use by the driver
    spec, cells = study.specification(), study.cells()
    source, directory = Path(store), Path(store if fork is None else fork)
    if fork is not None and source.resolve() == directory.resolve():
        raise UserError(f"fork: expected another directory than {store}, got the same.")
    if fork is not None:
        Store.read(source).close()  # refused before anything is made
    refuse_changed(directory, spec, cells)
    with Store.open(directory, spec) as opened_store:
        if fork is not None:
            take_over(source, opened_store, cells)
        todo = missing(cells, opened_store, retry_failed)
        with engine.opened(*((workers, scheduler) if todo else ())) as running:
            measuring = Measuring(study.experiment)
            measure_missing(
                cells, opened_store, measuring, running, retry_failed, progress
            )
        result = StudyResult.of(opened_store)
        head = {"schema": 1, "run": opened_store.run, **opened_store.spec}
        opened_store.write_json("result.json", head | result.summary())
    return result


def missing(
    cells: Sequence[Cell], store: Store, retry_failed: bool = False
) -> list[tuple[int, Cell]]:
    """The cells without a record, with their positions.

    Args:
        cells: all cells of the store.
        store: open.
        retry_failed: whether a record of a failure is none.
    """
    recorded = store.names() | (set() if retry_failed else set(store.failed()))
    return [(n, cell) for n, cell in enumerate(cells) if cell.name not in recorded]


def measure_missing(
    cells: Sequence[Cell],
    store: Store,
    function: Callable[[Cell], Measurement],
    running: Engine | None = None,
    retry_failed: bool = False,
    progress: Progress | None = None,
) -> Tally:
    """Run the cells that have no record, in their order, each on one thread.

    Args:
        cells: all cells of the store, always in the same order: their positions number
            the files of their arrays.
        store: open for writing.
        function: cell -> what is recorded of it.
        running: runs the cells; this process if None.
        retry_failed: whether cells with a record of a failure are run again.
        progress: told before the first and after each cell.
    """
    todo = missing(cells, store, retry_failed)
    if todo:
        warn_of_other_code(store)
    report = counting(progress, len(cells) - len(todo), len(cells))
    with one_thread():
        return work_through(store, todo, function, running, report)
