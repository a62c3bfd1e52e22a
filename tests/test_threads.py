"""Cells of studies on one thread, and the caller's threads as they were."""

import torch
from threadpoolctl import threadpool_info

from summiteer.engine import Measurement, one_thread
from summiteer.studies.running import measure_missing


def threads():
    return {
        torch.get_num_threads(),
        *(pool["num_threads"] for pool in threadpool_info()),
    }


def test_one_thread_and_then_as_before():
    torch.set_num_threads(2)
    try:
        with one_thread():
            assert threads() == {1}
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)


def test_cells_of_a_study_see_one_thread(tmp_path):
    from summiteer.cells import Cell
    from summiteer.store import Store

    torch.set_num_threads(2)
    try:
        with Store.open(tmp_path, {"command": "threads"}) as store:
            measure_missing([Cell("any", {})], store, seen)
            (record,) = store.finished().values()
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(1)
    assert record.values == {"threads": 1}
    assert record.environment["threads"] == 1


def seen(cell):
    return Measurement({"threads": max(threads())})
