"""IoAF indicator 4: was the loss still rising when the attack stopped?"""

import torch
from torch import Tensor

#: Entries at the end of the path, and the share of its range they may still gain
#: (`pintor2022indicators`).
LAST, GAIN = 10, 0.05


def incomplete(losses: Tensor, complete: Tensor | None = None) -> Tensor:
    """Which runs gained > 5 % of their range in their last 10 entries.

    b_t = max(l_0, …, l_t) over the finite entries; incomplete where
    b_T - b_(T-9) > 0.05·(max l - min l) (`pintor2022indicators`, whose attacker
    minimises). Departure: a run that says by itself that it is done is complete, though
    it may have risen to the last (a projected step can reach a vertex at once).

    Args:
        losses: `[records, restarts, batch]`, NaN where a run had stopped.
        complete: `[restarts, batch]` bool: stopped as stationary, or with what it was
            after; none if None.

    Returns:
        `[restarts, batch]` bool. Runs of fewer than two entries are complete.
    """
    known = losses.isfinite()
    low = losses.where(known, torch.inf).amin(0)
    best = losses.where(known, -torch.inf).cummax(0).values
    count = known.long().cumsum(0)
    # The best before the last entries: of the record where `count` is this far back.
    before = (count <= (count[-1] - LAST + 1).clamp(min=1)) & known
    earlier = best.where(before, -torch.inf).amax(0)
    spread = best[-1] - low
    rising = (count[-1] >= 2) & (best[-1] - earlier > GAIN * spread)
    return rising if complete is None else rising & ~complete
