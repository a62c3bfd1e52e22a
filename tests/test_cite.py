"""`summiteer cite`: every format is read back by those who read it."""

import json

import pytest
from typer.testing import CliRunner

from summiteer.bibliography import FORMATS, PAPER, REFERENCES, SELF, SUMMITEER, cited
from summiteer.bibliography.formats import latex
from summiteer.cli import app
from summiteer.errors import UserError

WORKS = {SELF: SUMMITEER, **REFERENCES}
#: CSL 1.0.2: what an item must have, and the types used here.
CSL_TYPES = {
    "article-journal",
    "paper-conference",
    "article",
    "book",
    "dataset",
    "software",
}
CSL_FIELDS = {
    *("id", "type", "title", "author", "issued", "container-title"),
    *("collection-title", "volume", "issue", "page", "publisher", "edition"),
    *("version", "number", "DOI", "URL"),
}


def said(*arguments):
    done = CliRunner().invoke(app, ["cite", *arguments])
    if done.exception and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code == 0
    return done.stdout


def test_bibtex_is_read_by_bibtexparser():
    bibtexparser = pytest.importorskip("bibtexparser", reason="reads BibTeX")
    library = bibtexparser.parse_string(cited(WORKS, "bibtex"))
    assert not library.failed_blocks
    assert [entry.key for entry in library.entries] == list(WORKS)
    for entry in library.entries:
        work, fields = WORKS[entry.key], entry.fields_dict
        assert fields["title"].value == f"{{{latex(work.title)}}}"
        assert fields["author"].value.count(" and ") == len(work.authors) - 1
        assert int(fields["year"].value) == work.year
        assert fields["doi"].value == work.doi if work.doi else "doi" not in fields
        venue = {"article": "journal", "inproceedings": "booktitle"}
        name = venue.get(entry.entry_type)
        assert name is None or fields[name].value == work.venue


def test_bibtex_is_plain_ascii_for_old_tools():
    assert cited(WORKS, "bibtex").isascii()


def test_ris_is_read_by_rispy():
    rispy = pytest.importorskip("rispy", reason="reads RIS")
    entries = rispy.loads(cited(WORKS, "ris"))
    assert [entry["id"] for entry in entries] == list(WORKS)
    for entry in entries:
        work = WORKS[entry["id"]]
        assert entry["title"] == work.title
        assert entry["authors"] == list(work.authors)
        assert entry["year"] == str(work.year)
        assert entry.get("doi", "") == work.doi
        assert entry.get("volume", "") == work.volume
        pages = [entry.get("start_page", ""), entry.get("end_page", "")]
        assert "-".join(filter(None, pages)) == work.pages


def tagged(text):
    """EndNote's own format: an empty line between records, `%X text` in a line each."""
    records = []
    for block in text.strip("\n").split("\n\n"):
        record = {}
        for line in block.split("\n"):
            assert line[0] == "%"
            assert line[2] == " "
            record.setdefault(line[1], []).append(line[3:])
        records.append(record)
    return records


def test_endnote_is_read_by_its_tags():
    records = tagged(cited(WORKS, "endnote"))
    assert [record["F"] for record in records] == [[key] for key in WORKS]
    for record in records:
        work = WORKS[record["F"][0]]
        assert len(record["0"]) == 1
        assert record["T"] == [work.title]
        assert [name.rstrip(",") for name in record["A"]] == list(work.authors)
        assert record["D"] == [str(work.year)]
        assert record.get("R", [""]) == [work.doi]
        # EndNote reads a name without a comma as given and family name.
        assert all("," in name for name in record["A"])


def test_csl_json_has_what_its_schema_asks_for():
    items = json.loads(cited(WORKS, "csl"))
    assert [item["id"] for item in items] == list(WORKS)
    for item in items:
        work = WORKS[item["id"]]
        assert item["type"] in CSL_TYPES
        assert set(item) <= CSL_FIELDS
        assert item["issued"]["date-parts"] == [[work.year]]
        for name in item["author"]:
            assert set(name) in ({"family", "given"}, {"literal"})
        assert len(item["author"]) == len(work.authors)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("50% & more_", "50\\% \\& more\\_"),
        ("Hintermüller", 'Hinterm{\\"u}ller'),
        ("Martínez", "Mart{\\'\\i}nez"),
        ("a\\b^c", "a\\textbackslash{}b\\textasciicircum{}c"),
    ],
)
def test_text_for_latex(text, expected):
    assert latex(text) == expected


@pytest.mark.parametrize("style", FORMATS)
def test_the_command_prints_both_the_paper_the_works_or_all(style):
    assert said("--format", style) == cited(
        {SELF: SUMMITEER, PAPER: REFERENCES[PAPER]}, style
    )
    assert said("--format", style, "--paper") == cited({PAPER: WORKS[PAPER]}, style)
    assert said("--format", style, "--all") == cited(WORKS, style)
    key = "madry2018towards"
    assert said("--format", style, key) == cited({key: WORKS[key]}, style)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--format", "word"], "--format: expected one of bibtex, ris, endnote, csl"),
        (["nobody1900nothing"], "no work has the key nobody1900nothing"),
        (["--paper", "--all"], "give one of the three"),
        (["--paper", "madry2018towards"], "give one of the three"),
    ],
)
def test_mistakes_are_told(arguments, message):
    with pytest.raises(UserError, match=message):
        said(*arguments)
