"""What is recorded of an epoch: losses, accuracies, and the inner problem."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Self


@dataclass(frozen=True, kw_only=True)
class InnerProblem:
    """The inner maximisation at the weights after an epoch, on the probe examples.

    Shares and means are over the probes. None where nothing was measured: the budget
    did not allow it in this epoch, or it is not defined (accuracy without labels, the
    indices of networks that have not two layers).

    Attributes:
        epoch: whose weights these are, from 1.
        learning_rate: of the optimiser's first group.
        probes: how many examples were looked at; 0 in an epoch that was left out.
        clean_loss: mean objective at δ = 0.
        clean_accuracy: there.
        attacked_loss: mean objective where the training attack ends.
        attacked_accuracy: there.
        strong_loss: mean of the highest objective that the stronger attack meets, or
            the training attack where that ends higher.
        strong_accuracy: share that neither breaks.
        stationary: share of the training attack's end points whose residual is below
            its tolerance.
        residual: its median (mathematics.md §3).
        gap: mean Frank-Wolfe gap on region ∩ box: FOSC (`wang2019convergence`), taken
            about the clean input and with the box.
        distortion: mean ‖δ‖₂ over its largest value on the ball, after a few steps of
            Frank-Wolfe from the centre (`tsiligkaridis2022understanding`): 1 where the
            gradient keeps its signs on the way. The mask counts, the box does not.
        examined: of how many of the training attack's end points certificates were
            made; the entries below are over these.
        maximum: share within reach of a local maximum.
        proved: share with a proved verdict of any kind.
        proved_maximum: share proved to be near a local maximum.
        undecided: share.
        curvature_ratio: median κ of those that have one (mathematics.md §4).
        index_global: median index (mathematics.md §6); so the two below.
        index_unique: see there.
        index_a_priori: see there.
        distinct_maxima: mean number of places that the runs of the stronger attack and
            eight more from random points end in, told apart as maxima are (see
            `summiteer.distinct_maxima`). Whether they are maxima is not asked: where
            few runs arrive (`stationary`) it is no count of maxima.
        unseen: mean estimate of the chance that one more run ends in another place.
        left_out: why nothing was looked at in this epoch, where a `Monitor` knows.
        alarm: what the rules of `summiteer.training.alarm` say, or "".
        seconds: of this process, that all of this took.
        cost: all such seconds so far over the seconds of everything else.
    """

    epoch: int
    learning_rate: float | None = None
    probes: int = 0
    clean_loss: float | None = None
    clean_accuracy: float | None = None
    attacked_loss: float | None = None
    attacked_accuracy: float | None = None
    strong_loss: float | None = None
    strong_accuracy: float | None = None
    stationary: float | None = None
    residual: float | None = None
    gap: float | None = None
    distortion: float | None = None
    examined: int = 0
    maximum: float | None = None
    proved: float | None = None
    proved_maximum: float | None = None
    undecided: float | None = None
    curvature_ratio: float | None = None
    index_global: float | None = None
    index_unique: float | None = None
    index_a_priori: float | None = None
    distinct_maxima: float | None = None
    unseen: float | None = None
    left_out: str = ""
    alarm: str = ""
    seconds: float = 0.0
    cost: float | None = None

    def __repr__(self) -> str:
        """In words; what was not measured is left out."""
        if not self.probes:
            why = f" ({self.left_out})" if self.left_out else ""
            return f"InnerProblem of epoch {self.epoch}: not looked at{why}"
        told = [
            f"{name.replace('_', ' ')} {getattr(self, name):.4g}"
            for name in ("learning_rate", *INNER)
            if name != "cost" and getattr(self, name) is not None
        ]
        if self.cost is not None:
            told.append(f"watching so far took {self.cost:.3g} times everything else")
        alarm = f"; ALARM: {self.alarm}" if self.alarm else ""
        return f"InnerProblem of epoch {self.epoch}: {', '.join(told)}{alarm}"


@dataclass(frozen=True, kw_only=True)
class Epoch:
    """One epoch of adversarial training.

    Attributes:
        epoch: its number, from 1.
        learning_rate: of the optimiser's first group while it was made.
        train_robust_loss: mean of the loss minimised, at the points trained on, by the
            model in train mode just before each step: the weights change on the way.
        train_robust_accuracy: there; None without labels.
        train_clean_loss: of the same weights in eval mode, at δ = 0.
        train_clean_accuracy: there.
        held_out_robust_loss: mean of the highest objective that the stronger attack
            meets, after the epoch; None where nothing was held out, or not evaluated.
        held_out_robust_accuracy: share that it does not break at any iterate.
        held_out_clean_loss: at δ = 0, after the epoch.
        held_out_clean_accuracy: there.
        gradient_evaluations: of the training attack in this epoch.
        seconds: of this process, for the maximisations and minimisations.
        evaluation_seconds: for the held-out examples.
        inner: the inner problem watched; None where nothing watches.
    """

    epoch: int
    learning_rate: float
    train_robust_loss: float | None
    train_robust_accuracy: float | None
    train_clean_loss: float | None
    train_clean_accuracy: float | None
    held_out_robust_loss: float | None = None
    held_out_robust_accuracy: float | None = None
    held_out_clean_loss: float | None = None
    held_out_clean_accuracy: float | None = None
    gradient_evaluations: int = 0
    seconds: float = 0.0
    evaluation_seconds: float = 0.0
    inner: InnerProblem | None = None

    @property
    def all_seconds(self) -> float:
        """Of this process: training, evaluation and watching."""
        watching = 0.0 if self.inner is None else self.inner.seconds
        return self.seconds + self.evaluation_seconds + watching

    def as_json(self) -> dict[str, Any]:
        """A plain dict; `of` makes the record of it again."""
        return asdict(self)

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The record of what `as_json` returned.

        Args:
            values: by name.
        """
        made, inner = cls(**values), values["inner"]
        return made if inner is None else replace(made, inner=InnerProblem(**inner))


#: Names of the numbers of an inner problem, which curves call `inner_…`.
INNER = tuple(
    field.name
    for field in fields(InnerProblem)
    if field.name not in ("epoch", "learning_rate", "left_out", "alarm")
)
#: Names of the numbers of an epoch.
OUTER = tuple(
    field.name for field in fields(Epoch) if field.name not in ("epoch", "inner")
)
