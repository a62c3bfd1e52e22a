"""The page of `reproduce`: every number on it is one of result.json, told truly."""

import json
from collections import Counter
from dataclasses import asdict

import pytest
import torch

import test_c5_rule
from summiteer.bibliography import FORMATS, METHODS, REFERENCES, RELATED
from summiteer.report.charts import Bars
from summiteer.report.claim_curves import (
    scale_curves,
    share_curves,
    step_curves,
    training_curves,
)
from summiteer.report.claims_document import claims_document, headlines
from summiteer.report.claims_text import GLOSSES
from summiteer.report.document import Code, Facts, Fold, Plot, Prose, Table
from summiteer.report.evidence import evidence, verdicts
from summiteer.report.finished import Finished
from summiteer.report.page import page
from summiteer.report.paper_sections import methods_graph, related_graph
from summiteer.studies.claims import CLAIMS, c5_cells
from summiteer.studies.claims.ends import ends_judgement
from summiteer.studies.claims.rules import percentage
from test_claims import landscapes, moved, rates, shares, speeds
from test_other_losses_and_depth import row as end_row


def c1_rows():
    rows = shares(4, 72) + shares(4, 72, scale=0.1) + shares(0, 72, scale=10.0)
    mnist = shares(250, 2, 250, data="mnist")
    relu = shares(0, 72, activation="relu", method="normalised")
    relu += shares(4, 72, activation="relu", method="dc")
    return {"paper-step": rows, "relu": relu, "mnist": mnist}


def c3_rows():
    rows = landscapes(1.0, lambda c: 1 + (c > 1))
    rows += landscapes(1.0, lambda c: 1, "tanh", 0.01)
    return {
        "maxima": rows,
        "c3-control": landscapes(0.0, lambda c: 1, "quadratic"),
        "c3-relu": [moved([[0.0, 1e-9]], 0.0), moved([[0.5, 1e-9]], 1.0)],
    }


def c4_rows():
    tanh = speeds(0.3, "tanh", "backtracking")
    return {
        "paper-step": speeds(0.8),
        "maxima": speeds(0.1, method="backtracking") + tanh,
    }


def c5_rows():
    plans = [p for p in c5_cells.planned("full") if p.protocol.key in {"P2", "P3"}]
    return {
        plan.study.name: test_c5_rule._rows(
            plan, 0.0 if plan.setting.number in (4, 5) else 0.6
        )
        for plan in plans
    }


def ends(protocol, regimes):
    return [
        ends_judgement(
            [end_row(s, proved=hits, maximum=hits) for s in range(72)],
            protocol,
            regime,
            0.95,
        )
        for regime, hits in regimes.items()
    ]


def plain(judgement):
    """As result.json has it."""
    held = asdict(judgement) | {"standing": judgement.standing.value}
    return json.loads(json.dumps(held))


@pytest.fixture(scope="module")
def result():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SUMMITEER_DATA", "nowhere")
        by_key = {claim.key: claim for claim in CLAIMS}
        found = {
            "C1": by_key["C1"].judge(c1_rows(), "full"),
            "C2": by_key["C2"].judge(rates({"scale": 1.2}), "full"),
            "C3": by_key["C3"].judge(c3_rows(), "full"),
            "C4": by_key["C4"].judge(c4_rows(), "full"),
            "C5": by_key["C5"].judge(c5_rows(), "full"),
        }
    losses = {"logistic loss, softplus, c = 1, digits": 2, "other, tanh, digits": 0}
    found["C6"] = ends("PGA, the paper's constant step", losses)
    found["C7"] = ends("PGA with backtracking", {"relu, 32-32, digits": 1})
    return {
        "schema": 1,
        "command": "reproduce",
        "version": "0.2.0",
        "run": "0123456789abcdef",
        "extent": "full",
        "seed": 0,
        "cells": {"done": 1000, "failed": 0},
        "errors": [],
        "decided": 0.9996,
        "claims": [
            {
                "key": claim.key,
                "title": claim.title,
                "statement": claim.statement,
                "rule": claim.rule,
                "judgements": [plain(each) for each in found[claim.key]],
            }
            for claim in CLAIMS
        ],
    }


def spec():
    studies = {claim.key: [] for claim in CLAIMS}
    return {
        "command": "reproduce", "extent": "full", "seed": 0, "studies": studies,
        "version": "0.2.0", "torch": "2.6",
    }  # fmt: skip


@pytest.fixture
def document(result, tmp_path):
    return claims_document(Finished(tmp_path, spec(), result))


def section(document, name):
    (found,) = (each for each in document.sections if each.title.startswith(name))
    return found


def blocks(where, kind):
    return [block for block in where.unfolded() if isinstance(block, kind)]


def judgements(result, key):
    return next(c["judgements"] for c in result["claims"] if c["key"] == key)


def test_the_headline_names_each_claim_once_with_its_first_verdict(result):
    told = headlines(result)[0].removesuffix(".").split(": ", 1)[1]
    said = {}
    for part in told.split("; "):
        *keys, (last, verdict) = (
            *part.split(", ")[:-1],
            part.split(", ")[-1].split(" ", 1),
        )
        said |= dict.fromkeys([*keys, last], verdict)
    assert said == {c["key"]: c["judgements"][0]["standing"] for c in result["claims"]}


def test_the_headline_counts_the_verdicts_that_differ(result):
    told = headlines(result)[1]
    for claim in result["claims"]:
        first = claim["judgements"][0]["standing"]
        counts = Counter(each["standing"] for each in claim["judgements"])
        for aside in (first, "as it must be", "not judged"):
            del counts[aside]
        part = told.partition(f"{claim['key']}: ")[2].partition(";")[0]
        said = part.partition(". What")[0].split(", ") if part else []
        assert sorted(said) == sorted(f"{n} {name}" for name, n in counts.items())
    assert "C1" in told
    assert "C6" in told


def test_a_quick_run_and_failed_cells_are_told_at_once(result):
    assert not any("quick" in each for each in headlines(result))
    quick = {**result, "extent": "quick", "cells": {"done": 3, "failed": 2}}
    told = " ".join(headlines(quick))
    assert "quick run" in told
    assert "2 cells failed" in told


def test_the_overview_has_a_row_per_claim_and_counts_every_judgement(document, result):
    (table,) = blocks(section(document, "In one look"), Table)
    assert len(table.rows) == len(result["claims"])
    for (name, verdict, seen, counted), claim in zip(
        table.rows, result["claims"], strict=True
    ):
        assert claim["key"] in str(getattr(name, "text", name))
        assert verdict == claim["judgements"][0]["standing"]
        assert claim["judgements"][0]["sentence"] in seen
        counts = Counter(each["standing"] for each in claim["judgements"])
        parts = dict(part.split(" ", 1)[::-1] for part in counted.split(", "))
        assert {name: int(count) for name, count in parts.items()} == counts


def test_the_bars_of_verdicts_count_the_judgements(result):
    chart = verdicts(result["claims"]).chart
    for place, claim in enumerate(result["claims"]):
        counts = Counter(each["standing"] for each in claim["judgements"])
        drawn = {part.name: part.values[place] for part in chart.parts}
        assert {name: n for name, n in drawn.items() if n} == counts


@pytest.mark.parametrize("key", [claim.key for claim in CLAIMS])
def test_every_claim_has_its_statement_verdict_evidence_rule_and_command(
    key, document, result
):
    part = section(document, f"{key}: ")
    first = judgements(result, key)[0]
    (facts,) = blocks(part, Facts)
    told = dict(facts.pairs)
    of_one = GLOSSES[first["standing"]]
    gloss = of_one if first["low"] is not None else "of several judgements together"
    assert told["verdict"].startswith(f"{first['standing']} ({gloss}")
    assert told["protocol"] == first["protocol"]
    assert told["what was seen"] == first["sentence"]
    claim = next(c for c in result["claims"] if c["key"] == key)
    texts = " ".join(prose.text for prose in blocks(part, Prose))
    assert claim["statement"] in texts
    assert claim["rule"] in texts
    assert blocks(part, Plot)
    (table,) = blocks(part, Table)
    assert len(table.rows) == len(claim["judgements"])
    (code,) = blocks(part, Code)
    assert code.text == f"summiteer reproduce --only={key} --out={key.lower()}"


def test_shares_are_drawn_against_the_scale_with_their_intervals(result):
    judged = judgements(result, "C1")
    found = {curve.name: curve for curve in share_curves(judged)}
    assert len(found) == 4
    curve = found["softplus, the paper's constant step"]
    by_scale = {
        scale: next(
            j for j in judged if j["regime"] == f"softplus, c = {scale}, digits"
        )
        for scale in ("0.1", "1", "10")
    }
    for name, drawn in (("effect", curve.y), ("low", curve.low), ("high", curve.high)):
        assert list(drawn) == [100 * each[name] for each in by_scale.values()]
    # Beside each other by a few per cent, in order.
    assert curve.x == pytest.approx((0.1, 1.0, 10.0), rel=0.15)
    (plot,) = evidence({"key": "C1", "judgements": judged})
    none = by_scale["10"]
    assert f"0 % [0, {100 * none['high']:.3g}]" in plot.words


def test_steps_are_drawn_against_every_parameter(result):
    judged = judgements(result, "C2")
    for name, values in judged[0]["numbers"]["steps"].items():
        (curve,) = step_curves(judged, name)
        assert dict(zip(map(str, curve.x), curve.y, strict=True)) == {
            str(float(x)): y for x, y in values.items()
        }
    plots = evidence({"key": "C2", "judgements": judged})
    slope = judged[0]["numbers"]["slopes"]["scale"]
    words = next(p.words for p in plots if "input scale" in p.chart.title)
    assert f"{slope['value']:.2g} [{slope['low']:.2g}, {slope['high']:.2g}]" in words


def test_steps_against_the_tolerance_where_they_were_kept(result):
    judged = judgements(result, "C2")
    held = bool(judged[0]["numbers"].get("tolerances"))
    assert bool(step_curves(judged, "tolerance")) == held
    numbers = {"tolerances": {"0.01": 5.0, "1e-08": 50.0}}
    (curve,) = step_curves([{**judged[0], "numbers": numbers}], "tolerance")
    assert curve.x == pytest.approx((1e2, 1e8))
    assert curve.y == (5.0, 50.0)


def test_landscapes_are_drawn_with_their_controls(result):
    judged = judgements(result, "C3")
    found = {curve.name: curve for curve in scale_curves(judged, "global")}
    assert set(found) == {"softplus", "tanh", "quadratic, control"}
    indices = next(j for j in judged if j["protocol"] == "indices")
    assert list(found["softplus"].y) == indices["numbers"]["global"]
    counts = {curve.name: curve for curve in scale_curves(judged, "distinct")}
    assert counts["softplus"].y == (1.0, 1.0, 2.0)


def test_ascents_are_drawn_per_step_rule(result):
    judged = judgements(result, "C4")
    found = scale_curves(judged, "steps", "backtracking")
    assert [curve.name for curve in found] == ["softplus", "tanh"]
    for curve in found:
        (each,) = (
            j
            for j in judged
            if j["regime"].startswith(curve.name) and j["protocol"] == "backtracking"
        )
        assert list(curve.y) == each["numbers"]["steps"]


def test_trainings_join_the_ranges_and_stand_beside_the_doubled_ones(result):
    judged = judgements(result, "C5")
    found = training_curves(judged, "P2: the best rate at each scale")
    assert len(found) == 7  # without MNIST: settings 1 to 7
    curve = found["(1) softplus, digits 0v1"]
    assert curve.x == c5_cells.SCALES
    for each in judged:
        if each["numbers"].get("setting") == 1 and each["numbers"]["protocol"] == "P2":
            joined = dict(zip(curve.x, curve.y, strict=True))
            scales, steps = each["numbers"]["scales"], each["numbers"]["steps"][1]
            assert [joined[c] for c in scales] == steps
    found = evidence({"key": "C5", "judgements": judged})
    titles = [plot.chart.title for plot in found if isinstance(plot, Plot)]
    assert titles[0].startswith("P2: the best rate at each scale: digits 0 against 1")
    assert "from f ≡ 0" in titles[0]
    assert "other tasks" in titles[1]
    assert "Slope" in titles[2]
    # What the verdict does not rest on is folded.
    assert len(titles) == 3
    (fold,) = (each for each in found if isinstance(each, Fold))
    assert all(not p.chart.title.startswith("P2") for p in fold.blocks)


def test_slopes_of_training_have_a_row_per_setting(result):
    judged = judgements(result, "C5")
    found = evidence({"key": "C5", "judgements": judged})
    charts = [plot.chart for plot in found if isinstance(plot, Plot)]
    (chart,) = (chart for chart in charts if "Slope" in chart.title)
    drawn = {
        y: x for s in chart.series if s.name for x, y in zip(s.x, s.y, strict=True)
    }
    wanted = {
        float(j["numbers"]["setting"]): j["effect"]
        for j in judged
        if j["numbers"].get("protocol") == "P2" and j["numbers"].get("range") == "mid"
    }
    assert drawn == wanted


def test_the_same_regime_by_two_methods_has_two_bars(result):
    one = judgements(result, "C6")[0]
    judged = [one, {**one, "protocol": "PGA with backtracking", "effect": 0.2}]
    (plot,) = evidence({"key": "C6", "judgements": judged})
    assert len(set(plot.chart.bars)) == 2


def test_the_cause_is_told_at_once(result):
    cause = judgements(result, "C5")[1]
    assert cause["protocol"].endswith("as the cause")
    (told,) = (each for each in headlines(result) if "could make" in each)
    assert told.endswith(f": {cause['standing']}.")


@pytest.mark.parametrize("key", ["C6", "C7"])
def test_bars_end_where_the_intervals_do(key, result):
    judged = judgements(result, key)
    (plot,) = evidence({"key": key, "judgements": judged})
    assert isinstance(plot.chart, Bars)
    least, rest = plot.chart.parts
    assert list(least.values) == [100 * each["low"] for each in judged]
    upper = [a + b for a, b in zip(least.values, rest.values, strict=True)]
    assert upper == pytest.approx([100 * each["high"] for each in judged])


def test_what_was_not_judged_has_a_page_too(result, tmp_path):
    failed = {
        "protocol": "all", "regime": "everywhere", "standing": "not judged",
        "sentence": "3 cells failed", "effect": None, "low": None, "high": None,
        "numbers": {}, "quantity": "",
    }  # fmt: skip
    claims = [{**claim, "judgements": [failed]} for claim in result["claims"]]
    cells = {"done": 5, "failed": 3}
    broken = {**result, "claims": claims, "cells": cells, "decided": None}
    made = claims_document(Finished(tmp_path, spec(), broken))
    assert "C1, C2, C3, C4, C5, C6, C7 not judged" in made.lead[1]
    assert "3 cells failed" in page(made)


def test_citations_on_the_page_are_those_of_the_command(document):
    codes = {code.file: code.text for code in blocks(section(document, "How"), Code)}
    for each in FORMATS.values():
        text = codes[f"summiteer.{each.ending}"]
        assert "Towards Understanding the Dynamics" in text
        assert "Summiteer" in text


def test_graphs_lead_from_works_to_what_rests_on_them():
    for graph in (methods_graph(), related_graph()):
        keys = [node.key for node in graph.nodes]
        assert len(keys) == len(set(keys))
        assert {end for arrow in graph.arrows for end in arrow} <= set(keys)
        columns = {node.key: node.column for node in graph.nodes}
        assert all(columns[b] == columns[a] + 1 for a, b in graph.arrows)
    graph = methods_graph()
    arrows = {arrow for arrow in graph.arrows if arrow[0] in REFERENCES}
    assert arrows == {(key, m.module) for m in METHODS for key in m.works}
    works = {node.key: node for node in graph.nodes if node.column == 0}
    assert all(works[key].address == REFERENCES[key].address for key in works)
    assert set(RELATED) < {node.key for node in related_graph().nodes}


def test_the_page_is_the_same_twice_and_needs_no_network(document):
    html = page(document)
    assert html == page(document)
    assert "summiteer reproduce --only=C3" in html
    assert html.count("data-file=") == len(FORMATS)


def test_hostile_names_are_shown_as_text(result, tmp_path):
    hostile = "<img src=x onerror=alert(1)>"
    first = {**judgements(result, "C1")[0], "regime": hostile, "sentence": hostile}
    claim = {**result["claims"][0], "judgements": [first], "title": hostile}
    made = claims_document(Finished(tmp_path, spec(), {**result, "claims": [claim]}))
    html = page(made)
    assert hostile not in html
    assert "&lt;img src=x" in html


def test_versions_are_those_that_the_cells_were_measured_with(tmp_path, result):
    from summiteer.cells import Cell
    from summiteer.store import Store

    with Store.open(tmp_path / "run", spec()) as store:
        store.put(Cell("toy", {"a": 1}), 0, {"value": 1.0})
    made = claims_document(Finished(tmp_path / "run", spec(), result))
    (facts,) = blocks(section(made, "Open this page"), Facts)
    told = dict(facts.pairs)
    assert torch.__version__ in told["torch"]
    assert {"Summiteer", "Python", "NumPy", "plotly.js in this page"} <= set(told)
    assert "host" not in told


def test_a_share_is_all_only_where_it_is_all():
    assert percentage(1.0) == "100 %"
    assert percentage(575 / 576) == "99 %"
    assert percentage(575 / 576, 1) == "99.8 %"
    assert percentage(1 - 1e-9, 2) == "99.99 %"
    assert percentage(1e-9, 1) == "0.1 %"
    assert percentage(0.0, 2) == "0.00 %"


def test_the_limit_of_steps_is_not_told_as_steps_to_a_residual(result):
    (judgement, *_) = judgements(result, "C2")
    steps = {"scale": {"0.1": 12.0, "3.0": 2000.0}}
    censored = {**judgement, "numbers": {**judgement["numbers"], "steps": steps}}
    plot = evidence({"key": "C2", "judgements": [censored]})[0]
    assert "12 at 0.1 to not within 2000 at 3" in plot.words
    assert "a lower bound" in plot.words
    assert [mark.at for mark in plot.chart.marks] == [2000]
