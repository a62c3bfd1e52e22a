"""Iterates that come back: a method whose step depends on the point alone then cycles.

Brent's algorithm (`brent1980improved`): the iterate of step s is saved and every later
one, up to step s + w, compared with it; if none is the same, that of step s + w is
saved and w doubled. A run that enters a cycle of λ steps after μ is found out by step
2·max(μ + 1, λ) + λ. The first return to a saved point takes exactly λ steps: no
divisor of it is taken for the period, and no multiple. That projected gradient ascent
which has come back can be ended without a change of what it finds is shown in
`doldo2025stop`.

Only the same numbers count, all of them. That is a proof where the model gives a point
the same value each time. Some kernels of torch round a row differently in a batch of
another size, and rows leave the batch: then a cycle may be seen later or not at all,
which costs steps and nothing else.
"""

from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.problem import Rows


def memoryless(method: object) -> bool:
    """Whether a method, or a part of one, says that a step depends on the point alone.

    Its class must say so itself, by `memoryless = True`: a sub-class may do something
    else. What has momentum, a step number or a size that adapts does not say so.

    Args:
        method: anything with or without an attribute `memoryless`.
    """
    name = "memoryless"
    return name in vars(type(method)) and bool(getattr(method, name))


@dataclass(frozen=True, eq=False)
class Recurrence:
    """The iterate of each row that later ones are compared with.

    Attributes:
        points: of the form that rows have.
        loss: `[rows]` there; what differs in it need not be compared.
        at: `[rows]` the step s that made it.
        until: `[rows]` the last step that is compared with it, s + w.
        soonest: not above any `until`.
    """

    points: Any
    loss: Tensor
    at: Tensor
    until: Tensor
    soonest: int

    @classmethod
    def begin(cls, points: Any, loss: Tensor) -> Self:
        """Save the starts, step 0, for one step.

        Args:
            points: one per row; they are not copied and must not change.
            loss: `[rows]`.
        """
        at = torch.zeros_like(loss, dtype=torch.int64)
        return cls(points, loss, at, at + 1, 1)

    def look(
        self, rows: Rows, step: int, points: Any, loss: Tensor, running: Tensor
    ) -> tuple[Self, Tensor | None]:
        """Compare the iterates of `step` with the saved ones, and save where due.

        Args:
            rows: the problem at these rows.
            step: number of the step that made the points.
            points: one per row.
            loss: `[rows]`.
            running: `[rows]` bool, rows that matter.

        Returns:
            What to compare the next iterates with, and the period `[rows]` int64 of
            each row that came back, 0 of others; None if none did.
        """
        same, period = loss == self.loss, None
        index = (same & running).nonzero().flatten()
        if len(index):
            saved, new = _rows.take(self.points, index), _rows.take(points, index)
            back = index[rows.take(index).distance(new, saved) == 0]
            if len(back):
                period = torch.zeros_like(self.at)
                period[back] = step - self.at[back]
        if step < self.soonest:
            return self, period
        due = self.until <= step
        return self._saved(due, step, points, loss, 2 * (self.until - self.at)), period

    def restarted(self, which: Tensor, step: int, points: Any, loss: Tensor) -> Self:
        """Begin again at `step` for the rows `which`, whose map has changed.

        Args:
            which: `[rows]` bool.
            step: number of the step that made the points.
            points: one per row.
            loss: `[rows]`.
        """
        return self._saved(which, step, points, loss, torch.ones_like(self.at))

    def _saved(
        self, which: Tensor, step: int, points: Any, loss: Tensor, window: Tensor
    ) -> Self:
        if not bool(which.any()):
            return replace(self, soonest=_least(self.until))
        until = torch.where(which, step + window, self.until)
        if not bool(which.all()):
            points = _rows.choose(which, points, self.points)
            loss = torch.where(which, loss, self.loss)
        at = torch.where(which, torch.full_like(self.at, step), self.at)
        return replace(
            self, points=points, loss=loss, at=at, until=until, soonest=_least(until)
        )


def _least(until: Tensor) -> int:
    return int(until.min()) if len(until) else 0
