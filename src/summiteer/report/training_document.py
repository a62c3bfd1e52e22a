"""A training as a page: its curves, and beneath them the inner problem's health."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from summiteer.report.charts import Axis, Lines, Mark, Series
from summiteer.report.cut import kept
from summiteer.report.document import (
    Block,
    Column,
    Document,
    Facts,
    Fold,
    Plot,
    Prose,
    Section,
    Table,
)
from summiteer.report.finished import Finished
from summiteer.report.methods_text import command_blocks
from summiteer.report.wording import (
    at_most,
    percent,
    plural,
    region_words,
    rounded_down,
    share_above,
)

#: Epochs that are drawn and listed; of more some are left out.
_EPOCHS = 300
#: Alarms that are marked in a chart.
_MARKS = 50
#: Rows that are seen at once need no filter.
_FEW = 12

_PERCENT = Axis("%", span=(0.0, 100.0))
#: Curves of the training: how each group is drawn, and each kind of number.
_GROUPS: Mapping[str, Literal["solid", "dot"]] = {"held_out": "solid", "train": "dot"}
_KINDS = {"clean": "blue", "robust": "orange"}
_CURVES = {
    f"{group}_{kind}_{what}": f"{kind}, {group.replace('_', ' ')}"
    for group in _GROUPS
    for kind in _KINDS
    for what in ("accuracy", "loss")
}
#: A chart of the inner problem: its title, its axis, name of a number -> words.
_Panel = tuple[str, Axis, Mapping[str, str]]
_SHARES: _Panel = (
    "Where the training attack ends, on the probes",
    _PERCENT,
    {
        "stationary": "stationary",
        "maximum": "within reach of a local maximum",
        "proved_maximum": "proved to be",
        "undecided": "undecided",
    },
)
_ATTACKS: _Panel = (
    "Accuracy on the probes",
    _PERCENT,
    {
        "clean_accuracy": "clean",
        "attacked_accuracy": "under the training attack",
        "strong_accuracy": "under a stronger attack",
    },
)
_LOSSES: _Panel = (
    "Mean loss on the probes",
    Axis("loss"),
    {
        "clean_loss": "clean",
        "attacked_loss": "where the training attack ends",
        "strong_loss": "highest that a stronger attack meets",
    },
)
_OTHERS: tuple[_Panel, ...] = (
    ("Residual, median", Axis("residual", log=True), {"residual": "residual"}),
    ("Frank-Wolfe gap (FOSC), mean", Axis("loss", log=True), {"gap": "gap"}),
    ("Curvature ratio κ, median", Axis("κ"), {"curvature_ratio": "κ"}),
    (
        "Indices of regularity, median",
        Axis("index", log=True),
        {"index_global": "λ⁺/μ", "index_unique": "unique", "index_a_priori": "q"},
    ),
    (
        "Places where runs end, mean per probe",
        Axis("distinct ends"),
        {"distinct_maxima": "distinct ends"},
    ),
    (
        "Chance that one more run ends elsewhere, mean",
        _PERCENT,
        {"unseen": "unseen mass"},
    ),
    ("Frank-Wolfe distortion, mean", Axis("distortion"), {"distortion": "distortion"}),
)
#: What a value of 1 means, where it means something.
_AT_ONE = {
    "curvature_ratio": "below 1: a strict maximum",
    "index_global": "below 1: none higher, or one alone, for this sign of u",
}
_MEANINGS = (
    ("inner problem", "the maximisation that the training attack is to solve"),
    ("probes", "examples that are looked at again and again, the same each time"),
    (
        "stationary",
        "the residual is below its tolerance: next to no slope is left "
        "within the region",
    ),
    (
        "residual",
        "first-order, of the training attack's end: 0 at a stationary point, "
        "maximum or not",
    ),
    ("proved", "an inequality between real numbers, rounding included"),
    ("Frank-Wolfe gap (FOSC)", "what the slope at the end promises within the region"),
    ("curvature ratio κ", "curvature by multiplier; below 1 at a strict maximum"),
    (
        "indices",
        "measured; below 1 nothing is higher, or there is one maximum only, "
        "for this sign of u",
    ),
    ("distinct ends", "different points in which several runs from one probe end"),
    ("unseen mass", "estimated chance that one more run ends in none of these"),
    ("distortion", "1 where signs of the gradient stay as they are within the ball"),
)


def training_document(run: Finished) -> Document:
    """The page of `train`.

    Args:
        run: of that command.
    """
    result = run.result
    epochs = result["epochs"]
    return Document(
        title=f"Adversarial training of {run.spec['model']} on {run.spec['data']}",
        lead=_lead(result),
        sections=tuple(
            section
            for section in (
                _alarms(result),
                Section("Training", _curves(epochs)),
                _inner(result),
                _table(epochs),
                _made(run),
            )
            if section.blocks
        ),
        footer=run.footer,
        facts={
            "epochs": str(len(epochs)),
            "trained on": plural(result["examples"], "example"),
            "held out": plural(result["held_out_examples"], "example"),
            "region": region_words(result["region"]),
            "alarms": str(len(result["alarms"])),
        },
    )


def _lead(result: Mapping[str, Any]) -> tuple[str, ...]:
    epochs = result["epochs"]
    if not epochs:
        stopped = result["stopped"] or "why is not recorded"
        return (f"No epoch was finished: {stopped.removesuffix('.')}.",)
    told = [*_outcome(epochs, result["held_out_examples"]), _health(epochs)]
    if result["alarms"]:
        first = result["alarms"][0]
        told.insert(0, f"ALARM at {plural(len(result['alarms']), 'look')}: {first}")
    if result["stopped"]:
        why = result["stopped"].removesuffix(".")
        told.append(f"The training stopped before its time: {why}.")
    return tuple(told)


def _outcome(epochs: Sequence[Mapping[str, Any]], examples: int) -> list[str]:
    """What the model is worth at last, as far as it is known."""
    share = "held_out_robust_accuracy"
    known = [each for each in epochs if each[share] is not None]
    if known:
        last = known[-1]
        told = [
            f"After epoch {last['epoch']} at most {at_most(last[share])} of "
            f"{plural(examples, 'held-out example')} are robust (the others "
            "are wrong, or a stronger attack than that of the training breaks them); "
            f"{percent(last['held_out_clean_accuracy'])} are right without one."
        ]
        best = max(known, key=lambda each: (each[share], -each["epoch"]))
        if best[share] > last[share]:
            told.append(
                f"It was more after epoch {best['epoch']}: at most "
                f"{at_most(best[share])}."
            )
        return told
    known = [each for each in epochs if each["held_out_robust_loss"] is not None]
    if known:
        last = known[-1]
        return [
            f"After epoch {last['epoch']} the mean loss of "
            f"{plural(examples, 'held-out example')} is at least "
            f"{rounded_down(last['held_out_robust_loss']):g} under attack (the "
            f"highest met), and {last['held_out_clean_loss']:.4g} without."
        ]
    last = epochs[-1]
    at = f"robust loss {last['train_robust_loss']:.4g}"
    if last["train_robust_accuracy"] is not None:
        at = f"robust accuracy {percent(last['train_robust_accuracy'])}"
    return [
        f"In epoch {last['epoch']} the {at} was reached at the points trained on: no "
        "held-out examples were attacked, so that nothing is known of others."
    ]


def _health(epochs: Sequence[Mapping[str, Any]]) -> str:
    """What the last look at the inner problem saw."""
    looks = _looks(epochs)
    if not looks:
        return "The inner problem was not watched."
    last = looks[-1]
    text = (
        f"After epoch {last['epoch']} the training attack ended at a stationary point "
        f"on {percent(last['stationary'])} of {plural(last['probes'], 'probe')}"
    )
    examined = [look for look in looks if look["examined"]]
    if not examined:
        return f"{text}; no certificates were made."
    last = examined[-1]
    return (
        f"{text}; of {last['examined']} examined after epoch {last['epoch']}, "
        f"{percent(last['maximum'])} ended within reach of a local maximum, "
        f"{percent(last['proved_maximum'])} by proof."
    )


def _looks(epochs: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """The looks at the inner problem that were made."""
    return [
        each["inner"] for each in epochs if each["inner"] and each["inner"]["probes"]
    ]


def _alarms(result: Mapping[str, Any]) -> Section:
    """All of them, for charts mark only where they were."""
    blocks: list[Block] = [Prose(alarm, "warning") for alarm in result["alarms"][:20]]
    if len(result["alarms"]) > 20:
        blocks.append(Prose(f"and {len(result['alarms']) - 20} more", "note"))
    return Section("Alarms", tuple(blocks))


def _curves(epochs: Sequence[Mapping[str, Any]]) -> tuple[Block, ...]:
    """Accuracy and loss: held out drawn through, of the training dotted."""
    marks = _marks(epochs)
    plots = []
    for what, axis in (("accuracy", _PERCENT), ("loss", Axis("mean loss"))):
        series = [
            replace(made, dash=dash, colour=colour)
            for group, dash in _GROUPS.items()
            for kind, colour in _KINDS.items()
            if (made := _series(epochs, f"{group}_{kind}_{what}", axis is _PERCENT))
        ]
        named = tuple(replace(each, name=_CURVES[each.name]) for each in series)
        if named:
            title = f"Robust and clean {what}"
            chart = Lines(title, _across(named), axis, named, marks, wide=True)
            plots.append(Plot(chart, _words(named, axis is _PERCENT)))
    rate = _series(epochs, "learning_rate", False)
    if rate is not None and len(set(rate.y)) > 1:
        title = "Learning rate"
        chart = Lines(title, _across([rate]), Axis(""), (replace(rate, name=title),))
        plots.append(Plot(chart, _words(chart.series, False)))
    note = (
        "Train: at the points trained on, before each step, by the model in train "
        "mode; clean in eval mode. Held out: after the epoch, under a stronger attack, "
        "whose success bounds the robust accuracy from above."
    )
    left = [Prose(_left_out(len(epochs)), "note")] if len(epochs) > _EPOCHS else []
    return (*plots, Prose(note, "note"), *left) if plots else ()


def _inner(result: Mapping[str, Any]) -> Section:
    epochs = result["epochs"]
    looks = _looks(epochs)
    if not looks:
        return Section(
            "Inner problem", (Prose("It was not watched."),) if epochs else ()
        )
    marks = _marks(epochs)
    plots, single = [], []
    for title, axis, names in (_SHARES, _ATTACKS, _LOSSES, *_OTHERS):
        share = axis is _PERCENT
        series = [
            replace(made, name=words)
            for name, words in names.items()
            if (made := _series(looks, name, share))
        ]
        # No curve is made of one point, and a logarithmic axis shows no 0.
        curves = [
            each
            for each in series
            if len(each.x) > 1 and (not axis.log or _positive(each))
        ]
        single += [
            (
                title if len(names) == 1 else f"{title}: {each.name}",
                _points(each, share),
            )
            for each in series
            if each not in curves
        ]
        if curves:
            at_one = [
                Mark(1.0, _AT_ONE[name], "y") for name in names if name in _AT_ONE
            ]
            # Two words in one chart would lie on each other.
            bare = [replace(mark, words="") for mark in marks] if at_one else marks
            every = (*bare, *at_one)
            chart = Lines(title, _across(curves), axis, tuple(curves), every)
            plots.append(Plot(chart, _words(curves, share)))
    blocks: list[Block] = [*plots]
    if single:
        blocks.append(Facts(tuple(single)))
    examined = max(look["examined"] for look in looks)
    note = (
        f"Looked at after {len(looks)} of {plural(len(epochs), 'epoch')} on "
        f"{plural(looks[-1]['probes'], 'probe')}"
    )
    if examined:
        note += f", certificates of at most {examined}"
    cost = looks[-1]["cost"]
    note += (
        f"; it took {percent(cost)} of the time of everything else." if cost else "."
    )
    words = Fold("What the numbers mean", (Facts(_MEANINGS),))
    return Section("Inner problem", (*blocks, Prose(note, "note"), words))


def _series(rows: Sequence[Mapping[str, Any]], name: str, share: bool) -> Series | None:
    """A number over the epochs in which it was measured; None if it never was."""
    known = [row for row in rows if row[name] is not None]
    if not known:
        return None
    known = [known[n] for n in kept(len(known), _EPOCHS)]
    x = tuple(float(row["epoch"]) for row in known)
    y = tuple(100.0 * row[name] if share else float(row[name]) for row in known)
    return Series(name, x, y, look="both" if len(known) <= 60 else "line")


def _positive(series: Series) -> bool:
    return all(value is not None and value > 0 for value in series.y)


def _across(series: Sequence[Series]) -> Axis:
    """Epochs; few of them get a tick each, for there is nothing between them."""
    epochs = sorted({x for each in series for x in each.x if x is not None})
    return Axis("epoch", ticks=tuple(epochs) if len(epochs) <= 12 else ())


def _words(series: Sequence[Series], share: bool) -> str:
    """First and last value of each curve; of a single one its values."""
    unit = " %" if share else ""
    told = []
    for each in series:
        first, last = _number(each.y[0], share), _number(each.y[-1], share)
        text = f"{last}{unit} in epoch {each.x[-1]:g}"
        if len(each.y) > 1:
            text = f"{first}{unit} in epoch {each.x[0]:g}, then {text}"
        told.append(f"{each.name}: {text}")
    return f"{'; '.join(told)}."


def _points(series: Series, share: bool) -> str:
    """What is too little for a curve."""
    unit = " %" if share else ""
    return "; ".join(
        f"{_number(y, share)}{unit} after epoch {x:g}"
        for x, y in zip(series.x, series.y, strict=True)
    )


def _number(value: float | None, share: bool) -> str:
    if value is None:
        return "–"
    return f"{value:.1f}" if share else f"{value:.4g}"


def _marks(epochs: Sequence[Mapping[str, Any]]) -> tuple[Mark, ...]:
    """Where there was an alarm; in words at the first, for others stand beside it."""
    found = [float(look["epoch"]) for look in _looks(epochs) if look["alarm"]]
    shown = [found[n] for n in kept(len(found), _MARKS)]
    word = "alarm" if len(found) == 1 else "alarms"
    return tuple(
        Mark(at, "" if number else word, colour="red")
        for number, at in enumerate(shown)
    )


#: Numbers of an epoch, and of its look at the inner problem, in the table.
_OUTER = {
    "epoch": Column("epoch"),
    "learning_rate": Column("learning rate"),
    "train_robust_loss": Column("train loss", words="robust"),
    "train_robust_accuracy": Column("train robust", "%"),
    "train_clean_accuracy": Column("train clean", "%"),
    "held_out_robust_loss": Column("held-out loss", words="highest met"),
    "held_out_robust_accuracy": Column("held-out robust", "%", "at most"),
    "held_out_clean_accuracy": Column("held-out clean", "%"),
}
_INNER = {
    "stationary": Column("stationary", "%"),
    "maximum": Column("maximum", "%"),
    "proved_maximum": Column("proved", "%", "proved to be near a local maximum"),
    "curvature_ratio": Column("κ", words="median curvature ratio"),
}


def _table(epochs: Sequence[Mapping[str, Any]]) -> Section:
    rows = []
    for place in kept(len(epochs), _EPOCHS):
        each = epochs[place]
        inner = each["inner"] or {}
        seconds = each["seconds"] + each["evaluation_seconds"]
        rows.append(
            (
                *(_cell(name, each[name]) for name in _OUTER),
                *(inner.get(name) for name in _INNER),
                seconds + inner.get("seconds", 0.0),
                (inner.get("alarm") or "").partition(" in epoch ")[0],
            )
        )
    note = _left_out(len(epochs)) if len(epochs) > _EPOCHS else ""
    columns = *_OUTER.values(), *_INNER.values(), Column("seconds"), Column("alarm")
    table = Table("", columns, tuple(rows), note, filtered=len(rows) > _FEW)
    return Section("Epochs", (table.told(),) if rows else ())


def _cell(name: str, value: float | None) -> float | None:
    """A number of an epoch; what is a bound from above is rounded up."""
    if name == "held_out_robust_accuracy" and value is not None:
        return share_above(value)
    return value


def _left_out(count: int) -> str:
    return (
        f"Of {count} epochs {_EPOCHS} are shown, evenly spread; all are in result.json."
    )


def _made(run: Finished) -> Section:
    """What was run, for a methods section."""
    result, spec = run.result, run.spec
    text = (
        f"Summiteer {result['version']} (torch {spec['torch']}) trained "
        f"{spec['model']} for {plural(len(result['epochs']), 'epoch')} on "
        f"{plural(result['examples'], 'example')} of {spec['data']} in batches of "
        f"{spec['batch_size']} with {str(spec['optimizer']).partition(' ')[0]}, "
        f"minimising {result['objective']} at the points that "
        f"{plural(spec['max_steps'], 'step')} of {spec['adversary']} from "
        f"{spec['start']} reach in the region ({region_words(result['region'])}), seed "
        f"{result['seed']}; {result['seconds']:.1f} s of computing."
    )
    blocks: list[Block] = [*command_blocks(run.directory), Prose(text)]
    blocks += [Prose(message, "warning") for message in result["messages"]]
    optimizer = _optimizer(str(spec["optimizer"]))
    blocks.append(Prose(f"The optimiser as it was at first: {optimizer}.", "note"))
    return Section("How it was made", tuple(blocks))


def _optimizer(told: str) -> str:
    """Its name and settings; what is off or 0 is left out."""
    name, _, rest = told.partition(" ")
    settings = re.findall(
        r'\["(\w+)", ([\d.e+-]+|true|\{"(?:tuple|list)": \[[\d.e+, -]+\]\})\]', rest
    )
    shown = {
        key: re.sub(r"^.*\[|\].*$", "", value).replace(", ", " and ")
        for key, value in settings
        if key != "params" and value not in {"0", "0.0"}
    }
    return ", ".join([name, *(f"{key} {value}" for key, value in shown.items())])
