"""Landscape and ascent against the input scale: what C3 and C4 have measured."""

from collections.abc import Mapping
from typing import Any, Literal

from summiteer.report.charts import Axis, Lines, Series
from summiteer.report.document import Plot

_COLOURS = {"softplus": "blue", "tanh": "orange", "quadratic": "green"}
_DASHES: Mapping[str, Literal["solid", "dash"]] = {
    "softplus": "solid",
    "tanh": "solid",
    "quadratic": "dash",
}
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


def scale_plots(result: Mapping[str, Any]) -> tuple[Plot, ...]:
    """Each panel against the input scale c.

    Args:
        result: content of result.json of `reproduce`.
    """
    return tuple(
        _panel(found, _PANELS[name], name != "distinct")
        for name, found in scale_curves(result).items()
    )


def _panel(
    found: dict[str, tuple[list[float], list[float | None]]], title: str, log: bool
) -> Plot:
    series = tuple(
        Series(
            "quadratic (control)" if activation == "quadratic" else activation,
            tuple(scales),
            tuple(values),
            look="both",
            dash=_DASHES.get(activation, "dot"),
            colour=_COLOURS.get(activation, ""),
        )
        for activation, (scales, values) in sorted(found.items())
    )
    ticks = tuple(sorted({x for scales, _ in found.values() for x in scales}))
    horizontal = Axis("input scale c", log=True, ticks=ticks)
    told = ", ".join(
        f"{each.name} from {_text(each.y[0])} to {_text(each.y[-1])}" for each in series
    )
    words = f"From the smallest to the largest c: {told}."
    return Plot(Lines(title, horizontal, Axis(title, log=log), series), words)


def _text(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
