"""How far a mean over few examples may be from the mean over all."""

from dataclasses import dataclass

import numpy as np

from summiteer.confidence import CONFIDENCE

_DRAWS = 10_000


@dataclass(frozen=True)
class Weights:
    """Random weights of n drawn examples and of one more, `[draws, n + 1]`.

    Each row is uniform on the simplex. With values z_1 … z_n in [0, 1], the ends of the
    interval are quantiles of Σ w_i z_i + w_(n+1) z', where z' = 0 for the lower end and
    1 for the upper one: a Bayesian bootstrap with one more example of the worst kind
    (`learned2019new`, whose authors conjecture that it covers the mean of every
    distribution on [0, 1] as often as it says). Where all z are 0 or 1 it is the exact
    interval of `clopper1934use`. Unlike a bootstrap it has a width where all z are
    equal.

    Attributes:
        values: the weights.
    """

    values: np.ndarray

    @classmethod
    def drawn(cls, examples: int, seed: int) -> "Weights":
        """The weights of so many examples.

        Args:
            examples: n ≥ 1.
            seed: of the generator.
        """
        parts = np.random.default_rng(seed).exponential(size=(_DRAWS, examples + 1))
        return cls(parts / parts.sum(1, keepdims=True))

    def interval(self, values: np.ndarray) -> tuple[float, float]:
        """The ends for `values` `[n]` in [0, 1]: `CONFIDENCE` lies between them."""
        known = self.values[:, :-1] @ values
        tail = (1 - CONFIDENCE) / 2
        low = np.quantile(known, tail)
        high = np.quantile(known + self.values[:, -1], 1 - tail)
        return float(max(low, 0.0)), float(min(high, 1.0))
