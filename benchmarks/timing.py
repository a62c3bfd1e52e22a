"""Times side by side: contestants take turns, so that a slow minute hits them all."""

import math
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Times:
    """Seconds of each round, of one contestant."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def least(self) -> float:
        return min(self.seconds)

    def over(self, other: "Times") -> "Ratio":
        """How many times as long as `other`, of the same rounds."""
        rounds = [a / b for a, b in zip(self.seconds, other.seconds, strict=True)]
        return Ratio(self.median / other.median, min(rounds), max(rounds))


@dataclass(frozen=True)
class Ratio:
    """Of medians, with the least and the largest of single rounds."""

    value: float
    lowest: float
    highest: float

    def __str__(self) -> str:
        return f"{self.value:.2f} ({self.lowest:.2f}-{self.highest:.2f})"


def in_turns(
    contestants: Mapping[str, Callable[[], Any]],
    rounds: int,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Times]:
    """Time each contestant once per round: A B A B; a first call of each warms up.

    Args:
        contestants: name -> what is timed.
        rounds: how many, after the one that warms up.
        clock: by the wall, or `time.process_time`.
    """
    for function in contestants.values():
        function()
    taken: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, function in contestants.items():
            began = clock()
            function()
            taken[name].append(clock() - began)
    return {name: Times(tuple(each)) for name, each in taken.items()}


def slope(sizes: list[float], costs: list[float]) -> float:
    """The least-squares slope of log cost against log size: 1 is linear."""
    xs, ys = [math.log(x) for x in sizes], [math.log(y) for y in costs]
    middle, level = statistics.fmean(xs), statistics.fmean(ys)
    above = sum((x - middle) * (y - level) for x, y in zip(xs, ys, strict=True))
    return above / sum((x - middle) ** 2 for x in xs)
