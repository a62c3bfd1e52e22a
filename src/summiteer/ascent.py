"""What the runs of one problem came to."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from summiteer.problem import Problem
from summiteer.trajectory import Trajectory

Space: TypeAlias = Literal["auto", "input", "row"]
SPACES = get_args(Space)

#: What `with_examples` replaces, by the dimension of the example.
_PER_EXAMPLE = (
    "best",
    "best_loss",
    "best_restart",
    "misclassified",
    "misclassified_points",
    "rescue",
)
PER_RUN = ("final", "losses", "residual", "steps", "period", "zero_gradient")


@dataclass(frozen=True, eq=False, repr=False)
class Ascent:
    """What the runs of one problem came to.

    Attributes:
        final: `[restarts, batch, *input]` last finite iterate of each run.
        best: `[batch, *input]` highest objective over all iterates and runs.
        best_loss: `[batch]` objective there.
        best_restart: `[batch]` the run it belongs to.
        losses: `[restarts, batch]` objective at `final`.
        residual: `[restarts, batch]` first-order residual at `final`; NaN where it
            was not measured (tolerance=None).
        misclassified: `[batch]` bool, whether any iterate of any run was; None where
            targets are not labels.
        misclassified_points: `[batch, *input]` the first such iterate of the first
            such run, NaN where there is none; None where targets are not labels.
        outcome: `[restarts, batch]` object array of `Outcome`.
        steps: `[restarts, batch]` steps made.
        period: `[restarts, batch]` int64, of the first cycle that a run was seen to
            enter; 0 where none was. See `summiteer.cycle_members`.
        zero_gradient: `[restarts, batch]` bool, the gradient at `final` is exactly
            zero: a critical point, a plateau, or a number too small for the dtype.
        rescue: `[batch]` int8, whether a run of the example was made again because
            rounding hid its gradient: 0 none, 1 in float64, 2 with the margin in place
            of the objective; see `summiteer.loop.rescue`.
        gradient_evaluations: rows evaluated with gradient, all together.
        trajectory: what was recorded, or None.
        space: "input", or "row" where the runs were computed in the row space of a
            two-layer network (`summiteer.spaces`). All points are perturbations of
            the inputs in either case; the losses at them and what is misclassified are
            the caller's own model's.
        forward_evaluations: rows evaluated without gradient, to see to that.
    """

    final: Tensor
    best: Tensor
    best_loss: Tensor
    best_restart: Tensor
    losses: Tensor
    residual: Tensor
    misclassified: Tensor | None
    misclassified_points: Tensor | None
    outcome: np.ndarray
    steps: Tensor
    period: Tensor
    zero_gradient: Tensor
    rescue: Tensor
    gradient_evaluations: int
    trajectory: Trajectory | None
    space: Space = "input"
    forward_evaluations: int = 0

    def __repr__(self) -> str:
        """Counts, not tensors."""
        restarts, batch = self.outcome.shape
        names = Counter(outcome.name for outcome in self.outcome.flat)
        ended = ", ".join(f"{name} {n}" for name, n in names.most_common())
        parts = [ended, f"mean best loss {float(self.best_loss.mean()):.4g}"]
        if self.misclassified is not None:
            parts.append(f"misclassified {int(self.misclassified.sum())}")
        if bool(self.rescue.any()):
            parts.append(f"rescued {int((self.rescue > 0).sum())}")
        return f"Ascent of {batch} examples × {restarts} runs: {'; '.join(parts)}"

    def of_best(self, values: Tensor) -> Tensor:
        """What belongs to the best run of each example.

        Args:
            values: `[…, restarts, batch]`.

        Returns:
            `[…, batch]`.
        """
        restart = self.best_restart.to(values.device)
        return values[..., restart, torch.arange(values.shape[-1])]

    def confirmed(self, problem: Problem) -> tuple[Self, Tensor]:
        """Say with the problem's own model what a reduced one said.

        Args:
            problem: the caller's.

        Returns:
            The ascent with the model's losses, and the indices of examples where it
            does not agree on what is misclassified: ties, decided by rounding.
        """
        rows = problem.rows()
        example = torch.arange(len(problem), device=self.best.device)
        values = [rows.value(points) for points in self.final]
        losses = torch.stack([value.loss for value in values])
        wrong = torch.stack([value.wrong for value in values]).any(0)
        best_loss = losses[self.best_restart, example]
        # The best point is often the last of its run, which has been evaluated.
        apart = (self.best != self.final[self.best_restart, example]).flatten(1).any(1)
        spent, index = losses.numel(), apart.nonzero().flatten()
        if len(index):
            there = rows.take(index).value(self.best[index])
            best_loss = best_loss.index_copy(0, index, there.loss)
            wrong = wrong.index_fill(0, index[there.wrong], True)
            spent += len(index)
        losses, best_loss = (
            each.masked_fill(~each.isfinite(), torch.nan)
            for each in (losses, best_loss)
        )
        # A last point may be the best one by the caller's rounding.
        top, restart = losses.nan_to_num(-torch.inf).max(0)
        better = top > best_loss.nan_to_num(-torch.inf)
        doubtful = torch.zeros_like(better)
        if self.misclassified is not None and self.misclassified_points is not None:
            index = self.misclassified.nonzero().flatten()
            if len(index):
                points = self.misclassified_points[index]
                there = rows.take(index).value(points)
                wrong = wrong.index_copy(0, index, there.wrong)
            doubtful = wrong != self.misclassified
            spent += len(index)
        index = better.nonzero().flatten()
        best = self.best.index_copy(0, index, self.final[restart[index], index])
        ascent = replace(
            self,
            best=best,
            best_loss=torch.where(better, top, best_loss),
            best_restart=torch.where(better, restart, self.best_restart),
            losses=losses,
            forward_evaluations=self.forward_evaluations + spent,
        )
        return ascent, doubtful.nonzero().flatten()

    def with_examples(self, index: Tensor, other: "Ascent") -> Self:
        """Return the ascent with the examples `index` taken from another one.

        Args:
            index: `[examples]`.
            other: of these examples, with as many runs; what it cost is added.
        """
        changes = {}
        for dim, names in enumerate((_PER_EXAMPLE, PER_RUN)):
            for name in names:
                mine, theirs = getattr(self, name), getattr(other, name)
                changes[name] = mine.index_copy(dim, index, theirs)
        trajectory = self.trajectory
        if trajectory is not None and other.trajectory is not None:
            trajectory = trajectory.with_examples(index, other.trajectory)
        outcome = self.outcome.copy()
        outcome[:, index.cpu().numpy()] = other.outcome
        return replace(
            self,
            **changes,
            outcome=outcome,
            trajectory=trajectory,
            gradient_evaluations=self.gradient_evaluations + other.gradient_evaluations,
        )
