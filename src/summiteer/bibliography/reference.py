"""Works, read from the one file that lists them."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from types import MappingProxyType
from typing import Literal, TypeAlias

from summiteer._version import __version__

Kind: TypeAlias = Literal[
    "article", "conference", "preprint", "book", "dataset", "software"
]


@dataclass(frozen=True)
class Reference:
    """One work.

    Attributes:
        kind: what it is.
        authors: "Family, Given" each, or a name without a comma.
        title: as printed.
        year: of publication.
        venue: journal, proceedings or archive; "" if there is none.
        series: of the proceedings.
        volume: of journal or series.
        number: of the issue.
        pages: "first-last".
        publisher: of a book.
        edition: of a book, in words.
        version: of software.
        doi: without the resolver's address; "" if there is none.
        arxiv: number, or "".
    """

    kind: Kind
    authors: tuple[str, ...]
    title: str
    year: int
    venue: str = ""
    series: str = ""
    volume: str = ""
    number: str = ""
    pages: str = ""
    publisher: str = ""
    edition: str = ""
    version: str = ""
    doi: str = ""
    arxiv: str = ""

    @property
    def address(self) -> str:
        """Where it is found, "" if nowhere."""
        if self.doi:
            return f"https://doi.org/{self.doi}"
        return f"https://arxiv.org/abs/{self.arxiv}" if self.arxiv else ""

    @property
    def short(self) -> str:
        """As it is cited in a text: "Deng et al. 2020"."""
        families = [name.partition(",")[0] for name in self.authors]
        if len(families) > 2:
            return f"{families[0]} et al. {self.year}"
        return f"{' and '.join(families)} {self.year}"

    @property
    def where(self) -> str:
        """Venue, volume and pages, in one line."""
        volume = f"{self.volume}({self.number})" if self.number else self.volume
        if self.series:
            volume = f"{self.series} {self.volume}"
            named = f"{self.venue}, {volume}"
        else:
            named = f"{self.venue} {volume}".strip()
        if self.kind == "preprint":
            named = f"arXiv {self.arxiv}"
        edition = f"{self.edition} edition" if self.edition else ""
        version = f"version {self.version}" if self.version else ""
        parts = (named, edition, self.publisher, version, self.pages)
        return ", ".join(part for part in parts if part)

    def line(self) -> str:
        """Authors, title, venue and year in one line."""
        names = [f"{given} {family}".strip() for family, given in self.names()]
        listed = names[0]
        if len(names) > 1:
            listed = f"{', '.join(names[:-1])} and {names[-1]}"
        # Titles that end in a mark of their own need no full stop.
        stop = "" if self.title[-1] in "?!." else "."
        end = f"{self.where}, {self.year}" if self.where else str(self.year)
        return f"{listed}. {self.title}{stop} {end}."

    def names(self) -> list[tuple[str, str]]:
        """(family, given) of each author; given is "" of a name without a comma."""
        parts = (name.partition(",") for name in self.authors)
        return [(family, given.strip()) for family, _, given in parts]


def _read() -> Mapping[str, Reference]:
    place = resources.files("summiteer.bibliography") / "works.toml"
    works = tomllib.loads(place.read_text("utf-8"))
    return MappingProxyType(
        {
            key: Reference(**{**work, "authors": tuple(work["authors"])})
            for key, work in works.items()
        }
    )


#: Key -> work, in the order of the keys.
REFERENCES: Mapping[str, Reference] = _read()
#: What Summiteer reproduces.
PAPER = "deng2020towards"
#: Key of this package, which is no work of `REFERENCES`.
SELF = "summiteer"
#: This package, as it is cited; CITATION.cff says the same.
SUMMITEER = Reference(
    "software",
    ("The Summiteer developers",),
    "Summiteer: first-order adversaries with per-example verdicts",
    2026,
    version=__version__,
)
