"""C2: in polynomially many iterations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from summiteer.cells import finite
from summiteer.studies.claims.claim import (
    Claim,
    Extent,
    Judgement,
    Known,
    Row,
    Standing,
)
from summiteer.studies.claims.protocol import QUICK, SMOOTH, STEP_RULES
from summiteer.studies.claims.rules import (
    bound_standing,
    chosen,
    curves,
    effect_of,
    interval,
    together,
    values_of,
)
from summiteer.studies.experiments.rate import ROUNDING
from summiteer.studies.inputs import mnist_digest
from summiteer.studies.statistics import Estimate, as_numbers, bootstrap
from summiteer.studies.study import Study

#: Degree that the growth in each quantity may have.
DEGREE = 2.0
#: How much more the last two decades of the tolerance may cost than the two before.
DECADES = 1.5
#: Share of runs that may miss the last tolerance.
MISSED = 0.05
AXES: dict[str, tuple[list[Any], str]] = {
    "dimension": ([16, 32, 64, 128, 256], "d"),
    "width": ([64, 128, 256, 512, 1024], "m"),
    "ratio": ([0.03, 0.1, 0.3, 0.6], "ε/‖x‖"),
    "scale": ([0.1, 0.3, 1.0, 3.0], "c"),
}

STATEMENT = "It does so in polynomially many iterations."
RULE = (
    "Steps to a residual of 1e-8, median over the images of a network, on Gaussian "
    "inputs of norm c, each of d, m, ε/‖x‖ and c varied alone from d = 64, m = 256, "
    "ε/‖x‖ = 0.3, c = 1. The log-log slope is taken per network, its 95 % interval by "
    "resampling networks. Supported if the upper ends of all four are at most "
    f"{DEGREE:g} and if steps are logarithmic in 1/tol: from 1e-6 to 1e-8 at most "
    f"{DECADES:g} times as many as from 1e-4 to 1e-6 (upper end). Not reached if more "
    f"than {MISSED:.0%} of the runs miss 1e-8 within 2000 steps. Proved rate: wherever "
    "μ* > 2λ⁺ and 0 < η|u_t| ≤ 2/L with one sign of u along the whole run, every step "
    "must bring it nearer to its maximum by the factor ρ of Prop. 2 at least; one "
    "that does not is a bug of ours."
)


def studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """What is to be measured.

    Args:
        extent: how much.
        known: not used.
    """
    quick = extent == "quick"
    found = []
    for axis, (values, _) in AXES.items():
        for method in STEP_RULES:
            if quick and method != "paper":
                continue
            paper = method == "paper" and not quick
            found.append(
                Study(
                    name=f"rate-{axis}-{method}",
                    experiment="rate",
                    fixed={
                        "data": "gaussian",
                        "method": method,
                        "examples": 2 if quick else 8,
                    },
                    grid={
                        axis: values[::2] if quick else values,
                        "activation": SMOOTH if paper else ["softplus"],
                    },
                    seeds=list(range(QUICK if quick else 6)),
                )
            )
    digest = None if quick else mnist_digest()
    if digest:
        found.append(
            Study(
                name="rate-mnist",
                experiment="rate",
                fixed={"data": "mnist", "digest": digest, "examples": 10},
                grid={"scale": [0.1, 1.0], "first": [0, 10, 20]},
                seeds=[0, 1],
            )
        )
    return tuple(found)


def judge(known: Known, extent: Extent) -> tuple[Judgement, ...]:
    """The verdicts; see `RULE`.

    Args:
        known: rows of the studies.
        extent: that was measured.
    """
    found = []
    for method, words in STEP_RULES.items():
        parts = {axis: known.get(f"rate-{axis}-{method}", ()) for axis in AXES}
        for activation in values_of(parts["dimension"], "activation"):
            mine = {
                axis: chosen(rows, activation=activation)
                for axis, rows in parts.items()
            }
            found.append(_growth(mine, words, f"{activation}, Gaussian inputs"))
    paper = [
        row
        for name, rows in known.items()
        for row in rows
        if row.parameters["method"] == "paper"
    ]
    found.append(_proved(paper))
    return tuple(found)


def last_steps(row: Row) -> Tensor:
    """Steps to the last tolerance; the limit where it was not reached `[examples]`."""
    steps = row.arrays()["steps"][-1].double()
    return torch.where(steps < 0, row.parameters["max_steps"], steps)


def decades(rows: Sequence[Row]) -> Estimate:
    """Steps from 1e-6 to 1e-8 over those from 1e-4 to 1e-6, mean over networks.

    Args:
        rows: of one axis; those of one network are taken together.
    """
    found = []
    for seed in values_of(rows, "seed"):
        steps = [row.arrays()["steps"] for row in chosen(rows, seed=seed)]
        reached = torch.cat(steps, 1).double()
        reached = reached[:, (reached >= 0).all(0)]
        _, second, third, last = reached.sum(1).tolist()
        found.append((last - third) / (third - second) if third > second else np.nan)
    return bootstrap(found)


def _growth(parts: dict[str, list[Row]], words: str, regime: str) -> Judgement:
    growths = {
        axis: curves(rows, axis, last_steps).growth() for axis, rows in parts.items()
    }
    every = [row for rows in parts.values() for row in rows]
    tail = decades(every)
    runs = sum(row.record["runs"] for row in every)
    missed = sum(row.record["unreached"] for row in every) / max(runs, 1)
    verdict = together(
        [
            *(bound_standing(each, DEGREE) for each in growths.values()),
            bound_standing(tail, DECADES),
        ]
    )
    largest = max(growths.values(), key=lambda each: each.high)
    told = ", ".join(
        f"{AXES[axis][1]} {interval(each, 2)}" for axis, each in growths.items()
    )
    sentence = (
        f"slopes of steps in {told}; from 1e-6 to 1e-8 it takes {interval(tail, 2)} "
        "times the steps from 1e-4 to 1e-6"
    )
    if missed:
        sentence += f"; {100 * missed:.1f} % of the runs miss 1e-8"
    numbers = {
        "slopes": {axis: as_numbers(each) for axis, each in growths.items()},
        "decades": as_numbers(tail),
        "tolerances": _to_tolerances(every),
        "missed": missed,
        "runs": runs,
        "steps": {
            axis: dict(
                zip(
                    map(str, values_of(rows, axis)),
                    curves(rows, axis, last_steps).middle,
                    strict=True,
                )
            )
            for axis, rows in parts.items()
        },
    }
    return Judgement(
        words,
        regime,
        Standing.NOT_REACHED if missed > MISSED else verdict,
        sentence,
        *effect_of(largest),
        numbers,
        "largest log-log slope",
    )


def _to_tolerances(rows: Sequence[Row]) -> dict[str, float | None]:
    """Median steps to each tolerance in the cells that every axis has in common."""
    values = [
        {axis: row.parameters[axis] for axis in AXES if axis in row.parameters}
        for row in rows
    ]
    usual = max(values, key=values.count)
    common = [row for row, each in zip(rows, values, strict=True) if each == usual]
    steps = torch.cat([row.arrays()["steps"] for row in common], 1).double()
    medians = torch.where(steps < 0, torch.inf, steps).median(1).values
    levels = common[0].parameters["tolerances"]
    return {
        f"{level:g}": finite(float(median))
        for level, median in zip(levels, medians, strict=True)
    }


def _proved(rows: Sequence[Row]) -> Judgement:
    """Whether any step was slower than Prop. 2 proves."""
    arrays = [row.arrays() for row in rows]
    applies = torch.cat([each["applies"] for each in arrays])
    worst = torch.cat([each["worst"] for each in arrays])[applies]
    violations = int((worst > 1 + ROUNDING).sum())
    joined = {
        name: torch.cat([each[name] for each in arrays])
        for name in ("rate", "ratio", "last", "local", "local_map")
    }
    medians = {
        name: float(values[applies].median()) if bool(applies.any()) else None
        for name, values in joined.items()
    }
    nearness = (joined["last"] / joined["local"]).nanmedian()
    count = len(worst)
    if not count:
        verdict, sentence = Standing.NOT_JUDGED, "Prop. 2 applies to no run"
    else:
        verdict = Standing.NOT_SUPPORTED if violations else Standing.SUPPORTED
        bad = f"{violations} ARE SLOWER: a bug of ours" if violations else "none slower"
        sentence = (
            f"Prop. 2 applies to {count} of {len(applies)} runs, {bad}: the slowest "
            f"step of a run has the factor {medians['ratio']:.3g} where ρ is "
            f"{medians['rate']:.3g} (medians); at most {float(worst.max()):.4f} ρ; the "
            f"last steps shrink by {float(nearness):.3f} times the local rate there"
        )
    return Judgement(
        "proved rate ρ, the paper's constant step",
        "all cells above",
        verdict,
        sentence,
        finite(float(worst.max())) if count else None,
        numbers={
            "runs": len(applies),
            "applies": count,
            "violations": violations,
            "last_over_local": finite(float(nearness)),
            "medians": medians,
        },
        quantity="slowest step, in units of its ρ",
    )


C2 = Claim("C2", "in polynomially many iterations", STATEMENT, RULE, studies, judge)
