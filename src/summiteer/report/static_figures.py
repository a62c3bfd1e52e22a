"""The figures of a page as files for papers."""

import re
import unicodedata
from pathlib import Path

from summiteer.disk import explained
from summiteer.report.document import Document, Plot
from summiteer.report.matplotlib_charts import save

#: Letters of a title that are kept in the name of its file.
_LONGEST = 50


def write_figures(document: Document, folder: Path, kind: str) -> tuple[Path, ...]:
    """Write each chart of a page as NN-title.kind, and return where they are.

    Args:
        document: the page.
        folder: made if it is not there.
        kind: pdf, svg or png.

    Raises:
        UserError: the folder cannot be written to.
    """
    plots = document.blocks(Plot)
    places = []
    with explained(folder):
        if plots:
            folder.mkdir(parents=True, exist_ok=True)
        for number, plot in enumerate(plots, 1):
            place = folder / f"{number:02d}-{slug(plot.chart.title)}.{kind}"
            save(plot.chart, plot.words, place)
            places.append(place)
    return tuple(places)


def slug(title: str) -> str:
    """A title as part of the name of a file: small letters, digits and hyphens.

    Args:
        title: any text.
    """
    plain = unicodedata.normalize("NFKD", title).encode("ascii", "ignore").decode()
    words = re.sub(r"[^a-z0-9]+", "-", plain.lower()).strip("-")
    return words[:_LONGEST].rstrip("-") or "figure"
