"""Landscapes at several scales beside each other: drawn as they were recorded."""

import json

import pytest
import torch

from summiteer.report.document import Plot, Prose
from summiteer.report.finished import Finished
from summiteer.report.portraits import portraits
from summiteer.store import Store
from summiteer.studies.experiments import measured
from summiteer.studies.study import Study

SCALES = [0.1, 10.0]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    directory = tmp_path_factory.mktemp("portraits") / "run"
    study = Study(
        name="portraits",
        experiment="portrait",
        fixed={"examples": 1, "width": 16, "resolution": 9, "restarts": 4},
        grid={"scale": SCALES},
        seeds=[0],
    )
    with Store.open(directory, {"study": "portraits"}) as store:
        for index, cell in enumerate(study.cells()):
            found = measured(cell)
            store.put(cell, index, found.record, found.arrays, found.metadata)
    return Finished(directory, {}, {})


def test_a_circle_for_all_scales_and_a_map_for_each(run):
    told, circles, *maps = portraits(run)
    assert isinstance(told, Prose)
    assert isinstance(circles, Plot)
    assert [each.name for each in circles.chart.series] == ["c = 0.1", "c = 10"]
    assert [each.chart.title for each in maps] == ["c = 0.1", "c = 10"]
    for series in circles.chart.series:
        assert min(series.y) == 0.0
        assert max(series.y) == 1.0


def test_the_words_count_what_was_found(run):
    parts = portraits(run)[0].text.split("; proved to be there are at least ")
    with Store.read(run.directory) as store:
        for record in store.finished().values():
            scale = record.spec["scale"]
            for part, name in zip(parts, ("distinct", "at_least"), strict=True):
                assert f"{record.values[name]} at c = {scale:g}" in part


def test_what_is_drawn_is_what_was_recorded(run):
    circles = portraits(run)[1].chart
    with Store.read(run.directory) as store:
        for record in store.finished().values():
            values = store.arrays(record.name)["circle.values"]
            assert json.loads(store.metadata(record.name)["slices"])["circle"]
            scaled = (values - values.min()) / (values.max() - values.min())
            (series,) = [
                s for s in circles.series if s.name == f"c = {record.spec['scale']:g}"
            ]
            torch.testing.assert_close(torch.tensor(series.y).double(), scaled)


def test_no_store_no_portraits(tmp_path):
    assert portraits(Finished(tmp_path, {}, {})) == ()
