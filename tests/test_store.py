"""The store: round trips, refusals, and what is left when a process is killed."""

import errno
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import tempfile
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from store_process import SPEC, cell, content, finish, helper, put, refusal
from summiteer import errors
from summiteer._version import __version__
from summiteer.cells import digest
from summiteer.store import SCHEMA, Store

__all__ = ["helper"]  # a fixture


# Round trips.


def test_what_is_put_is_read_back(tmp_path):
    out = tmp_path / "deep" / "out"
    shared = torch.arange(12.0).reshape(3, 4)
    readonly = np.arange(3, dtype=">i4")
    readonly.setflags(write=False)
    arrays = {
        "whole": shared.requires_grad_(),
        "part": shared[:, ::2],
        "again": shared,
        "big_endian": readonly,
        "scalar": np.float32(2.5).reshape(()),
        "empty": torch.empty(0, 3, dtype=torch.bfloat16),
        "flags": np.array([True, False])[::-1],
    }
    with Store.open(out, SPEC) as store:
        store.put(cell(0), 0, {"loss": None, "n": (1, 2)}, arrays, {"names": "λ"})
        store.put(cell(1), 1, {"loss": 0.5})
        store.fail(cell(2), "ValueError: no")
        store.write_text("notes.txt", "λ\n")
        store.write_json("result.json", {"b": 1, "a": np.float64(0.5)})
    with Store.read(out) as store:
        assert (store.run, store.spec["blocks"]) == (digest(SPEC), [0, 64])
        assert list(store.finished()) == sorted([cell(0).name, cell(1).name])
        assert store.failed()[cell(2).name].values == {"error": "ValueError: no"}
        record = store.record(cell(0).name)
        assert record.values == {"loss": None, "n": [1, 2]}
        assert (record.kind, record.arrays) == ("attack", "00000.safetensors")
        assert record.spec == {"block": [0, 64]}
        assert record.environment["version"] == __version__
        assert {"python", "torch", "platform", "machine"} < record.environment.keys()
        assert datetime.fromisoformat(record.created).utcoffset().seconds == 0
        loaded = store.arrays(cell(0).name)
        assert loaded.keys() == arrays.keys()
        assert loaded["big_endian"].tolist() == [0, 1, 2]
        assert loaded["scalar"].shape == ()
        assert loaded["empty"].dtype == torch.bfloat16
        assert loaded["flags"].tolist() == [False, True]
        assert torch.equal(loaded["part"], shared[:, ::2])
        assert store.metadata(cell(0).name) == {"names": "λ"}
        assert store.arrays(cell(1).name) == {} == store.metadata(cell(1).name)
        with pytest.raises(KeyError):
            store.record("unknown")
    assert json.loads((out / "run.json").read_text()).keys() == {
        *("schema", "run", "spec", "version", "created")
    }
    assert (out / "result.json").read_text() == '{\n  "b": 1,\n  "a": 0.5\n}\n'
    assert (out / "notes.txt").read_bytes() == "λ\n".encode()


def test_a_run_is_resumed_and_gives_the_same_bytes(tmp_path):
    finish(tmp_path / "a", 2)
    head = (tmp_path / "a" / "run.json").read_bytes()
    finish(tmp_path / "a", 4)
    assert (tmp_path / "a" / "run.json").read_bytes() == head
    finish(tmp_path / "b", 4)
    assert content(tmp_path / "a") == content(tmp_path / "b")


def test_a_finished_cell_is_never_touched(tmp_path):
    with Store.open(tmp_path, SPEC) as store:
        store.fail(cell(0), "at first")
        store.fail(cell(0), "once more")
        put(store, 0)
        before = content(tmp_path)
        with pytest.raises(ValueError, match="it is finished"):
            store.put(cell(0), 5, {})
        with pytest.raises(ValueError, match="it is finished"):
            store.fail(cell(0), "late")
        with pytest.raises(ValueError, match=r"00000.safetensors, of cell \w+, is fin"):
            store.put(cell(1), 0, {}, {"x": torch.zeros(1)})
        with pytest.raises(ValueError, match="value"):
            store.put(cell(1), 1, {"loss": float("nan")}, {"x": torch.zeros(1)})
        assert content(tmp_path) == before


def test_a_reader_sees_a_run_that_is_going_on_and_cannot_write(tmp_path):
    with Store.open(tmp_path, SPEC) as store, Store.read(tmp_path) as reader:
        assert reader.finished() == {}
        put(store, 0)
        assert list(reader.finished()) == [cell(0).name]
        for write in (
            lambda: put(reader, 1),
            lambda: reader.fail(cell(1), "no"),
            lambda: reader.write_text("result.json", "{}"),
        ):
            with pytest.raises(ValueError, match=r"opened by Store.read"):
                write()
    with pytest.raises(ValueError, match="closed"):
        put(store, 1)
    names = {"arrays", "run.json", "run.lock", "store.sqlite"}
    finish(tmp_path, 1)
    Store.read(tmp_path).close()
    assert {path.name for path in tmp_path.iterdir()} == names


# Refusals.


def test_another_run_is_refused(tmp_path):
    finish(tmp_path, 1)
    before = content(tmp_path)
    text = refusal(tmp_path, {"command": "audit"})
    assert f"belongs to another run (id {digest(SPEC)}, command attack)" in text
    assert "choose another --out, or delete it" in text
    assert content(tmp_path) == before


def test_a_foreign_directory_is_refused_and_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    assert "holds files but no run.json" in refusal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(errors.UserError, match="is not a run of Summiteer"):
        Store.read(tmp_path)


def test_a_file_or_a_missing_run_is_refused(tmp_path):
    path = tmp_path / "out"
    path.write_text("x")
    assert refusal(path) == f"--out {path} is a file; name a directory."
    assert "Not a directory" in refusal(path / "below")
    for missing in (path, tmp_path / "nothing"):
        with pytest.raises(errors.UserError, match="is not a run of Summiteer"):
            Store.read(missing)


@pytest.mark.parametrize("head", ["", "{", "[]", '{"schema": 1}', '{"schema": "x"}'])
def test_a_broken_head_is_refused(tmp_path, head):
    (tmp_path / "run.json").write_text(head)
    assert "is not readable as the head of a run" in refusal(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run.json"]


def test_a_newer_schema_is_refused(tmp_path):
    finish(tmp_path, 1)
    path = tmp_path / "store.sqlite"
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {SCHEMA + 1}")
    connection.close()
    text = f"written in schema {SCHEMA + 1}, but summiteer {__version__} knows schema"
    assert f"{path} was {text} {SCHEMA}; upgrade" in refusal(tmp_path)
    with pytest.raises(errors.UserError, match="upgrade"):
        Store.read(tmp_path)
    path = tmp_path / "run.json"
    head = json.loads(path.read_text()) | {"schema": 7, "version": "9.9"}
    path.write_text(json.dumps(head))
    assert f"{path} was written in schema 7 by summiteer 9.9" in refusal(tmp_path)


def test_a_second_driver_is_refused_until_the_first_is_gone(tmp_path, helper):
    pid = int(helper("hold", tmp_path))
    assert f"in use by process {pid} on {os.uname().nodename};" in refusal(tmp_path)
    os.kill(pid, signal.SIGKILL)
    assert helper() == str(-signal.SIGKILL)
    with Store.open(tmp_path, SPEC):
        assert f"in use by process {os.getpid()} on" in refusal(tmp_path)
    finish(tmp_path, 1)


def test_an_unwritable_directory_is_refused(helper):
    folder = Path(tempfile.mkdtemp())  # not tmp_path, which other users cannot enter
    try:
        folder.chmod(0o555)
        for out in (folder, folder / "new"):
            text = helper("denied", out)
            assert str(out) in text
            assert "cannot be used: Permission denied; " in text
            assert helper() == "0"
        assert not list(folder.iterdir())
    finally:
        shutil.rmtree(folder)


# Damage.


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "altered"])
def test_a_damaged_arrays_file_is_done_again(tmp_path, damage):
    finish(tmp_path, 3)
    before = content(tmp_path)
    path = tmp_path / "arrays" / "00001.safetensors"
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        altered = whole[:-1] + bytes([whole[-1] ^ 1])
        path.write_bytes(
            {"truncated": whole[:-9], "empty": b"", "altered": altered}[damage]
        )
    with (
        Store.read(tmp_path) as store,
        pytest.raises(
            errors.UserError, match=r"00001.safetensors is missing or not as"
        ),
    ):
        store.arrays(cell(1).name)
    with pytest.warns(errors.SummiteerWarning, match=r"00001.safetensors is missing"):
        store = Store.open(tmp_path, SPEC)
    with store:
        assert store.finished().keys() == {cell(0).name, cell(2).name}
        put(store, 1)
    assert content(tmp_path) == before


def test_leftovers_are_removed_and_other_files_kept(tmp_path):
    finish(tmp_path, 2)
    before = content(tmp_path)
    left = ["arrays/00007.safetensors", "arrays/.00002.safetensors.partial"]
    left += [".result.json.partial"]
    for name in left:
        (tmp_path / name).write_bytes(b"half")
    (tmp_path / "arrays" / "mine.safetensors").write_bytes(b"")
    finish(tmp_path, 2)
    before[1]["arrays/mine.safetensors"] = b""
    assert content(tmp_path) == before


@pytest.mark.parametrize("damage", ["head", "middle", "truncated"])
def test_a_damaged_database_is_refused(tmp_path, damage):
    finish(tmp_path, 30)
    path = tmp_path / "store.sqlite"
    whole = bytearray(path.read_bytes())
    if damage == "truncated":
        del whole[-5000:]
    else:
        start = 0 if damage == "head" else 4096
        whole[start : start + 3000] = random.Random(0).randbytes(3000)
    path.write_bytes(whole)
    text = refusal(tmp_path)
    assert str(path) in text
    assert "put it back from a copy, or delete the directory" in text
    assert len(list((tmp_path / "arrays").iterdir())) == 30


@pytest.mark.parametrize("damage", ["missing", "empty"])
def test_a_lost_database_does_not_cost_the_arrays(tmp_path, damage):
    finish(tmp_path, 1)
    path = tmp_path / "store.sqlite"
    path.unlink()
    if damage == "empty":
        path.touch()
    assert "missing or empty, though arrays/ holds" in refusal(tmp_path)
    assert (tmp_path / "arrays" / "00000.safetensors").exists()


def test_a_run_without_records_yet_says_so(tmp_path):
    finish(tmp_path, 0)
    (tmp_path / "store.sqlite").write_bytes(b"")
    with pytest.raises(errors.UserError, match="holds no records yet"):
        Store.read(tmp_path)


# Full disk and locks.


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, monkeypatch, call):
    genuine = getattr(os, call)
    calls = {"left": 0}

    def full(*arguments):
        calls["left"] -= 1
        if calls["left"] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return genuine(*arguments)

    with Store.open(tmp_path, SPEC) as store:
        put(store, 0)
        store.write_text("result.json", "old")
        before = content(tmp_path)
        monkeypatch.setattr(os, call, full)
        for left in (0, 1) if call == "fsync" else (0,):
            calls["left"] = left
            with pytest.raises(errors.UserError, match="No space left on device; free"):
                put(store, 1)
            assert content(tmp_path) == before
        calls["left"] = 0
        with pytest.raises(
            errors.UserError, match=r"result.json cannot be used: No sp"
        ):
            store.write_text("result.json", "new")
        assert content(tmp_path) == before
        monkeypatch.undo()
        put(store, 1)
    assert len(content(tmp_path)[0]) == 2


def test_a_full_disk_before_the_run_has_begun(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    assert "free some space and start again" in refusal(tmp_path)
    monkeypatch.undo()
    finish(tmp_path, 1)


def test_a_full_database_leaves_nothing_half_written(tmp_path):
    with Store.open(tmp_path, SPEC) as store:
        put(store, 0)
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages}")
        before = content(tmp_path)
        record = {"long": "x" * 100_000}
        with pytest.raises(errors.UserError, match="is full; free some space"):
            store.put(cell(1), 1, record, {"x": torch.zeros(9)})
        assert content(tmp_path) == before


def test_a_database_that_another_program_locks(tmp_path):
    with Store.open(tmp_path, SPEC) as store:
        store._connection.execute("PRAGMA busy_timeout = 0")
        before = content(tmp_path)
        other = sqlite3.connect(tmp_path / "store.sqlite")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(errors.UserError, match="database is locked; let"):
            put(store, 0)
        assert content(tmp_path) == before
        other.close()
        put(store, 0)


def test_a_disk_that_is_really_full(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("only root can mount a small disk")
    if subprocess.run(mount, capture_output=True, check=False).returncode != 0:
        pytest.skip("this machine does not allow to mount a small disk")
    try:
        with pytest.raises(errors.UserError, match="free some space and start again"):
            finish(disk / "out", 60)
        with Store.read(disk / "out") as store:
            count = len(store.finished())
        assert 0 < count < 60
        larger = ["mount", "-o", "remount,size=8m", str(disk)]
        subprocess.run(larger, check=True, capture_output=True)
        finish(disk / "out", 60)
        finish(tmp_path / "undisturbed", 60)
        assert content(disk / "out") == content(tmp_path / "undisturbed")
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# Kills.


def test_twenty_kills_at_random_instants_change_nothing(tmp_path, helper):
    rng = random.Random(0)
    out, count, finished = tmp_path / "out", 150, set()
    for _ in range(20):
        # So many more cells, however slow the machine, and then some milliseconds.
        files = min(len(finished) + rng.choice([0, 0, 1, 2, 4]), count)
        after = files, rng.uniform(0.0, 0.02)
        assert helper("finish", out, count, after) == str(-signal.SIGKILL)
        with Store.open(out, SPEC) as store:
            now = set(store.finished())
        assert finished <= now
        finished = now
    assert finished
    finish(out, count)
    finish(tmp_path / "undisturbed", count)
    assert content(out) == content(tmp_path / "undisturbed")


def test_a_kill_at_every_instant_that_matters_changes_nothing(tmp_path, helper):
    finish(tmp_path / "undisturbed", 2)
    expected = content(tmp_path / "undisturbed")
    instant, counts = 0, []
    while helper("instant", out := tmp_path / str(instant), instant) != "0":
        with Store.open(out, SPEC) as store:
            counts.append(len(store.finished()))
        finish(out, 2)
        assert content(out) == expected
        instant += 1
    # Three calls for run.json, four for each cell, a tick before and after each call.
    assert counts == [0] * 13 + [1] * 8 + [2]
