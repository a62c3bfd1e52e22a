"""Ascent of other losses than the quadratic one on two-layer networks."""

from typing import Literal

import torch

from summiteer.data import load_data
from summiteer.draws import Draws
from summiteer.engine import Measurement
from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import CrossEntropy, Logistic, Objective
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.studies.experiment import Experiment
from summiteer.studies.experiments.climb import CLIMBED, ClimbParameters, climbed
from summiteer.studies.inputs import signed_examples

#: Of the random signs of output weights.
_STREAM = 7


class LossParameters(ClimbParameters):
    """Which loss is climbed, and how.

    Attributes:
        loss: logistic of one output; cross-entropy of two or ten.
    """

    data: Literal["digits"] = "digits"
    loss: Literal["logistic", "cross-entropy-2", "cross-entropy-10"] = "logistic"


def measure(parameters: LossParameters) -> Measurement:
    """One network: ascent of the loss from random starts, verdicts at the ends.

    Args:
        parameters: of the cell.

    Returns:
        What `climb` returns.
    """
    radius = parameters.ratio * parameters.scale
    return climbed(loss_problem(parameters), radius, parameters)


def loss_problem(parameters: LossParameters) -> Problem:
    """A loss of a random two-layer network on balls around digits of norm c.

    Hidden weights are the paper's; each of several outputs has the weights ±1/√m.

    Args:
        parameters: of the problem.
    """
    count = parameters.examples
    index = torch.arange(count) + parameters.seed * count + parameters.first
    inputs, signs = signed_examples(parameters.data, index)
    network = TwoLayerNetwork.random(
        inputs.shape[1],
        parameters.width,
        parameters.activation,
        parameters.weight_std,
        parameters.seed,
    )
    objective: Objective = Logistic()
    targets = signs
    if parameters.loss != "logistic":
        objective = CrossEntropy()
        classes = int(parameters.loss.rpartition("-")[2])
        labels = load_data("digits").targets
        every = labels[index % len(labels)].long()
        targets = every if classes == 10 else (signs > 0).long()
        network = _with_outputs(network, classes, parameters)
    region = L2Ball(parameters.ratio * parameters.scale)
    return Problem(
        network, parameters.scale * inputs, targets, objective, region, ids=index
    )


def _with_outputs(
    network: TwoLayerNetwork, classes: int, parameters: LossParameters
) -> TwoLayerNetwork:
    """The hidden layer with so many outputs, all weights ±1/√m."""
    rows = torch.arange(classes)
    draws = Draws(parameters.seed, rows, torch.zeros_like(rows), _STREAM)
    size = parameters.width**-0.5
    high = draws.uniform(parameters.width) >= 0.5
    weights = size * (2 * high.double() - 1)
    return TwoLayerNetwork(
        network.hidden_weights.detach(), weights, activation=parameters.activation
    )


LOSSES = Experiment(
    "losses",
    LossParameters,
    measure,
    "ascent of other losses, judged at its end",
    CLIMBED,
)
