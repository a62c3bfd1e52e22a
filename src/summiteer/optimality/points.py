"""Points that a caller gives to be judged: one perturbation per example."""

import torch
from torch import Tensor

from summiteer.errors import UserError
from summiteer.problem import Problem


def check_budget(budget: int) -> None:
    """Refuse a budget that is no count."""
    if isinstance(budget, bool) or not isinstance(budget, int) or budget < 0:
        raise UserError(f"budget: expected an integer ≥ 0, got {budget!r}.")


def checked(problem: Problem, points: Tensor) -> Tensor:
    """The points on the problem's device, if they are what they should be.

    Args:
        problem: whose perturbations they are.
        points: `[batch, *input]`.

    Raises:
        UserError: points of the wrong shape or not finite.
    """
    try:
        points = torch.as_tensor(points).detach()
    except (RuntimeError, TypeError, ValueError) as error:
        raise UserError(
            "points: expected a tensor with one perturbation per example, got "
            f"{type(points).__name__}; of an ascent, give its `best`."
        ) from error
    if points.shape != problem.inputs.shape:
        raise UserError(
            "points: expected one perturbation per example "
            f"{list(problem.inputs.shape)}, got {list(points.shape)}; for several "
            "restarts call it once for each."
        )
    if not bool(points.isfinite().all()):
        bad = (~points.isfinite().flatten(1).all(1)).nonzero().flatten().tolist()
        raise UserError(f"points: NaN or infinite at indices {bad}.")
    return points.to(problem.inputs.device)
