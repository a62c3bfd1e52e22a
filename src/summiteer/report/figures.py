"""Plotly figures of plain summaries."""

from plotly.graph_objects import Figure, Scatter

from summiteer.studies.scale import ScaleSummary

#: After Okabe and Ito: told apart by colour-blind readers, on white and on black.
_COLOURS = {"softplus": "#2A8FD0", "tanh": "#D06A1A", "quadratic": "#1E9E7A"}
_DASHES = {"softplus": "solid", "tanh": "solid", "quadratic": "dash"}
_PANELS = (
    ("index_global", "global index λ⁺(M)/μ"),
    ("distinct_per_sign", "maxima per image and sign of u"),
    ("steps", "steps to the residual"),
    ("kappa", "curvature ratio κ"),
)


def scale_figures(summary: ScaleSummary) -> list[Figure]:
    """Indices, distinct maxima, steps and κ against the input scale c, one each.

    Args:
        summary: of the study.
    """
    return [_panel(summary, name, title) for name, title in _PANELS]


def _panel(summary: ScaleSummary, name: str, title: str) -> Figure:
    figure = Figure()
    for activation, colour in _COLOURS.items():
        rows = [row for row in summary.rows if row.activation == activation]
        label = "quadratic (control)" if activation == "quadratic" else activation
        figure.add_trace(
            Scatter(
                x=[row.scale for row in rows],
                y=[getattr(row, name) for row in rows],
                name=label,
                mode="lines+markers",
                line={"color": colour, "dash": _DASHES[activation]},
            )
        )
    soft = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False, "type": "log"}
    figure.update_xaxes(title_text="input scale c", tickvals=_ticks(summary), **soft)
    figure.update_yaxes(exponentformat="power", dtick=1, **soft)
    figure.update_layout(
        template="none",
        title={"text": title, "x": 0.5},
        height=340,
        margin={"l": 50, "r": 10, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.14},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
    )
    return figure


def _ticks(summary: ScaleSummary) -> list[float]:
    return sorted({row.scale for row in summary.rows})


def describe_scale(summary: ScaleSummary) -> str:
    """The figure in words, for those who cannot see it.

    Args:
        summary: of the study.
    """
    parts = []
    for activation in _COLOURS:
        rows = [row for row in summary.rows if row.activation == activation]
        first, last = rows[0], rows[-1]
        parts.append(
            f"{activation}: from c = {first.scale:g} to {last.scale:g} the global "
            f"index goes from {_text(first.index_global)} to "
            f"{_text(last.index_global)}, maxima per image and sign of u from "
            f"{first.distinct_per_sign:.2f} to {last.distinct_per_sign:.2f}, steps "
            f"from {first.steps:.0f} to {last.steps:.0f}"
        )
    return "; ".join(parts) + "."


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
