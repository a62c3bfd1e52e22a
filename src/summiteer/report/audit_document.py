"""What an audit found, as a page."""

from collections.abc import Sequence

import torch

from summiteer.auditing.findings import CORRECTIONS
from summiteer.auditing.kinds import Kind
from summiteer.auditing.words import MEANING
from summiteer.report.attack_document import (
    convergence_section,
    facts_of,
    points_section,
    title_of,
    weakened,
)
from summiteer.report.attack_headline import audit_headline, loss_word
from summiteer.report.charts import Axis, Bars, Lines, Part
from summiteer.report.document import (
    Block,
    Column,
    Document,
    Facts,
    Plot,
    Section,
    Value,
)
from summiteer.report.examined_plots import share_curve
from summiteer.report.examples_table import (
    Fields,
    examples_section,
    numbers_of_examples,
)
from summiteer.report.finished import Finished
from summiteer.report.methods_text import findings_section, methods_section
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.wording import objective_word, plain, plural

_TINTS = {
    "NOT_FINITE": "red",
    "CLEAN": "quiet",
    "RANDOM_START": "gold",
    "SINGLE_STEP": "pink",
    "OUTSIDE": "orange",
    "VERTEX": "green",
    "BOUNDARY": "blue",
    "INTERIOR": "violet",
}


def audit_document(run: Finished) -> Document:
    """The page of `audit`.

    Args:
        run: of that command.

    Raises:
        UserError: its arrays are missing or damaged.
    """
    recorded = RecordedRun.of(run)
    findings, methods = findings_section(run.result), methods_section(recorded)
    sections: tuple[Section, ...] = (findings, methods)
    if run.result["kinds"]:  # else the rows are no inputs of these examples
        sections = (
            findings,
            _given_section(recorded),
            points_section(recorded),
            convergence_section(recorded, "Steps of ascent from the given points"),
            examples_section(recorded, _fields(recorded), "given, allowed part"),
            methods,
        )
    return Document(
        title=title_of(run),
        lead=(*audit_headline(recorded), *weakened(run)),
        sections=sections,
        footer=run.footer,
        facts=facts_of(run.result),
    )


def _given_section(recorded: RecordedRun) -> Section:
    """What was given: kinds, corrections, lengths and gains."""
    blocks: list[Block] = [_kinds(recorded)]
    corrections = recorded.run.result["corrections"]
    told = tuple(
        (plural(corrections[name.lower()], "example"), MEANING[name])
        for name in CORRECTIONS[1:]
        if corrections and corrections[name.lower()]
    )
    if told:
        blocks.append(Facts(told))
    blocks += [plot for plot in (_lengths(recorded), _gains(recorded)) if plot]
    return Section("What was given", tuple(blocks))


def _kinds(recorded: RecordedRun) -> Plot:
    """What the given points look like, and which of them the model withstood."""
    names, kinds = recorded.names["kind"], recorded.numbers["kind"]
    groups = {"all": torch.ones_like(kinds, dtype=torch.bool)}
    if recorded.run.result["clean_accuracy"] is not None:
        groups["withstood"] = recorded.numbers["claimed"]
    used = torch.unique(kinds).tolist()
    counts = {
        name: [int((mask & (kinds == code)).sum()) for code in used]
        for name, mask in groups.items()
    }
    parts = tuple(
        Part(
            plain(names[code]),
            tuple(
                100 * counts[name][place] / max(int(mask.sum()), 1)
                for name, mask in groups.items()
            ),
            _TINTS.get(names[code], ""),
        )
        for place, code in enumerate(used)
    )
    bars = tuple(f"{name} ({int(mask.sum())})" for name, mask in groups.items())
    told = "; ".join(
        f"{counts['all'][place]} {Kind[names[code]].value}"
        + (f" ({counts['withstood'][place]} withstood)" if len(groups) > 1 else "")
        for place, code in enumerate(used)
    )
    axis = Axis("share of the points / %", span=(0, 100))
    return Plot(Bars("What the given points are", axis, bars, parts), f"{told}.")


def _lengths(recorded: RecordedRun) -> Plot | None:
    """How long the perturbations are."""
    values = recorded.numbers["radii"]
    values = values[values.isfinite()].sort().values
    if not len(values):
        return None
    chart = Lines(
        "How long the given perturbations are",
        Axis("length / radii"),
        Axis("share of the points / %", span=(0, 101)),
        (share_curve(values, len(values)),),
    )
    middle, longest = float(values[len(values) // 2]), float(values[-1])
    lengths = recorded.numbers["length"]
    outside = int((~recorded.numbers["inside"] & ~lengths.isnan()).sum())
    return Plot(
        chart,
        f"In radii: median {middle:.3g}, longest {longest:.4g}; {outside} of "
        f"{recorded.count} lie outside region or box beyond rounding.",
    )


def _gains(recorded: RecordedRun) -> Plot | None:
    """What ascent from the given points still adds."""
    values = recorded.numbers["gained"]
    values = values[values.isfinite()].sort().values
    gains = values[values > 0]
    if not len(gains):
        return None
    word, worth = loss_word(recorded), recorded.run.result["gains"]["examples"]
    chart = Lines(
        "What ascent from the given points still adds",
        Axis(f"gain of {word}", log=True),
        Axis("share of the points that gain no more / %", span=(0, 101)),
        (share_curve(gains, len(values), below=len(values) - len(gains)),),
    )
    return Plot(
        chart,
        f"{len(gains)} of {len(values)} gain something; their median gain is "
        f"{float(gains[len(gains) // 2]):.3g}, the largest {float(gains[-1]):.3g} of "
        f"{word}. {worth} gain more than rounding and 1 % of the climb.",
    )


def _fields(recorded: RecordedRun) -> Fields:
    """What is said of every example."""
    numbers, word = recorded.numbers, objective_word(recorded.run.result["objective"])
    kinds = [plain(name) for name in recorded.named("kind")]
    fields: list[tuple[Column, Sequence[Value]]] = [(Column("given"), kinds)]
    if recorded.run.result["clean_accuracy"] is not None:
        reasons = [
            "" if name == "NONE" else plain(name)
            for name in recorded.named("correction")
        ]
        fields += [
            (Column("claimed right"), numbers["claimed"].tolist()),
            (Column("survived"), numbers["survived"].tolist()),
            (Column("corrected as"), reasons),
        ]
    columns = {
        "radii": Column("length", "radii"),
        "clean_losses": Column(f"{word}, clean"),
        "given_losses": Column(f"{word}, given"),
        "reached_losses": Column(f"{word}, reached", words="by ascent from the point"),
        "gained": Column("gained"),
        "residuals": Column("residual"),
    }
    verdicts = ((Column("verdict"), recorded.verdicts()),)
    found = [
        (column, numbers_of_examples(recorded, array))
        for array, column in columns.items()
    ]
    return [*fields, *verdicts, *found, (Column("steps"), numbers["steps"].tolist())]
