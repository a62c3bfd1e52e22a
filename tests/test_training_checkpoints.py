"""Killed at any instant and taken up again, a training comes to the same end.

Run as a script, this file is the warm parent of those trainings: it imports torch once,
and each training is a forked child that dies of a real signal.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.training.checkpoint import Checkpoint
from summiteer.training.state import decoded, encoded

#: The warm parent and the undisturbed training are made once.
pytestmark = pytest.mark.xdist_group("checkpoints")
TIMES = ("seconds", "evaluation_seconds", "inner_seconds", "inner_cost")
EPOCHS = 4


def model():
    generator = torch.Generator().manual_seed(0)
    made = nn.Sequential(
        nn.Linear(64, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Dropout(0.2)
    )
    made.append(nn.Linear(12, 10))
    with torch.no_grad():
        for weight in made.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return made


def schedule(optimizer):
    return torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 3], 0.5)


def train(directory, **changes):
    data = sm.load_data("digits")
    inputs, labels = data.inputs.float(), data.targets
    settings = {
        "region": sm.LinfBall(0.1),
        "box": (0.0, 1.0),
        "max_steps": 2,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "schedule": schedule,
        "epochs": EPOCHS,
        "batch_size": 64,
        "held_out": (inputs[200:240], labels[200:240]),
        "watch": 2,
        "checkpoint": directory,
    }
    settings |= changes
    return sm.adversarial_training(model(), inputs[:200], labels[:200], **settings)


def outcome(result):
    """Everything that must be the same in every bit."""
    state = {name: value.tolist() for name, value in result.model.state_dict().items()}
    curves = {
        name: [None if np.isnan(v) else v for v in values.tolist()]
        for name, values in result.curves.items()
        if name not in TIMES
    }
    return json.loads(json.dumps([state, curves]))


@pytest.fixture(scope="module")
def undisturbed():
    return outcome(train(None))


class Trainings:
    """Starts trainings in the warm parent and waits for them."""

    def __init__(self, process):
        self.process = process

    def ask(self, *request):
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module")
def trainings():
    pipe = subprocess.PIPE
    run = [sys.executable, __file__]
    with subprocess.Popen(run, stdin=pipe, stdout=pipe, text=True) as process:
        yield Trainings(process)
        process.stdin.close()


#: Calls of os.fsync and os.replace before, or in place of, which it dies: around every
#: write of run.json and of the checkpoints, of each before and after the new name.
INSTANTS = [f"{call}:{n}" for n in range(4) for call in ("fsync", "replace")]


@pytest.mark.parametrize("instant", INSTANTS)
def test_killed_while_it_writes(trainings, undisturbed, tmp_path, instant):
    out = str(tmp_path / "out")
    assert trainings.ask("die", out, instant) == -signal.SIGKILL
    assert outcome(train(out)) == undisturbed


def test_killed_at_random_instants(trainings, undisturbed, tmp_path):
    """Again and again, until one that is left alone comes to the end."""
    out, draw, killed = str(tmp_path / "out"), random.Random(0), 0
    for _ in range(5):
        code = trainings.ask("kill", out, draw.uniform(0.0, 0.4))
        killed += code == -signal.SIGKILL
    assert killed
    assert outcome(train(out)) == undisturbed


def test_more_epochs_go_on_and_come_to_the_same(undisturbed, tmp_path):
    # The plan of looks depends on the number of epochs, the rest does not.
    changes = {"watch": 0}
    train(tmp_path, epochs=1, **changes)
    told = []
    longer = train(tmp_path, progress=told.append, **changes)
    assert [record.epoch for record in told] == [1, 2, 3, 4]
    assert outcome(longer)[0] == undisturbed[0]
    with pytest.raises(sm.UserError, match=r"epochs: expected at least 4"):
        train(tmp_path, epochs=3, **changes)


def test_finished_is_finished(undisturbed, tmp_path):
    first = train(tmp_path)
    before = sorted(path.stat().st_mtime_ns for path in tmp_path.glob("check*"))
    again = train(tmp_path)
    assert outcome(again) == outcome(first) == undisturbed
    assert again.records == first.records  # the times too: nothing was done
    assert before == sorted(p.stat().st_mtime_ns for p in tmp_path.glob("check*"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"learning_rate": 0.02}, "optimizer Adam"),
        ({"region": sm.LinfBall(0.2)}, "radius 0.1 there, 0.2 here"),
        ({"batch_size": 32}, "batch_size 64 there, 32 here"),
        ({"seed": 1}, "seed 0 there, 1 here"),
        ({"schedule": None}, "schedule MultiStepLR"),
        ({"max_steps": 3}, "max_steps 2 there, 3 here"),
        ({"held_out": None}, "held_out_digest"),
    ],
)
def test_other_settings_are_refused(begun, changes, said):
    with pytest.raises(sm.UserError, match="other settings") as error:
        train(begun, **changes)
    assert said in str(error.value)


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    out = tmp_path_factory.mktemp("begun")
    train(out, epochs=2)
    return out


def test_without_resume_nothing_is_gone_on_with(begun):
    with pytest.raises(sm.UserError, match="was begun; leave resume at True"):
        train(begun, resume=False)


def test_a_directory_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(sm.UserError, match="is not a run of Summiteer"):
        train(tmp_path)


def spoiled(path, how):
    content = path.read_bytes()
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "altered":
        path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    else:
        path.write_bytes(b"")


@pytest.mark.parametrize("how", ["truncated", "altered", "emptied"])
def test_of_a_damaged_checkpoint_the_other_one_is_used(undisturbed, tmp_path, how):
    train(tmp_path)
    newest = max(tmp_path.glob("check*"), key=lambda path: path.stat().st_mtime_ns)
    spoiled(newest, how)
    result = train(tmp_path)
    (message,) = result.messages
    assert str(newest) in message
    assert f"after epoch {EPOCHS - 1}" in message
    assert outcome(result) == undisturbed
    for path in tmp_path.glob("check*"):
        spoiled(path, how)
    with pytest.raises(sm.UserError, match="none can be used"):
        train(tmp_path)


def test_a_checkpoint_of_another_training_is_not_used(begun, tmp_path):
    out = tmp_path / "out"
    train(out, seed=5, epochs=2)
    for path in out.glob("check*"):
        path.write_bytes((begun / path.name).read_bytes())
    with pytest.raises(sm.UserError, match="it belongs to another training"):
        train(out, seed=5)


OPTIMIZERS = {
    "sgd": lambda w: torch.optim.SGD(w, 0.1),
    "momentum": lambda w: torch.optim.SGD(w, 0.1, momentum=0.9, nesterov=True),
    "adam": lambda w: torch.optim.Adam(w, 0.1, amsgrad=True),
    "adamw": lambda w: torch.optim.AdamW(w, torch.tensor(0.1)),
    "rmsprop": lambda w: torch.optim.RMSprop(w, 0.1, centered=True),
    "groups": lambda w: torch.optim.SGD(
        [{"params": w[:1], "lr": 0.5}, {"params": w[1:]}], 0.1
    ),
}
SCHEDULES = {
    "step": lambda o: torch.optim.lr_scheduler.StepLR(o, 2),
    "cosine": lambda o: torch.optim.lr_scheduler.CosineAnnealingLR(o, 5),
    "cycle": lambda o: torch.optim.lr_scheduler.OneCycleLR(o, 1.0, 10),
    "plateau": lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o),
    "milestones": lambda o: torch.optim.lr_scheduler.MultiStepLR(o, [1, 1, 3]),
    "chained": lambda o: torch.optim.lr_scheduler.SequentialLR(
        o,
        [
            torch.optim.lr_scheduler.LinearLR(o),
            torch.optim.lr_scheduler.StepLR(o, 2),
        ],
        [2],
    ),
}


@pytest.mark.parametrize(
    ("optimizer", "scheduled"),
    [*((name, "step") for name in OPTIMIZERS), *(("momentum", s) for s in SCHEDULES)],
)
def test_a_state_read_back_takes_the_same_steps(optimizer, scheduled):
    def step(network, optimiser, schedule):
        for weight in network.parameters():
            weight.grad = torch.sin(weight.detach() + 1)
        optimiser.step()
        plateau = scheduled == "plateau"
        schedule.step(*((1.0,) if plateau else ()))

    def fresh():
        network = model()
        optimiser = OPTIMIZERS[optimizer](list(network.parameters()))
        return network, optimiser, SCHEDULES[scheduled](optimiser)

    one, other = fresh(), fresh()
    for _ in range(3):
        step(*one)
    content = Checkpoint.of(*one, ()).as_bytes("run")
    Checkpoint.read(content, "run").restore(*other)
    for _ in range(3):
        step(*one)
        step(*other)
    pairs = zip(one[0].parameters(), other[0].parameters(), strict=True)
    assert all(torch.equal(left, right) for left, right in pairs)
    rates = [[g["lr"] for g in made[1].param_groups] for made in (one, other)]
    assert rates[0] == rates[1]


def test_what_needs_a_pickle_is_refused_before_the_start(tmp_path):
    class Odd(torch.optim.SGD):
        def state_dict(self):
            return super().state_dict() | {"since": object()}

    with pytest.raises(sm.UserError, match="since is a object, which is not written"):
        train(tmp_path, optimizer=lambda weights: Odd(weights, 0.1))


def test_what_has_no_state_is_refused(tmp_path):
    class Bare:
        def __init__(self, weights):
            self.step = self.zero_grad = lambda: None

    with pytest.raises(sm.UserError, match="Bare has no state_dict"):
        train(tmp_path, optimizer=Bare, schedule=None)


def test_values_come_back_as_they_were():
    value = {"a": (1, 2.5, None), 3: [True, "x", float("inf")], "t": torch.ones(2)}
    tensors = {}
    text = json.dumps(encoded(value, tensors, "x"))
    back = decoded(json.loads(text), tensors)
    assert back["t"] is value["t"]
    del back["t"], value["t"]
    assert back == value
    assert [type(key) for key in back] == [str, int]


def _serve():
    """The warm parent: fork a training, kill it or let it kill itself."""
    torch.set_num_threads(1)
    train(None, epochs=1)
    for line in sys.stdin:
        what, out, how = json.loads(line)
        pid = os.fork()
        if not pid:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            if what == "die":
                _die(*how.split(":"))
            train(out)
            os._exit(0)
        if what == "kill":
            time.sleep(how)
            os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        sys.stdout.write(json.dumps(os.waitstatus_to_exitcode(status)) + "\n")
        sys.stdout.flush()


def _die(call, number):
    """Let this process die before the call of that number, counted from 0."""
    real, left = getattr(os, call), [int(number)]

    def counted(*args, **options):
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= 1
        return real(*args, **options)

    setattr(os, call, counted)


if __name__ == "__main__":
    _serve()
