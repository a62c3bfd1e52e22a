"""C4: a smaller input scale makes the inner maximisation faster."""

from collections.abc import Sequence

import torch
from torch import Tensor

from summiteer.studies.claims.claim import (
    Claim,
    Extent,
    Judgement,
    Known,
    Row,
    Standing,
)
from summiteer.studies.claims.protocol import (
    FEW,
    LIMIT,
    MNIST_SCALES,
    QUICK,
    SCALES,
    SMOOTH,
    STEP_RULES,
    mnist_studies,
    paper_studies,
    regular_study,
)
from summiteer.studies.claims.rules import (
    Curves,
    chosen,
    curves,
    effect_of,
    interval,
    overturned,
    standing,
    values_of,
)
from summiteer.studies.statistics import Estimate, as_numbers
from summiteer.studies.study import Study

ACTIVATIONS = ("softplus", "tanh", "quadratic")
#: Steps that grow by less than 12 % from one scale to one ten times as large.
NEGLIGIBLE = 0.05
RULE = (
    "For each activation and step rule: steps to a residual of 1e-6, median over the "
    "images of a network, against the input scale c at fixed ε/‖x‖. The log-log slope "
    "is taken per network; its mean and 95 % interval come from resampling the "
    "networks (on MNIST, where there are two, the images). Supported if the interval "
    f"lies above 0, reversed if below, no effect if within ±{NEGLIGIBLE}. Runs that "
    "end otherwise, most of them at the limit of 1000 steps, count as 1000, and their "
    "share is stated. A median of 1000 is a lower bound: a verdict that longer runs "
    "could overturn is not given, but inconclusive."
)
STATEMENT = (
    "With the ratio of perturbation to input fixed, a smaller input scale makes the "
    "inner maximisation faster."
)


def studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """What is to be measured; cells are shared with C1 and C3.

    Args:
        extent: how much.
        known: not used.
    """
    quick = extent == "quick"
    seeds = list(range(QUICK if quick else FEW))
    scales = MNIST_SCALES if quick else SCALES
    control = ["quadratic"]
    found = [
        *paper_studies(extent),
        regular_study(extent),
        _study("c4-control", ["paper", "backtracking"], control, scales, seeds),
    ]
    if not quick:
        activations, few = [*SMOOTH, *control], list(range(QUICK))
        # Between the scales of C1.
        found += [
            _study("c4-between", ["paper"], SMOOTH, [0.3, 3.0], seeds),
            _study("c4-normalised", ["normalised"], activations, MNIST_SCALES, few),
        ]
    return (*found, *mnist_studies(extent))


def _study(
    name: str,
    methods: list[str],
    activations: list[str],
    scales: list[float],
    seeds: list[int],
) -> Study:
    return Study(
        name=name,
        experiment="climb",
        fixed={"judged": False, "examples": 8, **LIMIT},
        grid={"method": methods, "activation": activations, "scale": scales},
        seeds=seeds,
    )


def judge(known: Known, extent: Extent) -> tuple[Judgement, ...]:
    """The verdicts; see `RULE`.

    Args:
        known: rows of the studies.
        extent: that was measured.
    """
    digits = [row for name, rows in known.items() if name != "mnist" for row in rows]
    found = []
    for activation in ACTIVATIONS:
        for method, words in STEP_RULES.items():
            rows = _climbed_everywhere(
                chosen(digits, activation=activation, method=method)
            )
            if len(values_of(rows, "scale")) > 1:
                found.append(_judged(rows, words, f"{activation}, digits"))
    if "mnist" in known:
        rows = list(known["mnist"])
        found.append(
            _judged(rows, STEP_RULES["paper"], "softplus, MNIST, two networks")
        )
    return tuple(found)


def _climbed_everywhere(rows: Sequence[Row]) -> list[Row]:
    """Those of networks that were climbed at every scale."""
    scales = values_of(rows, "scale")
    whole = {
        seed
        for seed in values_of(rows, "seed")
        if values_of(chosen(rows, seed=seed), "scale") == scales
    }
    return [row for row in rows if row.parameters["seed"] in whole]


def first_steps(row: Row) -> Tensor:
    """Of the first run on each image; the limit if it did not arrive `[examples]`."""
    arrays = row.arrays()
    steps = arrays["steps"][0].double().clamp(max=LIMIT["max_steps"])
    return steps.masked_fill(~arrays["stationary"][0], LIMIT["max_steps"])


def verdict_on(steps: Curves, growth: Estimate) -> Standing:
    """What the growth says whatever the steps beyond the limit are.

    INCONCLUSIVE in place of a verdict that longer runs could overturn.

    Args:
        steps: against the scale.
        growth: their log-log slope.
    """
    verdict = standing(growth, NEGLIGIBLE)
    limited = [bool((each >= LIMIT["max_steps"]).any()) for each in steps.y.T]
    return Standing.INCONCLUSIVE if verdict in overturned(steps.x, limited) else verdict


def _judged(rows: Sequence[Row], words: str, regime: str) -> Judgement:
    steps = curves(rows, "scale", first_steps)
    growth = steps.growth()
    verdict = verdict_on(steps, growth)
    runs = torch.cat([first_steps(row) for row in rows])
    limited = float((runs >= LIMIT["max_steps"]).double().mean())
    sentence = (
        f"steps grow like c^{interval(growth)}: {_told(steps)}"
        + (f"; {100 * limited:.1f} % of the runs met the limit" if limited else "")
        + edge(steps)
    )
    numbers = {
        "scales": steps.x.tolist(),
        "steps": steps.middle,
        "local_slopes": [as_numbers(each) for each in steps.local_growth()],
        "limited": limited,
        "unit": steps.unit,
        "units": growth.units,
    }
    return Judgement(
        words,
        regime,
        verdict,
        sentence,
        *effect_of(growth),
        numbers,
        "exponent of c",
    )


def _told(steps: Curves) -> str:
    pairs = zip(steps.x, steps.middle, strict=True)
    told = ", ".join("–" if y is None else f"{y:.0f} at {x:g}" for x, y in pairs)
    return f"{told} (medians)"


def edge(steps: Curves) -> str:
    """Where neighbouring scales differ otherwise than the whole range does.

    Args:
        steps: against the scale.
    """
    words = {Standing.REVERSED: "they fall", Standing.NO_EFFECT: "no growth"}
    slopes = steps.local_growth()
    parts = [
        f"{words[verdict]} from c = {steps.x[i]:g} to {steps.x[i + 1]:g}"
        for i, slope in enumerate(slopes)
        if (verdict := verdict_on(steps.between(i, i + 1), slope)) in words
    ]
    return "; " + ", ".join(parts) if parts and len(slopes) > 1 else ""


C4 = Claim(
    "C4",
    "a smaller input scale, a faster inner maximisation",
    STATEMENT,
    RULE,
    studies,
    judge,
)
