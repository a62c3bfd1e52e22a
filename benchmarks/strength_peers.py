"""What other libraries' ascents reach, at a number of gradient evaluations.

Constant steps of 2.5 · radius / steps (Madry et al. 2018), and APGD with its own step
sizes; each from a random point, and from the centre. Points are kept by nobody, losses
are: under out/strength, by the digest of model, data, settings and versions.
"""

import importlib.metadata
import json
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.strength_settings import Setting
from summiteer.cells import digest

KEPT = Path(__file__).parent.parent / "out" / "strength"
#: Contestants and the packages that they come from.
PACKAGES = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "ART": "adversarial-robustness-toolbox",
    "APGD": "pyautoattack",
}
STARTS = ("random", "centre")
#: How far outside a point may lie before it counts as no point of the region.
_NOISE = 1e-5

#: (setting, steps, whether from a random point) -> adversarial inputs.
Attack = Callable[[Setting, int, bool], Tensor]


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


def foolbox(setting: Setting, steps: int, random: bool) -> Tensor:
    """Its projected gradient attack, which returns the last iterate."""
    import foolbox as fb  # type: ignore[import-not-found]

    kind = (
        fb.attacks.L2ProjectedGradientDescentAttack
        if setting.norm == "l2"
        else fb.attacks.LinfProjectedGradientDescentAttack
    )
    attack = kind(
        abs_stepsize=step_size(setting, steps), steps=steps, random_start=random
    )
    model = fb.PyTorchModel(setting.model, bounds=(0.0, 1.0), device="cpu")
    criterion = fb.criteria.Misclassification(setting.labels)
    points: Tensor = attack.run(
        model, setting.inputs, criterion, epsilon=setting.radius
    )
    return points


def torchattacks(setting: Setting, steps: int, random: bool) -> Tensor:
    """Its PGD and PGDL2, which return the last iterate."""
    import torchattacks as ta  # type: ignore[import-not-found]

    kind = ta.PGDL2 if setting.norm == "l2" else ta.PGD
    attack = kind(
        setting.model,
        eps=setting.radius,
        alpha=step_size(setting, steps),
        steps=steps,
        random_start=random,
    )
    points: Tensor = attack(setting.inputs, setting.labels)
    return points


def art(setting: Setting, steps: int, random: bool) -> Tensor:
    """Its PGD, which returns the last iterate."""
    from art.attacks import evasion  # type: ignore[import-not-found]
    from art.estimators import classification  # type: ignore[import-not-found]

    classifier = classification.PyTorchClassifier(
        setting.model,
        loss=nn.CrossEntropyLoss(reduction="sum"),
        input_shape=tuple(setting.inputs.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = evasion.ProjectedGradientDescentPyTorch(
        classifier,
        norm=2 if setting.norm == "l2" else float("inf"),
        eps=setting.radius,
        eps_step=step_size(setting, steps),
        max_iter=steps,
        num_random_init=int(random),
        batch_size=len(setting.inputs),
        verbose=False,
    )
    labels = functional.one_hot(setting.labels, 10).numpy()
    return torch.from_numpy(attack.generate(setting.inputs.numpy(), y=labels))


def apgd(setting: Setting, steps: int, random: bool) -> Tensor:
    """AutoAttack's APGD on cross-entropy; the iterate of highest loss.

    It makes one evaluation more than it makes steps.
    """
    from pyautoattack.autopgd_base import APGDAttack  # type: ignore[import-not-found]

    attack = APGDAttack(
        setting.model,
        n_iter=steps,
        norm={"l2": "L2", "linf": "Linf"}[setting.norm],
        eps=setting.radius,
        loss="ce",
        device="cpu",
    )
    inputs = setting.inputs
    attack.init_hyperparam(inputs)
    start = None if random else inputs.clone()
    best: Tensor = attack.attack_single_run(inputs, setting.labels, x_init=start)[0]
    return best


ATTACKS: dict[str, Attack] = {
    "foolbox": foolbox,
    "torchattacks": torchattacks,
    "ART": art,
    "APGD": apgd,
}


def version(name: str) -> str | None:
    """Of a contestant's package; None where it is not installed."""
    try:
        return importlib.metadata.version(PACKAGES[name])
    except importlib.metadata.PackageNotFoundError:
        return None


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
        points = ATTACKS[name](setting, steps, start == "random").detach()
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
