"""Rounds of all families until the time is up."""

import time
from collections.abc import Sequence

import numpy as np
import torch

import summiteer as sm
from soundness.checks import check
from soundness.families import FAMILIES
from soundness.tally import Tally


def run(
    seconds: float,
    seed: int,
    families: Sequence[str] | None = None,
    only: int | None = None,
    rounds: int | None = None,
) -> Tally:
    """Check random cases, one of each family in turn.

    Args:
        seconds: when to stop.
        seed: of the random numbers; a round depends on nothing else.
        families: names, all if None.
        only: the one round to run.
        rounds: how many at most.

    Returns:
        What was counted.
    """
    tally = Tally()
    end = time.monotonic() + seconds
    names = list(families or FAMILIES)
    turn = 0 if only is None else only
    while time.monotonic() < end:
        for name in names:
            if time.monotonic() > end:
                break
            one(name, seed, turn, tally)
        turn += 1
        if only is not None or turn == rounds:
            break
    return tally


def one(name: str, seed: int, turn: int, tally: Tally) -> None:
    """One case of one family.

    Args:
        name: of the family.
        seed: of the campaign.
        turn: of the round.
        tally: where to count.
    """
    tally.where = f"--family {name} --seed {seed} --round {turn}"
    rng = np.random.default_rng([seed, turn, *name.encode()])
    with np.errstate(all="ignore"):
        case = FAMILIES[name](rng)
        points = torch.from_numpy(case.points)
        certificate = sm.local_optimality(case.problem, points, case.within)
        check(case, certificate, rng, tally)
