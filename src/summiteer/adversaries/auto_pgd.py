"""AutoPGD: step sizes from the progress made."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.adversaries._adversary import Step
from summiteer.adversaries.sparse_pgd import SparsePGD
from summiteer.errors import UserError
from summiteer.problem import Evaluation, Rows
from summiteer.regions._region import rows_of

#: Intervals between checkpoints in shares of the steps: the first one, what each next
#: one is shorter by, the shortest.
_FIRST, _SHORTER, _SHORTEST = 0.22, 0.03, 0.06


@dataclass(frozen=True, eq=False)
class _Progress:
    """What a run knows of its way; every tensor has one entry per row.

    Attributes:
        made: steps made.
        check: the number of steps after which the next checkpoint is.
        interval: steps between that one and the one before.
        size: η.
        before: the point that the last step was made from.
        before_loss: the loss there.
        rises: steps since the last checkpoint that raised the loss.
        best: the best point so far.
        best_loss: the loss there.
        best_gradient: the gradient there.
        checked_loss: `best_loss` at the last checkpoint.
        halved: whether η was halved there.
    """

    made: Tensor
    check: Tensor
    interval: Tensor
    size: Tensor
    before: Tensor
    before_loss: Tensor
    rises: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor
    checked_loss: Tensor
    halved: Tensor


@dataclass(frozen=True)
class AutoPGD:
    """z = Π(δ + η·d(g)), δ⁺ = Π(δ + α(z - δ) + (1 - α)(δ - δ⁻)) (`croce2020reliable`).

    d is the steepest direction (g/‖g‖₂ on L2, sign(g) on L∞), δ⁻ the point before δ,
    α = `momentum` (1 at the first step), η = 2ε at first. Checkpoints lie at the steps
    w_j = ⌈p_j·steps⌉ of the paper, in the integers of its reference code: the first
    after ⌊.22·steps⌋ steps, each interval ⌊.03·steps⌋ shorter than the last, down to
    ⌊.06·steps⌋. At one, η is halved, and the run goes on from its best point and the
    gradient there, if

    1. at most ρ of the interval's steps raised the loss, or
    2. η was not halved at the last checkpoint, and the best loss is the same as there
       (not at the first one).

    On an L1 ball it is the sparse method of `croce2021mind`, which has neither momentum
    nor ρ; see `SparsePGD`.

    Departures from the reference implementation:

    - Π is the Euclidean projection on region ∩ box ∩ mask; there ball, then clip.
    - A step raised the loss if it ended above the point *it was made from*, as in the
      paper. The reference compares each loss with the one recorded before it. The
      first step has none: its index wraps around to a row of zeros, so that it counts
      as a rise of any positive loss (always with cross-entropy, rarely with DLR). The
      first one after a return to the best point meets the lower point left behind, so
      that the return itself counts as progress.
    - The start is the caller's (`Start`); there a point drawn on the boundary.
    - g/‖g‖ has no 1e-12 added to ‖g‖; gradients of 1e-30 have a direction.
    - A run that is stationary, or does not move, ends before its last step. One longer
      than `steps` goes on with the shortest interval.

    Args:
        steps: how many are planned, which sets the checkpoints.
        momentum: α in (0, 1]; 1 is no momentum.
        rho: ρ in (0, 1).
    """

    rotation_invariant: ClassVar[bool] = True

    steps: int = 100
    momentum: float = 0.75
    rho: float = 0.75

    def __post_init__(self) -> None:
        if not (isinstance(self.steps, int) and self.steps >= 1):
            raise UserError(f"steps: expected an integer ≥ 1, got {self.steps!r}.")
        if not (isinstance(self.momentum, int | float) and 0 < self.momentum <= 1):
            raise UserError(
                f"momentum: expected 0 < momentum ≤ 1, got {self.momentum!r}."
            )
        if not (isinstance(self.rho, int | float) and 0 < self.rho < 1):
            raise UserError(f"rho: expected 0 < rho < 1, got {self.rho!r}.")

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Any:
        """The state before the first step."""
        if rows.region.norm == "l1":
            return SparsePGD(self.steps).init(rows, points, evaluation)
        loss = evaluation.loss
        never = torch.zeros_like(loss, dtype=torch.int64)
        first = torch.full_like(never, _share(_FIRST, self.steps))
        return _Progress(
            made=never,
            check=first,
            interval=first,
            size=2.0 * rows_of(rows.region.size, points),
            before=points,
            before_loss=loss,
            rises=never,
            best=points,
            best_loss=loss,
            best_gradient=evaluation.gradient,
            checked_loss=loss,
            # So that the second condition cannot hold at the first checkpoint.
            halved=torch.ones_like(never, dtype=torch.bool),
        )

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: Any
    ) -> Step:
        """Look back at the last step, then make one."""
        if rows.region.norm == "l1":
            return SparsePGD(self.steps).step(rows, points, evaluation, state)
        state = _seen(points, evaluation, state)
        gradient, loss = evaluation.gradient, evaluation.loss
        if bool((state.made == state.check).any()):
            state, back = self._checked(state)
            index = back.nonzero().flatten()
            points = _rows.merge(index, state.best, points)
            gradient = _rows.merge(index, state.best_gradient, gradient)
            loss = _rows.merge(index, state.best_loss, loss)
        towards = rows.region.steepest(gradient)
        goal = rows.advance(points, towards, state.size)
        share = torch.full_like(loss, self.momentum).masked_fill(state.made == 0, 1.0)
        way = _rows.expand(share, points) * (goal - points)
        way += _rows.expand(1 - share, points) * (points - state.before)
        moved = rows.advance(points, way, 1.0)
        made = state.made + 1
        following = replace(state, made=made, before=points, before_loss=loss)
        return Step(moved, following, state.size, restless=True)

    def _checked(self, state: _Progress) -> tuple[_Progress, Tensor]:
        """The state after the checkpoint of rows that have met one; which return."""
        due = state.made == state.check
        few = state.rises.double() <= self.rho * state.interval.double()
        idle = ~state.halved & (state.checked_loss >= state.best_loss)
        halve = due & (few | idle)
        shorter = (state.interval - _share(_SHORTER, self.steps)).clamp(
            min=_share(_SHORTEST, self.steps)
        )
        interval = torch.where(due, shorter, state.interval)
        checked = replace(
            state,
            check=torch.where(due, state.made + interval, state.check),
            interval=interval,
            size=torch.where(halve, state.size / 2, state.size),
            rises=state.rises.masked_fill(due, 0),
            checked_loss=torch.where(due, state.best_loss, state.checked_loss),
            halved=torch.where(due, halve, state.halved),
        )
        return checked, halve


def _seen(points: Tensor, evaluation: Evaluation, state: _Progress) -> _Progress:
    """What the last step has done; before the first one nothing has been."""
    rose = (evaluation.loss > state.before_loss) & (state.made > 0)
    seen = replace(state, rises=state.rises + rose)
    better = (evaluation.loss > state.best_loss).nonzero().flatten()
    if not len(better):
        return seen
    return replace(
        seen,
        best=_rows.merge(better, points, state.best),
        best_loss=_rows.merge(better, evaluation.loss, state.best_loss),
        best_gradient=_rows.merge(better, evaluation.gradient, state.best_gradient),
    )


def _share(share: float, steps: int) -> int:
    """⌊share·steps⌋, at least 1."""
    return max(int(share * steps), 1)
