"""One self-contained HTML page: no network, same input same bytes."""

from importlib import resources

from jinja2 import Environment, StrictUndefined
from plotly.offline import get_plotlyjs

from summiteer._version import __version__
from summiteer.report.figures import describe_scale, scale_figures
from summiteer.studies.scale import ScaleSummary


def scale_page(summary: ScaleSummary, run: str) -> str:
    """The page of `reproduce --quick`.

    Args:
        summary: of the study.
        run: its id.

    Returns:
        HTML that opens offline.
    """
    environment = Environment(autoescape=True, undefined=StrictUndefined)
    environment.filters["number"] = _number
    source = (resources.files("summiteer.report") / "scale.html").read_text("utf-8")
    figures = ",".join(
        figure.to_json(engine="json") for figure in scale_figures(summary)
    )
    return environment.from_string(source).render(
        summary=summary,
        run=run,
        version=__version__,
        description=describe_scale(summary),
        # </script> inside a JSON string would end the element.
        figures=f"[{figures}]".replace("</", "<\\/"),
        plotly=get_plotlyjs(),
    )


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    # Below what float64 runs to the residual can tell apart.
    return "0" if abs(value) < 1e-10 else f"{value:.3g}"
