"""Where the runs of a search come from. Adding one is one function and one line.

A source is asked again and again; each time it names the runs that it would make next,
given what is known, or None when it has none left. The examples it names runs of are
those that are `open`.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from summiteer.searching.escapes import escapes
from summiteer.searching.gates import SLOPE
from summiteer.searching.known import Known
from summiteer.searching.neighbours import towards_neighbours
from summiteer.searching.quest import Quest
from summiteer.searching.restarts import restarts
from summiteer.searching.runs import Runs
from summiteer.searching.strongest import strongest

#: (what is looked for, what is known, which examples are open, turn) -> runs, if any.
Source = Callable[[Quest, Known, Tensor, int], Runs | None]

#: Rivals of each turn: one that is left for the second turn may be broken by then.
_WAVES = (1, 2, 6)


def rivals(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """One run towards each rival."""
    return _towards_rivals(quest, open_, turn, quest.steps(quest.effort.rival_steps))


def gates(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """One run towards each rival, through closed gates.

    Of a problem without classes, one with its own objective.
    """
    steps = quest.effort.gate_steps
    if not steps:
        return None
    if quest.rivals is None:
        centre = torch.zeros_like(quest.problem.inputs[open_])
        return None if turn else Runs(open_, centre, steps, slope=SLOPE)
    return _towards_rivals(quest, open_, turn, steps, SLOPE, quest.effort.gate_rivals)


def neighbours(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """Runs towards each rival from vertices in the direction of nearby examples."""
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


def _towards_rivals(
    quest: Quest,
    open_: Tensor,
    turn: int,
    steps: int,
    slope: float = 0.0,
    most: int | None = None,
) -> Runs | None:
    if quest.rivals is None:
        return None
    waves = [*_WAVES, *[_WAVES[-1]] * turn]
    before = sum(waves[:turn])
    towards = quest.rivals[open_, :most][:, before : before + waves[turn]]
    if not towards.numel():
        return None
    numbers = range(before + 1, before + 1 + towards.shape[1])
    points = torch.cat([quest.starts(open_, number) for number in numbers])
    classes = towards.T.flatten()
    return Runs(open_.repeat(len(numbers)), points, steps, classes, slope)


#: In the order in which they are asked; 0 is the problem's own objective.
SOURCES: dict[str, Source] = {
    "rivals": rivals,
    "restarts": restarts,
    "gates": gates,
    "neighbours": neighbours,
    "escapes": escapes,
    "strongest": strongest,
}
NAMES = ("objective", *SOURCES)
#: What serves examples that are broken already, where `until` asks for more.
RAISING = ("rivals", "strongest")
