"""`summiteer attack` on MNIST's test images, beside foolbox and AutoAttack.

A convolutional network trained against PGD (`benchmarks/mnist_networks.py`), L∞ 0.1.
Each contestant is a process of its own, one thread, which starts, loads model and
images, and attacks.
"""

import json
import logging
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.mnist_networks import DATA, RECIPES, trained
from benchmarks.page import version
from benchmarks.section import Line, Section, table

ROOT = Path(__file__).parent.parent
RADIUS, BATCH = 0.1, 500
(RECIPE,) = (r for r in RECIPES if r.architecture == "conv" and r.radius)
#: Images of foolbox and ours, all there are; AutoAttack's take 0.8 s each.
EXAMPLES, AUTO_EXAMPLES = 10_000, 200
QUICK_EXAMPLES = 12
STEPS, RESTARTS = 50, 5
PEERS = ("foolbox", "pyautoattack")
FOOLBOX, AUTO = f"foolbox, PGD {STEPS} steps, {RESTARTS} starts", "AutoAttack, standard"


def network() -> nn.Module:
    """The network that is attacked."""
    return trained(RECIPE).requires_grad_(False)


def quick_network() -> nn.Module:
    """The same, hardly trained."""
    return trained(replace(RECIPE, images=500, epochs=1)).requires_grad_(False)


@dataclass(frozen=True)
class Took:
    """A process.

    Attributes:
        seconds: by the wall, from its start to its end.
        cpu: seconds of the processor.
        memory: MiB at its peak, all of it.
        robust: how many images are still classified rightly.
        examples: of how many.
    """

    seconds: float
    cpu: float
    memory: float
    robust: int
    examples: int

    def each(self, floor: "Took") -> float:
        """Seconds of the processor per image, without the start."""
        return (self.cpu - floor.cpu) / self.examples

    def cells(self, floor: "Took") -> tuple[str, ...]:
        """Of a line of the table; memory beyond what loading takes."""
        each = 1e3 * self.each(floor)
        return (
            str(self.examples),
            f"{self.seconds:.0f}",
            f"{self.cpu:.0f}",
            f"{each:.0f}",
            f"{self.memory:.0f}",
            f"{self.memory - floor.memory:.0f}",
            f"{self.robust} ({self.robust / self.examples:.1%})",
        )


#: `python -m`, and then the most memory that the process had. (What the system tells
#: about a child that has ended begins with its parent's.)
WATCHED = """
import runpy, sys
from benchmarks.fresh import resident
sys.argv = sys.argv[1:]
try:
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
finally:
    print(resident("VmHWM"), file=sys.stderr)
"""


def watched(module: str, *words: str) -> tuple[float, float, float, str]:
    """Wall and processor seconds, MiB at its peak, output of a process of its own."""
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as told:
        began = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-c", WATCHED, module, *words],
            stdout=output,
            stderr=told,
            cwd=ROOT,
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        for file in (output, told):
            file.seek(0)
        said, last = output.read().decode(), told.read().decode()
    if process.returncode:
        raise RuntimeError(f"{module} {' '.join(words)}: {last[-2000:]}")
    cpu = usage.ru_utime + usage.ru_stime
    return seconds, cpu, float(last.split()[-1]), said


def ours(factory: str, file: Path, examples: int) -> tuple[Took, dict[str, Any]]:
    """The command as a user runs it, page and all; and its result."""
    with tempfile.TemporaryDirectory() as folder:
        words = ["attack", f"benchmarks.attack:{factory}"]
        words += [str(file), "--norm", "linf", "--radius", str(RADIUS), "--json"]
        words += ["--limit", str(examples), "--out", f"{folder}/run"]
        *spent, said = watched("summiteer", *words)
    result = json.loads(said)
    return Took(*spent, result["survivors"]["examples"], examples), result


def peer(kind: str, factory: str, file: Path, examples: int) -> Took:
    """Another library's."""
    words = [kind, factory, str(file), str(examples)]
    *spent, said = watched("benchmarks.attack", *words)
    return Took(*spent, int(said.split()[-1]), examples)


def by_foolbox(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """`[n]` bool: misclassified at the end of one of its runs."""
    import foolbox as fb

    pgd = fb.attacks.LinfProjectedGradientDescentAttack(
        rel_stepsize=2.5 / STEPS, steps=STEPS, random_start=True
    )
    attack = pgd.repeat(RESTARTS)
    wrapped = fb.PyTorchModel(model, bounds=(0.0, 1.0))
    parts = zip(inputs.split(BATCH), labels.split(BATCH), strict=True)
    return torch.cat([attack(wrapped, x, y, epsilons=RADIUS)[2] for x, y in parts])


def by_auto_attack(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """`[n]` bool: misclassified where AutoAttack leaves it."""
    from pyautoattack import AutoAttack  # type: ignore[import-not-found]

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    whole = AutoAttack(model, norm="Linf", eps=RADIUS, seed=0, version="standard")
    points, _ = whole.run_standard_evaluation(inputs, labels, batch_size=BATCH)
    return torch.cat([model(x) for x in points.split(BATCH)]).argmax(1) != labels


def nothing(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """`[n]` bool: misclassified without attack."""
    return torch.cat([model(x) for x in inputs.split(BATCH)]).argmax(1) != labels


KINDS = {"nothing": nothing, FOOLBOX: by_foolbox, AUTO: by_auto_attack}


def main(kind: str, factory: str, file: str, examples: str) -> None:
    """In a process of its own: attack, print how many are left."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = globals()[factory]()
    with np.load(file) as data:
        inputs, labels = (torch.from_numpy(data[k]) for k in ("inputs", "targets"))
    wrong = KINDS[kind](model, inputs[: int(examples)], labels[: int(examples)])
    print(int((~wrong).sum()))


TEXT = """`summiteer attack` as a user runs it (standard effort: search, settling,
proofs, screen, page), one worker, on the first {examples} test images; a small
convolutional network trained against PGD, L∞ {radius}, box [0, 1]. Beside it foolbox
({steps} steps of 2.5 · radius / steps, {restarts} random starts) and AutoAttack's
standard version, on fewer images where it would take long. Each is a process of its
own, one thread, started once: seconds by the wall and of the processor, from its start
to its end; *per image* those of the processor without the start ("nothing": loads, and
asks the model once). What
ours does beside attacking: it says of each point what it is, proves a lower end of the
robust accuracy, looks what more steps flip.

{table}

The robust accuracy of these {examples} images is at most {robust} and at least {proved}
(proved).
"""


def measure(quick: bool) -> Section:
    """All contestants, one after the other, each once."""
    title = "`summiteer attack` on MNIST"
    if not (DATA / "mnist").is_dir():
        return Section(title, f"Not measured: there is no {DATA.name}/mnist.")
    examples = QUICK_EXAMPLES if quick else EXAMPLES
    factory = "quick_network" if quick else "network"
    globals()[factory]()  # trained now if need be
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "images.npz"
        write_images(file)
        floor = peer("nothing", factory, file, examples)
        made, result = ours(factory, file, examples)
        found = {"nothing": floor, "`summiteer attack`": made}
        for kind, package in ((FOOLBOX, "foolbox"), (AUTO, "pyautoattack")):
            if version(package):
                some = min(examples, AUTO_EXAMPLES) if kind == AUTO else examples
                found[kind] = peer(kind, factory, file, some)
    head = ("attack", "images", "s", "s of processor", "ms per image")
    head = (*head, "peak MiB", "beyond nothing", "robust")
    rows = [(name, *took.cells(floor)) for name, took in found.items()]
    text = TEXT.format(
        examples=examples,
        radius=RADIUS,
        steps=STEPS,
        restarts=RESTARTS,
        table=table(head, rows),
        robust=f"{result['robust_accuracy']:.1%}",
        proved=f"{result['proved_robust_accuracy'] or 0.0:.1%}",
    )
    return Section(title, text, lines(found, floor), PEERS)


def write_images(file: Path) -> None:
    """MNIST's test images in the network's shape."""
    import summiteer as sm

    data = sm.load_data(str(DATA / "mnist"))
    images = data.inputs.float().reshape(-1, 1, 28, 28).numpy()
    np.savez(file, inputs=images, targets=data.targets.numpy())


def lines(found: dict[str, Took], floor: Took) -> list[Line]:
    """Time and memory per image beside the others'."""
    made = found["`summiteer attack`"]
    aims = []
    for name in (FOOLBOX, AUTO):
        if name not in found:
            continue
        other = found[name]
        mine, its = made.each(floor), other.each(floor)
        memory = made.memory / other.memory
        aims.append(
            Line(
                f"`summiteer attack` of {made.examples} images beside {name}",
                "none",
                f"{mine / its:.2f} of its time (processor), {memory:.2f} of its memory",
                None,
            )
        )
    return aims


if __name__ == "__main__":
    main(*sys.argv[1:])
