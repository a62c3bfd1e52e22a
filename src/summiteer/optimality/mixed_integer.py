"""Global maxima of small piecewise-linear networks on boxes, by mixed-integer programs.

The answers are NUMERICAL: the solver (HiGHS, through scipy) works to
tolerances of about 1e-6, so that nothing here ever supports a proof.
"""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csr_array
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer.errors import UserError
from summiteer.networks import PiecewiseLinear, as_piecewise_linear
from summiteer.objectives import (
    CrossEntropy,
    Logistic,
    Margin,
    Quadratic,
    TargetedMargin,
    scalar,
    taken,
)
from summiteer.optimality.big_m import Form, Matrices, Program, encode, matrices
from summiteer.problem import Problem
from summiteer.regions.intervals import Intervals

Array: TypeAlias = NDArray[np.float64]

#: A bound this close to the value, in shares of the objective's range, closes the gap:
#: the solver's own feasibility tolerance, in units of its bounds, times a few.
_CLOSED = 1e-6
#: Two ways to compute a value differ by this share of it, and the bound may, too.
_ROUNDING = 1e-12
#: The objective's range as the solver sees it, whose absolute gap is fixed (1e-6).
_RANGE = 1e3
#: Rounds of exact linear programs in the cell of the solver's point.
_ROUNDS = 4


@dataclass(frozen=True, eq=False)
class GlobalMaximum:
    """What a mixed-integer solver says of each example: NUMERICAL, never a proof.

    Attributes:
        value: `[batch]` float64, the objective that the model itself gives at `points`.
        points: perturbations `[batch, *input]` float64, inside the region.
        bound: `[batch]` what the solver says that no point exceeds; at least `value`.
        optimal: tuple, whether the solver finished and the two agree up to its
            tolerances.
        nodes: tuple, branch-and-bound nodes.
        reason: tuple, why an example is not optimal, or "".
    """

    value: Tensor
    points: Tensor
    bound: Tensor
    optimal: tuple[bool, ...]
    nodes: tuple[int, ...]
    reason: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.optimal)

    def __repr__(self) -> str:
        return (
            f"GlobalMaximum of {len(self)} examples: {sum(self.optimal)} optimal up to "
            "the solver's tolerances (NUMERICAL); see value, bound, reason"
        )


def global_maximum(
    problem: Problem, method: str = "milp", time_limit: float | None = 60.0
) -> GlobalMaximum:
    """Maximise exactly, up to a solver's tolerances: ground truth for small networks.

    max over δ in [l, h] of objective(model(x + δ), y), for networks of affine maps,
    (leaky) ReLU, |t| and max-pooling, as a mixed-integer linear program. NUMERICAL: a
    floating-point solver has tolerances, so the answer never supports a proof.

    Args:
        problem: on an L∞ ball, a box, or both; the objective Margin,
            TargetedMargin of a label, Logistic, CrossEntropy of two classes, or
            Quadratic of one output.
        method: "milp", the only one.
        time_limit: seconds per example, or None; an example that ran out of them is not
            `optimal`, and its value and bound are the best known.

    Returns:
        The maximum of each example.

    Raises:
        UserError: another method, region, objective or model; a network of more than
            20000 kinks; a time limit that is no positive number.
    """
    if method != "milp":
        raise UserError(f'method: expected "milp", got {method!r}.')
    if time_limit is not None and not 0 < time_limit < math.inf:
        raise UserError(
            f"time_limit: expected seconds > 0, or None, got {time_limit!r}."
        )
    if not isinstance(problem.feasible, Intervals):
        raise UserError(
            "region: a mixed-integer linear program needs an LinfBall or a Box, got "
            f"{type(problem.feasible).__name__}; use LinfBall, or local_optimality for "
            "L2 regions."
        )
    problem.examine()
    with undisturbed(problem.model), torch.no_grad():
        exact = problem.in_double()
        return _maxima(exact, matrices(_network(problem)), time_limit)


def _maxima(
    exact: Problem, network: "Matrices", time_limit: float | None
) -> GlobalMaximum:
    """One program after the other; `exact` is in float64."""
    assert isinstance(exact.feasible, Intervals)
    lower, upper = (
        limit.expand(exact.inputs.shape).flatten(1).cpu().numpy()
        for limit in exact.feasible.limits(exact.inputs)
    )
    inputs = exact.inputs.flatten(1).cpu().numpy()
    found, points = [], []
    for i in range(len(exact)):
        end = math.inf if time_limit is None else time.monotonic() + time_limit
        objective = taken(exact.objective, torch.tensor([i]))
        pieces = _pieces(objective, exact.targets[i], network.outputs)
        search = _Search(encode(network, inputs[i], lower[i], upper[i], end), end)
        for piece in pieces.rows:
            search.maximise(*piece)
        found.append(search.answer(pieces.link))
        points.append(torch.from_numpy(search.point).reshape(exact.inputs.shape[1:]))
    stacked = torch.stack(points).to(exact.inputs)
    stacked = exact.feasible.project(stacked)
    value = exact.rows().value(stacked).loss.double()
    bound = torch.tensor([each.bound for each in found], dtype=torch.float64)
    bound = torch.maximum(bound.to(value), value)
    return GlobalMaximum(
        value,
        stacked,
        bound,
        *_judged(value.tolist(), bound.tolist(), found),
    )


@dataclass(frozen=True)
class _Answer:
    """One example: the bound of the objective, the network's value, and how it went."""

    bound: float
    value: float
    room: float
    nodes: int
    reason: str


def _judged(
    values: list[float], bounds: list[float], found: list[_Answer]
) -> tuple[tuple[bool, ...], tuple[int, ...], tuple[str, ...]]:
    """(optimal, nodes, reason)."""
    reasons = []
    for value, bound, each in zip(values, bounds, found, strict=True):
        reason = each.reason
        if not reason and abs(value - each.value) > each.room:
            reason = f"the model's value differs from the program's, {each.value:.9g}"
        if not reason and not bound - value <= each.room:
            reason = f"a gap of {bound - value:.2g} is left by the solver's tolerances"
        reasons.append(reason)
    return (
        tuple(not reason for reason in reasons),
        tuple(each.nodes for each in found),
        tuple(reasons),
    )


@dataclass(frozen=True, eq=False)
class _Pieces:
    """An objective as link(max_i of aᵢᵀz + bᵢ), link increasing on its range.

    Attributes:
        rows: (aᵢ `[K]`, bᵢ).
        link: of the largest.
    """

    rows: list[tuple[Array, float]]
    link: Callable[[float], float]


def _pieces(objective: Any, target: Tensor, outputs: int) -> _Pieces:
    """The objective of one example."""
    kind = type(objective)
    unit = np.eye(outputs)
    if kind is Quadratic and outputs == 1:
        y = float(scalar(target[None])[0])
        return _Pieces([(unit[0], -y), (-unit[0], y)], lambda t: 0.5 * max(t, 0.0) ** 2)
    if kind in (Margin, Logistic) and outputs == 1:
        sign = -float(target.reshape(()))
        link = _softplus if kind is Logistic else float
        return _Pieces([(sign * unit[0], 0.0)], link)
    if kind is Margin or (kind is CrossEntropy and outputs == 2):
        own = int(target)
        rows = [(unit[k] - unit[own], 0.0) for k in range(outputs) if k != own]
        return _Pieces(rows, float if kind is Margin else _softplus)
    if kind is TargetedMargin and objective.over == "label":
        rival = int(objective.of(target[None]))
        return _Pieces([(unit[rival] - unit[int(target)], 0.0)], float)
    raise UserError(
        f"objective: {kind.__name__} of {outputs} output(s) is no increasing function "
        "of linear ones; expected Margin, TargetedMargin of a label, Logistic, "
        "CrossEntropy of two classes, or Quadratic of one output. Use Margin."
    )


def _softplus(value: float) -> float:
    return float(np.logaddexp(0.0, value))


def _network(problem: Problem) -> PiecewiseLinear:
    """The model as a piecewise-linear network, in float64 on the CPU."""
    network = as_piecewise_linear(problem.model, tuple(problem.inputs.shape[1:]))
    if isinstance(network, PiecewiseLinear):
        return network
    raise UserError(
        "model: a mixed-integer program needs a recognised piecewise-linear network: "
        f"{network.reason}."
    )


class _Search:
    """The largest piece of one example, and what bounds it.

    Args:
        program: of the example.
        end: when time is up (monotonic).
    """

    def __init__(self, program: Program, end: float) -> None:
        self._program, self._end = program, end
        self.point: Array = self._inside(np.zeros(program.count))
        self._value = -math.inf
        self._bound = -math.inf
        self._range, self._nodes, self._reason = 0.0, 0, ""

    def maximise(self, weights: Array, shift: float) -> None:
        """Take one more piece aᵀz + b into account."""
        program = self._program
        assert program.output is not None
        form = program.output.mapped(csr_array(weights[None]), np.array([shift]))
        low, high = (float(x[0]) for x in form.range(program.lower, program.upper))
        self._range = max(self._range, high - low)
        self._offer(form, self.point)
        cost = form.matrix.toarray()[0]
        if not program.integral.any():
            straight = np.where(cost > 0, program.upper, program.lower)
            self._offer(form, straight)
            # An affine function: its vertex is the maximum.
            self._bound = max(self._bound, float(form.at(straight)[0]))
            return
        if high <= self._value:
            return
        found = self._solved(cost, high - low)
        dual = getattr(found, "mip_dual_bound", None)
        if dual is not None and math.isfinite(dual):
            high = min(high, -dual * (high - low) / _RANGE + float(form.shift[0]))
        self._bound = max(self._bound, high)
        self._nodes += int(getattr(found, "mip_node_count", 0) or 0)
        if found.status != 0:
            self._reason = _TROUBLE.get(found.status, str(found.message))
        if found.x is not None:
            self._polish(form, cost, self._inside(found.x))

    def _inside(self, columns: Array) -> Array:
        """The perturbation among the columns, in the box."""
        low, high = self._program.lower, self._program.upper
        count = self._program.count
        clipped: Array = np.clip(columns[:count], low[:count], high[:count])
        return clipped

    def _solved(self, cost: Array, width: float) -> Any:
        matrix, shift = self._program.constraints()
        options: dict[str, Any] = {"mip_rel_gap": 0.0}
        if not math.isinf(self._end):
            options["time_limit"] = max(self._end - time.monotonic(), 0.1)
        return milp(
            -cost * (_RANGE / width),
            integrality=self._program.integral.astype(int),
            bounds=Bounds(self._program.lower, self._program.upper),
            constraints=LinearConstraint(matrix, -np.inf, shift),
            options=options,
        )

    def _offer(self, form: Form, point: Array) -> bool:
        """Keep the point if it is the best."""
        value = float(form.at(self._program.completed(point))[0])
        if not value > self._value:
            return False
        self._value, self.point = value, point
        return True

    def _polish(self, form: Form, cost: Array, point: Array) -> None:
        """The best point of the cell in which the solver's point lies, and of the next.

        The solver's own point may miss it by its tolerances times the big constants.
        """
        program = self._program
        self._offer(form, point)
        for _ in range(_ROUNDS):
            sides = program.completed(point)
            lower = np.where(program.integral, sides, program.lower)
            upper = np.where(program.integral, sides, program.upper)
            found = program.linear(-cost, lower, upper)
            if found.status != 0:
                return
            point = self._inside(found.x)
            if not self._offer(form, point):
                return

    def answer(self, link: Callable[[float], float]) -> _Answer:
        """What was found."""
        bound = link(max(self._bound, self._value))
        value = link(self._value)
        # As large as the link's slope makes the solver's tolerance.
        room = link(self._value + _CLOSED * self._range) - value
        room = max(room, _ROUNDING * (1 + abs(value)))
        return _Answer(bound, value, room, self._nodes, self._reason)


_TROUBLE = {
    1: "the time limit was reached",
    2: "the solver called the program infeasible",
    3: "the solver called the program unbounded",
}
