"""Settings of an attack, and what each is worth."""

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from summiteer.planning.interval import Weights
from summiteer.planning.trial import Trial, expected_best

Interval = tuple[float, float]


@dataclass(frozen=True)
class Worth:
    """What a setting comes to on the sample.

    Attributes:
        gain: mean over examples of (ℓ - clean)/(best known - clean), ℓ the highest
            objective that the setting meets.
        gain_interval: 95 % interval of that mean over all examples like these.
        near: share of examples whose own gain is at least the share that is asked for.
        robust_accuracy: share of examples that no point met misleads; None without
            labels.
        robust_interval: 95 % interval of that; None without labels.
        gradient_evaluations: per example, on the average.
        seconds: per example, on the average.
    """

    gain: float
    gain_interval: Interval
    near: float
    robust_accuracy: float | None
    robust_interval: Interval | None
    gradient_evaluations: float
    seconds: float = field(compare=False)


@dataclass(frozen=True)
class Setting(Worth):
    """A method with so many steps and restarts, as the pilot found it.

    Gain and robust accuracy are means over all choices of so many starts out of those
    that were run.

    Attributes:
        method: name of an adversary, or of the effort of a search.
        steps: of each run; None of a search.
        restarts: uniform starts besides the centre; None of a search.
    """

    method: str
    steps: int | None
    restarts: int | None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What says so on the command line."""
        if self.steps is None:
            return ("--effort", self.method)
        numbers = ("--steps", str(self.steps), "--restarts", str(self.restarts))
        return ("--adversary", self.method, *numbers)

    def __str__(self) -> str:
        """The setting in words."""
        if self.steps is None:
            return f"{self.method} search"
        return f"{self.method}, steps {self.steps}, restarts {self.restarts}"


@dataclass(frozen=True)
class Checked(Worth):
    """A setting as an attack really runs it on the sample, with starts of its own.

    The attack's own examination and its 50 more steps are part of the cost.
    """


@dataclass(frozen=True, eq=False)
class Scale:
    """What gains are measured by.

    Attributes:
        clean: `[n]` float64 objective without perturbation.
        best: `[n]` highest known.
        share: of the gain that is asked for.
        weights: for intervals.
        labelled: whether there is an accuracy.
    """

    clean: Tensor
    best: Tensor
    share: float
    weights: Weights
    labelled: bool

    def gains(self, losses: Tensor) -> Tensor:
        """(ℓ - clean)/(best - clean) within [0, 1] `[…, n]`.

        1 where best and clean are the same to rounding: there is nothing to gain.
        """
        span = self.best - self.clean
        # Rounding of float32 losses, which no run is to be judged by.
        tiny = 1e-6 * self.clean.abs().maximum(self.best.abs())
        gains = ((losses - self.clean) / span).clamp(0.0, 1.0)
        return torch.where(span <= tiny, 1.0, gains)

    def worth(
        self, gains: Tensor, broken: Tensor, evaluations: float, seconds: float
    ) -> Worth:
        """What per-example gains and broken shares `[n]` come to."""
        right = 1.0 - broken.numpy()
        values = np.asarray(gains)
        return Worth(
            gain=float(values.mean()),
            gain_interval=self.weights.interval(values),
            near=float((values >= self.share).mean()),
            robust_accuracy=float(right.mean()) if self.labelled else None,
            robust_interval=self.weights.interval(right) if self.labelled else None,
            gradient_evaluations=evaluations,
            seconds=seconds,
        )

    def settings(self, trial: Trial) -> list[Setting]:
        """The settings that a trial tells of: each number of restarts."""
        gains, broken = self.gains(trial.losses), trial.broken.double()
        settings = []
        for restarts in range(trial.restarts + 1):
            worth = self.worth(
                expected_best(gains, restarts),
                expected_best(broken, restarts),
                trial.evaluations * (restarts + 1),
                trial.seconds * (restarts + 1),
            )
            settings.append(
                Setting(
                    **vars(worth),
                    method=trial.method,
                    steps=trial.steps,
                    restarts=None if trial.steps is None else restarts,
                )
            )
        return settings
