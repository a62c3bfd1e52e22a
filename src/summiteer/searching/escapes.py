"""Ways out of points that a certificate says are no maxima."""

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.optimality import Verdict, local_optimality
from summiteer.problem import Problem
from summiteer.searching.known import Known
from summiteer.searching.quest import Quest
from summiteer.searching.runs import Runs

#: How far the ways are gone before a run begins, in radii: the certificate's own search
#: distance, where something higher was found, and beyond.
_LENGTHS = (1e-3, 1e-2, 1e-1)


def escapes(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """Runs from the strongest point along the way uphill of its negative certificate.

    `local_optimality` is asked of the strongest points. Where it says SADDLE or
    NOT_STATIONARY, by proof or by measurement, and names a direction v, runs of the
    problem's own objective begin at Π(δ + t·v) for several lengths t; at a saddle at
    Π(δ - t·v) too, since to second order both ways lead up, and perhaps to different
    maxima. Where it says that the point is a maximum there is no way uphill from it,
    and nothing is tried: other maxima are what the other sources look for. The next
    turn asks of those points alone that the last one raised.

    The certificate costs time, and no evaluations that are counted.
    """
    if turn >= quest.effort.escapes:
        return None
    if turn:
        open_ = open_[known.risen[open_]]
    if not len(open_):
        return None
    some = quest.problem.take(open_)
    points = known.best[open_]
    certificate = local_optimality(some, points)
    saddle = _is(certificate.verdict, Verdict.SADDLE)
    there = (saddle | _is(certificate.verdict, Verdict.NOT_STATIONARY)).to(open_.device)
    way = certificate.direction.to(points)
    there = there & way.flatten(1).isfinite().all(1)
    starts, examples = [], []
    for sign, kept in ((1.0, there), (-1.0, there & saddle.to(open_.device))):
        index = kept.nonzero().flatten()
        for length in _LENGTHS:
            starts.append(_moved(some, points, way, sign * length, index))
            examples.append(open_[index])
    if not int(there.sum()):
        return None
    return Runs(torch.cat(examples), torch.cat(starts), quest.effort.max_steps)


def _is(verdicts: tuple[Verdict, ...], wanted: Verdict) -> Tensor:
    """`[batch]` bool."""
    return torch.tensor([verdict is wanted for verdict in verdicts])


def _moved(
    problem: Problem, points: Tensor, way: Tensor, radii: float, index: Tensor
) -> Tensor:
    """Π(δ + radii·ε·v) of the examples `index`."""
    length = _rows.expand(radii * problem.size[index], points)
    moved = points[index] + length * way[index]
    return problem.rows(index).region.project(moved)
