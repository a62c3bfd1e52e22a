"""What workers cost: `python -m benchmarks.scaling`.

Two workers and two bare processes do the same study in turn, from the start of the
first process to the end of the last. The bare ones each take every second cell, with no
engine and no store. Then the overhead of a cell that does nothing.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.loops import mlp
from benchmarks.scaling_figures import problem
from summiteer._ascend import ascend
from summiteer.adversaries import AutoPGD
from summiteer.cells import Cell
from summiteer.driver import work_through
from summiteer.engine import Measurement, opened
from summiteer.store import Store

#: What is aimed at.
LEAST_THROUGHPUT, MOST_OVERHEAD = 0.9, 20.0
WORKERS = 2


def climb(cell: Cell) -> Measurement:
    """A cell of the study: AutoPGD on some examples of the two-layer network."""
    spec: Any = cell.spec
    some = problem(mlp, (1, 28, 28), spec["examples"], spec["seed"])
    ascent = ascend(some, AutoPGD(spec["steps"]), max_steps=spec["steps"])
    record = {"loss": float(ascent.losses.double().mean())}
    return Measurement(record, {"points": ascent.best})


def nothing(cell: Cell) -> Measurement:
    """A cell of which all is overhead, with a block's worth of small arrays."""
    spec: Any = cell.spec
    arrays = {f"a{i}": torch.full((20, 30), spec["seed"] + i) for i in range(8)}
    return Measurement({"seed": spec["seed"]}, arrays)


FUNCTIONS = {"climb": climb, "nothing": nothing}


@dataclass(frozen=True)
class Job:
    """A study: a function's name, how many cells, how much each of them does."""

    function: str
    cells: int
    examples: int = 16
    steps: int = 30

    def all_cells(self) -> list[Cell]:
        size = {"examples": self.examples, "steps": self.steps}
        return [Cell(self.function, {"seed": i, **size}) for i in range(self.cells)]


def bare(job: Job, which: int) -> None:
    """Every second cell, one after the other: no engine, no store."""
    for cell in job.all_cells()[which::WORKERS]:
        FUNCTIONS[job.function](cell)


def driven(job: Job, workers: int, out: Path) -> None:
    """All cells, by workers, into a store; prints times without the start."""
    with opened(workers) as engine, Store.open(out, asdict(job)) as store:
        ends: list[float] = []
        began, before = time.perf_counter(), time.process_time()
        work_through(
            store,
            enumerate(job.all_cells()),
            FUNCTIONS[job.function],
            engine,
            lambda _: ends.append(time.perf_counter() - began),
        )
        own = time.process_time() - before
    print(json.dumps({"first": ends[0], "last": ends[-1], "driver": own}))


@dataclass(frozen=True)
class Took:
    """Seconds by the wall, and what `driven` printed."""

    wall: float
    said: dict[str, float]


def timed(commands: list[list[str]]) -> Took:
    """Run processes side by side, from their start to the end of the last."""
    began = time.perf_counter()
    running = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scaling", *words],
            stdout=subprocess.PIPE,
            text=True,
        )
        for words in commands
    ]
    texts = [process.communicate()[0] for process in running]
    wall = time.perf_counter() - began
    if any(process.returncode for process in running):
        raise SystemExit("a process failed; what it said is above.")
    return Took(wall, json.loads(texts[0]) if texts[0] else {})


def by_bare(job: Job) -> Took:
    return timed([["--bare", str(i), *_words(job)] for i in range(WORKERS)])


def by_workers(job: Job, workers: int = WORKERS) -> Took:
    with tempfile.TemporaryDirectory() as folder:
        out = str(Path(folder) / "out")
        return timed([["--driven", str(workers), "--out", out, *_words(job)]])


def _words(job: Job) -> list[str]:
    return [f"--{name}={value}" for name, value in asdict(job).items()]


def throughput(job: Job, rounds: int) -> list[str]:
    """Two workers beside two bare processes, in turn."""
    pairs = []
    for number in range(rounds):
        first, second = (by_bare, by_workers)[:: 1 if number % 2 == 0 else -1]
        one, two = first(job), second(job)
        pairs.append((one, two) if number % 2 == 0 else (two, one))
    lines = [
        f"{job.cells} cells ({job.examples} examples, {job.steps} steps of AutoPGD on "
        f"784-256-10), {WORKERS} workers beside {WORKERS} bare processes:",
        "",
        "| round | bare: wall s | workers: wall s | throughput | driver CPU s |",
        "|---|---|---|---|---|",
    ]
    for number, (plain, ours) in enumerate(pairs):
        lines.append(
            f"| {number + 1} | {plain.wall:.1f} | {ours.wall:.1f} | "
            f"{plain.wall / ours.wall:.3f} | {ours.said['driver']:.1f} |"
        )
    ratio = statistics.median(plain.wall / ours.wall for plain, ours in pairs)
    verdict = "reached" if ratio >= LEAST_THROUGHPUT else "MISSED"
    aim = f"the aim ≥ {LEAST_THROUGHPUT} is {verdict}"
    return [*lines, "", f"median throughput, by the wall: {ratio:.3f}; {aim}."]


def overhead(cells: int) -> list[str]:
    """Per cell that does nothing: one process, and two workers."""
    lines = [
        "| cells that do nothing | ms per cell, wall | driver CPU ms | records/s |"
    ]
    lines.append("|---|---|---|---|")
    for workers in (1, WORKERS):
        took = by_workers(Job("nothing", cells), workers).said
        each = 1e3 * (took["last"] - took["first"]) / (cells - 1)
        name = "this process" if workers == 1 else f"{workers} workers"
        cpu = 1e3 * took["driver"] / cells
        lines.append(f"| {name} | {each:.1f} | {cpu:.1f} | {1e3 / each:.0f} |")
    aim = f"(aim: ≤ {MOST_OVERHEAD:.0f} ms; of workers their own start is not counted)"
    return [*lines, "", aim]


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cells", type=int, default=200)
    parser.add_argument("--examples", type=int, default=16)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--only", choices=("throughput", "overhead"))
    parser.add_argument("--function", choices=list(FUNCTIONS), default="climb")
    parser.add_argument("--bare", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--driven", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(1)
    job = Job(options.function, options.cells, options.examples, options.steps)
    if options.bare is not None:
        bare(job, options.bare)
        return
    if options.driven is not None:
        driven(job, options.driven, options.out)
        return
    load = " ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"load before: {load}; {os.cpu_count()} cores\n")
    parts = {
        "throughput": lambda: throughput(job, options.rounds),
        "overhead": lambda: overhead(options.cells),
    }
    for name, part in parts.items():
        if options.only in {None, name}:
            print("\n".join(part()) + "\n", flush=True)


if __name__ == "__main__":
    main()
