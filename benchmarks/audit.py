"""What screening and certificates cost beside the attack: `python -m benchmarks.audit`.

One thread, one process, seconds of processor time. The attack is `sm.attack` at
standard effort; the clock is stopped around each of its parts. The share is
(screen + certificates) / ascent, where certificates are verdicts and proved robust
accuracy.
"""

import argparse
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

import summiteer as sm
from benchmarks.mnist_networks import DATA, RECIPES, trained
from benchmarks.page import machine
from summiteer import _attack, _audit
from summiteer.networks.reference import digits_mlp

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks-audit.md"
INTRODUCTION = """# What screening and certificates cost

`python -m benchmarks.audit --write --examples {examples}`, one thread, {machine}.
Seconds of processor time; share = (screen + certificates) / ascent. The aim is at most
25 % for attacks; it is not reached where runs stop early or networks are small. An
audit ascends once from each given point and so has less to hide behind.

"""
HEAD = (
    "| model, region | command | ascent s | screen s | certificates s | share |\n"
    "|---|---|---|---|---|---|"
)

#: What is timed: the name in `_attack` and `_audit` -> the column it counts in.
PARTS = {
    "ascend": "ascent",
    "multi_targeted": "ascent",
    "snap": "ascent",
    "screen": "screen",
    "examined": "certificates",
    "proved_robustness": "certificates",
}


class Clock:
    """Seconds by column."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(PARTS.values(), 0.0)

    def around(self, function: Callable[..., Any], column: str) -> Callable[..., Any]:
        def timed(*arguments: Any, **options: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **options)
            finally:
                self.seconds[column] += time.process_time() - began

        return timed


def measured(module: ModuleType, run: Callable[[], None]) -> dict[str, float]:
    """Seconds by column while `run()` runs."""
    clock = Clock()
    with ExitStack() as stack:
        for name, column in PARTS.items():
            function = getattr(module, name, None)
            if function is not None:
                timed = clock.around(function, column)
                stack.enter_context(mock.patch.object(module, name, timed))
        run()
    return clock.seconds


def cases(count: int) -> Iterator[tuple[str, nn.Module, Tensor, Tensor, sm.Region]]:
    """Name, model, inputs, targets, region."""
    data = sm.load_data("digits")
    for region in (sm.LinfBall(0.1), sm.L2Ball(0.5)):
        inputs, targets = data.inputs[:count].float(), data.targets[:count]
        yield f"digits MLP, {shown(region)}", digits_mlp(), inputs, targets, region
    if not (DATA / "mnist").is_dir():
        print(f"MNIST: not measured, there is no {DATA / 'mnist'}")
        return
    images = sm.load_data(str(DATA / "mnist"))
    for recipe in RECIPES:
        for region in (sm.LinfBall(0.1), sm.L2Ball(1.0)):
            name = f"MNIST {recipe.name}, {shown(region)}"
            inputs, targets = images.inputs[:count], images.targets[:count]
            yield name, trained(recipe), inputs, targets, region


def shown(region: sm.Region) -> str:
    return f"{region.norm} {region.size:g}"


def line(name: str, what: str, seconds: dict[str, float]) -> str:
    ascent, screen = seconds["ascent"], seconds["screen"]
    certificates = seconds["certificates"]
    share = (screen + certificates) / ascent
    return (
        f"| {name} | {what} | {ascent:.2f} | {screen:.2f} | {certificates:.2f} "
        f"| {100 * share:.0f} % |"
    )


def both(
    name: str, model: nn.Module, inputs: Tensor, targets: Tensor, region: sm.Region
) -> list[str]:
    """Attack, then audit what the attack found."""
    attacked: list[sm.Attack] = []

    def attack() -> None:
        attacked.append(sm.attack(model, inputs, targets, region=region))

    def audit() -> None:
        adversarial = inputs + attacked[0].perturbations.to(inputs)
        sm.audit(model, inputs, targets, adversarial, region=region)

    lines = []
    for module, run in ((_attack, attack), (_audit, audit)):
        lines.append(line(name, run.__name__, measured(module, run)))
        print(lines[-1], flush=True)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.audit")
    parser.add_argument("--examples", type=int, default=200)
    parser.add_argument("--write", action="store_true", help=f"write docs/{PAGE.name}")
    options = parser.parse_args()
    warnings.simplefilter("ignore", sm.SummiteerWarning)
    torch.set_num_threads(1)
    lines = [HEAD]
    print(HEAD)
    for name, *given in cases(options.examples):
        lines += both(name, *given)
    if options.write:
        head = INTRODUCTION.format(examples=options.examples, machine=machine())
        PAGE.write_text(head + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
