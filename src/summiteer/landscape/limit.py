"""How many maxima there can be at most: where a proposition says so of all of C."""

import torch
from torch import Tensor

from summiteer.objectives import Quadratic
from summiteer.optimality.certificate import Certificate
from summiteer.optimality.verdict import Evidence
from summiteer.problem import Problem
from summiteer.regions.intervals import Intervals

#: What a certificate's reason says of Prop. 4, and of Prop. 5.
_ONLY, _REGULAR = "F's only KKT point", "Prop. 5, known"
#: A point may lie outside a region by rounding, and so far from its other side.
_ROUNDING = 1e-9


def most_maxima(problem: Problem, certificate: Certificate, sign: Tensor) -> Tensor:
    """A proved upper bound of the number of local maxima of each example.

    1 where a maximum is proved to be unique within the whole region. For ½u²: 2 where F
    has no other KKT point than the one found for either sign of u (Prop. 4), or where
    Prop. 5 says so before any ascent, of f and -f alike: at most one for each sign.

    Args:
        problem: of the examples.
        certificate: of all end points, `[runs · batch]`.
        sign: `[runs, batch]` of u there.

    Returns:
        `[batch]` float64, ∞ where nothing is known.
    """
    shape = sign.shape
    proved = [e is Evidence.PROVED for e in certificate.evidence]
    known = torch.tensor(proved, dtype=torch.bool) & certificate.maximum
    width = _diameter(problem)
    alone = known & (certificate.uniqueness_radius >= width.repeat(shape[0]))
    most = torch.full((shape[1],), torch.inf, dtype=torch.float64)
    if isinstance(problem.objective, Quadratic):
        pairs = zip(certificate.reason, known.tolist(), strict=True)
        said = [text if ok else "" for text, ok in pairs]
        only = torch.tensor([_ONLY in text for text in said]).reshape(shape)
        regular = torch.tensor([_REGULAR in text for text in said]).reshape(shape)
        both = (only & (sign > 0)).any(0) & (only & (sign < 0)).any(0)
        most[both | regular.any(0)] = 2.0
    most[alone.reshape(shape).any(0)] = 1.0
    return most


def _diameter(problem: Problem) -> Tensor:
    """How wide the region is from any of its points, at most `[batch]`."""
    region, size = problem.feasible, problem.size.double().cpu()
    if region.whole_ball or region.norm == "l1":
        return 2 * size  # which certificates state of what is the only one in it
    if isinstance(region, Intervals):
        limits = region.limits(problem.inputs)
        lower, upper = (each.expand(problem.inputs.shape).double() for each in limits)
        size = (upper - lower).flatten(1).norm(dim=1).cpu() / 2
    return 2 * size * (1 + _ROUNDING)
