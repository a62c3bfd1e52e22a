"""One self-contained HTML page: no network, same input same bytes."""

from collections.abc import Mapping
from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from summiteer.report.claims_text import GLOSSES
from summiteer.report.figures import describe_scale, scale_curves, scale_figures


def claims_page(result: Mapping[str, Any], command: str) -> str:
    """The page of `reproduce`.

    Args:
        result: content of result.json.
        command: that gives it again.

    Returns:
        HTML that opens offline.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = _number
    source = (resources.files("summiteer.report") / "claims.html").read_text("utf-8")
    curves = scale_curves(result)
    figures = ",".join(
        figure.to_json(engine="json") for figure in scale_figures(curves)
    )
    return environment.from_string(source).render(
        result=result,
        command=command,
        glosses=GLOSSES,
        description=describe_scale(curves),
        # </script> inside a JSON string would end the element.
        figures=f"[{figures}]".replace("</", "<\\/"),
        plotly=get_plotlyjs(),
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3g}"
