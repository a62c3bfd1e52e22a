"""Study files that cannot be used: a sentence each, with file, key and what to do."""

from pathlib import Path

import pytest

import summiteer as sm
from summiteer.studies import study as studies

HERE = Path(__file__).parent
HEAD = 'name = "s"\nexperiment = "toy.py:TOY"\n'

#: What is wrong -> what is said of it, in parts.
MISTAKES = {
    "[gird]\nscale = [1.0]": ["gird: is no key of a study", "did you mean 'grid'?"],
    "[zip]\ncount = [1]": ["zip: is no key of a study", "did you mean 'zips'?"],
    "[grid]\nnumbr = [1.0]": [
        "grid.numbr, entry 1: the experiment toy@",
        "has no parameter 'numbr'; did you mean 'number'?",
        "known: seed, kind, number, count, broken.",
    ],
    "[fixed]\nxyz = 1": ["fixed.xyz: the experiment toy@", "known: seed, kind"],
    "[grid]\nnumber = []": ["grid.number: expected at least one value, got an empty"],
    "[grid]": ["grid: expected parameters with lists of values, got none"],
    "zips = []": ["zips: expected parameters with lists of values, got none"],
    "zips = [{}]": ["zips, group 1: expected parameters, got none"],
    "[[zips]]\nnumber = []": ["zips, group 1, number: expected at least one value"],
    "seeds = []": ["seeds: expected at least one value, got an empty list"],
    "[grid]\nnumber = 1.0": [
        "grid.number: expected a list of values, got 1.0; write [1.0], or give one "
        "value under [fixed]."
    ],
    "fixed = 3": ["fixed: expected a table, got 3."],
    "seeds = 3": ["seeds: expected a list of values, got 3."],
    "seeds = [true]": ["seeds, entry 1: ", "got true."],
    "seeds = [0, -1]": ["seeds, entry 2: expected a number greater", "got -1."],
    "seeds = [4294967296]": ["seeds, entry 1: expected a number less than 4294967296"],
    "seeds = [1, 2, 1]": ["seeds, entry 1 and seeds, entry 3: stand for the same"],
    "seeds = { first = 0 }": ["seeds: expected a list of seeds, or { first = 0, count"],
    "seeds = { count = 2, step = 3 }": ["seeds: expected a list of seeds, or { first"],
    "seeds = { count = 99999999 }": ["seeds: expected at most 1000000 seeds"],
    "[grid]\nnumber = [1, 1.0]": [
        "grid.number, entry 1 and grid.number, entry 2: stand for the same",
        "take one of them out",
    ],
    "[[zips]]\nnumber = [1, 2, 1]\ncount = [1, 2, 1]": [
        "zips, group 1, number, entry 1 and zips, group 1, number, entry 3"
    ],
    "[fixed]\nnumber = 1\n[grid]\nnumber = [1, 2]": [
        "number: is given in two places, fixed and grid; keep it in one of them."
    ],
    "[grid]\ncount = [1]\n[[zips]]\ncount = [2]": [
        "count: is given in two places, grid and zips, group 1"
    ],
    "[[zips]]\ncount = [1]\n[[zips]]\ncount = [2]": [
        "count: is given in two places, zips, group 1 and zips, group 2"
    ],
    "[grid]\nseed = [1]": [
        "seed: is given under grid; seeds are a key of their own, seeds = [0, 1], "
        "above all tables."
    ],
    "seeds = [1]\n[fixed]\nseed = 1": [
        "seed: is given under fixed; ",
        ", and are given there already.",
    ],
    "[zips]\nnumber = [1, 2]\ncount = [1, 2]": [
        "zips: expected groups, got one table; write [[zips]], with two brackets"
    ],
    "[[zips]]\nnumber = 1.0": ["zips, group 1, number: expected a list of values"],
    "seeds = { first = 0, count = 0 }": ["got { first = 0, count = 0 }."],
    "colour = 1": ["colour: is no key of a study", "go under [fixed], [grid] or"],
    # All that can be known at once.
    'seeds = [0, -1]\n[fixed]\ncount = "two"\nnumbr = 1': [
        "seeds, entry 2: expected a number greater",
        "fixed.count: expected a whole number, got 'two'.",
        "fixed.numbr: the experiment toy@",
    ],
    "[[zips]]\nnumber = [1, 2]\ncount = [1]": [
        "zips, group 1: expected as many values of each parameter",
        "number has 2, count has 1",
    ],
    "[grid]\nnumber = [1, 0, -2]": [
        "grid.number, entry 2: expected a number greater than 0, got 0.",
        "grid.number, entry 3: expected a number greater than 0, got -2.",
    ],
    "[fixed]\nnumber = nan": ["fixed.number: expected a finite number, got nan."],
    '[fixed]\ncount = "two"': ["fixed.count: expected a whole number, got 'two'."],
    "[fixed]\nnumber = [1.0]": ["fixed.number: expected a number, got [1.0]."],
    "[fixed]\nnumber = 1\ncount = 11": [
        "{ number = 1, count = 11, seed = 0 } do not go together: count must be at "
        "most ten times number"
    ],
    "seeds = [1,\n": ["is not TOML: ", "at end of document"],
    "seeds = 1x\n": ["is not TOML: ", "at line 3, column 10"],
    'name = "again"\n': ["is not TOML: line 3: name is given twice; "],
    "[fixed]\ncount = 1\ncount = 2": ["line 5: count is given twice"],
    "[fixed]\ncount = 1\n[fixed]\nnumber = 1": ["line 5: [fixed] is given twice"],
}


@pytest.fixture
def written(tmp_path, run_cli):
    """Write a study file and run it: stderr."""
    (tmp_path / "toy.py").write_text((HERE / "toy.py").read_text())

    def write(text, name="study.toml"):
        file = tmp_path / name
        file.write_text(text)
        code, out, error = run_cli("study", "run", file, "--out", tmp_path / "out")
        assert code == 1
        assert out == ""
        assert not (tmp_path / "out").exists()
        assert error.startswith(f"error: {file}: ")
        assert "Traceback" not in error
        return error

    return write


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_is_a_sentence(text, written):
    error = written(HEAD + text)
    for part in MISTAKES[text]:
        assert part in error
    # Each thing once, each on a line that names the file.
    assert len(error.splitlines()) == len({*error.splitlines()})
    assert all("study.toml: " in line for line in error.splitlines())


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["name: is missing", "experiment: is missing"]),
        ('experiment = "climb"', ["name: is missing"]),
        ('name = "a/b"\nexperiment = "climb"', ["name: expected letters, digits"]),
        (
            'name = "a/b"\nexperiment = "climb"\n[fixed]\nwidht = 3',
            ["name: expected letters, digits", "fixed.widht: the experiment climb"],
        ),
        ('name = "s"\nexperiment = "clim"', ["got 'clim'; did you mean 'climb'?"]),
        ('name = "s"\nexperiment = 3', ["experiment: expected a text, got 3"]),
        ('name = "s"\nexperiment = "nix.py:A"', ["nix.py: No such file", "beside the"]),
        (
            'name = "s"\nexperiment = "toy.py:NIX"',
            ["toy.py has no 'NIX'", "known: TOY."],
        ),
        ('name = "s"\nexperiment = "toy.py:TOYS"', ["did you mean 'TOY'?"]),
        ('name = "s"\nexperiment = "toy.py:measure"', ["of the type function"]),
        ('name = "s"\nexperiment = "toy.txt:TOY"', ["expected file.py:name, got"]),
    ],
)
def test_a_head_that_cannot_be_used(text, parts, written):
    error = written(text)
    assert all(part in error for part in parts), error


def test_files_that_are_none(tmp_path, run_cli):
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    for name, told in (
        ("nix.toml", "No such file or directory"),
        ("", "Is a directory"),
        ("binary.toml", "is not text in UTF-8"),
    ):
        code, _, error = run_cli("study", "run", tmp_path / name)
        assert code == 1
        assert told in error


def test_a_grid_that_is_too_large_is_refused_before_it_is_made(monkeypatch):
    monkeypatch.setattr(studies, "MOST_CELLS", 10)
    with pytest.raises(sm.UserError, match="at most 10 cells, got 12 combinations"):
        sm.Study(
            name="s",
            experiment=f"{HERE / 'toy.py'}:TOY",
            grid={"number": [1, 2, 3], "kind": ["a", "b"]},
            seeds=[0, 1],
        )


def test_a_validator_that_fails_is_no_traceback(tmp_path):
    file = tmp_path / "own.py"
    file.write_text(
        "import summiteer as sm\n"
        "from pydantic import field_validator\n"
        "class P(sm.Parameters):\n"
        "    n: int = 1\n"
        "    @field_validator('n')\n"
        "    def divides(cls, n):\n"
        "        return 1 // n\n"
        "OWN = sm.Experiment('own', P, lambda p: None, 'nothing')\n"
    )
    with pytest.raises(sm.UserError, match="ZeroDivisionError"):
        sm.Study(name="s", experiment=f"{file}:OWN", fixed={"n": 0})


def test_many_mistakes_are_cut(written):
    numbers = ", ".join(str(-n) for n in range(1, 100))
    error = written(HEAD + f"[grid]\nnumber = [{numbers}]")
    assert len(error.splitlines()) == 5
