"""Where runs begin. Starts are joined with `+`: centre first, then random ones."""

from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.draws import BOUNDARY_START, UNIFORM_START, Draws
from summiteer.errors import UserError
from summiteer.problem import Problem


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
class UniformStart(Start):
    """Uniform on the feasible region, `restarts` independent runs.

    Args:
        restarts: how many.
        seed: of the counter-based generator.
    """

    restarts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _check_restarts(self.restarts)

    def points(self, problem: Problem) -> Tensor:
        """See `Start.points`."""
        index, draws = _rows(problem, self.restarts, self.seed, UNIFORM_START)
        rows = problem.rows(index)
        flat = rows.region.sample(draws, rows.inputs)
        return flat.reshape(self.restarts, *problem.inputs.shape)


@dataclass(frozen=True, kw_only=True)
class BoundaryStart(Start):
    """The support point of the region in a uniformly random direction.

    Uniform on the sphere of an L2 ball, a uniformly random vertex of an L∞ ball or box.

    Args:
        restarts: how many.
        seed: of the counter-based generator.
    """

    restarts: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        _check_restarts(self.restarts)

    def points(self, problem: Problem) -> Tensor:
        """See `Start.points`."""
        index, draws = _rows(problem, self.restarts, self.seed, BOUNDARY_START)
        rows = problem.rows(index)
        directions = draws.normal(rows.inputs[0].numel()).reshape(rows.inputs.shape)
        flat = rows.region.linear_maximiser(directions.to(rows.inputs))
        return flat.reshape(self.restarts, *problem.inputs.shape)


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


def _check_restarts(restarts: int) -> None:
    if not (isinstance(restarts, int) and restarts >= 1):
        raise UserError(f"restarts: expected an integer ≥ 1, got {restarts!r}.")


def _rows(
    problem: Problem, restarts: int, seed: int, stream: int
) -> tuple[Tensor, Draws]:
    """The example index and the random numbers of each (restart, example) row."""
    index = torch.arange(len(problem)).repeat(restarts)
    restart = torch.arange(restarts).repeat_interleave(len(problem))
    ids = torch.as_tensor(problem.ids)[index]
    return index, Draws(seed, ids, restart, stream)
