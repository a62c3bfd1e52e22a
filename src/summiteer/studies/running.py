"""Studies run: what the store lacks is measured, the rest is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from summiteer.driver import Tally, work_through
from summiteer.engine import Engine
from summiteer.store import Record, Store
from summiteer.studies.experiments import measured
from summiteer.studies.study import Study


@dataclass(frozen=True)
class StudyResult:
    """What a study found.

    Attributes:
        study: which.
        records: one per finished cell, in the study's order.
        tally: what this pass did.
    """

    study: Study
    records: Sequence[Record]
    tally: Tally


def run_study(study: Study, store: str | Path, workers: int = 1) -> StudyResult:
    """Measure the cells that the store lacks.

    Args:
        study: what to measure.
        store: a directory.
        workers: processes.
    """
    spec = {"command": "study", "study": study.model_dump(mode="json")}
    with Store.open(store, spec) as opened:
        return complete(study, opened)


def complete(study: Study, store: Store, engine: Engine | None = None) -> StudyResult:
    """Measure what an open store lacks."""
    cells = study.cells()
    finished: Any = store.names()
    todo = [(n, cell) for n, cell in enumerate(cells) if cell.name not in finished]
    tally = work_through(store, todo, measured, engine)
    found = store.finished()
    records = [found[cell.name] for cell in cells if cell.name in found]
    return StudyResult(study, records, tally)
