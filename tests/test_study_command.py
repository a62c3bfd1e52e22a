"""`summiteer study run`, `status` and `export`, as a user meets them."""

import csv
import io
import json
import os
import re
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

import summiteer as sm
from summiteer.environment import environment
from summiteer.store import Store
from summiteer.studies.experiments import EXPERIMENTS

HERE = Path(__file__).parent
STUDY = """
name = "toy"
experiment = "toy.py:TOY"
seeds = [0, 1]
[fixed]
count = 3
[grid]
number = [1.0, 2.0, 3.0]
"""
BROKEN = STUDY.replace("[grid]", "[grid]\nbroken = [false, true]")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "toy.py").write_text((HERE / "toy.py").read_text())
    (tmp_path / "study.toml").write_text(STUDY)
    (tmp_path / "broken.toml").write_text(BROKEN)
    return tmp_path


def records(directory):
    with Store.read(directory) as store:
        return store.finished()


def test_run_status_export(folder, run_cli):
    code, out, error = run_cli("study", "run", "study.toml")
    assert (code, error) == (0, "")
    assert "study toy: 6 cells; runs/study-toy" in out
    assert "6 done, 0 failed" in out
    for place in ("study.toml", "runs/study-toy"):
        code, out, _ = run_cli("study", "status", place)
        assert code == 0
        assert "6 of 6 cells done, 0 failed, 0 missing" in out
        assert "at work: nobody" in out
    code, out, error = run_cli("study", "export", "runs/study-toy")
    assert (code, error) == (0, "")
    rows = [*csv.DictReader(io.StringIO(out))]
    # 1 + n + n² and the seed.
    assert [float(row["sum"]) for row in rows] == [3, 4, 7, 8, 13, 14]
    assert run_cli("study", "export", "runs/study-toy", "--csv", "t.csv")[:2] == (0, "")
    assert Path("t.csv").read_text() == out


def test_the_same_command_again_measures_nothing(folder, run_cli):
    run_cli("study", "run", "study.toml")
    before = records("runs/study-toy")
    code, out, _ = run_cli("study", "run", "study.toml")
    assert code == 0
    assert "6 cells, 6 of them already" in out
    assert records("runs/study-toy") == before


def test_json_is_the_result_and_nothing_else(folder, run_cli):
    code, out, _ = run_cli("study", "run", "study.toml", "--out", "o", "--json")
    assert code == 0
    result = json.loads(out)
    assert out == Path("o/result.json").read_text()
    assert result["cells"] == {"planned": 6, "done": 6, "failed": 0}
    assert [row["sum"] for row in result["table"]] == [3, 4, 7, 8, 13, 14]
    # Another run, to the byte: nothing in it says when it was.
    assert run_cli("study", "run", "study.toml", "--out", "p", "--json")[1] == out
    code, out, _ = run_cli("study", "status", "o", "--json")
    status = json.loads(out)
    assert status["cells"] == {"planned": 6, "done": 6, "failed": 0, "missing": 0}
    assert status["run"] == result["run"]


def test_failed_cells_are_told_kept_and_run_again_when_asked(
    folder, run_cli, monkeypatch
):
    monkeypatch.setenv("TOY_BROKEN", "yes")
    code, out, error = run_cli("study", "run", "broken.toml", "--out", "o")
    assert code == 3
    assert "6 done, 6 failed" in out
    assert "6 cells failed; the others went on:" in error
    assert "number 1.0, broken True, seed 0: RuntimeError: broken at 1.0" in error
    assert "and 3 more" in error
    assert "--retry-failed" in error
    result = json.loads(Path("o/result.json").read_text())
    assert result["cells"] == {"planned": 12, "done": 6, "failed": 6}
    assert result["failures"][0]["error"] == "RuntimeError: broken at 1.0"
    assert result["failures"][0]["parameters"]["broken"] is True
    with Store.read("o") as store:
        failure = next(iter(store.failed().values()))
    assert "in measure" in failure.values["trace"]
    code, out, _ = run_cli("study", "status", "o")
    assert code == 0
    assert "6 of 12 cells done, 6 failed, 0 missing" in out
    assert out.count("RuntimeError") == 6
    code, out, error = run_cli("study", "export", "o")
    assert len(out.splitlines()) == 1 + 6
    assert "6 of 12 cells; 6 failed and 0 missing ones are left out." in error

    # The cause is gone; without being asked nothing is run again.
    monkeypatch.delenv("TOY_BROKEN")
    done = records("o")
    assert run_cli("study", "run", "broken.toml", "--out", "o")[0] == 3
    code, out, error = run_cli(
        "study", "run", "broken.toml", "--out", "o", "--retry-failed"
    )
    assert (code, error) == (0, "")
    assert "12 done, 0 failed" in out
    assert {name: records("o")[name] for name in done} == done
    run_cli("study", "run", "broken.toml", "--out", "undisturbed")
    ours, theirs = (Path(d, "result.json").read_text() for d in ("o", "undisturbed"))
    assert ours == theirs


def test_a_changed_study_is_refused_explained_and_forked(folder, run_cli):
    run_cli("study", "run", "study.toml", "--out", "o")
    before = records("o")
    changed = STUDY.replace("3.0]", "4.0]").replace("[0, 1]", "[0, 1, 2]")
    Path("study.toml").write_text(changed)
    code, _, error = run_cli("study", "run", "study.toml", "--out", "o")
    assert code == 1
    assert "number: 4.0 added, 3.0 removed; seeds: 2 added" in error
    assert "--fork DIR begins a new store with 4 of its 9 cells" in error
    assert records("o") == before
    code, out, _ = run_cli("study", "status", "study.toml", "--out", "o")
    assert "the file has changed since:" in out

    code, out, _ = run_cli("study", "run", "study.toml", "--out", "o", "--fork", "f")
    assert code == 0
    assert "9 cells, 4 of them already; f" in out
    assert records("o") == before
    forked = records("f")
    with Store.read("o") as store:
        taken = {
            name
            for name, record in forked.items()
            if record.environment.get("taken_from") == store.run
        }
    assert taken == {*forked} & {*before}
    assert len(taken) == 4
    run_cli("study", "run", "study.toml", "--out", "fresh")
    ours, theirs = (Path(d, "result.json").read_text() for d in ("f", "fresh"))
    assert ours == theirs
    for name, record in records("fresh").items():
        assert record.sha256 == forked[name].sha256
    # The fork is a store like any other.
    assert run_cli("study", "run", "study.toml", "--out", "f")[0] == 0


def test_quite_another_study_is_told_in_a_few_words(folder, run_cli):
    run_cli("study", "run", "study.toml", "--out", "o")
    Path("climb.toml").write_text('name = "other"\nexperiment = "climb"')
    code, _, error = run_cli("study", "run", "climb.toml", "--out", "o")
    assert code == 1
    assert "--out o holds another study (toy, of the experiment toy@" in error
    assert "; this is other, of climb), and what is in it stays as it is; none" in error
    assert "--fork" not in error
    assert "given" not in error
    # Of the same name: parameters that only one experiment has are no changes.
    Path("climb.toml").write_text('name = "toy"\nexperiment = "climb"')
    code, _, error = run_cli("study", "run", "climb.toml", "--out", "o")
    assert code == 1
    assert "before it was changed (experiment: toy@" in error
    assert "→ climb; seeds: 1 removed)" in error


def test_tracebacks_of_failed_cells(folder, run_cli, monkeypatch):
    monkeypatch.setenv("TOY_BROKEN", "yes")
    _, _, error = run_cli("study", "run", "broken.toml", "--out", "o")
    assert "tracebacks: summiteer study status o --tracebacks" in error
    assert "Traceback" not in run_cli("study", "status", "o")[1]
    code, out, _ = run_cli("study", "status", "o", "--tracebacks")
    assert code == 0
    # One cell a seed; the error, and so the traceback, names the number.
    assert out.count("traceback of 2 cells:\nTraceback (most recent call last)") == 3
    assert out.count('raise RuntimeError(f"broken at {parameters.number}")') == 3
    status = json.loads(run_cli("study", "status", "o", "--json")[1])
    assert "in measure" in status["failures"][0]["traceback"]
    _, out, _ = run_cli("study", "run", "broken.toml", "--out", "o")
    assert "12 cells, 12 of them already (6 failed); o" in out
    _, out, _ = run_cli("study", "run", "broken.toml", "--out", "o", "--retry-failed")
    assert "12 cells, 6 of them already, 6 failed ones again; o" in out


def test_a_fork_measures_anew_what_is_damaged_or_of_other_versions(
    folder, run_cli, monkeypatch
):
    run_cli("study", "run", "study.toml", "--out", "o")
    truncated = Path("o/arrays/00001.safetensors")
    truncated.write_bytes(truncated.read_bytes()[:-1])
    Path("study.toml").write_text(STUDY.replace("[0, 1]", "[0, 1, 2]"))
    _, out, _ = run_cli("study", "run", "study.toml", "--out", "o", "--fork", "f")
    assert "9 cells, 5 of them already; f" in out
    assert len(records("f")) == 9
    changed = dict(environment()) | {"code": "changed"}
    with monkeypatch.context() as patch:
        patch.setattr("summiteer.studies.changes.environment", lambda: changed)
        _, out, _ = run_cli("study", "run", "study.toml", "--out", "o", "--fork", "g")
    assert "9 cells, 5 of them" not in out
    assert len(records("g")) == 9
    monkeypatch.setattr("summiteer.studies.study.__version__", "99.0")
    code, _, error = run_cli("study", "run", "study.toml", "--out", "f")
    assert code == 1
    assert f"version: {sm.__version__} → 99.0" in error
    assert "none of the 9 cells can be taken over from it; another --out" in error
    assert "--fork" not in error


def test_going_on_with_other_code_is_told(folder, run_cli, monkeypatch):
    run_cli("study", "run", "study.toml", "--out", "o")
    with Store.open("o", json.loads(Path("o/run.json").read_text())["spec"]) as store:
        name = min(store.names())
        store._connection.execute("DELETE FROM cells WHERE name = ?", (name,))
        store._connection.commit()
    changed = dict(environment()) | {"code": "changed"}
    monkeypatch.setattr("summiteer.studies.changes.environment", lambda: changed)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, out, error = run_cli("study", "run", "study.toml", "--out", "o")
    assert code == 0
    assert "5 cells in o were measured by other code" in out + error


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--out", "o", "--fork", "o"], "expected another directory than o"),
        (["--out", "nix", "--fork", "f"], "nix is not a run of Summiteer"),
        (["--out", "o", "--workers", "0"], "--workers: expected an integer ≥ 1"),
    ],
)
def test_options_that_cannot_be_used(folder, run_cli, options, told):
    run_cli("study", "run", "study.toml", "--out", "o")
    code, _, error = run_cli("study", "run", "study.toml", *options)
    assert code == 1
    assert told in error
    assert not Path("f").exists()


def test_places_without_a_study(folder, run_cli):
    code, _, error = run_cli("study", "status", "study.toml")
    assert code == 1
    assert "study.toml: is not begun in runs/study-toy" in error
    code, _, error = run_cli("study", "export", ".")
    assert code == 1
    assert "is not a run of Summiteer" in error
    with Store.open("a", {"command": "attack"}):
        pass
    for command in ("status", "export"):
        code, _, error = run_cli("study", command, "a")
        assert code == 1
        assert "holds the run of `summiteer attack`" in error
    code, _, error = run_cli("study", "run", "study.toml", "--out", "a")
    assert code == 1
    assert "belongs to another run" in error


def test_status_from_another_process_while_it_runs(folder):
    seen = []

    def look(done, total):
        if done == 2:
            words = [sys.executable, "-m", "summiteer", "study", "status", "o"]
            found = subprocess.run([*words, "--json"], capture_output=True, check=True)
            seen.append(json.loads(found.stdout))

    sm.run_study(sm.Study.load("study.toml"), "o", progress=look)
    (status,) = seen
    assert status["cells"] == {"planned": 6, "done": 2, "failed": 0, "missing": 4}
    assert status["at_work"] == f"process {os.getpid()} on {os.uname().nodename}"
    assert len(records("o")) == 6


def test_status_after_a_process_that_was_killed(folder, run_cli):
    sm.run_study(sm.Study.load("study.toml"), "o")
    child = subprocess.Popen([sys.executable, "-c", ""])
    child.wait()
    lock = Path("o/run.lock")
    lock.write_text(f"process {child.pid} on {os.uname().nodename}")
    assert "at work: nobody" in run_cli("study", "status", "o")[1]
    lock.write_text("process 1 on another-machine")
    out = run_cli("study", "status", "o")[1]
    assert "at work: process 1 on another-machine" in out


def test_the_example_is_a_study():
    study = sm.Study.load(HERE.parent / "examples" / "study.toml")
    assert len(study.cells()) == 12


def test_the_page_is_true(folder, capsys):
    page = (HERE.parent / "docs" / "studies.md").read_text()
    (file,) = re.findall(r"^```toml\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    Path("page.toml").write_text(file)
    assert len(sm.Study.load("page.toml").cells()) == 24
    first, own = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    exec(compile(first, "studies.md", "exec"), {})
    assert "StudyResult('small': 4 of 4 cells done" in capsys.readouterr().out
    Path("mine.py").write_text(own)
    study = sm.Study(name="own", experiment="mine.py:EXPERIMENT", seeds=[0, 1])
    result = sm.run_study(study, "own")
    assert len({record.values["value"] for record in result.records}) == 2
    listed = re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE)
    assert {*listed} == {*EXPERIMENTS}


def test_experiments_and_their_parameters_are_listed(folder, run_cli):
    code, out, _ = run_cli("study", "experiments")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [*EXPERIMENTS]
    out = run_cli("study", "experiments", "climb")[1]
    assert re.search(r"^  scale +1.0 +number > 0$", out, re.MULTILINE)
    assert re.search(r"^  method +\"paper\" +paper, normalised", out, re.MULTILINE)
    out = run_cli("study", "experiments", "toy.py:TOY")[1]
    assert "powers of a number" in out
    for name in EXPERIMENTS:
        assert run_cli("study", "experiments", name)[0] == 0
    code, _, error = run_cli("study", "experiments", "clim")
    assert code == 1
    assert "did you mean 'climb'?" in error


def test_two_commands_on_one_store(folder, run_cli):
    study = sm.Study.load("study.toml")
    with Store.open("o", study.specification()):
        code, _, error = run_cli("study", "run", "study.toml", "--out", "o")
    assert code == 1
    assert f"process {os.getpid()} on {os.uname().nodename}" in error
    assert run_cli("study", "run", "study.toml", "--out", "o")[0] == 0


@pytest.mark.parametrize("command", ["run", "status", "export"])
def test_a_store_of_a_newer_version(folder, run_cli, command):
    sm.run_study(sm.Study.load("study.toml"), "o")
    header = json.loads(Path("o/run.json").read_text())
    # Whatever else a newer version may write there.
    header |= {"schema": 99, "version": "9.9"}
    header["spec"]["study"] = {"other": "words"}
    Path("o/run.json").write_text(json.dumps(header))
    words = ["study.toml", "--out", "o"] if command == "run" else ["o"]
    code, _, error = run_cli("study", command, *words)
    assert code == 1
    assert "was written in schema 99 by summiteer 9.9" in error
    assert "upgrade" in error


def test_a_head_that_cannot_be_read(folder, run_cli):
    sm.run_study(sm.Study.load("study.toml"), "o")
    Path("o/run.json").write_text("{")
    for words in (("run", "study.toml", "--out", "o"), ("status", "o")):
        code, _, error = run_cli("study", *words)
        assert code == 1
        assert "run.json is not readable as the head of a run" in error
