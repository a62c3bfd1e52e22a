"""Charts as Matplotlib figures for papers: one column wide, the same bytes again."""

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from textwrap import fill
from typing import Any

import matplotlib as mpl
import matplotlib.patheffects
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.style import context

from summiteer.report.charts import (
    Axis,
    Bars,
    Chart,
    Lines,
    Mark,
    Series,
    Surface,
    Symbol,
    Track,
    Values,
)
from summiteer.report.palette import colour

#: Inches: a column of a paper in two columns.
_WIDTH = 3.3
_HEIGHT, _TALL = 2.3, 2.8
_BAR = 0.3
#: Of letters.
_LINE = 0.11
#: Matplotlib's own font, which comes with it, becomes part of each file: as TrueType in
#: PDF, as outlines in SVG. What the reader has set for other figures changes nothing.
_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.labelsize": 7,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": "#dddddd",
    "grid.linewidth": 0.4,
    "axes.axisbelow": True,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 6.5,
    "legend.frameon": False,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "savefig.dpi": 300,
    "pdf.fonttype": 42,
    "svg.fonttype": "path",
    "svg.hashsalt": "summiteer",
}
_DASHES = {"solid": "-", "dash": "--", "dot": ":"}
#: Curves with points that have no symbol of their own are told apart without colour.
_MARKERS = ("o", "s", "D", "^", "v", "P", "X")
_SYMBOLS = {"circle": "o", "square": "s", "diamond": "D", "cross": "P", "x": "X"}
_OPEN = "-open"
#: Letters of a line: along each axis, in names of bars, along a mark.
_LABEL, _NAME, _NOTE = {"x": 52, "y": 34}, 22, 30
#: A curve of more points than this has a symbol at some of them.
_POINTS = 20
#: More names than this stand in two columns of the legend, long ones in one.
_FEW, _LONG = 3, 26
_LEVELS = 25
#: Powers of ten up to this are written as numbers.
_PLAIN = 3


def figure(chart: Chart) -> Figure:
    """The Matplotlib figure of a chart, one column wide.

    It has no title: in a paper that is the caption's.

    Args:
        chart: what it shows.
    """
    with context(["default", _STYLE], after_reset=True):
        if isinstance(chart, Lines):
            return _lines(chart)
        if isinstance(chart, Bars):
            return _bars(chart)
        return _space(chart) if chart.space else _map(chart)


def save(chart: Chart, words: str, place: Path) -> None:
    """Write the figure of a chart: the same chart gives the same bytes.

    Args:
        chart: what it shows.
        words: the same in words, kept in the file.
        place: ends in .pdf, .svg or .png.
    """
    made = figure(chart)
    kept: dict[str, Any] = {"Title": chart.title}
    # Without a word about when and by which version of Matplotlib.
    match place.suffix:
        case ".pdf":
            about = kept | {"Subject": words, "CreationDate": None, "Producer": None}
        case ".svg":
            about = kept | {"Description": words, "Date": None}
        case _:
            about = kept | {"Description": words, "Software": None}
    with context(["default", _STYLE], after_reset=True):
        made.savefig(place, metadata=about | {"Creator": "Summiteer"})


def _empty(height: float) -> tuple[Figure, Axes]:
    made = Figure(figsize=(_WIDTH, height), layout="constrained")
    return made, made.add_subplot()


def _lines(chart: Lines) -> Figure:
    named = [each.name for each in chart.series if each.name]
    shown = named if len(named) > 1 else []
    told = [fill(_plain(word), _NAME) for word in chart.y.labels]
    rows = 0.5 + _LINE * len(told) * _most_lines(told)
    made, axes = _empty(max(_HEIGHT, rows) + 0.12 * _legend_rows(shown))
    axes.grid()
    _scale(axes, chart, chart.series)
    for place, each in enumerate(chart.series):
        tint, x = colour(each.colour, place), _numbers(each.x)
        if each.low:
            ends = _numbers(each.low), _numbers(each.high)
            axes.fill_between(x, *ends, color=tint, alpha=0.2, linewidth=0)
        axes.plot(
            x,
            _numbers(each.y),
            label=_plain(each.name) if shown and each.name else "_",
            color=tint,
            linestyle="none" if each.look == "points" else _DASHES[each.dash],
            drawstyle="steps-post" if each.look == "stair" else "default",
            **_points(each, place),
        )
    for mark in chart.marks:
        _mark(axes, mark)
    _legend(made, shown)
    return made


def _points(each: Series, place: int) -> dict[str, Any]:
    """How the points of a curve are drawn."""
    if each.look in {"line", "stair"}:
        return {}
    look: dict[str, Any] = {"marker": _symbol(each.symbol)}
    if each.symbol == "circle":
        look["marker"] = _MARKERS[place % len(_MARKERS)]
    if each.symbol.endswith(_OPEN):
        look["markerfacecolor"] = "none"
    if each.look == "both":
        look["markevery"] = max(1, len(each.x) // _POINTS)
    return look


def _symbol(name: Symbol) -> str:
    return _SYMBOLS[name.removesuffix(_OPEN)]


def _scale(axes: Axes, chart: Lines, series: Sequence[Series]) -> None:
    """Titles, ticks, spans and logarithms of both axes."""
    values = {"x": [each.x for each in series]}
    values["y"] = [each.y for each in series]
    for name, axis in (("x", chart.x), ("y", chart.y)):
        known = [v for part in values[name] for v in part if v is not None]
        _label(axes, name, axis)
        # Nothing positive has no logarithm.
        if axis.log and any(v > 0 for v in known):
            axes.set(**{f"{name}scale": "log"})
        elif not axis.log and all(float(v).is_integer() for v in known):
            along = axes.xaxis if name == "x" else axes.yaxis
            along.set_major_locator(
                mpl.ticker.MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
            )
        if axis.ticks:
            _ticked(axes, name, axis)
        if axis.span:
            axes.set(**{f"{name}lim": axis.span})


def _label(axes: Axes, name: str, axis: Axis) -> None:
    axes.set(**{f"{name}label": fill(_plain(axis.title), _LABEL[name])})


def _ticked(axes: Axes, name: str, axis: Axis) -> None:
    """Ticks that are given, as words, or numbers rather than powers of ten."""
    along = axes.xaxis if name == "x" else axes.yaxis
    words = [fill(_plain(word), _NAME) for word in axis.labels]
    along.set_ticks(axis.ticks, words or [_number(axis, tick) for tick in axis.ticks])
    along.set_minor_locator(mpl.ticker.NullLocator())


def _number(axis: Axis, tick: float) -> str:
    """A tick; far powers of ten as such."""
    power = math.log10(tick) if axis.log and tick > 0 else 0.0
    far = power.is_integer() and abs(power) > _PLAIN
    return f"$10^{{{power:.0f}}}$" if far else f"{tick:g}"


def _most_lines(words: Sequence[str]) -> int:
    return max((word.count("\n") + 1 for word in words), default=0)


def _mark(axes: Axes, mark: Mark) -> None:
    look: dict[str, Any] = {"color": colour(mark.colour), "linestyle": ":"}
    halo = mpl.patheffects.withStroke(linewidth=1.5, foreground="white")
    note: dict[str, Any] = {"color": "#444444", "fontsize": 6, "path_effects": [halo]}
    words = fill(_plain(mark.words), _NOTE)
    if mark.along == "x":
        axes.axvline(mark.at, **look)
        note |= {"rotation": 90, "va": "bottom", "ha": "right"}
        axes.text(mark.at, 0.02, words, transform=axes.get_xaxis_transform(), **note)
    else:
        axes.axhline(mark.at, **look)
        note |= {"va": "bottom", "ha": "right"}
        axes.text(0.99, mark.at, words, transform=axes.get_yaxis_transform(), **note)


def _legend_rows(names: Sequence[str]) -> int:
    return math.ceil(len(names) / _legend_columns(names)) if names else 0


def _legend_columns(names: Sequence[str]) -> int:
    if max(map(len, names)) > _LONG:
        return 1
    return 2 if len(names) > _FEW else len(names)


def _legend(made: Figure, names: Sequence[str]) -> None:
    """Above the axes: it hides nothing there."""
    if names:
        made.legend(
            loc="outside upper left",
            ncols=_legend_columns(names),
            columnspacing=1.2,
            handlelength=1.8,
            borderaxespad=0.1,
        )


def _bars(chart: Bars) -> Figure:
    names = [part.name for part in chart.parts]
    told = [fill(_plain(name), _NAME) for name in chart.bars]
    room = max(_BAR, _LINE * (1 + _most_lines(told)))
    height = 0.6 + room * len(chart.bars) + 0.14 * _legend_rows(names)
    made, axes = _empty(height)
    axes.grid(axis="x")
    ends = np.zeros(len(chart.bars))
    places = range(len(chart.bars))
    for place, part in enumerate(chart.parts):
        tint, widths = colour(part.colour, place), np.asarray(part.values)
        # A hatched part is light with lines of its colour, as on the page.
        look: dict[str, Any] = {"facecolor": tint, "edgecolor": tint, "linewidth": 0.5}
        if part.pattern:
            look |= {"facecolor": "white", "hatch": "//////"}
        axes.barh(places, widths, left=ends, label=_plain(part.name), **look)
        ends = ends + widths
    axes.set_yticks(places, told)
    if all(value.is_integer() for part in chart.parts for value in part.values):
        axes.xaxis.set_major_locator(
            mpl.ticker.MaxNLocator(6, integer=True, steps=[1, 2, 5, 10])
        )
    axes.invert_yaxis()
    _label(axes, "x", chart.x)
    if chart.x.ticks:
        _ticked(axes, "x", chart.x)
    if chart.x.span:
        axes.set_xlim(chart.x.span)
    _legend(made, names)
    return made


def _map(chart: Surface) -> Figure:
    names = [track.name for track in chart.tracks if track.name]
    made, axes = _empty(_TALL + 0.12 * _legend_rows(names))
    heights = np.ma.masked_invalid(_grid(chart))
    if heights.count():
        low, high = chart.z.span or (float(heights.min()), float(heights.max()))
        # A plain is drawn in one colour.
        ends = (low, high) if low < high else (low - 0.5, high + 0.5)
        levels = np.linspace(*ends, _LEVELS)
        at: tuple[Any, ...] = (chart.columns, chart.rows, heights)
        # Edges of their own colour close the hairlines that viewers draw between areas.
        filled = axes.contourf(*at, levels, cmap="cividis", extend="both")
        filled.set_edgecolor("face")
        if low < high:
            axes.contour(*at, levels[::2], colors="white", linewidths=0.3, alpha=0.6)
        bar = made.colorbar(filled, label=fill(_plain(chart.z.title), _NOTE))
        bar.outline.set_visible(False)
        bar.locator = mpl.ticker.MaxNLocator(5)
        bar.update_ticks()
    for place, track in enumerate(chart.tracks):
        axes.plot(_numbers(track.x), _numbers(track.y), **_look(track, place))
    # Both axes are lengths: what is round looks round.
    axes.set_aspect("equal")
    _label(axes, "x", chart.x)
    _label(axes, "y", chart.y)
    _legend(made, names)
    return made


def _space(chart: Surface) -> Figure:
    names = [track.name for track in chart.tracks if track.name]
    made = Figure(figsize=(_WIDTH, _TALL + 0.12 * _legend_rows(names)))
    axes: Any = made.add_axes((0.0, 0.06, 0.88, 0.84), projection="3d")
    across, along = np.meshgrid(chart.columns, chart.rows)
    with warnings.catch_warnings():
        # Gaps are left open, which is what is meant.
        warnings.filterwarnings("ignore", "Z contains NaN")
        axes.plot_surface(
            across,
            along,
            _grid(chart),
            cmap="cividis",
            alpha=0.85,
            linewidth=0,
            rcount=60,
            ccount=60,
            rasterized=True,
        )
    for place, track in enumerate(chart.tracks):
        if track.z:
            there = (_numbers(track.x), _numbers(track.y), _numbers(track.z))
            axes.plot(*there, zorder=10, **_look(track, place))
    for name, axis in (("x", chart.x), ("y", chart.y), ("z", chart.z)):
        title = fill(_plain(axis.title), _NOTE)
        axes.set(**{f"{name}label": title})
        axes.tick_params(axis=name, pad=-2, labelsize=5.5)
        axes.locator_params(axis=name, nbins=4)
        getattr(axes, f"{name}axis").labelpad = -6
    _legend(made, names)
    return made


def _look(track: Track, place: int) -> dict[str, Any]:
    """How a path or points of it are drawn."""
    look: dict[str, Any] = {
        "color": colour(track.colour, place),
        "label": _plain(track.name) or "_",
    }
    symbol = _symbol(track.symbol)
    edge: dict[str, Any] = {
        "markeredgecolor": "white",
        "markeredgewidth": 0.4,
        "markersize": 5,
    }
    if track.symbol.endswith(_OPEN):
        edge |= {"markerfacecolor": "white", "markeredgecolor": look["color"]}
        edge |= {"markeredgewidth": 1.0}
    if track.look == "points":
        return look | edge | {"marker": symbol, "linestyle": "none"}
    return look


def _numbers(values: Values) -> np.ndarray:
    """An array with gaps as NaN."""
    return np.array([math.nan if v is None else v for v in values], dtype=float)


def _grid(chart: Surface) -> np.ndarray:
    return np.array([_numbers(row) for row in chart.heights])


def _plain(text: str) -> str:
    """Text in which a dollar is a dollar, not the beginning of a formula."""
    return text.replace("$", r"\$")
