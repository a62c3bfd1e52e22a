"""One- and two-dimensional slices of the objective through chosen points."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer.errors import UserError
from summiteer.problem import Problem
from summiteer.regions._region import order_of

Kind: TypeAlias = Literal["line", "plane", "circle"]

#: Numbers of inputs that are evaluated at once, in float64.
_AT_ONCE = 2**22
#: Two directions nearer to each other than this angle span no plane: the second is
#: then known to a tenth of the digits that a float32 point has.
_PARALLEL = 1e-6


@dataclass(frozen=True, eq=False)
class Projection:
    """Points of the perturbation space as seen on a slice.

    Attributes:
        name: what they are.
        coordinates: `[n, k]` of the nearest point of the slice.
        away: `[n]` how far from the slice they are, in units of inputs.
        losses: `[n]` the objective at the points themselves, not on the slice.
    """

    name: str
    coordinates: Tensor
    away: Tensor
    losses: Tensor


@dataclass(frozen=True, eq=False)
class Slice:
    """The objective on a line, a plane or a great circle of perturbations, in float64.

    Line and plane: δ = origin + Σ c_k v_k with orthonormal v_k, c_k in units of inputs.
    Circle: δ = ε(v_1 cos c + v_2 sin c), c in radians, ε the radius of the region.

    Attributes:
        kind: "line", "plane" or "circle".
        axes: per coordinate, in words.
        coordinates: per axis its ticks `[n]`.
        values: `[n]`, or `[n, n]` with the first axis first: the objective, outside the
            region too, where the function is what it is.
        inside: the same shape, bool: the point is allowed (region, box and mask).
        origin: `[*input]`; zero for a circle.
        directions: `[k, *input]`; two for a circle.
        radius: ε of a circle, 0 otherwise.
        marks: the points that the slice was laid through, and others.
        paths: runs, projected; `away` says how far from the slice they went.
    """

    kind: Kind
    axes: tuple[str, ...]
    coordinates: tuple[Tensor, ...]
    values: Tensor
    inside: Tensor
    origin: Tensor
    directions: Tensor
    radius: float
    marks: tuple[Projection, ...] = ()
    paths: tuple[Projection, ...] = ()

    def points(self, coordinates: Tensor) -> Tensor:
        """Return the perturbations `[n, *input]` of coordinates `[n, k]`."""
        basis = self.directions.flatten(1)
        if self.kind == "circle":
            angle = coordinates[:, 0]
            along = torch.stack([angle.cos(), angle.sin()], 1) * self.radius
            flat = along @ basis
        else:
            flat = self.origin.flatten() + coordinates @ basis
        return flat.reshape(-1, *self.origin.shape)

    def project(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Return (coordinates of the nearest point of the slice, distance to it).

        Args:
            points: `[n, *input]` perturbations.

        Returns:
            `[n, k]` and `[n]`; a point on the axis of a circle is as near to all of it,
            and gets the angle 0.
        """
        flat = points.double().flatten(1)
        moved = flat - self.origin.flatten()
        inner = moved @ self.directions.flatten(1).T
        if self.kind == "circle":
            inner = torch.atan2(inner[:, 1], inner[:, 0])[:, None]
        nearest = self.points(inner).flatten(1)
        return inner, (flat - nearest).norm(dim=1)

    def __repr__(self) -> str:
        """Shape, not tensors."""
        shape = " × ".join(str(n) for n in self.values.shape)
        low, high = float(self.values.min()), float(self.values.max())
        return (
            f"Slice ({self.kind}, {'; '.join(self.axes)}): {shape} values from "
            f"{low:.4g} to {high:.4g}, {len(self.marks)} marks, {len(self.paths)} paths"
        )


def slice_through(
    problem: Problem,
    points: Mapping[str, Tensor],
    kind: Kind = "plane",
    example: int = 0,
    resolution: int = 41,
    margin: float = 0.25,
    whole: bool = False,
    marks: Mapping[str, Tensor] | None = None,
    paths: Mapping[str, Tensor] | None = None,
) -> Slice:
    """Evaluate one example's objective on a slice through named points.

    A line goes through two points, a plane through three; they reach `margin` of their
    extent further than all that is marked. A circle is the great circle of the sphere
    of the region's radius through two directions, a geodesic where the sphere is the
    region, and where it is a ball's boundary.

    Args:
        problem: what is maximised.
        points: name -> perturbation `[*input]`; two for "line" and "circle", three for
            "plane".
        kind: "line", "plane" or "circle".
        example: its index.
        resolution: ticks per axis.
        margin: share of the extent that is shown beyond the marks.
        whole: whether line and plane show the region's extent along their axes too.
        marks: further points to be shown, projected.
        paths: runs `[steps, *input]` to be shown, projected.

    Returns:
        `Slice`; values at every point of it, `inside` where it is allowed.

    Raises:
        UserError: an argument cannot be used; points that span no such slice.
    """
    _check(problem, points, kind, example, resolution, margin)
    given = {name: point.detach().double().cpu() for name, point in points.items()}
    others = dict(marks or {})
    frame = _frame(problem, given, kind, example)
    shown = {**given, **{n: p.detach().double().cpu() for n, p in others.items()}}
    runs = {n: p.detach().double().cpu() for n, p in (paths or {}).items()}
    for name, point in shown.items():
        _check_point(name, point, problem)
    for name, run in runs.items():
        _check_point(name, run[0] if run.ndim and len(run) else run, problem)
        if not bool(run.isfinite().all()):
            raise UserError(f"paths: {name!r} has NaN or infinite entries.")
    spots = [frame.project(torch.stack(list(shown.values())))[0]]
    spots += [frame.project(run)[0] for run in runs.values()]
    if whole and kind != "circle":
        spots += _extent(problem, frame, example)
    ticks = _ticks(kind, torch.cat(spots), resolution, margin)
    grid = torch.cartesian_prod(*ticks).reshape(-1, len(ticks))
    with undisturbed(problem.model):
        exact = problem.in_double()
        values, inside = _evaluated(exact, frame.points(grid), example)
        shape = tuple(len(each) for each in ticks)
        return replace(
            frame,
            coordinates=tuple(ticks),
            values=values.reshape(shape),
            inside=inside.reshape(shape),
            marks=tuple(
                _projected(frame, exact, name, point[None], example)
                for name, point in shown.items()
            ),
            paths=tuple(
                _projected(frame, exact, name, run, example)
                for name, run in runs.items()
            ),
        )


def _check(
    problem: Problem,
    points: Mapping[str, Tensor],
    kind: str,
    example: int,
    resolution: int,
    margin: float,
) -> None:
    needed = {"line": 2, "circle": 2, "plane": 3}
    if kind not in needed:
        raise UserError(f"kind: expected one of {list(needed)}, got {kind!r}.")
    if len(points) != needed[kind]:
        raise UserError(
            f"points: a {kind} goes through {needed[kind]} points, got {len(points)}."
        )
    if not 0 <= example < len(problem):
        raise UserError(
            f"example: expected an index below {len(problem)}, got {example}."
        )
    if not (isinstance(resolution, int) and resolution >= 2):
        raise UserError(f"resolution: expected an integer ≥ 2, got {resolution!r}.")
    if not 0 <= margin < float("inf"):
        raise UserError(f"margin: expected a finite number ≥ 0, got {margin!r}.")
    for name, point in points.items():
        _check_point(name, point, problem)
    if kind == "circle" and problem.feasible.norm not in ("l2", "sphere"):
        raise UserError(
            "kind: a circle lies on the sphere of an L2 region; for "
            f"{problem.feasible.norm} take a plane."
        )


def _check_point(name: str, point: Tensor, problem: Problem) -> None:
    shape = problem.inputs.shape[1:]
    if not isinstance(point, Tensor) or point.shape != shape:
        got = list(point.shape) if isinstance(point, Tensor) else type(point).__name__
        raise UserError(f"points: expected {name!r} of shape {list(shape)}, got {got}.")
    if not bool(point.isfinite().all()):
        raise UserError(f"points: {name!r} has NaN or infinite entries.")


def _frame(
    problem: Problem, given: Mapping[str, Tensor], kind: Kind, example: int
) -> Slice:
    """The slice without its values."""
    names, spots = list(given), [point.flatten() for point in given.values()]
    shape = problem.inputs.shape[1:]
    ball = kind == "circle"
    origin = torch.zeros_like(spots[0]) if ball else spots[0]
    ways = [spot - origin for spot in (spots if ball else spots[1:])]
    basis: list[Tensor] = []
    for number, way in enumerate(ways):
        unit = new_direction(way, basis)
        if unit is None:
            name = names[number if ball else number + 1]
            raise UserError(
                f"points: {name!r} lies on the line of those before it; take another "
                "point, such as one in a random direction."
            )
        basis.append(unit)
    if kind == "circle":
        axes: tuple[str, ...] = (
            f"angle from {names[0]!r} towards {names[1]!r}, radians",
        )
    else:
        axes = (f"from {names[0]!r} to {names[1]!r}",)
        if kind == "plane":
            axes += (f"across it, towards {names[2]!r}",)
    empty = torch.zeros(0, dtype=torch.float64)
    return Slice(
        kind,
        axes,
        (),
        empty,
        empty.bool(),
        origin.reshape(shape),
        torch.stack(basis).reshape(-1, *shape),
        float(problem.size[example]) if ball else 0.0,
    )


def new_direction(way: Tensor, basis: Sequence[Tensor]) -> Tensor | None:
    """The unit vector of what a direction adds to others; None if it adds nothing.

    Args:
        way: `[d]`.
        basis: orthonormal, each `[d]`.
    """
    across = way
    for _ in range(2):  # once more for what rounding leaves
        for unit in basis:
            across = across - (across @ unit) * unit
    length = float(across.norm())
    return across / length if length > _PARALLEL * float(way.norm()) else None


def _extent(problem: Problem, frame: Slice, example: int) -> list[Tensor]:
    """Coordinates of how far the region's ball reaches along each axis from δ = 0."""
    centre, _ = frame.project(torch.zeros_like(frame.origin)[None])
    order, size = order_of(problem.feasible), float(problem.size[example])
    lengths = torch.linalg.vector_norm(frame.directions.flatten(1), order, dim=1)
    reach = size / lengths
    return [centre - reach, centre + reach]


def _ticks(kind: Kind, spots: Tensor, resolution: int, margin: float) -> list[Tensor]:
    """Per axis, evenly spaced."""
    if kind == "circle":
        return [torch.linspace(-torch.pi, torch.pi, resolution, dtype=torch.float64)]
    low, high = spots.amin(0), spots.amax(0)
    room = margin * (high - low)
    ends = zip((low - room).tolist(), (high + room).tolist(), strict=True)
    return [torch.linspace(a, b, resolution, dtype=torch.float64) for a, b in ends]


def _evaluated(problem: Problem, points: Tensor, example: int) -> tuple[Tensor, Tensor]:
    """(objective, whether the point is allowed) `[n]`, some at a time."""
    values, inside = [], []
    size = max(1, _AT_ONCE // points[0].numel())
    for part in torch.split(points, size):
        rows = problem.rows(torch.full((len(part),), example))
        some = part.to(problem.inputs)
        values.append(rows.value(some).loss.double().cpu())
        inside.append(rows.region.contains(some).cpu())
    return torch.cat(values), torch.cat(inside)


def _projected(
    frame: Slice, problem: Problem, name: str, points: Tensor, example: int
) -> Projection:
    coordinates, away = frame.project(points)
    losses, _ = _evaluated(problem, points, example)
    return Projection(name, coordinates, away, losses)
