"""How many local maxima there are: what propositions say of the whole region.

Of F alone, Prop. 4: a maximum may be proved to be the only KKT point of F in C, and
Prop. 5 says so before any ascent. Losses that are monotone in f for every target have
then one maximum.

Of ½u² there is at least one maximum for each sign that u takes on C: where the maximum
of s·u over C is positive, it is one. It has at most one for a sign s of u for which
F = s·f has one KKT point. Whether u takes the other sign than at the maxima found is
seen from an ascent of -s·f and the bounds of its maximum (Prop. 8).
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer.networks import recognise
from summiteer.objectives import Margin, Quadratic
from summiteer.optimality import Evidence, local_optimality, upper_bound
from summiteer.optimality.certificate import Certificate
from summiteer.problem import Problem
from summiteer.regions.intervals import Intervals
from summiteer.starts import CentreStart

#: What a certificate's reason says of Prop. 4, and of Prop. 5.
_ONLY, _REGULAR = "F's only KKT point", "Prop. 5, known"
#: A point may lie outside a region by rounding, and so far from its other side.
_ROUNDING = 1e-9
#: Of the ascent towards the other sign of u; further ones would only help ties.
_STEPS = 200


@dataclass(frozen=True, eq=False)
class Numbers:
    """Proved bounds of the number of local maxima.

    Attributes:
        least: `[batch]` int64.
        most: `[batch]` float64, ∞ where nothing is known.
    """

    least: Tensor
    most: Tensor


def number_of_maxima(
    problem: Problem, certificate: Certificate, sign: Tensor, least: Tensor
) -> Numbers:
    """Bounds of the number of local maxima of each example; see the head of this file.

    Args:
        problem: of the examples, in float64.
        certificate: of all end points, `[runs · batch]`.
        sign: `[runs, batch]` of u there.
        least: `[batch]` end points that are proved to be next to different maxima.
    """
    shape = sign.shape
    pairs = zip(certificate.evidence, certificate.maximum.tolist(), strict=True)
    found = torch.tensor([m and e is Evidence.PROVED for e, m in pairs])
    width = _diameter(problem)
    alone = found & (certificate.uniqueness_radius >= width.repeat(shape[0]))
    most = torch.full((shape[1],), torch.inf, dtype=torch.float64)
    if (
        isinstance(problem.objective, Quadratic)
        and recognise(problem.model).scalar is not None
    ):
        texts = zip(certificate.reason, found.tolist(), strict=True)
        said = [text if known else "" for text, known in texts]
        only = torch.tensor([_ONLY in text for text in said]).reshape(shape)
        regular = torch.tensor([_REGULAR in text for text in said]).reshape(shape)
        met = found.reshape(shape)
        single = torch.stack([(only & (sign == s)).any(0) for s in (1, -1)])
        single |= regular.any(0)
        seen = torch.stack([(met & (sign == s)).any(0) for s in (1, -1)])
        single, taken, never = _other_side(problem, single, seen)
        least = least + (taken & ~seen).sum(0)
        most[single.all(0)] = 2.0
        most[(single & never.flip(0)).any(0)] = 1.0
    most[alone.reshape(shape).any(0)] = 1.0
    return Numbers(least, most)


def _other_side(
    problem: Problem, single: Tensor, seen: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """What is proved of the signs + and - of u, all `[2, batch]` bool.

    Args:
        problem: of ½u².
        single: for which signs F is proved to have one KKT point.
        seen: which are known to occur, as maxima of that sign are.

    Returns:
        `single` with what was learnt, which signs u takes on the region, and which it
        never takes.
    """
    single, taken, never = single.clone(), seen.clone(), torch.zeros_like(seen)
    for row, sign in enumerate((1.0, -1.0)):
        index = (~seen[row] & seen[1 - row]).nonzero().flatten()
        if not len(index):
            continue
        some = problem.take(index)
        # -y·f with the "label" y = -s is s·f.
        labels = torch.full((len(index),), -sign).to(some.inputs)
        slope = replace(some, targets=labels, objective=Margin())
        points = ascend(slope, None, CentreStart(), _STEPS, rescue=False).best
        bracket = upper_bound(slope, points)
        level = sign * some.targets.reshape(len(index)).double().cpu()
        taken[row, index] = bracket.lower > level
        never[row, index] = bracket.upper < level
        there = (taken[row, index] & ~single[row, index]).nonzero().flatten()
        if len(there):
            proof = local_optimality(some.take(there), points[there])
            said = zip(proof.reason, proof.evidence, strict=True)
            only = [_ONLY in text and e is Evidence.PROVED for text, e in said]
            single[row, index[there]] = torch.tensor(only)
    return single, taken, never


def _diameter(problem: Problem) -> Tensor:
    """How far from any of its points the region extends, at most `[batch]`."""
    region, size = problem.feasible, problem.size.double().cpu()
    if region.whole_ball or region.norm == "l1":
        return 2 * size  # which certificates state of what is the only one in it
    if isinstance(region, Intervals):
        limits = region.limits(problem.inputs)
        lower, upper = (each.expand(problem.inputs.shape).double() for each in limits)
        size = (upper - lower).flatten(1).norm(dim=1).cpu() / 2
    return 2 * size * (1 + _ROUNDING)
