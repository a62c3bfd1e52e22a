"""References as BibTeX, RIS, EndNote's tagged text and CSL-JSON."""

import json
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from summiteer.bibliography.reference import Kind, Reference


class _Type(NamedTuple):
    """What the formats call a kind of work."""

    bibtex: str
    ris: str
    endnote: str
    csl: str


_TYPES: Mapping[Kind, _Type] = {
    "article": _Type("article", "JOUR", "Journal Article", "article-journal"),
    "conference": _Type(
        "inproceedings", "CPAPER", "Conference Paper", "paper-conference"
    ),
    "preprint": _Type("misc", "UNPB", "Unpublished Work", "article"),
    "book": _Type("book", "BOOK", "Book", "book"),
    "dataset": _Type("misc", "DATA", "Dataset", "dataset"),
    "software": _Type("misc", "COMP", "Computer Program", "software"),
}
#: Combining characters -> LaTeX's accents.
_ACCENTS = {"\u0300": "`", "\u0301": "'", "\u0302": "^", "\u0303": "~", "\u0308": '"'}
#: Letters that lose their dot under an accent.
_DOTLESS = {"i": "\\i", "j": "\\j"}
#: What LaTeX reads otherwise, or not at all.
_LETTERS = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": "\\textbackslash{}",
    "^": "\\textasciicircum{}",
    "~": "\\textasciitilde{}",
    "ℝ": "$\\mathbb{R}$",
    "ⁿ": "$^n$",
    "₁": "$_1$",
    "ı": "{\\i}",
    "ł": "{\\l}",
    "–": "--",
}


@dataclass(frozen=True)
class Format:
    """A way to write references down.

    Attributes:
        name: for readers.
        ending: of its files.
        write: (key, work) of each -> text, with a newline at its end.
    """

    name: str
    ending: str
    write: Callable[[Mapping[str, Reference]], str]


def cited(works: Mapping[str, Reference], name: str) -> str:
    """Works in a format.

    Args:
        works: key -> work.
        name: a key of `FORMATS`.
    """
    return FORMATS[name].write(works)


def _bibtex(works: Mapping[str, Reference]) -> str:
    return "\n".join(_entry(key, work) for key, work in works.items())


def _entry(key: str, work: Reference) -> str:
    """One entry; double braces keep the title's capitals, and a name that is one."""
    names = [_name(*each) for each in work.names()]
    venue = {"article": "journal", "conference": "booktitle"}.get(
        work.kind, "howpublished"
    )
    fields = {
        "author": " and ".join(names),
        "title": f"{{{latex(work.title)}}}",
        venue: latex(work.venue),
        "series": latex(work.series),
        "volume": work.volume,
        "number": work.number,
        "pages": work.pages.replace("-", "--"),
        "publisher": latex(work.publisher),
        "edition": latex(work.edition),
        "year": str(work.year),
        "note": f"Version {work.version}" if work.version else "",
        "doi": work.doi,
        "eprint": work.arxiv,
        "archiveprefix": "arXiv" if work.arxiv else "",
    }
    told = "".join(f"  {name} = {{{v}}},\n" for name, v in fields.items() if v)
    return f"@{_TYPES[work.kind].bibtex}{{{key},\n{told}}}\n"


def _name(family: str, given: str) -> str:
    """Family names of several words, and names of no person, are kept whole."""
    whole = f"{{{latex(family)}}}" if " " in family else latex(family)
    return f"{whole}, {latex(given)}" if given else whole


def latex(text: str) -> str:
    """Text as LaTeX, in ASCII where a letter has an accent that is known.

    Args:
        text: plain.
    """
    return "".join(map(_letter, unicodedata.normalize("NFC", text)))


def _letter(letter: str) -> str:
    if letter in _LETTERS:
        return _LETTERS[letter]
    base, *marks = list(unicodedata.normalize("NFD", letter))
    if len(marks) == 1 and marks[0] in _ACCENTS:
        return f"{{\\{_ACCENTS[marks[0]]}{_DOTLESS.get(base, base)}}}"
    return letter


def _ris(works: Mapping[str, Reference]) -> str:
    return "\n".join(
        _lines(_ris_fields(key, work), "{}  - {}") + "ER  - \n"
        for key, work in works.items()
    )


def _ris_fields(key: str, work: Reference) -> list[tuple[str, str]]:
    first, _, last = work.pages.partition("-")
    return [
        ("TY", _TYPES[work.kind].ris),
        ("ID", key),
        *(("AU", name) for name in work.authors),
        ("TI", work.title),
        ("JO" if work.kind == "article" else "T2", work.venue),
        ("T3", work.series),
        ("VL", work.volume),
        ("IS", work.number),
        ("SP", first),
        ("EP", last),
        ("PB", work.publisher),
        ("ET", work.edition or work.version),
        ("PY", str(work.year)),
        ("DO", work.doi),
        ("UR", work.address),
    ]


def _endnote(works: Mapping[str, Reference]) -> str:
    return "\n".join(
        _lines(_endnote_fields(key, work), "{} {}") for key, work in works.items()
    )


def _endnote_fields(key: str, work: Reference) -> list[tuple[str, str]]:
    return [
        ("%0", _TYPES[work.kind].endnote),
        *(("%A", name if "," in name else f"{name},") for name in work.authors),
        ("%T", work.title),
        ("%J" if work.kind == "article" else "%B", work.venue),
        ("%S", work.series),
        ("%V", work.volume),
        ("%N", work.number),
        ("%P", work.pages),
        ("%I", work.publisher),
        ("%7", work.edition or work.version),
        ("%D", str(work.year)),
        ("%R", work.doi),
        ("%U", work.address),
        ("%F", key),
    ]


def _lines(fields: Iterable[tuple[str, str]], form: str) -> str:
    told = [form.format(tag, text) for tag, text in fields if text]
    return "\n".join(told) + "\n"


def _csl(works: Mapping[str, Reference]) -> str:
    items = [_item(key, work) for key, work in works.items()]
    return json.dumps(items, ensure_ascii=False, indent=2) + "\n"


def _item(key: str, work: Reference) -> dict[str, object]:
    authors = [
        {"family": family, "given": given} if given else {"literal": family}
        for family, given in work.names()
    ]
    fields = {
        "container-title": work.venue,
        "collection-title": work.series,
        "volume": work.volume,
        "issue": work.number,
        "page": work.pages,
        "publisher": "arXiv" if work.kind == "preprint" else work.publisher,
        "edition": work.edition,
        "version": work.version,
        "number": f"arXiv:{work.arxiv}" if work.arxiv else "",
        "DOI": work.doi,
        "URL": work.address,
    }
    return {
        "id": key,
        "type": _TYPES[work.kind].csl,
        "title": work.title,
        "author": authors,
        "issued": {"date-parts": [[work.year]]},
        **{name: value for name, value in fields.items() if value},
    }


#: Name on the command line -> format.
FORMATS: Mapping[str, Format] = {
    "bibtex": Format("BibTeX", "bib", _bibtex),
    "ris": Format("RIS", "ris", _ris),
    "endnote": Format("EndNote", "enw", _endnote),
    "csl": Format("CSL-JSON", "json", _csl),
}
