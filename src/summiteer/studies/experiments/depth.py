"""Ascent on deeper networks, trained on real data, judged at its end."""

from typing import Annotated, Literal

import torch
from pydantic import Field, PositiveFloat, PositiveInt
from torch import nn

from summiteer.data import load_data
from summiteer.engine import Measurement
from summiteer.networks.reference import digits_mlp
from summiteer.objectives import CrossEntropy
from summiteer.problem import Problem
from summiteer.regions import L2Ball, LinfBall
from summiteer.studies.experiment import Experiment
from summiteer.studies.experiments.climb import CLIMBED, RunParameters, climbed

_ACTIVATIONS = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
#: Descent of several layers at the rate of one may end with dead units everywhere.
_RATE = 0.05


class DepthParameters(RunParameters):
    """Network, region and runs; the seed is the network's and the starts'.

    Attributes:
        hidden: widths of the hidden layers.
        activation: between them.
        trained: steps of full-batch descent on the digits, 0 for a random network.
        norm: of the region; with linf it also keeps inputs in [0, 1].
        radius: of the region, in pixels/16.
        examples: of this cell; network s looks at examples of its own.
    """

    hidden: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (32, 32)
    activation: Literal["relu", "tanh", "gelu"] = "relu"
    trained: int = Field(200, ge=0)
    norm: Literal["l2", "linf"] = "l2"
    radius: PositiveFloat = 0.5
    examples: PositiveInt = 16
    method: Literal["backtracking", "normalised"] = "backtracking"


def measure(parameters: DepthParameters) -> Measurement:
    """One network: ascent of the cross-entropy from random starts, verdicts at its end.

    Args:
        parameters: of the cell.

    Returns:
        What `climb` returns, and the network's accuracy on all digits.
    """
    digits = load_data("digits")
    model = digits_mlp(
        parameters.hidden,
        parameters.trained,
        parameters.seed,
        _ACTIVATIONS[parameters.activation],
        _RATE,
    ).double()
    count = parameters.examples
    index = torch.arange(count) + parameters.seed * count
    rows = index % len(digits.targets)
    flat, square = L2Ball(parameters.radius), LinfBall(parameters.radius)
    with torch.no_grad():
        guessed = model(digits.inputs.double()).argmax(1)
    found = climbed(
        Problem(
            model,
            digits.inputs[rows].double(),
            digits.targets[rows],
            CrossEntropy(),
            flat if parameters.norm == "l2" else square,
            box=None if parameters.norm == "l2" else (0.0, 1.0),
            ids=index,
        ),
        parameters.radius,
        parameters,
    )
    accuracy = float((guessed == digits.targets).double().mean())
    return Measurement({**found.record, "accuracy": accuracy}, found.arrays)


DEPTH = Experiment(
    "depth",
    DepthParameters,
    measure,
    "ascent on deeper networks, judged at its end",
    CLIMBED | {"accuracy": "the network's share of all digits that it classifies"},
)
