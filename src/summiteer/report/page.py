"""A document as one self-contained HTML page: no network, same input same bytes."""

import re
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from plotly.offline import get_plotlyjs

from summiteer.report.document import Document, Link, Plot, Table, Value
from summiteer.report.palette import PAPER
from summiteer.report.plotly_charts import figure

_SMALL = re.compile(r"\b\d+(?:\.\d+)?e-\d+")


def page(document: Document) -> str:
    """HTML that opens offline, today and in ten years.

    Text is escaped wherever it stands; plotly.js is embedded once, where there is a
    chart; a chart is drawn when it comes into sight.

    Args:
        document: what it says.
    """
    plots = document.blocks(Plot)
    environment = Environment(
        loader=PackageLoader("summiteer.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"shown": shown, "sorted_by": sorted_by, "whole": _whole}
    environment.tests["kind"] = lambda block, name: type(block).__name__ == name
    places = {id(plot): number for number, plot in enumerate(plots)}
    drawn = [figure(plot.chart) for plot in plots]
    return environment.get_template("page.html").render(
        document=document,
        place=lambda plot: places[id(plot)],
        numeric=_numeric,
        height=lambda plot: drawn[places[id(plot)]].layout.height,
        paper=PAPER,
        figures=_inert([each.to_json(engine="json") for each in drawn]),
        style=_text("page.css"),
        script=_text("page.js"),
        plotly=get_plotlyjs() if plots else "",
    )


def shown(value: Value, unit: str = "") -> str:
    """A value as readers see it: sensible digits, shares in percent.

    Args:
        value: of a table's cell.
        unit: of its column.
    """
    if value is None:
        return "–"
    if isinstance(value, Link):
        return value.text
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        if unit == "%":
            return f"{100 * value:.1f}"
        return f"{value:.4g}".replace("inf", "∞").replace("nan", "–")
    return str(value)


def sorted_by(value: Value) -> str:
    """What a cell is sorted by, as the page's script reads it.

    Args:
        value: of the cell.
    """
    if isinstance(value, bool | int | float):
        return repr(float(value)) if value == value else ""
    text = value.text if isinstance(value, Link) else value
    return text.lower() if isinstance(text, str) else ""


def _whole(text: str) -> str:
    """Text that is HTML already, in which no line ends within 1e-15."""
    # What Jinja escaped would be escaped again.
    return _SMALL.sub(r'<span class="whole">\g<0></span>', str(text))


def _numeric(table: Table) -> list[bool]:
    """Of each column whether it has numbers, and nothing else."""
    found = []
    for place in range(len(table.columns)):
        known = [row[place] for row in table.rows if row[place] not in (None, "")]
        # bool is an int of Python's, and a word here.
        found.append(bool(known) and all(type(v) in (int, float) for v in known))
    return found


def _inert(texts: list[str]) -> str:
    """JSON that no HTML parser takes for anything else inside a script element."""
    return f"[{','.join(texts)}]".replace("<", "\\u003c").replace(">", "\\u003e")


def _text(name: str) -> str:
    place = resources.files("summiteer.report") / "templates" / name
    return place.read_text("utf-8")
