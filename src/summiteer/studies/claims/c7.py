"""C7: beyond two layers; our extension, the paper does not claim it."""

from collections.abc import Sequence
from statistics import fmean

from summiteer.studies.claims.c1 import HIGH, WORDS
from summiteer.studies.claims.claim import (
    Claim,
    Extent,
    Judgement,
    Known,
    Row,
    Standing,
)
from summiteer.studies.claims.ends import ends_judgement
from summiteer.studies.claims.protocol import LIMIT, NETWORKS
from summiteer.studies.claims.rules import chosen, effect_of, interval
from summiteer.studies.statistics import as_numbers, bootstrap
from summiteer.studies.study import Study

#: Of networks on which nothing was tried before rule and sizes were fixed.
_FIRST = 300
#: Runs that zigzag across kinks never come to rest.
_LIMIT = {**LIMIT, "max_steps": 300}
#: Of 34 networks and 48 images a share near 65 % was known to 3.3 points.
TRAINED, IMAGES = 46, 40
RESTARTS = 12

STATEMENT = (
    "On deeper networks, trained on real data, projected gradient ascent of the "
    "cross-entropy finds a local maximum with high probability (our extension; the "
    "paper analyses two layers)."
)
RULE = (
    "Networks of two and three hidden layers of 32, trained on the digits; PGA with "
    "backtracking from one random start per image, to a residual of 1e-6 or "
    f"{_LIMIT['max_steps']} steps. ReLU: the share of runs whose own "
    "end point is proved (Props. 10, 11) to lie within 1e-3 ε of a local maximum; "
    "smooth activations have no proofs, their share is of numerical verdicts "
    "(Lanczos). 95 % interval by a cluster bootstrap over networks. Supported if the "
    f"whole interval is at least {HIGH:.0%}, not supported if all of it is below. "
    "Distinct maxima per image are measured, not judged."
)


def studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """What is to be measured.

    Args:
        extent: how much.
        known: not used.
    """
    quick = extent == "quick"
    linear = Study(
        name="depth-relu",
        experiment="depth",
        fixed={"examples": 24 if quick else IMAGES, **_LIMIT},
        zips=[
            {
                "hidden": [[32, 32], [32, 32, 32], [32, 32]][: 1 if quick else 3],
                "norm": ["l2", "l2", "linf"][: 1 if quick else 3],
                "radius": [0.5, 0.5, 0.1][: 1 if quick else 3],
            }
        ],
        seeds=list(range(_FIRST, _FIRST + (8 if quick else TRAINED))),
    )
    if quick:
        return (linear,)
    smooth = Study(
        name="depth-smooth",
        experiment="depth",
        fixed={"examples": 4, "activation": "tanh", "hidden": [32, 32, 32], **_LIMIT},
        seeds=list(range(_FIRST, _FIRST + NETWORKS)),
    )
    maxima = Study(
        name="depth-maxima",
        experiment="depth",
        fixed={"examples": 8, "restarts": RESTARTS, **_LIMIT},
        grid={"activation": ["relu", "tanh"]},
        seeds=list(range(_FIRST, _FIRST + 8)),
    )
    return linear, smooth, maxima


def judge(known: Known, extent: Extent) -> tuple[Judgement, ...]:
    """The verdicts; see `RULE`.

    Args:
        known: rows of the studies.
        extent: that was measured.
    """
    found = []
    for name in ("depth-relu", "depth-smooth"):
        kinds = {_kind(row): None for row in known.get(name, ())}
        for hidden, norm, radius, activation in kinds:
            some = [
                row
                for row in known[name]
                if _kind(row) == (hidden, norm, radius, activation)
            ]
            proofs = activation == "relu"
            words = WORDS["backtracking"] + ("" if proofs else ", numerical verdicts")
            layers = "-".join(str(width) for width in hidden)
            regime = f"{activation}, {layers}, {norm} ball of {radius:g}, digits"
            found.append(ends_judgement(some, words, regime, HIGH, proofs))
    rows = known.get("depth-maxima", ())
    for activation in dict.fromkeys(row.parameters["activation"] for row in rows):
        found.append(_maxima(chosen(rows, activation=activation), activation))
    return tuple(found)


def _kind(row: Row) -> tuple[tuple[int, ...], str, float, str]:
    p = row.parameters
    return tuple(p["hidden"]), p["norm"], p["radius"], p["activation"]


def _maxima(rows: Sequence[Row], activation: str) -> Judgement:
    """Distinct maxima per image from several starts, counted and not judged."""
    counts, apart, unseen = [], [], []
    for row in rows:
        arrays = row.arrays()
        met = [len({*column.tolist()} - {-1}) for column in arrays["label"].T]
        counts.append(sum(met) / len(met))
        apart.append(float(arrays["proved_distinct"].double().mean()))
        unseen += [float(each) for each in arrays["unseen"] if each.isfinite()]
    number = bootstrap(counts)
    return Judgement(
        f"distinct maxima from {RESTARTS} starts",
        f"{activation}, 32-32, l2 ball of 0.5, digits",
        Standing.NOT_JUDGED,
        f"{interval(number)} distinct maxima per image, by distance; "
        f"{fmean(apart):.2f} are proved apart; the chance that another "
        f"start ends in a new one is about {100 * fmean(unseen or [1.0]):.0f} %",
        *effect_of(number),
        {
            "distinct": as_numbers(number),
            "proved_distinct": fmean(apart),
            "unseen": fmean(unseen or [1.0]),
        },
        "distinct maxima per image",
    )


C7 = Claim("C7", "beyond two layers", STATEMENT, RULE, studies, judge)
