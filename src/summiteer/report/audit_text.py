"""The page of `summiteer audit`: what was claimed, what holds, and why."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from summiteer.auditing.findings import CORRECTIONS
from summiteer.auditing.kinds import Kind
from summiteer.outcome import Outcome
from summiteer.report.terminal import Output, output, print_findings, print_verdicts
from summiteer.report.wording import (
    at_least,
    at_most,
    number,
    objective_word,
    over_some,
    percent,
    plural,
    region_words,
)

#: What a correction says about n examples, after "claimed".
_REASONS = {
    "CLEAN_WRONG": "were wrong before any attack",
    "PROJECTED": "are wrong once projected on the region",
    "ASCENT": "turn wrong by ascent from the given point",
    "CENTRE": "turn wrong by a run from the clean input",
    "OUTSIDE_ONLY": "were wrong only outside the region",
    "NOT_FINITE": "were NaN or infinite, and withstood",
}
_REGAINED = ("OUTSIDE_ONLY", "NOT_FINITE")
#: Findings that make the numbers meaningless come before them.
_FATAL = ("OTHER_UNITS", "DELTAS", "PERMUTED")
#: Units of rounding beyond which it is not rounding that is talked of.
_MANY_ULPS = 1000


def print_audit(result: Mapping[str, Any], directory: str) -> None:
    """Print what an audit found.

    Args:
        result: content of result.json.
        directory: of the run.
    """
    console = output()
    console.say(
        f"{plural(result['examples'], 'given point')}, "
        f"{region_words(result['region'])}, {result['objective']}"
    )
    fatal = [f for f in result["findings"] if f["code"] in _FATAL]
    print_findings(console, fatal)
    console.print()
    if result["kinds"]:
        _print_accuracy(console, result)
        console.print()
        _print_points(console, result)
    else:
        _print_nothing(console, result)
    others = [f for f in result["findings"] if f["code"] not in _FATAL]
    if others:
        console.print()
    print_findings(console, others)
    console.print()
    console.say(
        f"{result['gradient_evaluations']} gradient evaluations, "
        f"{result['seconds']:.1f} s; every example in"
    )
    console.say(f"{directory}/  (result.json, arrays/*.safetensors)")


def _print_nothing(console: Output, result: Mapping[str, Any]) -> None:
    """The rows are not inputs of these examples: there are no numbers about them."""
    why = "the rows are not these examples' inputs: see above"
    if result["clean_accuracy"] is not None:
        console.say(f"clean accuracy              {percent(result['clean_accuracy'])}")
    console.say(f"robust accuracy, claimed    {percent(None)}  {why}")
    console.say(f"                 corrected  {percent(None)}")


def _print_points(console: Output, result: Mapping[str, Any]) -> None:
    _print_kinds(console, result)
    _print_excess(console, result)
    _print_gains(console, result)
    console.print()
    console.say("verdicts on the given points (projected where outside):")
    print_verdicts(console, result["verdicts"])
    if result["excess"]["no_input"]:
        console.say(f"{result['excess']['no_input']:6d} no input: nothing to examine")
    broken = result["outcomes"].get(Outcome.NON_FINITE.name)
    if broken:
        console.say(f"{broken:6d} ascents met NaN or infinity")


def _print_accuracy(console: Output, result: Mapping[str, Any]) -> None:
    loss, gains = result["loss"], result["gains"]
    if result["clean_accuracy"] is not None:
        claimed, corrected = (
            result[f"{name}_robust_accuracy"] for name in ("claimed", "corrected")
        )
        console.say(f"clean accuracy              {percent(result['clean_accuracy'])}")
        console.say(
            f"robust accuracy, claimed    {percent(claimed)}  right at the given points"
        )
        console.say(
            f"                 corrected  {at_most(corrected)}  at most: no allowed "
            "point tried here misleads the model"
        )
        for name in CORRECTIONS[1:]:
            count = result["corrections"][name.lower()]
            sign = "+" if name in _REGAINED else "-"
            if count:
                console.say(f"{sign:>29}{count} {_REASONS[name]}")
        proved = result["proved_robust_accuracy"]
        if proved is not None:
            console.say(
                f"                 proved     {at_least(proved)}  at least, for the "
                "whole region"
            )
    given = "given (projected)" if result["excess"]["outside"] else "given"
    console.say(
        f"{'mean ' + objective_word(result['objective']):26}  "
        f"{number(loss['clean_mean'])} clean, "
        f"{number(loss['attacked_mean'])} {given}, {number(gains['reached_mean'])} "
        f"reached from there{over_some(result)}"
    )


def _print_kinds(console: Output, result: Mapping[str, Any]) -> None:
    """What was given, and how many of them the model withstood."""
    labelled = result["clean_accuracy"] is not None
    table = Table(box=None, pad_edge=False)
    table.add_column("the given points are")
    table.add_column("all", justify="right")
    if labelled:
        table.add_column("withstood", justify="right")
    for name, known in result["kinds"].items():
        row = [Kind[name].value, str(known["examples"])]
        table.add_row(*row, *([str(known["withstood"])] if labelled else []))
    console.print(table)


def _print_excess(console: Output, result: Mapping[str, Any]) -> None:
    excess, radii = result["excess"], result["radii"]
    broken = excess["no_input"]
    are = f"{broken} {'is' if broken == 1 else 'are'} no input"
    if excess["outside"]:
        units = ""
        if excess["largest_ulps"] <= _MANY_ULPS:
            units = f" ({number(excess['largest_ulps'])} units of rounding)"
        eight = excess["rounded_to_8_bits"]
        console.say(
            f"{plural(excess['outside'], 'point')} outside the region, by up to "
            f"{number(excess['largest'])}{units}"
            + (f"; {eight} of them as 8 bits explain" if eight else "")
            + (f"; {are}" if broken else "")
        )
    elif broken:
        left = result["examples"] - broken
        console.say(f"{left} inside region and box, up to rounding; {are}")
    else:
        console.say("all inside region and box, up to rounding")
    if radii["longest"] is not None:
        console.say(
            f"longest perturbation {number(radii['longest'])} of the radius (median "
            f"{number(radii['median'])})"
        )


def _print_gains(console: Output, result: Mapping[str, Any]) -> None:
    gains, word = result["gains"], objective_word(result["objective"])
    if not gains["examples"]:
        console.say("ascent from the given points gains nothing worth a word")
        return
    margin = ""
    if gains["margin"] is not None:
        margin = f", {gains['margin']:+.3g} of margin"
    console.say(
        f"ascent from them still gains on {gains['examples']} of "
        f"{result['examples'] - result['excess']['no_input']}: median "
        f"+{number(gains['objective'])} of {word}{margin} "
        f"(largest +{number(gains['objective_largest'])} of {word})"
    )
