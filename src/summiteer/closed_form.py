"""Rows of a two-layer network: loss and gradient without autograd."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.networks import TwoLayer, TwoLayerNetwork, as_two_layer
from summiteer.objectives import with_slopes
from summiteer.problem import Evaluation, Problem, Rows

#: Dtypes whose rounding is small beside what runs are asked for.
DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True, eq=False)
class TwoLayerRows(Rows):
    """Rows whose gradient is Wᵀ(σ'(h) ⊙ Aᵀ∂φ/∂z), h = W(x + δ) + b, z = Aσ(h) + c.

    Attributes:
        model: the network.
    """

    model: TwoLayerNetwork

    def evaluate(self, points: Tensor) -> Evaluation:
        """See `Rows.evaluate`; the same to rounding."""
        network = self.model
        with torch.no_grad():
            hidden = network.preactivations(self.inputs + points)
            values, pull = network.activation.value_and_first(hidden)
            outputs = network.head(values)
            loss, slopes = with_slopes(self.objective, outputs, self.targets)
            slopes = slopes.to(pull)
            if network.outputs is None:
                pull.mul_(network.output_weights).mul_(slopes[:, None])
            else:
                pull.mul_(slopes @ network.output_weights)
            gradient = pull @ network.hidden_weights
        return Evaluation(loss, gradient, self.wrong(outputs))


def rows_of(problem: Problem, index: Tensor) -> Rows:
    """The rows of runs of a problem, in closed form where its model has one.

    Args:
        problem: what is maximised.
        index: `[runs]` the example of each run.
    """
    rows = problem.rows(index)
    structure = as_two_layer(problem.model)
    plain = type(rows) is Rows and problem.inputs.dtype in DTYPES
    if not (plain and isinstance(structure, TwoLayer)):
        return rows
    return TwoLayerRows(
        structure.network,
        rows.inputs,
        rows.targets,
        rows.objective,
        rows.region,
        rows.labelled,
    )
