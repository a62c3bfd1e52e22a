"""Plotly figures of plain summaries."""

from collections.abc import Mapping
from typing import Any

from plotly.graph_objects import Figure, Scatter

#: After Okabe and Ito: told apart by colour-blind readers, on white and on black.
_COLOURS = {"softplus": "#2A8FD0", "tanh": "#D06A1A", "quadratic": "#1E9E7A"}
_DASHES = {"softplus": "solid", "tanh": "solid", "quadratic": "dash"}
_PANELS = {
    "global": "global index λ⁺(M)/μ",
    "distinct": "maxima per image and sign of u",
    "steps": "steps to the residual",
    "kappa": "curvature ratio κ",
}

#: Name of a panel -> activation -> (scales, values).
Curves = dict[str, dict[str, tuple[list[float], list[float | None]]]]


def scale_curves(result: Mapping[str, Any]) -> Curves:
    """What the figure shows, from the numbers of C3 and C4.

    Args:
        result: content of result.json of `reproduce`.
    """
    curves: Curves = {name: {} for name in _PANELS}
    for claim in result["claims"]:
        for judgement in claim["judgements"]:
            numbers = judgement["numbers"]
            activation = judgement["regime"].replace(",", " ").split()[0]
            regime = judgement["regime"]
            beyond = "digits" not in regime or "beyond" in regime
            if beyond or "scales" not in numbers:
                continue
            usual = judgement["protocol"] == "backtracking" or claim["key"] == "C3"
            for name in _PANELS:
                if name in numbers and usual:
                    pair = numbers["scales"], numbers[name]
                    curves[name][activation] = pair
    return {name: found for name, found in curves.items() if found}


def scale_figures(curves: Curves) -> list[Figure]:
    """Each panel against the input scale c.

    Args:
        curves: of `scale_curves`.
    """
    return [
        _panel(found, _PANELS[name], "linear" if name == "distinct" else "log")
        for name, found in curves.items()
    ]


def _panel(
    found: dict[str, tuple[list[float], list[float | None]]], title: str, kind: str
) -> Figure:
    figure = Figure()
    for activation, (scales, values) in sorted(found.items()):
        label = "quadratic (control)" if activation == "quadratic" else activation
        figure.add_trace(
            Scatter(
                x=scales,
                y=values,
                name=label,
                mode="lines+markers",
                line={
                    "color": _COLOURS.get(activation),
                    "dash": _DASHES.get(activation, "dot"),
                },
            )
        )
    ticks = sorted({x for scales, _ in found.values() for x in scales})
    soft = {"gridcolor": "rgba(128,128,128,0.25)", "zeroline": False}
    figure.update_xaxes(title_text="input scale c", tickvals=ticks, type="log", **soft)
    figure.update_yaxes(exponentformat="power", dtick=1, type=kind, **soft)
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


def describe_scale(curves: Curves) -> str:
    """The figure in words, for those who cannot see it.

    Args:
        curves: of `scale_curves`.
    """
    parts = []
    for name, found in curves.items():
        told = ", ".join(
            f"{activation} from {_text(values[0])} to {_text(values[-1])}"
            for activation, (_, values) in sorted(found.items())
        )
        parts.append(f"{_PANELS[name]}, smallest to largest c: {told}")
    return "; ".join(parts) + "." if parts else ""


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
