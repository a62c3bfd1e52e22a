"""ReLU networks against the input scale: a control for homogeneous networks.

relu(ct) = c·relu(t): without biases F(cx; cδ) = c·F(x; δ), so the maxima of F = -yf at
fixed ε/‖x‖ are the same directions at every c. With biases they are not. Maxima are
found by DC ascent, whose end points are exact, at c = 1, carried to the other scales,
and DC ascent is started there: it stays where they are maxima.
"""

import torch
from pydantic import NonNegativeFloat, PositiveFloat, PositiveInt

from summiteer import _rows
from summiteer._ascend import ascend
from summiteer.adversaries import DCAscent
from summiteer.engine import Measurement
from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import Margin
from summiteer.outcome import Outcome
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import GivenStart, UniformStart
from summiteer.studies.experiment import Experiment, Parameters
from summiteer.studies.inputs import signed_examples

#: End points are exact to the root of rounding, in units of ε.
STAYS = 1e-6


class KinksParameters(Parameters):
    """A ReLU network on digits; the seed is the network's.

    Attributes:
        bias_std: deviation of the biases, that of the weights being 1.
        scales: to which the maxima at c = 1 are carried.
        width: m.
        ratio: ε/‖x‖.
        examples: digits.
        restarts: starts per digit.
    """

    bias_std: NonNegativeFloat = 0.0
    scales: tuple[PositiveFloat, ...] = (0.1, 1.0, 10.0)
    width: PositiveInt = 256
    ratio: PositiveFloat = 0.3
    examples: PositiveInt = 16
    restarts: PositiveInt = 2


def measure(parameters: KinksParameters) -> Measurement:
    """Maxima of one network at c = 1, and how far they are from maxima elsewhere.

    Args:
        parameters: of the cell.

    Returns:
        `moved` `[scales, maxima]`: by how much DC ascent leaves them, in units of ε.
    """
    problem = _problem(parameters, 1.0)
    start = UniformStart(restarts=parameters.restarts, seed=parameters.seed)
    ascent = ascend(problem, DCAscent(), start)
    ended = torch.from_numpy(ascent.outcome != Outcome.STEP_LIMIT).flatten()
    index = torch.arange(len(problem)).repeat(parameters.restarts)[ended]
    units = ascent.final.flatten(0, 1)[ended] / parameters.ratio
    moved = []
    for scale in parameters.scales:
        there = _problem(parameters, scale).take(index)
        radius = parameters.ratio * scale
        again = ascend(there, DCAscent(approach=0), GivenStart(radius * units))
        moved.append(_rows.norm(again.final[0] / radius - units))
    arrays = {"moved": torch.stack(moved)}
    # What is not a number is no evidence of staying.
    farthest = arrays["moved"].amax(0).nan_to_num(torch.inf)
    stay = int((farthest <= STAYS).sum())
    return Measurement({"maxima": len(farthest), "stay": stay}, arrays)


def _problem(parameters: KinksParameters, scale: float) -> Problem:
    """F = -yf on digits of norm c, targets ±1 (label ≥ 5), ε = ratio·c."""
    count = parameters.examples
    index = torch.arange(count) + parameters.seed * count
    inputs, targets = signed_examples("digits", index)
    network = TwoLayerNetwork.random(
        inputs.shape[1],
        parameters.width,
        "relu",
        seed=parameters.seed,
        bias_std=parameters.bias_std,
    )
    region = L2Ball(parameters.ratio * scale)
    return Problem(network, scale * inputs, targets, Margin(), region)


KINKS = Experiment(
    "kinks",
    KinksParameters,
    measure,
    "maxima of ReLU carried over c",
    {
        "maxima": "end points of DC ascent at c = 1, one per run that came to rest",
        "stay": "of them, those that ascent leaves by at most 1e-6 ε at every scale",
    },
)
