"""What a search looks for."""

from dataclasses import dataclass

from torch import Tensor

from summiteer.problem import Problem
from summiteer.searching.effort import Effort
from summiteer.starts import CentreStart, Start, UniformStart

#: Evaluations that a run has at least, and the share of the budget that it has at most.
_LEAST, _SHARE = 6, 0.034


@dataclass(frozen=True, eq=False)
class Quest:
    """What is looked for.

    Attributes:
        problem: whose maxima.
        effort: what may be spent.
        budget: gradient evaluations per example.
        seed: of the random starts.
        rivals: `[batch, K - 1]` the other classes, the likeliest first; None where the
            problem has no classes.
        neighbours: `(inputs, targets)` of examples whose classes show the way; None for
            none.
    """

    problem: Problem
    effort: Effort
    budget: int
    seed: int
    rivals: Tensor | None
    neighbours: tuple[Tensor, Tensor] | None

    def steps(self, wanted: int) -> int:
        """Steps of a run: fewer than `wanted` where the budget is small."""
        return min(wanted, max(_LEAST, int(_SHARE * self.budget)) - 1)

    def starts(self, examples: Tensor, number: int) -> Tensor:
        """Where the runs of a search begin that are not told: `[examples, *input]`.

        In a box at uniform points, each run at another one: the centre's gradient is
        the one that training has made useless. On round regions at the centre, from
        which the first step leads as far as any.

        Args:
            examples: indices.
            number: of the run within its example, 0 that of the first.
        """
        some = self.problem.take(examples)
        start: Start = CentreStart()
        if some.feasible.boxed:
            start = UniformStart(seed=self.seed, first=number)
        return start.points(some)[0]
