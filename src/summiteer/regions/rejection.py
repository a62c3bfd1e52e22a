"""Uniform points by rejection, the attempts of each row named by their number."""

from collections.abc import Callable

import numpy as np
import torch

from summiteer.draws import Draws

#: Numbers spent on one point before the last proposal is taken instead.
_NUMBERS_PER_POINT = 2**20

#: Proposals `[k, d]` and the chances `[k]` with which they are accepted.
Proposal = tuple[np.ndarray, np.ndarray]
#: (rows `[k]`, numbers `[k, d]` in (0, 1)) -> Proposal.
Propose = Callable[[np.ndarray, np.ndarray], Proposal]


def accepted(draws: Draws, rows: int, width: int, propose: Propose) -> np.ndarray:
    """Proposals, each accepted with its own chance; the last one if none was.

    Args:
        draws: of the rows.
        rows: how many.
        width: d.
        propose: what is proposed; a chance of 0 refuses.

    Returns:
        `[rows, d]` float64.
    """
    points = np.zeros((rows, width))
    waiting = np.arange(rows)
    # Each attempt is a stream, of which one use of randomness has 2**20.
    attempts = max(1, min(2**16, _NUMBERS_PER_POINT // width))
    for attempt in range(attempts):
        index = torch.from_numpy(waiting)
        tries = Draws(draws.seed, draws.ids[index], draws.restarts[index])
        numbers = tries.on(draws.stream + 2 + attempt).uniform(width + 1).numpy()
        proposal, chance = propose(waiting, numbers[:, 1:])
        points[waiting] = proposal
        waiting = waiting[~(numbers[:, 0] <= chance)]
        if not len(waiting):
            break
    return points
