"""What README.md and docs/ print: commands that run, lists that are complete."""

import re
import runpy
import shlex
import shutil
import sys
import tokenize
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from summiteer.cli.options import ADVERSARIES, OBJECTIVES
from summiteer.data.onnx_layers import KNOWN
from summiteer.screen._screening import CHECKS, SIGNS
from summiteer.searching.effort import EFFORTS
from summiteer.searching.sources import NAMES

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {
    path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")
}
#: Fewer examples and steps than are printed.
FEW = "4"


def commands():
    """Commands of the README, as words; of files that are not there, none."""
    lines = re.findall(r"^    ((?:summiteer|python) .+)$", README, re.MULTILINE)
    there = [line for line in lines if "net.onnx" not in line]
    assert len(there) >= 9
    return [shlex.split(line, comments=True) for line in there]


def test_commands_run_in_the_order_of_the_readme(tmp_path, monkeypatch, run_cli):
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    # Scripts find their neighbours, and leave nothing behind.
    monkeypatch.syspath_prepend(tmp_path / "examples")
    monkeypatch.delitem(sys.modules, "model", raising=False)
    for words in commands():
        if words[0] == "python":
            few = [FEW if word == "200" else word for word in words[1:]]
            monkeypatch.setattr(sys, "argv", few)
            with torch.random.fork_rng(devices=[]):
                runpy.run_path(few[0], run_name="__main__")
            continue
        if words[1] == "study":
            code, out, error = run_cli(*words[1:])
            assert code == 0, error
            assert "12 of 12 cells done" in out or words[2] != "status"
            continue
        if words[1] == "cite":
            code, out, error = run_cli(*words[1:])
            assert code == 0, error
            assert out.startswith("@")
            continue
        if words[1] == "landscape":
            small = ["--restarts", "3", "--resolution", "5"]
            code, out, error = run_cli(*words[1:], *small)
            assert code == 0, error
            assert "maxim" in out
            continue
        small = ["--limit", FEW]
        if words[1] == "attack":
            # The usual screen is in the first one, a finding in the one of radius 8.
            plain = "0.1" not in words and "8" not in words
            small += ["--steps", "5", *["--no-screen"] * plain]
        code, out, error = run_cli(*words[1:], *small)
        # 3: too few are proved after five steps.
        assert code in ((0, 3) if "--require" in words else (0,)), error
        assert "robust accuracy" in out


@pytest.mark.parametrize("page", [README, *PAGES.values()])
def test_python_blocks_are_python(page):
    for block in re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        compile(block, "block", "exec")
        list(tokenize.generate_tokens(iter(block.splitlines(keepends=True)).__next__))


def test_numbers_of_the_efforts_are_those_of_the_search():
    standard, thorough = EFFORTS["standard"], EFFORTS["thorough"]
    assert f"search: at most {standard.budget} gradient evaluations" in README
    page = PAGES["searching"]
    assert f"`budget` ({standard.budget}, {thorough.budget})" in page
    told = {
        "objective": ("1 × {max_steps}", "1 × {max_steps}"),
        "rivals": ("{rivals} × {rival_steps}", "every k × {rival_steps}"),
        "restarts": ("{restarts} × {max_steps}", "up to {restarts} × {max_steps}"),
        "gates": (
            "the {gate_rivals} nearest to success × ({gate_steps} + {gate_steps})",
            "every k × ({gate_steps} + {gate_steps})",
        ),
        "neighbours": (
            "{rivals} × {rival_steps}",
            "every k × {neighbours} × {rival_steps}",
        ),
    }
    rows = re.findall(r"^\| `(\w+)` \|.+\| (.+) \| (.+) \|$", page, re.MULTILINE)
    assert [name for name, *_ in rows] == list(NAMES)
    for name, *cells in rows:
        for cell, text, effort in zip(
            cells, told.get(name, ("", "")), (standard, thorough), strict=True
        ):
            assert cell.startswith(text.format(**asdict(effort)))


def test_the_pages_name_every_operator():
    listed = re.search(r"known are (.+?)\. A VNN-LIB", PAGES["models"], re.DOTALL)
    assert {*re.findall(r"[A-Z]\w+", listed[1])} == KNOWN


def test_every_finding_has_its_line():
    # One check finds two things.
    checks = {code for code, _ in (*CHECKS, *SIGNS)} - {"CLEAN_ACCURACY"}
    checks |= {"WRONG_CONVENTION", "CHANCE_ACCURACY"}
    assert {*re.findall(r"^\| ([A-Z_]+) \|", PAGES["screen"], re.MULTILINE)} == checks


def test_choices_of_the_command_line_are_told():
    for name in ADVERSARIES:
        assert re.search(rf"[`\s]{name}`", PAGES["adversaries"])
        assert re.search(rf"[`\s]{name}[`\s]", PAGES["models"])
    assert {"cross-entropy", "margin", "dlr", "quadratic"} < {*OBJECTIVES}
