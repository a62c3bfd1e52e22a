"""The pages of docs/: blocks run, links lead somewhere, no public name is missing."""

import re
import runpy
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import torch

import summiteer as sm

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(DOCS)): path.read_text(encoding="utf-8")
    for path in sorted(DOCS.rglob("*.md"))
}
BLOCK = re.compile(
    r"(?:^<!-- (?P<unrun>.*?) -->\n)?^```(?P<language>\w+)\n(?P<body>.*?)^```",
    re.DOTALL | re.MULTILINE,
)
RUN = {"python", "sh"}


def blocks(text):
    return [match.groupdict() for match in BLOCK.finditer(text)]


WITH_BLOCKS = [
    name
    for name, text in PAGES.items()
    if any(block["language"] in RUN and not block["unrun"] for block in blocks(text))
]


def run_line(line, run_cli, monkeypatch):
    """One line of a shell block: what it prints."""
    words = shlex.split(line)
    if words[0] == "python":
        monkeypatch.setattr(sys, "argv", words[1:])
        runpy.run_path(words[1], run_name="__main__")
        return ""
    code, out, error = run_cli(*words[1:])
    assert code == 0, error
    return out


def says(printed, line):
    """Whether a line was printed, whatever its numbers are."""
    number = r"-?[\d.,]+(?:e-?\d+)?"
    parts = [re.escape(word) for word in re.split(number, line.strip())]
    words = number.join(parts).replace(r"\ ", " ")
    return re.search(re.sub(" +", r"\\s+", words), printed) is not None


@pytest.fixture
def page_directory(tmp_path, monkeypatch):
    """Where a page's blocks run: the examples are there, files they leave are found."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "examples")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("model", "my_model"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    with torch.random.fork_rng(devices=[]):
        yield tmp_path
    sys.modules.pop("my_model", None)


@pytest.mark.filterwarnings("ignore::summiteer.SummiteerWarning")
@pytest.mark.parametrize("name", WITH_BLOCKS)
def test_the_blocks_of_a_page_run(name, page_directory, run_cli, monkeypatch):
    names, printed = {"__name__": "page"}, ""
    for block in blocks(PAGES[name]):
        body = block["body"]
        if block["unrun"] or block["language"] not in {*RUN, "text"}:
            continue
        if block["language"] == "python":
            # A block that begins with the name of a file is that file.
            file = re.match(r"# (\w+\.py)\n", body)
            if file:
                (page_directory / file[1]).write_text(body)
                continue
            exec(compile(body, name, "exec"), names)
        elif block["language"] == "sh":
            lines = body.splitlines()
            printed = "".join(run_line(line, run_cli, monkeypatch) for line in lines)
        else:
            for line in body.splitlines():
                assert line == "..." or says(printed, line), (line, printed)


def test_blocks_that_are_not_run_say_why():
    reasons = [
        block["unrun"]
        for text in PAGES.values()
        for block in blocks(text)
        if block["language"] in RUN and block["unrun"]
    ]
    assert reasons
    assert all(reason.startswith("not run: ") for reason in reasons)


def test_a_line_is_found_whatever_its_numbers():
    assert says("a\nrobust  51.0 %  at most\n", "robust accuracy 51 %") is False
    assert says("a\nrobust  51.0 %  at most\n", "robust 7 %   at most")


def slugs(text):
    """The anchors of a page's headings, as MyST and code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.strip().replace(" ", "-") for heading in plain}


@pytest.mark.parametrize("name", ["../README.md", "../CONTRIBUTING.md", *PAGES])
def test_links_lead_somewhere(name):
    page = DOCS / name
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"[a-z]+:", link):
            continue
        file, _, anchor = link.partition("#")
        there = (page.parent / file).resolve() if file else page
        assert there.exists(), link
        if anchor:
            assert anchor in slugs(there.read_text(encoding="utf-8")), link


def test_the_comparison_says_what_was_measured():
    """The sentence about time has the table's numbers: the MLP, batch 256, L∞."""
    measured = re.search(
        r"^\| MLP 784-256-10 +\| L∞ +\| 256 +\|(.+)\|$",
        PAGES["benchmarks.md"],
        re.MULTILINE,
    )
    cells = [cell.split()[0] for cell in measured[1].split("|")[1:7]]
    told = re.search(
        r"batch 256, L∞: bare loop (.+?), Summiteer (.+?)\s+"
        r"\((.+?) with its stopping test\), foolbox (.+?), torchattacks (.+?), "
        r"ART (.+?)\. ",
        PAGES["comparison.md"],
    )
    assert list(told.groups()) == cells


def test_every_public_name_is_described_once():
    described = [
        name
        for page, text in PAGES.items()
        if page.startswith("api/")
        for name in re.findall(r"auto\w+:: summiteer\.(\w+)$", text, re.MULTILINE)
    ]
    assert sorted(described) == sorted([*sm.__all__, *sm._MODULES])
    listed = re.findall(r"`sm\.(\w+)`[,|\s]", PAGES["api/index.md"])
    assert set(sm.__all__) <= set(listed)


def test_every_page_can_be_reached():
    trees = re.findall(r"```{toctree}\n(.*?)```", "".join(PAGES.values()), re.DOTALL)
    listed = {line for tree in trees for line in tree.split() if line[0] != ":"}
    for name in PAGES:
        stem = name.removesuffix(".md")
        assert stem in listed | {"index"} or stem.removeprefix("api/") in listed


def test_docstrings_become_restructured_text(monkeypatch):
    monkeypatch.syspath_prepend(DOCS / "_ext")
    pytest.importorskip("sphinx")
    from docstrings import as_restructured

    assert as_restructured("δ* and |t|, l_i in `a_b[*input]`.") == (
        r"δ\* and \|t\|, l_i in ``a_b[*input]``."
    )
    assert as_restructured("see `a, b\n    c`, then") == "see ``a, b c``,\n    then"
