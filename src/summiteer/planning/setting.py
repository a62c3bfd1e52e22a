"""Settings of an attack, and what each is worth."""

from dataclasses import dataclass, field
from typing import Any

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
        near: share of examples whose own gain is at least the share that is asked for.
        robust_accuracy: share of examples that no point met misleads; None without
            labels.
        gradient_evaluations: per example, on the average.
        seconds: per example, on the average.
    """

    gain: float
    near: float
    robust_accuracy: float | None
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

    Attributes:
        gain_interval: 95 % interval of the gain over all examples like these.
        robust_interval: 95 % interval of the robust accuracy over such examples; None
            without labels.
    """

    gain_interval: Interval
    robust_interval: Interval | None


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

    @property
    def gainless(self) -> Tensor:
        """`[n]` bool, where best and clean are the same to rounding."""
        # Rounding of float32 losses, which no run is to be judged by.
        tiny = 1e-6 * self.clean.abs().maximum(self.best.abs())
        return self.best - self.clean <= tiny

    def gains(self, losses: Tensor) -> Tensor:
        """(ℓ - clean)/(best - clean) within [0, 1] `[…, n]`.

        1 where there is nothing to gain.
        """
        gains = (losses - self.clean) / (self.best - self.clean)
        return torch.where(self.gainless, 1.0, gains.clamp(0.0, 1.0))

    def checked(
        self, gains: Tensor, broken: Tensor, evaluations: float, seconds: float
    ) -> Checked:
        """What per-example gains and whether each is broken `[n]` come to."""
        right = 1.0 - broken.numpy()
        return Checked(
            **self._worth(gains, broken, evaluations, seconds),
            gain_interval=self.weights.interval(gains.numpy()),
            robust_interval=self.weights.interval(right) if self.labelled else None,
        )

    def settings(self, trial: Trial) -> list[Setting]:
        """The settings that a trial tells of: each number of restarts."""
        gains, broken = self.gains(trial.losses), trial.broken.double()
        settings = []
        for restarts in range(trial.restarts + 1):
            worth = self._worth(
                expected_best(gains, restarts),
                expected_best(broken, restarts),
                trial.once + trial.evaluations * (restarts + 1),
                trial.seconds * (restarts + 1),
            )
            number = None if trial.steps is None else restarts
            settings.append(
                Setting(
                    **worth, method=trial.method, steps=trial.steps, restarts=number
                )
            )
        return settings

    def _worth(
        self, gains: Tensor, broken: Tensor, evaluations: float, seconds: float
    ) -> dict[str, Any]:
        """The attributes of `Worth`."""
        return {
            "gain": float(gains.mean()),
            "near": float((gains >= self.share).double().mean()),
            "robust_accuracy": float(1 - broken.mean()) if self.labelled else None,
            "gradient_evaluations": evaluations,
            "seconds": seconds,
        }
