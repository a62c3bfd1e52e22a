"""Rows of a two-layer network: loss and gradient without autograd."""

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import with_slopes
from summiteer.problem import Evaluation, Problem, Rows


@dataclass(frozen=True, eq=False)
class TwoLayerRows(Rows):
    """Rows whose gradient is Wᵀc, c = σ'(h) ⊙ Aᵀ∂φ/∂z, z = Aσ(h) + a₀, h = W(x+δ) + b.

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
            if network.outputs is None:
                pull.mul_(network.output_weights).mul_(slopes[:, None])
            else:
                pull.mul_(slopes @ network.output_weights)
            gradient = pull @ network.hidden_weights
        return Evaluation(loss, gradient, self.wrong(outputs))


@dataclass(frozen=True, eq=False)
class InputSpace:
    """A two-layer problem as it is.

    Attributes:
        problem: the caller's.
        network: its model.
    """

    name: ClassVar[Literal["input"]] = "input"

    problem: Problem
    network: TwoLayerNetwork

    def rows(self, index: Tensor, perturbations: Tensor) -> TwoLayerRows:
        """Return the rows of runs.

        Args:
            index: `[runs]` the example of each run.
            perturbations: `[runs, d]` their starts.
        """
        own = self.problem.rows_of_runs(index)
        return TwoLayerRows(
            self.network,
            own.inputs,
            own.targets,
            own.objective,
            own.region,
            own.labelled,
        )
