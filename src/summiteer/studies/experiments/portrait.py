"""Slices of one input's landscape, to be looked at beside those at other scales."""

import json

import torch
from pydantic import PositiveInt

from summiteer.engine import Measurement
from summiteer.exploring import slice_arrays, slice_record
from summiteer.landscape import explore, landscape_slice, runs_to
from summiteer.landscape.slice import Kind
from summiteer.studies.experiment import Experiment
from summiteer.studies.experiments.climb import PaperParameters, paper_problem

KINDS: tuple[Kind, ...] = ("plane", "circle")
#: A circle has so many times the ticks of one axis of a plane.
_FINER = 8


class PortraitParameters(PaperParameters):
    """What is looked at; of the cell's examples the first alone.

    Attributes:
        restarts: runs from uniform starts.
        max_steps: of each.
        resolution: ticks per axis of the plane.
    """

    restarts: PositiveInt = 16
    max_steps: PositiveInt = 500
    resolution: PositiveInt = 41


def measure(parameters: PortraitParameters) -> Measurement:
    """Maxima, a plane through the highest two and a great circle through them.

    Args:
        parameters: of the cell.
    """
    problem = paper_problem(parameters).take(torch.tensor([0]))
    land = explore(
        problem, parameters.restarts, parameters.seed, None, parameters.max_steps
    )
    paths = runs_to(land, 0, max_steps=parameters.max_steps)
    ticks = {"plane": parameters.resolution, "circle": _FINER * parameters.resolution}
    slices = {
        kind: landscape_slice(land, kind, 0, None, ticks[kind] + 1, paths)
        for kind in KINDS
    }
    arrays = {
        name: values.contiguous()
        for kind, each in slices.items()
        for name, values in slice_arrays(kind, each).items()
    }
    metadata = {"slices": json.dumps({k: slice_record(s) for k, s in slices.items()})}
    record = {
        "runs": parameters.restarts,
        "distinct": int(land.count[0]),
        "at_least": int(land.at_least[0]),
        "unseen": float(land.maxima.unseen[0]),
    }
    return Measurement(record, arrays, metadata)


PORTRAIT = Experiment(
    "portrait",
    PortraitParameters,
    measure,
    "slices of one input's landscape, a plane and a great circle through its maxima",
    {
        "runs": "how many there were",
        "distinct": "different maxima they ended in, told apart by distance where no "
        "proof does",
        "at_least": "maxima that are proved to be different",
        "unseen": "estimated chance that one more run ends at another",
    },
)
