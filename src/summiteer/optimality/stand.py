"""Where a point stands on the boundary of its region, as a real point (§10.4).

A float point is never exactly on a sphere. What is certified is the real point p: its
held coordinates are the region's own limits, exactly, and its free ones are those of
the float point, scaled to the length √(ε² - ‖p_held‖²) where the ball is active.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.optimality.rounding import Enclosure, down, gamma, up
from summiteer.regions import Box, Intersection, L2Ball, LinfBall, Region, Sphere
from summiteer.regions._region import rows_of

#: The regions whose geometry the proofs know.
KNOWN = (L2Ball, Sphere, LinfBall, Box, Intersection)


@dataclass(frozen=True, eq=False)
class Limits:
    """A region as {‖δ‖ ≤ ε} ∩ {l ≤ δ ≤ h}, either part possibly absent.

    Attributes:
        radius: ε `[rows]`, inf where there is no ball.
        lower: l `[rows, d]`, -inf where there is no box.
        upper: h.
        sphere: whether ‖δ‖ = ε is asked for.
    """

    radius: Tensor
    lower: Tensor
    upper: Tensor
    sphere: bool

    @property
    def boxed(self) -> bool:
        """Whether any coordinate has a limit."""
        return bool(self.upper.isfinite().any())

    @property
    def round(self) -> bool:
        """Whether there is a ball."""
        return bool(self.radius.isfinite().all())

    def take(self, index: Tensor) -> "Limits":
        """The rows `index`."""
        return _rows.take(self, index)

    @property
    def reach(self) -> Tensor:
        """An upper bound of ‖δ‖ on the region `[rows]`."""
        widest = torch.maximum(self.lower.abs(), self.upper.abs())
        return torch.minimum(self.radius, Enclosure.exact(widest).norm().upper)


def limits_of(region: Region, like: Tensor) -> Limits | None:
    """The region's parts in float64; None for a region that is not one of ours.

    Args:
        region: bound.
        like: `[rows, *input]` float64; the limits are of its flat rows.
    """
    if type(region) not in KNOWN:
        return None
    infinite = torch.full_like(like.flatten(1), torch.inf)
    radius, lower, upper = infinite[:, 0], -infinite, infinite
    if isinstance(region, L2Ball | Sphere | Intersection):
        radius = rows_of(region.size, like).to(torch.float64)
    box = region.box if isinstance(region, Intersection) else region
    if isinstance(box, LinfBall | Box):
        lower, upper = (
            x.double().expand(like.shape).flatten(1) for x in box.limits(like)
        )
    return Limits(radius, lower, upper, isinstance(region, Sphere))


@dataclass(frozen=True, eq=False)
class Stand:
    """One real point per row, and what holds it.

    Attributes:
        points: `[rows, d]` floats.
        slack: `[rows]` ≥ the distance to the real points.
        free: `[rows, d]` bool; held coordinates equal their limit exactly.
        side: `[rows, d]` s_i: +1 at h_i, -1 at l_i, 0 where free or where l_i = h_i.
        curved: `[rows]` bool, the ball is active.
        radius: e `[rows]`, the sphere's radius in the free coordinates; 1 if none.
        room: `[rows]` ≤ the distance of the free coordinates to their limits, and of
            points that are not on the ball's boundary to it.
    """

    points: Tensor
    slack: Tensor
    free: Tensor
    side: Tensor
    curved: Tensor
    radius: Enclosure
    room: Tensor

    def take(self, index: Tensor) -> "Stand":
        """The rows `index`."""
        return _rows.take(self, index)

    def replaced(self, mask: Tensor, other: "Stand") -> "Stand":
        """The rows of `other` where `mask` `[rows]`, else these."""
        return _rows.choose(mask, other, self)

    @property
    def inside(self) -> Tensor:
        """The point p in the free coordinates, 0 in the held ones."""
        return self.points * self.free

    @property
    def normal(self) -> Enclosure:
        """The normal n = p_free/e where the ball is active, else 0."""
        middle = _rows.unit(self.inside) * self.curved[:, None]
        # |p̂ - p| ≤ slack in each coordinate, and the quotient's own rounding.
        gap = up(self.slack / self.radius.lower, 2)[:, None]
        rounding = gamma(self.points.shape[1] + 6) * middle.abs()
        return Enclosure(
            middle, up(gap + rounding) * (self.free & self.curved[:, None])
        )


def stand(limits: Limits, points: Tensor, free: Tensor, curved: Tensor) -> Stand:
    """The real points next to float ones on a given face.

    Args:
        limits: of the region.
        points: `[rows, d]`; where not `free` they are put on the nearer limit.
        free: `[rows, d]` bool.
        curved: `[rows]` bool.
    """
    # Where no coordinate is free there is no sphere to stand on. Where the sphere is
    # the region, there is nothing else to stand on.
    curved = (curved | limits.sphere) & free.any(1)
    upper_side = limits.upper - points <= points - limits.lower
    limit = torch.where(upper_side, limits.upper, limits.lower)
    points = torch.where(free, points, limit)
    side = torch.where(upper_side, 1.0, -1.0).to(points)
    side = torch.where(free | (limits.lower == limits.upper), 0.0, side)
    held = Enclosure.exact(torch.where(free, 0.0, points))
    whole = Enclosure.exact(limits.radius)
    left = whole * whole - held.dot(held)
    flat = ~curved
    # √ of an enclosure of positive numbers; rows with nothing left prove nothing (NaN).
    root = Enclosure.between(
        down(left.lower.sqrt(), 2), up(left.upper.clamp(min=0).sqrt(), 2)
    )
    own = Enclosure.exact(torch.where(free, points, 0.0)).norm()
    # Where all held coordinates are 0 the root is ε itself.
    exact = root if bool(held.middle.any()) else whole
    radius = Enclosure(
        torch.where(flat, 1.0, exact.middle), torch.where(flat, 0.0, exact.radius)
    )
    gap = torch.maximum(up(own.upper - exact.lower), up(exact.upper - own.lower))
    slack = torch.where(flat, 0.0, gap.clamp(min=0))
    aside = torch.minimum(
        down(limits.upper - points), down(points - limits.lower)
    ).masked_fill(~free, torch.inf)
    room = down(aside.amin(1) - slack)
    size = Enclosure.exact(points).norm().upper
    room = torch.where(flat, torch.minimum(room, down(limits.radius - size)), room)
    return Stand(points, slack, free, side, curved, radius, room)


def faces(
    limits: Limits, points: Tensor, gradient: Tensor, bent: Tensor, snap: Tensor
) -> tuple[Tensor, Tensor]:
    """(free, curved): which constraints hold a point that is nearly stationary.

    A limit holds where the point is within `snap` of it and the Lagrangian would press
    against it *there*: at the point itself the gradient is rounding where the maximum
    lies next to its limit. A mistake leads to no proof, never to a false one.

    Args:
        limits: of the region.
        points: `[rows, d]` floats.
        gradient: ∇F there.
        bent: the diagonal of ∇²F there.
        snap: `[rows]`.
    """
    norm = points.norm(dim=1)
    outward = (gradient * points).sum(1)
    curved = (norm >= limits.radius - snap) & (outward > 0)
    if limits.sphere:
        curved = torch.ones_like(curved)
    near = torch.minimum(limits.upper - points, points - limits.lower)
    close = near <= (snap / points.shape[1] ** 0.5)[:, None]
    upper_side = limits.upper - points <= points - limits.lower
    side = torch.where(upper_side, 1.0, -1.0).to(points)
    # μ from the coordinates that are not at a limit; all of them where none is free.
    loose = torch.where(close, 0.0, points)
    square = loose.square().sum(1)
    along = (gradient * loose).sum(1) / square.clamp(min=1e-300)
    multiplier = torch.where(curved & (square > 0), along, 0.0)
    limit = torch.where(side > 0, limits.upper, limits.lower)
    limit = torch.where(limit.isfinite(), limit, points)
    at_limit = gradient + bent * (limit - points)
    press = side * (at_limit - multiplier[:, None] * limit)
    fixed = limits.lower == limits.upper
    return ~((close & (press > 0)) | fixed), curved
