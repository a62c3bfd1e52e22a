"""What `landscape` found of single examples, as a page."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from summiteer.optimality import Evidence, Verdict
from summiteer.report.charts import Axis, Bars, Lines, Part, Series
from summiteer.report.cut import Cut
from summiteer.report.document import (
    Block,
    Column,
    Document,
    Facts,
    Link,
    Plot,
    Prose,
    Section,
    Table,
)
from summiteer.report.finished import Finished
from summiteer.report.landscape_headline import found_words, landscape_headline
from summiteer.report.methods_text import command_blocks
from summiteer.report.slice_charts import (
    ON_IT,
    curve_chart,
    plane_chart,
    range_words,
    tops_words,
)
from summiteer.report.wording import (
    at_least,
    at_most,
    number,
    percent,
    plain,
    plural,
    region_words,
    share_above,
    share_below,
    verdict_words,
)
from summiteer.store import Store

#: Examples whose slices are drawn; of the others there are numbers.
_DRAWN = 6
#: Maxima of an example that are listed and drawn.
_LISTED = 50
#: Rows that are seen at once need no filter.
_FEW = 8

_KINDS = ("plane", "circle", "line")
_MAXIMA = (
    Column("maximum", words="its number, the highest first"),
    Column("verdict"),
    Column("evidence"),
    Column("loss"),
    Column("u", words="sign of the slope of the loss there"),
    Column("runs"),
    Column("share", "%", "of the runs from uniform starts"),
    Column("share from", "%", "lower end of its 95 % interval, of each for itself"),
    Column("share to", "%", "upper end"),
    Column("κ", words="curvature ratio, below 1 at a strict maximum on the ball"),
    Column("λ⁺/μ", words="measured; below 1 nothing is higher for this sign of u"),
    Column("apart", words="how it is told from each of the others"),
    Column("joined", words="how its runs are known to have ended in one maximum"),
)
_EXAMPLES = (
    Column("example"),
    Column("target"),
    Column("maxima seen"),
    Column("at least", words="proved"),
    Column("at most", words="proved"),
    Column("completely known", words="proved"),
    Column("runs at a maximum", "%"),
    Column("unseen", "%", "estimated chance that one more run ends at a new maximum"),
    Column("unseen at most", "%", "95 %, of each example for itself"),
    Column("spread", "%", "how far the lowest maximum's loss is below the highest's"),
    Column("q", words="a-priori index; below 1 there is one maximum per sign of u"),
)
_WAYS = {
    "steps": "steps",
    "straightness": "straightness (1: a straight way)",
    "monotonicity": "share of steps that rise",
    "gradient_variation": "variation of the gradient (0: the same all along)",
    "gradient_slope": "largest slope of the gradient",
}
#: What slices are laid through.
_POINTS = (
    ("'centre'", "the input itself, unperturbed"),
    ("'maximum 0'", "the highest maximum that was met; 1 the next, and so on"),
    ("'gradient'", "the farthest allowed point along the gradient at the centre"),
    ("'random'", "the farthest allowed point in a random direction"),
)


def landscape_document(run: Finished) -> Document:
    """The page of `landscape`.

    Args:
        run: of that command.

    Raises:
        UserError: the run's arrays are not there, or damaged.
    """
    result = run.result
    lands = result["landscapes"]
    drawn = lands[:_DRAWN]
    with Store.read(run.directory) as store:
        names = {each.spec["example"]: each.name for each in store.finished().values()}
        arrays = [store.arrays(names[land["id"]]) for land in drawn]
    sections = [_overview(lands)] if len(lands) > 1 else []
    for land, own in zip(drawn, arrays, strict=True):
        sections.append(_section(land, own, result["region"], len(lands) > 1))
    region = result["region"]
    return Document(
        title=f"Landscape of {run.spec['model']} on {run.spec['data']}",
        lead=landscape_headline(lands),
        sections=(*sections, _meanings(lands), _made(run)),
        footer=run.footer,
        facts={
            "examples": str(len(lands)),
            "runs of each": str(result["restarts"]),
            "region": region_words(region),
            "objective": str(result["objective"]),
        },
    )


def _overview(lands: Sequence[Mapping[str, Any]]) -> Section:
    rows = tuple(
        (
            land["id"],
            _target(land),
            land["count"],
            land["at_least"],
            land["at_most"],
            land["complete"],
            land["at_maximum"] / land["restarts"],
            land["unseen"],
            None if land["unseen_bound"] is None else share_above(land["unseen_bound"]),
            # A share of the loss: of one that is not positive it says nothing.
            land["spread"] if _highest(land) > 0 else None,
            land["a_priori"],
        )
        for land in lands
    )
    note = ""
    if len(lands) > _DRAWN:
        note = f"Below, the first {_DRAWN} are drawn; all are in result.json."
    table = Table("", _EXAMPLES, rows, note, filtered=len(lands) > _FEW)
    return Section("Examples", (table.told(),))


def _highest(land: Mapping[str, Any]) -> float:
    return (land["maxima"][0]["loss"] or 0.0) if land["maxima"] else 0.0


def _section(
    land: Mapping[str, Any],
    arrays: Mapping[str, Tensor],
    region: Mapping[str, Any],
    several: bool,
) -> Section:
    blocks: list[Block] = []
    if several:
        blocks.append(Prose(" ".join(found_words(land))))
    cuts = _cuts(land, arrays, region)
    for kind in _KINDS:
        # The line is the first axis of the plane.
        if kind in cuts and not (kind == "line" and "plane" in cuts):
            blocks += _pictures(cuts[kind], land, region)
    for kind, why in land["no_slices"].items():
        blocks.append(Prose(f"There is no {kind}: {why}", "note"))
    if not cuts and not land["no_slices"]:
        blocks.append(Prose("No slice was asked for.", "note"))
    blocks += [*_basins(land), *_maxima(land), *_ends(land), *_ways(land)]
    title = f"Example {land['id']}, target {_target(land)}"
    return Section(title, tuple(blocks))


def _cuts(
    land: Mapping[str, Any], arrays: Mapping[str, Tensor], region: Mapping[str, Any]
) -> dict[str, Cut]:
    radius = _radius(land, region)
    return {
        kind: Cut.of(kind, said, arrays, region["norm"], radius)
        for kind, said in land["slices"].items()
    }


def _radius(land: Mapping[str, Any], region: Mapping[str, Any]) -> float | None:
    """Of the example; None where there are several and no circle says which."""
    circle = land["slices"].get("circle")
    if circle:
        return float(circle["radius"])
    return None if isinstance(region["radius"], list) else float(region["radius"])


def _pictures(
    cut: Cut, land: Mapping[str, Any], region: Mapping[str, Any]
) -> list[Block]:
    radius = _radius(land, region)
    words = _slice_words(cut, radius)
    maxima = land["maxima"]
    if cut.kind == "plane":
        marked = {mark.name for mark in cut.marks}
        shown = [p for n, p in enumerate(maxima) if f"maximum {n}" in marked]
        proved = sum(peak["evidence"] == Evidence.PROVED.name for peak in shown)
        above = (
            f"The same plane from above. Marked maxima: {proved} proved (filled), "
            f"{len(shown) - proved} numerical (open). Colours tell apart what is "
            "allowed, inside the border; beyond it those of the ends go on."
        )
        # Beside each other.
        space, flat = (
            replace(plane_chart(cut, title, maxima, each), wide=False)
            for each, title in (
                (True, "The objective on a plane"),
                (False, "The plane as a map"),
            )
        )
        return [Plot(space, words), Plot(flat, above)]
    title = "Along a line"
    if cut.kind == "circle":
        title = "Round a great circle of the sphere"
    return [Plot(curve_chart(cut, title, maxima, radius), words)]


def _slice_words(cut: Cut, radius: float | None) -> str:
    """What a slice shows, with its numbers."""
    told = [f"The {cut.kind} goes {_through(cut)}."]
    if cut.kind == "plane":
        told = [f"Its first axis goes {cut.axes[0]}, its second {cut.axes[1]}."]
    told.append(range_words(cut))
    if cut.kind == "circle":
        told.append(f"At this resolution it has {tops_words(cut.tops())}.")
    if cut.kind == "plane" and cut.ways:
        away = max(max(way.away) for way in cut.ways)
        told.append(
            f"The ways of {plural(len(cut.ways), 'run')} are drawn at their own "
            f"heights and came from up to {away:.3g} beside it."
        )
    shown = [mark for mark in cut.marks if mark.name.startswith("maximum")]
    beside = [mark for mark in shown if mark.away[0] > ON_IT * (radius or 1.0)]
    if cut.kind == "plane" and beside:
        away = max(mark.away[0] for mark in beside)
        told.append(
            f"{len(beside)} of {len(shown)} maxima lie beside it, by up to {away:.3g}, "
            "and are drawn at their own heights."
        )
    if cut.thinned:
        told.append("Of its ticks 101 per axis are drawn; all are in arrays/.")
    return " ".join(told)


def _through(cut: Cut) -> str:
    return ", ".join(cut.axes).removeprefix("angle ").removesuffix(", radians")


def _basins(land: Mapping[str, Any]) -> list[Block]:
    """Shares of the runs that ended in each maximum, with their intervals."""
    every = land["maxima"]
    maxima = every[:_LISTED]
    if len(maxima) < 2:
        return []
    x: list[float | None] = []
    y: list[float | None] = []
    for place, peak in enumerate(maxima):
        low, high = peak["share_interval"]
        x += [100 * low, 100 * high, None]
        y += [float(place), float(place), None]
    series = [Series("95 % interval", tuple(x), tuple(y), colour="quiet")]
    kinds = dict.fromkeys((peak["verdict"], peak["evidence"]) for peak in maxima)
    for kind in kinds:
        own = [
            (place, peak)
            for place, peak in enumerate(maxima)
            if (peak["verdict"], peak["evidence"]) == kind
        ]
        shares = tuple(100 * peak["share"] for _, peak in own)
        numbers = tuple(float(place) for place, _ in own)
        colour = "green" if kind[1] == "PROVED" else "orange"
        texts = tuple(
            f"maximum {place}, loss {number(peak['loss'])}" for place, peak in own
        )
        series.append(
            Series(
                verdict_words(*kind),
                shares,
                numbers,
                look="points",
                colour=colour,
                texts=texts,
            )
        )
    down = Axis("maximum, 0 is the highest", span=(len(maxima) - 0.5, -0.5))
    chart = Lines(
        "Basins: share of the runs", Axis("% of uniform starts", span=(0.0, 100.0)),
        down, tuple(series),
    )  # fmt: skip
    first = maxima[0]
    low, high = first["share_interval"]
    largest = max(every, key=lambda peak: peak["share"])
    words = (
        f"The highest maximum has {percent(first['share'])} of the runs "
        f"({at_least(low)} to {at_most(high)}); the largest basin, that of maximum "
        f"{every.index(largest)}, {percent(largest['share'])}."
    )
    if len(every) > len(maxima):
        words += f" Drawn are the {len(maxima)} highest of {len(every)}."
    return [Plot(chart, words)]


def _maxima(land: Mapping[str, Any]) -> list[Block]:
    maxima = land["maxima"]
    if not maxima:
        return []
    rows = tuple(
        (
            place,
            plain(peak["verdict"]),
            peak["evidence"].lower(),
            peak["loss"],
            {1: "+", -1: "-"}.get(peak["sign"], ""),
            peak["runs"],
            peak["share"],
            share_below(peak["share_interval"][0]),
            share_above(peak["share_interval"][1]),
            peak["curvature_ratio"],
            peak["indices"]["global"],
            peak["apart"].lower() if len(maxima) > 1 else None,
            peak["joined"].lower() if peak["runs"] > 1 else None,
        )
        for place, peak in enumerate(maxima[:_LISTED])
    )
    note = ""
    if len(maxima) > _LISTED:
        note = f"{len(maxima) - _LISTED} lower ones are in result.json."
    table = Table("Distinct maxima", _MAXIMA, rows, note, len(maxima) > _FEW)
    return [table.told()]


def _ends(land: Mapping[str, Any]) -> list[Block]:
    """What the points are where the adversary's own runs ended."""
    verdicts = land["verdicts"]
    names = [verdict.name for verdict in Verdict if verdict.name in verdicts]
    if not names:
        return []
    parts = tuple(
        Part(
            evidence.name.lower(),
            tuple(float(verdicts[name].get(evidence.name, 0)) for name in names),
            "green" if evidence is Evidence.PROVED else "orange",
            evidence is Evidence.NUMERICAL,
        )
        for evidence in Evidence
        if any(evidence.name in verdicts[name] for name in names)
    )
    bars = tuple(plain(name) for name in names)
    chart = Bars("Where the adversary's own runs ended", Axis("runs"), bars, parts)
    told = [
        f"{plain(name)}: "
        + ", ".join(f"{n} {how.lower()}" for how, n in verdicts[name].items())
        for name in names
    ]
    words = f"Of {plural(land['restarts'], 'run')}: {'; '.join(told)}."
    return [Plot(chart, words)]


def _ways(land: Mapping[str, Any]) -> tuple[Block, Facts]:
    """How the runs climbed."""
    pairs: list[tuple[str, str | Link]] = []
    for name, words in _WAYS.items():
        low, middle, high = land["ways"][name]
        if middle is not None:
            spread = f"{number(middle)} ({number(low)} to {number(high)})"
            pairs.append((words, spread))
    if land["a_priori"] is not None:
        q = "a-priori index q (below 1: one maximum per sign of u)"
        pairs.append((q, f"{number(land['a_priori'])}, measured"))
    pairs.append(("gradient evaluations", str(land["gradient_evaluations"])))
    words = "How the runs climbed: medians, and quartiles in brackets."
    return Prose(words), Facts(tuple(pairs))


def _meanings(lands: Sequence[Mapping[str, Any]]) -> Section:
    """Each verdict on the page in a line, and what proved and numerical mean."""
    met = {peak["verdict"] for land in lands for peak in land["maxima"]}
    met |= {name for land in lands for name in land["verdicts"]}
    pairs = [(plain(each.name), each.value) for each in Verdict if each.name in met]
    pairs += [(each.name.lower(), each.value) for each in Evidence]
    if any(land["slices"] for land in lands):
        pairs += _POINTS
    return Section("What the words mean", (Facts(tuple(pairs)),))


def _made(run: Finished) -> Section:
    """What was run, for a methods section."""
    result, spec = run.result, run.spec
    adversary = str(spec["adversary"])
    climbed = "the region's default adversary" if adversary == "None" else adversary
    examples = ", ".join(str(each) for each in result["examples"][:20])
    more = len(result["examples"]) - 20
    examples += f" and {more} more" if more > 0 else ""
    text = (
        f"Summiteer {result['version']} (torch {spec['torch']}) explored the "
        f"{result['objective']} objective of {spec['model']} on {spec['data']}, "
        f"{'example' if len(result['examples']) == 1 else 'examples'} {examples}: "
        f"{plural(result['restarts'], 'run')} of at most "
        f"{plural(result['max_steps'], 'step')} each by {climbed}, from starts uniform "
        f"on the region ({region_words(result['region'])}), seed {result['seed']}; "
        f"search distance of verdicts {result['within']:g} radii; "
        f"{result['seconds']:.1f} s of computing."
    )
    blocks: list[Block] = [*command_blocks(run.directory), Prose(text)]
    blocks += [Prose(message, "warning") for message in result["messages"]]
    return Section("How it was made", tuple(blocks))


def _target(land: Mapping[str, Any]) -> str:
    target = land["target"]
    return f"{target:.4g}" if isinstance(target, float) else str(target)
