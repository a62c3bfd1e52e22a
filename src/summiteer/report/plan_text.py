"""What a plan says: plan.json, and the same in 80 columns."""

from collections.abc import Mapping
from dataclasses import asdict
from itertools import compress
from math import inf, log2
from statistics import fmean
from textwrap import fill
from typing import Any

from rich.table import Table
from rich.text import Text

from summiteer._version import __version__
from summiteer.planning import Checked, Plan, Setting
from summiteer.report.terminal import Output, output
from summiteer.report.wording import at_most, number

#: Gradient evaluations per example at which the curve is printed.
_POINTS = (3, 6, 11, 21, 51, 101, 201, 501, 1001, 2001, 5001)
_BARS = "▁▂▃▄▅▆▇█"
_WIDTH = 79


def plan_document(
    plan: Plan, about: Mapping[str, Any], command_line: str
) -> dict[str, Any]:
    """Return the content of plan.json.

    Args:
        plan: what the pilot came to.
        about: model, data, region and objective.
        command_line: that attacks as the plan says.
    """
    methods = {
        name: {
            "cheapest": _written(plan.cheapest(name)),
            "strongest": _written(plan.strongest(name)),
            "settings": [_written(s) for s in plan.settings if s.method == name],
        }
        for name in plan.methods
    }
    return {
        "schema": 1,
        "command": "plan",
        "version": __version__,
        **about,
        "seed": plan.seed,
        "share": plan.share,
        "sample": {
            "examples": len(plan.examples),
            "ids": list(plan.examples),
            "drawn_from": plan.candidates,
            "total": plan.total,
            "gainless": plan.gainless,
        },
        "loss": {
            "clean": list(plan.clean_losses),
            "best_known": list(plan.best_losses),
            "clean_mean": fmean(plan.clean_losses),
            "best_known_mean": fmean(plan.best_losses),
        },
        "reached": plan.reached,
        "choice": _written(plan.choice),
        "checked": _written(plan.checked),
        "seconds_for_all": plan.checked.seconds * plan.total,
        "command_line": command_line,
        "pilot": {
            "gradient_evaluations_per_example": plan.gradient_evaluations,
            "seconds": plan.seconds,
        },
        "methods": methods,
    }


def _written(worth: Setting | Checked | None) -> dict[str, Any] | None:
    return None if worth is None else asdict(worth)


def print_plan(plan: Plan, command_line: str, labelled: bool) -> None:
    """Print the plan.

    Args:
        plan: what the pilot came to.
        command_line: that attacks as the plan says.
        labelled: whether the sample was drawn among what is classified rightly.
    """
    console = output()
    _print_sample(console, plan, labelled)
    console.print()
    _print_curve(console, plan)
    console.print()
    _print_cheapest(console, plan)
    console.print()
    _print_choice(console, plan)
    console.print()
    console.say(command_line, "bold", whole=True)


def _print_sample(console: Output, plan: Plan, labelled: bool) -> None:
    kind = " and classified rightly" if labelled else ""
    spent = f"{plan.gradient_evaluations:.0f} gradient evaluations per example"
    sentence = (
        f"a pilot on {len(plan.examples)} examples, of {plan.candidates} looked "
        f"at{kind}, seed {plan.seed}: {spent}, {_time(plan.seconds)}"
    )
    console.say(fill(sentence, _WIDTH))
    console.say(
        f"mean loss  {number(fmean(plan.clean_losses))} clean, "
        f"{number(fmean(plan.best_losses))} best known: the highest that anything "
        "below met,\n           a lower bound of the maximum\n"
        "gain       (loss - clean)/(best known - clean), mean over these examples"
    )
    if plan.gainless:
        console.say(f"           (1 for the {plan.gainless} whose loss nothing raised)")


def _print_curve(console: Output, plan: Plan) -> None:
    """The gain against the cost: numbers, and bars whose heights are logarithmic."""
    curves = {name: plan.curve(name, _POINTS) for name in plan.methods}
    known = [any(column) for column in zip(*curves.values(), strict=True)]
    console.say("gain in % within so many gradient evaluations per example")
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("", no_wrap=True)
    for point in compress(_POINTS, known):
        table.add_column(f"{point} ", justify="right", no_wrap=True)
    for name, curve in curves.items():
        cells = [_cell(value, plan.share) for value in compress(curve, known)]
        table.add_row(name, *cells)
    console.print(table)
    console.say("bars: each eighth halves what is missing")


def _cell(value: float | None, share: float) -> Text:
    """A gain and its bar; bold from the share on."""
    if value is None:
        return Text("– ")
    halvings = -log2(1 - value) if value < 1 else inf
    bar = _BARS[int(min(max(halvings - 1, 0), len(_BARS) - 1))]
    return Text(_gain(value) + bar, style="bold" if value >= share else "")


def _gain(value: float) -> str:
    """Per cent, rounded down: 100 is all."""
    return f"{int(1000 * value + 1e-6) / 10:.1f}" if value < 1 else "100"


def _print_cheapest(console: Output, plan: Plan) -> None:
    """What each method needs for the share."""
    console.say(f"what reaches {100 * plan.share:g} % of the gain at least cost")
    table = Table(box=None, pad_edge=False)
    table.add_column("")
    heads = ("steps", "restarts", "gain %", "still right %", "evaluations", "seconds")
    for head in heads:
        table.add_column(head, justify="right", no_wrap=True)
    for name in plan.methods:
        setting = plan.cheapest(name)
        shown = setting or plan.strongest(name)
        accuracy = shown.robust_accuracy
        table.add_row(
            name if setting else f"{name} (never)",
            "–" if shown.steps is None else str(shown.steps),
            "–" if shown.restarts is None else str(shown.restarts),
            _gain(shown.gain),
            "–" if accuracy is None else f"{100 * accuracy:.1f}",
            f"{shown.gradient_evaluations:.0f}",
            number(shown.seconds * plan.total),
        )
    console.print(table)
    notes = [
        "evaluations: of gradients, per example; seconds: about, of the runs alone, "
        f"for {plan.total} examples"
    ]
    if any(plan.cheapest(name) is None for name in plan.methods):
        notes.append("never: not with any setting that was tried; its best is shown")
    console.say(fill("; ".join(notes), _WIDTH))


def _print_choice(console: Output, plan: Plan) -> None:
    """The recommendation, as it was checked."""
    checked = plan.checked
    for sentence in _verdict(plan):
        console.say(fill(sentence, _WIDTH))
    rows = [("gain", checked.gain, checked.gain_interval)]
    if checked.robust_accuracy is not None and checked.robust_interval is not None:
        rows.append(
            ("robust accuracy", checked.robust_accuracy, checked.robust_interval)
        )
    for name, value, (low, high) in rows:
        console.say(
            f"  {name:15}  {_gain(value)} %  (95 % interval over such examples: "
            f"{_gain(low)} to {at_most(high)})"
        )
    console.say(
        f"  cost             {checked.gradient_evaluations:.0f} gradient evaluations "
        f"per example, about {_time(checked.seconds * plan.total)} for {plan.total}"
        "\n                   examples, certificates included"
    )


def _verdict(plan: Plan) -> list[str]:
    share = f"{100 * plan.share:g} %"
    again = "run as an attack on the same examples, from other starts"
    if plan.reached:
        said = [f"choice: {plan.choice}; {again}:"]
        single = [plan.cheapest(name) for name in plan.methods]
        runs = [s for s in single if s is None or s.steps is not None]
        if len(runs) > 1 and all(s and (s.steps, s.restarts) == (1, 0) for s in runs):
            said = ["One step from the centre is enough for every adversary.", *said]
        return said
    if plan.cheapest(plan.choice.method) is None:
        return [
            f"NOT REACHED: nothing that was tried reaches {share} of the gain. The "
            f"best is {plan.choice}; {again}:"
        ]
    return [
        f"NOT CONFIRMED: {plan.choice} reaches {share} in the pilot, and not when "
        f"{again}:"
    ]


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{number(seconds)} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
