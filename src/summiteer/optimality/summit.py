"""Points polished as far as float64 goes, for whoever wants to look at them."""

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import BacktrackingStep, Normalised, ProjectedAscent
from summiteer.optimality.newton import newton
from summiteer.optimality.piecewise import climbed
from summiteer.optimality.points import checked
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.stand import limits_of
from summiteer.problem import Problem
from summiteer.starts import GivenStart

#: The first step of the ascent, in radii: a point next to a maximum must not jump.
_FIRST = 1e-3  # the search distance of verdicts
_STEPS = 500


def polish(problem: Problem, points: Tensor) -> Tensor:
    """Climb from the points to the maxima next to them, in float64.

    Projected ascent with backtracking; after it, for smooth two-layer networks Newton's
    method on the Lagrangian (`newton.py`), for piecewise-linear ones ascent along their
    kinks (`ridge_ascent.py`).

    Args:
        problem: what is maximised.
        points: `[batch, *input]`.

    Returns:
        `[batch, *input]` float64; the objective there is not below the one given, but
        for rounding.

    Raises:
        UserError: points of the wrong shape or not finite; a model that does not fit.
    """
    points = checked(problem, points)
    problem.examine()
    with undisturbed(problem.model):
        exact = problem.in_double()
        climber = ProjectedAscent(Normalised(), BacktrackingStep(first=_FIRST))
        start = GivenStart(points.double())
        reached = ascend(exact, climber, start, _STEPS, rescue=False).final[0]
        along = climbed(exact, reached)
        if along is not None:
            return along
        if reached.ndim != 2:
            return reached
        limits = limits_of(exact.feasible, reached)
        form = scalar_form(exact, reached)
        if limits is None or isinstance(form, str):
            return reached
        with torch.no_grad():
            reach = _FIRST * exact.size.double()
            nearer = newton(form.surface, limits, reached, reach)[0]
            # Newton puts points on limits that are near: a maximum may lie beside them.
            before, after = (form.surface.at(x).value for x in (reached, nearer))
            lower = after.upper < before.lower
            return torch.where(lower[:, None], reached, nearer)
