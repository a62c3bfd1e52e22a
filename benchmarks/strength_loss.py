"""Which loss is reached at equal gradient evaluations, ours beside peers'."""

import time
from dataclasses import dataclass

import summiteer as sm
from benchmarks.strength_peers import ATTACKS, Reached, best_start, judged
from benchmarks.strength_settings import Setting

BUDGETS = (10, 20, 50, 100, 200)


@dataclass(frozen=True)
class Line:
    """One setting at one number of gradient evaluations per example.

    Attributes:
        setting: what is attacked.
        budget: gradient evaluations per example.
        search: what `sm.search(problem, budget=budget)` reached.
        ascent: what one run of our AutoPGD from the centre reached.
        peers: the better of each one's two starts, by name; None where not measured.
    """

    setting: Setting
    budget: int
    search: Reached
    ascent: Reached
    peers: dict[str, tuple[str, Reached] | None]

    @property
    def best_peer(self) -> float | None:
        """The highest mean loss of a peer; None if one is missing."""
        means = [made[1].mean for made in self.peers.values() if made is not None]
        return max(means) if len(means) == len(self.peers) else None


def searched(setting: Setting, budget: int) -> Reached:
    """A search at standard effort within the budget, which no success stops."""
    problem = setting.problem()
    began = time.process_time()
    found = sm.search(problem, budget=budget)
    seconds = time.process_time() - began
    points = setting.inputs.double() + found.best.double()
    return Reached(judged(setting, points), found.gradient_evaluations, seconds)


def ascended(setting: Setting, budget: int) -> Reached:
    """One run of AutoPGD from the centre."""
    problem = setting.problem()
    steps = budget - 1
    began = time.process_time()
    found = sm.ascend(
        problem, sm.AutoPGD(steps), sm.CentreStart(), steps, tolerance=None
    )
    seconds = time.process_time() - began
    points = setting.inputs.double() + found.best.double()
    return Reached(judged(setting, points), found.gradient_evaluations, seconds)


def measured(setting: Setting, budget: int, peers: bool) -> Line:
    """Ours, and what is kept of the peers' (or run now)."""
    others = {name: best_start(name, setting, budget, peers) for name in ATTACKS}
    return Line(
        setting, budget, searched(setting, budget), ascended(setting, budget), others
    )
