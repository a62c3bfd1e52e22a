"""Random restarts that know when to stop."""

import torch
from torch import Tensor

from summiteer.searching.basins import seen_enough
from summiteer.searching.known import Known
from summiteer.searching.quest import Quest
from summiteer.searching.runs import Runs
from summiteer.starts import UniformStart

#: Numbers of uniform points below are those of other runs; see `Quest.starts`.
_FIRST = 2**20


def restarts(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """Runs of the problem's own objective from uniform points.

    One in the first turn, and then in each as many as were made before, so that every
    turn asks whether what was known was all; see `seen_enough`. Draws are numbered:
    many turns draw what one turn would have drawn.
    """
    first = 2 ** (turn - 1) if turn else 0
    count = min(max(1, first), quest.effort.restarts - first)
    if count < 1:
        return None
    left = open_
    if turn:
        some = quest.problem.take(open_)
        seen, _ = known.basins.take(open_).maxima(some, known.best[open_])
        left = open_[~seen_enough(seen, quest.effort.unseen).to(open_.device)]
    if not len(left):
        return None
    start = UniformStart(restarts=count, seed=quest.seed, first=_FIRST + first)
    points = start.points(quest.problem.take(left)).flatten(0, 1)
    draw = torch.arange(first, first + count, device=left.device)
    return Runs(
        left.repeat(count),
        points,
        quest.effort.max_steps,
        draw=draw.repeat_interleave(len(left)),
    )
