"""How long a user waits before anything is attacked: processes started anew."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.section import Line, Section, table

#: Seconds that are allowed.
HELP, IMPORT, STEP = 0.3, 0.1, 0.2
EXAMPLES = 256
#: Loads, then steps: from the centre, a second time, and as by default (five starts).
FIRST = """
import json, sys, time
import torch
import summiteer as sm
ascend, centre, default = sm.ascend, sm.CentreStart(), None
kind, examples = sys.argv[1], int(sys.argv[2])
torch.manual_seed(0)
inputs = torch.rand(examples, 784)
if kind != "two":
    layers = torch.nn.Linear(784, 256), torch.nn.ReLU(), torch.nn.Linear(256, 10)
    model, targets = torch.nn.Sequential(*layers).eval(), torch.arange(examples) % 10
    rest = sm.CrossEntropy(), sm.LinfBall(0.1)
else:
    model = sm.TwoLayerNetwork.random(784, 256, "softplus", seed=0)
    inputs, targets = inputs.double(), torch.ones(examples).double()
    rest = sm.Quadratic(), sm.L2Ball(0.5)
loaded, took = set(sys.modules), []

def step(start):
    ascend(sm.Problem(model, inputs, targets, *rest), start=start, max_steps=1)

def bare(_):
    moved = inputs.clone().requires_grad_()
    torch.autograd.grad(model(moved).square().sum(), moved)

run = bare if kind == "bare" else step
for start in (centre, centre, default, default):
    began = time.perf_counter(), time.process_time()
    run(start)
    took.append((time.perf_counter() - began[0], time.process_time() - began[1]))
print(json.dumps({"took": took, "imports": len(set(sys.modules) - loaded)}))
"""
STEPS = ("first", "second", "first, five starts", "second, five starts")


@dataclass(frozen=True)
class Seconds:
    """Of each round."""

    wall: list[float]
    cpu: list[float]

    def cells(self) -> list[str]:
        """Medians with the least and the largest."""
        return [spread(self.wall), spread(self.cpu)]


def spread(values: Sequence[float]) -> str:
    """The median, and the least and the largest in brackets."""
    middle = statistics.median(values)
    return f"{middle:.3f} ({min(values):.3f}-{max(values):.3f})"


def process(words: Sequence[str]) -> tuple[str, float, float]:
    """Run a fresh process: what it printed, its wall and its CPU seconds."""
    # Where it is set, as some containers have it, all of torch is compiled each time.
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    began = time.perf_counter()
    done = subprocess.run(words, env=kept, check=True, capture_output=True, text=True)
    wall = time.perf_counter() - began
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return done.stdout, wall, used


def commands() -> dict[str, list[str]]:
    """What is started, by what it is called in the table."""
    script = str(Path(sys.executable).with_name("summiteer"))
    return {
        "`python -c pass`": [sys.executable, "-c", "pass"],
        "`summiteer --help`": [script, "--help"],
        "`import summiteer`": [sys.executable, "-c", "import summiteer"],
        "`import torch`": [sys.executable, "-c", "import torch"],
        "`import summiteer; summiteer.ascend` (imports torch)": [
            *(sys.executable, "-c", "import summiteer; summiteer.ascend")
        ],
    }


def starts(rounds: int) -> dict[str, Seconds]:
    """Each command once per round; a first call writes the compiled modules."""
    taken = {name: Seconds([], []) for name in commands()}
    for number in range(rounds + 1):
        for name, words in commands().items():
            _, wall, cpu = process(words)
            if number:
                taken[name].wall.append(wall)
                taken[name].cpu.append(cpu)
    return taken


def first_steps(kind: str, rounds: int) -> tuple[list[Seconds], int]:
    """(seconds of the four runs of one step, modules that the first of them loads)."""
    taken, imports = [Seconds([], []) for _ in STEPS], 0
    for _ in range(rounds):
        text, _, _ = process([sys.executable, "-c", FIRST, kind, str(EXAMPLES)])
        found = json.loads(text)
        imports = max(imports, found["imports"])
        for each, (wall, cpu) in zip(taken, found["took"], strict=True):
            each.wall.append(wall)
            each.cpu.append(cpu)
    return taken, imports


TEXT = """Processes started anew, in turns, {rounds} rounds after one that lets Python
keep the compiled modules; medians, with the least and the largest round. Where
PYTHONDONTWRITEBYTECODE is set, as in some containers, nothing is kept and whatever
imports torch takes seconds longer; it is taken out of the environment here.

{commands}

`import summiteer` loads no torch: its names are resolved when they are first used, and
then torch itself is what takes the time. `python -c pass` is part of every line.

*One step of ascent after load* (torch and the library imported, model and {examples}
inputs of 784 numbers in memory): `sm.ascend(problem, max_steps=1)`, with the making of
the `Problem`, from the centre and from the five starts that are the default; the first
run in the process beside the second, which does the same.

{steps}

The first run {imports}. What it takes beyond the second are first calls of torch's
functions, of which a bare pass makes few: under Python's profiler 1 to 2 ms each for
`vecdot`, `where`, `isfinite` and less for a dozen others.
"""


def measure(quick: bool) -> Section:
    """Start processes, and take steps in them."""
    rounds = 2 if quick else 9
    found = starts(rounds)
    lines = [
        _line(f"{name}, wall", found[name].wall, most)
        for name, most in (("`summiteer --help`", HELP), ("`import summiteer`", IMPORT))
    ]
    names = {
        "mlp": "784-256-10 ReLU, float32, L∞",
        "two": "784-256-1 softplus, float64, L2",
    }
    rows, imports = [], 0
    for kind, name in names.items():
        steps, more = first_steps(kind, rounds)
        imports = max(imports, more)
        for which, each in zip(STEPS, steps, strict=True):
            rows.append((name, which, *each.cells()))
        plain = first_steps("bare", rounds)[0] if kind == "mlp" else []
        for which, each in zip(STEPS[:2], plain, strict=False):
            rows.append(("no ascent: forward and backward", which, *each.cells()))
        lines.append(_line(f"first step after load, {name}", steps[0].wall, STEP))
    text = TEXT.format(
        rounds=rounds,
        examples=EXAMPLES,
        commands=table(
            ("process", "wall s", "CPU s"),
            [(name, *each.cells()) for name, each in found.items()],
        ),
        steps=table(("network", "run", "wall s", "CPU s"), rows),
        imports=f"loads {imports} more modules" if imports else "imports nothing more",
    )
    return Section("Start-up", text, lines)


def _line(what: str, seconds: Sequence[float], most: float) -> Line:
    told = f"≤ {most} s"
    return Line(what, told, f"{spread(seconds)} s", statistics.median(seconds) <= most)
