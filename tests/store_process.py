"""What the tests of the store share.

Run as a script, this file is a helper process of those tests: it does their work in
forked children that may be killed, and so imports torch only once.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from summiteer import errors
from summiteer.cells import Cell
from summiteer.store import Store

SPEC = {"command": "attack", "radius": 0.5, "blocks": (0, 64)}


def cell(i):
    return Cell("attack", {"block": [64 * i, 64 * (i + 1)]})


def put(store, i):
    values = torch.arange(600, dtype=torch.float64).reshape(20, 30) / (i + 1)
    arrays = {"perturbations": values, "verdict": np.full(20, i % 7, dtype=np.int8)}
    store.put(cell(i), i, {"loss": i / 3}, arrays, {"verdict": '["FLAT"]', "b": str(i)})


def finish(directory, count, spec=SPEC):
    with Store.open(directory, spec) as store:
        finished = store.finished()
        for i in range(count):
            if cell(i).name not in finished:
                put(store, i)


def content(directory):
    """All that must not depend on how a run came to its end."""
    with Store.read(directory) as store:
        records = {
            name: (r.kind, r.spec, r.status, r.values, r.arrays, r.sha256)
            for name, r in store.finished().items()
        }
        assert not store.failed()
    files = {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name not in {"run.json", "store.sqlite"}
    }
    return records, files


def refusal(directory, spec=SPEC):
    with pytest.raises(errors.UserError) as caught:
        Store.open(directory, spec)
    text = str(caught.value)
    assert text.endswith(".")
    assert "\n" not in text
    return text


# What the helper process does.


class Killer:
    """Ends its own process at the n-th of the instants that matter."""

    def __init__(self, instant):
        self.left = instant
        for owner, name in [(os, "fsync"), (os, "replace"), (Store, "_insert")]:
            setattr(owner, name, self.around(getattr(owner, name)))

    def tick(self):
        if self.left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self.left -= 1

    def around(self, function):
        def wrapped(*arguments):
            self.tick()
            result = function(*arguments)
            self.tick()
            return result

        return wrapped


def answer(text):
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def child(task, directory, number):
    if task == "instant":
        Killer(number)
        finish(directory, 2)
    elif task == "finish":
        finish(directory, number)
        time.sleep(60)
    elif task == "hold":
        with Store.open(directory, SPEC):
            answer(os.getpid())
            time.sleep(60)
    elif task == "denied":
        if os.geteuid() == 0:
            os.setuid(65534)
        try:
            Store.open(directory, SPEC)
        except errors.UserError as error:
            answer(error)


def serve():
    for line in sys.stdin:
        task, directory, number, kill_after = json.loads(line)
        pid = os.fork()
        if pid == 0:
            child(task, Path(directory), number)
            os._exit(0)
        if kill_after is not None:
            files, seconds = kill_after
            while len(list(Path(directory).glob("arrays/*"))) < files:
                time.sleep(0.001)
            time.sleep(seconds)
            os.kill(pid, signal.SIGKILL)
        answer(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))


@pytest.fixture(scope="module")
def helper():
    """Gives a function that sends a task and reads one line of the answer."""
    pipe = subprocess.PIPE
    run = [sys.executable, __file__]
    with subprocess.Popen(run, stdin=pipe, stdout=pipe, text=True) as process:

        def ask(task=None, directory=None, number=0, kill_after=None):
            if task is not None:
                request = json.dumps([task, str(directory), number, kill_after])
                process.stdin.write(request + "\n")
                process.stdin.flush()
            return process.stdout.readline().strip()

        yield ask
        process.stdin.close()


if __name__ == "__main__":
    serve()
