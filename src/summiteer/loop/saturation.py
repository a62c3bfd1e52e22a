"""Losses that are nearly flat where the model is sure of itself.

Cross-entropy is log(1 + Σ exp(z_k - z_y)) over k ≠ y, and the factor of its gradient
is 1 - p_y ≤ loss: where z_y leads by 10 the gradient is tiny beside those at other
points of the region. The residual (mathematics.md §3), which is measured against
these, is then below any tolerance though there is everything to climb: on a digits
network in float32 four of five runs from the centre had stopped so, after three steps.
"""

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.objectives import CrossEntropy, Logistic
from summiteer.problem import Evaluation, Rows

#: Objectives that saturate where the margin does not.
SATURATING = (CrossEntropy, Logistic)
#: Losses so small have gradients so much smaller than where the model is wrong.
TINY_LOSS = 1e-3
#: Residual measured against the gradient at the point alone. An angle of so much to
#: the normal leaves its square of the gain.
SETTLED = 1e-2


def going(rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
    """`[rows]` bool: there is a way up, of whatever scale.

    The residual with no other reference than the gradient at the point itself is above
    `SETTLED`. It does not become small at a maximum inside the region, so that it
    cannot serve where gradients have a scale.

    Args:
        rows: the problem at these rows.
        points: in the form that rows have.
        evaluation: there.
    """
    own = rows.region.magnitude(rows.lift_gradient(evaluation.gradient))
    slope = evaluation.gradient_norm > 0
    return slope & (rows.residual(points, evaluation, own) > SETTLED)


def saturated(rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
    """`[rows]` bool: a small residual is the loss's doing, and there is a way up.

    Args:
        rows: the problem at these rows.
        points: in the form that rows have.
        evaluation: there.
    """
    none = torch.zeros_like(evaluation.loss, dtype=torch.bool)
    if type(rows.objective) not in SATURATING:
        return none
    index = (evaluation.loss < TINY_LOSS).nonzero().flatten()
    if not len(index):
        return none
    some = (rows.take(index), _rows.take(points, index), _rows.take(evaluation, index))
    return none.index_copy(0, index, going(*some))
