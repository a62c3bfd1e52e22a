"""How regular the inner problem of two-layer networks is at a moment of training."""

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._constants import regularity_of
from summiteer.adversaries import ConstantStep, Normalised, ProjectedAscent
from summiteer.landscape import distinct_maxima
from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import Quadratic
from summiteer.problem import Problem
from summiteer.regions import L2Ball
from summiteer.starts import UniformStart

#: Starts and steps of the ascent that looks for all maxima.
STARTS, LONG = 8, 80
#: A residual up to this is called stationary. Steps of ε contract by about one half, so
#: ten of them leave 1e-3 at best: at that limit it would hang on the last bit.
STATIONARY = 1e-2

MEASURES = (
    "a_priori",
    "majorant_ratio",
    "residual",
    "found",
    "maxima",
    "both_signs",
)


def regularity(
    network: TwoLayerNetwork,
    inputs: Tensor,
    targets: Tensor,
    radius: float,
    steps: int,
    seed: int,
) -> Tensor:
    """The indices of mathematics.md §6, and what ascent from eight starts meets.

    Args:
        network: in float64.
        inputs: `[n, d]`.
        targets: `[n]`.
        radius: ε.
        steps: of the training adversary, normalised and of length ε.
        seed: of the starts.

    Returns:
        `[n, 6]`, in the order of `MEASURES`: q of Prop. 5; λ⁺(M)/μ at the best end
        point; the residual after `steps` from one start; the loss found there, divided
        by the best of eight starts of 80 steps; distinct end points of the sign of u
        that has more of them; 1 where end points have both signs, else 0.
    """
    problem = Problem(network, inputs, targets, Quadratic(), L2Ball(radius))
    adversary = ProjectedAscent(Normalised(), ConstantStep(radius))
    one = UniformStart(seed=seed)
    short = ascend(problem, adversary, one, steps, tolerance=0.0, rescue=False)
    many = UniformStart(restarts=STARTS, seed=seed, first=1)
    long = ascend(problem, adversary, many, LONG, rescue=False)
    with torch.no_grad():
        apart = network(inputs + long.best) - targets
        slope = apart.sign()[:, None] * network.gradient(inputs + long.best)
        multiplier = (slope * long.best).sum(1) / radius**2
        sizes = torch.full_like(targets, radius)
        known = regularity_of(network, inputs, sizes, apart.sign(), multiplier)
        ends = long.final.flatten(0, 1)
        positive = network(inputs.repeat(STARTS, 1) + ends) > targets.repeat(STARTS)
    positive = positive.reshape(STARTS, -1)
    counts = [
        distinct_maxima(long.final, sizes, counted=side, problem=problem).count
        for side in (positive, ~positive)
    ]
    both = positive.any(0) & ~positive.all(0)
    best = torch.maximum(long.best_loss, short.best_loss)
    return torch.stack(
        [
            known["a_priori"],
            known["global"],
            short.residual[0],
            short.losses[0] / best,
            torch.maximum(*counts).double(),
            both.double(),
        ],
        1,
    )
