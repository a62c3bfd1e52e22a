"""When a loss falls below a threshold for good."""

import math

import torch
from torch import Tensor

#: Losses that are no number or larger are taken as this.
_LARGEST = 1e30


def sustained_steps(losses: Tensor, at: Tensor, threshold: float) -> Tensor:
    """First step from which the loss stays below the threshold to the end of the run.

    Between two steps at which it is known the loss is taken as linear. A first crossing
    would be wrong: unstable rates pass through.

    Args:
        losses: `[runs, points]`.
        at: `[points]` the steps at which they are known, rising; the last one is K.
        threshold: θ.

    Returns:
        `[runs]` float64; K + 1 where the last loss is not below θ ("never").
    """
    values = losses.double().nan_to_num(_LARGEST, _LARGEST).clamp(max=_LARGEST)
    at = at.double()
    above = values >= threshold
    last = (above * torch.arange(1, len(at) + 1)).amax(1)  # one past the last above
    after = last.clamp(max=len(at) - 1)[:, None]
    before = (after - 1).clamp(min=0)
    high, low = values.gather(1, before), values.gather(1, after)
    share = ((high - threshold) / (high - low)).clamp(0.0, 1.0)[:, 0]
    steps = at[before[:, 0]] + share * (at[after[:, 0]] - at[before[:, 0]])
    steps = torch.where(last == 0, at[0], steps)
    return torch.where(last == len(at), at[-1] + 1, steps)


def mean_over_steps(losses: Tensor, at: Tensor) -> Tensor:
    """The mean of the loss over the steps from the first to the last, `[runs]`.

    Args:
        losses: `[runs, points]`.
        at: `[points]`, as for `sustained_steps`.
    """
    values = losses.double().nan_to_num(_LARGEST, _LARGEST).clamp(max=_LARGEST)
    at = at.double()
    return torch.trapezoid(values, at, dim=1) / (at[-1] - at[0])


def thresholds(floor: float) -> tuple[float, float, float]:
    """20, 50 and 80 % of the way from ½, the loss of f = 0, to the floor.

    All are below ½: doing nothing meets none. Where the floor of linear predictors is
    no better than 0.45, no linear way leads down: .45, .4 and .35 are asked for.

    Args:
        floor: robust loss of the best linear predictor.
    """
    if floor > 0.45:
        return 0.45, 0.4, 0.35
    way = floor - 0.5
    return 0.5 + 0.2 * way, 0.5 + 0.5 * way, 0.5 + 0.8 * way


def mean_log(steps: Tensor) -> float:
    """Mean of log(1 + steps).

    Args:
        steps: `[runs]`.
    """
    return float(torch.log1p(steps.double()).mean())


def geometric(steps: Tensor) -> float:
    """The geometric mean of 1 + steps, less 1.

    Args:
        steps: `[runs]`.
    """
    return math.expm1(mean_log(steps))
