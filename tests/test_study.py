"""Studies: which cells they stand for, and what is made of their records."""

import csv
import io
import itertools
import json
import pickle
import shutil
import sys
from pathlib import Path

import pandas
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import summiteer as sm
from summiteer.store import Store
from summiteer.studies.result import StudyResult, csv_text

TOY = f"{Path(__file__).parent / 'toy.py'}:TOY"
GRID = {"number": [1.0, 2.5, 10], "kind": ["a", "b"]}


def toy(**values):
    return sm.Study(**({"name": "toy", "experiment": TOY} | values))


def specs(study):
    return [dict(cell.spec) for cell in study.cells()]


def test_every_combination_once_in_the_order_of_the_parameters():
    study = toy(grid=GRID, zips=[{"count": [1, 2]}], seeds=[5, 3])
    product = itertools.product(GRID["kind"], GRID["number"], [1, 2], [5, 3])
    expected = [
        {"kind": k, "number": float(n), "count": c, "broken": False, "seed": s}
        for k, n, c, s in product
    ]
    assert specs(study) == expected


def test_zips_are_taken_together():
    study = toy(zips=[{"count": [1, 2, 3], "number": [4.0, 5.0, 6.0]}])
    assert [(s["count"], s["number"]) for s in specs(study)] == [(1, 4), (2, 5), (3, 6)]


@settings(max_examples=25, deadline=None)
@given(order=st.permutations(["number", "kind", "broken"]), first=st.booleans())
def test_the_order_of_keys_is_nothing(order, first):
    grid = {"number": [1.0, 2.0], "kind": ["a", "b"], "broken": [False, True]}
    zips = [{"count": [3, 4]}]
    one = toy(grid=grid, zips=zips)
    parts = {"grid": {name: grid[name] for name in order}, "zips": zips}
    other = toy(**(parts if first else dict(reversed(parts.items()))))
    assert [c.name for c in one.cells()] == [c.name for c in other.cells()]
    assert one.specification() == other.specification()


def test_defaults_are_part_of_a_cell():
    plain, said = toy(), toy(fixed={"count": 2, "kind": "plain"})
    assert plain.cells() == said.cells()
    assert plain.specification() == said.specification()
    assert plain.cells() != toy(fixed={"count": 3}).cells()
    assert dict(plain.cells()[0].spec)["count"] == 2


def test_numbers_are_what_the_experiment_reads():
    assert (
        toy(grid={"number": [1, 2]}).cells() == toy(grid={"number": [1.0, 2]}).cells()
    )


def test_a_grid_of_one_is_a_fixed_value():
    grid, fixed = toy(grid={"count": [3]}), toy(fixed={"count": 3})
    assert grid.cells() == fixed.cells()


def test_seeds_counted_from_a_first():
    counted = toy(seeds={"first": 3, "count": 4})
    assert counted.cells() == toy(seeds=[3, 4, 5, 6]).cells()
    assert toy(seeds={"count": 1}).cells() == toy().cells()


def test_other_code_makes_other_cells(tmp_path):
    names = []
    for line in ("", "# another\n"):
        file = tmp_path / "own.py"
        file.write_text(line + Path(TOY.partition(":")[0]).read_text())
        study = sm.Study(name="own", experiment=f"{file}:TOY")
        names.append(study.cells()[0].name)
        assert str(tmp_path) not in json.dumps(study.specification())
    assert names[0] != names[1]
    shutil.copy(TOY.partition(":")[0], tmp_path / "elsewhere.py")
    moved = sm.Study(name="own", experiment=f"{tmp_path}/elsewhere.py:TOY")
    assert moved.cells()[0].name == names[0] == toy().cells()[0].name


def test_a_study_can_be_pickled():
    study = toy(grid=GRID)
    assert pickle.loads(pickle.dumps(study)).cells() == study.cells()


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    study = toy(grid=GRID, seeds=[0, 1])
    return sm.run_study(study, tmp_path_factory.mktemp("run") / "out")


def test_records_in_the_order_of_the_study(result):
    study = toy(grid=GRID, seeds=[0, 1])
    assert [r.name for r in result.records] == [c.name for c in study.cells()]
    assert result.failures == []
    assert "12 of 12 cells done, 0 failed, 0 missing" in repr(result)
    record = result.records[-1]
    assert record.values["sum"] == 12.0
    powers = torch.tensor([1.0, 10.0]).double()
    assert torch.equal(result.arrays(record)["powers"], powers)


def test_the_table_is_flat(result):
    row = result.table()[-1]
    assert [*row][:4] == ["cell", "kind", "number", "seed"]
    assert row["number"] == 10.0
    # A measured value with the name of a parameter.
    assert row["record.number"] == "ten"
    assert row["of.first"] == 1.0
    assert row["of.all"] == [1.0, 10.0]
    assert len(result.table()) == 12


def test_what_is_written_as_csv_is_read_back(result):
    text = csv_text(result.table())
    rows = [*csv.DictReader(io.StringIO(text))]
    for row, own in zip(rows, result.table(), strict=True):
        assert float(row["sum"]) == own["sum"]
        assert float(row["number"]) == own["number"]
        assert json.loads(row["of.all"]) == own["of.all"]
        assert row["record.number"] == (own["record.number"] or "")
    frame = pandas.read_csv(io.StringIO(text))
    own = result.to_pandas()
    assert [*frame.columns] == [*own.columns]
    assert frame["cell"].tolist() == own["cell"].tolist()
    for column in ("number", "seed", "sum", "of.first"):
        # pandas' own reader may round the last bit otherwise.
        assert frame[column].tolist() == pytest.approx(own[column].tolist(), rel=1e-15)


def test_without_pandas_it_is_told_how_to_get_it(result, monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(sm.UserError, match=r"pip install 'summiteer\[pandas\]'"):
        result.to_pandas()


def test_a_second_run_measures_nothing(result, monkeypatch):
    def refuse(*_):
        raise AssertionError("measured again")

    monkeypatch.setattr("summiteer.studies.running.Measuring", lambda _: refuse)
    again = sm.run_study(toy(grid=GRID, seeds=[0, 1]), result.directory)
    assert again.table() == result.table()


def test_two_processes_find_the_same(result, tmp_path):
    study = toy(grid=GRID, seeds=[0, 1])
    other = sm.run_study(study, tmp_path / "out", workers=2)
    assert other.table() == result.table()
    ours, theirs = (
        (each.directory / "result.json").read_bytes() for each in (result, other)
    )
    assert ours == theirs


def test_what_is_no_study_is_not_read_as_one(tmp_path):
    refused = pytest.raises(sm.UserError, match="the run of `summiteer attack`")
    with Store.open(tmp_path / "out", {"command": "attack"}) as store, refused:
        StudyResult.of(store)


def test_code_that_changes_while_a_study_runs_is_noticed(tmp_path):
    file = tmp_path / "own.py"
    shutil.copy(TOY.partition(":")[0], file)
    study = sm.Study(name="own", experiment=f"{file}:TOY")
    cells = study.cells()
    from summiteer.studies.named import Measuring

    measuring = Measuring(study.experiment)
    assert measuring(cells[0]).record["sum"] == 2.0
    file.write_text("# changed\n" + file.read_text())
    with pytest.raises(sm.UserError, match="has changed since the study began"):
        measuring(cells[0])
