"""Points polished as far as float64 goes, for whoever wants to look at them."""

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import BacktrackingStep, Normalised, ProjectedAscent
from summiteer.optimality.newton import newton, settle
from summiteer.optimality.piecewise import climbed
from summiteer.optimality.points import checked
from summiteer.optimality.premises import on_cpu, premises
from summiteer.optimality.relu import nearest_peak
from summiteer.optimality.scalar_form import scalar_form
from summiteer.optimality.stand import limits_of
from summiteer.problem import Problem
from summiteer.starts import GivenStart

#: The first step of the ascent, in radii: a point next to a maximum must not jump.
_FIRST = 1e-3  # the search distance of verdicts
_STEPS = 500
#: How far, in radii, a maximum may lie from the point that it is said to be next to.
_NEAR = 0.05
#: What F may lose, relatively, where nothing but rounding is lost.
_NOISE = 1e-12


def polish(problem: Problem, points: Tensor) -> Tensor:
    """Climb from the points to the maxima next to them, in float64.

    Of two-layer networks by Newton's method on the Lagrangian (`newton.py`) or, with
    kinks, by DC ascent through the patterns of their units (`relu.py`) and, where that
    finds none near by, along the kinks (`ridge_ascent.py`). All else, and for other
    networks, by projected ascent with backtracking; after it once more by Newton's
    method, or along the kinks.

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
        exact, given = problem.in_double(), points.double()
        nearest, there, kinked = _at_once(exact, given)
        left = (~there).nonzero().flatten()
        if len(left):
            some = exact if len(left) == len(given) else exact.take(left)
            nearest = nearest.index_copy(0, left, _climbed(some, given[left], kinked))
        return nearest


def _at_once(problem: Problem, points: Tensor) -> tuple[Tensor, Tensor, bool]:
    """(points, whether they are maxima, whether the network has kinks) without ascent.

    As far as floats can tell; only of two-layer networks.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64.
    """
    nowhere = torch.zeros(len(points), dtype=torch.bool, device=points.device)
    limits = premises(problem, kinked=True)
    if isinstance(limits, str):
        return points, nowhere, False
    with torch.no_grad(), on_cpu():
        form = scalar_form(problem, points, kinked=True)
        if isinstance(form, str):
            return points, nowhere, False
        size = problem.size.double()
        smooth = form.surface.activation.smooth
        if smooth:
            nearer, there = settle(form.surface, limits, points, _FIRST * size)
        else:
            nearer, there = nearest_peak(form.surface, limits, points)
        there &= (nearer - points).norm(dim=1) <= _NEAR * size
        # What a float32 ascent returns may stick out of the region, and be higher.
        inside = problem.feasible.project(points)
        before, after = form.heights(inside), form.heights(nearer)
        # Newton puts points on limits that are near: a maximum may lie beside them.
        there &= after[0] >= before[0] - _NOISE * before[0].abs()
        there &= (after[1:] < after[0]).all(0)
        return nearer, there, not smooth


def _climbed(problem: Problem, points: Tensor, kinked: bool) -> Tensor:
    """By ascent first.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64.
        kinked: of two layers, where steps along the kinks found the same maxima.
    """
    if kinked:
        inside = problem.feasible.project(points)
        along = climbed(problem, inside)
        if along is not None:
            return along
    climber = ProjectedAscent(Normalised(), BacktrackingStep(first=_FIRST))
    start = GivenStart(points)
    reached = ascend(problem, climber, start, _STEPS, rescue=False).final[0]
    along = climbed(problem, reached)
    if along is not None:
        return along
    if reached.ndim != 2:
        return reached
    limits = limits_of(problem.feasible, reached)
    form = scalar_form(problem, reached)
    if limits is None or isinstance(form, str):
        return reached
    with torch.no_grad():
        reach = _FIRST * problem.size.double()
        nearer = newton(form.surface, limits, reached, reach)[0]
        before, after = (form.surface.at(x).value for x in (reached, nearer))
        lower = after.upper < before.lower
        return torch.where(lower[:, None], reached, nearer)
