"""The last lines of a command: where its page is, and what to do next."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from summiteer.report.pages import DOCUMENTS
from summiteer.searching import EFFORTS

#: A bound of the chance that another restart finds something new is high from here on.
_VAGUE = 0.3


def closing_text(
    result: Mapping[str, Any], directory: str, page: Path | None, advice: str = ""
) -> str:
    """Where the page of a run is, and what to do next.

    Args:
        result: content of result.json.
        directory: of the run.
        page: report.html; None if it was not written.
        advice: what to do next; by what was found if it is "".
    """
    named = shlex.quote(directory)
    place = f"none; `summiteer report {named}` writes it" if page is None else page
    has_page = result["command"] in DOCUMENTS
    told = advice or _ADVICE[result["command"]](result, named)
    if not told and has_page:
        told = f"summiteer report {named} --open"
    lines = [f"report: {place}"] * has_page + [f"next:   {told}"] * bool(told)
    return "\n".join(lines)


def _attack(result: Mapping[str, Any], directory: str) -> str:
    if result["findings"]:
        return "what the findings above say: they decide what the numbers are worth"
    survivors = result["survivors"]
    if result.get("property"):
        return _further(result)
    if result.get("clean_accuracy") == 0:
        return (
            "every example is wrong without any attack: look at model, labels, --mean "
            "and --std"
        )
    if survivors["examples"] == 0:
        return "no example withstands: a smaller --radius shows where that begins"
    return _further(result) or (
        "--explain ID with the same command says why an example has its verdict"
    )


def _further(result: Mapping[str, Any]) -> str:
    """A higher effort, where it might find more than is found."""
    search, proved = result["search"], result.get("proved_robust_accuracy")
    done = proved is not None and proved == result["robust_accuracy"]
    if not search or done or search["budget"] >= EFFORTS["thorough"].budget:
        return ""
    if result["survivors"]["examples"] == 0:  # a violated property
        return ""
    shares = result["survivors"]["shares"] or result["shares"]
    if (search["unseen_bound"] or 0) > _VAGUE or shares.get("undecided"):
        return "--effort thorough with the same command searches further"
    return ""


def _audit(result: Mapping[str, Any], directory: str) -> str:
    if result["findings"]:
        return "what the findings above say"
    return "`summiteer attack` with this MODEL and DATA searches for stronger points"


def _landscape(result: Mapping[str, Any], directory: str) -> str:
    if any(not land["complete"] for land in result["landscapes"]):
        return "--restarts N with more runs meets more maxima, if there are more"
    return ""


def _study(result: Mapping[str, Any], directory: str) -> str:
    if result["cells"]["failed"]:
        return "--retry-failed with the same command, once the cause is gone"
    return f"summiteer study export {directory}"


def _reproduce(result: Mapping[str, Any], directory: str) -> str:
    if result["cells"]["failed"]:
        return "--retry-failed with the same command, once the cause is gone"
    if result["extent"] == "quick":
        return "`summiteer reproduce --out DIR` without --quick measures all of it"
    return ""


_ADVICE: Mapping[str, Callable[[Mapping[str, Any], str], str]] = {
    "attack": _attack,
    "audit": _audit,
    "landscape": _landscape,
    "study": _study,
    "reproduce": _reproduce,
}
