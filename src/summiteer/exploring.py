"""Landscapes as a run in a directory: one cell per example."""

import json
from collections import Counter
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from summiteer._version import __version__
from summiteer.cells import Cell, finite
from summiteer.driver import Progress, counting, work_through
from summiteer.engine import Engine, Measurement
from summiteer.errors import UserError, collected_warnings
from summiteer.landscape import (
    Landscape,
    Peak,
    Slice,
    explore,
    landscape_slice,
    runs_to,
)
from summiteer.landscape.slice import Kind
from summiteer.landscape.ways import Ways
from summiteer.population import Population
from summiteer.settings import Settings
from summiteer.store import Store
from summiteer.summary import objective_name, region_record

#: A line costs one axis of a plane: it has so many times its ticks.
_ALONE = 8


@dataclass(frozen=True)
class View:
    """What is looked at of each example.

    Attributes:
        examples: ids.
        restarts: runs per example.
        max_steps: of each.
        slices: kinds of slices.
        resolution: ticks per axis of a plane; `_ALONE` times as many of a line.
    """

    examples: tuple[int, ...]
    restarts: int
    max_steps: int
    slices: tuple[Kind, ...]
    resolution: int

    def names(self) -> dict[str, Any]:
        """What it adds to a run's specification."""
        return {
            "examples": list(self.examples),
            "restarts": self.restarts,
            "max_steps": self.max_steps,
            "slices": list(self.slices),
            "resolution": self.resolution,
        }

    def cell(self, store: Store, example: int) -> Cell:
        """The cell of an example, by its id."""
        return Cell("landscape", {"run": store.run, "example": example})


def run_landscapes(
    population: Population,
    settings: Settings,
    view: View,
    store: Store,
    progress: Progress | None = None,
    messages: tuple[str, ...] = (),
    engine: Engine | None = None,
) -> dict[str, Any]:
    """Explore the examples that are not in the store yet, and write result.json.

    Args:
        population: of which the examples are some.
        settings: region, box, objective, adversary, seed and search distance.
        view: what is looked at.
        store: open for writing.
        progress: told after each example.
        messages: of warnings met before.
        engine: runs the cells; this process if None.

    Returns:
        The content of result.json.
    """
    cells = [view.cell(store, example) for example in view.examples]
    finished = store.names()
    todo = [(n, cell) for n, cell in enumerate(cells) if cell.name not in finished]
    report = counting(progress, len(cells) - len(todo), len(cells))
    function = partial(measured_landscape, population, settings, view)
    work_through(store, todo, function, engine, report, keep_failures=False)
    records: list[Any] = [store.record(cell.name) for cell in cells]
    said = [text for record in records for text in record.values["messages"]]
    result = {
        "schema": 1,
        "command": "landscape",
        "version": __version__,
        "run": store.run,
        "seed": settings.seed,
        "examples": list(view.examples),
        "region": region_record(settings, population.head),
        "objective": objective_name(population.head.objective),
        "restarts": view.restarts,
        "max_steps": view.max_steps,
        "within": settings.within,
        "landscapes": [record.values["landscape"] for record in records],
        "messages": list(dict.fromkeys([*messages, *said])),
        "seconds": round(sum(r.environment["seconds"] for r in records), 3),
        "files": ["run.json", "store.sqlite", *(f"arrays/{r.arrays}" for r in records)],
    }
    store.write_json("result.json", result)
    return result


def measured_landscape(
    population: Population, settings: Settings, view: View, cell: Cell
) -> Measurement:
    """What is recorded of an example.

    Args:
        population: of which it is one.
        settings: of the command.
        view: what is looked at.
        cell: names the example.
    """
    example: Any = cell.spec["example"]
    place = (population.ids == example).nonzero().flatten()
    with collected_warnings() as texts:
        problem = population.part(place)
        land = explore(
            problem,
            view.restarts,
            settings.seed,
            settings.adversary,
            view.max_steps,
            settings.within,
        )
        slices, without = _slices(land, settings, view)
    record = landscape_record(land, 0) | {
        "id": example,
        "target": problem.targets[0].tolist(),
        "slices": {kind: slice_record(each) for kind, each in slices.items()},
        "no_slices": without,
    }
    arrays = {
        "maxima": torch.stack([peak.point for peak in land.peaks[0]])
        if land.peaks[0]
        else land.ends[:0, 0].cpu(),
        "label": land.maxima.label[:, 0],
        "losses": land.losses[:, 0],
        "steps": land.steps[:, 0].cpu(),
        **{name: values[:, 0] for name, values in vars(land.ways).items()},
    }
    for kind, each in slices.items():
        arrays |= slice_arrays(kind, each)
    arrays = {name: values.contiguous() for name, values in arrays.items()}
    tables = {"slices": json.dumps(record["slices"])}
    return Measurement({"messages": texts, "landscape": record}, arrays, tables)


def _slices(
    land: Landscape, settings: Settings, view: View
) -> tuple[dict[str, Slice], dict[str, str]]:
    """The slices that can be had, and why others cannot, by kind."""
    found: dict[str, Slice] = {}
    without: dict[str, str] = {}
    paths = None
    if view.slices:
        paths = runs_to(land, 0, settings.adversary, max_steps=view.max_steps)
    for kind in view.slices:
        ticks = view.resolution
        if kind != "plane":
            ticks = _ALONE * ticks + 1
        try:
            found[kind] = landscape_slice(land, kind, 0, resolution=ticks, paths=paths)
        except UserError as error:
            without[kind] = str(error)
    return found, without


def landscape_record(land: Landscape, example: int) -> dict[str, Any]:
    """What a landscape says about one example, as JSON; null where undefined.

    Args:
        land: explored.
        example: its index.
    """
    verdicts: dict[str, dict[str, int]] = {}
    for (verdict, evidence), count in land.verdicts(example).items():
        verdicts.setdefault(verdict.name, {})[evidence.name] = count
    outcomes = Counter(outcome.name for outcome in land.outcome[:, example])
    arrived = land.arrived.maximum.reshape(land.restarts, len(land))[:, example]
    signs = {"+": 1, "-": -1}
    per_sign = land.per_sign(example)
    scalar = bool(land.sign[:, example].any())
    return {
        "restarts": land.restarts,
        "outcomes": dict(outcomes),
        "verdicts": verdicts,
        "at_maximum": int(arrived.sum()),
        "counted": int((land.maxima.label[:, example] >= 0).sum()),
        "saddles": land.saddles(example),
        "count": int(land.count[example]),
        "count_per_sign": {s: per_sign.get(n, 0) for s, n in signs.items()}
        if scalar
        else None,
        "at_least": int(land.at_least[example]),
        "at_most": finite(float(land.at_most[example])),
        "complete": bool(land.complete[example]),
        "unseen": finite(float(land.maxima.unseen[example])),
        "unseen_bound": finite(float(land.maxima.unseen_bound[example])),
        "spread": finite(float(land.spread[example])),
        "a_priori": finite(float(land.a_priori[example])),
        "maxima": [_peak(peak) for peak in land.peaks[example]],
        "ways": _ways(land.ways, land.steps, example),
        "gradient_evaluations": land.gradient_evaluations,
    }


def _peak(peak: Peak) -> dict[str, Any]:
    low, high = peak.share_interval
    names = ("distance_bound", "uniqueness_radius", "curvature_ratio")
    return {
        "loss": finite(peak.loss),
        "norm": float(peak.point.norm()),
        "sign": peak.sign,
        "runs": peak.runs,
        "share": peak.share,
        "share_interval": [low, high],
        "verdict": peak.verdict.name,
        "evidence": peak.evidence.name,
        "apart": peak.apart.name,
        "joined": peak.joined.name,
        **{name: finite(getattr(peak, name)) for name in names},
        "indices": {
            "global": finite(peak.index_global),
            "unique": finite(peak.index_unique),
        },
    }


def _ways(ways: Ways, steps: Tensor, example: int) -> dict[str, Any]:
    """Quartiles over the runs."""
    numbers = {name: values[:, example] for name, values in vars(ways).items()}
    numbers["steps"] = steps[:, example].cpu().double()
    quarters = torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)
    return {
        name: [finite(q) for q in values.nanquantile(quarters).tolist()]
        for name, values in numbers.items()
    }


def slice_record(each: Slice) -> dict[str, Any]:
    """What is said of a slice beside its arrays, as JSON.

    Args:
        each: any slice.
    """
    return {
        "axes": list(each.axes),
        "radius": each.radius,
        "marks": [mark.name for mark in each.marks],
        "paths": [path.name for path in each.paths],
    }


def slice_arrays(kind: str, each: Slice) -> dict[str, Tensor]:
    """The arrays of a slice, under names that begin with its kind.

    Args:
        kind: of slice.
        each: the slice.
    """
    arrays = {
        "values": each.values,
        "inside": each.inside,
        "origin": each.origin,
        "directions": each.directions,
    }
    for axis, ticks in enumerate(each.coordinates):
        arrays[f"coordinates.{axis}"] = ticks
    for group in ("marks", "paths"):
        for number, shown in enumerate(getattr(each, group)):
            for name in ("coordinates", "away", "losses"):
                arrays[f"{group}.{number}.{name}"] = getattr(shown, name)
    return {f"{kind}.{name}": values for name, values in arrays.items()}
