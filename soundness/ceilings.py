"""Upper bounds of the objective over the region, whatever the verdict (Prop. 8)."""

from typing import Any

import numpy as np
import torch

import summiteer as sm
from soundness.checks import SAMPLES, STARTS, Bench, climbed_from, edge
from soundness.draw import Case, Random
from soundness.field import Array
from soundness.tally import Tally


def bounded(case: Case, certificate: Any, rng: Random, tally: Tally) -> None:
    """Compare `upper_bound` of a certificate and of `sm.upper_bound` with truth.

    Args:
        case: what was asked.
        certificate: what was answered.
        rng: random numbers.
        tally: where to count.
    """
    everyone = np.ones(len(case.points), bool)
    bench = Bench(case, certificate, rng, tally, everyone)
    upper, lower, given = _bracket(case, rng)
    best = np.full(len(case.points), -np.inf, np.longdouble)
    for points in (
        bench.over(SAMPLES),
        climbed_from(bench, bench.over(STARTS)).points,
        bench.zone.project(bench.given[:, None]),
        climbed_from(bench, bench.zone.project(bench.given[:, None])).points,
    ):
        value, doubt = bench.field.objective(points)
        room = doubt + edge(bench, points)
        value = np.where(bench.zone.inside(points), value, np.nan)
        tally.compare("upper_bound", value, bench.claims["upper_bound"], room)
        tally.compare("Bracket.upper", value, upper, room)
        best = np.fmax(best, np.fmax.reduce(value + room, axis=1))
    # In few dimensions the best of many climbs is the maximum, most of the time: a
    # lower bound above it is looked at by hand; above the upper bound it is wrong.
    tally.compare("Bracket.lower ≤ upper", lower, upper)
    if not given:
        start, doubt = bench.field.objective(0 * bench.given[:, None])
        best = np.fmax(best, (start + doubt)[:, 0])
    tally.compare("Bracket.lower", lower, best, 1e-15 * np.abs(best.astype(float)))


def _bracket(case: Case, rng: Random) -> tuple[Array, Array, bool]:
    """(upper, lower, whether points were given); NaN where nothing was asked.

    Branch and bound takes long: with a budget only a few examples are asked about.
    """
    budget = int(rng.choice([0, 20], p=[0.8, 0.2]))
    count = min(len(case.points), 4) if budget else len(case.points)
    given = torch.from_numpy(case.points[:count]) if rng.random() < 0.7 else None
    problem = case.problem.take(torch.arange(count))
    bracket = sm.upper_bound(problem, given, budget=budget)
    upper, lower = np.full((2, len(case.points)), np.nan)
    upper[:count], lower[:count] = bracket.upper.numpy(), bracket.lower.numpy()
    return upper, lower, given is not None
