"""C5: at a smaller input scale adversarial training is faster at first."""

from collections.abc import Sequence

import numpy as np
import torch

from summiteer.cells import finite
from summiteer.studies.claims.c5_cells import RANGES, Planned, planned
from summiteer.studies.claims.c5_rule import Runs, cause, crossing_standing, majority
from summiteer.studies.claims.claim import (
    Claim,
    Extent,
    Judgement,
    Known,
    Row,
    Standing,
)
from summiteer.studies.descent.crossing import sustained_steps
from summiteer.studies.statistics import Estimate, as_numbers, slopes, student
from summiteer.studies.study import Study

#: A training adversary that finds less than this share of the strong one's loss.
WEAK = 0.9
#: Robust accuracy that is waited for.
ACCURATE = 0.8

STATEMENT = (
    "With the ratio of perturbation to input fixed, adversarial training converges "
    "faster in its initial phase at a smaller input scale."
)
RULE = (
    "Full-batch adversarial training of ten fresh networks at each scale c; the robust "
    "loss is measured by 4 starts x 40 steps. Per network, the slope of log(1 + steps) "
    "over log c, steps being the first from which the loss stays below 20, 50 and 80 % "
    "of the way from 0.5 to the robust loss of the best linear predictor (K + 1 if "
    "never). "
    "Supported: the 95 % t intervals of at least two of the three slopes lie above "
    "+0.1 and the mean loss grows with c; reversed: two lie below -0.1; no effect: two "
    "lie within ±0.1; a threshold that some network missed counts for no verdict that "
    "longer training could overturn; not reached: fewer than two thresholds are met "
    "by half of the networks at either end; else, or where the best rate is on the "
    "edge of those tried, inconclusive. Primary: the best rate at each scale (chosen "
    "on five other networks), c from 0.3 to 3, the paper's architecture (settings 1-3 "
    "and 8-10): what more than half of them say, none saying the opposite. Cause: the "
    "landscape is one only if the effect remains where f = 0 at step 0 and is absent "
    "for ReLU."
)
_TOLD = (
    "steps (geometric mean) until the robust loss is half-way to the floor (θ50), at "
    "c ="
)


def _studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """Rates are chosen within a cell: one stage is enough."""
    return tuple(each.study for each in planned(extent))


def judge(known: Known, extent: Extent) -> tuple[Judgement, ...]:
    """The rule, see `RULE`.

    Args:
        known: rows of the studies of `planned`.
        extent: as for that.
    """
    plans = [each for each in planned(extent) if known.get(each.study.name)]
    rows = {each.study.name: _ordered(known[each.study.name]) for each in plans}
    if extent == "quick":
        return tuple(_shown(plan, rows[plan.study.name]) for plan in plans)
    single = {
        (plan.setting.number, plan.protocol.key, name): _judged(
            plan, rows[plan.study.name], name
        )
        for plan in plans
        for name in RANGES
    }
    return (_primary(plans, single), _cause(single), *single.values())


def _ordered(rows: Sequence[Row]) -> list[Row]:
    return sorted(rows, key=lambda row: row.parameters["scale"])


def runs_of(rows: Sequence[Row]) -> Runs:
    """The curves of one study.

    Args:
        rows: one per scale, in rising order.
    """
    record = rows[0].record
    return Runs.of(
        [row.parameters["scale"] for row in rows],
        [row.arrays()["strong"] for row in rows],
        record["checkpoints"],
        record["thresholds"],
        [bool(row.record["edge"]) for row in rows],
    )


def _judged(plan: Planned, rows: Sequence[Row], name: str) -> Judgement:
    """One setting, protocol and range of scales."""
    low, high = RANGES[name]
    protocol = f"{plan.protocol.key}: {plan.protocol.words}"
    regime = f"({plan.setting.number}) {plan.setting.words}; c {low:g} to {high:g}"
    known = {row.parameters["scale"] for row in rows}
    lost = [c for c in plan.setting.scales if low <= c <= high and c not in known]
    if lost:
        text = f"nothing was measured at c = {_listed(lost)}."
        return Judgement(protocol, regime, Standing.INCONCLUSIVE, text)
    runs = runs_of(rows).within(low, high)
    growth = runs.growth()
    inside = [row for row in rows if row.parameters["scale"] in runs.scales]
    weak = [row for row in inside if (row.record["weakest"] or 0.0) < WEAK]
    middle = growth[1]
    text = (
        f"{_TOLD} {_listed(runs.scales)}: {_steps(runs, 1)}; slope "
        f"{middle.value:+.2f} [{middle.low:+.2f}, {middle.high:+.2f}]"
    )
    if any(runs.edge):
        where = [c for c, edge in zip(runs.scales, runs.edge, strict=True) if edge]
        text += f"; the best rate at c = {_listed(where)} is on the edge"
    if weak:
        where = [row.parameters["scale"] for row in weak]
        text += (
            f"; at c = {_listed(where)} the training adversary found less than "
            f"{WEAK:g} of the loss at some step"
        )
    numbers = {
        "setting": plan.setting.number,
        "protocol": plan.protocol.key,
        "range": name,
        "scales": runs.scales.tolist(),
        "weight_std": [row.parameters["weight_std"] for row in inside],
        "rates": [row.record["rate"] for row in inside],
        "edge": list(runs.edge),
        "thresholds": rows[0].record["thresholds"],
        "steps": [_middles(runs, n) for n in range(3)],
        "intervals": [_intervals(runs, n) for n in range(3)],
        "never": (runs.steps >= runs.never).mean(1).tolist(),
        "slopes": [as_numbers(each) for each in growth],
        "mean_loss": np.exp(np.log(runs.mean_loss).mean(0)).tolist(),
        "mean_loss_slope": as_numbers(runs.loss_growth()),
        "relative_mean_loss_slope": as_numbers(runs.relative_growth()),
        "accuracy_slope": as_numbers(_accuracy(inside)),
        "weakest": [row.record["weakest"] for row in inside],
    }
    return Judgement(
        protocol,
        regime,
        crossing_standing(runs),
        text,
        middle.value if middle.known else None,
        middle.low if middle.known else None,
        middle.high if middle.known else None,
        numbers,
        "slope of log(1 + steps to θ50) over log c",
    )


def _accuracy(rows: Sequence[Row]) -> Estimate:
    """The slope of steps to robust accuracy 0.8, descriptive."""
    at = torch.tensor(rows[0].record["checkpoints"])
    wrong = [1 - row.arrays()["safe"] for row in rows]
    steps = [sustained_steps(each, at, 1 - ACCURATE) for each in wrong]
    scales = [row.parameters["scale"] for row in rows]
    return student(slopes(scales, 1 + torch.stack(steps, 1).numpy()))


def _primary(
    plans: Sequence[Planned], single: dict[tuple[int, str, str], Judgement]
) -> Judgement:
    """The pre-declared one."""
    used = [
        plan.setting
        for plan in plans
        if plan.setting.primary and plan.protocol.key == "P2"
    ]
    found = {each.number: single[each.number, "P2", "mid"] for each in used}
    listed = "; ".join(
        f"({number}) {each.standing.value}, slope {each.effect:+.2f} "
        f"[{each.low:+.2f}, {each.high:+.2f}]"
        for number, each in found.items()
        if each.effect is not None and each.low is not None and each.high is not None
    )
    return Judgement(
        "P2: the best rate at each scale",
        "the paper's architecture, c 0.3 to 3",
        majority([each.standing for each in found.values()]),
        listed,
        numbers={
            "settings": {str(n): each.standing.value for n, each in found.items()}
        },
    )


def _cause(single: dict[tuple[int, str, str], Judgement]) -> Judgement:
    """Doubled initialisation and ReLU."""
    keys = {number: (number, "P2", "mid") for number in (3, 4, 5)}
    known = {n: single[key].standing for n, key in keys.items() if key in single}
    doubled = [known[n] for n in (4, 5) if n in known]
    found = cause(doubled, known.get(3, Standing.INCONCLUSIVE))
    words = {3: "ReLU", 4: "softplus from f ≡ 0", 5: "tanh from f ≡ 0"}
    listed = ", ".join(f"{words[n]}: {each.value}" for n, each in known.items())
    return Judgement(
        "P2: the regular landscape as the cause",
        "controls, c 0.3 to 3",
        found,
        listed,
        numbers={"settings": {str(n): each.value for n, each in known.items()}},
    )


def _shown(plan: Planned, rows: Sequence[Row]) -> Judgement:
    """What `--quick` shows."""
    runs = runs_of(rows)
    return Judgement(
        plan.protocol.words,
        f"({plan.setting.number}) {plan.setting.words}",
        Standing.NOT_JUDGED,
        f"{_TOLD} {_listed(runs.scales)}: {_steps(runs, 1)}; mean robust loss "
        f"{_listed(np.exp(np.log(runs.mean_loss).mean(0)))}",
        numbers={
            "setting": plan.setting.number,
            "protocol": plan.protocol.key,
            "range": "all",
            "scales": runs.scales.tolist(),
            "steps": [_middles(runs, n) for n in range(3)],
            "intervals": [_intervals(runs, n) for n in range(3)],
        },
    )


def _middles(runs: Runs, level: int) -> list[float | None]:
    """Geometric means over networks; None where most of them never get there."""
    steps = runs.steps[level]
    means = np.expm1(np.log1p(steps).mean(0))
    most = (steps >= runs.never).mean(0) > 0.5
    return [None if m else float(x) for x, m in zip(means, most, strict=True)]


def _intervals(runs: Runs, level: int) -> list[list[float | None] | None]:
    """95 % t intervals of `_middles`."""
    each = [student(np.log1p(column)) for column in runs.steps[level].T]
    return [
        None
        if middle is None
        else [finite(float(np.expm1(end))) for end in (known.low, known.high)]
        for known, middle in zip(each, _middles(runs, level), strict=True)
    ]


def _steps(runs: Runs, level: int) -> str:
    found = _middles(runs, level)
    return " ".join("never" if each is None else f"{each:.2g}" for each in found)


def _listed(values: Sequence[float] | np.ndarray) -> str:
    return " ".join(f"{each:.2g}" for each in values)


C5 = Claim(
    key="C5",
    title="faster adversarial training at first",
    statement=STATEMENT,
    rule=RULE,
    studies=_studies,
    judge=judge,
)
