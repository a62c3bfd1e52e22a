"""Slices of a landscape as charts: in space, as a map, along a line or a circle."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeAlias

from summiteer.optimality import Verdict
from summiteer.report.charts import Axis, Lines, Series, Surface, Track
from summiteer.report.cut import Cut, Seen, kept
from summiteer.report.document import Plot
from summiteer.report.wording import verdict_words

#: Points that are drawn of a way.
_STEPS = 80
#: A point is marked on a curve if it is not farther from it, in radii.
ON_IT = 1e-3
_SYMBOLS: Mapping[str, Any] = {
    "GLOBAL_MAXIMUM": "diamond",
    "STRICT_LOCAL_MAXIMUM": "circle",
    "LOCAL_MAXIMUM": "square",
}
_COLOURS = {"PROVED": "green", "NUMERICAL": "orange"}
_DASHES: tuple[Literal["solid", "dash", "dot"], ...] = ("solid", "dash", "dot")

#: A landscape's maxima, as its record has them, numbered from the highest.
Maxima: TypeAlias = Sequence[Mapping[str, Any]]


def plane_chart(cut: Cut, title: str, maxima: Maxima, space: bool) -> Surface:
    """A plane with its maxima and the runs that climb it.

    Args:
        cut: a plane.
        title: of the chart.
        maxima: of the landscape.
        space: whether it is seen in space, or from above.
    """
    tracks = []
    if cut.border:
        x, y = zip(*cut.border, strict=True)
        heights = tuple(cut.height(*spot) for spot in cut.border) if space else ()
        tracks.append(Track("border of the region", x, y, heights, colour="quiet"))
    for number, way in enumerate(cut.ways):
        name = "" if number else "ways of runs"
        spots = [
            (way, n, f"{way.name}, step {n}") for n in kept(len(way.places), _STEPS)
        ]
        tracks.append(_track(name, spots, colour="pink"))
    groups, others = _grouped(cut, maxima)
    for (verdict, evidence), points in groups.items():
        name = verdict_words(verdict, evidence)
        look = {"symbol": _symbol(verdict, evidence), "colour": _COLOURS[evidence]}
        tracks.append(_track(name, _ends(points), look="points", **look))
    for point in others:
        look = {"symbol": _sign(point), "colour": "quiet"}
        tracks.append(_track(point.name, _ends([point]), look="points", **look))
    # In space there is no room for more.
    names = ("first axis", "second axis") if space else cut.axes
    first, second = (Axis(f"{name}, units of inputs") for name in names)
    columns, rows = cut.ticks
    # Outside the objective may be far higher: there colours need not tell it apart.
    above = Axis("objective", span=None if space else _allowed(cut))
    return Surface(
        title, first, second, above, columns, rows, cut.values, tuple(tracks), space
    )


def _allowed(cut: Cut) -> tuple[float, float] | None:
    """Where the objective lies at the allowed ticks and at the marked points."""
    span = cut.span()
    if span is None:
        return None
    ends = [*span, *(mark.losses[0] for mark in cut.marks)]
    return min(ends), max(ends)


def curve_chart(cut: Cut, title: str, maxima: Maxima, radius: float | None) -> Lines:
    """The objective along a line or round a circle; dotted where it is not allowed.

    Args:
        cut: a line or a circle.
        title: of the chart.
        maxima: of the landscape; those that lie on it are marked.
        radius: of the region, for what lies on it.
    """
    (row,), (inside,), (ticks,) = cut.values, cut.inside, cut.ticks
    allowed = tuple(v if good else None for v, good in zip(row, inside, strict=True))
    series = [Series("allowed", ticks, allowed, colour="blue")]
    if not all(inside):
        # The tick before and the tick behind too, so that the two lines meet.
        near = [all(inside[max(0, n - 1) : n + 2]) for n in range(len(row))]
        outside = tuple(None if good else v for v, good in zip(row, near, strict=True))
        series.append(Series("outside", ticks, outside, dash="dot", colour="quiet"))
    groups, others = _grouped(cut, maxima, ON_IT * (radius or 1.0))
    for (verdict, evidence), points in groups.items():
        name = verdict_words(verdict, evidence)
        look = {"symbol": _symbol(verdict, evidence), "colour": _COLOURS[evidence]}
        series.append(_points(name, points, **look))
    for point in others:
        series.append(_points(point.name, [point], symbol=_sign(point), colour="quiet"))
    unit = "" if cut.kind == "circle" else ", units of inputs"
    across = Axis(cut.axes[0] + unit)
    return Lines(title, across, Axis("objective"), tuple(series), wide=True)


def scale_plots(found: Mapping[float, Mapping[str, Cut]]) -> tuple[Plot, ...]:
    """Landscapes of one input at several input scales, beside each other.

    Args:
        found: input scale c -> kind of slice -> slice; circles go into one chart, each
            from its lowest to its highest value, planes are maps of their own.

    Returns:
        Charts from the smallest scale to the largest; none where there are no slices.
    """
    plots: list[Plot] = []
    series: list[Series] = []
    told = []
    for scale, cuts in sorted(found.items()):
        if "circle" in cuts:
            (row,) = cuts["circle"].values
            low, room = min(row), (max(row) - min(row)) or 1.0
            tops = cuts["circle"].tops()
            # Without a top all of it is rounding, of which no shape is made.
            heights = tuple((v - low) / room if tops else 0.5 for v in row)
            dash = _DASHES[len(series) % len(_DASHES)]
            (ticks,) = cuts["circle"].ticks
            series.append(Series(f"c = {scale:g}", ticks, heights, dash=dash))
            told.append(f"{tops_words(tops)} at c = {scale:g}")
        if "plane" in cuts:
            above = plane_chart(cuts["plane"], f"c = {scale:g}", (), False)
            plots.append(Plot(replace(above, wide=False), range_words(cuts["plane"])))
    if not series:
        return tuple(plots)
    chart = Lines(
        "Round a great circle, at several input scales",
        Axis("angle from the highest maximum, radians"),
        Axis("objective, from its lowest to its highest"),
        tuple(series),
        wide=True,
    )
    return (Plot(chart, f"Round the circle: {', '.join(told)}."), *plots)


def tops_words(count: int) -> str:
    """How many tops a curve has.

    Args:
        count: of them.
    """
    if not count:
        return "no top (level up to rounding)"
    return "one top" if count == 1 else f"{count} tops"


def range_words(cut: Cut) -> str:
    """Where the objective lies at those points of a slice that are allowed.

    Args:
        cut: any.
    """
    span = cut.span()
    if span is None:
        return "No point of its grid is allowed."
    allowed = [good for row in cut.inside for good in row]
    return (
        f"{sum(allowed)} of the {len(allowed)} points drawn are allowed; at these the "
        f"objective lies between {span[0]:.4g} and {span[1]:.4g}."
    )


def _symbol(verdict: str, evidence: str) -> Any:
    """Its shape says the verdict; filled is proved, open is numerical."""
    return _SYMBOLS.get(verdict, "x") + ("" if evidence == "PROVED" else "-open")


def _sign(point: Seen) -> Any:
    """Of a point without a verdict: maxima, the centre, and directions differ."""
    kind = point.name.partition(" ")[0]
    return {"maximum": "diamond-open", "centre": "cross"}.get(kind, "x")


#: Points of `Seen`, their places in it, and what is shown at them.
_Spots: TypeAlias = Sequence[tuple[Seen, int, str]]


def _ends(points: Sequence[Seen]) -> _Spots:
    return [(point, 0, point.name) for point in points]


def _track(name: str, spots: _Spots, **look: Any) -> Track:
    x, y = zip(*(seen.places[n] for seen, n, _ in spots), strict=True)
    losses = tuple(seen.losses[n] for seen, n, _ in spots)
    return Track(name, x, y, losses, texts=tuple(text for *_, text in spots), **look)


def _points(name: str, points: Sequence[Seen], **look: Any) -> Series:
    return Series(
        name,
        tuple(point.places[0][0] for point in points),
        tuple(point.losses[0] for point in points),
        look="points",
        texts=tuple(point.name for point in points),
        **look,
    )


def _grouped(
    cut: Cut, maxima: Maxima, near: float = math.inf
) -> tuple[dict[tuple[str, str], list[Seen]], list[Seen]]:
    """Maxima that are marked, by (verdict, evidence) in their order; other points."""
    found: dict[tuple[str, str], list[Seen]] = {}
    others = []
    for mark in cut.marks:
        kind, _, number = mark.name.partition(" ")
        if mark.away[0] > near:
            continue
        if kind == "maximum" and maxima:
            peak = maxima[int(number)]
            found.setdefault((peak["verdict"], peak["evidence"]), []).append(mark)
        else:
            others.append(mark)
    order = [verdict.name for verdict in Verdict]
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1] != "PROVED"))
    return {key: found[key] for key in keys}, others
