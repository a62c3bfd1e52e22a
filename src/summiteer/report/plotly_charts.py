"""Charts as Plotly figures: what `page` embeds."""

import html
import math
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
)
from summiteer.report.palette import colour

_SOFT = "rgba(128,128,128,0.25)"
_HEIGHT = 340
_TALL = 480
_TALLEST = 560
#: A legend of more names than this goes below the chart, where there is room for it.
_FEW = 4


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
    legend = {"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0}
    if names > _FEW:
        legend = {"orientation": "h", "y": -0.25, "yanchor": "top", "x": 0}
    made.update_layout(
        template="none",
        meta={"title": title},
        height=height,
        margin={"l": 60, "r": 16, "t": 36, "b": 52},
        legend=legend,
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        showlegend=names > 0,
        legend_traceorder="normal",
    )
    return made


def _axis(axis: Axis) -> dict[str, Any]:
    look: dict[str, Any] = {
        "title": {"text": axis.title, "standoff": 8},
        "type": "log" if axis.log else "linear",
        "gridcolor": _SOFT,
        "zeroline": False,
        "automargin": True,
    }
    if axis.log:
        look |= {"exponentformat": "power"}
        if not axis.span or axis.span[1] >= 100 * axis.span[0]:
            look["dtick"] = 1
    if axis.ticks:
        look["tickvals"] = list(axis.ticks)
    if axis.labels:
        look["ticktext"] = list(axis.labels)
    if axis.span:
        # Of a logarithmic axis Plotly wants exponents.
        look["range"] = [math.log10(x) if axis.log else x for x in axis.span]
    return look


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
                name=each.name,
                mode={"line": "lines", "points": "markers"}.get(
                    each.look, "lines+markers"
                ),
                line={"color": tint, "dash": each.dash},
                marker={"color": tint, "symbol": each.symbol},
                text=each.texts or None,
                showlegend=bool(each.name),
            )
        )
    for mark in chart.marks:
        _draw_mark(made, chart, mark)
    made.update_layout(xaxis=_axis(chart.x), yaxis=_axis(chart.y))
    return made


def _draw_mark(made: graph_objects.Figure, chart: Lines, mark: Mark) -> None:
    """A line across, and its words at its upper or right end."""
    vertical = mark.along == "x"
    axis = chart.x if vertical else chart.y
    # Shapes on a logarithmic axis are placed by values, annotations by exponents.
    at = math.log10(mark.at) if axis.log else mark.at
    look = {"color": colour(mark.colour), "dash": "dot", "width": 1.5}
    across = {"x0": mark.at, "x1": mark.at, "yref": "paper", "y0": 0, "y1": 1}
    told = {"x": at, "yref": "paper", "y": 1, "xanchor": "left", "yanchor": "top"}
    if not vertical:
        across = {"y0": mark.at, "y1": mark.at, "xref": "paper", "x0": 0, "x1": 1}
        told = {"y": at, "xref": "paper", "x": 1, "xanchor": "right"}
        told["yanchor"] = "bottom"
    made.add_shape(type="line", line=look, **across)
    made.add_annotation(text=html.escape(mark.words), showarrow=False, **told)


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
    # A row of the legend and the axis take as much room as two bars.
    made = _empty(chart.title, len(chart.parts), 110 + 44 * len(chart.bars))
    for place, part in enumerate(chart.parts):
        tint = colour(part.colour, place)
        pattern = {"shape": "/", "fillmode": "replace", "fgcolor": tint}
        made.add_trace(
            graph_objects.Bar(
                x=part.values,
                y=chart.bars,
                name=part.name,
                orientation="h",
                marker={"color": tint, "pattern": pattern if part.pattern else None},
            )
        )
    made.update_layout(
        barmode="stack",
        xaxis=_axis(chart.x),
        yaxis={"autorange": "reversed", "automargin": True},
    )
    return made


def _map(chart: Surface) -> graph_objects.Figure:
    height = _TALL if chart.wide else _HEIGHT
    made = _empty(chart.title, len(chart.tracks), height)
    made.add_trace(
        graph_objects.Contour(
            x=chart.columns,
            y=chart.rows,
            z=chart.heights,
            colorscale="Cividis",
            colorbar={"title": {"text": chart.z.title}},
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
    made.update_layout(xaxis=_axis(chart.x), yaxis=_axis(chart.y))
    return made


def _space(chart: Surface) -> graph_objects.Figure:
    made = _empty(chart.title, len(chart.tracks), _TALLEST if chart.wide else _TALL)
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
            "eye": {"x": 1.15, "y": -1.35, "z": 0.85},
            "center": {"x": 0, "y": 0, "z": -0.15},
        },
    }
    made.update_layout(scene=scene, margin={"l": 0, "r": 0, "t": 36, "b": 0})
    return made


def _look(track: Track, place: int) -> dict[str, Any]:
    tint = colour(track.colour, place)
    # An open symbol is its edge.
    edge = {"color": tint if "open" in track.symbol else "white", "width": 1}
    return {
        "name": track.name,
        "mode": "lines" if track.look == "line" else "markers",
        "line": {"color": tint, "width": 3},
        "marker": {"color": tint, "symbol": track.symbol, "size": 10, "line": edge},
        "text": track.texts or None,
        "showlegend": bool(track.name),
    }
