"""How time and memory grow: with batch, restarts, d, m, steps, examples."""

import runpy
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

import summiteer as sm
from benchmarks import loops
from benchmarks.fresh import fresh
from benchmarks.page import cores
from benchmarks.section import Line, Section, table
from benchmarks.timing import slope

MOST = 1.05
REPEATS = 3
#: Where one quantity grows, the others are these; d is 784 times its number.
BASE = {"batch": 512, "restarts": 1, "d": 1, "m": 256, "steps": 20}
#: What grows, in which range: beyond what a step costs whatever it works on, and beyond
#: the second-level cache, which the smallest of them (512 inputs, 1.6 MB) about fills.
RANGES = {
    "batch": (512, 1024, 2048, 4096, 8192),
    "restarts": (1, 2, 4, 8, 16),
    "d": (1, 2, 4, 8, 16),
    "m": (256, 512, 1024, 2048, 4096),
    "steps": (20, 40, 80, 160, 320),
}
#: Examples streamed, how many numbers each has, and in blocks of how many.
STREAMED, WIDE, BLOCK = (10_000, 100_000), 600, 250
WORKERS = 2
#: The command, and then the most memory that its process had, in KiB.
COMMAND = """
from summiteer.cli import main
if __name__ == "__main__":
    try:
        main()
    finally:
        with open("/proc/self/status") as status:
            print(status.read().split("VmHWM:")[1].split()[0])
"""
MODEL = """
import torch

def linear():
    torch.manual_seed(0)
    return torch.nn.Linear({wide}, 2).eval()
"""


@dataclass(frozen=True)
class Grown:
    """What one quantity costs as it grows.

    Attributes:
        name: of the quantity.
        sizes: of it.
        seconds: of processor time.
        bare: those of a bare loop on as many rows.
        memory: MiB.
    """

    name: str
    sizes: tuple[int, ...]
    seconds: list[float]
    bare: list[float]
    memory: list[float]

    @property
    def time(self) -> float:
        """The slope of log time."""
        return slope(list(self.sizes), self.seconds)

    @property
    def bare_time(self) -> float:
        """The same slope of the bare loop."""
        return slope(list(self.sizes), self.bare)

    @property
    def space(self) -> float:
        """The slope of log memory."""
        return slope(list(self.sizes), self.memory)


def climbing(
    batch: int, restarts: int, d: int, m: int, steps: int
) -> Callable[[], list[float]]:
    """What `fresh` watches: constant signed steps on a ReLU network, float32.

    Beside them a bare loop's, whose memory, less than ours, does not show.
    """
    torch.manual_seed(0)
    dim = 784 * d
    model = nn.Sequential(nn.Linear(dim, m), nn.ReLU(), nn.Linear(m, 10)).eval()
    problem = sm.Problem(
        model.requires_grad_(False),
        torch.rand(batch, dim),
        torch.arange(batch) % 10,
        sm.CrossEntropy(),
        sm.LinfBall(0.05),
    )
    method = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.1 / steps))
    start = sm.UniformStart(restarts=restarts, seed=0)

    inputs, labels = (
        problem.inputs.repeat(restarts, 1),
        problem.targets.repeat(restarts),
    )
    case = loops.usual("linf", steps, model, inputs, labels)

    def run(some: sm.Problem, most: int) -> None:
        sm.ascend(some, method, start, most, tolerance=None, after_cycle="continue")

    def least(function: Callable[[], object]) -> float:
        times = []
        for _ in range(REPEATS):
            began = time.process_time()
            function()
            times.append(time.process_time() - began)
        return min(times)

    run(problem.take(torch.arange(8)), 2)
    return lambda: [least(lambda: run(problem, steps)), least(lambda: loops.bare(case))]


def grown(name: str, sizes: Sequence[int]) -> Grown:
    """One quantity grows, each time in a process of its own."""
    found = [fresh(__name__, "climbing", **{**BASE, name: size}) for size in sizes]
    ours, bare = ([f.value[k] for f in found] for k in (0, 1))
    return Grown(name, tuple(sizes), ours, bare, [f.memory for f in found])


def attacked(
    folder: Path, model: str, inputs: np.ndarray, block: int, *words: str
) -> tuple[float, float]:
    """Run the command in a process of its own: (seconds by the wall, MiB at its peak).

    Right labels, so that everything is attacked.
    """
    (folder / "command.py").write_text(COMMAND, encoding="utf-8")
    (folder / "model.py").write_text(MODEL.format(wide=WIDE), encoding="utf-8")
    made = runpy.run_path(str(folder / "model.py"))[model]()
    with torch.no_grad():
        labels = made(torch.from_numpy(inputs)).argmax(1)
    np.savez(folder / "data.npz", inputs=inputs, targets=labels.numpy())
    began = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=folder) as out:
        done = subprocess.run(
            [
                *(sys.executable, "command.py", "attack", f"model.py:{model}"),
                *("data.npz", "--no-screen", "--no-report", "--block-size", str(block)),
                *("--out", str(Path(out) / "run"), *words),
            ],
            cwd=folder,
            check=True,
            capture_output=True,
            text=True,
        )
    wall = time.perf_counter() - began
    return wall, int(done.stdout.split()[-1]) / 1024


def streamed(count: int, *words: str) -> tuple[float, float]:
    """(seconds, MiB): one step each, settled, examined and certified."""
    inputs = np.random.default_rng(0).random((count, WIDE), dtype=np.float32)
    words = ("--radius", "0.01", "--adversary", "mi-fgsm", "--steps", "1", *words)
    with tempfile.TemporaryDirectory() as folder:
        return attacked(
            Path(folder), "linear", inputs, BLOCK, "--restarts", "0", *words
        )


TEXT = """*Ascent*: constant signed steps from random starts on a 784-256-10 ReLU
network, float32, no stopping test, {base};
one of these at a time grows. Each point is a process of its own: processor time is the
least of {repeats} runs after a short one, memory what the process had at its peak
beyond what it held before the first of them. The smallest inputs, 1.6 MB, cost far more
than a step does whatever it works on, and do not fit into the cache together with what
is made of them. *Bare loop*: the same steps on as many rows, written by hand, in the
same process: its slope is what the passes themselves cost this machine.

{ascent}

*slope*: of the least-squares line through log cost against log size; 1 is linear.
Smaller ones have a part that does not depend on the quantity: with m the inputs and
gradients (784 numbers beside 256 to 4096), with d the hidden layer. With the steps
memory should not grow at all.{excess}

*Streaming*: `summiteer attack` of {wide} float32 numbers per example from an .npz file,
linear model, one step, then what every attack does: settling, 50 more steps,
certificates; blocks of {block}. Peak memory of the process, everything included:

{stream}

*Workers*: the {many:,} examples with `--workers {workers}`, a thread each, on this
machine's {cores} cores take {wall:.0f} s; linear is {ideal:.0f} s.
Throughput beside bare processes: [scaling.md](scaling.md), measured by
`python -m benchmarks.scaling`.
"""


HEAD = ("grows", "sizes", "CPU s", "slope", "bare loop", "slope", "MiB", "slope")


def grown_all(quick: bool) -> tuple[list[list[str]], list[Line], str]:
    """Rows of the table, lines of aims, and what is above them."""
    ranges = {"batch": RANGES["batch"][:2]} if quick else RANGES
    found = [grown(name, sizes) for name, sizes in ranges.items()]
    rows, lines, excess = [], [], ""
    for each in found:
        shown = [784 * size if each.name == "d" else size for size in each.sizes]
        rows.append(
            [
                each.name,
                ", ".join(map(str, shown)),
                ", ".join(f"{value:.2f}" for value in each.seconds),
                f"{each.time:.2f}",
                ", ".join(f"{value:.2f}" for value in each.bare),
                f"{each.bare_time:.2f}",
                ", ".join(f"{value:.0f}" for value in each.memory),
                f"{each.space:.2f}",
            ]
        )
        span = f"{shown[0]} to {shown[-1]}"
        worst = max(each.time, each.space)
        told = f"time {each.time:.2f}, memory {each.space:.2f}"
        what = f"`ascend`, log-log slope against {each.name}, {span}"
        lines.append(Line(what, f"≤ {MOST}", told, worst <= MOST))
        if worst > MOST:
            excess += (
                f" {each.name}: {told}, the bare loop's time {each.bare_time:.2f}."
            )
    if excess:
        excess = f" Above {MOST}:{excess}"
    return rows, lines, excess


def measure(quick: bool) -> Section:
    """Grow one thing after the other."""
    rows, lines, excess = grown_all(quick)
    few, many = (100, 500) if quick else STREAMED
    stream = [(count, *streamed(count)) for count in (few, many)]
    (_, _, small), (_, alone, large) = stream
    wall, _ = streamed(many, "--workers", str(WORKERS))
    grows = (large - small) * 2**20 / (many - few)
    lines.append(
        Line(
            f"peak memory of an attack on {many:,} examples beside {few:,}",
            "constant",
            f"{large:.0f} beside {small:.0f} MiB, {grows:.0f} bytes per example of "
            f"{4 * WIDE} bytes",
            large - small <= 0.1 * small,
        )
    )
    work = slope([1, WORKERS], [alone, WORKERS * wall])
    lines.append(
        Line(
            f"attack on {many:,} examples, workers × wall, log-log slope against "
            f"workers, 1 to {WORKERS}",
            f"≤ {MOST - 1:.2f}",
            f"{work:.2f}",
            work <= MOST - 1,
        )
    )
    text = TEXT.format(
        base=", ".join(f"{k} {784 * v if k == 'd' else v}" for k, v in BASE.items()),
        repeats=REPEATS,
        ascent=table(HEAD, rows),
        excess=excess,
        wide=WIDE,
        block=BLOCK,
        many=many,
        workers=WORKERS,
        cores=cores(),
        wall=wall,
        ideal=alone / WORKERS,
        stream=table(
            ("examples", "wall s", "MiB"),
            [(f"{n:,}", f"{wall:.0f}", f"{most:.0f}") for n, wall, most in stream],
        ),
    )
    return Section("How cost grows", text, lines)
