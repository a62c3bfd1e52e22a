"""What any objective is, and what one of a single output may know besides."""

from typing import Any, Protocol, cast, runtime_checkable

import torch
from torch import Tensor

from summiteer.errors import UserError
from summiteer.objectives.labels import check_labels, classifies


@runtime_checkable
class Objective(Protocol):
    """One value per example, to be ascended; any callable serves.

    What else a class may have, and plain functions need not:

    - `check(outputs, targets)` raises UserError where they do not fit;
    - `take(index)` returns the objective of the rows `index` `[rows]`, for one that
      holds something per example (see `taken`);
    - `with_slopes(outputs, targets)` returns the values and their derivatives by the
      outputs, of the outputs' shape: fewer operations than autograd makes, and used
      only where the class defines it itself (see `with_slopes`);
    - the methods of `ScalarLoss`.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`[rows]` or `[rows, K]` outputs and their targets -> `[rows]` values."""


@runtime_checkable
class ScalarLoss(Protocol):
    """A loss φ(f; y) of one output, monotone in f (mathematics.md, Prop. 1)."""

    def slope_sign(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return s = sign of dφ/df, `[rows]`, in the dtype of the outputs."""

    def slope_bound(self, distance: Tensor) -> Tensor:
        """Return sup |φ'| where |f - y| ≤ distance, `[rows]`."""

    @property
    def curvature_bound(self) -> float:
        """Largest |φ''|."""


def taken(objective: Objective, index: Tensor) -> Objective:
    """Return the objective of some rows: its own `take(index)`, or itself if none.

    Args:
        objective: any callable.
        index: `[rows]` which rows of those it was made for.
    """
    take = getattr(objective, "take", None)
    return objective if take is None else cast(Objective, take(index))


def with_slopes(
    objective: Objective, outputs: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor]:
    """Values `[rows]` and their derivatives by the outputs, of the outputs' shape.

    In closed form where the objective's own class has one: a sub-class may have
    changed the value. Else by autograd; zeros where nothing depends on the outputs.

    Args:
        objective: any callable.
        outputs: z; left as they are.
        targets: of the same rows.
    """
    if "with_slopes" in vars(type(objective)):
        closed, slope = cast(Any, objective).with_slopes(outputs, targets)
        return closed, slope.to(outputs)
    leaf, slopes = outputs.detach().requires_grad_(), None
    with torch.enable_grad():
        # A copy, for objectives that change what they are given.
        values = objective(leaf.clone(), targets)
        if values.requires_grad:
            # Of the sum: given the ones explicitly, torch imports sympy (seconds).
            (slopes,) = torch.autograd.grad(values.sum(), leaf, allow_unused=True)
    if slopes is None:
        slopes = torch.zeros_like(outputs)
    return values.detach(), slopes


def values_of(objective: Objective, outputs: Tensor, targets: Tensor) -> Tensor:
    """The values of `with_slopes`, to the last bit.

    Args:
        objective: any callable.
        outputs: z.
        targets: of the same rows.
    """
    if "with_slopes" in vars(type(objective)):
        return with_slopes(objective, outputs, targets)[0]
    return objective(outputs, targets)


def check_objective(objective: Objective, outputs: Tensor, targets: Tensor) -> None:
    """Check once that objective, outputs and targets fit.

    Args:
        objective: any callable.
        outputs: of one forward pass.
        targets: of the same rows.

    Raises:
        UserError: what was expected, what came, what to do.
    """
    check = getattr(objective, "check", None)
    if check is not None:
        check(outputs, targets)
    try:
        values = objective(outputs, targets)
    except (RuntimeError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"objective: failed on outputs {list(outputs.shape)} and targets "
            f"{list(targets.shape)}: {error}."
        ) from error
    if not targets.is_floating_point() and classifies(targets):
        check_labels(outputs, targets)
    if not isinstance(values, Tensor) or values.shape != (len(outputs),):
        got = (
            list(values.shape) if isinstance(values, Tensor) else type(values).__name__
        )
        raise UserError(
            f"objective: expected one value per example [{len(outputs)}], got {got}; "
            "use reduction='none'."
        )
    if not values.is_floating_point():
        raise UserError(
            f"objective: expected floating-point values, got {values.dtype}; what is "
            "ascended must be differentiable."
        )
