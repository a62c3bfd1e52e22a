"""Trials: one method on the sample, from all starts, with one number of steps."""

import time
from dataclasses import dataclass
from math import comb

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer.adversaries import default_adversary, named_adversary
from summiteer.ascent import Ascent
from summiteer.problem import Problem
from summiteer.searching import search
from summiteer.starts import CentreStart, GivenStart, Start, UniformStart

#: Steps that an attack takes from what its search found.
_SETTLING = 50
#: Gradient evaluations for the residual's scale, where the first start is the centre.
_ONCE = 1.0


@dataclass(frozen=True, eq=False)
class Trial:
    """What one method came to.

    Attributes:
        method: name of an adversary, or of the effort of a search.
        steps: of each run; None of a search.
        losses: `[starts, n]` float64, the highest objective met from each start, the
            centre first; -inf where none was finite. A search is one start.
        broken: `[starts, n]` bool, whether any point met was misclassified.
        once: gradient evaluations that each example costs, from however many starts.
        evaluations: of gradients, of one start, on the average.
        seconds: of one start, on the average.
    """

    method: str
    steps: int | None
    losses: Tensor
    broken: Tensor
    once: float
    evaluations: float
    seconds: float

    @property
    def restarts(self) -> int:
        """Starts besides the first."""
        return len(self.losses) - 1


def runs_of(
    problem: Problem, method: str, steps: int, restarts: int, seed: int
) -> Trial:
    """Run an adversary from the centre and from uniform points.

    Args:
        problem: of the sample.
        method: see `summiteer.adversaries.NAMED`.
        steps: of each run.
        restarts: uniform points.
        seed: of these.
    """
    start: Start = CentreStart()
    if restarts:
        start += UniformStart(restarts=restarts, seed=seed)
    points = start.points(problem)
    # As examples of their own, so that each run is told what it came to.
    some = problem.take(torch.arange(len(problem)).repeat(len(points)))
    adversary = named_adversary(method, problem.region, steps)
    begin = GivenStart(points.flatten(0, 1))
    # Besides the one at its start: for the residual's scale, of each example here.
    scaling = ascend(some, adversary, begin, 0).gradient_evaluations / len(some) - 1
    began = time.monotonic()
    ascent = ascend(some, adversary, begin, steps)
    shape = points.shape[:2]
    return Trial(
        method,
        steps,
        _finite(ascent.best_loss).reshape(shape),
        _broken(ascent).reshape(shape),
        _ONCE,
        ascent.gradient_evaluations / len(some) - scaling,
        (time.monotonic() - began) / len(some),
    )


def search_of(problem: Problem, effort: str, seed: int) -> Trial:
    """Search as an attack does, and settle.

    Args:
        problem: of the sample.
        effort: "standard" or "thorough".
        seed: of its random starts.
    """
    began = time.monotonic()
    found = search(problem, effort, seed=seed)
    settled = ascend(
        problem,
        default_adversary(problem.feasible),
        GivenStart(found.best),
        _SETTLING,
    )
    loss = _finite(found.best_loss).maximum(_finite(settled.best_loss))
    broken = _broken(settled)
    if found.misclassified is not None:
        broken = broken | found.misclassified.cpu()
    spent = found.gradient_evaluations + settled.gradient_evaluations
    return Trial(
        effort,
        None,
        loss[None],
        broken[None],
        0.0,
        spent / len(problem),
        (time.monotonic() - began) / len(problem),
    )


def joined(parts: list[Trial]) -> Trial:
    """The trial of all blocks from those of each.

    Args:
        parts: the same method on blocks of examples, at least one.
    """
    sizes = [part.losses.shape[1] for part in parts]
    total = sum(sizes)
    pairs = list(zip(parts, sizes, strict=True))
    return Trial(
        parts[0].method,
        parts[0].steps,
        torch.cat([part.losses for part in parts], 1),
        torch.cat([part.broken for part in parts], 1),
        parts[0].once,
        sum(part.evaluations * size for part, size in pairs) / total,
        sum(part.seconds * size for part, size in pairs) / total,
    )


def expected_best(values: Tensor, restarts: int) -> Tensor:
    """The highest value of the first start and k of the others, on the average.

    Over all choices of k out of the S others, E max = Σ_j v_(j)·C(j - 1, k - 1)/C(S, k)
    with v_(1) ≤ … ≤ v_(S): what any k starts are worth, not just the first k.

    Args:
        values: `[1 + S, n]`.
        restarts: k, at most S.

    Returns:
        `[n]`.
    """
    if not restarts:
        return values[0]
    others = values[1:].maximum(values[0]).sort(0).values
    count = len(others)
    shares = [comb(j, restarts - 1) / comb(count, restarts) for j in range(count)]
    return torch.tensor(shares, dtype=values.dtype) @ others


def _finite(loss: Tensor) -> Tensor:
    loss = loss.double().cpu()
    return loss.masked_fill(~loss.isfinite(), -torch.inf)


def _broken(ascent: Ascent) -> Tensor:
    if ascent.misclassified is None:
        return torch.zeros(ascent.best_loss.shape, dtype=torch.bool)
    return ascent.misclassified.cpu()
