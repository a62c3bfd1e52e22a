"""What `summiteer landscape` prints."""

from collections.abc import Mapping
from math import ceil, floor
from typing import Any

from rich.table import Table

from summiteer.optimality import Verdict
from summiteer.report.landscape_headline import found_words
from summiteer.report.terminal import Output, output, print_verdicts
from summiteer.report.wording import number, percent, plain, plural, region_words

#: Maxima that are listed; the others are in result.json.
_LISTED = 12


def print_landscapes(result: Mapping[str, Any], directory: str) -> None:
    """Print what was found of each example.

    Args:
        result: content of result.json.
        directory: of the run.
    """
    console = output()
    console.say(
        f"{plural(len(result['examples']), 'example')}, "
        f"{region_words(result['region'])}, {result['objective']}, "
        f"{result['restarts']} uniform starts each, seed {result['seed']}"
    )
    for land in result["landscapes"]:
        console.print()
        _print_one(console, land)
    console.print()
    _print_words(console, result["landscapes"])
    for text in result["messages"]:
        console.say(text, "yellow")
    console.say(f"{result['seconds']:.1f} s; maxima, runs and slices in")
    console.say(f"{directory}/  (result.json, arrays/*.safetensors)")


def _print_one(console: Output, land: Mapping[str, Any]) -> None:
    console.say(f"example {land['id']}, target {land['target']}", "bold")
    for sentence in found_words(land):
        console.say(sentence)
    verdicts = land["verdicts"].items()
    print_verdicts(console, {k: v for k, v in verdicts if not Verdict[k].is_maximum})
    if land["maxima"]:
        _print_maxima(console, land["maxima"])
    if land["spread"] is not None and land["count"] > 1:
        high, low = (land["maxima"][place]["loss"] for place in (0, -1))
        below = percent(land["spread"]) if high > 0 else f"{high - low:.3g}"
        console.say(f"the lowest maximum's loss is {below} below the highest's")
    if land["a_priori"] is not None:
        console.say(
            f"a-priori index q {land['a_priori']:.3g}, measured (below 1: one maximum "
            "per sign of u)"
        )
    _print_ways(console, land["ways"])
    for kind, said in land["slices"].items():
        console.say(f"slice ({kind}): {'; '.join(said['axes'])}")
    for kind, why in land["no_slices"].items():
        console.say(f"no {kind}: {why}")


def _print_words(console: Output, lands: list[Mapping[str, Any]]) -> None:
    """What the words and letters of the tables mean."""
    maxima = [peak for land in lands for peak in land["maxima"]]
    if not maxima:
        return
    for verdict in Verdict:
        if any(peak["verdict"] == verdict.name for peak in maxima):
            console.say(f"{_words(verdict.name)}: {verdict.value}")
    console.say("share: of uniform starts, 95 % interval of each for itself")
    if any(peak["curvature_ratio"] is not None for peak in maxima):
        console.say("κ: curvature ratio, below 1 at a strict maximum on the ball")
    if any(peak["indices"]["global"] is not None for peak in maxima):
        console.say("λ⁺/μ: measured; below 1 nothing is higher for this sign of u")
    if any(len(land["maxima"]) > 1 for land in lands):
        console.say(
            "apart: proved to be another maximum than each of the others, or "
            "(numerical) told apart by distance"
        )


def _words(verdict: str) -> str:
    """A verdict's name in a table of maxima."""
    return plain(verdict.removesuffix("_MAXIMUM"))


def _print_maxima(console: Output, maxima: list[Mapping[str, Any]]) -> None:
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))
    columns = ("", "loss", "u", "runs", "share, 95 %", "verdict", "κ", "λ⁺/μ", "apart")
    for name in columns:
        left = name in ("verdict", "apart", "share, 95 %")
        table.add_column(name, justify="left" if left else "right", no_wrap=True)
    for place, peak in enumerate(maxima[:_LISTED]):
        low, high = peak["share_interval"]
        table.add_row(
            str(place),
            f"{peak['loss']:.5g}",
            {1: "+", -1: "-"}.get(peak["sign"], ""),
            str(peak["runs"]),
            f"{floor(100 * low)} … {ceil(100 * high)} %",
            f"{_words(peak['verdict'])}, {peak['evidence'].lower()}",
            number(peak["curvature_ratio"]),
            number(peak["indices"]["global"]),
            peak["apart"].lower() if len(maxima) > 1 else "",
        )
    console.print(table)
    console.say(
        "u: sign of the output's error; κ: curvature over multiplier, below 1 at a "
        "strict maximum; λ⁺/μ: below 1 nothing is higher; apart: how it is told from "
        "the others"
    )
    if len(maxima) > _LISTED:
        console.say(f"   and {len(maxima) - _LISTED} lower ones, in result.json")
    several = [peak for peak in maxima if peak["runs"] > 1]
    near = sum(peak["joined"] != "PROVED" for peak in several)
    if near:
        console.say(
            f"runs that ended in one maximum: put together by distance for {near}, by "
            f"proof for {len(several) - near}"
        )


def _print_ways(console: Output, ways: Mapping[str, Any]) -> None:
    """Medians over the runs."""
    words = {
        "steps": "{} steps",
        "straightness": "straightness {}",
        "monotonicity": "{} of the steps rise",
        "gradient_variation": "gradient variation {}",
        "gradient_slope": "its largest slope {}",
    }
    told = [
        text.format((percent if name == "monotonicity" else number)(ways[name][1]))
        for name, text in words.items()
        if ways[name][1] is not None
    ]
    if told:
        console.say(f"ways (medians): {', '.join(told)}")
