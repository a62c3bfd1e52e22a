"""Slices of a landscape through its own points: centre, maxima, gradient, random."""

import torch
from torch import Tensor

from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary
from summiteer.errors import UserError
from summiteer.landscape.landscape import Landscape
from summiteer.landscape.slice import (
    Kind,
    Slice,
    new_direction,
    slice_through,
)
from summiteer.starts import BoundaryStart, CentreStart, GivenStart
from summiteer.trajectory import Recorder

#: Of a random direction that is no start of a run.
_RANDOM_SEED = 1
#: Bytes that the points of the drawn runs may take.
_PATHS = 2**24


def named_points(landscape: Landscape, example: int) -> dict[str, Tensor]:
    """Points that slices may be laid through, by name.

    Args:
        landscape: explored.
        example: its index.

    Returns:
        "centre": δ = 0 (of a sphere its projection), "maximum 0", "maximum 1", …,
        "gradient": the support point of the region in the gradient's direction at the
        centre, "random": the support point in a random direction. `[*input]` float64.
    """
    example = landscape.index_of(example)
    problem = landscape.problem.take(torch.tensor([example]))
    with undisturbed(problem.model):
        centre = CentreStart().points(problem)[0]
        gradient = problem.rows().evaluate(centre).gradient
        steepest = problem.feasible.linear_maximiser(gradient)
        random = BoundaryStart(restarts=1, seed=_RANDOM_SEED).points(problem)[0]
    points = {"centre": centre[0]}
    for number, peak in enumerate(landscape.peaks[example]):
        points[f"maximum {number}"] = peak.point.to(centre)
    return points | {"gradient": steepest[0], "random": random[0]}


def runs_to(
    landscape: Landscape,
    example: int,
    adversary: Adversary | None = None,
    most: int = 8,
    max_steps: int = 500,
) -> dict[str, Tensor]:
    """The points on the way of one run to each maximum, the highest first.

    The runs are made again, from the same starts: `explore` keeps no points.

    Args:
        landscape: explored.
        example: its index.
        adversary: that of `explore`.
        most: runs.
        max_steps: of each.

    Returns:
        name -> `[steps + 1, *input]`, float32.
    """
    example = landscape.index_of(example)
    label = landscape.maxima.label[:, example]
    numbers = range(min(most, len(landscape.peaks[example])))
    chosen = [int((label == number).nonzero()[0]) for number in numbers]
    if not chosen:
        return {}
    problem = landscape.problem.take(torch.tensor([example]))
    start = GivenStart(landscape.starts[chosen, example][:, None])
    recorder = Recorder(fields=("point",), max_bytes=_PATHS)
    with undisturbed(problem.model):
        record = ascend(problem, adversary, start, max_steps, recorder).trajectory
    assert record is not None
    assert record.point is not None
    ways = record.point[:, :, 0].transpose(0, 1)
    kept = (way[way.flatten(1).isfinite().all(1)] for way in ways)
    return {f"run {run}": way for run, way in zip(chosen, kept, strict=True)}


def landscape_slice(
    landscape: Landscape,
    kind: Kind = "plane",
    example: int = 0,
    through: tuple[str, ...] | None = None,
    resolution: int = 41,
    paths: dict[str, Tensor] | None = None,
) -> Slice:
    """A slice through points of a landscape, with its maxima marked.

    Args:
        landscape: explored.
        kind: "line", "plane" or "circle".
        example: its index.
        through: names, see `named_points`; the centre (not of a circle) and the highest
            maxima if None, filled up with "gradient" and "random".
        resolution: ticks per axis.
        paths: runs to be shown, see `runs_to`.

    Returns:
        `Slice`, see `slice_through`.

    Raises:
        UserError: an unknown name; the points span no such slice.
    """
    example = landscape.index_of(example)
    known = named_points(landscape, example)
    names = _chosen(kind, known) if through is None else through
    unknown = [name for name in names if name not in known]
    if unknown:
        raise UserError(
            f"through: expected names out of {', '.join(known)}, got {unknown[0]!r}."
        )
    marks = {
        name: point
        for name, point in known.items()
        if name.startswith("maximum") and name not in names
    }
    return slice_through(
        landscape.problem,
        {name: known[name] for name in names},
        kind,
        example,
        resolution,
        0.1,
        whole=True,
        marks=marks,
        paths=paths,
    )


def _chosen(kind: Kind, known: dict[str, Tensor]) -> tuple[str, ...]:
    """Names of points that span the slice, the first of them that do."""
    circle = kind == "circle"
    origin = torch.zeros_like(known["centre"]) if circle else known["centre"]
    names = [] if circle else ["centre"]
    basis: list[Tensor] = []
    for name in (name for name in known if name != "centre"):
        unit = new_direction((known[name] - origin).flatten(), basis)
        if unit is not None and len(basis) < (1 if kind == "line" else 2):
            names.append(name)
            basis.append(unit)
    return tuple(names)
