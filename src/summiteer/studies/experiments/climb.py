"""Ascent on two-layer networks at the paper's initialisation, judged at its end."""
# (spine: being filled in)

from typing import Literal

import torch

from summiteer._ascend import ascend
from summiteer.data import load_data
from summiteer.engine import Measurement
from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import Quadratic
from summiteer.optimality import Evidence, local_optimality
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import UniformStart
from summiteer.studies.experiment import Experiment, Parameters


class ClimbParameters(Parameters):
    """Network, data, region and method."""

    activation: Literal["softplus", "tanh", "quadratic", "relu"] = "softplus"
    width: int = 256
    scale: float = 1.0
    ratio: float = 0.3
    examples: int = 16
    restarts: int = 12
    max_steps: int = 400


def measure(parameters: ClimbParameters) -> Measurement:
    """One network at one scale: ascent from random starts, verdicts at the ends."""
    digits = load_data("digits")
    scale, count = parameters.scale, parameters.examples
    inputs = digits.inputs[:count].double()
    inputs = scale * inputs / inputs.norm(dim=1, keepdim=True)
    targets = torch.where(digits.targets[:count] >= 5, 1.0, -1.0).double()
    network = TwoLayerNetwork.random(
        inputs.shape[1], parameters.width, parameters.activation, seed=parameters.seed
    )
    region = L2Ball(parameters.ratio * scale)
    problem = Problem(network, inputs, targets, Quadratic(), region)
    start = UniformStart(restarts=parameters.restarts, seed=parameters.seed)
    ascent = ascend(problem, start=start, max_steps=parameters.max_steps)
    runs = problem.take(torch.arange(count).repeat(parameters.restarts))
    certificate = local_optimality(runs, ascent.final.flatten(0, 1))
    proved = [e is Evidence.PROVED for e in certificate.evidence]
    record = {
        "maximum": float(certificate.maximum.double().mean()),
        "proved": sum(proved) / len(proved),
        "steps": float(ascent.steps.double().median()),
    }
    return Measurement(record, {"steps": ascent.steps})


CLIMB = Experiment("climb", ClimbParameters, measure, "ascent, judged at its end")
