"""Step rules: how far along a direction. Sizes are per row."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor

from summiteer import _rows
from summiteer._constants import lipschitz_of_gradient
from summiteer.adversaries._adversary import Step
from summiteer.errors import UserError
from summiteer.problem import Evaluation, Rows
from summiteer.regions._region import rows_of

#: Backtracking sizes grow to so many radii: there Π(δ + size·g) is ε·g/‖g‖ to three
#: digits on a ball, and forty halvings still lead to 1e-9 radii. From below 1024, for
#: doubled quarters of a radius would meet it in a tie that rounding decides.
_LONGEST = 1000.0


class StepRule(Protocol):
    """Chooses the step along `direction` and makes it: Π(δ + size · direction).

    One that commutes with rotations of the inputs may say so by a class attribute
    `rotation_invariant = True`; see `summiteer.spaces`. One whose state never
    changes says so by `memoryless = True` (see `summiteer.recurrence`) and may have
    `shrunk(state, which)`: the state with half the size for the rows `which` `[rows]`.
    """

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Any:
        """Return the rule's state before the first step."""

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Any,
    ) -> Step:
        """Return the projected step."""


@dataclass(frozen=True, eq=False)
class Sizes:
    """Step sizes that stay.

    Attributes:
        each: `[rows]`.
        common: the size of all rows if it is the same, as a number: that is faster.
    """

    each: Tensor
    common: float | None = None


@dataclass(frozen=True)
class ConstantStep:
    """Π(δ + size · direction) with the same size always.

    Args:
        size: in units of inputs for unit directions and signs; of inputs² per loss
            for the raw gradient (the paper's η).
    """

    rotation_invariant: ClassVar[bool] = True
    memoryless: ClassVar[bool] = True

    size: float

    def __post_init__(self) -> None:
        check_positive("size", self.size)

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Sizes:
        """The size of each row."""
        return Sizes(torch.full_like(evaluation.loss, self.size), self.size)

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Sizes,
    ) -> Step:
        """See `StepRule.step`."""
        size = state.each.to(direction) if state.common is None else state.common
        return Step(rows.advance(points, direction, size), state, state.each)

    def shrunk(self, state: Sizes, which: Tensor) -> Sizes:
        """Half the size for the rows `which` `[rows]` bool."""
        return Sizes(torch.where(which, 0.5 * state.each, state.each))


@dataclass(frozen=True)
class DecayingStep:
    """size_t = size/(1 + t)^power.

    Args:
        size: of the first step.
        power: ½ by default, the classical rate of subgradient methods.
    """

    rotation_invariant: ClassVar[bool] = True

    size: float
    power: float = 0.5

    def __post_init__(self) -> None:
        check_positive("size", self.size)
        check_positive("power", self.power)

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
        """The step number `[rows]`."""
        return torch.zeros_like(evaluation.loss)

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Tensor,
    ) -> Step:
        """See `StepRule.step`."""
        size = (self.size / (1.0 + state) ** self.power).to(direction)
        return Step(rows.advance(points, direction, size), state + 1, size)


@dataclass(frozen=True)
class LipschitzStep:
    """size = share/Lip(∇ℓ): provably monotone for the raw gradient.

    Lip(∇ℓ) ≤ sup φ''·sup‖∇f‖² + sup|φ'|·L over the ball (mathematics.md §1, §5), for
    two-layer networks with one output and a scalar loss.

    Args:
        share: 1 by default; monotone up to 2.
    """

    rotation_invariant: ClassVar[bool] = True
    memoryless: ClassVar[bool] = True

    share: float = 1.0

    def __post_init__(self) -> None:
        check_positive("share", self.share)

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
        """The size `[rows]`."""
        bound = lipschitz_of_gradient(rows)
        return (self.share / bound).to(evaluation.loss)

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Tensor,
    ) -> Step:
        """See `StepRule.step`."""
        return Step(rows.advance(points, direction, state), state, state)

    def shrunk(self, state: Tensor, which: Tensor) -> Tensor:
        """Half the size for the rows `which` `[rows]` bool."""
        return torch.where(which, 0.5 * state, state)


@dataclass(frozen=True)
class BacktrackingStep:
    """Armijo's rule along the projected arc (Bertsekas 1976, `bertsekas1976goldstein`).

    With δ⁺ = Π(δ + size·d) the size is halved until ℓ(δ⁺) - ℓ(δ) ≥ slope·∇ℓᵀ(δ⁺ - δ),
    and doubled after a step that needed no halving, up to 1024 radii. Where the gain
    drowns in the rounding of ℓ it is taken from the gradients,
    ½(∇ℓ(δ) + ∇ℓ(δ⁺))ᵀ(δ⁺ - δ), as in the approximate conditions of Hager and Zhang
    2005 (`hager2005conjugate`): runs reach residuals that values alone cannot resolve.
    Each trial costs one gradient evaluation; the accepted one serves the next step.

    Args:
        first: the first size, in radii of the region.
        slope: Armijo's constant.
        halvings: give up (the run has STALLED) after so many in one step.
    """

    rotation_invariant: ClassVar[bool] = True

    first: float = 0.25
    slope: float = 0.1
    halvings: int = 40

    def __post_init__(self) -> None:
        check_positive("first", self.first)
        if not 0 < self.slope < 1:
            raise UserError(f"slope: expected 0 < slope < 1, got {self.slope!r}.")
        if not (isinstance(self.halvings, int) and self.halvings >= 1):
            raise UserError(
                f"halvings: expected an integer ≥ 1, got {self.halvings!r}."
            )

    def init(self, rows: Rows, points: Tensor, evaluation: Evaluation) -> Tensor:
        """The size to try next `[rows]`."""
        return self.first * rows_of(rows.region.size, points)

    def step(
        self,
        rows: Rows,
        points: Tensor,
        evaluation: Evaluation,
        direction: Tensor,
        state: Tensor,
    ) -> Step:
        """See `StepRule.step`; rows that find no step stay where they are."""
        slope, halvings = self.slope, self.halvings
        found = search(rows, points, evaluation, direction, state, slope, halvings)
        assert found.spent is not None
        square = _rows.dot(direction, direction)
        most = _LONGEST * rows_of(rows.region.size, points)
        # Told from the first trial: a step that found nothing is not an easy one.
        easy = (found.spent == 1) & (state * square.sqrt() < most)
        if found.stuck is not None:
            easy &= ~found.stuck
        return replace(found, state=torch.where(easy, 2 * found.size, found.size))


def search(
    rows: Rows,
    points: Tensor,
    evaluation: Evaluation,
    direction: Tensor,
    size: Tensor,
    slope: float,
    halvings: int,
) -> Step:
    """Halve `size` until ℓ(δ⁺) - ℓ(δ) ≥ slope·∇ℓᵀ(δ⁺ - δ) and > 0, δ⁺ = Π(δ + size·d).

    Args:
        rows: the problem at each row.
        points: δ.
        evaluation: at δ.
        direction: d, of the form of a gradient.
        size: `[rows]` of the first trial.
        slope: Armijo's constant; with 0 every rise will do.
        halvings: give up after so many trials.

    Returns:
        A step whose state is the size; rows that find none are stuck where they are.
    """
    rises = _rows.dot(evaluation.gradient, direction) / _rows.dot(direction, direction)
    waiting = torch.arange(len(size), device=size.device)
    some, start, way, before = rows, points, direction, evaluation
    length, rise = size, rises
    for made in range(1, halvings + 1):
        trial = some.advance(start, way, length)
        after = some.evaluate(trial)
        # gᵀd/(‖d‖²·size)
        accepted = _accepts(start, before, trial, after, rise / length, slope)
        done = accepted.nonzero().flatten()
        if made == 1:
            if len(done) == len(size):
                return Step(trial, size, size, after, torch.ones_like(waiting))
            size, chosen = size.clone(), points.clone()
            gained, spent = _rows.copy(evaluation), torch.zeros_like(waiting)
        spent.index_fill_(0, waiting, made)
        index = waiting.index_select(0, done)
        _put(chosen, index, trial, done)
        for name in ("loss", "gradient", "wrong"):
            _put(getattr(gained, name), index, getattr(after, name), done)
        waiting = waiting[~accepted]
        if not len(waiting):
            return Step(chosen, size, size, gained, spent)
        length = size.index_select(0, waiting) / 2
        size.index_copy_(0, waiting, length)
        some = rows.take(waiting)
        start, way, rise = (
            each.index_select(0, waiting) for each in (points, direction, rises)
        )
        before = _rows.take(evaluation, waiting)
    stuck = torch.zeros_like(size, dtype=torch.bool).index_fill(0, waiting, True)
    return Step(chosen, size, size, gained, spent, stuck)


def _put(target: Tensor, index: Tensor, source: Tensor, rows: Tensor) -> None:
    target.index_copy_(0, index, source.index_select(0, rows))


def _accepts(
    start: Tensor,
    before: Evaluation,
    trial: Tensor,
    after: Evaluation,
    push: Tensor,
    slope: float,
) -> Tensor:
    """Armijo's test; `push` is gᵀd/(‖d‖²·size) of each row."""
    moved = trial - start
    predicted = _rows.dot(before.gradient, moved)
    # On a sphere gᵀ(δ⁺ - δ) is a difference of radial parts and drowns in rounding
    # first. The projection guarantees gᵀ(δ⁺ - δ) ≥ push·‖δ⁺ - δ‖² where d ∥ g.
    unit = torch.finfo(predicted.dtype).eps
    lost = 1024 * unit * before.gradient_norm * _rows.norm(trial)
    safe = push * _rows.dot(moved, moved)
    predicted = torch.where(predicted.abs() <= lost, safe, predicted)
    gain = after.loss - before.loss
    # A loss is a difference of sums over hundreds of larger terms.
    noise = 1024 * unit * before.loss.abs()
    bend = 0.5 * _rows.dot(after.gradient - before.gradient, moved)
    seen = torch.where(gain.abs() <= noise, predicted + bend, gain)
    return (predicted > 0) & (seen > 0) & (seen >= slope * predicted)


def check_positive(name: str, value: float) -> None:
    """Refuse what is not a positive finite number.

    Args:
        name: of the argument.
        value: given.

    Raises:
        UserError: it is not.
    """
    if not (isinstance(value, int | float) and 0 < value < float("inf")):
        raise UserError(f"{name}: expected a positive finite number, got {value!r}.")
