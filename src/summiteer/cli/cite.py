"""`summiteer cite`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from summiteer.errors import UserError

if TYPE_CHECKING:
    from summiteer.bibliography import Reference


def cite(
    keys: Annotated[
        list[str] | None,
        typer.Argument(help="keys of works, as docstrings and pages name them"),
    ] = None,
    style: Annotated[
        str, typer.Option("--format", help="bibtex, ris, endnote or csl")
    ] = "bibtex",
    paper: Annotated[
        bool, typer.Option("--paper", help="the paper that is reproduced, alone")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="every work that a method here rests on")
    ] = False,
) -> None:
    """Print how to cite Summiteer and the paper it implements.

    With keys, those works instead. Redirect it into a file to import it.
    """
    from summiteer.bibliography import FORMATS, cited

    if style not in FORMATS:
        raise UserError(f"--format: expected one of {', '.join(FORMATS)}, got {style}.")
    works = _chosen(keys or [], paper, everything)
    print(cited(works, style), end="")


def _chosen(
    keys: list[str], paper: bool, everything: bool
) -> "Mapping[str, Reference]":
    from summiteer.bibliography import PAPER, REFERENCES, SELF, SUMMITEER

    if (bool(keys) + paper + everything) > 1:
        raise UserError("--paper, --all, keys: give one of the three.")
    known = {SELF: SUMMITEER, **REFERENCES}
    if everything:
        return known
    chosen = [PAPER] if paper else [*dict.fromkeys(keys)] or [SELF, PAPER]
    unknown = [key for key in chosen if key not in known]
    if unknown:
        raise UserError(
            f"no work has the key {', '.join(unknown)}; `summiteer cite --all` prints "
            "all, with their keys."
        )
    return {key: known[key] for key in chosen}
