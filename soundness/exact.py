"""Checks of single certificates in Arb (`arb.py`): small cases, a few of each batch."""

from typing import Any

import numpy as np
import torch
from flint import arb
from numpy.typing import NDArray

from soundness.arb import Point, exact, exceeds, precise, weighted
from soundness.checks import MAXIMA, Bench
from soundness.draw import Random
from soundness.field import LONG
from soundness.tally import Tally
from summiteer.optimality.definite import Weighted
from summiteer.optimality.rounding import Enclosure

Array = NDArray[Any]
#: Examples of each batch, and the largest networks that are looked at.
FEW, LARGEST = 3, 100


def exactly(bench: Bench) -> None:
    """Multiplier, tangential gradient, curvature and α > 0 at the certified point."""
    if bench.field.hidden.size > LARGEST:
        return
    rows = np.flatnonzero(np.isin(bench.verdicts, MAXIMA))
    for row in bench.rng.permutation(rows)[:FEW]:
        with precise():
            _one(bench.only(np.arange(len(bench)) == row))


def _one(bench: Bench) -> None:
    zone, p = bench.zone, bench.certified[0]
    surface = bench.field.lead(bench.certified)
    held = (p == zone.lower[0]) | (p == zone.upper[0])
    size = float(np.linalg.norm(p))
    curved = bool(abs(size - zone.radius[0]) <= 1e-9 * zone.radius[0])
    claims = {k: float(v[0]) for k, v in bench.claims.items()}
    if (held.all() and not zone.round) or not np.isfinite(claims["margin"]):
        return
    point = Point(bench.field, surface.output[0], surface.shift[0], p, held, curved)
    tally, one = bench.tally, np.zeros(1, bool)
    # What numpy's 80-bit floats call the truth, against Arb.
    f, _, _ = surface.look(bench.certified[:, None].astype(LONG))
    here = Point(
        bench.field, surface.output[0], surface.shift[0], p, held & False, False
    )
    error = abs(exact(f[0, 0]) - here.value)
    doubt = float(surface.doubt(bench.certified[:, None].astype(LONG))[0][0, 0])
    tally.refuse("80-bit truth against Arb", one | bool(error > doubt))
    gamma = exact(claims["tangential"])
    tally.refuse("Arb: tangential", one | bool(point.tangential > gamma**2))
    if np.isfinite(claims["majorant"]):
        # ∇²F at any point of the region, on the whole space.
        beyond = here.exceeds(claims["majorant"])
        tally.refuse("Arb: majorant", one | (beyond is True))
    if bench.verdicts[0] != "STRICT_LOCAL_MAXIMUM" or held.all():
        return
    beyond = point.exceeds(claims["curvature"])
    tally.refuse("Arb: curvature", one | (beyond is True))
    least = point.multiplier - exact(claims["curvature"])
    tally.refuse("Arb: μ exceeds the curvature", one | bool(least < 0))
    tally.refuse("Arb: α", one | bool(_alpha_at_zero(point) < claims["margin"]))


def _alpha_at_zero(point: Point) -> arb:
    """An upper bound of μ - λ_max: by bisection with LDLᵀ."""
    scale = max(
        (abs(float(v.mid())) for row in point.hessian for v in row), default=0.0
    )
    low, high = -4 * scale * len(point.free) - 1e-290, 4 * scale * len(point.free)
    for _ in range(80):
        middle = 0.5 * low + 0.5 * high
        if point.exceeds(middle) is True:
            low = middle
        else:
            high = middle
    return point.multiplier - exact(low)


def factorisations(rng: Random, tally: Tally) -> None:
    """λ_max(Wᵀ diag(D) W) ≤ the verified bound, however tight the guess.

    Weights that cancel: what the matrix was formed from is much larger than it is.

    Args:
        rng: random numbers.
        tally: where to count.
    """
    d, pairs = int(rng.integers(1, 5)), int(rng.integers(1, 6))
    rows = rng.normal(size=(pairs, d))
    size = 10 ** rng.uniform(0, 14) * rng.normal(size=pairs)
    hidden = np.concatenate([rows, rows, rng.normal(size=(2, d))])
    weights = np.concatenate([size, -size, rng.normal(size=2)])
    with precise():
        matrix = weighted(hidden, weights)
        middle = np.array([[float(v.mid()) for v in row] for row in matrix])
        top = np.linalg.eigvalsh(middle)[-1]
        spread = 10 ** rng.uniform(-17, -1, 24) * (
            abs(top) + np.abs(size).max() * 1e-16
        )
        guesses = top + spread * rng.choice([-1, 1, 1, 1], 24)
        every = torch.from_numpy(np.broadcast_to(weights, (24, len(weights))).copy())
        bounds = Weighted(torch.from_numpy(hidden)).top(
            Enclosure.exact(every), torch.from_numpy(guesses)
        )
        whole = [[arb(int(i == k)) for i in range(d)] for k in range(d)]
        wrong = [
            bool(np.isfinite(b)) and exceeds(matrix, whole, float(b)) is True
            for b in bounds.numpy()
        ]
    tally.refuse("Arb: verified factorisation", np.array(wrong))
