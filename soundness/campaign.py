"""Rounds of all families until the time is up."""

import importlib
import time
from collections.abc import Sequence
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import torch

import summiteer as sm
from soundness.ceilings import bounded
from soundness.checks import Bench, check
from soundness.diamond import Diamond
from soundness.draw import Case
from soundness.exact import exactly, factorisations
from soundness.families import FAMILIES
from soundness.kinked_checks import (
    KinkedCase,
    check_kinked,
    dyadically,
    searched,
    trial_of,
)
from soundness.l1_checks import check_l1
from soundness.l1_families import KINKED
from soundness.tally import Tally
from summiteer.optimality import numerical

#: The modules; `newton` is a function in the first.
_NEWTON = importlib.import_module("summiteer.optimality.newton")
_CERTIFICATE = importlib.import_module("summiteer.optimality.certificate")
#: What measures proves nothing, and takes most of the time where nothing is proved.
_PROOFS = tuple(p for p in _CERTIFICATE.PROVERS if p is not numerical.prove)


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
    names = list(families or [*FAMILIES, *KINKED])
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
        if name in KINKED:
            kinked(KINKED[name](rng), rng, tally)
            return
        case = FAMILIES[name](rng)
        factorisations(rng, tally)
        answer = asked(case, rng, tally)
        if rng.random() < 0.3:
            # What is proved of points just beyond the proved distance must hold too.
            far = 1.1 * np.nan_to_num(answer.distance_bound.numpy(), nan=0.0)
            way = rng.normal(size=case.points.shape)
            way /= np.linalg.norm(way, axis=1, keepdims=True)
            moved = case.points + far[:, None] * way
            asked(replace(case, points=moved), rng, tally)


def asked(case: Case, rng: np.random.Generator, tally: Tally) -> sm.Certificate:
    """The package's certificate, after every check of it.

    Args:
        case: what to ask.
        rng: random numbers of the checks.
        tally: where to count.
    """
    points = torch.from_numpy(case.points)
    budget = int(rng.choice([0, 10], p=[0.96, 0.04]))
    # Without polishing γ is no mere rounding, and the propositions have to stretch.
    with patch.object(_NEWTON, "_STEPS", int(rng.choice([_NEWTON._STEPS, 0, 0, 1]))):
        certificate = sm.local_optimality(case.problem, points, case.within, budget)
    bench = Bench(case, certificate, rng, tally)
    check(bench)
    exactly(bench)
    if rng.random() < 0.2:
        bounded(case, certificate, rng, tally)
    return certificate


def kinked(case: KinkedCase, rng: np.random.Generator, tally: Tally) -> None:
    """The proofs of a network with kinks, after every check of them.

    Args:
        case: what to ask.
        rng: random numbers of the checks.
        tally: where to count.
    """
    certificate = _asked_of(case, rng, tally)
    if certificate is None or rng.random() < 0.4:
        return
    # Its own summits again: the bounds are tightest where it has polished already.
    shape = case.points.shape
    again = certificate.certified_point.detach().numpy().reshape(shape)
    far = np.nan_to_num(certificate.distance_bound.numpy(), nan=0.0)
    way = rng.normal(size=shape)
    way /= np.linalg.norm(way, axis=1, keepdims=True)
    size = rng.choice([0.0, 0.0, 1e-3, 1.1], (len(far), 1))
    _asked_of(replace(case, points=again + size * far[:, None] * way), rng, tally)


def _asked_of(
    case: KinkedCase, rng: np.random.Generator, tally: Tally
) -> sm.Certificate | None:
    points = torch.from_numpy(case.points).reshape(case.problem.inputs.shape)
    try:
        with patch.object(_CERTIFICATE, "PROVERS", _PROOFS):
            certificate = sm.local_optimality(case.problem, points, case.within)
    except Exception as error:  # the campaign goes on, and counts it
        tally.refuse(f"an answer at all: {error!r:.70}", np.ones(1, bool))
        return None
    trial = trial_of(case, certificate, rng, tally)
    (check_l1 if isinstance(case.kinked.zone, Diamond) else check_kinked)(trial)
    if case.dyadic and not case.kinked.zone.round:
        dyadically(trial)
    if rng.random() < 0.1:
        searched(case, trial)
    return certificate
