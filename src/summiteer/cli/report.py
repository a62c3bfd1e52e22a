"""`summiteer report`."""

from pathlib import Path
from typing import Annotated

import typer


def report(
    run: Annotated[Path, typer.Argument(help="directory of a finished run")],
    show: Annotated[
        bool, typer.Option("--open", help="show the page in the browser")
    ] = False,
) -> None:
    """Write report.html of a run anew, one page that opens offline.

    Every command does so at its end, unless it is given --no-report.
    """
    from summiteer.report.pages import write_page

    place = write_page(run)
    print(place)
    if show:
        import webbrowser

        webbrowser.open(place.resolve().as_uri())
