"""C4: a smaller input scale makes the inner maximisation faster."""

from summiteer.studies.claims.claim import Claim, Extent, Judgement, Known, Row
from summiteer.studies.claims.rules import (
    Curves,
    chosen,
    curves,
    finite,
    interval,
    standing,
)
from summiteer.studies.inputs import mnist_digest
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
SCALES = [0.1, 0.3, 1.0, 3.0, 10.0]
MNIST_SCALES = [0.1, 1.0, 10.0]

RULE = (
    "For each activation and step rule: steps to a residual of 1e-8, median over the "
    "images of a network, against the input scale c at fixed ε/‖x‖. The log-log slope "
    "is taken per network; its mean and 95 % interval come from resampling the "
    "networks (on MNIST, where there are two, the images). Supported if the interval "
    f"lies above 0, reversed if below, no effect if within ±{NEGLIGIBLE}. Runs that "
    "meet the limit of 2000 steps count as 2000: that can hide growth, not feign it, "
    "where they are those of large c; their share is stated."
)
STATEMENT = (
    "With the ratio of perturbation to input fixed, a smaller input scale makes the "
    "inner maximisation faster."
)


def studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """What is to be measured.

    Args:
        extent: how much.
        known: not used.
    """
    quick = extent == "quick"
    scales = MNIST_SCALES if quick else SCALES
    found = [
        Study(
            name=f"c4-{method}",
            experiment="climb",
            fixed={"method": method, "judged": method == "paper"},
            grid={"activation": list(ACTIVATIONS), "scale": scales},
            seeds=list(range(5 if quick else 8)),
        )
        for method in METHODS
    ]
    digest = None if quick else mnist_digest()
    if digest:
        found.append(mnist_study("c4-mnist", digest, extent))
    return tuple(found)


def mnist_study(name: str, digest: str, extent: Extent) -> Study:
    """Two networks on MNIST by the paper's step, in blocks of 250 images.

    Args:
        name: of the study.
        digest: of the images.
        extent: 2 000 images, or all ten thousand.
    """
    images = 10_000 if extent == "full-mnist" else 2_000
    return Study(
        name=name,
        experiment="climb",
        fixed={"data": "mnist", "digest": digest, "examples": 250},
        grid={"scale": MNIST_SCALES, "first": list(range(0, images, 250))},
        seeds=[0, 1],
    )


def judge(known: Known, extent: Extent) -> tuple[Judgement, ...]:
    """The verdicts; see `RULE`.

    Args:
        known: rows of the studies.
        extent: that was measured.
    """
    found = []
    for method, words in METHODS.items():
        rows = known.get(f"c4-{method}", ())
        for activation in ACTIVATIONS:
            regime = f"{activation}, digits"
            found.append(_judged(chosen(rows, activation=activation), words, regime))
    if "c4-mnist" in known:
        rows = list(known["c4-mnist"])
        found.append(_judged(rows, METHODS["paper"], "softplus, MNIST, two networks"))
    order = {"softplus, digits": 0, "tanh, digits": 1}
    found.sort(key=lambda each: order.get(each.regime, 2))
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
    parts = []
    slopes = steps.local_growth()
    for i, slope in enumerate(slopes):
        if slope.known and slope.high < 0:
            parts.append(f"they fall from c = {steps.x[i]:g} to {steps.x[i + 1]:g}")
        elif slope.known and max(abs(slope.low), abs(slope.high)) <= NEGLIGIBLE:
            parts.append(f"none from c = {steps.x[i]:g} to {steps.x[i + 1]:g}")
    return "; " + ", ".join(parts) if parts and len(slopes) > 1 else ""


C4 = Claim(
    "C4",
    "a smaller input scale, a faster inner maximisation",
    STATEMENT,
    RULE,
    studies,
    judge,
)
