"""What docs/scaling.md plans with: `python -m benchmarks.scaling_figures`.

CPU time on one thread: of a gradient step per example, of a certificate per example;
bytes that a run of an example holds, and that it leaves on the disk.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.loops import conv, mlp
from summiteer._ascend import ascend
from summiteer.adversaries import AutoPGD
from summiteer.cells import Cell
from summiteer.memory import row_bytes
from summiteer.objectives import CrossEntropy
from summiteer.optimality import local_optimality
from summiteer.population import Population
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.runs import attack_command, measured_block
from summiteer.searching import EFFORTS
from summiteer.settings import Settings
from summiteer.store import Store


class Bottleneck(nn.Module):
    """Three convolutions beside a shortcut."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(nn.Conv2d(given, width, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False),
            *(nn.BatchNorm2d(width), nn.ReLU()),
            *(nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)),
        )
        same = stride == 1 and given == 4 * width
        self.shortcut: nn.Module = nn.Identity()
        if not same:
            self.shortcut = nn.Sequential(
                nn.Conv2d(given, 4 * width, 1, stride=stride, bias=False),
                nn.BatchNorm2d(4 * width),
            )

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.branch(inputs) + self.shortcut(inputs))


def resnet50() -> nn.Module:
    """The 50 layers of residual networks on 3×224×224, untrained: 25.6 M weights."""
    layers: list[nn.Module] = [
        nn.Conv2d(3, 64, 7, stride=2, padding=3, bias=False),
        *(nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
    ]
    given = 64
    for width, depth, stride in ((64, 3, 1), (128, 4, 2), (256, 6, 2), (512, 3, 2)):
        for place in range(depth):
            layers.append(Bottleneck(given, width, stride if place == 0 else 1))
            given = 4 * width
    return nn.Sequential(
        *layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(given, 1000)
    )


def problem(
    make: Callable[[], nn.Module], shape: tuple[int, ...], n: int, seed: int = 0
) -> Problem:
    """Random model and images in an L2 ball, labelled as the model does."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model, inputs = make().eval(), torch.rand(n, *shape)
    with torch.no_grad():
        targets = model(inputs).argmax(1)
    return Problem(model, inputs, targets, CrossEntropy(), L2Ball(0.5), box=(0.0, 1.0))


def seconds(function: Callable[[], Any], repeats: int) -> float:
    """Least CPU seconds of a few calls."""
    times = []
    for _ in range(repeats):
        began = time.process_time()
        function()
        times.append(time.process_time() - began)
    return min(times)


def step(some: Problem, steps: int, repeats: int) -> float:
    """CPU seconds of one gradient step of one example, in a run of AutoPGD."""

    def run(most: int) -> Any:
        return ascend(some, AutoPGD(most), max_steps=most, tolerance=None)

    run(1)
    count = int(run(steps).gradient_evaluations)
    return seconds(lambda: run(steps), repeats) / count


def disk(some: Problem) -> tuple[float, float]:
    """Bytes per example of an attack's arrays file, and CPU ms per example."""
    settings = Settings(
        some.region, some.box, some.objective, EFFORTS["standard"], AutoPGD(10)
    )
    command = attack_command(Population.of(some), settings)
    cell = Cell("attack", {"run": "x", "first": 0, "count": len(some.inputs)})
    began = time.process_time()
    done = measured_block(command, cell)
    took = time.process_time() - began
    with tempfile.TemporaryDirectory() as folder:
        with Store.open(folder, {}) as store:
            store.put(cell, 0, done.record, done.arrays, done.metadata)
        (file,) = Path(folder).glob("arrays/*")
        return file.stat().st_size / len(some.inputs), 1e3 * took / len(some.inputs)


def main() -> None:
    torch.set_num_threads(1)
    print(
        "| network, inputs | gradient step, ms per example | bytes that one run holds "
        "| certificate, ms per example | bytes per example on disk |\n"
        "|---|---|---|---|---|"
    )
    cases = (
        ("784-256-10 ReLU", mlp, (1, 28, 28), 256, 20, 5),
        ("conv 16-32, 100-10", conv, (1, 28, 28), 256, 20, 5),
        ("ResNet-50", resnet50, (3, 224, 224), 2, 1, 2),
    )
    for name, make, shape, count, steps, repeats in cases:
        some = problem(make, shape, count)
        each, held = step(some, steps, repeats), row_bytes(some)
        proof, left = "not measured", "not measured"
        if count > 2:
            few = some.take(torch.arange(8))
            points = ascend(few, AutoPGD(20), max_steps=20).best
            took = seconds(lambda few=few, at=points: local_optimality(few, at), 2)
            proof, left = f"{1e3 * took / 8:.1f}", f"{disk(few)[0]:.0f}"
        shown = f"{name}, {'×'.join(map(str, shape))}"
        row = (shown, f"{1e3 * each:.4f}", f"{held:,}", proof, left)
        print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
