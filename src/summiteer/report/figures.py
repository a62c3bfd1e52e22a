"""Plotly figures of plain summaries."""

from plotly.graph_objects import Figure, Scatter
from plotly.subplots import make_subplots

from summiteer.studies.scale import ScaleSummary

#: Okabe and Ito's colours: told apart by colour-blind readers, dark enough on white.
_COLOURS = {"softplus": "#0072B2", "tanh": "#B04A00", "quadratic": "#007A5A"}
_DASHES = {"softplus": "solid", "tanh": "solid", "quadratic": "dash"}
_PANELS = (
    ("index_global", "global index λ⁺(M)/μ"),
    ("distinct_per_sign", "maxima per image and sign of u"),
    ("steps", "steps to the residual"),
    ("kappa", "curvature ratio κ"),
)


def scale_figure(summary: ScaleSummary) -> Figure:
    """Indices, distinct maxima, steps and κ against the input scale c.

    Args:
        summary: of the study.
    """
    figure = make_subplots(
        rows=2, cols=2, subplot_titles=[title for _, title in _PANELS]
    )
    for panel, (name, _) in enumerate(_PANELS):
        for activation, colour in _COLOURS.items():
            rows = [row for row in summary.rows if row.activation == activation]
            label = "t²/2 (control)" if activation == "quadratic" else activation
            figure.add_trace(
                Scatter(
                    x=[row.scale for row in rows],
                    y=[getattr(row, name) for row in rows],
                    name=label,
                    legendgroup=activation,
                    showlegend=panel == 0,
                    mode="lines+markers",
                    line={"color": colour, "dash": _DASHES[activation]},
                ),
                row=panel // 2 + 1,
                col=panel % 2 + 1,
            )
    figure.update_xaxes(
        type="log", title_text="input scale c", tickvals=_ticks(summary)
    )
    figure.update_yaxes(type="log", exponentformat="power")
    figure.update_layout(
        template="plotly_white",
        height=680,
        margin={"l": 60, "r": 20, "t": 50, "b": 50},
        legend={"orientation": "h", "y": 1.12},
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
