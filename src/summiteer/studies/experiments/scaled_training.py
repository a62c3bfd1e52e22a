"""Adversarial training of two-layer networks at an input scale: claim C5.

Inputs of length c and ε = ratio·c, targets ±1, quadratic loss, full-batch descent. The
inner maximisation makes normalised steps of length ε from a random start, the same
start, in units of ε, at every scale. What is *reported* was found by a stronger one.

Without biases f(cx; W) = f(x; cW): a run at scale c with rate η is the run at scale 1
from c times the weights with rate ηc² (Adam: ηc), number by number.
"""

import math
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor

from summiteer.engine import Measurement
from summiteer.objectives import Quadratic
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import UniformStart
from summiteer.studies.descent.crossing import (
    mean_log,
    mean_over_steps,
    sustained_steps,
    thresholds,
)
from summiteer.studies.descent.ensemble import Ensemble, itself
from summiteer.studies.descent.regularity import regularity
from summiteer.studies.descent.training import Adversarial, Descent, train
from summiteer.studies.experiment import Experiment, Parameters
from summiteer.studies.tasks import TASKS, examples, linear_floor

#: Steps at which losses are measured by the strong adversary, and the inner problem.
CHECKPOINTS = (0, 1, 2, 3, 5, 8, 13, 20, 30, 45, 60, 80, 100)
LOOKED_INTO = (0, 10, 30, 60)
#: A best rate on the edge of the grid lets it grow by two rates, so many times.
EXTENSIONS = 3
#: Evaluation seeds begin so far after the tuning seeds: none is in both.
FRESH = 10
#: Restart numbers of the strong adversary begin here; training uses one per step.
_STRONG = 1_000_000
#: Leading principal directions of the inputs that hold this share of their variance.
_MAIN = 0.9


class ScaledTrainingParameters(Parameters):
    """Task, network, scale and protocol; see the module.

    `rates` are learning rates η for `unit` "plain", multiples of 1/c² for "inverse
    square" and of 1/λ1 for "kernel", λ1 the largest eigenvalue of the tangent kernel/n
    at step 0. More than one: the best is chosen on `tuning_seeds` networks from `seed`
    on, by the mean of log(1 + steps to θ50) of the training adversary's loss, and
    evaluated on `evaluation_seeds` others from `seed` + 10 on.
    """

    task: str = "digits 0v1"
    examples: int = Field(128, gt=0)
    digest: str = ""
    scale: float = Field(1.0, gt=0)
    ratio: float = Field(0.1, gt=0)
    network: Literal["two layers", "default"] = "two layers"
    width: int = Field(256, gt=1)
    weight_std: float = Field(1.0, gt=0)
    activation: Literal["softplus", "tanh", "relu"] = "softplus"
    doubled: bool = False
    trained: Literal["W", "W+b", "W+a", "all"] = "W"
    optimiser: Literal["gd", "adam"] = "gd"
    unit: Literal["kernel", "plain", "inverse square"] = "kernel"
    rates: tuple[float, ...] = (1.0,)
    steps: int = Field(60, ge=1, le=100)
    inner_steps: int = Field(10, ge=0)
    strong_starts: int = Field(4, ge=1)
    strong_steps: int = Field(40, ge=1)
    tuning_seeds: int = Field(5, ge=1, le=FRESH)
    evaluation_seeds: int = Field(10, ge=1)
    looked_into: int = Field(3, ge=0)
    points: int = Field(12, ge=1)
    precision: Literal["float32", "float64"] = "float32"

    @model_validator(mode="after")
    def _fits(self) -> "ScaledTrainingParameters":
        if self.task not in TASKS:
            raise ValueError(f"task: expected one of {list(TASKS)}, got {self.task!r}")
        if not self.rates or list(self.rates) != sorted(set(self.rates)):
            raise ValueError("rates: expected one or more, rising")
        if min(self.rates) <= 0:
            raise ValueError("rates: expected positive numbers")
        default = self.network == "default"
        if default != (self.trained == "all"):
            raise ValueError('network "default" goes with trained "all", alone')
        if default and (self.unit == "kernel" or self.doubled):
            raise ValueError('network "default" has no kernel rate and is not doubled')
        return self

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps at which the strong adversary measures, the last one included."""
        inside = [step for step in CHECKPOINTS if step < self.steps]
        return (*inside, self.steps)

    @property
    def dtype(self) -> torch.dtype:
        """Of training and of both adversaries."""
        return torch.float32 if self.precision == "float32" else torch.float64


def measure(parameters: ScaledTrainingParameters) -> Measurement:
    """Choose a rate if there is a choice, train fresh networks with it, measure."""
    p = parameters
    levels = thresholds(linear_floor(p.task, p.examples, p.ratio, p.digest))
    inner = _inner(p)
    rates = list(p.rates)
    tuned, edge = _tuned(p, inner, levels[1]) if len(rates) > 1 else ({}, False)
    chosen = min(tuned, key=lambda rate: tuned[rate]) if tuned else rates[0]
    fresh = p.seed + FRESH
    seeds = list(range(fresh, fresh + p.evaluation_seeds))
    ensemble = _ensemble(p, seeds)
    watch = _Watch(p, inner, seeds)
    descent = Descent(p.optimiser, _rates(p, ensemble, inner, [chosen] * len(seeds)))
    units = _units(p, tuple(seeds))
    curve = train(
        inner, ensemble, descent, p.trained, lambda k: units[:, k], p.steps,
        p.inner_steps, watch,
    )  # fmt: skip
    arrays = {"training": curve, **watch.arrays()}
    at = torch.tensor(p.checkpoints)
    strong = arrays["strong"]
    reached = [sustained_steps(strong, at, level) for level in levels]
    ratio = curve[:, at] / strong
    record: dict[str, Any] = {
        "rate": chosen,
        "edge": edge,
        "tuning": [[rate, tuned[rate][0]] for rate in sorted(tuned)],
        "thresholds": list(levels),
        "checkpoints": list(p.checkpoints),
        "steps": [float(each.double().log1p().mean().expm1()) for each in reached],
        "never": [float((each > p.steps).double().mean()) for each in reached],
        "mean_loss": _number(mean_over_steps(strong, at).log().mean().exp()),
        "last_loss": _number(strong[:, -1].median()),
        "weakest": _number(ratio[strong.isfinite()].min()),
        "diverged": int((~curve[:, -1].isfinite()).sum()),
        "floor": linear_floor(p.task, p.examples, p.ratio, p.digest),
    }
    return Measurement(record, arrays)


def _number(value: Tensor) -> float | None:
    """A number that JSON can hold, or None."""
    return float(value) if bool(value.isfinite()) else None


def _inner(p: ScaledTrainingParameters) -> Adversarial:
    inputs, targets = examples(p.task, p.examples, p.digest)
    scaled = (p.scale * inputs).to(p.dtype)
    return Adversarial(scaled, targets.to(p.dtype), p.ratio * p.scale)


def _ensemble(p: ScaledTrainingParameters, seeds: list[int]) -> Ensemble:
    """The networks of these seeds at step 0."""
    dim = examples(p.task, p.examples, p.digest)[0].shape[1]
    if p.network == "default":
        made = Ensemble.default(seeds, (dim, p.width, p.width), p.activation)
    else:
        made = Ensemble.random(
            seeds,
            dim,
            p.width,
            p.activation,
            p.weight_std,
            bias_std=1.0 if p.trained == "W+b" else None,
            doubled=p.doubled,
        )
    return made.to(p.dtype)


def _rates(
    p: ScaledTrainingParameters,
    ensemble: Ensemble,
    inner: Adversarial,
    rates: list[float],
) -> Tensor:
    """η of each member `[members]`."""
    plain = torch.tensor(rates, dtype=torch.float64)
    if p.unit == "kernel":
        plain = plain / ensemble.kernel_top(inner.inputs, p.trained)
    if p.unit == "inverse square":
        plain = plain / p.scale**2
    return plain.to(p.dtype)


def _units(p: ScaledTrainingParameters, seeds: tuple[int, ...]) -> Tensor:
    """Where the training ascents begin, `[seeds, steps + 1, n, d]`."""
    return _starts(p.task, p.examples, p.digest, seeds, p.steps + 1, 0).to(p.dtype)


@lru_cache(maxsize=4)
def _starts(
    task: str,
    count: int,
    digest: str,
    seeds: tuple[int, ...],
    restarts: int,
    first: int,
) -> Tensor:
    """Uniform points of the unit ball, float32 `[seeds, restarts, n, d]`."""
    inputs = examples(task, count, digest)[0]
    unit = Problem(itself, inputs, torch.zeros_like(inputs), Quadratic(), L2Ball(1.0))
    return torch.stack(
        [
            UniformStart(restarts=restarts, seed=seed, first=first).points(unit).float()
            for seed in seeds
        ]
    )


#: (mean of log(1 + steps to θ50), mean log of the mean loss): the second decides ties.
_Score: TypeAlias = tuple[float, float]


def _tuned(
    p: ScaledTrainingParameters, inner: Adversarial, threshold: float
) -> tuple[dict[float, _Score], bool]:
    """Score every rate; let the grid grow while its best one is on its edge.

    One after the other, the nearest to the best so far first, for a rate is given up as
    soon as it cannot be the best any more: its score is then a lower bound. The order
    decides what this costs, not which rate is the best.

    Returns:
        rate -> score; and whether the best is on the edge even so.
    """
    scores: dict[float, _Score] = {}
    left = list(p.rates)
    best = left[len(left) // 2]
    for extension in range(EXTENSIONS + 1):
        while left:
            rate = min(left, key=lambda each: abs(math.log(each / best)))
            left.remove(rate)
            to_beat = scores[best][0] if scores else math.inf
            scores[rate] = _score(p, inner, threshold, rate, to_beat)
            best = min(scores, key=lambda each: scores[each])
        left = _beyond(scores)
        if not left or extension == EXTENSIONS:
            break
    return scores, bool(left)


def _beyond(scores: dict[float, _Score]) -> list[float]:
    """Two rates beyond the edge that the best one lies on; none if it lies inside."""
    known = sorted(scores)
    best = min(known, key=lambda rate: scores[rate])
    if best == known[0]:
        return [known[0] * (known[0] / known[1]) ** n for n in (2, 1)]
    if best == known[-1]:
        return [known[-1] * (known[-1] / known[-2]) ** n for n in (1, 2)]
    return []


def _score(
    p: ScaledTrainingParameters,
    inner: Adversarial,
    threshold: float,
    rate: float,
    to_beat: float,
) -> _Score:
    """One rate on the tuning seeds, given up once its score must be above `to_beat`."""
    seeds = list(range(p.seed, p.seed + p.tuning_seeds))
    ensemble = _ensemble(p, seeds)
    descent = Descent(p.optimiser, _rates(p, ensemble, inner, [rate] * len(seeds)))
    units = _units(p, tuple(seeds))
    at = torch.arange(p.steps + 1)

    def hopeless(step: int, curves: Tensor) -> Tensor:
        # What is above θ at a step crosses it for good after that step, or never.
        above = (curves >= threshold) & (at <= step)
        least = (above * at).amax(1).double()
        worse: Tensor = least.log1p().mean() > to_beat
        return worse.expand(len(seeds))

    curve = train(
        inner, ensemble, descent, p.trained, lambda k: units[:, k], p.steps,
        p.inner_steps, hopeless=hopeless,
    )  # fmt: skip
    steps = sustained_steps(curve, at, threshold)
    return mean_log(steps), float(mean_over_steps(curve, at).log().mean())


@dataclass(eq=False)
class _Watch:
    """Looks at the networks while they are trained, and keeps what it saw.

    Attributes:
        p: the parameters.
        inner: examples and radius.
        seeds: of the members.
    """

    p: ScaledTrainingParameters
    inner: Adversarial
    seeds: list[int]
    _kept: dict[str, Tensor] = field(default_factory=dict)

    def __call__(self, step: int, ensemble: Ensemble, alive: Tensor) -> None:
        """See `train`."""
        inner, p = self.inner, self.p
        count = len(ensemble)
        inputs = inner.inputs.expand(count, -1, -1)
        with torch.no_grad():
            apart = ensemble.outputs(inputs) - inner.targets
        self._keep("clean", step, alive, 0.5 * apart.square().mean(1))
        gradients = ensemble.input_gradients(inputs)
        main = gradients @ _main_directions(p.task, p.examples, p.digest).to(p.dtype)
        size = inner.radius * gradients.square().sum(2).mean(1).sqrt()
        inside = inner.radius * main.square().sum(2).mean(1).sqrt()
        self._keep("leverage", step, alive, size)
        self._keep("leverage_main", step, alive, inside)
        if step in p.checkpoints:
            place = p.checkpoints.index(step)
            units = _starts(
                p.task,
                p.examples,
                p.digest,
                tuple(self.seeds),
                p.strong_starts,
                _STRONG,
            ).to(p.dtype)
            worst = inner.best(ensemble, units[alive], p.strong_steps)
            self._keep("strong", place, alive, worst.double().mean(1))
            safe = (worst < 0.5).double().mean(1)
            self._keep("safe", place, alive, safe)
        if step in LOOKED_INTO and p.network == "two layers":
            self._look_into(LOOKED_INTO.index(step), ensemble, alive)

    def _look_into(self, place: int, ensemble: Ensemble, alive: Tensor) -> None:
        """The inner problem of the first members at the first examples."""
        p, inner = self.p, self.inner
        inputs, targets = examples(p.task, p.examples, p.digest)
        for row, member in enumerate(alive.tolist()):
            if member >= p.looked_into:
                break
            found = regularity(
                ensemble.network(row),
                p.scale * inputs[: p.points],
                targets[: p.points],
                inner.radius,
                max(p.inner_steps, 1),
                self.seeds[member],
            )
            self._keep("inner", place, torch.tensor([member]), found[None])

    def _keep(self, name: str, place: int, alive: Tensor, values: Tensor) -> None:
        """Write the values of some members at one moment; the others stay ∞."""
        if name not in self._kept:
            moments = {
                "strong": len(self.p.checkpoints),
                "safe": len(self.p.checkpoints),
                "inner": len(LOOKED_INTO),
            }.get(name, self.p.steps + 1)
            shape = (len(self.seeds), moments, *values.shape[1:])
            self._kept[name] = torch.full(shape, torch.inf, dtype=torch.float64)
        self._kept[name][alive, place] = values.double()

    def arrays(self) -> dict[str, Tensor]:
        """`[seeds, moments, …]` by name; a member that diverged is ∞ from there on."""
        kept = dict(self._kept)
        kept["safe"] = torch.where(kept["safe"].isinf(), 0.0, kept["safe"])
        if "inner" in kept:
            kept["inner"] = kept["inner"][: self.p.looked_into]
        return kept


@lru_cache(maxsize=4)
def _main_directions(task: str, count: int, digest: str) -> Tensor:
    """Orthonormal directions that hold most of Σxxᵀ, the largest first, `[d, k]`."""
    inputs = examples(task, count, digest)[0]
    directions: Tensor
    _, sizes, directions = torch.linalg.svd(inputs, full_matrices=False)
    share = sizes.square().cumsum(0) / sizes.square().sum()
    enough = int((share < _MAIN).sum()) + 1
    return directions[:enough].T.contiguous()


SCALED_TRAINING = Experiment(
    "scaled-training",
    ScaledTrainingParameters,
    measure,
    "adversarial training of two-layer networks at an input scale",
    {
        "rate": "learning rate that was chosen, in its unit",
        "edge": "whether it is on the edge of the rates that were tried",
        "tuning": "each rate tried, and its score, mean log(1 + steps to θ50)",
        "floor": "robust loss of the best linear predictor",
        "thresholds": "θ20, θ50, θ80: 20, 50, 80 % of the way from ½ to the floor",
        "checkpoints": "steps after which the strong adversary measures the loss",
        "steps": "until it stays below θ20, θ50, θ80: exp(mean log(1 + steps)) - 1",
        "never": "shares of networks where it never does (counted as steps + 1)",
        "mean_loss": "that loss, mean over steps, geometric mean over networks",
        "last_loss": "that loss after the last step, median over networks",
        "weakest": "smallest ratio of the training loss to the strong adversary's",
        "diverged": "networks whose loss was no finite number in the end",
    },
)
