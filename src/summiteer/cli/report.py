"""`summiteer report`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from summiteer.cli.options import check_choice
from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.report.document import Document

KINDS = ("pdf", "svg", "png")


def report(
    run: Annotated[Path, typer.Argument(help="directory of a finished run")],
    show: Annotated[
        bool, typer.Option("--open", help="show the page in the browser")
    ] = False,
    figures: Annotated[
        str | None,
        typer.Option(
            metavar="KIND",
            help="write the figures too, for a paper with columns of 3.3 inches, into "
            "RUN/figures: pdf, svg or png",
        ),
    ] = None,
) -> None:
    """Write report.html of a run anew, one page that opens offline.

    Every command does so at its end, unless it is given --no-report.
    """
    check_choice("--figures", figures, (None, *KINDS))
    from summiteer.report.finished import Finished
    from summiteer.report.pages import document_of, write_page

    drawn = None
    if figures is not None:
        # Before the page: what is missing for figures is said before anything is done.
        drawn = _figures(document_of(Finished.read(run)), run / "figures", figures)
    place = write_page(run)
    if drawn is not None:
        print(drawn)
    print(f"report: {place}")
    if show:
        _show(place)
    else:
        print(f"shown by: summiteer report {shlex.quote(str(run))} --open")


def _figures(document: "Document", folder: Path, kind: str) -> str:
    """Write them, and say where they are."""
    try:
        from summiteer.report.static_figures import write_figures
    except ModuleNotFoundError as error:
        if str(error.name).partition(".")[0] != "matplotlib":
            raise
        raise UserError(
            "--figures: needs Matplotlib, which is not installed; pip install "
            "'summiteer[figures]', or leave it out: the page has the same figures."
        ) from None
    places = write_figures(document, folder, kind)
    if not places:
        return "figures: the page of this run has none"
    names = "\n".join(f"  {place.name}" for place in places)
    return f"figures: {folder}\n{names}"


def _show(place: Path) -> None:
    import webbrowser

    if not webbrowser.open(place.resolve().as_uri()):
        print("no browser was found here: open the file in one.")
