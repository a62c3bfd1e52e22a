"""AutoPGD on L1 balls: sparse steps, as sparse as the best point."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.adversaries._adversary import Step
from summiteer.problem import Evaluation, Rows
from summiteer.regions._region import rows_of

#: Steps between checkpoints, in shares of all.
_INTERVAL = 0.04
#: η becomes smaller by this factor; k is the support of the best point by the same.
_FACTOR = 1.5
#: η is at least this share of its first value.
_FLOOR = 0.1
#: The support has become smaller where it is less than this share of the last one.
_SMALLER = 0.95


@dataclass(frozen=True, eq=False)
class _Sparse:
    """What a run knows of its way; every tensor has one entry per row.

    Attributes:
        made: steps made since the last checkpoint.
        count: k, the coordinates that a step moves.
        support: non-zero coordinates of the best point at the last checkpoint.
        size: η, an L1 length.
        best: the best point so far.
        best_loss: the loss there.
        best_gradient: the gradient there.
    """

    made: Tensor
    count: Tensor
    support: Tensor
    size: Tensor
    best: Tensor
    best_loss: Tensor
    best_gradient: Tensor


@dataclass(frozen=True)
class SparsePGD:
    """δ⁺ = Π(δ + η·s/‖s‖₁), s = sign(g) at the k largest |g_i|, else 0.

    The steepest direction among the dense ones of the L1 ball (`croce2021mind`,
    algorithm 1). k = ⌈d/5⌉ and η = ε at first. Every ⌊.04·steps⌋ steps k becomes
    ⌈‖best‖₀/1.5⌉; where ‖best‖₀ fell below .95 of its last value, η is ε again and the
    run goes on from its best point, elsewhere η becomes η/1.5, at least ε/10. No
    momentum. Departures from the reference implementation:

    - Π is exact on L1 ball ∩ box ∩ mask, in the dtype of the inputs (there float32).
    - k and ‖best‖₀ begin at d/5 and d whatever the start is.
    - All ties of the k-th |g_i| move, as there; a coordinate without gradient does not.
    - A step that does not move, since all k coordinates are held by the box or the
      vertex, is made towards the maximiser of gᵀv instead, which moves every point
      that is not stationary. There such a run waits for the next checkpoint.

    Args:
        steps: how many are planned, which sets the checkpoints.
    """

    steps: int

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> _Sparse:
        """The state before the first step."""
        loss, dim = evaluation.loss, points[0].numel()
        return _Sparse(
            made=torch.zeros_like(loss, dtype=torch.int64),
            count=torch.full_like(loss, -(-dim // 5), dtype=torch.int64),
            support=torch.full_like(loss, dim, dtype=torch.int64),
            size=rows_of(rows.region.size, points),
            best=points,
            best_loss=loss,
            best_gradient=evaluation.gradient,
        )

    def step(
        self, rows: Rows, points: Tensor, evaluation: Evaluation, state: _Sparse
    ) -> Step:
        """Look back at the last step, then make one."""
        gradient = evaluation.gradient
        better = evaluation.loss > state.best_loss
        state = replace(
            state,
            best=_rows.choose(better, points, state.best),
            best_loss=_rows.choose(better, evaluation.loss, state.best_loss),
            best_gradient=_rows.choose(better, gradient, state.best_gradient),
        )
        due = state.made == max(int(_INTERVAL * self.steps), 1)
        if bool(due.any()):
            state, back = self._checked(rows, state, due)
            points = _rows.choose(back, state.best, points)
            gradient = _rows.choose(back, state.best_gradient, gradient)
        moved = rows.advance(points, _largest_signs(gradient, state.count), state.size)
        held = (moved == points).flatten(1).all(1)
        if bool(held.any()):
            moved = _rows.choose(held, _towards(rows, points, gradient, state), moved)
        following = replace(state, made=state.made + 1)
        # What this step did not move, a smaller η or another k may.
        return Step(moved, following, state.size, restless=True)

    def _checked(
        self, rows: Rows, state: _Sparse, due: Tensor
    ) -> tuple[_Sparse, Tensor]:
        """The state after the checkpoint of the rows `due`; which rows return."""
        support = state.best.flatten(1).count_nonzero(1)
        back = due & (support < _SMALLER * state.support)
        first = rows_of(rows.region.size, state.best)
        size = torch.where(back, first, state.size / _FACTOR)
        size = torch.maximum(size, _FLOOR * first)
        count = ((2 * support + 2) // 3).clamp(min=1)  # ⌈support/1.5⌉
        checked = replace(
            state,
            made=state.made.masked_fill(due, 0),
            count=torch.where(due, count, state.count),
            support=torch.where(due, support, state.support),
            size=torch.where(due, size, state.size),
        )
        return checked, back


def _largest_signs(gradients: Tensor, count: Tensor) -> Tensor:
    """s/‖s‖₁, s = sign(g) at the `count` largest |g_i|, else 0."""
    magnitude = gradients.abs().flatten(1)
    ranked = magnitude.sort(1, descending=True).values
    least = ranked.gather(1, count[:, None] - 1)
    signs = gradients.flatten(1).sign() * (magnitude >= least)
    number = signs.count_nonzero(1).clamp(min=1)
    return (signs / number[:, None]).reshape(gradients.shape)


def _towards(rows: Rows, points: Tensor, gradients: Tensor, state: _Sparse) -> Tensor:
    """δ + min(1, η/‖v - δ‖₁)(v - δ) with v = argmax gᵀv over the region."""
    way = rows.region.linear_maximiser(gradients) - points
    length = way.abs().flatten(1).sum(1)
    length = torch.where(length > 0, length, 1.0)
    return rows.advance(points, way, (state.size / length).clamp(max=1.0))
