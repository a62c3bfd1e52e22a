"""The engine with workers: the same answers, whatever becomes of the workers."""

import itertools
import json
import os
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from chaos.cells import Work, begun, cells
from chaos.site import alive, until

from summiteer.cells import Cell
from summiteer.cli.running import told_plainly
from summiteer.driver import work_through
from summiteer.engine import Measurement, Serial, opened
from summiteer.engine import cluster as cluster_module
from summiteer.engine.worker import versions, worked
from summiteer.errors import SummiteerWarning, UserError
from summiteer.store import Store
from summiteer.studies.experiments import measured
from summiteer.studies.study import Study

#: The workers are started once.
pytestmark = pytest.mark.xdist_group("cluster")


class OddError(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, text):
        super().__init__(text)
        self.lock = threading.Lock()


def troubled(cell):
    """Fails in several ways, by the cell's number."""
    number = cell.spec["number"]
    if number == 1:
        raise UserError("radius: expected better.")
    if number == 2:
        raise OddError("odd")
    if number == 3:
        torch.zeros(2) @ torch.zeros(3)
    return Measurement({"threads": torch.get_num_threads()})


@pytest.fixture(scope="module")
def engine():
    with opened(2) as engine:
        yield engine


@pytest.fixture(scope="module")
def address(engine):
    return engine.client.scheduler.address


def by_number(completions):
    return {c.cell.spec["number"]: c for c in completions}


def test_the_answers_are_those_of_one_process(engine, tmp_path):
    work, count = Work(tmp_path / "log", pause=0.0), 30
    here = by_number(Serial().map_cells(work, cells(count)))
    there = by_number(engine.map_cells(work, cells(count)))
    assert here.keys() == there.keys() == set(range(count))
    for number, completion in there.items():
        mine, theirs = here[number].measurement, completion.measurement
        assert theirs.record == mine.record
        assert torch.equal(theirs.arrays["spectrum"], mine.arrays["spectrum"])
        assert completion.environment["threads"] == 1
        assert completion.environment["seconds"] >= 0
    pids = {pid for _, pid in begun(tmp_path / "log")}
    assert os.getpid() in pids
    assert 2 <= len(pids) <= 3


def test_errors_come_back_as_what_they_are(engine):
    found = by_number(engine.map_cells(troubled, cells(5)))
    assert [found[i].error is None for i in range(5)] == [1, 0, 0, 0, 1]
    assert type(found[1].error) is UserError
    assert str(found[1].error) == "radius: expected better."
    assert type(found[2].error) is RuntimeError
    assert str(found[2].error) == "OddError: odd"
    assert "in troubled" in found[3].trace
    assert found[4].measurement.record == {"threads": 1}


def test_a_failure_that_is_not_kept_stops_the_driver(engine, tmp_path):
    with Store.open(tmp_path / "out", {}) as store:
        todo = enumerate(cells(2))  # cell 2 fails too, and may come first
        with pytest.raises(UserError, match="expected better") as caught:
            work_through(store, todo, troubled, engine, keep_failures=False)
    assert "in troubled" in caught.value.__notes__[0]


def test_cells_are_taken_as_workers_become_free(engine, tmp_path):
    taken = itertools.count()
    waiting = (cell for cell in cells(1000) if next(taken) >= 0)
    answers = engine.map_cells(Work(tmp_path / "log", 0.0), waiting)
    for _ in range(10):
        next(answers)
    answers.close()
    # Two per worker on their way, and one more was taken before each answer.
    assert next(taken) <= 10 + 4


def test_a_lost_worker_costs_its_cells_only(engine, tmp_path):
    log = tmp_path / "log"
    answers = engine.map_cells(Work(log, pause=0.05), cells(40))
    found = [next(answers) for _ in range(5)]
    pid = begun(log)[-1][1]
    os.kill(pid, 9)
    with pytest.warns(SummiteerWarning, match=r"1 worker was lost while at work"):
        found += list(answers)
    assert sorted(by_number(found)) == list(range(40))
    assert len(found) == 40
    assert all(completion.error is None for completion in found)
    assert len(begun(log)) <= 44  # what was on its way, at most
    assert not alive(pid)


def test_a_cell_that_no_worker_survives_has_failed_and_its_neighbours_have_not(
    engine, tmp_path
):
    work = Work(tmp_path / "log", 0.0, deadly=(3,))
    with pytest.warns(SummiteerWarning, match="lost while at work"):
        found = by_number(engine.map_cells(work, cells(12)))
    failed = [number for number, c in found.items() if c.error is not None]
    assert (failed, len(found)) == ([3], 12)
    text = str(found[3].error)
    assert text.startswith("every worker that ran this cell was lost, in the end with")


def test_workers_with_other_versions_are_refused(engine, monkeypatch, tmp_path):
    newer = {**versions(), "torch": "99.0"}
    monkeypatch.setattr(cluster_module, "versions", lambda: newer)
    with pytest.raises(UserError, match=r"has torch 2\S+ where the driver has 99.0"):
        list(engine.map_cells(Work(tmp_path / "log"), cells(4)))
    assert not begun(tmp_path / "log")


def test_an_error_inside_the_worker_is_part_of_the_answer():
    completion = worked(troubled, Cell("chaos", {"number": 1}), versions())
    assert isinstance(completion.error, UserError)


# Opening.


@pytest.mark.parametrize("workers", [0, -1, 2.0, True, "2"])
def test_no_such_number_of_workers(workers):
    with pytest.raises(UserError, match="workers: expected an integer ≥ 1"):
        opened(workers).__enter__()


def test_a_scheduler_has_its_own_workers():
    with pytest.raises(UserError, match="give one of the two"):
        opened(2, "tcp://127.0.0.1:1").__enter__()


def test_one_worker_is_this_process(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with opened() as engine:
        assert engine == Serial()


def test_without_dask_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(UserError, match=r"pip install 'summiteer\[cluster\]'"):
        opened(2).__enter__()


@pytest.mark.parametrize("place", ["tcp://127.0.0.1:1", "nonsense", "ftp://x:1"])
def test_a_scheduler_that_does_not_answer(place, monkeypatch):
    monkeypatch.setattr("summiteer.engine.opening._ANSWER", 1)
    with pytest.raises(UserError, match=f"no Dask scheduler answers at {place}; exp"):
        opened(scheduler=place).__enter__()


def test_the_workers_of_a_scheduler_that_somebody_started(address, tmp_path):
    with opened(scheduler=address) as engine:
        found = by_number(engine.map_cells(Work(tmp_path / "log", 0.0), cells(6)))
    assert sorted(found) == list(range(6))
    # They are still there for their owner.
    assert all(alive(pid) for _, pid in begun(tmp_path / "log"))


def test_a_resource_that_no_worker_has_is_waited_for(address, monkeypatch, tmp_path):
    monkeypatch.setattr(cluster_module, "_LOOK", 0.2)
    monkeypatch.setattr(cluster_module, "_PATIENCE", 0.5)
    with (
        opened(scheduler=address, resources={"GPU": 1}) as engine,
        pytest.raises(SummiteerWarning, match=r"no worker .* GPU=1"),
    ):
        list(engine.map_cells(Work(tmp_path / "log"), cells(2)))


def test_workers_end_and_the_environment_is_as_it_was(tmp_path):
    before = dict(os.environ)
    with opened(2) as engine:
        list(engine.map_cells(Work(tmp_path / "log", 0.0), cells(4)))
    assert dict(os.environ) == before
    pids = [pid for _, pid in begun(tmp_path / "log")]
    until(lambda: not any(map(alive, pids)), "workers end")


# Studies and commands.


def test_a_study_is_the_same_by_two_workers(engine, tmp_path):
    fixed = {"examples": 2, "restarts": 1, "max_steps": 20, "width": 16}
    study = Study(name="s", experiment="climb", fixed=fixed, grid={"scale": [0.1, 1.0]})
    contents = []
    for name, by in (("one", Serial()), ("two", engine)):
        with Store.open(tmp_path / name, {"study": "s"}) as store:
            work_through(store, enumerate(study.cells()), measured, by)
            records = store.finished()
            contents.append({n: (r.values, r.sha256) for n, r in records.items()})
    assert contents[0] == contents[1]
    assert len(contents[0]) == 2


OPTIONS = ("--radius", "0.5", "--limit", "6", "--block-size", "2", "--no-screen")


def results(out):
    """Result, arrays as bytes."""
    result = json.loads((out / "result.json").read_text())
    del result["seconds"]
    return result, [path.read_bytes() for path in sorted(out.glob("arrays/*"))]


def test_attack_and_audit_are_the_same_by_workers(
    address, model_file, run_cli, tmp_path, monkeypatch
):
    monkeypatch.chdir(model_file.parent)
    model = f"{model_file.name}:classifier"
    steps = ("--steps", "3", "--restarts", "0", "--rivals", "1")
    for out, how in (("a", ()), ("b", ("--scheduler", address))):
        code, _, said = run_cli(
            "attack", model, "digits", *OPTIONS, *steps, "--out", out, *how
        )
        assert code == 0, said
    assert results(tmp_path / "a") == results(tmp_path / "b")
    inputs = torch.cat(
        [
            arrays["inputs"] + arrays["perturbations"]
            for arrays in _arrays(tmp_path / "a")
        ]
    )
    torch.save({"adv": inputs}, "adv.pt")
    for out, how in (("c", ()), ("d", ("--scheduler", address))):
        code, _, said = run_cli(
            "audit", model, "digits", "adv.pt", *OPTIONS, "--out", out, *how
        )
        assert code == 0, said
    assert results(tmp_path / "c") == results(tmp_path / "d")


def _arrays(out):
    with Store.read(out) as store:
        names = sorted(store.finished(), key=lambda n: store.record(n).spec["first"])
        return [store.arrays(name) for name in names]


def test_a_model_that_is_another_each_time_is_refused(
    address, run_cli, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    text = "from torch import nn\ndef net(): return nn.Linear(64, 10).eval()\n"
    (tmp_path / "random_net.py").write_text(text)
    words = ("attack", "random_net.py:net", "digits", *OPTIONS, "--out", "o")
    code, _, said = run_cli(*words, "--scheduler", address)
    assert code == 1
    assert "finds another model or other data" in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (("--workers", "0"), "--workers: expected an integer ≥ 1, got 0."),
        (("--workers", "2", "--scheduler", "tcp://x:1"), "give one of the two."),
        (("--workers", "2", "--plan"), "--workers: a plan runs in this process"),
    ],
)
def test_options_that_mean_nothing(run_cli, model_file, more, text):
    words = ("attack", f"{model_file}:classifier", "digits", "--radius", "0.5")
    code, _, said = run_cli(*words, *more)
    assert code == 1
    assert text in said


def test_a_property_is_one_example(run_cli, model_file):
    words = ("attack", f"{model_file}:classifier", "--property", "x.vnnlib")
    code, _, said = run_cli(*words, "--workers", "2")
    assert (code, "a --property is one example; leave" in said) == (1, True)


def test_no_warning_of_dask_reaches_the_caller(tmp_path):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with opened(2) as engine:
            list(engine.map_cells(Work(tmp_path / "log", 0.0), cells(4)))
    assert [str(warning.message) for warning in caught] == []


def test_the_command_line_tells_of_lost_workers_in_words(capsys):
    with told_plainly():
        warnings.simplefilter("always")
        warnings.warn("workers: 1 was lost.", SummiteerWarning, stacklevel=1)
    assert capsys.readouterr().err == "! workers: 1 was lost.\n"


def test_a_script_without_a_main_guard_is_told_so(tmp_path):
    """Its workers read it again, and find the store in use by the script itself."""
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import summiteer as sm\n"
        "study = sm.Study(name='s', experiment='climb', fixed={'width': 8})\n"
        f"sm.run_study(study, store={str(tmp_path / 'out')!r}, workers=2)\n"
    )
    ended = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=300
    )
    assert ended.returncode == 1
    assert "each of them runs your script once more" in ended.stderr
    assert 'under `if __name__ == "__main__":`' in ended.stderr.splitlines()[-1]
    assert "is in use" not in ended.stderr
