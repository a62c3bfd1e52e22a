"""Random numbers named by (seed, stream, example id, restart, coordinate).

Counter-based (Philox-4x32-10; Salmon et al. 2011, `salmon2011parallel`): a number
depends on its name alone, never on how examples are batched, sharded or ordered.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.special import ndtri
from torch import Tensor

from summiteer.errors import UserError

_MULTIPLIERS = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (np.uint64(0x9E3779B9), np.uint64(0xBB67AE85))
_MASK = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)

#: Where each use of randomness begins; a use has the 2**20 streams from there on.
UNIFORM_START, BOUNDARY_START, LANCZOS, PLATEAU, SCREEN, TRAINING = (
    use << 20 for use in (1, 2, 3, 4, 5, 6)
)


def philox(counter: np.ndarray, key: tuple[int, int]) -> np.ndarray:
    """Philox-4x32-10, vectorised.

    Args:
        counter: `[4, ...]` uint64 array of 32-bit words.
        key: two 32-bit words.

    Returns:
        `[4, ...]` uint64 array of 32-bit words.
    """
    c0, c1, c2, c3 = (counter[i].astype(np.uint64) for i in range(4))
    k0, k1 = (np.uint64(word & 0xFFFFFFFF) for word in key)
    for _ in range(10):
        product0, product1 = c0 * _MULTIPLIERS[0], c2 * _MULTIPLIERS[1]
        c0, c2 = (product1 >> _SHIFT) ^ c1 ^ k0, (product0 >> _SHIFT) ^ c3 ^ k1
        c1, c3 = product1 & _MASK, product0 & _MASK
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return np.stack([c0, c1, c2, c3])


@dataclass(frozen=True)
class Draws:
    """The random numbers of a set of rows.

    Attributes:
        seed: 0 <= seed < 2**32.
        ids: `[rows]` int64 example ids.
        restarts: `[rows]` int64 restart numbers.
        stream: which use of randomness this is; each stream is independent.
    """

    seed: int
    ids: Tensor
    restarts: Tensor
    stream: int = 0

    def __post_init__(self) -> None:
        if not (isinstance(self.seed, int) and 0 <= self.seed < 2**32):
            raise UserError(
                f"seed: expected an integer from 0 to 2**32 - 1, got {self.seed!r}."
            )

    def on(self, stream: int) -> "Draws":
        """Return the same rows on another, independent stream."""
        return replace(self, stream=stream)

    def uniform(self, count: int) -> Tensor:
        """Return `[rows, count]` float64 numbers, uniform on the open interval (0, 1).

        Args:
            count: how many coordinates per row.

        Returns:
            (k + ½)/2⁵² with k uniform on 0 … 2⁵² - 1: exact, so never 0 or 1.
        """
        blocks = (count + 1) // 2
        ids = self.ids.cpu().numpy().astype(np.int64).view(np.uint64)
        restarts = self.restarts.cpu().numpy().astype(np.uint64)
        shape = (len(ids), blocks)
        counter = np.empty((4, *shape), dtype=np.uint64)
        counter[0] = np.arange(blocks, dtype=np.uint64)
        counter[1] = (restarts & _MASK)[:, None]
        counter[2] = (ids & _MASK)[:, None]
        counter[3] = (ids >> _SHIFT)[:, None]
        words = philox(counter, (self.seed, self.stream))
        high, low = words[0::2] >> np.uint64(6), words[1::2] >> np.uint64(6)
        whole = high.astype(np.float64) * 2.0**26 + low.astype(np.float64)
        pairs = np.moveaxis((whole + 0.5) * 2.0**-52, 0, -1)
        return torch.from_numpy(pairs.reshape(len(ids), 2 * blocks)[:, :count].copy())

    def normal(self, count: int) -> Tensor:
        """Return `[rows, count]` float64 standard normal numbers, by inversion.

        Args:
            count: how many coordinates per row.

        Returns:
            One normal number per uniform one, so that coordinates keep their names.
        """
        return torch.from_numpy(ndtri(self.uniform(count).numpy()))
