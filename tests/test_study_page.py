"""The page of `study run`: every number and curve is what the table says."""

import json
import statistics

import pytest

import summiteer as sm
from page_checks import HOSTILE, assert_shown_as_text, plots
from summiteer.report.document import Facts, Prose, Table
from summiteer.report.finished import Finished
from summiteer.report.page import page
from summiteer.report.study_document import Grid, study_document


def planted(axes, rows, failures=(), fixed=None, experiment="own.py:mine", **changes):
    """A finished study; rows as `StudyResult.table` makes them."""
    fixed = {"width": 64} if fixed is None else fixed
    rows = [{"cell": f"{n:016x}", **row, **fixed} for n, row in enumerate(rows)]
    planned = 1
    for axis in axes:
        planned *= len(next(iter(axis.values())))
    result = {
        "schema": 1,
        "run": "abc",
        "command": "study",
        "name": "scales",
        "version": "0.2.0",
        "torch": "2.13.0",
        "study": {
            "experiment": experiment,
            "cells": planned,
            "fixed": fixed,
            "axes": list(axes),
        },
        "cells": {"planned": planned, "done": len(rows), "failed": len(failures)},
        "failures": [
            {"cell": f"f{n}", "parameters": parameters, "error": error}
            for n, (parameters, error) in enumerate(failures)
        ],
        "table": rows,
    }
    return Finished(None, {"command": "study"}, {**result, **changes})


SCALES = {"scale": [0.1, 1.0, 10.0]}
KINDS = {"activation": ["softplus", "tanh"]}
SEEDS = {"seed": [0, 1]}


def steps(activation, scale, seed):
    return 10 * scale * (1 + seed) + (activation == "tanh")


def rows_of(**more):
    return [
        {
            "activation": activation,
            "scale": scale,
            "seed": seed,
            "steps": steps(activation, scale, seed),
            **more,
        }
        for activation in KINDS["activation"]
        for scale in SCALES["scale"]
        for seed in SEEDS["seed"]
    ]


def test_the_headline_counts_cells():
    document = study_document(planted([KINDS, SCALES, SEEDS], rows_of()))
    assert document.lead == (
        "12 of 12 cells were measured.",
        "What varies from cell to cell: activation (2 values), scale (3 values), seed "
        "(2 values).",
    )
    assert document.facts["cells"] == "12 of 12"
    failures = [({"scale": 0.1}, "UserError: no")] * 2
    document = study_document(planted([KINDS, SCALES, SEEDS], rows_of()[:9], failures))
    assert document.lead[0] == "9 of 12 cells were measured, 2 failed, 1 is missing."


def test_curves_are_means_with_all_cells_in_the_band():
    document = study_document(planted([KINDS, SCALES, SEEDS], rows_of()))
    shown = plots(document)["steps"]
    assert shown.chart.x.title == "scale"
    assert shown.chart.x.log
    assert [each.name for each in shown.chart.series] == [
        "activation softplus",
        "activation tanh",
    ]
    for curve, activation in zip(shown.chart.series, KINDS["activation"], strict=True):
        assert curve.x == (0.1, 1.0, 10.0)
        for n, scale in enumerate(SCALES["scale"]):
            cells = [steps(activation, scale, seed) for seed in (0, 1)]
            assert curve.y[n] == pytest.approx(statistics.fmean(cells))
            assert (curve.low[n], curve.high[n]) == (min(cells), max(cells))
    assert "activation softplus: from 1.5 at scale 0.1 to 150 at 10" in shown.words


def test_one_cell_a_point_has_no_band():
    rows = [{"scale": scale, "steps": 2 * scale} for scale in SCALES["scale"]]
    (curve,) = plots(study_document(planted([SCALES], rows)))["steps"].chart.series
    assert curve.low == ()
    assert curve.y == (0.2, 2.0, 20.0)


def test_what_is_the_same_in_all_cells_is_told_once():
    document = study_document(planted([KINDS, SCALES, SEEDS], rows_of(runs=6)))
    assert set(plots(document)) == {"steps"}
    note = next(each.text for each in document.blocks(Prose) if "Each" in each.text)
    assert "The same in all cells: runs (6)." in note
    (facts,) = document.blocks(Facts)
    assert facts.pairs == (("width", "64"),)


def test_without_a_number_that_varies_there_are_no_curves():
    rows = [{"activation": a, "steps": n} for n, a in enumerate(KINDS["activation"])]
    assert not plots(study_document(planted([KINDS], rows)))
    rows = [{"seed": n, "steps": n} for n in (0, 1)]
    assert not plots(study_document(planted([SEEDS], rows)))


def test_curves_go_over_the_number_of_most_values():
    axes = [{"width": [8, 16]}, {"scale": [0.1, 1.0, 10.0]}, {"judged": [True, False]}]
    rows = [
        {"width": width, "scale": scale, "judged": judged, "steps": width * scale}
        for width in (8, 16)
        for scale in SCALES["scale"]
        for judged in (True, False)
    ]
    run = planted(axes, rows, fixed={})
    assert Grid.of(run.result).across() == ("scale", ("width", "judged"))
    names = [each.name for each in plots(study_document(run))["steps"].chart.series]
    assert names == [
        "width 8, judged true",
        "width 8, judged false",
        "width 16, judged true",
        "width 16, judged false",
    ]


def test_parameters_that_vary_together_are_one_axis():
    axes = [{"scale": [0.1, 1.0], "ratio": [0.3, 0.5]}]
    rows = [
        {"scale": 0.1, "ratio": 0.3, "steps": 1},
        {"scale": 1.0, "ratio": 0.5, "steps": 3},
    ]
    run = planted(axes, rows)
    assert Grid.of(run.result).across() == ("scale", ())
    (curve,) = plots(study_document(run))["steps"].chart.series
    assert (curve.name, curve.y) == ("", (1.0, 3.0))


def test_many_curves_are_put_together_and_it_is_said():
    names = [f"k{n}" for n in range(9)]
    axes = [{"kind": names}, {"scale": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}]
    rows = [
        {"kind": kind, "scale": scale, "steps": scale + n}
        for n, kind in enumerate(names)
        for scale in range(1, 11)
    ]
    shown = plots(study_document(planted(axes, rows)))["steps"]
    (curve,) = shown.chart.series
    assert curve.y[0] == pytest.approx(5.0)
    assert (curve.low[0], curve.high[0]) == (1.0, 9.0)
    assert "All of kind together." in shown.words


def test_what_was_not_measured_is_left_out_of_curves():
    rows = rows_of()
    for row in rows:
        row["kappa"] = None if row["scale"] > 1 else row["scale"]
        row["name"] = row["activation"]
        row["list"] = [1, 2]
    document = study_document(planted([KINDS, SCALES, SEEDS], rows))
    shown = plots(document)
    assert set(shown) == {"steps", "kappa"}
    assert shown["kappa"].chart.series[0].x == (0.1, 1.0)
    table = document.blocks(Table)[-1]
    place = [column.name for column in table.columns].index("list")
    assert {row[place] for row in table.rows} == {"[1, 2]"}


def test_means_of_those_that_arrived_say_how_many_did_not():
    rows = rows_of()
    for row in rows:
        if row["scale"] == 10.0 and row["seed"] == 1:
            row["steps"] = None
    document = study_document(planted([KINDS, SCALES, SEEDS], rows))
    words = plots(document)["steps"].words
    for activation in KINDS["activation"]:
        assert f"1 of 6 cells of activation {activation}" in words
    for row in rows:
        row["steps"] = None if row["activation"] == "tanh" else row["steps"]
    words = plots(study_document(planted([KINDS, SCALES, SEEDS], rows)))["steps"].words
    assert words.endswith(
        "without this number: 1 of 6 cells of activation softplus, 6 of 6 cells of "
        "activation tanh."
    )
    document = study_document(planted([KINDS, SCALES, SEEDS], rows_of()))
    assert "left out" not in plots(document)["steps"].words


def test_cells_that_failed_were_not_measured():
    failures = [({"scale": 0.1}, "UserError: no")] * 2
    run = planted([KINDS, SCALES, SEEDS], rows_of()[:9], failures)
    made = study_document(run).sections[-1]
    assert "in 9 cells of study" in made.blocks[0].text


def test_an_axis_is_logarithmic_only_where_it_can_be():
    rows = rows_of()
    for row in rows:
        row["gain"] = row["steps"] - 1.0
    shown = plots(study_document(planted([KINDS, SCALES, SEEDS], rows)))
    assert shown["steps"].chart.y.log
    assert not shown["gain"].chart.y.log


def test_failures_stand_first():
    axes = [KINDS, SCALES, SEEDS]
    failures = [
        ({"activation": "tanh", "scale": scale, "seed": 1, "width": 64}, error)
        for scale, error in ((0.1, "UserError: no"), (1.0, "UserError: no"),
                             (10.0, "ValueError: never"))
    ]  # fmt: skip
    document = study_document(planted(axes, rows_of()[:9], failures))
    assert document.sections[0].title == "Failures"
    prose, table, _ = document.sections[0].blocks
    assert prose.text == (
        "3 cells failed with 2 different errors, 2 of them with: UserError: no"
    )
    # Only what differs from failure to failure.
    assert [column.name for column in table.columns] == ["scale", "cell", "error"]
    assert [row[0] for row in table.rows] == [0.1, 1.0, 10.0]
    assert table.rows[2][2] == "ValueError: never"


def test_every_cell_failed():
    failures = [({"scale": scale}, "UserError: no") for scale in SCALES["scale"]]
    document = study_document(planted([SCALES], [], failures))
    assert document.lead[0] == "0 of 3 cells were measured, 3 failed."
    assert "No cell was measured." in [each.text for each in document.blocks(Prose)]
    assert not plots(document)
    assert page(document)


def test_of_many_cells_some_are_listed():
    scales = [1.0 + n for n in range(1200)]
    rows = [{"scale": scale, "steps": scale} for scale in scales]
    document = study_document(planted([{"scale": scales}], rows))
    table = document.blocks(Table)[-1]
    assert len(table.rows) == 500
    assert (table.rows[0][0], table.rows[-1][0]) == (1.0, 1200.0)
    assert "Of 1200 cells 500 are listed" in table.note


def test_numbers_of_known_experiments_are_explained():
    rows = [{"scale": s, "stationary": n} for n, s in enumerate(SCALES["scale"])]
    document = study_document(planted([SCALES], rows, experiment="climb"))
    words = plots(document)["stationary"].words
    assert words.startswith("Of them, those that ended at a residual below the tolera")
    assert "ascent on two-layer networks" in document.lead[1]


def test_hostile_names_are_text_and_the_bytes_are_the_same():
    axes = [{HOSTILE: [0.1, 1.0]}, {"kind": [HOSTILE, "b"]}]
    rows = [
        {HOSTILE: scale, "kind": kind, f"n{HOSTILE}": scale, "text": HOSTILE}
        for scale in (0.1, 1.0)
        for kind in (HOSTILE, "b")
    ]
    run = planted(
        axes, rows, [({"kind": HOSTILE}, HOSTILE)], {HOSTILE + "f": HOSTILE},
        HOSTILE, name=HOSTILE,
    )  # fmt: skip
    assert_shown_as_text(lambda: study_document(run))


def test_the_page_of_a_study_says_what_its_table_says(tmp_path):
    few = {"width": 4, "examples": 2, "max_steps": 20, "dimension": 3}
    study = sm.Study(
        name="small",
        experiment="climb",
        fixed={"data": "gaussian", **few},
        grid={"scale": [0.1, 10.0]},
    )
    sm.run_study(study, tmp_path / "run")
    document = study_document(Finished.read(tmp_path / "run"))
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["table"]
    assert document.lead[0] == "2 of 2 cells were measured."
    table = document.blocks(Table)[-1]
    names = [column.name for column in table.columns]
    assert names[0] == "scale"
    for row, said in zip(rows, table.rows, strict=True):
        assert list(said) == [row[name] for name in names]
    for name, shown in plots(document).items():
        assert shown.chart.series[0].y == tuple(float(row[name]) for row in rows)
