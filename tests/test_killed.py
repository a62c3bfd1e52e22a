"""The same command, killed and interrupted at random instants, comes to the same end.

Run as a script, this file is the warm parent of those commands: it imports everything
once, and each command is a forked child in a process group of its own, which runs the
command line from its arguments to its exit code and dies of a real signal.
"""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from summiteer.errors import UserError
from summiteer.store import Store

#: The warm parent and the undisturbed run are made once.
pytestmark = pytest.mark.xdist_group("killed")
MODEL = Path(__file__).parents[1] / "examples" / "model.py"
#: Of one example each.
BLOCKS = 16
OPTIONS = ("--norm", "linf", "--radius", "0.1", "--box", "0,1", "--block-size", "1")
OPTIONS += ("--steps", "4", "--restarts", "0", "--rivals", "2")
KILLS = 20
#: Longer than a command ever takes; nothing is measured by it.
PATIENCE = 100.0


def arguments(out, weights, data):
    """`summiteer attack` on a few digits."""
    files = (f"{MODEL}:build_untrained", str(data), "--weights", str(weights))
    return ["attack", *files, *OPTIONS, "--out", str(out)]


class Commands:
    """Starts commands in the warm parent and waits for them."""

    def __init__(self, process, folder):
        self.process, self.folder = process, folder
        self.files = [str(folder / name) for name in ("w.safetensors", "data.npz")]
        self.ask("prepare", *self.files)

    def ask(self, *request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, out):
        """The process id of `summiteer attack`, at work in `out`."""
        command = arguments(out, *self.files)
        return self.ask("start", command, str(self.folder / "said"))

    def end(self, pid):
        """(exit code, or minus the signal; stdout and stderr)."""
        code = self.ask("wait", pid)
        return code, *((self.folder / f"said.{n}").read_text() for n in (1, 2))


@pytest.fixture(scope="module")
def commands(tmp_path_factory):
    pipe = subprocess.PIPE
    run = [sys.executable, __file__]
    with subprocess.Popen(run, stdin=pipe, stdout=pipe, text=True) as process:
        yield Commands(process, tmp_path_factory.mktemp("commands"))
        process.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(commands, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    code, _, said = commands.end(commands.start(out))
    assert code == 0, said
    return content(out)


def content(out):
    """All that must not depend on how the run came to its end."""
    files = {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in out.rglob("*")
        # The page is made of the others, and says how long they took; the command
        # names the directory.
        if path.is_file() and path.name not in {"report.html", "command.json"}
    }
    result = json.loads(files.pop("result.json"))
    assert result.pop("seconds") > 0
    header = json.loads(files.pop("run.json"))
    del header["created"]
    with sqlite3.connect(out / "store.sqlite") as connection:
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        names = "name, kind, spec, status, arrays, sha256, record"
        rows = connection.execute(f"SELECT {names} FROM cells ORDER BY name").fetchall()
    connection.close()
    cells = [
        (*row[:-1], {k: v for k, v in json.loads(row[-1]).items() if k != "seconds"})
        for row in rows
    ]
    del files["store.sqlite"], files["run.lock"]
    return result, header, cells, files


def assert_same(left, right):
    for a, b in zip(left, right, strict=True):
        if isinstance(a, dict):
            assert a.keys() == b.keys()
            assert not {name: (a[name], b[name]) for name in a if a[name] != b[name]}
        assert a == b


def finished(out):
    """The cells that are recorded, with the arrays file of each as it lies there."""
    if not (out / "run.json").exists():
        return {}
    try:
        with Store.read(out) as store:
            records = store.finished()
    except UserError as error:
        assert "holds no records yet" in str(error)  # noqa: PT017
        return {}
    known = {}
    for name, record in records.items():
        known[name] = (record.created, record.sha256)
        if record.arrays:
            state = (out / "arrays" / record.arrays).stat()
            known[name] += (state.st_ino, state.st_mtime_ns)
    return known


def wait_for(out, files):
    """Until so many arrays are there."""
    deadline = time.monotonic() + PATIENCE
    while len(list(out.glob("arrays/*.safetensors"))) < files:
        assert time.monotonic() < deadline, "the command makes no progress"
        time.sleep(0.001)


def test_the_undisturbed_run_is_what_it_should_be(undisturbed):
    result, _, cells, files = undisturbed
    assert result["examples"] == BLOCKS
    assert 0 < result["robust_accuracy"] < result["clean_accuracy"]
    assert len(cells) == BLOCKS + 1  # the screen
    assert set(files) == {f"arrays/{i:05d}.safetensors" for i in range(BLOCKS)}
    # Codes come with the names that they stand for.
    first = files["arrays/00000.safetensors"]
    head = json.loads(first[8 : 8 + int.from_bytes(first[:8], "little")])
    tables = json.loads(head["__metadata__"]["metadata"])
    assert "escapes" in json.loads(tables["source"])
    assert "broken" in json.loads(tables["stopped"])


def test_twenty_kills_change_nothing(commands, undisturbed, tmp_path):
    rng = random.Random(0)
    out, known, done = tmp_path / "out", {}, 0
    for number in range(KILLS):
        pid = commands.start(out)
        if number % 5 == 0:  # on the way from the arguments to the first block
            time.sleep(rng.uniform(0.0, 0.4))
        else:
            wait_for(out, min(len(known) + rng.choice([0, 0, 1]), BLOCKS - 1))
            time.sleep(rng.uniform(0.0, 0.2))
        os.killpg(pid, signal.SIGKILL)
        code, printed, _ = commands.end(pid)
        assert code == -signal.SIGKILL
        assert "robust accuracy" not in printed  # it was not at its end
        now = finished(out)
        # Nothing lost, and nothing done again: the very files.
        assert now.items() >= known.items()
        done += len(now) > len(known)
        known = now
    assert done >= 3
    code, printed, said = commands.end(commands.start(out))
    assert code == 0, said
    assert f"{len(known)} parts are done already" in printed
    assert finished(out).items() >= known.items()
    assert_same(content(out), undisturbed)
    # Once more: there is nothing left to do.
    known, result = finished(out), (out / "result.json").read_bytes()
    code, printed, _ = commands.end(commands.start(out))
    assert (code, finished(out)) == (0, known)
    assert f"{BLOCKS + 1} parts are done already" in printed
    assert (out / "result.json").read_bytes() == result


def test_control_c_keeps_what_is_done(commands, undisturbed, tmp_path):
    rng = random.Random(1)
    out, known = tmp_path / "out", {}
    for wait in (0, 1, 3):
        pid = commands.start(out)
        if wait:
            wait_for(out, len(known) + wait)
        time.sleep(rng.uniform(0.0, 0.2))
        os.killpg(pid, signal.SIGINT)
        code, printed, said = commands.end(pid)
        assert code == 130, said
        assert "robust accuracy" not in printed
        assert len(said.splitlines()) == 1
        assert said.startswith("interrupted")
        assert not wait or said.rstrip().endswith(
            "what is finished is kept; the same command goes on from it."
        )
        now = finished(out)
        assert now.items() >= known.items()
        known = now
    assert len(known) >= 4
    code, _, said = commands.end(commands.start(out))
    assert code == 0, said
    assert finished(out).items() >= known.items()
    assert_same(content(out), undisturbed)


# What the warm parent does.


def prepare(weights, data):
    """The weights of examples/model.py, a few digits, and all imports."""
    import contextlib

    import numpy as np
    from safetensors.torch import save_file

    from summiteer.data import load_data
    from summiteer.networks.reference import digits_mlp

    save_file(digits_mlp().state_dict(), weights)
    digits = load_data("digits")
    inputs, targets = (x[:BLOCKS].numpy() for x in (digits.inputs, digits.targets))
    np.savez(data, inputs=inputs, targets=targets)
    # One command in this process itself.
    from summiteer import cli

    out = Path(weights).with_name("warm")
    sys.argv = ["summiteer", *arguments(out, weights, data), "--limit", "1"]
    with contextlib.redirect_stdout(sys.stderr), contextlib.suppress(SystemExit):
        cli.main()


def attack(command, said, ready):
    """A command from its arguments to its exit code, in a forked child."""
    from summiteer import cli

    for number in (1, 2):
        file = os.open(f"{said}.{number}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, number)
    sys.argv = ["summiteer", *command]
    code = 70  # of anything but an exit
    os.close(ready)
    try:
        cli.main()
    except SystemExit as stop:
        code = int(stop.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def start(command, said):
    """The process id of a command that is about to read its arguments."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        # A shell's background jobs inherit that Ctrl-C is ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        attack(command, said, write)
    os.close(write)
    os.read(read, 1)  # nothing, when the child closes its end
    os.close(read)
    return pid


def serve():
    import torch

    torch.set_num_threads(1)
    tasks = {"prepare": prepare, "start": start}
    tasks["wait"] = lambda pid: os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    for line in sys.stdin:
        task, *rest = json.loads(line)
        sys.stdout.write(json.dumps(tasks[task](*rest)) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    serve()
