"""Probabilities known from independent draws: exact limits (`clopper1934use`)."""

import torch
from scipy.stats import beta
from torch import Tensor

#: Of every interval, and of every limit.
CONFIDENCE = 0.95


def share_interval(hits: float, draws: int) -> tuple[float, float]:
    """Clopper and Pearson's 95 % interval of a probability.

    low = B⁻¹(0.025; k, n-k+1), high = B⁻¹(0.975; k+1, n-k), B of the beta law.

    Args:
        hits: k of the draws; between integers the limits are interpolated.
        draws: n ≥ 1 independent ones.
    """
    tail = (1 - CONFIDENCE) / 2
    low = beta.ppf(tail, hits, draws - hits + 1) if hits else 0.0
    high = beta.ppf(1 - tail, hits + 1, draws - hits) if hits < draws else 1.0
    return float(low), float(high)


def share_limit(hits: Tensor, draws: Tensor) -> Tensor:
    """Their upper 95 % limit alone: at a higher probability so few hits are too rare.

    Args:
        hits: `[...]` of the draws.
        draws: `[...]` independent ones.

    Returns:
        `[...]` float64; 1 where every draw is a hit, or there are none.
    """
    others = draws - hits
    limit = torch.from_numpy(beta.ppf(CONFIDENCE, hits + 1, others.clamp(min=1)))
    return torch.where(others == 0, 1.0, limit)
