"""How far a study is, read from its store while it runs or after."""

import os
import re
from typing import Any

from summiteer.cells import as_json
from summiteer.store import Record, Store
from summiteer.studies.changes import differences
from summiteer.studies.result import StudyResult
from summiteer.studies.study import Study

_HOLDER = re.compile(r"process (\d+) on (.+)")


def study_status(store: Store, planned: Study | None = None) -> dict[str, Any]:
    """Return what is done, failed and missing, and who is at work.

    Args:
        store: of the run.
        planned: the study as its file says now; what differs from the run is told.

    Returns:
        `name`, `run`, `directory`, `experiment`; `cells` with `planned`, `done`,
        `failed`, `missing`; `at_work`, the process that holds the store or None;
        `seconds`, the computing of all recorded cells, and `seconds_left`, as much per
        cell for those that are missing, None before the first; `failures`, each with
        the parameters that are not the same in all cells, error and `traceback`;
        `changes` of the file.
    """
    result = StudyResult.of(store)
    done, failed = len(result.records), len(result.failures)
    missing = result.cells - done - failed
    seconds = sum(_seconds(record) for record in (*result.records, *result.failures))
    mean = seconds / (done + failed) if done + failed else None
    study: Any = store.spec["study"]
    changes = differences(store.spec, planned.specification()) if planned else []
    return {
        "name": result.name,
        "run": store.run,
        "directory": str(store.directory),
        "experiment": study["experiment"],
        "cells": {
            "planned": result.cells,
            "done": done,
            "failed": failed,
            "missing": missing,
        },
        "at_work": _holder(store),
        "seconds": round(seconds, 3),
        "seconds_left": None if mean is None else round(mean * missing, 3),
        "failures": [
            {
                "cell": record.name,
                "parameters": {
                    name: as_json(record.spec[name]) for name in result.varied
                },
                "error": record.values["error"],
                "traceback": record.values.get("trace", ""),
            }
            for record in result.failures
        ],
        "changes": changes,
    }


def _seconds(record: Record) -> float:
    found = record.environment.get("seconds")
    return float(found) if isinstance(found, int | float) else 0.0


def _holder(store: Store) -> str | None:
    """The process that has the store open for writing, if it is alive."""
    try:
        text = (store.directory / "run.lock").read_text()
    except OSError:
        return None
    found = _HOLDER.match(text)
    if not found or found[2].strip() != os.uname().nodename:
        return text.strip() or None  # of another machine: alive for all that is known
    try:
        os.kill(int(found[1]), 0)  # signal 0 asks, and does nothing
    except ProcessLookupError:
        return None
    except PermissionError:  # alive, and another user's
        pass
    return text.strip()
