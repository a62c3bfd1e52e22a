"""Where runs begin. Starts are joined with `+`: centre first, then random ones."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.draws import BOUNDARY_START, UNIFORM_START, Draws
from summiteer.errors import UserError
from summiteer.problem import Problem, Rows


class Start(ABC):
    """A rule for the first points of all runs."""

    @abstractmethod
    def points(self, problem: Problem) -> Tensor:
        """Return feasible points `[restarts, batch, *input]` in the problem's dtype."""

    def __add__(self, other: "Start") -> "JoinedStart":
        """Return the runs of both, this one's first."""
        return JoinedStart((self, other))


@dataclass(frozen=True)
class JoinedStart(Start):
    """The runs of several starts, one after the other.

    Args:
        parts: at least one start.
    """

    parts: tuple[Start, ...]

    def points(self, problem: Problem) -> Tensor:
        """See `Start.points`."""
        return torch.cat([part.points(problem) for part in self.parts])


@dataclass(frozen=True)
class CentreStart(Start):
    """δ = 0 (on the sphere: its projection), one run."""

    def points(self, problem: Problem) -> Tensor:
        """See `Start.points`."""
        return problem.feasible.project(torch.zeros_like(problem.inputs))[None]


@dataclass(frozen=True, kw_only=True)
class _RandomStart(Start):
    """`restarts` independent runs from random points.

    Args:
        restarts: how many.
        seed: of the counter-based generator.
        first: number of the first one; the runs of `restarts=n, first=k` are the last
            n of `restarts=k + n`.
    """

    restarts: int = 1
    seed: int = 0
    first: int = 0

    def __post_init__(self) -> None:
        _check_number("restarts", self.restarts, 1)
        _check_number("first", self.first, 0)

    def points(self, problem: Problem) -> Tensor:
        """See `Start.points`."""
        index = torch.arange(len(problem)).repeat(self.restarts)
        number = torch.arange(self.first, self.first + self.restarts)
        restart = number.repeat_interleave(len(problem))
        ids = torch.as_tensor(problem.ids)[index]
        rows = problem.rows(index)
        flat = self._place(rows, Draws(self.seed, ids, restart))
        return flat.reshape(self.restarts, *problem.inputs.shape)

    @abstractmethod
    def _place(self, rows: Rows, draws: Draws) -> Tensor:
        """One point per row."""


@dataclass(frozen=True, kw_only=True)
class UniformStart(_RandomStart):
    """Uniform on the feasible region, `restarts` independent runs.

    Args:
        restarts: how many.
        seed: of the counter-based generator.
        first: number of the first one.
    """

    def _place(self, rows: Rows, draws: Draws) -> Tensor:
        return rows.region.sample(draws.on(UNIFORM_START), rows.inputs)


@dataclass(frozen=True, kw_only=True)
class BoundaryStart(_RandomStart):
    """The support point of the region in a uniformly random direction.

    Uniform on the sphere of an L2 ball, a uniformly random vertex of an L∞ ball or box.

    Args:
        restarts: how many.
        seed: of the counter-based generator.
        first: number of the first one.
    """

    def _place(self, rows: Rows, draws: Draws) -> Tensor:
        numbers = draws.on(BOUNDARY_START).normal(rows.inputs[0].numel())
        directions = numbers.reshape(rows.inputs.shape).to(rows.inputs)
        return rows.region.linear_maximiser(directions)


class GivenStart(Start):
    """Start at given perturbations, projected on the feasible region.

    Args:
        points: `[batch, *input]` (one run) or `[restarts, batch, *input]`.
    """

    def __init__(self, points: Tensor) -> None:
        self._points = points

    def points(self, problem: Problem) -> Tensor:
        """See `Start.points`."""
        given = self._points
        if isinstance(given, Tensor):
            given = given.detach().to(problem.inputs)
            given = given[None] if given.shape == problem.inputs.shape else given
        if not (
            isinstance(given, Tensor)
            and given.shape[1:] == problem.inputs.shape
            and len(given)
        ):
            got = list(given.shape) if isinstance(given, Tensor) else type(given)
            raise UserError(
                "start: GivenStart needs a tensor of perturbations [batch, *input] or "
                "[restarts, batch, *input] with [batch, *input] = "
                f"{list(problem.inputs.shape)}, got {got}."
            )
        if not bool(given.isfinite().all()):
            raise UserError("start: GivenStart has NaN or infinite perturbations.")
        index = torch.arange(len(problem)).repeat(len(given))
        flat = problem.rows(index).region.project(given.flatten(0, 1))
        return flat.reshape(given.shape)


def _check_number(name: str, number: int, least: int) -> None:
    if not (isinstance(number, int) and number >= least):
        raise UserError(f"{name}: expected an integer ≥ {least}, got {number!r}.")
