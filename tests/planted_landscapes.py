"""Runs of `landscape` with known results, for tests of their page."""

import math

import torch

from summiteer.cells import Cell
from summiteer.report.finished import Finished
from summiteer.store import Store

RADIUS = 2.0
SPEC = {
    "command": "landscape",
    "torch": "2.13.0",
    "model": "nets.py:tanh",
    "data": "data.npz",
    "adversary": "None",
}


def peak(**changes):
    made = {
        "loss": 1.5,
        "norm": 2.0,
        "sign": 0,
        "runs": 6,
        "share": 0.75,
        "share_interval": [0.35, 0.97],
        "verdict": "STRICT_LOCAL_MAXIMUM",
        "evidence": "PROVED",
        "apart": "PROVED",
        "joined": "NUMERICAL",
        "distance_bound": 1e-9,
        "uniqueness_radius": None,
        "curvature_ratio": 0.25,
        "indices": {"global": None, "unique": None},
    }
    return {**made, **changes}


def land(**changes):
    quartiles = [1.0, 2.0, 3.0]
    made = {
        "id": 3,
        "target": 1,
        "restarts": 8,
        "outcomes": {"STATIONARY": 8},
        "verdicts": {"STRICT_LOCAL_MAXIMUM": {"PROVED": 5, "NUMERICAL": 2}},
        "at_maximum": 7,
        "counted": 8,
        "saddles": 0,
        "count": 2,
        "count_per_sign": None,
        "at_least": 1,
        "at_most": None,
        "complete": False,
        "unseen": 0.0,
        "unseen_bound": 0.4,
        "spread": 0.2,
        "a_priori": 1.25,
        "maxima": [peak(), peak(loss=1.2, runs=2, share=0.25, evidence="NUMERICAL",
                                share_interval=[0.03, 0.65])],
        "ways": dict.fromkeys(
            ("straightness", "monotonicity", "gradient_variation", "gradient_slope",
             "steps"), quartiles,
        ),
        "gradient_evaluations": 99,
        "slices": {},
        "no_slices": {},
    }  # fmt: skip
    return {**made, **changes}


def height(x, y):
    """Not symmetric, so that rows are not taken for columns."""
    return x + 10 * y


def slices(count=21, reach=2.2, box=None, norm=2):
    """(what the record says, arrays) of a plane, a circle and a line in the plane."""
    ticks = torch.linspace(-reach, reach, count, dtype=torch.float64)
    x, y = torch.meshgrid(ticks, ticks, indexing="ij")
    points = torch.stack([x, y], -1)
    inside = torch.linalg.vector_norm(points, norm, dim=-1) <= RADIUS
    if box is not None:
        inside &= x <= box
    angle = torch.linspace(-math.pi, math.pi, count, dtype=torch.float64)
    basis, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    arrays = {
        "plane.values": height(x, y),
        "plane.inside": inside,
        "plane.coordinates.0": ticks,
        "plane.coordinates.1": ticks,
        "plane.origin": zero,
        "plane.directions": basis,
        "circle.values": torch.cos(2 * angle),
        "circle.inside": torch.ones(count, dtype=torch.bool),
        "circle.coordinates.0": angle,
        "line.values": height(ticks, 0 * ticks),
        "line.inside": ticks.abs() <= RADIUS,
        "line.coordinates.0": ticks,
    }
    spots = {"centre": (0.0, 0.0), "maximum 0": (2.0, 0.0), "maximum 1": (0.0, 1.0)}
    away = {"centre": 0.0, "maximum 0": 0.0, "maximum 1": 0.5}
    for kind, axes in (("plane", 2), ("circle", 1), ("line", 1)):
        for number, (name, spot) in enumerate(spots.items()):
            place = torch.tensor([spot[:axes]], dtype=torch.float64)
            arrays[f"{kind}.marks.{number}.coordinates"] = place
            arrays[f"{kind}.marks.{number}.away"] = torch.tensor([away[name]]).double()
            arrays[f"{kind}.marks.{number}.losses"] = torch.tensor([1.5]).double()
        way = torch.linspace(0, 1, 300, dtype=torch.float64)[:, None].repeat(1, axes)
        arrays[f"{kind}.paths.0.coordinates"] = way
        arrays[f"{kind}.paths.0.away"] = torch.linspace(0.75, 0, 300).double()
        arrays[f"{kind}.paths.0.losses"] = way[:, 0]
    arrays = {name: values.contiguous() for name, values in arrays.items()}
    axes = {
        "plane": ["from 'centre' to 'maximum 0'", "across it, towards 'maximum 1'"],
        "circle": ["angle from 'maximum 0' towards 'maximum 1', radians"],
        "line": ["from 'centre' to 'maximum 0'"],
    }
    told = {
        kind: {
            "axes": words,
            "radius": RADIUS if kind == "circle" else 0.0,
            "marks": [*spots],
            "paths": ["run 5"],
        }
        for kind, words in axes.items()
    }
    return told, arrays


def planted(directory, lands, arrays=None, spec=None, **changes):
    """A finished run that says so."""
    spec = {**SPEC, **(spec or {})}
    with Store.open(directory, spec) as store:
        for index, each in enumerate(lands):
            cell = Cell("landscape", {"run": store.run, "example": each["id"]})
            store.put(cell, index, {"landscape": each}, arrays or {})
    result = {
        "schema": 1,
        "command": "landscape",
        "version": "0.2.0",
        "run": "abc",
        "seed": 0,
        "examples": [each["id"] for each in lands],
        "region": {"norm": "l2", "radius": RADIUS, "box": None},
        "objective": "Quadratic",
        "restarts": 8,
        "max_steps": 500,
        "within": 1e-3,
        "landscapes": list(lands),
        "messages": [],
        "seconds": 1.0,
        "files": [],
    }
    return Finished(directory, spec, {**result, **changes})
