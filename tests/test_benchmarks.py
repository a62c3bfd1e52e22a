"""The runner of the benchmarks and its page; nothing is timed here."""

import importlib
import inspect
import json
import sys
from dataclasses import replace

import pytest
from benchmarks import page
from benchmarks.__main__ import SECTIONS, main
from benchmarks.fresh import fresh
from benchmarks.page import PAGE, RESULTS, Result, Run
from benchmarks.section import Line, Section, table
from benchmarks.timing import in_turns, slope

FOUND = Result(
    Section(
        title="Steps | of a ladder",
        text=f"Counted on fingers.\n\n{table(('rung', 'ms'), [('a', 1), ('bc', 20)])}",
        lines=[
            Line("a step", "≤ 1.05 ×", "0.97 (0.91-1.02)", True),
            Line("two steps", "≤ 0.2 s", "0.3 s", False),
            Line("a fall", "", "9.8 m/s²", None),
        ],
        packages=("numpy", "no-such-package"),
    ),
    Run(
        command="python -m benchmarks ladder --write",
        date="2026-01-02",
        seconds=12.3,
        machine="A Processor, Linux, Python 3.11.7",
        cores=2,
        threads=1,
        load=(0.1, 1.0),
        versions={"torch": "2.13.0", "foolbox": "3.3.4"},
    ),
)


def test_a_result_comes_back_from_its_file(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    (tmp_path / "ladder.json").write_text(FOUND.as_text(), encoding="utf-8")
    assert page.stored([]) == [FOUND]


def test_the_page_begins_with_the_aims_and_has_each_part():
    other = Result(replace(FOUND.section, title="Chutes", lines=[]), FOUND.run)
    made = page.page([FOUND, other], f"# Old\n\nold text\n\n{page.STRENGTH}\n\nkept\n")
    assert "old text" not in made
    assert made.endswith(f"\n{page.STRENGTH}\n\nkept\n")
    places = [
        made.index(text)
        for text in (
            "# Benchmarks",
            "## Aims",
            "| a step ",
            "| two steps ",
            "## Steps",
            "| bc ",
            "`python -m benchmarks ladder --write`, 2026-01-02, 12 s: A Processor",
            "load 0.1 before and 1.0 after; torch 2.13.0, foolbox 3.3.4.",
            "## Chutes",
            page.STRENGTH,
        )
    ]
    assert places == sorted(places)
    rows = [line.split(" | ") for line in made.splitlines() if line.startswith("| ")]
    told = {row[0][2:].strip(): row[3].strip() for row in rows if len(row) == 5}
    assert told["a step"] == "yes"
    assert told["two steps"] == "**no**"
    assert not told["a fall"]


def test_what_is_made_of_its_own_page_is_the_same():
    """Writing twice changes nothing, whatever other programs wrote."""
    made = page.page([FOUND], f"{page.STRENGTH}\n\nof others\n")
    assert page.page([FOUND], made) == made
    assert page.page([], "") == page.INTRODUCTION


def test_parts_come_in_the_order_of_the_list(tmp_path, monkeypatch):
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    for name in ("b", "c", "a"):
        section = replace(FOUND.section, title=name)
        text = Result(section, FOUND.run).as_text()
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
    titles = [each.section.title for each in page.stored(["c", "d", "b"])]
    assert titles == ["c", "b", "a"]


def test_versions_are_those_that_are_installed():
    known = page.versions(FOUND.section.packages)
    assert list(known) == ["summiteer", "torch", "numpy", "no-such-package"]
    assert known["no-such-package"] == "not installed"
    assert known["numpy"][0].isdigit()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["start_up", "speed"], "no section is called speed: "),
        (["start_up", "--quick", "--write"], "--write does not go with --quick"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(arguments, said, capsys):
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert not out
    assert error.startswith(said)
    assert error.count("\n") == 1


def test_the_list_names_every_section(capsys):
    assert main(["--list"]) == 0
    listed = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in listed] == list(SECTIONS)


def _measure(quick):
    assert quick is True
    return FOUND.section


def test_a_quick_run_is_printed_and_not_kept(monkeypatch, tmp_path, capsys):
    name = next(iter(SECTIONS))
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(module, "measure", _measure)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    assert main([name, "--quick"]) == 0
    out = capsys.readouterr().out
    assert "| a step " in out
    assert f"`python -m benchmarks {name} --quick`" in out
    assert not list(tmp_path.iterdir())


def test_what_is_written_is_kept_and_shown(monkeypatch, tmp_path):
    name = next(iter(SECTIONS))
    module = importlib.import_module(f"benchmarks.{name}")
    monkeypatch.setattr(module, "measure", lambda quick: FOUND.section)
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    assert main([name, "--write"]) == 0
    kept = json.loads((tmp_path / f"{name}.json").read_text(encoding="utf-8"))
    assert kept["section"]["title"] == FOUND.section.title
    assert kept["run"]["command"] == f"python -m benchmarks {name} --write"
    assert kept["run"]["versions"]["no-such-package"] == "not installed"
    assert "| a step " in (tmp_path / "page.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", SECTIONS)
def test_every_section_has_a_measure_that_the_runner_can_call(name):
    function = importlib.import_module(f"benchmarks.{name}").measure
    assert list(inspect.signature(function).parameters) == ["quick"]


def test_contestants_take_turns_after_one_call_each():
    calls, clock = [], iter([0, 2, 10, 11, 20, 26, 30, 32])
    names = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = in_turns(names, 2, clock=lambda: next(clock))
    assert "".join(calls) == "ababab"
    assert (times["a"].seconds, times["b"].seconds) == ((2, 6), (1, 2))
    ratio = times["a"].over(times["b"])
    assert (ratio.value, ratio.lowest, ratio.highest) == (4 / 1.5, 2.0, 3.0)


def test_slopes_on_log_log_scales():
    assert slope([1, 2, 4, 8], [3, 6, 12, 24]) == pytest.approx(1.0)
    assert slope([1, 10, 100], [5, 500, 50_000]) == pytest.approx(2.0)


def test_every_result_is_of_a_section():
    assert {path.stem for path in RESULTS.glob("*")} <= set(SECTIONS)


def test_the_page_is_what_the_results_say():
    text = PAGE.read_text(encoding="utf-8")
    assert page.page(page.stored(SECTIONS), text) == text


def filled(before, within):
    """For `fresh`: bytes held before the call, and bytes for a while within it."""
    held = [b"x" * before]

    def call():
        held.append(b"y" * within)
        held.pop()
        return len(held)

    return call


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux tells")
def test_memory_is_that_of_the_call_at_its_peak():
    """Of 512 MiB before and 256 MiB for a while the 256 count."""
    found = fresh("tests.test_benchmarks", "filled", before=2**29, within=2**28)
    assert found.value == 1
    # 16 MiB: of Python itself, and pages that the kernel counts late.
    assert abs(found.memory - 256) < 16
