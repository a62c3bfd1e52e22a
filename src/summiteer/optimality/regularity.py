"""The regularity indices of mathematics.md §6, measured at maximisers."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._constants import regularity_of
from summiteer.networks import recognise
from summiteer.objectives import ScalarLoss
from summiteer.optimality.claims import Claims
from summiteer.problem import Problem

INDICES = ("global", "unique", "a_priori")


def measure_of(problem: Problem, claims: Claims) -> Callable[[], dict[str, Tensor]]:
    """Return a function that measures the indices at the certified points.

    They cost two eigenvalue problems per example, which not everybody wants. The
    function keeps its own copy of the network.

    Args:
        problem: in float64.
        claims: for the certified points.
    """
    network, loss = recognise(problem.model).scalar, problem.objective
    points = claims.certified_point
    nothing = torch.full((len(problem),), torch.nan, dtype=torch.float64)
    if (
        network is None
        or points is None
        or not isinstance(loss, ScalarLoss)
        or not problem.feasible.whole_ball
    ):
        return lambda: dict.fromkeys(INDICES, nothing)
    kept = copy.deepcopy(network)
    inputs, targets = problem.inputs.clone(), problem.targets.clone()
    radius = problem.size.double()
    at, slope_sign = points.clone(), loss.slope_sign

    def measure() -> dict[str, Tensor]:
        with torch.no_grad():
            moved = inputs + at
            sign = slope_sign(kept(moved), targets)
            gradient = sign[:, None] * kept.gradient(moved)
            active = at.norm(dim=1) >= radius * (1 - tolerances.BOUNDARY)
            multiplier = (gradient * at).sum(1) / radius.square()
            multiplier = torch.where(active, multiplier, 0.0)
            return regularity_of(kept, inputs, radius, sign, multiplier)

    return measure
