"""C3: a smaller input scale makes the landscape more regular."""

import itertools
from collections.abc import Callable, Sequence
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
from summiteer.studies.claims.protocol import (
    FEW,
    LIMIT,
    MNIST_SCALES,
    QUICK,
    SCALES,
    SMOOTH,
    mnist_studies,
    regular_study,
    several_starts,
)
from summiteer.studies.claims.rules import (
    Curves,
    chosen,
    curves,
    effect_of,
    interval,
    mean,
    standing,
    together,
    values_of,
)
from summiteer.studies.experiments.kinks import STAYS
from summiteer.studies.statistics import Array, Estimate, as_numbers, median
from summiteer.studies.study import Study

#: The control may move by rounding amplified by the end points' own residual.
CONTROL_TOLERANCE = 1e-5
#: Growth of an index by less than 12 % over a decade; a twentieth of a maximum.
NEGLIGIBLE = 0.05
#: Of mathematics.md §6.
INDICES = {"global": "global", "unique": "unique", "a_priori": "q"}
#: Where softplus networks are looked at further.
EDGE = [10.0, 30.0, 100.0]
#: Of one input's landscape, to be looked at.
PORTRAITS = [0.1, 1.0, 10.0, 100.0]
#: Below what float64 runs to the residual can tell apart.
ROUNDING = 1e-10
#: What must not move with c in homogeneous networks.
_CONTROLLED = ("kappa", *INDICES)
#: Biases of the ReLU control: without and with.
BIASES = (0.0, 1.0)

STATEMENT = (
    "With the ratio of perturbation to input fixed, a smaller input scale makes the "
    "loss landscape of the inner maximisation more regular."
)
RULE = (
    "At the maxima that ascent with backtracking ends in from random starts. Indices: "
    "global λ⁺(M)/μ, unique 2λ⁺/(μ + g_min/ε) and a priori q, median over the images "
    "of a network; supported if the 95 % intervals of all their log-log slopes over c "
    "lie above 0 (networks resampled; each over the scales at which it is finite; one "
    "that is finite at the smallest c alone, and larger at all others in every "
    "network, counts as growing). κ, which may be negative: median; maxima: the mean "
    "number of distinct ones per image and sign of "
    "u; loss spread: (max - min)/max over the starts of an image, mean. Each of these "
    "at the largest c less the smallest: supported if the interval lies above 0; the "
    f"scales between are shown. No effect: within ±{NEGLIGIBLE}, spread "
    f"±{NEGLIGIBLE / 100:g}. Control: of homogeneous networks without biases κ and the "
    f"indices must not move by more than {CONTROL_TOLERANCE:g} at the same image and "
    "sign of u, and no maximum of F of a ReLU network may; if they do, that is a bug "
    "of ours."
)


def studies(extent: Extent, known: Known) -> tuple[Study, ...]:
    """What is to be measured.

    Args:
        extent: how much.
        known: not used.
    """
    quick = extent == "quick"
    seeds = list(range(QUICK if quick else FEW))
    scales = MNIST_SCALES if quick else SCALES
    found = [
        regular_study(extent),
        Study(
            name="c3-control",
            experiment="climb",
            # To be compared at 1e-5.
            fixed={"activation": "quadratic", **several_starts(extent, 1e-8)},
            grid={"scale": scales},
            seeds=seeds,
        ),
        Study(
            name="c3-relu",
            experiment="kinks",
            fixed={"scales": SCALES, "examples": 2 if quick else 16},
            grid={"bias_std": list(BIASES)},
            seeds=[0, 1],
        ),
        Study(
            name="c3-portrait",
            experiment="portrait",
            fixed={"examples": 1},
            grid={"scale": PORTRAITS[: 3 if quick else None]},
            seeds=[0],
        ),
    ]
    if not quick:
        edge = Study(
            name="c3-edge",
            experiment="climb",
            fixed=several_starts(extent, LIMIT["tolerance"]),
            grid={"scale": EDGE},
            seeds=seeds,
        )
        found.append(edge)
    return (*found, *mnist_studies(extent))


def judge(known: Known, extent: Extent) -> tuple[Judgement, ...]:
    """The verdicts; see `RULE`.

    Args:
        known: rows of the studies.
        extent: that was measured.
    """
    found = []
    for activation in SMOOTH:
        rows = chosen(known["maxima"], activation=activation)
        found.append(_indices(rows, f"{activation}, digits"))
    if "mnist" in known:
        found.append(_indices(known["mnist"], "softplus, MNIST, two networks"))
    for activation in SMOOTH:
        rows = chosen(known["maxima"], activation=activation)
        found += [
            _kappa(rows, f"{activation}, digits"),
            _maxima(rows, f"{activation}, digits"),
            _spread(rows, f"{activation}, digits"),
        ]
    if "c3-edge" in known:
        regime = f"softplus, digits, beyond: c from {EDGE[0]:g} to {EDGE[-1]:g}"
        found.append(_maxima(known["c3-edge"], regime))
    found.append(_control(known["c3-control"]))
    found += [_carried(chosen(known["c3-relu"], bias_std=bias)) for bias in BIASES]
    return tuple(found)


def at_maxima(name: str) -> Callable[[Row], Tensor]:
    """The median of a number over an image's runs that ended in a maximum `[examples]`.

    Args:
        name: of an array.
    """

    def quantity(row: Row) -> Tensor:
        arrays = row.arrays()
        values = arrays[name].double().masked_fill(~arrays["maximum"], torch.nan)
        return torch.tensor([median(column.numpy()) for column in values.T])

    return quantity


def distinct(row: Row) -> Tensor:
    """Distinct maxima of each image, mean over the signs of u that were met."""
    arrays = row.arrays()
    counts = []
    for label, sign in zip(arrays["label"].T, arrays["sign"].T, strict=True):
        seen = [len(label[(sign == s) & (label >= 0)].unique()) for s in (-1, 1)]
        met = [n for n in seen if n]
        counts.append(sum(met) / len(met) if met else torch.nan)
    return torch.tensor(counts)


def spread(row: Row) -> Tensor:
    """(max - min)/max of the loss over the maxima of each image."""
    arrays = row.arrays()
    loss = arrays["loss"].masked_fill(~arrays["maximum"], torch.nan)
    most = loss.nan_to_num(-torch.inf).amax(0)
    least = loss.nan_to_num(torch.inf).amin(0)
    apart = ((most - least) / most).masked_fill(~arrays["maximum"].any(0), torch.nan)
    # What rounding makes is no spread.
    return torch.where(apart < ROUNDING, 0.0, apart)


def _indices(rows: Sequence[Row], regime: str) -> Judgement:
    found = {name: curves(rows, "scale", at_maxima(name)) for name in INDICES}
    growths = {name: each.growth() for name, each in found.items()}
    beyond = [name for name, each in found.items() if _finite_at_first_alone(each)]
    verdict = together(
        Standing.SUPPORTED if name in beyond else standing(each, NEGLIGIBLE)
        for name, each in growths.items()
    )
    first = growths["global"]
    told = ", ".join(
        f"{INDICES[name]} from finite to ∞"
        if name in beyond
        else f"{INDICES[name]} {interval(each, 2)}"
        for name, each in growths.items()
    )
    numbers: dict[str, Any] = {
        "scales": found["global"].x.tolist(),
        "unit": found["global"].unit,
        **{name: each.middle for name, each in found.items()},
        "slopes": {name: as_numbers(each) for name, each in growths.items()},
    }
    return Judgement(
        "indices",
        regime,
        verdict,
        f"slopes over c: {told}{_below_one(found['global'])}",
        *effect_of(first),
        numbers,
        "log-log slope of the global index",
    )


def _finite_at_first_alone(index: Curves) -> bool:
    """No slope: ∞ of some unit at every larger c, and larger there of all units."""
    first, *rest = index.y.T
    return bool(np.isfinite(first).all() and len(rest)) and all(
        bool(np.isposinf(each).any() and (each > first).all()) for each in rest
    )


def _up_to(x: Array, holds: Sequence[bool]) -> float | None:
    """The last x of those from the first on at which something holds without a gap."""
    stretch = [*itertools.takewhile(lambda pair: pair[1], zip(x, holds, strict=True))]
    return float(stretch[-1][0]) if stretch else None


def _below_one(index: Curves) -> str:
    """Up to which c the end points are global maxima by the median global index."""
    last = _up_to(index.x, [y is not None and y < 1 for y in index.middle])
    return "" if last is None else f"; the global one is below 1 up to c = {last:g}"


def _kappa(rows: Sequence[Row], regime: str) -> Judgement:
    found = curves(rows, "scale", at_maxima("kappa"))
    more = found.rise()
    told = ", ".join(
        "–" if y is None else f"{y:.2g} at {x:g}"
        for x, y in zip(found.x, found.middle, strict=True)
    )
    return Judgement(
        "curvature ratio κ",
        regime,
        standing(more, NEGLIGIBLE),
        f"{told} (medians): {interval(more, 2)} more at the largest c",
        *effect_of(more),
        {"scales": found.x.tolist(), "kappa": found.middle, "unit": found.unit},
        "κ at the largest c less that at the smallest",
    )


def _maxima(rows: Sequence[Row], regime: str) -> Judgement:
    counts = curves(rows, "scale", distinct, mean)
    apart = curves(rows, "scale", lambda row: row.arrays()["proved_distinct"], mean)
    unseen = curves(rows, "scale", lambda row: row.arrays()["unseen"], mean)
    more = counts.rise()
    means = [mean(column) for column in counts.y.T]
    told = ", ".join(f"{y:.2f} at {x:g}" for x, y in zip(counts.x, means, strict=True))
    single = _up_to(counts.x, [y == 1.0 for y in means])
    proved, chance = mean(apart.y[:, -1]), mean(unseen.y[:, -1])
    sentence = (
        f"maxima per image and sign of u: {told}; {interval(more, 2)} more at the "
        f"largest c, where {proved:.1f} per image, both signs together, are proved "
        f"apart and the next start finds another with chance {chance:.2f}"
    )
    if single is not None:
        sentence += f"; never more than one up to c = {single:g}"
    return Judgement(
        "distinct maxima",
        regime,
        standing(more, NEGLIGIBLE),
        sentence,
        *effect_of(more),
        {
            "scales": counts.x.tolist(),
            "distinct": [finite(each) for each in means],
            "proved_distinct": [finite(mean(column)) for column in apart.y.T],
            "unseen": [finite(mean(column)) for column in unseen.y.T],
            "unit": counts.unit,
        },
        "maxima at the largest c less those at the smallest",
    )


def _spread(rows: Sequence[Row], regime: str) -> Judgement:
    spreads = curves(rows, "scale", spread, mean)
    wider = spreads.rise()
    points = Estimate(100 * wider.value, 100 * wider.low, 100 * wider.high, wider.units)
    means = [mean(column) for column in spreads.y.T]
    told = ", ".join(
        f"{100 * y:.2g}\u00a0% at {x:g}" for x, y in zip(spreads.x, means, strict=True)
    )
    return Judgement(
        "loss spread",
        regime,
        standing(wider, NEGLIGIBLE / 100),
        f"{told} (means over images): {interval(points, 2)} points wider "
        "at the largest c",
        *effect_of(wider),
        {"scales": spreads.x.tolist(), "spread": [finite(each) for each in means]},
        "share of the loss, at the largest c less that at the smallest",
    )


def _control(rows: Sequence[Row]) -> Judgement:
    drift, pairs = control_drift(rows)
    flat = pairs > 0 and drift <= CONTROL_TOLERANCE
    shown = {
        name: curves(rows, "scale", at_maxima(name)) for name in ("global", "kappa")
    }
    counts = curves(rows, "scale", distinct, mean)
    return Judgement(
        "control: κ and indices",
        "quadratic (homogeneous), digits",
        Standing.AS_IT_MUST if flat else Standing.BUG,
        f"they move by {drift:.1e} over all c at the same network, image and sign of u "
        f"({pairs} compared)",
        finite(drift),
        numbers={
            "drift": finite(drift),
            "pairs": pairs,
            "flat": flat,
            "scales": counts.x.tolist(),
            "distinct": counts.middle,
            **{name: each.middle for name, each in shown.items()},
        },
        quantity="largest relative change",
    )


def control_drift(rows: Sequence[Row]) -> tuple[float, int]:
    """How much κ and the indices of the homogeneous control move with c.

    Args:
        rows: of one activation.

    Returns:
        The largest relative change at the same (network, image, sign of u), taken at
        the highest maximum of that sign, and how many such triples were compared.
    """
    seen: dict[tuple[Any, int, int], list[Tensor]] = {}
    for row in rows:
        cell = row.arrays()
        for image in range(cell["loss"].shape[1]):
            for sign in (-1, 1):
                usable = cell["maximum"][:, image] & (cell["sign"][:, image] == sign)
                if not bool(usable.any()):
                    continue
                losses = cell["loss"][:, image].masked_fill(~usable, -torch.inf)
                best = int(losses.argmax())
                values = [cell[name][best, image].double() for name in _CONTROLLED]
                key = (row.parameters["seed"], image, sign)
                seen.setdefault(key, []).append(torch.stack(values))
    drift, pairs = 0.0, 0
    for values in seen.values():
        if len(values) > 1:
            stacked = torch.stack(values)
            middle = stacked.median(0).values
            change = ((stacked - middle) / middle).abs()
            change = change.masked_fill(stacked == middle, 0.0)  # ∞ at every scale
            # What is not a number is no evidence of being flat.
            drift = max(drift, float(change.nan_to_num(torch.inf).max()))
            pairs += 1
    return drift, pairs


def _carried(rows: Sequence[Row]) -> Judgement:
    """Whether the maxima of ReLU networks at c = 1 are maxima at every c."""
    bias = values_of(rows, "bias_std")
    moved = [row.arrays()["moved"] for row in rows]
    # What is not a number is no evidence of staying.
    farthest = torch.cat([m.amax(0) for m in moved]).nan_to_num(torch.inf)
    stay = float((farthest <= STAYS).double().mean())
    told = f"{100 * stay:.3g} % of {len(farthest)} maxima of F at c = 1 are at every c"
    numbers = {
        "maxima": len(farthest),
        "stay": stay,
        "moved": finite(float(farthest.max())),
    }
    if bias == [0.0]:
        flat = len(farthest) > 0 and stay == 1.0
        return Judgement(
            "control: maxima by DC ascent",
            "relu without biases (homogeneous), digits",
            Standing.AS_IT_MUST if flat else Standing.BUG,
            told,
            finite(float(farthest.max())),
            numbers=numbers,
            quantity="farthest move, in ε",
        )
    known = farthest[farthest.isfinite()]
    if bool((known > STAYS).any()):
        verdict = Standing.SUPPORTED
        told += f"; DC ascent leaves the others by up to {float(known.max()):.2g} ε: "
        told += "with biases the scale matters"
    else:
        # What is not a number is no evidence of leaving either.
        verdict = Standing.NO_EFFECT if stay == 1.0 else Standing.INCONCLUSIVE
    return Judgement(
        "contrast: maxima by DC ascent",
        "relu with biases, digits",
        verdict,
        told,
        1 - stay,
        numbers=numbers,
        quantity="share of maxima that move",
    )


C3 = Claim(
    "C3",
    "a smaller input scale, a more regular landscape",
    STATEMENT,
    RULE,
    studies,
    judge,
)
