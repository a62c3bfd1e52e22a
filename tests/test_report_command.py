"""`summiteer report`, and what every command does at its end: page, place, advice."""

import json
import shutil
import sys
import webbrowser

import pytest

from small_runs import ARGUMENTS, small_run
from summiteer.errors import UserError
from summiteer.report import pages
from summiteer.report.charts import Axis, Lines, Series
from summiteer.report.closing_text import closing_text
from summiteer.report.document import Document, Plot, Prose, Section


def planted(run):
    """A page of a run that says little and draws one chart."""
    curve = Series("", (1.0, 2.0), (1.0, 2.0))
    plot = Plot(Lines("Loss: $5", Axis("step"), Axis("loss"), (curve,)), "rises")
    return Document(str(run.spec["command"]), (), (Section("s", (plot,)),))


def broken(run):
    raise KeyError("missing")


def refused(run):
    raise UserError("this run: no.")


def without_figures(run):
    return Document("t", (), (Section("s", (Prose("p"),)),))


@pytest.fixture
def documents(monkeypatch):
    """Plant the page of a command."""

    def plant(command, made):
        monkeypatch.setitem(pages.DOCUMENTS, command, made)

    return plant


@pytest.fixture
def studied(folder, documents):
    """A finished study with a page."""
    documents("study", planted)
    small_run("study", folder)
    return folder / "run-study"


@pytest.mark.parametrize("command", ARGUMENTS)
def test_every_run_writes_its_page_and_says_where_it_is(folder, documents, command):
    documents(command, planted)
    printed = small_run(command, folder).splitlines()
    page = (folder / f"run-{command}" / "report.html").read_text()
    assert f"<title>{command}</title>" in page
    place = printed.index(f"report: run-{command}/report.html")
    assert printed[place + 1].startswith("next:   ")
    # Nothing but what is to be done stands after it.
    assert len(printed) <= place + 3


@pytest.mark.parametrize("command", ARGUMENTS)
def test_no_report_writes_none(folder, documents, command):
    documents(command, broken)
    printed = small_run(command, folder, "--no-report")
    assert not (folder / f"run-{command}" / "report.html").exists()
    said = f"report: none; `summiteer report run-{command}` writes it"
    assert said in printed.splitlines()
    # The result is the same.
    result = (folder / f"run-{command}" / "result.json").read_text()
    assert "report.html" not in result


def test_commands_without_a_page_do_not_speak_of_one(folder, monkeypatch):
    monkeypatch.delitem(pages.DOCUMENTS, "study", raising=False)
    printed = small_run("study", folder)
    assert "report" not in printed
    assert printed.splitlines()[-1] == "next:   summiteer study export run-study"
    assert not (folder / "run-study" / "report.html").exists()


@pytest.mark.parametrize(
    ("made", "said"), [(broken, "KeyError: 'missing'"), (refused, "this run: no.")]
)
def test_a_page_that_cannot_be_made_is_a_warning(
    folder, documents, run_cli, made, said
):
    documents("study", made)
    code, out, error = run_cli("study", "run", "study.toml", "--out", "o")
    assert code == 0
    assert error == f"! report: the result stands, its page does not: {said}\n"
    assert "report: none; `summiteer report o` writes it" in out
    assert json.loads((folder / "o" / "result.json").read_text())["command"] == "study"


def test_a_page_that_cannot_be_written_is_a_warning(folder, documents, run_cli):
    documents("study", planted)
    run_cli("study", "run", "study.toml", "--out", "o", "--no-report")
    (folder / "o" / "report.html").mkdir()
    code, _, error = run_cli("study", "run", "study.toml", "--out", "o")
    assert code == 0
    assert "cannot be used: Is a directory" in error


def test_with_json_the_place_is_told_beside_the_document(folder, documents, run_cli):
    documents("study", planted)
    arguments = ("study", "run", "study.toml", "--out", "o", "--json")
    code, out, error = run_cli(*arguments)
    assert code == 0
    assert json.loads(out)["command"] == "study"
    assert "report: o/report.html" in error


def test_report_writes_the_same_page_again(studied, run_cli):
    before = (studied / "report.html").read_bytes()
    (studied / "report.html").unlink()
    code, out, error = run_cli("report", "run-study")
    assert (code, error) == (0, "")
    assert (studied / "report.html").read_bytes() == before
    assert out.splitlines()[0] == "report: run-study/report.html"
    assert "summiteer report run-study --open" in out
    assert not (studied / "figures").exists()


@pytest.mark.parametrize("there", [True, False])
def test_open_shows_it_in_the_browser(studied, run_cli, monkeypatch, there):
    opened = []
    monkeypatch.setattr(webbrowser, "open", lambda place: opened.append(place) or there)
    code, out, _ = run_cli("report", studied, "--open")
    assert code == 0
    assert opened == [(studied / "report.html").as_uri()]
    assert ("no browser was found" in out) is not there


@pytest.mark.parametrize("kind", ["pdf", "svg", "png"])
def test_figures_lie_beside_the_page(studied, run_cli, kind):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed: no figures")
    code, out, error = run_cli("report", "run-study", "--figures", kind)
    assert (code, error) == (0, "")
    name = f"01-loss-5.{kind}"
    assert [p.name for p in (studied / "figures").iterdir()] == [name]
    assert f"figures: run-study/figures\n  {name}\nreport: " in out


def test_a_page_without_figures_gives_none(studied, documents, run_cli):
    pytest.importorskip("matplotlib", reason="Matplotlib is not installed: no figures")
    documents("study", without_figures)
    code, out, _ = run_cli("report", studied, "--figures", "svg")
    assert code == 0
    assert "the page of this run has none" in out
    assert not (studied / "figures").exists()


def test_kinds_that_are_none_are_refused(studied, run_cli):
    code, _, error = run_cli("report", studied, "--figures", "jpg")
    assert code == 1
    assert "--figures: expected one of pdf, svg, png, got 'jpg'" in error


def test_without_matplotlib_the_remedy_is_said(studied, run_cli, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("matplotlib_charts", "static_figures"):
        monkeypatch.delitem(sys.modules, f"summiteer.report.{name}", raising=False)
    code, _, error = run_cli("report", studied, "--figures", "svg")
    assert code == 1
    assert "pip install 'summiteer[figures]'" in error


def test_what_is_no_finished_run_is_refused(folder, studied, run_cli):
    for place, said in (("no", "holds no run"), (".", "holds no run")):
        code, _, error = run_cli("report", place)
        assert (code, said in error) == (1, True)
    (studied / "result.json").unlink()
    code, _, error = run_cli("report", studied)
    assert code == 1
    assert "has not come to its end" in error


def attacked(**more):
    """As much of an attack's result as advice looks at."""
    result = {
        "command": "attack",
        "findings": [],
        "shares": {"undecided": 0.1},
        "survivors": {"examples": 3, "shares": {"undecided": 0.2}},
        "search": {"budget": 380, "unseen_bound": 0.1},
    }
    return result | more


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (attacked(findings=[{"code": "A"}]), "what the findings above say"),
        (attacked(), "--effort thorough"),
        (attacked(survivors={"examples": 0, "shares": None}), "a smaller --radius"),
        (attacked(search={"budget": 5000, "unseen_bound": 1.0}), "--explain ID"),
        (attacked(search=None), "--explain ID"),
        ({"command": "audit", "findings": []}, "`summiteer attack`"),
        ({"command": "landscape", "landscapes": [{"complete": False}]}, "--restarts"),
        (
            {"command": "reproduce", "cells": {"failed": 0}, "extent": "quick"},
            "without --quick",
        ),
        (
            {"command": "reproduce", "cells": {"failed": 1}, "extent": "full"},
            "--retry-failed",
        ),
        (
            {"command": "reproduce", "cells": {"failed": 0}, "extent": "full"},
            "summiteer report 'a b' --open",
        ),
        ({"command": "study", "cells": {"failed": 0}}, "study export 'a b'"),
    ],
)
def test_advice_follows_what_was_found(result, said):
    text = closing_text(result, "a b", None)
    (line,) = [line for line in text.splitlines() if line.startswith("next:")]
    assert said in line
    assert len(line) <= 80


def test_runs_that_were_moved_still_have_a_page(studied, tmp_path, run_cli):
    moved = tmp_path / "else where"
    shutil.move(studied, moved)
    code, out, _ = run_cli("report", moved)
    assert code == 0
    assert f"report: {moved}/report.html" in out
