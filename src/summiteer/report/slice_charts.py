"""Slices of a landscape as charts: in space, as a map, along a line or a circle."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from summiteer.optimality import Verdict
from summiteer.report.charts import Axis, Lines, Series, Surface, Track
from summiteer.report.cut import Cut, Seen, kept

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
        look = {"symbol": "cross", "colour": "quiet"}
        tracks.append(_track(point.name, _ends([point]), look="points", **look))
    first, second = (Axis(f"{name}, units of inputs") for name in cut.axes)
    columns, rows = cut.ticks
    above = Axis("objective")
    return Surface(
        title, first, second, above, columns, rows, cut.values, tuple(tracks), space
    )


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
        series.append(_points(name, points, _COLOURS[evidence]))
    series += [_points(point.name, [point], "quiet") for point in others]
    unit = "" if cut.kind == "circle" else ", units of inputs"
    across = Axis(cut.axes[0] + unit)
    return Lines(title, across, Axis("objective"), tuple(series), wide=True)


def scale_chart(cuts: Mapping[float, Cut], title: str) -> Lines:
    """Circles at several input scales, each from its lowest to its highest value.

    Args:
        cuts: input scale c -> a circle.
        title: of the chart.
    """
    series = []
    for scale, cut in sorted(cuts.items()):
        (row,) = cut.values
        low, high = min(row), max(row)
        room = (high - low) or 1.0
        heights = tuple((value - low) / room for value in row)
        series.append(Series(f"c = {scale:g}", cut.ticks[0], heights))
    across = Axis("angle on the circle, radians, from the highest maximum")
    return Lines(
        title, across, Axis("objective, 0 lowest, 1 highest"), tuple(series), wide=True
    )


def verdict_words(verdict: str, evidence: str) -> str:
    """A verdict as a legend calls it.

    Args:
        verdict: name of a `Verdict`.
        evidence: name of an `Evidence`.
    """
    return f"{verdict.replace('_', ' ').lower()}, {evidence.lower()}"


def _symbol(verdict: str, evidence: str) -> Any:
    """Its shape says the verdict; filled is proved, open is numerical."""
    return _SYMBOLS.get(verdict, "x") + ("" if evidence == "PROVED" else "-open")


#: Points of `Seen`, their places in it, and what is shown at them.
_Spots: TypeAlias = Sequence[tuple[Seen, int, str]]


def _ends(points: Sequence[Seen]) -> _Spots:
    return [(point, 0, point.name) for point in points]


def _track(name: str, spots: _Spots, **look: Any) -> Track:
    x, y = zip(*(seen.places[n] for seen, n, _ in spots), strict=True)
    losses = tuple(seen.losses[n] for seen, n, _ in spots)
    return Track(name, x, y, losses, texts=tuple(text for *_, text in spots), **look)


def _points(name: str, points: Sequence[Seen], colour: str) -> Series:
    return Series(
        name,
        tuple(point.places[0][0] for point in points),
        tuple(point.losses[0] for point in points),
        look="points",
        colour=colour,
        texts=tuple(point.name for point in points),
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
        if kind == "maximum":
            peak = maxima[int(number)]
            found.setdefault((peak["verdict"], peak["evidence"]), []).append(mark)
        else:
            others.append(mark)
    order = [verdict.name for verdict in Verdict]
    keys = sorted(found, key=lambda key: (order.index(key[0]), key[1] != "PROVED"))
    return {key: found[key] for key in keys}, others
