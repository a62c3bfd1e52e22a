"""Verdicts on the paper's claims, on the terminal."""

import textwrap
from collections.abc import Mapping
from typing import Any

from rich.text import Text

from summiteer.report.terminal import Output, output
from summiteer.studies.claims.rules import percentage

#: What a verdict means, in a line; the rule of each claim says when it is given.
GLOSSES = {
    "supported": "the whole 95 % interval lies where the claim says",
    "no effect": "the whole interval is too close to none to matter",
    "reversed": "the whole interval lies on the other side of none",
    "not supported": "the whole interval lies where the claim does not",
    "inconclusive": "the interval holds both, or more measuring could overturn it",
    "not reached": "what was to be measured did not happen within the limit",
    "as it must be": "a control, in which theory forbids any change: there is none",
    "a bug of ours": "a control moved that must not: do not trust this run, report it",
    "not judged": "shown, but too little was measured for the rule",
}
_STYLES = {
    "supported": "green",
    "reversed": "red",
    "not supported": "red",
    "a bug of ours": "bold red",
    "inconclusive": "yellow",
}
_WIDTH = 78


def print_claims(result: Mapping[str, Any], directory: str) -> None:
    """Print a line per verdict, what the verdicts mean, and where the rest is.

    Args:
        result: content of result.json of `reproduce`.
        directory: of the run.
    """
    console = output()
    for claim in result["claims"]:
        console.say(f"{claim['key']}  {claim['title']}", style="bold")
        for judgement in claim["judgements"]:
            _print_judgement(console, judgement)
        console.print()
    met = [j["standing"] for c in result["claims"] for j in c["judgements"]]
    for standing, gloss in GLOSSES.items():
        if standing in met:
            console.say(f"{standing}: {gloss}")
    cells, decided = result["cells"], result["decided"]
    if decided is not None:
        console.say(
            f"{percentage(decided, 2)} of the end points of two-layer networks are "
            "decided"
        )
    if cells["failed"]:
        told = f"{cells['failed']} cells failed (--retry-failed runs them again):"
        console.say(told, style="red")
        for text in result["errors"]:
            console.say(f"  {text}")
    console.say(f"rules, numbers and figure: {directory}/report.html, result.json")


def _print_judgement(console: Output, judgement: Mapping[str, Any]) -> None:
    standing = judgement["standing"]
    head = f"  {standing.upper():<14}"
    where = f"{judgement['protocol']}; {judgement['regime']}: "
    body = textwrap.fill(
        head + where + judgement["sentence"],
        _WIDTH,
        subsequent_indent=" " * len(head),
        break_long_words=False,
    )
    text = Text(body)
    text.stylize(_STYLES.get(standing, ""), 2, len(head))
    console.print(text, soft_wrap=True)
