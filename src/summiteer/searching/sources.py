"""Where the runs of a search come from. Adding one is one function and one line.

A source is asked again and again; each time it names the runs that it would make next,
given what is known, or None when it has none left. The examples it names runs of are
those that are `open`.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.problem import Problem
from summiteer.searching.effort import Effort
from summiteer.searching.gates import SLOPE
from summiteer.searching.known import Known
from summiteer.searching.neighbours import towards_neighbours
from summiteer.searching.runs import Runs
from summiteer.starts import UniformStart


@dataclass(frozen=True, eq=False)
class Quest:
    """What is looked for.

    Attributes:
        problem: whose maxima.
        effort: what may be spent.
        seed: of the random starts.
        rivals: `[batch, K - 1]` the other classes, the likeliest first; None where the
            problem has no classes.
        neighbours: `(inputs, targets)` of examples whose classes show the way; None for
            none.
    """

    problem: Problem
    effort: Effort
    seed: int
    rivals: Tensor | None
    neighbours: tuple[Tensor, Tensor] | None


#: (what is looked for, what is known, which examples are open, turn) -> runs, if any.
Source = Callable[[Quest, Known, Tensor, int], Runs | None]

#: Rivals of each turn: one that is left for the second turn may be broken by then.
_WAVES = (1, 2, 64)


def rivals(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """One run towards each rival, from the centre."""
    return _towards_rivals(quest, open_, turn, quest.effort.rival_steps)


def gates(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """One run towards each rival, through closed gates."""
    steps = quest.effort.gate_steps
    if not steps:
        return None
    return _towards_rivals(quest, open_, turn, steps, SLOPE)


def neighbours(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """Runs towards each rival from vertices in the direction of its nearest examples."""
    if quest.neighbours is None or quest.rivals is None:
        return None
    if turn >= quest.effort.neighbours:
        return None
    towards = quest.rivals[open_]
    examples = open_.repeat_interleave(towards.shape[1])
    classes = towards.flatten()
    points, there = towards_neighbours(
        quest.problem, quest.neighbours, examples, classes, turn
    )
    if not bool(there.any()):
        return None
    return Runs(examples, points, quest.effort.rival_steps, classes).take(
        there.nonzero().flatten()
    )


def restarts(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """Runs of the problem's own objective from uniform points."""
    count = quest.effort.restarts
    if turn or not count:
        return None
    start = UniformStart(restarts=count, seed=quest.seed)
    points = start.points(quest.problem.take(open_)).flatten(0, 1)
    return Runs(open_.repeat(count), points, quest.effort.max_steps)


def _towards_rivals(
    quest: Quest, open_: Tensor, turn: int, steps: int, slope: float = 0.0
) -> Runs | None:
    if quest.rivals is None or turn >= len(_WAVES):
        return None
    before = sum(_WAVES[:turn])
    towards = quest.rivals[open_, before : before + _WAVES[turn]]
    if not towards.numel():
        return None
    examples = open_.repeat_interleave(towards.shape[1])
    centre = torch.zeros_like(quest.problem.inputs[examples])
    return Runs(examples, centre, steps, towards.flatten(), slope)


#: In the order in which they are asked; 0 is the problem's own objective.
SOURCES: dict[str, Source] = {
    "rivals": rivals,
    "gates": gates,
    "neighbours": neighbours,
    "restarts": restarts,
}
NAMES = ("objective", *SOURCES)
