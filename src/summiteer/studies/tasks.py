"""Two-class tasks on real images, and how well a linear predictor can do on them."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from summiteer.errors import UserError
from summiteer.studies.inputs import images

_SHAPES = {"digits": (8, 8), "mnist": (28, 28)}
#: The kinks of the robust linear loss are rounded to these widths, one after the other;
#: the last one is the error of the floor, times ‖x‖ = 1.
_SMOOTHING = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5)


@dataclass(frozen=True)
class Task:
    """Which images, and which of their labels are positive.

    Attributes:
        source: "digits" (8×8) or "mnist" (28×28).
        labels: those that are used.
        positive: those of the targets +1; the others are -1.
        pooled: whether 2×2 pixels are averaged into one.
    """

    source: str
    labels: tuple[int, ...]
    positive: tuple[int, ...]
    pooled: bool = False


_ALL = tuple(range(10))
TASKS: dict[str, Task] = {
    "digits 0v1": Task("digits", (0, 1), (1,)),
    "digits 3v8": Task("digits", (3, 8), (8,)),
    "digits ≥5": Task("digits", _ALL, (5, 6, 7, 8, 9)),
    "MNIST 3v7": Task("mnist", (3, 7), (7,), pooled=True),
    "MNIST parity": Task("mnist", _ALL, (1, 3, 5, 7, 9), pooled=True),
    "MNIST 3v7 28×28": Task("mnist", (3, 7), (7,)),
}


@cache
def examples(name: str, count: int, digest: str = "") -> tuple[Tensor, Tensor]:
    """The first `count`/2 images of either sign, each of length 1.

    Args:
        name: in `TASKS`.
        count: an even number.
        digest: that MNIST's test images must have; see `studies.inputs`.

    Returns:
        inputs `[count, d]` float64, ‖x‖ = 1, and targets ±1 `[count]`, in turns.

    Raises:
        UserError: MNIST is not there, is another, or has not so many images.
    """
    task = TASKS[name]
    inputs, labels = images(task.source, digest)
    inputs = inputs.reshape(-1, 1, *_SHAPES[task.source])
    positive = torch.isin(labels, torch.tensor(task.positive))
    used = torch.isin(labels, torch.tensor(task.labels))
    half = count // 2
    rows = [(used & (positive == sign)).nonzero().flatten()[:half] for sign in (0, 1)]
    if count % 2 or min(len(each) for each in rows) < half:
        raise UserError(
            f"examples: expected an even number that {name} has, got {count}."
        )
    chosen = inputs[torch.stack(rows, 1).flatten()].double()
    if task.pooled:
        chosen = functional.avg_pool2d(chosen, 2)
    chosen = chosen.flatten(1)
    targets = torch.tensor([-1.0, 1.0], dtype=torch.float64).repeat(half)
    return chosen / chosen.norm(dim=1, keepdim=True), targets


@cache
def linear_floor(name: str, count: int, ratio: float, digest: str = "") -> float:
    """The least robust loss of a linear predictor without bias, convex in v.

    min_v 1/n Σ_i max_{‖δ‖≤ε} ½(vᵀ(x_i+δ) - y_i)² = min_v 1/n Σ ½(|vᵀx_i - y_i| + ε‖v‖)²

    It does not depend on the input scale: c moves into v.

    Args:
        name: in `TASKS`.
        count: of examples.
        ratio: ε/‖x‖.
        digest: as for `examples`.

    Returns:
        The loss of the predictor found: at least the minimum, and within 1e-4 of it.
    """
    inputs, targets = (each.numpy() for each in examples(name, count, digest))
    weights = inputs.T @ targets / len(targets)
    for width in _SMOOTHING:
        found = minimize(
            _rounded(inputs, targets, ratio, width),
            weights,
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": 500, "ftol": 1e-11},
        )
        weights = found.x
    # v = 0 has ½: rounded kinks may end a little above it.
    return min(robust_linear_loss(weights, inputs, targets, ratio), 0.5)


def robust_linear_loss(
    weights: np.ndarray, inputs: np.ndarray, targets: np.ndarray, ratio: float
) -> float:
    """Mean of ½(|vᵀx - y| + ε‖v‖)².

    Args:
        weights: v `[d]`.
        inputs: `[n, d]`.
        targets: `[n]`.
        ratio: ε.
    """
    far = np.abs(inputs @ weights - targets) + ratio * np.linalg.norm(weights)
    return float(0.5 * np.mean(far**2))


def _rounded(
    inputs: np.ndarray, targets: np.ndarray, ratio: float, width: float
) -> Callable[[np.ndarray], tuple[float, np.ndarray]]:
    """The same with √(r² + w²) for |r|, ‖v‖: at most w·(|r| + ε‖v‖ + w) too large."""

    def value(weights: np.ndarray) -> tuple[float, np.ndarray]:
        apart = inputs @ weights - targets
        size = np.sqrt(apart**2 + width**2)
        length = np.sqrt(weights @ weights + width**2)
        far = size + ratio * length
        slope = far / len(targets)
        gradient = inputs.T @ (slope * apart / size)
        gradient += slope.sum() * ratio * weights / length
        return float(0.5 * np.mean(far**2)), gradient

    return value
