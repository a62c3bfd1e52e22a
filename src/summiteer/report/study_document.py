"""What the cells of a study measured, as a page: a table, failures, curves."""

import json
import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from summiteer.report.charts import Axis, Lines, Series
from summiteer.report.cut import kept
from summiteer.report.document import (
    Block,
    Code,
    Column,
    Document,
    Facts,
    Plot,
    Prose,
    Section,
    Table,
    Value,
)
from summiteer.report.finished import Finished
from summiteer.report.methods_text import command_blocks
from summiteer.report.portraits import portraits
from summiteer.report.wording import plural
from summiteer.studies.experiments import EXPERIMENTS
from summiteer.studies.experiments.portrait import PORTRAIT

#: Rows of a table; of more some are left out.
_ROWS = 500
#: Curves of a chart; more are put together.
_CURVES = 7
_CHARTS = 24
_LONGEST = 80
#: In turn: curves that lie on each other are seen both.
_DASHES: tuple[Literal["solid", "dash", "dot"], ...] = ("solid", "dash", "dot")
#: From this ratio of largest to smallest on an axis is logarithmic: of parameters,
#: which are chosen, and of numbers.
_SPREAD, _FAR = 10.0, 30.0
_TICKS = 8


@dataclass(frozen=True)
class Grid:
    """What varies from cell to cell, and what was measured.

    Attributes:
        axes: parameters that vary together, and their values, as the study has them.
        fixed: the others.
        measured: names of what was measured.
        rows: one per cell.
    """

    axes: tuple[Mapping[str, Sequence[Any]], ...]
    fixed: Mapping[str, Any]
    measured: tuple[str, ...]
    rows: tuple[Mapping[str, Any], ...]

    @classmethod
    def of(cls, result: Mapping[str, Any]) -> Self:
        """Of a study's result.

        Args:
            result: content of result.json.
        """
        study = result["study"]
        axes = tuple(study["axes"])
        wide = tuple(a for a in axes if len(next(iter(a.values()))) > 1)
        same = {k: v[0] for a in axes if a not in wide for k, v in a.items()}
        given = {"cell", *study["fixed"], *(name for axis in axes for name in axis)}
        names = dict.fromkeys(name for row in result["table"] for name in row)
        measured = tuple(name for name in names if name not in given)
        return cls(wide, {**study["fixed"], **same}, measured, tuple(result["table"]))

    @property
    def varied(self) -> tuple[str, ...]:
        """The parameters that vary."""
        return tuple(name for axis in self.axes for name in axis)

    def across(self) -> tuple[str, tuple[str, ...]] | None:
        """(the parameter that curves are drawn over, those that tell curves apart).

        The numeric one of most values, seeds aside; None where there is none.
        """
        best: tuple[str, Mapping[str, Any]] | None = None
        most = 1
        for axis in self.axes:
            for name, values in axis.items():
                count = len(set(map(_key, values)))
                if name != "seed" and all(map(_numeric, values)) and count > most:
                    best, most = (name, axis), count
        if best is None:
            return None
        name, own = best
        others = [axis for axis in self.axes if axis is not own]
        apart = [other for axis in others for other in axis if other != "seed"]
        return name, tuple(apart)


def study_document(run: Finished) -> Document:
    """The page of `study run`.

    Args:
        run: of that command.
    """
    result = run.result
    grid = Grid.of(result)
    cells, experiment = result["cells"], str(result["study"]["experiment"])
    sections = (
        Section("Failures", _failures(result["failures"])),
        Section("What was measured", _measured(grid, experiment)),
        Section("Curves", _curves(grid, experiment)),
        Section("Landscapes at several input scales", _portraits(run)),
        Section("Cells", _cells(grid)),
        Section("The same in all cells", _fixed(grid)),
        _made(run),
    )
    return Document(
        title=f"Study {result['name']}",
        lead=_lead(result, grid),
        sections=tuple(section for section in sections if section.blocks),
        footer=run.footer,
        facts={
            "experiment": experiment,
            "cells": f"{cells['done']} of {cells['planned']}",
            "failed": str(cells["failed"]),
            "varied": ", ".join(grid.varied) or "nothing",
        },
    )


def _portraits(run: Finished) -> tuple[Block, ...]:
    pictured = run.result["study"]["experiment"] == PORTRAIT.name
    return portraits(run) if pictured else ()


def _lead(result: Mapping[str, Any], grid: Grid) -> tuple[str, ...]:
    cells = result["cells"]
    missing = cells["planned"] - cells["done"] - cells["failed"]
    told = [f"{cells['done']} of {plural(cells['planned'], 'cell')} were measured"]
    told += [f"{cells['failed']} failed"] if cells["failed"] else []
    told += [f"{missing} {'is' if missing == 1 else 'are'} missing"] if missing else []
    lead = [f"{', '.join(told)}."]
    experiment = EXPERIMENTS.get(result["study"]["experiment"])
    if experiment is not None:
        lead.append(f"What they measure: {experiment.summary}.")
    if grid.axes:
        parts = [
            f"{name} ({len(set(map(_key, values)))} values)"
            for axis in grid.axes
            for name, values in axis.items()
        ]
        lead.append(f"What varies from cell to cell: {', '.join(parts)}.")
    return tuple(lead)


def _failures(failures: Sequence[Mapping[str, Any]]) -> tuple[Block, ...]:
    if not failures:
        return ()
    kinds = Counter(str(failure["error"]) for failure in failures)
    most, count = kinds.most_common(1)[0]
    text = (
        f"{plural(len(failures), 'cell')} failed with {len(kinds)} different errors, "
        f"{count} of them with: {_cut(most, 300)}"
    )
    if len(kinds) == 1:
        text = f"{plural(len(failures), 'cell')} failed: {_cut(most, 300)}"
    names = list(
        dict.fromkeys(name for each in failures for name in each["parameters"])
    )
    changing = [
        name
        for name in names
        if len({_key(each["parameters"].get(name)) for each in failures}) > 1
    ]
    columns = (*(Column(name) for name in changing), Column("cell"), Column("error"))
    rows = tuple(
        (
            *(_value(each["parameters"].get(name)) for name in changing),
            str(each["cell"]),
            _cut(str(each["error"]), 300),
        )
        for each in (failures[n] for n in kept(len(failures), _ROWS))
    )
    table = Table("", columns, rows, _note(len(failures), "failures"), filtered=True)
    again = "What failed is run again by the study's command with --retry-failed."
    return (Prose(text, "warning"), table, Prose(again, "note"))


def _measured(grid: Grid, experiment: str) -> tuple[Block, ...]:
    """What each measured number is, where the experiment says it."""
    known = EXPERIMENTS.get(experiment)
    about = known.columns if known else {}
    told = {name: about[name] for name in grid.measured if about.get(name)}
    pairs = tuple((name, text.replace("`", "'")) for name, text in told.items())
    return (Facts(pairs),) if pairs else ()


def _curves(grid: Grid, experiment: str) -> tuple[Block, ...]:
    found = grid.across()
    if found is None or not grid.rows:
        return ()
    name, apart = found
    numbers = [each for each in grid.measured if _changes(grid.rows, each)]
    plots = [_plot(grid, name, apart, each, experiment) for each in numbers[:_CHARTS]]
    known = [plot for plot in plots if plot is not None]
    if not known:
        return ()
    same = [each for each in grid.measured if _constant(grid.rows, each)]
    told = f"Each measured number against {name}. Lines are means over the cells that "
    told += "have it at a point, bands go from the lowest to the highest of them."
    if same:
        values = (f"{each} ({_text(grid.rows[0][each])})" for each in same)
        told += f" The same in all cells: {', '.join(values)}."
    if numbers[_CHARTS:]:
        told += f" Not drawn: {', '.join(numbers[_CHARTS:])}."
    return (Prose(told, "note"), *known)


def _plot(
    grid: Grid, name: str, apart: tuple[str, ...], number: str, experiment: str
) -> Plot | None:
    """One number over the parameter."""
    groups: dict[str, dict[float, list[float]]] = {}
    values = {name: {_key(row.get(name)) for row in grid.rows} for name in apart}
    telling = [each for each in apart if len(values[each]) > 1]
    labels = {
        tuple(_key(row.get(each)) for each in telling): ", ".join(
            f"{each} {_text(row.get(each))}" for each in telling
        )
        for row in grid.rows
    }
    pooled = len(labels) > _CURVES
    cells = Counter[str]()
    for row in grid.rows:
        if not _numeric(row.get(name)):
            continue
        label = labels[tuple(_key(row.get(each)) for each in telling)]
        label = "" if pooled else label
        cells[label] += 1
        if _numeric(row.get(number)):
            points = groups.setdefault(label, {})
            points.setdefault(float(row[name]), []).append(float(row[number]))
    if not groups:
        return None
    series = tuple(
        _series(label, points, _DASHES[number % len(_DASHES)])
        for number, (label, points) in enumerate(groups.items())
    )
    every = [value for each in series for value in (*each.y, *each.low, *each.high)]
    places = sorted({x for each in series for x in each.x if x is not None})
    ticks = tuple(places) if len(places) <= _TICKS else ()
    horizontal = Axis(name, log=_wide(places, _SPREAD), ticks=ticks)
    chart = Lines(number, horizontal, Axis(number, log=_wide(every, _FAR)), series)
    known = EXPERIMENTS.get(experiment)
    about = known.columns.get(number, "") if known else ""
    words = f"{about[:1].upper()}{about[1:]}. ".replace("`", "'") if about else ""
    told = "; ".join(_told(each, name) for each in series)
    told += _left_out(cells, groups)
    words += f"{told[:1].upper()}{told[1:]}." if not series[0].name else f"{told}."
    if pooled:
        words += f" All of {', '.join(telling)} together."
    return Plot(chart, words)


def _series(
    label: str,
    points: Mapping[float, Sequence[float]],
    dash: Literal["solid", "dash", "dot"],
) -> Series:
    """Means with their band; no band where each point is one cell."""
    x = tuple(sorted(points))
    y = tuple(statistics.fmean(points[each]) for each in x)
    several = any(min(points[each]) < max(points[each]) for each in x)
    low = tuple(min(points[each]) for each in x) if several else ()
    high = tuple(max(points[each]) for each in x) if several else ()
    return Series(label, x, y, low, high, look="both", dash=dash)


def _told(each: Series, name: str) -> str:
    """A curve's first and last point in words."""
    named = f"{each.name}: " if each.name else ""
    if len(each.x) == 1:
        return f"{named}{_text(each.y[0])} at {name} {_text(each.x[0])}"
    return (
        f"{named}from {_text(each.y[0])} at {name} {_text(each.x[0])} to "
        f"{_text(each.y[-1])} at {_text(each.x[-1])}"
    )


def _left_out(
    cells: Mapping[str, int], groups: Mapping[str, Mapping[float, Sequence[float]]]
) -> str:
    """Of which curves a mean is one of some cells only."""
    told = []
    for label, count in cells.items():
        missing = count - sum(map(len, groups.get(label, {}).values()))
        if missing:
            of = f" of {label}" if label else ""
            told.append(f"{missing} of {plural(count, 'cell')}{of}")
    return f"; left out, without this number: {', '.join(told)}" if told else ""


def _cells(grid: Grid) -> tuple[Block, ...]:
    if not grid.rows:
        return (Prose("No cell was measured."),)
    names = (*grid.varied, *grid.measured)
    columns = tuple(Column(name) for name in names)
    shown = [grid.rows[n] for n in kept(len(grid.rows), _ROWS)]
    rows = tuple(tuple(_value(row.get(name)) for name in names) for row in shown)
    note = _note(len(grid.rows), "cells")
    return (Table("", columns, rows, note, filtered=True),)


def _note(count: int, what: str) -> str:
    if count <= _ROWS:
        return ""
    return (
        f"Of {count} {what} {_ROWS} are listed, evenly spread; all are in result.json."
    )


def _fixed(grid: Grid) -> tuple[Block, ...]:
    told = {name: _text(value) for name, value in grid.fixed.items() if value != ""}
    pairs = tuple(told.items())
    return (Facts(pairs),) if pairs else ()


def _made(run: Finished) -> Section:
    result = run.result
    cells = plural(result["cells"]["done"], "cell")
    text = (
        f"Summiteer {result['version']} (torch {result['torch']}) ran the experiment "
        f"{result['study']['experiment']} in {cells} of study {result['name']}. The "
        "table, with all digits:"
    )
    export = Code("summiteer study export RUN", "RUN is the directory of this page")
    blocks = (*command_blocks(run.directory), Prose(text), export)
    return Section("How it was made", blocks)


def _numeric(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and math.isfinite(value)


def _known(rows: Sequence[Mapping[str, Any]], name: str) -> list[Any]:
    return [row.get(name) for row in rows if row.get(name) is not None]


def _changes(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether it is a number in all cells that have it, and not always the same."""
    known = _known(rows, name)
    return bool(known) and all(map(_numeric, known)) and not _constant(rows, name)


def _constant(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether all cells have it, and the same."""
    return len({_key(row.get(name)) for row in rows}) == 1


def _wide(values: Sequence[float | None], ratio: float) -> bool:
    """Whether an axis is better logarithmic."""
    known = [value for value in values if value is not None]
    return min(known) > 0 and max(known) >= ratio * min(known)


def _key(value: Any) -> str:
    """Equal for equal values; lists and tables among them have no hash."""
    return json.dumps(value, sort_keys=True)


def _value(value: Any) -> Value:
    if value is None or isinstance(value, bool | int | float):
        return value
    return _text(value)


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    return _cut(value if isinstance(value, str) else json.dumps(value), _LONGEST)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
