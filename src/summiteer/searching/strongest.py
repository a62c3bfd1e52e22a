"""The rest of the budget, for the strongest point."""

from torch import Tensor

from summiteer.searching.known import Known
from summiteer.searching.quest import Quest
from summiteer.searching.runs import Runs

#: Gradient evaluations of a run. A few lengths, so that examples with about as much
#: left are run together.
_LENGTHS = (192, 128, 96, 64, 48, 32, 24, 16, 12, 8, 6)


def strongest(quest: Quest, known: Known, open_: Tensor, turn: int) -> Runs | None:
    """One run of the problem's own objective from the strongest point.

    Turn i is for the examples that can pay for the i-th longest run, and no longer one.
    """
    if turn >= len(_LENGTHS):
        return None
    length = _LENGTHS[turn]
    left = quest.budget - known.spent[open_]
    due = left >= length
    if turn:
        due &= left < _LENGTHS[turn - 1]
    examples = open_[due]
    return Runs(examples, known.best[examples], length - 1)
