"""Convex neurons at their kinks, and every way to complete the pattern (Prop. 9).

Around p, F is the largest of F_π over the patterns of the convex neurons that may
change their side there. Let every F_π have all its maximisers over C within R of p, and
let all other convex neurons keep their side within R. Then F's largest value on
C ∩ B(p, R) is that of the best completion, and is taken only at maximisers of
completions: a local maximiser of F, isolated if each completion has one maximiser.

Neurons with the same row and bias, or their negatives, change sides together: patterns
that split them never occur.
"""

from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from summiteer.networks import TwoLayerNetwork
from summiteer.networks.relu_minorant import maximise
from summiteer.optimality.hold import Hold, hold, strict
from summiteer.optimality.relu_form import Kinked, region_of
from summiteer.optimality.rounding import Enclosure, up
from summiteer.optimality.stand import Limits

#: Neurons left open at most: 2^t completions.
_OPEN = 10
#: Pairs of products with W and Wᵀ after which the completions of a row are given up,
#: and how many completions are looked at together.
_WORK, _TOGETHER = 5000, 64
AWAY = "the maximum of its units' pattern lies further away"
#: How often the set of open neurons may grow.
_TURNS = 4


@dataclass(frozen=True, eq=False)
class Completed:
    """What the completions came to; `[rows]`.

    Attributes:
        radius: ≥ the distance from p to a local maximiser of F; NaN if unknown.
        open: the convex neurons left open `[rows, m]`.
        tied: whether there are any.
        top: ≥ F at the maximiser, where tied.
        strict: whether it is isolated, where tied.
        reason: why nothing is known, or "".
    """

    radius: Tensor
    open: Tensor
    tied: Tensor
    top: Tensor
    strict: Tensor
    reason: list[str]


def complete(
    network: TwoLayerNetwork, kinked: Kinked, limits: Limits, held: Hold
) -> Completed:
    """Look at every completion where convex neurons may change their side.

    Args:
        network: for its biases.
        kinked: F.
        limits: C.
        held: of the pattern at the points.
    """
    touching = held.touching(kinked)
    fits = (held.lean.inner.middle > 0) == (held.lean.shares > 0)
    loose = kinked.convex & touching
    # Beyond its kinks the pattern is another one: this point is no end of DC ascent.
    known = ~held.spread.isnan() & (fits | loose | ~kinked.convex).all(1)
    tied = known & loose.any(1)
    done = Completed(
        torch.where(known & ~tied, held.spread, torch.nan),
        loose & known[:, None],
        tied,
        torch.full_like(held.spread, torch.nan),
        torch.zeros_like(tied),
        ["" if fine else AWAY for fine in known.tolist()],
    )
    for row in tied.nonzero().flatten().tolist():
        index = torch.tensor([row])
        one = _Row(network, kinked.take(index), limits.take(index), held, row)
        done.reason[row] = one.solve(done, loose[row])
    return done


class _Row:
    """The completions of one row.

    Args:
        network: for its biases.
        kinked: F of this row.
        limits: C.
        held: of all rows.
        row: this one.
    """

    def __init__(
        self,
        network: TwoLayerNetwork,
        kinked: Kinked,
        limits: Limits,
        held: Hold,
        row: int,
    ) -> None:
        self.kinked, self.limits, self.row = kinked, limits, row
        self.lean = held.lean
        self.work = 0
        bias = network.hidden_bias.detach()
        self.rows = torch.cat([kinked.hidden, bias[:, None]], 1)

    def solve(self, done: Completed, loose: Tensor) -> str:
        """Write what is proved; say why nothing is."""
        for _ in range(_TURNS):
            groups = self._groups(loose)
            done.open[self.row] = loose
            many = f"{int(loose.sum())} convex units may be at their kinks"
            if len(groups) > _OPEN:
                return f"{many}, more than {_OPEN} apart"
            radius, top, single = self._all(loose, groups)
            if self.work >= _WORK:
                return f"{many}: their completions took {self.work} products"
            if radius.isnan():
                return f"{many}, and not every completion has its maximum here"
            grown = loose | self._touching(radius)
            if torch.equal(grown, loose):
                done.radius[self.row], done.top[self.row] = radius, top
                done.strict[self.row] = single
                return ""
            loose = grown
        return f"{many}, more the further one looks"

    def _touching(self, radius: Tensor) -> Tensor:
        """The convex neurons that may change their side within `radius` of p."""
        inner, row = self.lean.inner, self.row
        way = up(radius * self.kinked.lengths)
        low, high = inner.lower[row], inner.upper[row]
        return self.kinked.convex[0] & ~((low > way) | (high < -way))

    def _groups(self, loose: Tensor) -> list[tuple[Tensor, Tensor]]:
        """(neurons, sides): those that change sides together, 0 for the other way."""
        left = loose.nonzero().flatten().tolist()
        groups = []
        while left:
            first, rows = self.rows[left[0]], self.rows[left]
            same, turned = (rows == first).all(1), (rows == -first).all(1)
            members = torch.tensor(left)[same | turned]
            groups.append((members, same[same | turned].to(rows)))
            gone = set(members.tolist())
            left = [j for j in left if j not in gone]
        return groups

    def _all(
        self, loose: Tensor, groups: list[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """(R, ≥ F at the maximiser, strict) over all completions; R NaN if unknown."""
        shares = self.lean.shares[self.row].clone()
        side = self.lean.inner.middle[self.row] > 0
        shares = torch.where(self.kinked.convex[0], side.to(shares), shares)
        patterns = []
        for bits in product((0.0, 1.0), repeat=len(groups)):
            pattern = shares.clone()
            for bit, (members, sides) in zip(bits, groups, strict=True):
                pattern[members] = sides if bit else 1 - sides
            patterns.append(pattern)
        every = torch.stack(patterns)
        # One from each end first: most that fail do so there.
        order = torch.arange(len(every)).roll(1)
        parts = (order[:2], *torch.split(order[2:], _TOGETHER))
        found = []
        for part in parts:
            if not len(part):
                break
            found.append(self._some(every[part]))
            if found[-1][0].isnan() or self.work >= _WORK:
                break
        radius, top = (torch.stack([f[k] for f in found]).amax() for k in (0, 1))
        if self.work >= _WORK:
            radius = torch.full_like(radius, torch.nan)
        return radius, top, torch.stack([f[2] for f in found]).all()

    def _some(self, patterns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """`_all` of these patterns."""
        copies = torch.zeros(len(patterns), dtype=torch.int64)
        kinked, limits = self.kinked.take(copies), self.limits.take(copies)
        region = region_of(limits)
        peak = maximise(kinked.minorant(patterns), region, patterns)
        self.work += int(peak.evaluations.sum())
        shares = torch.where(kinked.convex, patterns, peak.multipliers)
        held = hold(kinked, limits, peak.points, shares)
        lean, ours = held.lean, self.lean.stand
        gap = Enclosure.exact(lean.stand.points) - ours.points[self.row]
        slack = up(lean.stand.slack + ours.slack[self.row])
        radius = up(up(gap.norm().upper + slack) + held.spread)
        heavy = kinked.coefficients(lean.shares)
        value = heavy.dot(lean.inner) + kinked.shift
        top = up(value.upper + up(lean.leftover * held.spread))
        every = torch.ones(len(patterns), dtype=torch.bool)
        # NaN is larger than any number to amax.
        return radius.amax(), top.amax(), strict(kinked, limits, held, every).all()
