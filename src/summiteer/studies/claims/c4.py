"""C4: a smaller input scale makes the inner maximisation faster."""

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
    SCALES,
    SMOOTH,
    mnist_studies,
    paper_studies,
)
from summiteer.studies.claims.rules import (
    Curves,
    chosen,
    curves,
    finite,
    interval,
    standing,
    values_of,
)
from summiteer.studies.statistics import as_numbers
from summiteer.studies.study import Study

ACTIVATIONS = ("softplus", "tanh", "quadratic")
METHODS = {
    "paper": "the paper's constant step",
    "normalised": "normalised steps of ε/10",
    "backtracking": "backtracking",
}
#: Steps that grow by less than 12 % from one scale to one ten times as large.
NEGLIGIBLE = 0.05
RULE = (
    "For each activation and step rule: steps to a residual of 1e-6, median over the "
    "images of a network, against the input scale c at fixed ε/‖x‖. The log-log slope "
    "is taken per network; its mean and 95 % interval come from resampling the "
    "networks (on MNIST, where there are two, the images). Supported if the interval "
    f"lies above 0, reversed if below, no effect if within ±{NEGLIGIBLE}. Runs that "
    "meet the limit of 1000 steps count as 1000: that can hide growth, not feign it, "
    "where they are those of large c; their share is stated."
)
STATEMENT = (
    "With the ratio of perturbation to input fixed, a smaller input scale makes the "
    "inner maximisation faster."
)


def studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """What is to be measured; the paper's step shares cells with C1.

    Args:
        extent: how much.
        known: not used.
    """
    quick = extent == "quick"
    seeds = list(range(5 if quick else FEW))
    scales = MNIST_SCALES if quick else SCALES
    found = [*paper_studies(extent)]
    if not quick:
        # Between the scales of C1.
        found.append(
            _study("paper-step-between", "paper", SMOOTH, [0.3, 3.0], seeds, 8)
        )
    examples = 4 if quick else 8
    control = ["quadratic"]
    found.append(
        _study("c4-control", "paper", control, scales, seeds, examples, judged=False)
    )
    for method in ("backtracking",) if quick else ("normalised", "backtracking"):
        found.append(
            _study(
                f"c4-{method}",
                method,
                [*SMOOTH, *control],
                scales,
                seeds,
                examples,
                judged=False,
            )
        )
    return (*found, *mnist_studies(extent))


def _study(
    name: str,
    method: str,
    activations: list[str],
    scales: list[float],
    seeds: list[int],
    examples: int,
    judged: bool = True,
) -> Study:
    return Study(
        name=name,
        experiment="climb",
        fixed={"method": method, "judged": judged, "examples": examples, **LIMIT},
        grid={"activation": activations, "scale": scales},
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
        for method, words in METHODS.items():
            rows = chosen(digits, activation=activation, method=method)
            few = sorted({row.parameters["seed"] for row in rows})
            # The networks that were climbed at every scale.
            scales = values_of(rows, "scale")
            whole = {
                s
                for s in few
                if len(values_of(chosen(rows, seed=s), "scale")) == len(scales)
            }
            rows = [row for row in rows if row.parameters["seed"] in whole]
            if len(scales) > 1 and rows:
                found.append(_judged(rows, words, f"{activation}, digits"))
    if "mnist" in known:
        rows = list(known["mnist"])
        found.append(_judged(rows, METHODS["paper"], "softplus, MNIST, two networks"))
    return tuple(found)


def _judged(rows: list[Row], words: str, regime: str) -> Judgement:
    steps = curves(rows, "scale", lambda row: row.arrays()["steps"].double()[0])
    growth = steps.growth()
    verdict = standing(growth, NEGLIGIBLE)
    runs = sum(row.record["runs"] for row in rows)
    limited = sum(row.record["limit"] for row in rows) / max(runs, 1)
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
        finite(growth.value),
        finite(growth.low),
        finite(growth.high),
        numbers,
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
        if (verdict := standing(slope, NEGLIGIBLE)) in words
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
