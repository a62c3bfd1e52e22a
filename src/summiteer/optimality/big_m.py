"""Piecewise-linear networks on boxes as mixed-integer linear programs.

Each kink max(l, r) = r + s with s = max(t, 0), t = l - r in [t₋, t₊], is
s ≥ t, s ≥ 0, s ≤ t - t₋(1 - z), s ≤ t₊z with a binary z; one that cannot change its
side has none. Bounds are rounded outward, but what a solver makes of them is NUMERICAL.
"""

import math
import time
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import csr_array, eye_array, hstack, vstack

from summiteer.errors import UserError
from summiteer.networks.affine import Dense
from summiteer.networks.piecewise_linear import (
    Addition,
    Maximum,
    PiecewiseLinear,
    Rectifier,
    Step,
)

Array: TypeAlias = NDArray[np.float64]

#: Kinks of the largest network that is tried: affine maps become matrices.
_LARGEST = 20_000
#: Linear programs per layer that narrow the bounds of kinks beyond the first layer.
_PROGRAMS = 400
#: Outward share of a bound's magnitude: far more than the rounding of all products
#: before, cancellation of six digits included; the solver resolves 1e-6 at best.
_OUTWARD = 1e-9
#: The same for bounds that a linear program gave: ten times the solver's tolerances.
_LOOSE = 1e-5
#: Rows of the identity that an operation is applied to at a time.
_SLICE = 256


@dataclass(frozen=True, eq=False)
class Form:
    """Affine forms Mv + c of the program's columns, M `[entries, columns]`."""

    matrix: csr_array
    shift: Array

    def widened(self, columns: int) -> "Form":
        """The same with zeros for later columns."""
        missing = columns - self.matrix.shape[1]
        if not missing:
            return self
        empty = csr_array((len(self.shift), missing))
        return replace(self, matrix=csr_array(hstack([self.matrix, empty])))

    def mapped(self, matrix: csr_array, shift: Array) -> "Form":
        """A(Mv + c) + b."""
        return Form(csr_array(matrix @ self.matrix), matrix @ self.shift + shift)

    def scaled(self, factors: Array) -> "Form":
        """Each entry times its factor."""
        return self.mapped(_diagonal(factors), np.zeros_like(self.shift))

    def plus(self, other: "Form") -> "Form":
        """The sum."""
        columns = max(self.matrix.shape[1], other.matrix.shape[1])
        left, right = self.widened(columns), other.widened(columns)
        return Form(csr_array(left.matrix + right.matrix), left.shift + right.shift)

    def take(self, rows: NDArray[Any]) -> "Form":
        """Some entries."""
        return Form(self.matrix[rows], self.shift[rows])

    def at(self, columns: Array) -> Array:
        """Values where the first columns are known."""
        known: Array = self.matrix @ columns[: self.matrix.shape[1]] + self.shift
        return known

    def range(self, lower: Array, upper: Array) -> tuple[Array, Array]:
        """Interval arithmetic, rounded outward."""
        plus, minus = self.matrix.maximum(0), self.matrix.minimum(0)
        count = self.matrix.shape[1]
        low, high = lower[:count], upper[:count]
        size = np.maximum(np.abs(low), np.abs(high))
        room = _OUTWARD * (abs(self.matrix) @ size + np.abs(self.shift))
        return (
            plus @ low + minus @ high + self.shift - room,
            plus @ high + minus @ low + self.shift + room,
        )


def _diagonal(factors: Array) -> csr_array:
    count = len(factors)
    return csr_array((factors, (np.arange(count), np.arange(count))), (count, count))


@dataclass(frozen=True, eq=False)
class Matrices:
    """A network with its affine operations as matrices.

    Attributes:
        steps: (operation, sources, matrix and shift of an affine one).
        inputs: entries of an input.
        outputs: entries of an output.
    """

    steps: list[tuple[Any, tuple[int, ...], tuple[csr_array, Array] | None]]
    inputs: int
    outputs: int


def matrices(network: PiecewiseLinear) -> Matrices:
    """Each affine operation applied to the identity, once for all examples."""
    shapes = [network.shape, *(step.shape for step in network.steps)]
    kinks = sum(
        math.prod(step.shape)
        for step in network.steps
        if isinstance(step.operation, Rectifier | Maximum)
    )
    if kinks > _LARGEST:
        raise UserError(
            f"model: {kinks} kinks are too many for a mixed-integer program (at most "
            f"{_LARGEST}); use a smaller network, or ascend and local_optimality."
        )
    steps: list[Any] = []
    for step in network.steps:
        affine = None
        if not isinstance(step.operation, Addition | Rectifier | Maximum):
            affine = _matrix(step, shapes[step.sources[0]])
        steps.append((step.operation, step.sources, affine))
    return Matrices(steps, math.prod(network.shape), math.prod(shapes[-1]))


def _matrix(step: Step, source: tuple[int, ...]) -> tuple[csr_array, Array]:
    """(A, b) of an affine step, in slices of the identity."""
    operation: Any = step.operation
    if isinstance(operation, Dense):
        return csr_array(operation.weight.numpy()), operation.bias.numpy()
    count, rows = math.prod(step.shape), []
    for start in range(0, count, _SLICE):
        unit = torch.eye(count, dtype=torch.float64)[start : start + _SLICE]
        made = operation.transpose(unit.reshape(-1, *step.shape))
        rows.append(csr_array(made.flatten(1).numpy()))
    shift = operation.apply(torch.zeros(1, *source, dtype=torch.float64))
    return csr_array(vstack(rows)), shift.flatten().numpy()


@dataclass(eq=False)
class Program:
    """Columns [δ, then s and z of each layer's kinks] and rows Mv ≤ c.

    Attributes:
        lower: of every column.
        upper: the same.
        integral: whether a column is binary.
        count: of the entries of δ.
        rows: M and c.
        blocks: t of each layer's kinks, whose columns come next.
        output: of the network.
        end: when time is up (monotonic).
    """

    lower: Array
    upper: Array
    integral: NDArray[np.bool_]
    count: int
    rows: list[tuple[csr_array, Array]] = field(default_factory=list)
    blocks: list[Form] = field(default_factory=list)
    output: Form | None = None
    end: float = math.inf

    def rectified(self, form: Form) -> Form:
        """max(form, 0), with new columns for the entries that can have both signs."""
        low, high = form.range(self.lower, self.upper)
        unstable = np.flatnonzero((low < 0) & (high > 0))
        if self.integral.any() and 2 * len(unstable) <= _PROGRAMS:
            for i in unstable:
                low[i], high[i] = self._narrowed(
                    form.take(np.array([i])), low[i], high[i]
                )
            unstable = np.flatnonzero((low < 0) & (high > 0))
        on = form.scaled((low >= 0).astype(float))
        if not len(unstable):
            return on
        inner, low, high = form.take(unstable), low[unstable], high[unstable]
        before, count = len(self.lower), len(unstable)
        zeros, ones = np.zeros(count), np.ones(count)
        self.lower = np.concatenate([self.lower, zeros, zeros])
        self.upper = np.concatenate([self.upper, high, ones])
        self.integral = np.concatenate([self.integral, zeros > 0, ones > 0])
        self.blocks.append(inner)
        columns = before + 2 * count
        s = Form(eye_array(count, columns, k=before, format="csr"), zeros)
        z = Form(eye_array(count, columns, k=before + count, format="csr"), zeros)
        minus = inner.scaled(-ones)
        for row in (
            inner.plus(s.scaled(-ones)),  # t - s ≤ 0
            # s - t - t₋z ≤ -t₋ and s - t₊z ≤ 0
            s.plus(minus).plus(z.scaled(-low)).plus(Form(z.matrix * 0, low)),
            s.plus(z.scaled(-high)),
        ):
            self.rows.append((row.matrix, -row.shift))
        place = csr_array((ones, (unstable, np.arange(count))), (len(on.shift), count))
        return on.plus(s.mapped(place, np.zeros_like(on.shift)))

    def _narrowed(self, form: Form, low: float, high: float) -> tuple[float, float]:
        """Bounds of one entry by two linear programs over all rows so far."""
        if time.monotonic() > self.end:
            return low, high
        cost = form.widened(len(self.lower)).matrix.toarray()[0]
        shift = float(form.shift[0])
        room = _LOOSE * (high - low)
        for sign in (1.0, -1.0):
            found = self.linear(sign * cost, self.lower, self.upper)
            if found.status != 0:
                continue
            if sign > 0:
                low = max(low, found.fun + shift - room)
            else:
                high = min(high, -found.fun + shift + room)
        return low, high

    def constraints(self) -> tuple[csr_array, Array]:
        """All rows."""
        columns = len(self.lower)
        forms = [Form(m, c).widened(columns) for m, c in self.rows]
        return (
            csr_array(vstack([form.matrix for form in forms])),
            np.concatenate([form.shift for form in forms]),
        )

    def linear(self, cost: Array, lower: Array, upper: Array) -> Any:
        """Minimise costᵀv, binaries relaxed to the given bounds."""
        matrix, shift = self.constraints()
        left = max(self.end - time.monotonic(), 1.0)
        options = {} if math.isinf(left) else {"time_limit": left}
        bounds = np.stack([lower, upper], 1)
        return linprog(cost, matrix, shift, bounds=bounds, options=options)

    def completed(self, point: Array) -> Array:
        """All columns of a perturbation."""
        columns = point
        for inner in self.blocks:
            t = inner.at(columns)
            columns = np.concatenate([columns, np.maximum(t, 0), (t > 0).astype(float)])
        return columns


def encode(
    network: Matrices, inputs: Array, lower: Array, upper: Array, end: float
) -> Program:
    """The program of one example."""
    count = len(inputs)
    program = Program(lower, upper, np.zeros(count, bool), count, end=end)
    forms = [Form(eye_array(count, format="csr"), inputs)]
    for operation, sources, affine in network.steps:
        first = forms[sources[0]]
        if affine is not None:
            made = first.mapped(*affine)
        elif isinstance(operation, Addition):
            made = first.plus(forms[sources[1]])
        elif isinstance(operation, Rectifier):
            # max(v, av) = av + (1 - a)·max(v, 0)
            every, slope = np.ones_like(first.shift), operation.slope
            straight = first.scaled(slope * every)
            made = straight.plus(program.rectified(first).scaled((1 - slope) * every))
        else:
            second = forms[sources[1]]
            there = (~operation.absent).flatten().cpu().numpy().astype(float)
            gap = first.plus(second.scaled(-np.ones_like(there)))
            # left where there is no right one, else right + max(left - right, 0)
            made = first.scaled(1 - there).plus(second.scaled(there))
            made = made.plus(program.rectified(gap.scaled(there)).scaled(there))
        forms.append(made)
    program.output = forms[-1].widened(len(program.lower))
    return program
