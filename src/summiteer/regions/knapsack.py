"""The capped simplex {x : 0 ≤ x ≤ c, Σx ≤ ε}: what the L1 regions come down to.

With signs taken off, an L1 ball is this set with c = ∞, its intersection with a box
has the room that the box leaves on the side of each coordinate. Everything is float64
inside, whatever comes in, and sums are taken in blocks: no row depends on others.
"""

import torch
from torch import Tensor

#: Numbers added in one running sum.
_BLOCK = 256


def total(flat: Tensor) -> Tensor:
    """Σ of each row `[rows, n]` in float64, whatever rows and threads there are.

    Args:
        flat: `[rows, n]`.

    Returns:
        `[rows]`.
    """
    width = flat.shape[1]
    if width <= _BLOCK:
        return flat.sum(1, dtype=torch.float64)
    whole = width // _BLOCK * _BLOCK
    blocks = flat[:, :whole].reshape(len(flat), whole // _BLOCK, _BLOCK)
    parts = blocks.sum(2, dtype=torch.float64)
    if whole < width:
        rest = flat[:, whole:].sum(1, dtype=torch.float64)
        parts = torch.cat([parts, rest[:, None]], 1)
    return total(parts)


def nearest(sizes: Tensor, caps: Tensor, budget: Tensor) -> Tensor:
    """The projection x = clip(a - τ, 0, c) with Σx = ε, exactly.

    The sum of x falls in τ, piecewise linearly. Variable fixing finds the root in at
    most n rounds: solve for τ on the coordinates that are free; what then lies above
    its cap outweighs what lies below 0, or the other way round, and the heavier side
    stays where it is for good (Bitran and Hax 1981, `bitran1981disaggregation`; without
    caps Michelot 1986, `michelot1986finite`). Nothing is sorted unless a > 2ε.

    Departure: huge a are brought down to the order of ε first, by a lower bound of τ,
    so that what is left errs by units of rounding of ε and not of a.

    Args:
        sizes: a ≥ 0 `[rows, n]`; Σ min(a, c) > ε in every row.
        caps: c ≥ 0, of the same shape.
        budget: ε `[rows]`.

    Returns:
        x `[rows, n]` float64.
    """
    room = budget.double()[:, None]
    caps = torch.minimum(caps.double(), room)
    # a_k - ε ≤ τ ≤ a_k, k the critical coordinate: those far ahead of it are full.
    base = (_lead(sizes.double(), caps, room) - room).clamp(min=0)
    x = sizes - base
    x = torch.where(base > 0, torch.minimum(x, caps + room), x)
    result = torch.empty_like(x)
    index = torch.arange(len(x), device=x.device)
    free = x > 0
    x = torch.where(free, x, 0.0)
    for _ in range(x.shape[1] + 2):
        left = room[:, 0] - total(torch.where(free, 0.0, x))
        count = free.sum(1).clamp(min=1)
        share = (total(torch.where(free, x, 0.0)) - left) / count
        x = torch.where(free, x - share[:, None], x)
        over = torch.where(free, x - caps, 0.0).clamp(min=0)
        under = torch.where(free, -x, 0.0).clamp(min=0)
        more, less = total(over), total(under)
        # NaN compares false and ends the search.
        going = (more > 0) | (less > 0)
        high = free & (x >= caps) & (going & (more >= less))[:, None]
        low = free & (x <= 0) & (going & (less >= more))[:, None]
        x = torch.where(high, caps, torch.where(low, 0.0, x))
        done = ~going
        # τ is rounded in units of a, which many small x feel: once more, in theirs.
        rest = (total(torch.where(free, x, 0.0)) - left) / count
        last = torch.where(free, x - rest[:, None], x).clamp(min=0)
        result[index[done]] = torch.minimum(last, caps)[done]
        if not bool(going.any()):
            return result
        free = free & ~(high | low)
        if bool(done.any()):
            index, x, free = index[going], x[going], free[going]
            caps, room = caps[going], room[going]
    result[index] = torch.minimum(x.clamp(min=0), caps)
    return result


def _lead(sizes: Tensor, caps: Tensor, room: Tensor) -> Tensor:
    """The a, largest first, up to which Σc first reaches ε `[rows, 1]`.

    Where that would have to be sorted for, and no a is above 2ε, 0.
    """
    largest, capped = sizes.amax(1, keepdim=True), (caps < room).any(1, keepdim=True)
    rows = (capped & (largest > 2 * room)).flatten().nonzero().flatten()
    largest = torch.where(capped, 0.0, largest)
    if len(rows):
        falling, before, _ = _ordered(sizes[rows], caps[rows])
        last = (before < room[rows]).sum(1, keepdim=True) - 1
        largest = largest.index_copy(0, rows, falling.gather(1, last.clamp(min=0)))
    return largest


def _ordered(values: Tensor, caps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(values, largest first; Σ of the caps ahead; their places), stable in ties."""
    falling, order = values.sort(dim=1, descending=True, stable=True)
    sorted_caps = caps.gather(1, order)
    ahead = sorted_caps.cumsum(1) - sorted_caps
    return falling, ahead, order


def fill(values: Tensor, caps: Tensor, budget: Tensor) -> Tensor:
    """Maximise Σ values·x: by falling value, each up to its cap (Dantzig 1957).

    Source: `dantzig1957discrete`. Coordinates of value 0 stay at 0, the lower index
    goes first in ties, and full coordinates are at their caps exactly.

    Args:
        values: ≥ 0 `[rows, n]`.
        caps: c ≥ 0 `[rows, n]`.
        budget: ε `[rows]`.

    Returns:
        x `[rows, n]` float64.
    """
    room = budget.double()[:, None]
    caps = torch.where(values > 0, torch.minimum(caps.double(), room), 0.0)
    _, ahead, order = _ordered(values, caps)
    sorted_caps = caps.gather(1, order)
    full = ahead + sorted_caps <= room
    x = torch.where(full, sorted_caps, 0.0)
    rest = room - total(x)[:, None]
    # A running sum may err by many units of rounding, the rest does not: should the
    # full ones be too many, the last of them gives way.
    place = full.sum(1, keepdim=True)
    place = torch.where(rest < 0, place - 1, place).clamp(0, x.shape[1] - 1)
    here = x.gather(1, place) + rest
    x.scatter_(1, place, torch.minimum(here.clamp(min=0), sorted_caps.gather(1, place)))
    return torch.zeros_like(x).scatter_(1, order, x)


def price(values: Tensor, caps: Tensor, budget: Tensor) -> Tensor:
    """λ, the value of the coordinate where the budget is spent; 0 if it is not.

    Args:
        values: ≥ 0 `[rows, n]`.
        caps: c ≥ 0 `[rows, n]`.
        budget: ε `[rows]`.

    Returns:
        `[rows]` float64.
    """
    room = budget.double()[:, None]
    caps = torch.minimum(caps.double(), room)
    falling, ahead, _ = _ordered(values, caps)
    spent = total(caps)[:, None]
    last = (ahead < room).sum(1, keepdim=True) - 1
    return torch.where(spent >= room, falling.gather(1, last), 0.0)[:, 0].double()


def shortfall(
    values: Tensor, caps: Tensor, budget: Tensor, along: Tensor, multiplier: Tensor
) -> Tensor:
    """How far Σ values·x at `along` is from its maximum; no summand is below 0.

    With the multiplier λ of Σ|x| ≤ ε it is λ(ε - Σ|u|) + Σ[(v - λ)₊c - (vu - λ|u|)].

    Args:
        values: v ≥ 0 `[rows, n]`.
        caps: c `[rows, n]`.
        budget: ε `[rows]`.
        along: u `[rows, n]`, the point, signs turned along the gradient's.
        multiplier: λ `[rows]`.

    Returns:
        `[rows]` float64.
    """
    values, caps, along = values.double(), caps.double(), along.double()
    room, size = budget.double(), along.abs()
    caps = torch.minimum(caps, room[:, None])
    price_ = multiplier[:, None]
    excess = values - price_
    ahead = torch.where(excess > 0, excess * (caps - along), -excess * along)
    behind = excess.clamp(min=0) * caps + (values + price_) * size
    # A coordinate without room on the gradient's side may be infinite times 0.
    terms = torch.where(along >= 0, ahead, behind).clamp(min=0)
    unspent = (room - total(size)).clamp(min=0)
    return total(terms) + multiplier * unspent
