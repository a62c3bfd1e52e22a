"""What `reproduce` found, as a page: the paper's claims and their verdicts."""

from collections.abc import Mapping
from typing import Any

from summiteer.report.claims_text import GLOSSES
from summiteer.report.document import (
    Block,
    Code,
    Column,
    Document,
    Facts,
    Prose,
    Section,
    Table,
)
from summiteer.report.figures import scale_plots
from summiteer.report.finished import Finished
from summiteer.studies.reproduction import reproduce_command

_COLUMNS = (
    Column("protocol"),
    Column("where"),
    Column("verdict"),
    Column("what was seen"),
    Column("effect"),
    Column("95 % interval"),
)


def claims_document(run: Finished) -> Document:
    """The page of `reproduce`.

    Args:
        run: of that command.
    """
    result = run.result
    claims = tuple(_section(claim) for claim in result["claims"])
    scales = Section("Against the input scale", scale_plots(result))
    return Document(
        title="The paper's claims, measured",
        lead=(
            "Each claim is judged by a rule that was written before anything was "
            "measured; brackets are 95 % intervals.",
        ),
        sections=(scales, *claims, _meanings(), _again(run)),
        footer=f"Summiteer {result['version']}, run {result['run']}.",
    )


def _section(claim: Mapping[str, Any]) -> Section:
    rows = tuple(_row(each) for each in claim["judgements"])
    blocks: list[Block] = [
        Prose(claim["statement"]),
        Table("", _COLUMNS, rows),
        Prose(f"Rule: {claim['rule']}", "note"),
    ]
    return Section(f"{claim['key']}: {claim['title']}", tuple(blocks))


def _row(each: Mapping[str, Any]) -> tuple[str, ...]:
    of = each.get("quantity") or ""
    effect = _shown(each["effect"], of)
    interval = "–"
    if each["low"] is not None:
        interval = f"{_shown(each['low'], of)} to {_shown(each['high'], of)}"
    told = f"{effect} ({of})" if of and each["effect"] is not None else effect
    return (
        each["protocol"], each["regime"], each["standing"], each["sentence"],
        told, interval,
    )  # fmt: skip


def _shown(value: float | None, of: str) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.3g} %" if of.startswith("share") else f"{value:.3g}"


def _meanings() -> Section:
    return Section("What the verdicts mean", (Facts(tuple(GLOSSES.items())),))


def _again(run: Finished) -> Section:
    result = run.result
    cells, told = result["cells"], []
    if result["decided"] is not None:
        told.append(
            f"{100 * result['decided']:.2f} % of the end points of two-layer networks "
            "are decided."
        )
    failed = f", {cells['failed']} failed" if cells["failed"] else ""
    told.append(f"{cells['done']} cells were measured{failed}.")
    told.append("Everything is in result.json and store.sqlite beside this page.")
    return Section(
        "Redo it",
        (Prose(" ".join(told)), Code(reproduce_command(run.spec), "The command")),
    )
