"""Charts as Plotly figures: what `page` embeds.

The page's script gives each its legend's rows and breaks titles that are too long for
its width, which is known to the browser alone.
"""

import html
import math
from collections.abc import Iterable, Sequence
from typing import Any

from plotly import graph_objects

from summiteer.report.charts import (
    Axis,
    Bars,
    Chart,
    Lines,
    Mark,
    Series,
    Surface,
    Track,
    Values,
)
from summiteer.report.palette import colour

_SOFT = "rgba(128,128,128,0.25)"
_HEIGHT = 320
_TALL = 440
#: What is not plot above and below it: a little air, ticks and title.
_TOP, _BOTTOM = 12, 48
#: A logarithmic axis over less than this has ticks within its powers of ten; over less
#: than that at every digit.
_DECADES, _DIGITS = 300.0, 4.0
#: Powers of ten that have a tick, at most.
_TICKS = 7
_FEW = 20
#: Powers of ten that are written as numbers.
_PLAIN = range(-3, 4)


def figure(chart: Chart) -> graph_objects.Figure:
    """The Plotly figure of a chart.

    Args:
        chart: what it shows.

    Returns:
        Transparent, so that the page's own light or dark shines through; the page sets
        the colour of its letters.
    """
    if isinstance(chart, Lines):
        return _lines(chart)
    if isinstance(chart, Bars):
        return _bars(chart)
    return _space(chart) if chart.space else _map(chart)


def _empty(title: str, names: int, height: int = _HEIGHT) -> graph_objects.Figure:
    made = graph_objects.Figure()
    made.update_layout(
        template="none",
        meta={"title": title},
        height=height,
        margin={"l": 60, "r": 16, "t": _TOP, "b": _BOTTOM},
        legend={
            "orientation": "h",
            "traceorder": "normal",
            "maxheight": 1,
            "xref": "container",
            "yref": "container",
            "x": 0,
            "y": 1,
            "yanchor": "top",
        },
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=names > 0,
    )
    return made


def _text(text: str) -> str:
    """Text in which < is no element; Plotly knows no entity for quotation marks."""
    return html.escape(text, quote=False)


def _axis(axis: Axis, values: Iterable[Values] = ()) -> dict[str, Any]:
    look: dict[str, Any] = {
        "title": {"text": _text(axis.title), "standoff": 8, "font": {"size": 13}},
        "type": "log" if axis.log else "linear",
        "gridcolor": _SOFT,
        "zeroline": False,
        "automargin": True,
    }
    ticks = axis.ticks
    if axis.log and not ticks:
        ends = axis.span or [v for part in values for v in part if v is not None]
        ticks = _logarithmic([end for end in ends if end > 0])
    if ticks:
        look["tickvals"] = list(ticks)
    if axis.log or axis.labels:
        look["ticktext"] = [_text(each) for each in axis.labels]
        look["ticktext"] = look["ticktext"] or [_power(each) for each in ticks]
    if axis.span:
        # Of a logarithmic axis Plotly wants exponents.
        look["range"] = [math.log10(x) if axis.log else x for x in axis.span]
    return look


def _logarithmic(values: Sequence[float]) -> tuple[float, ...]:
    """Ticks at powers of ten, or at 1, 2, 5 … where these are too few."""
    if not values:
        return ()
    low, high = min(values), max(values)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    if high / low > _DECADES:
        step = math.ceil((last - first + 1) / _TICKS)
        return tuple(10.0**power for power in range(first, last + 1, step))
    digits = range(1, 10) if high / low < _DIGITS else (1, 2, 5)
    ticks = (float(f"{n}e{power}") for power in range(first, last + 1) for n in digits)
    return tuple(tick for tick in ticks if low / 2 <= tick <= high * 2)


def _power(value: float) -> str:
    """A tick of a logarithmic axis."""
    power = math.log10(value) if value > 0 else 0.0
    if not power.is_integer() or int(power) in _PLAIN:
        return f"{value:g}"
    return f"10<sup>{str(int(power)).replace('-', '−')}</sup>"


def _lines(chart: Lines) -> graph_objects.Figure:
    named = sum(1 for each in chart.series if each.name)
    made = _empty(chart.title, named if named > 1 else 0)
    for place, each in enumerate(chart.series):
        tint = colour(each.colour, place)
        if each.low:
            made.add_trace(_band(each, tint))
        made.add_trace(
            graph_objects.Scatter(
                x=each.x,
                y=each.y,
                name=_text(each.name),
                mode=_mode(each),
                line={
                    "color": tint,
                    "dash": each.dash,
                    "shape": "hv" if each.look == "stair" else "linear",
                },
                marker={"color": tint, "symbol": each.symbol},
                text=[_text(text) for text in each.texts] or None,
                showlegend=bool(each.name),
            )
        )
    for mark in chart.marks:
        _draw_mark(made, chart, mark)
    # Marks are seen where they are beyond the curves, too.
    x, y = ([mark.at for mark in chart.marks if mark.along == name] for name in "xy")
    ends = [values for s in chart.series for values in (s.y, s.low, s.high)]
    across = _axis(chart.x, [*(s.x for s in chart.series), tuple(x)])
    made.update_layout(xaxis=across, yaxis=_axis(chart.y, [*ends, tuple(y)]))
    return made


def _mode(each: Series) -> str:
    # A stair of few steps shows where they are.
    if each.look == "both" or (each.look == "stair" and len(each.x) <= _FEW):
        return "lines+markers"
    return "markers" if each.look == "points" else "lines"


def _draw_mark(made: graph_objects.Figure, chart: Lines, mark: Mark) -> None:
    """A line across, and its words at its lower or right end."""
    vertical = mark.along == "x"
    axis = chart.x if vertical else chart.y
    # Shapes on a logarithmic axis are placed by values, annotations by exponents.
    at = math.log10(mark.at) if axis.log else mark.at
    look = {"color": colour(mark.colour), "dash": "dot", "width": 1.5}
    across = {"x0": mark.at, "x1": mark.at, "yref": "paper", "y0": 0, "y1": 1}
    told = {"x": at, "yref": "paper", "y": 0, "xanchor": "left", "yanchor": "bottom"}
    if not vertical:
        across = {"y0": mark.at, "y1": mark.at, "xref": "paper", "x0": 0, "x1": 1}
        told = {"y": at, "xref": "paper", "x": 1, "xanchor": "right"}
        told["yanchor"] = "bottom"
    made.add_shape(type="line", line=look, **across)
    made.add_annotation(text=_text(mark.words), showarrow=False, **told)


def _band(each: Series, tint: str) -> graph_objects.Scatter:
    """The area between both ends, walked round once."""
    known = [
        (x, low, high)
        for x, low, high in zip(each.x, each.low, each.high, strict=True)
        if low is not None and high is not None
    ]
    there = [x for x, _, _ in known]
    return graph_objects.Scatter(
        x=[*there, *reversed(there)],
        y=[*(low for _, low, _ in known), *(high for *_, high in reversed(known))],
        mode="lines",
        fill="toself",
        fillcolor=tint,
        opacity=0.2,
        line={"width": 0},
        hoverinfo="skip",
        showlegend=False,
    )


def _bars(chart: Bars) -> graph_objects.Figure:
    height = _TOP + _BOTTOM + 12 + 40 * len(chart.bars)
    made = _empty(chart.title, len(chart.parts), height)
    for place, part in enumerate(chart.parts):
        tint = colour(part.colour, place)
        pattern = {"shape": "/", "fillmode": "replace", "fgcolor": tint}
        made.add_trace(
            graph_objects.Bar(
                x=part.values,
                y=[_text(name) for name in chart.bars],
                name=_text(part.name),
                orientation="h",
                marker={"color": tint, "pattern": pattern if part.pattern else None},
            )
        )
    made.update_layout(
        barmode="stack",
        xaxis=_axis(chart.x),
        yaxis={"autorange": "reversed", "automargin": True, "ticksuffix": " "},
    )
    return made


def _map(chart: Surface) -> graph_objects.Figure:
    made = _empty(chart.title, len(chart.tracks), _TALL)
    low, high = chart.z.span or (None, None)
    made.add_trace(
        graph_objects.Contour(
            x=chart.columns,
            y=chart.rows,
            z=chart.heights,
            zmin=low,
            zmax=high,
            colorscale="Cividis",
            colorbar={
                "title": {"text": _text(chart.z.title), "side": "right"},
                "thickness": 14,
            },
            contours={"coloring": "heatmap"},
            line={"width": 0.5, "color": "rgba(255,255,255,0.5)"},
            ncontours=24,
            showlegend=False,
        )
    )
    for place, track in enumerate(chart.tracks):
        made.add_trace(
            graph_objects.Scatter(x=track.x, y=track.y, **_look(track, place))
        )
    # Both axes are lengths: what is round looks round.
    equal = {"scaleanchor": "x", "constrain": "domain"}
    x = _axis(chart.x) | {"constrain": "domain"}
    made.update_layout(xaxis=x, yaxis=_axis(chart.y) | equal)
    return made


def _space(chart: Surface) -> graph_objects.Figure:
    made = _empty(chart.title, len(chart.tracks), _TALL)
    made.add_trace(
        graph_objects.Surface(
            x=chart.columns,
            y=chart.rows,
            z=chart.heights,
            colorscale="Cividis",
            opacity=0.9,
            showscale=False,
            showlegend=False,
        )
    )
    for place, track in enumerate(chart.tracks):
        look = _look(track, place)
        look["marker"] |= {"size": 6}
        made.add_trace(graph_objects.Scatter3d(x=track.x, y=track.y, z=track.z, **look))
    axes = zip(("xaxis", "yaxis", "zaxis"), (chart.x, chart.y, chart.z), strict=True)
    scene: dict[str, Any] = {
        name: {
            "title": {"text": axis.title, "font": {"size": 12}},
            "gridcolor": _SOFT,
            "backgroundcolor": "rgba(0,0,0,0)",
            "nticks": 5,
        }
        for name, axis in axes
    }
    scene |= {
        "aspectmode": "manual",
        "aspectratio": {"x": 1, "y": 1, "z": 0.6},
        "camera": {
            "eye": {"x": 1.05, "y": -1.25, "z": 0.8},
            "center": {"x": 0, "y": 0, "z": -0.2},
        },
    }
    made.update_layout(scene=scene, margin={"l": 0, "r": 0, "t": _TOP, "b": 0})
    return made


def _look(track: Track, place: int) -> dict[str, Any]:
    tint = colour(track.colour, place)
    # An open symbol is its edge.
    edge = {"color": tint if "open" in track.symbol else "white", "width": 1}
    return {
        "name": _text(track.name),
        "mode": "lines" if track.look == "line" else "markers",
        "line": {"color": tint, "width": 3},
        "marker": {"color": tint, "symbol": track.symbol, "size": 10, "line": edge},
        "text": [_text(text) for text in track.texts] or None,
        "showlegend": bool(track.name),
    }
