"""Tables on the terminal: 80 columns, plain in a pipe, NO_COLOR respected."""

import re
from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from summiteer.optimality import Verdict
from summiteer.outcome import Outcome
from summiteer.report.findings_text import findings_text
from summiteer.report.wording import (
    at_least,
    at_most,
    examined_in,
    number,
    objective_word,
    over_some,
    percent,
    plural,
    region_words,
)

_WIDTH = 80
#: A count, or what is set off by two spaces: the rest of a line stands under its rest.
_HEAD = re.compile(r" +\d+ (?=[^\d ])|.{,40}\s{2}(?=\S)| +")
#: From this bound of a chance on, its estimate would say more than is known.
_VAGUE = 0.3


class Output(Console):
    """Sentences are wrapped between words on a terminal; a pipe gets whole lines."""

    def say(self, text: str, style: str = "", whole: bool = False) -> None:
        """Print one sentence, or lines of them.

        Args:
            text: what to print.
            style: of rich.
            whole: never wrapped: a command to be copied.
        """
        if self.is_terminal and not whole:
            text = "\n".join(_wrapped(line, self.width) for line in text.split("\n"))
        self.print(Text(text, style=style), soft_wrap=True)


def _wrapped(line: str, width: int) -> str:
    """A line whose rest stands under what it is about."""
    head = _HEAD.match(line)
    return fill(
        line,
        width,
        subsequent_indent=" " * (head.end() if head else 0),
        break_long_words=False,
        break_on_hyphens=False,
    )


def output() -> Output:
    """Where to print: as wide as the terminal, 80 columns in a pipe."""
    # In a pipe the width is not the reader's: tables get what a terminal shows.
    wide = None if Console().is_terminal else _WIDTH
    return Output(highlight=False, width=wide)


def print_attack(result: Mapping[str, Any], directory: str) -> None:
    """Print what an attack found and what it is worth.

    Args:
        result: content of result.json.
        directory: of the run.
    """
    console = output()
    console.say(
        f"{plural(result['examples'], 'example')}, {region_words(result['region'])}, "
        f"{result['objective']}, seed {result['seed']}"
    )
    console.print()
    _print_accuracy(console, result)
    console.print()
    _print_shares(console, result)
    console.print()
    print_verdicts(console, result["verdicts"])
    _print_outcomes(console, result)
    _print_more(console, result)
    _print_search(console, result)
    console.print()
    print_screen(console, result["screen"])
    print_findings(console, result["findings"])
    console.print()
    console.say(
        f"{result['gradient_evaluations']} gradient evaluations, "
        f"{result['seconds']:.1f} s besides the screen; points and verdicts in"
    )
    console.say(f"{directory}/  (result.json, arrays/*.safetensors)")


def print_findings(console: Output, findings: Sequence[Mapping[str, Any]]) -> None:
    """Print each finding of result.json as a line.

    Args:
        console: where to.
        findings: entries of result.json.
    """
    if findings:
        console.say(findings_text(findings), "yellow")


def print_screen(console: Output, screen: Mapping[str, Any]) -> None:
    """Say what the failure screen looked at.

    Args:
        console: where to.
        screen: of result.json: "checks", code -> "clear", "found", "found: see CODE" or
            "not run: reason"; "sample", ids of examples, none without --no-screen.
    """
    said = list(screen["checks"].values())
    if not said:
        return
    missing = sum(each.startswith("not run") for each in said)
    found, clear = said.count("found"), said.count("clear")
    follow = len(said) - missing - found - clear
    rest = f" ({follow} more because of them)" if follow else ""
    if missing:
        rest += f", {missing} not run (screen in result.json says why)"
    if screen["sample"]:
        head = f"failure screen: {plural(clear, 'check')} clear"
    else:  # what the run itself shows is read all the same
        head = "failure screen: not run on model and data; of the run itself "
        head += f"{plural(clear, 'check')} clear"
    console.say(f"{head}, {found} found{rest}")


def _print_accuracy(console: Output, result: Mapping[str, Any]) -> None:
    loss = result["loss"]
    if result["clean_accuracy"] is not None:
        console.say(f"clean accuracy   {percent(result['clean_accuracy'])}")
        console.say(
            f"robust accuracy  {at_most(result['robust_accuracy'])}  at most: found "
            "by attack, not proved"
        )
        proved = result["proved_robust_accuracy"]
        if proved is not None:
            console.say(
                f"                 {at_least(proved)}  at least: proved for the "
                "whole region"
            )
        else:
            console.say(f"{'':17}at least: no bound is known for this model and region")
    console.say(
        f"{'mean ' + objective_word(result['objective']):15}  "
        f"{number(loss['clean_mean'])} clean, {number(loss['attacked_mean'])} attacked"
        f"{over_some(result)}"
    )
    within = result.get("within_tolerance")
    if within:
        broken = within.get("not_finite")
        console.say(
            f"within {within['tolerance']:g}: {percent(within['clean'])} clean, "
            f"at most {at_most(within['attacked'])} attacked"
            + (f" ({broken} NaN or infinite count as outside)" if broken else "")
        )


def _print_shares(console: Output, result: Mapping[str, Any]) -> None:
    """The shares over all and over survivors."""
    survivors = result["survivors"]
    everyone, left = result["shares"], survivors["shares"] or {}
    table = Table(box=None, pad_edge=False)
    table.add_column("share of examples whose strongest point is")
    table.add_column(f"all {result['examples']}", justify="right")
    if survivors["examples"] is not None:
        table.add_column(plural(survivors["examples"], "survivor"), justify="right")
    texts = {
        "stationary": f"stationary, examined in {examined_in(result)}",
        "maximum": "within reach of a local maximum",
        "proved_maximum": "  proved to be",
        "proved_global": "  proved to be the global one",
        "apart": "no maximum near, or flat: proved",
        "measured_apart": "no maximum near, or flat: measured",
        "undecided": "undecided",
    }
    for key, text in texts.items():
        row = [text, percent(_known(everyone, key))]
        if survivors["examples"] is not None:
            row.append(percent(_known(left, key)))
        table.add_row(*row)
    console.print(table)


def _known(shares: Mapping[str, float], key: str) -> float | None:
    """A share; "apart" is what is decided and no maximum: by proof, by measurement."""
    if key not in ("apart", "measured_apart") or not shares:
        return shares.get(key)
    proved = shares["proved"] - shares["proved_maximum"]
    rest = 1 - shares["maximum"] - proved - shares["undecided"]
    # A difference of shares: what is left of none is rounding.
    return proved if key == "apart" else max(round(rest, 9), 0.0)


def print_verdicts(console: Output, verdicts: Mapping[str, Mapping[str, int]]) -> None:
    """Print how many points have each verdict, how that is known, what it means.

    Args:
        console: where to.
        verdicts: of result.json.
    """
    for verdict in [each for each in Verdict if each.name in verdicts]:
        known = verdicts[verdict.name]
        how = ", ".join(f"{evidence.lower()} {n}" for evidence, n in known.items())
        count = sum(known.values())
        console.say(f"{count:6d} {verdict.name} ({how}): {verdict.value}")


def _print_outcomes(console: Output, result: Mapping[str, Any]) -> None:
    for name, count in result["outcomes"].items():
        if name != Outcome.STATIONARY.name:
            console.say(f"{count:6d} stopped as {name}: {Outcome[name].value}")


def _print_more(console: Output, result: Mapping[str, Any]) -> None:
    more, survivors = result["more_steps"], result["survivors"]["examples"]
    if not more or not survivors:
        return
    console.print()
    style = "yellow" if more["flipped"] else ""
    console.say(
        f"{more['steps']} more steps flip {more['flipped']} of "
        f"{plural(survivors, 'survivor')}",
        style,
    )


def _print_search(console: Output, result: Mapping[str, Any]) -> None:
    """What the search's sources found, and what its restarts leave unseen."""
    search = result["search"]
    if not search:
        return
    labelled = result["robust_accuracy"] is not None
    found = ", ".join(f"{name} {n}" for name, n in search["found_by"].items())
    console.say(
        f"search: at most {search['budget']} gradient evaluations per example, before "
        "settling and more steps"
    )
    console.say(f"{'broken' if labelled else 'highest'} by: {found or 'none'}")
    if search["restarted"] and search["unseen"] is not None:
        _print_unseen(console, search, "survivor" if labelled else "example")


def _print_unseen(console: Output, search: Mapping[str, Any], noun: str) -> None:
    """What random restarts met, and what they cannot exclude."""
    restarted, met = plural(search["restarted"], noun), number(search["maxima"])
    console.say(
        f"{restarted} restarted from random points: "
        f"{met} {'maximum' if met == '1' else 'maxima'} met on average;"
    )
    bound = at_most(search["unseen_bound"])
    bounds = "nominal 95 % bounds" if search.get("early_stop") else "95 % bounds"
    if search["unseen_bound"] > _VAGUE:
        console.say(
            "the next restart may find another: its chance is below "
            f"{bound} (mean of {bounds})"
        )
    else:
        console.say(
            f"the next restart finds another with chance {percent(search['unseen'])}, "
            f"at most {bound} (mean of {bounds})"
        )
