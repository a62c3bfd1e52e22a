"""Charts of what the judgements of `reproduce` rest on, from result.json alone."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from summiteer.report.charts import Axis, Bars, Lines, Mark, Part, Series
from summiteer.report.claim_curves import (
    Curve,
    Judged,
    activation_of,
    method_of,
    scale_curves,
    share_curves,
    step_curves,
    training_curves,
    with_whiskers,
)
from summiteer.report.document import Block, Fold, Plot
from summiteer.studies.claims.c1 import HIGH
from summiteer.studies.claims.protocol import LIMIT
from summiteer.studies.experiments.rate import RateParameters

_VERDICTS = {
    "supported": "green",
    "no effect": "blue",
    "as it must be": "violet",
    "inconclusive": "gold",
    "not reached": "orange",
    "not supported": "red",
    "reversed": "pink",
    "a bug of ours": "red",
    "not judged": "quiet",
}
#: C5's settings on one task with the same weights: iid, doubled, ReLU, biases.
_TASK = "digits 0v1"
#: An axis that spans less has ticks within its decades.
_DECADES = 300.0
#: One that spans less than this has no two round numbers to be logarithmic between.
_FLAT = 2.0
#: One that spans less than this has ticks at every digit.
_DIGITS = 4.0
#: Names of C2's parameters, as its numbers have them.
_PARAMETERS = {
    "dimension": "dimension d",
    "width": "width m",
    "ratio": "radius by input, ε/‖x‖",
    "scale": "input scale c",
}
#: Numbers of C3 -> axis, and whether it is logarithmic.
_PANELS = {
    "global": ("global index λ⁺(M)/μ", True),
    "unique": ("index of uniqueness 2λ⁺/(μ + g_min/ε)", True),
    "a_priori": ("a priori index q", True),
    "kappa": ("curvature ratio κ", False),
    "distinct": ("maxima per image and sign of u", False),
    "spread": ("spread of the loss over maxima", False),
}
#: Longest runs of what counts steps to a residual.
_LIMITS: Mapping[str, float] = {
    "C2": RateParameters.model_fields["max_steps"].default,
    "C4": LIMIT["max_steps"],
}
#: Below these an index says that nothing is higher, or that there is one maximum.
_ONE = {
    "global": "below: the global maximum",
    "unique": "below: the only one",
    "a_priori": "below: one, before any ascent",
}


def evidence(claim: Mapping[str, Any]) -> tuple[Block, ...]:
    """The charts of a claim; those that the verdict does not rest on are folded.

    Args:
        claim: an entry of `claims` in result.json.
    """
    make = _CHARTS.get(claim["key"])
    return tuple(make(claim["judgements"])) if make else ()


def verdicts(claims: Sequence[Mapping[str, Any]]) -> Plot:
    """How many judgements of each claim say what.

    Args:
        claims: of result.json.
    """
    counts = {
        claim["key"]: [each["standing"] for each in claim["judgements"]]
        for claim in claims
    }
    met = [name for name in _VERDICTS if any(name in each for each in counts.values())]
    parts = tuple(
        Part(
            name,
            tuple(float(each.count(name)) for each in counts.values()),
            _VERDICTS[name],
            pattern=name in {"inconclusive", "not judged", "not reached"},
        )
        for name in met
    )
    told = "; ".join(
        f"{key}: "
        + ", ".join(f"{each.count(name)} {name}" for name in met if name in each)
        for key, each in counts.items()
    )
    axis = Axis("judgements, one per protocol and regime")
    return Plot(Bars("What the judgements say", axis, tuple(counts), parts), told)


def _shares(judged: Sequence[Judged]) -> list[Plot]:
    found = share_curves(judged)
    if not found:
        return []
    told = [
        f"{curve.name}: "
        + ", ".join(
            f"{y:.3g} % [{low:.3g}, {high:.3g}]"
            for y, low, high in zip(curve.y, curve.low, curve.high, strict=True)
        )
        for curve in found
    ]
    words = (
        "Shares of runs whose own end point is proved to lie within a thousandth of "
        "the radius of a local maximum, with 95 % "
        f"intervals, from the smallest c to the largest. {'; '.join(told)}. Curves at "
        "the same c are drawn beside each other; supported is what lies above the "
        "dotted line with its whole interval."
    )
    chart = Lines(
        "Runs that end in a proved local maximum",
        Axis("input scale c", log=True, ticks=(0.1, 1.0, 10.0)),
        Axis("share of runs, %", span=(-4.0, 104.0)),
        with_whiskers(found),
        (Mark(100 * HIGH, f"{100 * HIGH:.0f} %", "y"),),
        wide=True,
    )
    return [Plot(chart, words)]


def _steps(judged: Sequence[Judged]) -> list[Plot]:
    made = []
    for parameter, name in {**_PARAMETERS, "tolerance": "1/tolerance"}.items():
        found = step_curves(judged, parameter)
        if not found:
            continue
        slopes = [
            f"{activation_of(each)}, {each['protocol']}: {_interval(slope)}"
            for each in judged
            if (slope := each["numbers"].get("slopes", {}).get(parameter))
        ]
        words = f"{_ends(found, _LIMITS['C2'])}."
        if slopes:
            words += f" Log-log slopes with 95 % intervals: {'; '.join(slopes)}."
        words += _lower_bounds(found, _LIMITS["C2"])
        ticks = tuple(sorted({x for curve in found for x in curve.x}))
        axis = Axis(name, log=True, ticks=() if parameter == "tolerance" else ticks)
        reached = "a residual" if parameter == "tolerance" else "a residual of 1e-8"
        chart = Lines(
            f"Steps against {name}",
            axis,
            _logarithmic(f"steps to {reached} (median)", found),
            with_whiskers(found),
            _limit_marks(found, _LIMITS["C2"]),
        )
        made.append(Plot(chart, words))
    return made


def _landscapes(judged: Sequence[Judged]) -> list[Plot]:
    made = []
    for name, (title, log) in _PANELS.items():
        found = scale_curves(judged, name)
        if not found:
            continue
        words = f"{_ends(found)}."
        if any("control" in curve.name for curve in found) and _flat(judged):
            words += " The control does not move at the same image and sign of u."
        if any(None in curve.y for curve in found):
            words += " Where a curve ends the value is ∞ or not known."
        marks = (Mark(1.0, _ONE[name], "y"),) if name in _ONE else ()
        chart = Lines(
            title[0].upper() + title[1:],
            _scales(found),
            _logarithmic(title, found) if log else Axis(title),
            with_whiskers(found),
            marks,
        )
        made.append(Plot(chart, words))
    return made


def _flat(judged: Iterable[Judged]) -> bool:
    controls = [each["numbers"]["flat"] for each in judged if "flat" in each["numbers"]]
    return bool(controls) and all(controls)


def _ascents(judged: Sequence[Judged]) -> list[Plot]:
    made = []
    for protocol in dict.fromkeys(each["protocol"] for each in judged):
        found = scale_curves(judged, "steps", protocol)
        if not found:
            continue
        exponents = "; ".join(
            f"{activation_of(each)}{', MNIST' if 'MNIST' in each['regime'] else ''}: "
            f"{_interval(each, 'effect')}"
            for each in judged
            if each["protocol"] == protocol and each["effect"] is not None
        )
        words = (
            f"{_ends(found, _LIMITS['C4'])}. Exponents of c with 95 % intervals: "
            f"{exponents}.{_lower_bounds(found, _LIMITS['C4'])}"
        )
        chart = Lines(
            f"Steps by {protocol}",
            _scales(found),
            _logarithmic("steps to a residual of 1e-6 (median)", found),
            with_whiskers(found),
            _limit_marks(found, _LIMITS["C4"]),
        )
        made.append(Plot(chart, words))
    return made


def _meets(found: Iterable[Curve], limit: float) -> bool:
    return any(y is not None and y >= limit for curve in found for y in curve.y)


def _limit_marks(found: Iterable[Curve], limit: float) -> tuple[Mark, ...]:
    return (Mark(limit, "limit of steps", "y"),) if _meets(found, limit) else ()


def _lower_bounds(found: Iterable[Curve], limit: float) -> str:
    """What slopes of curves that meet the limit are worth."""
    if not _meets(found, limit):
        return ""
    return " Where a curve meets the limit, its growth is a lower bound."


def _trainings(judged: Sequence[Judged]) -> list[Block]:
    """By each protocol: one task with its controls, and what else was trained."""
    made = []
    for protocol in dict.fromkeys(each["protocol"] for each in judged):
        found = training_curves(judged, protocol).values()
        same = [curve for curve in found if _TASK in curve.name]
        others = [curve._replace(colour="") for curve in found if curve not in same]
        if others and same:
            beside = (
                "; dashed from f ≡ 0" if any(c.dash == "dash" for c in same) else ""
            )
            title = f"{protocol}: digits 0 against 1{beside}"
            made.append(_training(title, same, wide=True))
            title = f"{protocol}: other tasks and networks"
            made.append(_training(title, others, wide=True))
        elif found:
            made.append(_training(protocol, same or others))
    # What is judged first is the primary protocol.
    first = judged[0]["protocol"] if judged else ""
    primary = [plot for plot in made if plot.chart.title.startswith(first)]
    rest = tuple(plot for plot in made if plot not in primary)
    blocks: list[Block] = [*primary, *_training_slopes(judged)]
    if rest:
        title = f"The same by other protocols ({len(rest)} figures)"
        blocks.append(Fold(title, rest))
    return blocks


def _training(title: str, found: Sequence[Curve], wide: bool = False) -> Plot:
    words = (
        "Steps until the robust loss stays below θ50, half-way to the floor. "
        f"{_ends(found)}. A curve ends where most networks never get there; "
        "the others count as one step more than were made, so that means over them are "
        "lower bounds."
    )
    if any(curve.low for curve in found):
        words += " Bars are 95 % intervals over networks."
    chart = Lines(
        title,
        _scales(found),
        _logarithmic("steps to θ50", found),
        with_whiskers(found),
        wide=wide,
    )
    return Plot(chart, words)


def _training_slopes(judged: Sequence[Judged]) -> list[Plot]:
    """Slopes of the primary protocol in the middle range, a row per setting."""
    rows = [
        each
        for each in judged
        if each["numbers"].get("protocol") == "P2"
        and each["numbers"].get("range") == "mid"
        and each["effect"] is not None
    ]
    if not rows:
        return []
    names = {
        float(each["numbers"]["setting"]): each["regime"].split("; c ")[0]
        for each in sorted(rows, key=lambda each: int(each["numbers"]["setting"]))
    }
    series = []
    for verdict, tint in _VERDICTS.items():
        mine = [each for each in rows if each["standing"] == verdict]
        places = tuple(float(each["numbers"]["setting"]) for each in mine)
        if not mine:
            continue
        ends = [(each["low"], each["high"], None) for each in mine]
        series += [
            Series(
                verdict,
                tuple(each["effect"] for each in mine),
                places,
                look="points",
                colour=tint,
                texts=tuple(each["regime"] for each in mine),
            ),
            Series(
                "",
                tuple(x for end in ends for x in end),
                tuple(y for place in places for y in (place, place, None)),
                colour=tint,
            ),
        ]
    told = "; ".join(
        f"{each['regime'].split('; c ')[0]}: {_interval(each, 'effect')}, "
        f"{each['standing']}"
        for each in rows
    )
    chart = Lines(
        "Slope of log(1 + steps to θ50) over log c, c 0.3 to 3",
        Axis("slope; above 0 a smaller scale is faster"),
        Axis("", ticks=tuple(names), labels=tuple(names.values())),
        tuple(series),
        (Mark(0.1, "±0.1"), Mark(-0.1, "")),
        wide=True,
    )
    words = f"By the best rate at each scale, with 95 % intervals. {told}."
    return [Plot(chart, words)]


def _bars(judged: Sequence[Judged]) -> list[Plot]:
    """Shares that no scale tells apart: C6 and C7."""
    rows = [
        each
        for each in judged
        if "runs" in each["numbers"] and each["effect"] is not None
    ]
    if not rows:
        return []
    # Bars of the same name would lie on each other.
    names = tuple(
        f"{each['regime'].removesuffix(', digits')}; {method_of(each)}" for each in rows
    )
    lows = tuple(100 * each["low"] for each in rows)
    widths = tuple(100 * (each["high"] - each["low"]) for each in rows)
    chart = Bars(
        "Runs that end in a local maximum",
        Axis("share of runs, %", span=(0.0, 100.0)),
        names,
        (
            Part("at least (lower end of the 95 % interval)", lows, "blue"),
            Part("within the interval", widths, "gold", pattern=True),
        ),
    )
    told = "; ".join(
        f"{name}: {100 * each['effect']:.3g} % [{100 * each['low']:.3g}, "
        f"{100 * each['high']:.3g}]"
        for name, each in zip(names, rows, strict=True)
    )
    return [Plot(chart, f"{told}.")]


def _logarithmic(title: str, found: Iterable[Curve]) -> Axis:
    """With ticks at 1, 2, 5, 10 … where powers of ten are few; or an even axis."""
    ends = [y for curve in found for y in (*curve.y, *curve.low, *curve.high) if y]
    low, high = min(ends, default=1.0), max(ends, default=1.0)
    if low <= 0 or high / low > _DECADES:
        return Axis(title, log=True)
    if high / low < _FLAT:
        return Axis(title)
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    digits = range(1, 10) if high / low < _DIGITS else (1, 2, 5)
    ticks = [digit * 10.0**power for power in powers for digit in digits]
    inside = tuple(tick for tick in ticks if low / 2 <= tick <= high * 2)
    return Axis(title, log=True, ticks=inside)


def _scales(found: Iterable[Curve]) -> Axis:
    ticks = tuple(sorted({x for curve in found for x in curve.x}))
    return Axis("input scale c", log=True, ticks=ticks)


def _ends(found: Iterable[Curve], limit: float = math.inf) -> str:
    """The first and the last value of each curve that are known, as far as a limit."""
    told = []
    for curve in found:
        known = [(x, y) for x, y in zip(curve.x, curve.y, strict=True) if y is not None]
        ends = [
            f"{_told(y) if y < limit else f'not within {limit:g}'} at {x:g}"
            for x, y in dict.fromkeys((*known[:1], *known[-1:]))
        ]
        told.append(f"{curve.name}: {' to '.join(ends) or 'nowhere'}")
    return "; ".join(told)


def _told(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _interval(estimate: Mapping[str, Any], name: str = "value") -> str:
    if estimate[name] is None or estimate["low"] is None:
        return "not known"
    return f"{estimate[name]:.2g} [{estimate['low']:.2g}, {estimate['high']:.2g}]"


_CHARTS: Mapping[str, Callable[[Sequence[Judged]], Sequence[Block]]] = {
    "C1": _shares,
    "C2": _steps,
    "C3": _landscapes,
    "C4": _ascents,
    "C5": _trainings,
    "C6": _bars,
    "C7": _bars,
}
