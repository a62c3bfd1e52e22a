"""What `reproduce` found, as a page: the paper's claims and their verdicts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from plotly.offline import get_plotlyjs_version

from summiteer.bibliography import PAPER, REFERENCES
from summiteer.report.claims_text import GLOSSES
from summiteer.report.document import (
    Block,
    Code,
    Column,
    Document,
    Facts,
    Fold,
    Link,
    Prose,
    Section,
    Table,
    Value,
)
from summiteer.report.evidence import evidence, verdicts
from summiteer.report.finished import Finished
from summiteer.report.paper_sections import (
    cite_section,
    methods_graph,
    paper_section,
    related_graph,
)
from summiteer.report.portraits import portraits
from summiteer.store import Store
from summiteer.studies.claims.rules import percentage
from summiteer.studies.reproduction import reproduce_command

_COLUMNS = (
    Column("protocol"),
    Column("where"),
    Column("verdict"),
    Column("what was seen"),
    Column("effect"),
    Column("95 % interval"),
)
_LOOK = (
    Column("claim"),
    Column("verdict", words="of its primary protocol and regime"),
    Column("what was seen"),
    Column("all judgements", words="of every protocol and regime"),
)
_EXTENTS = {
    "quick": "--quick: small studies on digits",
    "full": "the usual extent: digits, and MNIST where it was",
    "full-mnist": "--full-mnist: all of MNIST's test images",
}
#: From more judgements on a table is folded, and can be filtered.
_MANY = 8
#: What the paper does not claim.
_OURS = "C7"
#: What is seen best in pictures of a landscape.
_LANDSCAPE = "C3"
#: Of what was seen.
_SYMBOLS = (
    "c is the input scale, the norm of an input; ε, the radius, is a fixed share of "
    "it; d is the dimension, m the width of the network. κ is the curvature over the "
    "multiplier, below 1 at a strict maximum. Where an index (global, unique, a priori "
    "q) is below 1, the maximum is the highest, the only one, or known to be one "
    "before any ascent. Digits are scikit-learn's images of 8 × 8."
)
#: Names in records of a store -> for readers.
_VERSIONS = {
    "version": "Summiteer",
    "commit": "commit",
    "python": "Python",
    "torch": "torch",
    "numpy": "NumPy",
    "blas": "BLAS",
    "cpu": "processor",
    "platform": "system",
}


def claims_document(run: Finished) -> Document:
    """The page of `reproduce`.

    Args:
        run: of that command.
    """
    result = run.result
    claims = result["claims"]
    return Document(
        title="The dynamics of first-order adversaries: the paper's claims, measured",
        lead=(REFERENCES[PAPER].line(), *headlines(result)),
        sections=(
            _look(claims),
            paper_section(),
            *(_claim(claim, run) for claim in claims),
            Section("What the verdicts mean", (Facts(tuple(GLOSSES.items())),)),
            Section("Redo it", _again(run)),
            cite_section(),
            Section("Methods and where they come from", (methods_graph(),)),
            Section("The work around the paper", (related_graph(),)),
            Section("Open this page in ten years", _later(run)),
        ),
        footer=run.footer,
        facts=_strip(result),
    )


def headlines(result: Mapping[str, Any]) -> tuple[str, ...]:
    """What must be seen first, in sentences that are true by themselves.

    Args:
        result: content of result.json.
    """
    found: dict[str, list[str]] = {}
    for claim in result["claims"]:
        found.setdefault(claim["judgements"][0]["standing"], []).append(claim["key"])
    ordered = [(name, found[name]) for name in GLOSSES if name in found]
    told = [
        "Primary verdicts: "
        + "; ".join(f"{', '.join(keys)} {name}" for name, keys in ordered)
        + "."
    ]
    apart = _apart(result["claims"])
    if apart:
        edges = (
            " What holds has edges, and they are shown." if "supported" in found else ""
        )
        told.append(f"Other verdicts elsewhere: {'; '.join(apart)}.{edges}")
    told += [
        "Whether the regular landscape could make training faster (C5): "
        f"{each['standing']}."
        for each in _causes(result["claims"])
    ]
    if result["extent"] == "quick":
        told.append(
            "This is the quick run: few networks, digits alone. C5 is shown and not "
            "judged."
            if "C5" in {claim["key"] for claim in result["claims"]}
            else "This is the quick run: few networks, digits alone."
        )
    if result["cells"]["failed"]:
        told.append(
            f"{result['cells']['failed']} cells failed: claims that needed them are "
            "not judged."
        )
    return tuple(told)


def _apart(claims: Sequence[Mapping[str, Any]]) -> list[str]:
    """How many judgements of a claim say otherwise than its first, and what."""
    told = []
    for claim in claims:
        # Controls say nothing of the claim itself.
        aside = {"as it must be", "not judged", claim["judgements"][0]["standing"]}
        others = [j for j in claim["judgements"] if j["standing"] not in aside]
        if others:
            told.append(f"{claim['key']}: {_counted(others)}")
    return told


def _causes(claims: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What is judged of the landscape as the cause of C5's effect."""
    return [
        each
        for claim in claims
        for each in claim["judgements"]
        if each["protocol"].endswith("as the cause")
    ]


def _strip(result: Mapping[str, Any]) -> dict[str, str]:
    judgements = sum(len(claim["judgements"]) for claim in result["claims"])
    told = {
        "claims": str(len(result["claims"])),
        "judgements": str(judgements),
        "cells measured": str(result["cells"]["done"]),
    }
    if result["decided"] is not None:
        told["end points decided"] = f"{percentage(result['decided'], 2)}"
    return told


def _look(claims: Sequence[Mapping[str, Any]]) -> Section:
    rows = tuple(
        (
            Link(f"{claim['key']}: {claim['title']}", f"#{claim['key']}"),
            claim["judgements"][0]["standing"],
            _first(claim),
            _counted(claim["judgements"]),
        )
        for claim in claims
    )
    note = (
        "The verdict is that of the protocol and regime that is judged first; each "
        "rule is part of the program, and was there before this run was measured. "
        "Where a verdict speaks of several settings it is that of most of them (see "
        "the rule). C7 is a question of ours."
    )
    table = Table("The claims and their primary verdicts", _LOOK, rows, note)
    return Section("In one look", (table, Prose(_SYMBOLS, "note"), verdicts(claims)))


def _first(claim: Mapping[str, Any]) -> str:
    each = claim["judgements"][0]
    return f"{each['protocol']}; {each['regime']}: {each['sentence']}"


def _counted(judgements: Sequence[Mapping[str, Any]]) -> str:
    counts = Counter(each["standing"] for each in judgements)
    return ", ".join(f"{counts[name]} {name}" for name in GLOSSES if name in counts)


def _claim(claim: Mapping[str, Any], run: Finished) -> Section:
    """Statement, verdict, evidence, rule, the command; all judgements in a table."""
    first, judged = claim["judgements"][0], claim["judgements"]
    key, ours = claim["key"], claim["key"] == _OURS
    facts = [
        ("verdict", _verdict(first)),
        ("protocol", first["protocol"]),
        ("where", first["regime"]),
        ("what was seen", first["sentence"]),
    ]
    if first["effect"] is not None:
        facts.append(("effect", _effect(first)))
    facts += [
        ("the cause", f"{each['standing']}: {each['protocol']}; {each['sentence']}")
        for each in _causes([claim])
    ]
    facts.append(("all judgements", _counted(judged)))
    alone = {**run.spec, "studies": {key: run.spec["studies"][key]}}
    command = f"{reproduce_command(alone)} --out={key.lower()}"
    rows = tuple(_row(each) for each in judged)
    blocks: list[Block] = [
        Prose(claim["statement"] if ours else f"The paper: {claim['statement']}"),
        Facts(tuple(facts)),
        *evidence(claim),
        *(portraits(run) if key == _LANDSCAPE else ()),
        Fold("The rule, fixed beforehand", (Prose(claim["rule"]),)),
        _judgements(f"All judgements of {key} ({len(rows)})", rows),
        Code(command, f"Redo {key} alone"),
    ]
    return Section(f"{key}: {claim['title']}", tuple(blocks), key=key)


def _judgements(title: str, rows: tuple[tuple[Value, ...], ...]) -> Block:
    """A table; closed and with a filter where it is long."""
    if len(rows) <= _MANY:
        return Table(title, _COLUMNS, rows)
    return Fold(title, (Table("", _COLUMNS, rows, filtered=True),))


def _verdict(each: Mapping[str, Any]) -> str:
    """With its gloss, which speaks of an interval, where there is one."""
    standing = str(each["standing"])
    if each["low"] is None:
        return f"{standing} (of several judgements together, see the rule)"
    return f"{standing} ({GLOSSES[standing]})"


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    of = each.get("quantity") or ""
    effect = _shown(each["effect"], of)
    told = f"{effect} ({of})" if of and each["effect"] is not None else effect
    return (
        each["protocol"], each["regime"], each["standing"], each["sentence"],
        told, _interval(each),
    )  # fmt: skip


def _effect(each: Mapping[str, Any]) -> str:
    """The effect, its interval, and what it is."""
    of = each.get("quantity") or ""
    told = _shown(each["effect"], of)
    if each["low"] is not None:
        told += f", 95 % interval {_interval(each)}"
    return f"{told} ({of})" if of else told


def _interval(each: Mapping[str, Any]) -> str:
    of = each.get("quantity") or ""
    if each["low"] is None:
        return "–"
    return f"{_shown(each['low'], of)} to {_shown(each['high'], of)}"


def _shown(value: float | None, of: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.3g} %" if of.startswith("share") else f"{value:.3g}"


def _again(run: Finished) -> tuple[Block, ...]:
    result = run.result
    cells, told = result["cells"], []
    if result["decided"] is not None:
        told.append(
            f"{percentage(result['decided'], 2)} of the end points of two-layer "
            "networks are decided."
        )
    failed = f", {cells['failed']} failed" if cells["failed"] else ""
    told.append(f"{cells['done']} cells were measured{failed}.")
    told.append("Everything is in result.json and store.sqlite beside this page.")
    facts = Facts(
        (("extent", _EXTENTS[result["extent"]]), ("first seed", str(result["seed"])))
    )
    command = Code(reproduce_command(run.spec), "The command of this run")
    return Prose(" ".join(told)), facts, command


def _later(run: Finished) -> tuple[Block, ...]:
    """What this page needs, and what the run was made with."""
    words = (
        "This page is one file. Its style, scripts, figures and numbers are inside it; "
        "nothing is fetched from anywhere. It needs a browser that knows HTML 5, SVG "
        "and JavaScript of 2020. Without scripts all text and tables remain, and "
        "below each figure stands what it shows.",
        "Beside it, in formats that are public: result.json (every number above, "
        f"schema {run.result['schema']}), run.json (what was asked for), store.sqlite "
        "(SQLite 3: one record per cell, with the versions and the machine it ran "
        "with), arrays/*.safetensors (per run of the ascent). Every random number is "
        "named by its seed: the same versions on the same kind of machine give the "
        "same bytes, others the same up to rounding.",
    )
    facts = (*_versions(run), ("plotly.js in this page", get_plotlyjs_version()))
    return *(Prose(each, "note") for each in words), Facts(facts)


def _versions(run: Finished) -> tuple[tuple[str, str], ...]:
    """With what the cells were measured; all values where they differ."""
    found: dict[str, dict[str, None]] = {
        "version": {run.spec["version"]: None},
        "torch": {run.spec["torch"]: None},
    }
    if (run.directory / "store.sqlite").exists():
        with Store.read(run.directory) as store:
            environments = [each.environment for each in store.finished().values()]
        for environment in environments:
            for name in _VERSIONS:
                if environment.get(name) is not None:
                    found.setdefault(name, {})[str(environment[name])] = None
    return tuple(
        (told, "; ".join(sorted(found[name])))
        for name, told in _VERSIONS.items()
        if name in found
    )
