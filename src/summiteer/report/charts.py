"""What charts show: plain frozen values that Plotly and Matplotlib draw alike."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

#: Numbers along an axis; None is a gap.
Values: TypeAlias = tuple[float | None, ...]
#: Of points; open ones are told from filled ones without colour.
Symbol: TypeAlias = Literal[
    "circle",
    "square",
    "diamond",
    "cross",
    "x",
    "circle-open",
    "square-open",
    "diamond-open",
]


@dataclass(frozen=True)
class Axis:
    """An axis.

    Attributes:
        title: with its unit.
        log: logarithmic.
        ticks: where ticks are; chosen if empty.
        span: what is shown, all if None.
        labels: words in place of the numbers at `ticks`, or empty.
    """

    title: str
    log: bool = False
    ticks: tuple[float, ...] = ()
    span: tuple[float, float] | None = None
    labels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Series:
    """One curve.

    Attributes:
        name: in the legend; "" for none.
        x: positions.
        y: values.
        low: lower ends of a band around it, or empty.
        high: upper ends.
        look: a line, single points, both, or a stair that keeps each value until the
            next position.
        dash: how the line is drawn.
        colour: a name of `palette.COLOURS`; by order if "".
        texts: shown at each point on demand.
        symbol: of its points.
    """

    name: str
    x: Values
    y: Values
    low: Values = ()
    high: Values = ()
    look: Literal["line", "points", "both", "stair"] = "line"
    dash: Literal["solid", "dash", "dot"] = "solid"
    colour: str = ""
    texts: tuple[str, ...] = ()
    symbol: Symbol = "circle"


@dataclass(frozen=True)
class Mark:
    """A straight line across a chart that means something.

    Attributes:
        at: where.
        words: what it means.
        along: "x" for a vertical line at x = at, "y" for a horizontal one.
        colour: a name of `palette.COLOURS`.
    """

    at: float
    words: str
    along: Literal["x", "y"] = "x"
    colour: str = "quiet"


@dataclass(frozen=True)
class Lines:
    """Curves over one axis.

    Attributes:
        title: of the chart.
        x: horizontal axis.
        y: vertical axis.
        series: the curves.
        marks: lines across.
        wide: whether it takes the whole width of a page.
    """

    title: str
    x: Axis
    y: Axis
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    wide: bool = False


@dataclass(frozen=True)
class Part:
    """A part of every bar.

    Attributes:
        name: in the legend.
        values: one per bar.
        colour: a name of `palette.COLOURS`.
        pattern: hatched, so that it is told from its neighbour without colour.
    """

    name: str
    values: tuple[float, ...]
    colour: str = ""
    pattern: bool = False


@dataclass(frozen=True)
class Bars:
    """Horizontal bars stacked of parts, each bar from 0.

    Attributes:
        title: of the chart.
        x: horizontal axis.
        bars: their names, from above.
        parts: what they are stacked of.
    """

    title: str
    x: Axis
    bars: tuple[str, ...]
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Track:
    """A path over a surface, or points on it.

    Attributes:
        name: in the legend.
        x: positions.
        y: positions.
        z: heights; empty where they are not known, or mean nothing.
        look: a line with a point at its end, or single points.
        colour: a name of `palette.COLOURS`.
        symbol: of its points.
        texts: of its points.
    """

    name: str
    x: Values
    y: Values
    z: Values = ()
    look: Literal["line", "points"] = "line"
    colour: str = ""
    symbol: Symbol = "circle"
    texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class Surface:
    """Heights over a plane, seen as a contour map, or in space.

    Attributes:
        title: of the chart.
        x: horizontal axis.
        y: the other axis.
        z: axis of heights; its span is what the colours of a map tell apart.
        columns: positions along x.
        rows: positions along y.
        heights: `[rows][columns]`; None outside.
        tracks: paths and points on it.
        space: seen in space instead of as a map.
        wide: whether it takes the whole width of a page.
    """

    title: str
    x: Axis
    y: Axis
    z: Axis
    columns: tuple[float, ...]
    rows: tuple[float, ...]
    heights: tuple[Values, ...]
    tracks: tuple[Track, ...] = ()
    space: bool = False
    wide: bool = True


Chart: TypeAlias = Lines | Bars | Surface
