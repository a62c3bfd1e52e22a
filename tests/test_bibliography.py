"""One bibliography file: what is cited, what is listed, and the graph of methods."""

import inspect
import re
import sys
import unicodedata
from collections import defaultdict
from pathlib import Path

import pytest

import summiteer
from small_runs import prepare, small_run
from summiteer.bibliography import METHODS, PAPER, REFERENCES, RELATED, SUMMITEER
from summiteer.cli import COMMANDS

SOURCES = Path(summiteer.__file__).parent
KEY = re.compile(r"`([a-z]+\d{4}[a-z]+)`")


def cited():
    """Module below summiteer -> keys of the works that it cites."""
    found = defaultdict(set)
    for path in SOURCES.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCES).with_suffix("").parts)
        keys = set(KEY.findall(path.read_text("utf-8")))
        if keys:
            found[module] |= keys
    return dict(found)


def test_every_key_cited_is_listed_and_every_key_listed_is_cited_or_related():
    assert set().union(*cited().values()) | set(RELATED) == set(REFERENCES)


def test_the_graph_has_the_methods_whose_modules_cite():
    assert sorted(method.module for method in METHODS) == sorted(cited())
    assert {m.module: {*m.works} for m in METHODS} == cited()


def test_methods_are_used_by_commands():
    commands = {command.__name__ for command in COMMANDS}
    assert {used for method in METHODS for used in method.used} <= commands


@pytest.mark.parametrize("command", ["attack", "audit", "landscape", "train"])
def test_the_graph_knows_what_a_command_runs(tmp_path, command):
    """Functions that are called, in modules that cite: no fewer than are told."""
    prepare(tmp_path)
    called = set()

    def note(frame, event, _):
        # Bodies of modules and classes are no functions.
        if event == "call" and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            called.add(frame.f_code.co_filename)

    sys.setprofile(note)
    try:
        small_run(command, tmp_path, "--no-report")
    finally:
        sys.setprofile(None)
    told = {m.module for m in METHODS if command in m.used}
    places = {SOURCES / f"{m.module.replace('.', '/')}.py": m.module for m in METHODS}
    assert {places[p] for p in map(Path, called) if p in places} <= told


def test_keys_are_in_order_and_say_author_and_year():
    assert list(REFERENCES) == sorted(REFERENCES)
    for key, work in REFERENCES.items():
        family, year = re.fullmatch(r"([a-z]+)(\d{4})[a-z]+", key).groups()
        assert int(year) == work.year
        first = unicodedata.normalize("NFD", work.names()[0][0].lower())
        assert re.sub("[^a-z]", "", first).startswith(family)


@pytest.mark.parametrize("key", REFERENCES)
def test_every_work_can_be_found_and_is_complete(key):
    work = REFERENCES[key]
    assert work.address.startswith(("https://doi.org/10.", "https://arxiv.org/abs/"))
    assert all(", " in name for name in work.authors)
    assert bool(work.venue) == (work.kind not in {"preprint", "book"})
    assert work.kind != "article" or (work.volume and work.pages)
    assert work.kind != "book" or work.publisher
    if work.pages:
        first, last = map(int, work.pages.split("-"))
        assert first < last
    assert all(each == each.strip() for each in (*work.authors, work.title, work.venue))


def test_a_work_in_one_line():
    assert REFERENCES["rump2006verification"].line() == (
        "S. M. Rump. Verification of positive definiteness. "
        "BIT Numerical Mathematics 46(2), 433-452, 2006."
    )
    assert REFERENCES[PAPER].line() == (
        "Zhun Deng, Hangfeng He, Jiaoyang Huang and Weijie J. Su. Towards "
        "Understanding the Dynamics of the First-Order Adversaries. Proceedings of "
        "the 37th International Conference on Machine Learning, Proceedings of "
        "Machine Learning Research 119, 2020."
    )
    assert REFERENCES["santurkar2018does"].line().count("?") == 1
    assert "arXiv 1905.06208, 2019" in REFERENCES["learned2019new"].line()
    assert "Second edition" in REFERENCES["higham2002accuracy"].line()
    assert f"version {summiteer.__version__}" in SUMMITEER.line()


def test_works_are_named_shortly_in_texts():
    assert REFERENCES[PAPER].short == "Deng et al. 2020"
    assert REFERENCES["frank1956algorithm"].short == "Frank and Wolfe 1956"
    assert REFERENCES["good1953population"].short == "Good 1953"


def test_the_citation_file_says_the_same():
    yaml = pytest.importorskip("yaml", reason="reads CITATION.cff")
    path = Path(__file__).parents[1] / "CITATION.cff"
    held = yaml.safe_load(path.read_text("utf-8"))
    assert (held["title"], held["version"]) == (SUMMITEER.title, SUMMITEER.version)
    assert [each["name"] for each in held["authors"]] == list(SUMMITEER.authors)
    (paper,) = held["references"]
    work = REFERENCES[PAPER]
    assert (paper["title"], paper["year"]) == (work.title, work.year)
    assert (paper["collection-title"], str(paper["volume"])) == (
        work.venue,
        work.volume,
    )
    assert paper["url"] == work.address
    names = [(a["family-names"], a["given-names"]) for a in paper["authors"]]
    assert names == work.names()
