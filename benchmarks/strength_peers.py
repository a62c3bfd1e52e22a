"""What other libraries' ascents reach, at a number of gradient evaluations.

Constant steps of 2.5 · radius / steps (Madry et al. 2018), and APGD with its own step
sizes; each from a random point, and from the centre. Points are kept by nobody, losses
are: under out/strength, by the digest of model, data, settings and versions.
"""

import json
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.page import version
from benchmarks.peers import Attack, Case, apgd, art, foolbox, torchattacks
from benchmarks.strength_settings import Setting
from summiteer.cells import digest

KEPT = Path(__file__).parent.parent / "out" / "strength"
STARTS = ("random", "centre")
#: How far outside a point may lie before it counts as no point of the region.
_NOISE = 1e-5


@dataclass(frozen=True)
class Reached:
    """What one attack reached.

    Attributes:
        losses: `[examples]` cross-entropy at the points returned, in float64.
        evaluations: gradients by rows, all together.
        seconds: of processor time.
    """

    losses: list[float]
    evaluations: int
    seconds: float

    @property
    def mean(self) -> float:
        """Of the losses."""
        return sum(self.losses) / len(self.losses)


def step_size(setting: Setting, steps: int) -> float:
    """2.5 · radius / steps; the radius where that would be longer."""
    return min(1.0, 2.5 / steps) * setting.radius


ATTACKS: dict[str, Attack] = {
    "foolbox": foolbox,
    "torchattacks": torchattacks,
    "ART": art,
    "APGD": apgd,
}


def case_of(setting: Setting, steps: int, random: bool) -> Case:
    """What a contestant is given."""
    return Case(
        setting.norm,
        setting.radius,
        steps,
        step_size(setting, steps),
        setting.model,
        setting.inputs,
        setting.labels,
        random,
    )


def reached(
    name: str, start: str, setting: Setting, steps: int, compute: bool
) -> Reached | None:
    """What a contestant reached; None where that is not known and not to be computed.

    Args:
        name: of `ATTACKS`.
        start: of `STARTS`.
        setting: what is attacked.
        steps: of the attack, each with one gradient evaluation.
        compute: whether to run what no file tells.
    """
    said = setting.said() | {"attack": [name, start, steps, step_size(setting, steps)]}
    file = KEPT / f"{digest(said)}.json"
    if file.exists():
        kept = json.loads(file.read_text())["reached"]
        return Reached(**kept)
    if not compute or version(name) is None:
        return None
    made = _run(name, start, setting, steps)
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(
        json.dumps({"of": said, "version": version(name), "reached": vars(made)})
    )
    part.rename(file)
    return made


def _run(name: str, start: str, setting: Setting, steps: int) -> Reached:
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of peers' imports
        torch.manual_seed(0)
        began = time.process_time()
        points = ATTACKS[name](case_of(setting, steps, start == "random")).detach()
        seconds = time.process_time() - began
    own = 1 if name == "APGD" else 0
    evaluations = (steps + own) * len(setting.inputs)
    return Reached(judged(setting, points), evaluations, seconds)


def judged(setting: Setting, points: Tensor) -> list[float]:
    """Cross-entropy `[examples]` at adversarial inputs, by us, in float64.

    Args:
        setting: what was attacked.
        points: `[examples, *input]`, inside the region up to float32's rounding.

    Raises:
        ValueError: a point lies outside.
    """
    problem = setting.problem(double=True)
    moved = points.double() - problem.inputs
    inside = problem.feasible.project(moved)
    apart = (inside - moved).flatten(1).norm(dim=1)
    if bool((apart > _NOISE).any()):
        raise ValueError(f"{setting}: points lie outside by {float(apart.max()):.3g}")
    losses = problem.rows().value(inside).loss
    return [float(loss) for loss in losses]


def best_start(
    name: str, setting: Setting, steps: int, compute: bool
) -> tuple[str, Reached] | None:
    """The better of its two starts by mean loss; None where one is not known."""
    both: Sequence[tuple[str, Reached | None]] = [
        (start, reached(name, start, setting, steps, compute)) for start in STARTS
    ]
    known = [(start, made) for start, made in both if made is not None]
    if len(known) < len(both):
        return None
    return max(known, key=lambda pair: pair[1].mean)
