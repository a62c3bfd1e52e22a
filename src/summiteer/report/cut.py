"""A recorded slice of a landscape, in plain numbers that charts are made of."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np
import torch
from torch import Tensor

from summiteer.tolerances import same_loss

#: A slice of more ticks per axis than this is thinned for a page.
_TICKS = 101
#: Angles at which the border of the region is sought.
_ANGLES = 181
#: Norms whose balls are round: on a plane their border is a circle, known exactly.
_ROUND = ("l2", "sphere")

Grid: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True)
class Seen:
    """Points as seen on a slice.

    Attributes:
        name: what they are.
        places: of each its coordinates on the slice.
        away: how far from the slice each is, in units of inputs.
        losses: the objective at the points themselves, not on the slice.
    """

    name: str
    places: tuple[tuple[float, ...], ...]
    away: tuple[float, ...]
    losses: tuple[float, ...]


@dataclass(frozen=True)
class Cut:
    """A slice as it was recorded, thinned where it is finer than a page can show.

    Attributes:
        kind: "line", "plane" or "circle".
        axes: in words.
        ticks: per axis.
        values: the objective `[rows][columns]`, the first axis along the columns; one
            row for a line and a circle.
        inside: of the same shape: whether the point is allowed.
        marks: single points, one each.
        ways: runs.
        border: of what is allowed on a plane, closed; empty where it is not known.
        thinned: whether ticks were left out.
    """

    kind: str
    axes: tuple[str, ...]
    ticks: tuple[tuple[float, ...], ...]
    values: tuple[tuple[float, ...], ...]
    inside: tuple[tuple[bool, ...], ...]
    marks: tuple[Seen, ...] = ()
    ways: tuple[Seen, ...] = ()
    border: tuple[tuple[float, float], ...] = ()
    thinned: bool = False

    @classmethod
    def of(
        cls,
        kind: str,
        described: Mapping[str, Any],
        arrays: Mapping[str, Tensor],
        norm: str = "",
        radius: float | None = None,
    ) -> Self:
        """Read one slice of a landscape.

        Args:
            kind: "line", "plane" or "circle".
            described: what the landscape's record says of it.
            arrays: beside the record, under names that begin with the kind.
            norm: of the region.
            radius: of the region; None if it is not known.
        """
        count = len(described["axes"])
        ticks = [arrays[f"{kind}.coordinates.{axis}"].numpy() for axis in range(count)]
        values = np.atleast_2d(arrays[f"{kind}.values"].numpy().T)
        inside = np.atleast_2d(arrays[f"{kind}.inside"].numpy().T)
        border: tuple[tuple[float, float], ...] = ()
        if kind == "plane":
            round_one = None
            if norm in _ROUND and radius is not None:
                round_one = _circle(arrays, radius)
            border = _border(ticks, inside, round_one, norm == "sphere")
        keep = [kept(len(each), _TICKS) for each in ticks]
        some = np.ix_(keep[1] if count > 1 else [0], keep[0])
        return cls(
            kind,
            tuple(described["axes"]),
            tuple(tuple(each[keep[n]].tolist()) for n, each in enumerate(ticks)),
            tuple(map(tuple, values[some].tolist())),
            tuple(map(tuple, inside[some].tolist())),
            _seen(kind, "marks", described["marks"], arrays),
            _seen(kind, "paths", described["paths"], arrays),
            border,
            any(len(each) > _TICKS for each in ticks),
        )

    def span(self) -> tuple[float, float] | None:
        """(lowest, highest) objective at the ticks allowed; None if there is none."""
        rows = zip(self.values, self.inside, strict=True)
        known = [
            value
            for row, allowed in rows
            for value, good in zip(row, allowed, strict=True)
            if good and math.isfinite(value)
        ]
        return (min(known), max(known)) if known else None

    def tops(self) -> int:
        """How often a circle or line falls after it rose, by more than rounding."""
        row = np.asarray(self.values[0])
        row = row[np.isfinite(row)]
        if self.kind == "circle" and len(row) > 1:
            row = np.roll(row[:-1], -row[:-1].argmin())  # both ends are one point
            row = np.append(row, row[:1])
        # A model that is never computed in float64 has values that float32 holds.
        coarse = bool((row == row.astype(np.float32)).all())
        dtype = torch.float32 if coarse else torch.float64
        noise = same_loss(dtype) * np.abs(row).max(initial=0.0)
        count, rising, turn = 0, False, math.inf
        for value in row:
            beyond = value - turn if rising else turn - value
            if beyond >= 0:
                turn = value
            elif beyond < -noise:
                count += rising
                rising, turn = not rising, value
        return count

    def height(self, x: float, y: float) -> float:
        """The objective between the ticks of a plane, bilinear.

        Args:
            x: along the columns.
            y: along the rows.
        """
        columns, rows = (np.asarray(each) for each in self.ticks)
        found = _between(columns, rows, np.asarray(self.values), [x], [y])
        return float(found[0])


def kept(count: int, most: int) -> list[int]:
    """Which of so many are shown: evenly spread, the first and the last of them.

    Args:
        count: that there are.
        most: that may be shown, at least two.
    """
    if count <= most:
        return [*range(count)]
    return sorted({round(n * (count - 1) / (most - 1)) for n in range(most)})


def _seen(
    kind: str, group: str, names: list[str], arrays: Mapping[str, Tensor]
) -> tuple[Seen, ...]:
    found = []
    for number, name in enumerate(names):
        before = f"{kind}.{group}.{number}"
        places, away, losses = (
            arrays[f"{before}.{part}"].tolist()
            for part in ("coordinates", "away", "losses")
        )
        found.append(Seen(name, tuple(map(tuple, places)), tuple(away), tuple(losses)))
    return tuple(found)


def _circle(arrays: Mapping[str, Tensor], radius: float) -> tuple[Grid, float] | None:
    """(centre, radius) of where a plane cuts the sphere; None if it passes by."""
    origin = arrays["plane.origin"].flatten().double().numpy()
    basis = arrays["plane.directions"].flatten(1).double().numpy()
    centre = -basis @ origin
    rest = radius**2 - float(np.sum((origin + centre @ basis) ** 2))
    return (centre, math.sqrt(rest)) if rest > 0 else None


def _border(
    ticks: list[Grid], inside: Grid, circle: tuple[Grid, float] | None, sphere: bool
) -> tuple[tuple[float, float], ...]:
    """Round what is allowed, a convex set: along rays from its middle.

    The circle where there is one, but where the mask ends a tick or more before it
    (there a box cuts the ball): there, and for other norms, between the ticks.
    """
    angle = np.linspace(-np.pi, np.pi, _ANGLES)
    way = np.stack([np.cos(angle), np.sin(angle)])
    columns, rows = ticks
    if circle is not None and (sphere or not inside.any()):
        line = circle[0][:, None] + circle[1] * way
        return tuple(zip(*line.tolist(), strict=True))
    if not inside.any():
        return ()
    y, x = inside.nonzero()
    middle = np.array([columns[x].mean(), rows[y].mean()])
    cell = math.hypot(columns[1] - columns[0], rows[1] - rows[0])
    extent = math.hypot(columns[-1] - columns[0], rows[-1] - rows[0])
    steps = np.arange(0.0, extent, cell / 8)
    spots = middle[:, None, None] + way[:, :, None] * steps
    mask = _between(columns, rows, inside.astype(float), *spots.reshape(2, -1))
    out = mask.reshape(_ANGLES, -1) < 0.5
    out[:, -1] = True
    reach = steps[out.argmax(1)]
    if circle is not None:
        # Of |m + t·w - c| = r the root t > 0.
        away = middle - circle[0]
        along = away @ way
        root = np.sqrt(np.maximum(along**2 + circle[1] ** 2 - away @ away, 0.0))
        exact = root - along
        reach = np.where(reach < exact - cell, reach, exact)
    line = middle[:, None] + reach * way
    return tuple(zip(*line.tolist(), strict=True))


def _between(columns: Grid, rows: Grid, heights: Grid, x: Any, y: Any) -> Grid:
    """Bilinear on an even grid; 0 beyond it."""
    across = (np.asarray(x) - columns[0]) / (columns[1] - columns[0])
    along = (np.asarray(y) - rows[0]) / (rows[1] - rows[0])
    n = np.clip(np.floor(across).astype(int), 0, len(columns) - 2)
    m = np.clip(np.floor(along).astype(int), 0, len(rows) - 2)
    u, v = across - n, along - m
    low = heights[m, n] * (1 - u) + heights[m, n + 1] * u
    high = heights[m + 1, n] * (1 - u) + heights[m + 1, n + 1] * u
    beyond = (np.minimum(u, v) < -1e-9) | (np.maximum(u, v) > 1 + 1e-9)
    found: Grid = np.where(beyond, 0.0, low * (1 - v) + high * v)
    return found
