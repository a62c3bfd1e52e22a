"""The page of `train`: every sentence and curve is what the records say."""

import json
from dataclasses import replace

import numpy as np
import pytest

from page_checks import HOSTILE, assert_shown_as_text, plots
from summiteer.report.document import Facts, Prose, Table
from summiteer.report.finished import Finished
from summiteer.report.page import page, shown
from summiteer.report.training_document import training_document
from summiteer.report.wording import at_most
from summiteer.training import Epoch
from summiteer.training.record import InnerProblem

OVERFITTED = (
    "catastrophic overfitting in epoch {}: under a stronger attack 0% are right, 80% "
    "were after epoch 1, while under the training attack 90% are (80% then). Train "
    "with more steps, or stop after epoch 1."
)
OVERSTATED = (
    "overstated robustness in epoch {}: 90% are right under the training attack, 50% "
    "under a stronger one. Train with more steps."
)
SPEC = {
    "command": "train",
    "torch": "2.13.0",
    "model": "nets.py:build",
    "data": "digits",
    "batch_size": 128,
    "optimizer": "SGD [{}]",
    "max_steps": 10,
    "adversary": "ProjectedAscent()",
    "start": "UniformStart(restarts=1, seed=0, first=0)",
}


def look(epoch, **changes):
    values = {
        "probes": 32,
        "stationary": 0.5 + 0.01 * epoch,
        "residual": 10.0**-epoch,
        "gap": 0.5 / epoch,
        "clean_accuracy": 0.9,
        "attacked_accuracy": 0.8,
        "strong_accuracy": 0.7,
        "clean_loss": 0.1,
        "attacked_loss": 0.4,
        "strong_loss": 0.5,
        "examined": 8,
        "maximum": 0.75,
        "proved": 0.75,
        "proved_maximum": 0.625,
        "undecided": 0.25,
        "curvature_ratio": -0.5 + 0.1 * epoch,
        "index_global": 2.0 / epoch,
        "distinct_maxima": 1.0 + 0.5 * epoch,
        "unseen": 0.1,
        "distortion": 0.95,
        "cost": 0.04,
    }
    return InnerProblem(epoch=epoch, **{**values, **changes})


def epoch(number, **changes):
    values = {
        "learning_rate": 0.1,
        "train_robust_loss": 2.0 / number,
        "train_robust_accuracy": 0.4 + 0.02 * number,
        "train_clean_loss": 1.0 / number,
        "train_clean_accuracy": 0.6 + 0.02 * number,
        "held_out_robust_loss": 2.5 / number,
        "held_out_robust_accuracy": 0.3 + 0.02 * number,
        "held_out_clean_loss": 1.5 / number,
        "held_out_clean_accuracy": 0.5 + 0.02 * number,
        "seconds": 1.0,
        "evaluation_seconds": 0.5,
        "inner": look(number),
    }
    return Epoch(epoch=number, **{**values, **changes})


def planted(tmp_path, records, spec=None, **changes):
    """A finished training with these records."""
    records = [record.as_json() for record in records]
    inner = [record["inner"] for record in records if record["inner"]]
    result = {
        "schema": 1,
        "command": "train",
        "version": "0.2.0",
        "run": "abc",
        "seed": 0,
        "examples": 100,
        "held_out_examples": 50,
        "region": {"norm": "linf", "radius": 0.1, "box": [0.0, 1.0]},
        "objective": "CrossEntropy",
        "watch": 0.05,
        "epochs": records,
        "alarms": [each["alarm"] for each in inner if each["alarm"]],
        "messages": [],
        "stopped": "",
        "seconds": 12.0,
        "attack_data": "digits",
        "files": [],
    }
    return Finished(tmp_path, {**SPEC, **(spec or {})}, {**result, **changes})


ACCURACIES = ("train_robust", "train_clean", "held_out_robust", "held_out_clean")
UNLABELLED = {f"{name}_accuracy": None for name in ACCURACIES}
NOT_HELD_OUT = {
    f"held_out_{kind}_{what}": None
    for kind in ("robust", "clean")
    for what in ("loss", "accuracy")
}


def test_the_headline_is_the_last_epoch(tmp_path):
    lead = training_document(planted(tmp_path, map(epoch, range(1, 6)))).lead
    assert lead == (
        "After epoch 5 at most 40.0 % of 50 held-out examples are robust (the others "
        "are wrong, or a stronger attack than that of the training breaks them); "
        "60.0 % are right without one.",
        "After epoch 5 the training attack ended at a stationary point on 55.0 % of 32 "
        "probes; of 8 examined after epoch 5, 75.0 % ended within reach of a local "
        "maximum, 62.5 % by proof.",
    )


def test_robust_overfitting_is_told(tmp_path):
    shares = [0.2, 0.6, 0.6, 0.5]
    records = [
        epoch(n, held_out_robust_accuracy=share) for n, share in enumerate(shares, 1)
    ]
    lead = training_document(planted(tmp_path, records)).lead
    assert lead[1] == "It was more after epoch 2: at most 60.0 %."


def test_bounds_are_rounded_to_the_safe_side(tmp_path):
    shares = [2 / 3, 1 / 3]
    records = [
        epoch(n, held_out_robust_accuracy=share, held_out_robust_loss=1.23479)
        for n, share in enumerate(shares, 1)
    ]
    document = training_document(planted(tmp_path, records))
    assert "at most 33.4 % of 50" in document.lead[0]
    assert document.lead[1].endswith("at most 66.7 %.")
    (table,) = document.blocks(Table)
    place = [column.name for column in table.columns].index("held-out robust")
    assert [shown(row[place], "%") for row in table.rows] == ["66.7", "33.4"]
    records = [replace(record, **UNLABELLED) for record in records]
    assert "at least 1.234 " in training_document(planted(tmp_path, records)).lead[0]


def test_epochs_that_were_not_evaluated_are_not_the_last(tmp_path):
    records = [epoch(1), epoch(2), epoch(3, **NOT_HELD_OUT)]
    assert (
        "After epoch 2 at most 34.0 %"
        in training_document(planted(tmp_path, records)).lead[0]
    )


def test_without_labels_there_are_losses(tmp_path):
    records = [
        epoch(n, **UNLABELLED, inner=look(n, clean_accuracy=None,
              attacked_accuracy=None, strong_accuracy=None))
        for n in (1, 2)
    ]  # fmt: skip
    document = training_document(planted(tmp_path, records))
    assert document.lead[0] == (
        "After epoch 2 the mean loss of 50 held-out examples is at least 1.25 under "
        "attack (the highest met), and 0.75 without."
    )
    titles = set(plots(document))
    assert "Robust and clean loss" in titles
    assert not titles & {"Robust and clean accuracy", "Accuracy on the probes"}


def test_without_held_out_examples_nothing_is_claimed_of_others(tmp_path):
    records = [epoch(n, **NOT_HELD_OUT) for n in (1, 2)]
    document = training_document(planted(tmp_path, records, held_out_examples=0))
    assert document.lead[0] == (
        "In epoch 2 the robust accuracy 44.0 % was reached at the points trained on: "
        "no held-out examples were attacked, so that nothing is known of others."
    )
    chart = plots(document)["Robust and clean accuracy"].chart
    assert [each.name for each in chart.series] == ["clean, train", "robust, train"]


def test_no_epoch_at_all(tmp_path):
    run = planted(tmp_path, [], stopped="the loss is not finite")
    document = training_document(run)
    assert document.lead == ("No epoch was finished: the loss is not finite.",)
    assert not plots(document)
    assert page(document)


def test_curves_are_the_records(tmp_path):
    records = [epoch(n) for n in range(1, 8)]
    document = training_document(planted(tmp_path, records))
    shown = plots(document)["Robust and clean accuracy"]
    curves = {each.name: each for each in shown.chart.series}
    for group in ("train", "held_out"):
        for kind in ("robust", "clean"):
            curve = curves[f"{kind}, {group.replace('_', ' ')}"]
            values = [getattr(r, f"{group}_{kind}_accuracy") for r in records]
            assert curve.y == pytest.approx(100 * np.array(values))
            assert curve.x == (1, 2, 3, 4, 5, 6, 7)
    # Told apart without colours too.
    assert len({(each.dash, each.colour) for each in curves.values()}) == 4
    assert "robust, held out: 32.0 % in epoch 1, then 44.0 % in epoch 7" in shown.words


def test_the_inner_problem_stands_beneath(tmp_path):
    records = [epoch(n) for n in range(1, 4)]
    records.append(epoch(4, inner=InnerProblem(epoch=4)))
    document = training_document(planted(tmp_path, records))
    titles = [section.title for section in document.sections]
    assert titles.index("Training") < titles.index("Inner problem")
    shown = plots(document)
    ends = {each.name: each for each in shown[
        "Where the training attack ends, on the probes"].chart.series}  # fmt: skip
    assert ends["stationary"].y == pytest.approx((51.0, 52.0, 53.0))
    assert ends["proved to be"].y == pytest.approx((62.5, 62.5, 62.5))
    # Not looked at after epoch 4: no point there.
    assert ends["stationary"].x == (1, 2, 3)
    assert shown["Residual, median"].chart.y.log
    ratio = shown["Curvature ratio κ, median"].chart
    assert [(m.at, m.along) for m in ratio.marks] == [(1.0, "y")]
    for title, values in {
        "Frank-Wolfe gap (FOSC), mean": (0.5, 0.25, 0.5 / 3),
        "Places where runs end, mean per probe": (1.5, 2.0, 2.5),
        "Chance that one more run ends elsewhere, mean": (10.0, 10.0, 10.0),
        "Frank-Wolfe distortion, mean": (0.95, 0.95, 0.95),
    }.items():
        assert shown[title].chart.series[0].y == pytest.approx(values)
    notes = [each.text for each in document.blocks(Prose)]
    assert (
        "Looked at after 3 of 4 epochs on 32 probes, certificates of at most 8; it "
        "took 4.0 % of the time of everything else."
    ) in notes


def test_what_was_looked_at_once_is_told_in_words(tmp_path):
    records = [epoch(1, inner=None), epoch(2)]
    document = training_document(planted(tmp_path, records))
    assert "Residual, median" not in plots(document)
    pairs = dict(pair for facts in document.blocks(Facts) for pair in facts.pairs)
    assert pairs["Residual, median"] == "0.01 after epoch 2"


def test_a_zero_is_told_where_an_axis_cannot_show_it(tmp_path):
    records = [epoch(n, inner=look(n, residual=0.0)) for n in (1, 2)]
    document = training_document(planted(tmp_path, records))
    assert "Residual, median" not in plots(document)
    pairs = dict(pair for facts in document.blocks(Facts) for pair in facts.pairs)
    assert pairs["Residual, median"] == "0 after epoch 1; 0 after epoch 2"


def test_shares_of_probes_are_not_told_as_shares_of_maxima(tmp_path):
    document = training_document(planted(tmp_path, [epoch(1), epoch(2)]))
    chart = plots(document)["Where the training attack ends, on the probes"].chart
    names = [each.name for each in chart.series]
    assert names[1:3] == ["within reach of a local maximum", "proved to be"]


def test_a_stationary_point_is_not_told_to_be_a_maximum(tmp_path):
    """At a saddle the residual is 0, too, and small steps climb on."""
    document = training_document(planted(tmp_path, [epoch(1), epoch(2)]))
    words = {k: v for each in document.blocks(Facts) for k, v in each.pairs}
    assert "climb" not in words["stationary"]
    assert words["residual"].endswith("maximum or not")
    assert words["indices"].startswith("measured")
    assert words["indices"].endswith("for this sign of u")


def test_nobody_watched(tmp_path):
    records = [epoch(n, inner=None) for n in (1, 2)]
    document = training_document(planted(tmp_path, records))
    assert document.lead[-1] == "The inner problem was not watched."
    assert "It was not watched." in [each.text for each in document.blocks(Prose)]


def test_no_certificates(tmp_path):
    nothing = dict.fromkeys(
        ("maximum", "proved", "proved_maximum", "undecided", "curvature_ratio"), None
    )
    records = [epoch(n, inner=look(n, examined=0, **nothing)) for n in (1, 2)]
    document = training_document(planted(tmp_path, records))
    assert document.lead[-1].endswith("no certificates were made.")


def test_alarms_are_first_and_marked_where_they_were(tmp_path):
    alarms = {3: OVERFITTED, 4: OVERSTATED, 6: OVERFITTED}
    records = [
        epoch(n, inner=look(n, alarm=alarms[n].format(n) if n in alarms else ""))
        for n in range(1, 8)
    ]
    document = training_document(planted(tmp_path, records))
    assert document.lead[0] == f"ALARM at 3 looks: {OVERFITTED.format(3)}"
    assert document.facts["alarms"] == "3"
    for title in ("Robust and clean accuracy", "Residual, median"):
        marks = plots(document)[title].chart.marks
        assert [(mark.at, mark.words) for mark in marks if mark.along == "x"] == [
            (3.0, "alarms"),
            (4.0, ""),
            (6.0, ""),
        ]
    warnings = [b.text for b in document.blocks(Prose) if b.tone == "warning"]
    assert warnings == [alarms[n].format(n) for n in (3, 4, 6)]


def test_a_training_that_stopped_says_so(tmp_path):
    for stopped in ("the loss is not finite", "the loss is not finite."):
        run = planted(tmp_path, [epoch(1)], stopped=stopped)
        told = "The training stopped before its time: the loss is not finite."
        assert told in training_document(run).lead
        run = planted(tmp_path, [], stopped=stopped)
        (told,) = training_document(run).lead
        assert told == "No epoch was finished: the loss is not finite."


def test_a_learning_rate_is_drawn_where_it_changes(tmp_path):
    records = [epoch(n, learning_rate=0.1 / n) for n in (1, 2)]
    assert "Learning rate" in plots(training_document(planted(tmp_path, records)))
    records = [epoch(n) for n in (1, 2)]
    assert "Learning rate" not in plots(training_document(planted(tmp_path, records)))


def test_of_many_epochs_some_are_shown_with_both_ends(tmp_path):
    records = [epoch(n, train_robust_accuracy=0.5) for n in range(1, 1001)]
    document = training_document(planted(tmp_path, records))
    curve = plots(document)["Robust and clean loss"].chart.series[0]
    assert len(curve.x) == 300
    assert (curve.x[0], curve.x[-1]) == (1.0, 1000.0)
    (table,) = document.blocks(Table)
    assert len(table.rows) == 300
    assert "Of 1000 epochs 300 are shown" in table.note


def test_the_table_has_every_epoch(tmp_path):
    records = [epoch(1, inner=None), epoch(2)]
    (table,) = training_document(planted(tmp_path, records)).blocks(Table)
    names = [column.name for column in table.columns]
    row = dict(zip(names, table.rows[1], strict=True))
    assert row["held-out robust"] == pytest.approx(0.34)
    assert row["proved"] == pytest.approx(0.625)
    assert row["seconds"] == pytest.approx(1.5)
    assert dict(zip(names, table.rows[0], strict=True))["proved"] is None


def test_hostile_names_are_text_and_the_bytes_are_the_same(tmp_path):
    alarm = f"{HOSTILE} in epoch 1: {HOSTILE}"
    run = planted(
        tmp_path,
        [epoch(1, inner=look(1, alarm=alarm)), epoch(2)],
        spec={"model": HOSTILE, "data": HOSTILE, "adversary": HOSTILE},
        messages=[HOSTILE],
        stopped=HOSTILE,
    )
    assert_shown_as_text(lambda: training_document(run))


def test_the_page_of_a_training_says_what_its_records_say(tmp_path, run_cli):
    model = tmp_path / "nets.py"
    model.write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Sequential("
        "nn.Linear(64, 8), nn.Tanh(), nn.Linear(8, 10))\n"
    )
    options = "--limit 60 --norm l2 --radius 0.2 --epochs 2 --attack-steps 2"
    out = tmp_path / "run"
    code, _, errors = run_cli(
        *("train", f"{model}:build", "digits", *options.split()),
        *("--hold-out-share", "0.5", "--watch", "0", "--out", out),
    )
    assert code == 0, errors
    result = json.loads((out / "result.json").read_text())
    last = result["epochs"][-1]
    document = training_document(Finished.read(out))
    assert (
        f"at most {at_most(last['held_out_robust_accuracy'])} of 30 held-out"
        in document.lead[0]
    )
    assert document.lead[-1] == "The inner problem was not watched."
