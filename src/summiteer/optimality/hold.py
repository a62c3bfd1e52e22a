"""Where the maximisers of a concave minorant are: Prop. 9 on every convex region.

F_π is F with the convex neurons straightened by their pattern π. For shares ρ with
ρ_j = π_j in the convex neurons and any λ_j ∈ [0, 1] in the concave ones, v the slope
of that affine function: F_π(q) ≤ F_π(p) + Γ + vᵀ(q - p), Γ its waste at p.

With v = μp + Σ_held s_iν_ie_i + r, μ ≥ 0, ν ≥ 0 and d = q - p (`stand.py`: s_id_i ≤ 0,
and pᵀd ≤ -‖d‖²/2 where p is on the sphere),

    F_π(q) - F_π(p) ≤ Γ + ‖r‖‖d‖ - ½μ‖d‖² - Σν_i|d_i|.

- The ball holds p: every q of C with F_π(q) ≥ F_π(p), and so every maximiser, is within
  (‖r‖ + √(‖r‖² + 2μΓ))/μ of p. Where ‖r‖ = 0, the √(2εΓ/‖v‖) of Prop. 9.
- All coordinates are held: within Γ/min ν_i.
- Else kinks must hold the free coordinates d_I. The inequality is true for all λ at
  once, λ_j ± θτ_j with τ_j = min(λ_j, 1 - λ_j) too: the best of them adds
  -θ Σ_j τ_j|k_jw_jᵀd|. With θ so small that the held coordinates' part of it is below
  ½Σν_i|d_i|, and σ such that Σ_j τ_j|k_jw_{j,I}ᵀd_I| ≥ σ‖d_I‖ (a verified left
  inverse), within Γ/min(θσ - ‖r‖, ½ν_i).
"""

from dataclasses import dataclass

import torch
from scipy.optimize import linprog, lsq_linear
from torch import Tensor

from summiteer.optimality.relu_form import Kinked, longest
from summiteer.optimality.rounding import Enclosure, down, length, up
from summiteer.optimality.stand import Limits, Stand, faces, stand

#: A coordinate this near to its limit, in units of the region, stands on it: floats
#: that a search put there.
_SNAP = 1e-9
#: Multipliers this near to 0 or 1 are 0 or 1: polished ones are exact.
_ROUND = 1e-14
#: Singular values below this share of the largest are zero.
_RANK = 1e-10
#: Kinks up to which what they hold is looked at.
_KINKS = 512


@dataclass(frozen=True, eq=False)
class Lean:
    """An affine function, and how it leans on the constraints at a point; `[rows]`.

    Attributes:
        stand: the real points p.
        inner: h at p `[rows, m]`.
        shares: ρ `[rows, m]`.
        slope: v `[rows, d]`.
        multiplier: μ ≥ 0, 0 where the ball does not hold p.
        pressure: ≤ ν_i `[rows, d]`, inf where not held.
        wrong: the part of `leftover` at limits that v does not press against.
        leftover: ≥ ‖r‖.
    """

    stand: Stand
    inner: Enclosure
    shares: Tensor
    slope: Enclosure
    multiplier: Tensor
    pressure: Tensor
    wrong: Tensor
    leftover: Tensor

    def spread(self, gap: Tensor) -> Tensor:
        """≥ ‖d‖ wherever the affine function is ≥ its value at p - gap; NaN if unknown.

        Args:
            gap: `[rows]` ≥ 0.
        """
        share = up(self.leftover / self.multiplier)
        curl = up(2 * up(gap / self.multiplier))
        wide = up(share + up(up(share * share + curl, 3).sqrt(), 2))
        able = self.stand.curved & (self.multiplier > 0) & wide.isfinite()
        return torch.where(able, wide, torch.nan)


@dataclass(frozen=True, eq=False)
class Hold:
    """What holds the maximisers of F_π; all `[rows]`.

    Attributes:
        lean: of the affine function above F_π.
        spread: ≥ the distance from p to every maximiser of F_π on C; NaN if unknown.
        rise: ≥ F_π there - F_π(p).
        near: ≥ how far p is from the point where the kinks that hold it meet; 0 where
            no kink holds a coordinate, NaN if unknown.
    """

    lean: Lean
    spread: Tensor
    rise: Tensor
    near: Tensor

    def touching(self, kinked: Kinked, radius: Tensor | None = None) -> Tensor:
        """Which neurons may be at their kink within `radius` of p `[rows, m]`.

        Args:
            kinked: F.
            radius: `spread` if None.
        """
        wide = self.spread if radius is None else radius
        way, inner = up(wide[:, None] * kinked.lengths), self.lean.inner
        away = (inner.lower > way) | (inner.upper < -way)
        return ~away & (kinked.sign != 0)


def lean(kinked: Kinked, limits: Limits, points: Tensor, shares: Tensor) -> Lean:
    """How the affine function of some shares leans on C at a point.

    Args:
        kinked: F.
        limits: C; of a sphere, its ball.
        points: `[rows, d]` floats.
        shares: ρ `[rows, m]` in [0, 1]; those of concave neurons may be rounded.
    """
    whole = shares.round()
    close = kinked.concave & ((shares - whole).abs() <= _ROUND)
    shares = torch.where(close, whole, shares).clamp(0.0, 1.0)
    slope = kinked.coefficients(shares) @ kinked.hidden
    snap = _SNAP * limits.reach
    nothing = torch.zeros_like(points)
    free, curved = faces(limits, points, slope.middle, nothing, snap)
    standing = stand(limits, points, free, curved)
    inner = kinked.inner(standing.points, standing.slack)
    lag, multiplier = _lagrangian(standing, slope)
    free = standing.free
    push = torch.where(standing.side == 0, torch.inf, (lag * standing.side).lower)
    loose = up(multiplier * standing.slack)
    inside = Enclosure(lag.middle * free, lag.radius * free).norm().upper
    wrong = torch.where(standing.side == 0, 0.0, (-push).clamp(min=0))
    wrong = torch.where((wrong == 0).all(1), 0.0, length(wrong))
    left = up(up(inside + loose) + wrong)
    push = push.clamp(min=0)
    return Lean(standing, inner, shares, slope, multiplier, push, wrong, left)


def hold(kinked: Kinked, limits: Limits, points: Tensor, shares: Tensor) -> Hold:
    """Bound where the maximisers of F_π are, from a point and multipliers.

    Args:
        kinked: F.
        limits: C; of a sphere, its ball.
        points: `[rows, d]` floats, the maximisers as found.
        shares: ρ `[rows, m]`, exactly 0 or 1 in convex neurons.
    """
    held = _hold(kinked, limits, points, shares)
    leant = held.lean
    lost = held.spread.isnan() & ~leant.stand.curved & leant.stand.free.any(1)
    changed = False
    shares = leant.shares.clone()
    for row in lost.nonzero().flatten().tolist():
        better = _centred(kinked, leant, row, float(limits.reach[row]))
        if better is not None:
            changed, shares[row] = True, better
    return _hold(kinked, limits, points, shares) if changed else held


def _hold(kinked: Kinked, limits: Limits, points: Tensor, shares: Tensor) -> Hold:
    leant = lean(kinked, limits, points, shares)
    standing, waste = leant.stand, kinked.waste(leant.inner, leant.shares)
    inside = standing.room >= 0
    spread = torch.where(inside, leant.spread(waste), torch.nan)
    near = torch.zeros_like(spread)
    rows = (~standing.curved & inside & (leant.wrong == 0)).nonzero().flatten()
    for row in rows.tolist():
        spread[row], near[row] = _unrolled(kinked, leant, row, waste[row])
    rise = up(waste + up(leant.leftover * spread))
    return Hold(leant, spread, rise, near)


def _centred(kinked: Kinked, held: Lean, row: int, size: float) -> Tensor | None:
    """Multipliers with the same v in the free coordinates, far from 0 and 1, or None.

    Where more kinks meet than are needed the multipliers are not unique, and a search
    may end at 0 or 1, where a kink holds nothing. Floats, for trying again.

    Args:
        kinked: F.
        held: at the points.
        row: which.
        size: of the region.
    """
    free, side = held.stand.free[row], held.stand.side[row]
    close = held.inner.middle[row].abs() <= _SNAP * size * kinked.lengths
    ties = (kinked.concave[row] & close).nonzero().flatten()
    if not int(free.sum()) < len(ties) <= _KINKS:
        return None
    pulls = kinked.kink.middle[row, ties][:, None] * kinked.hidden[ties]
    scale = pulls.abs().amax()
    if not bool(scale > 0) or not bool(scale.isfinite()):
        return None
    pulls = pulls / scale
    _, values, ways = torch.linalg.svd(pulls[:, free].T)
    ways = ways[int((values > _RANK * values.amax()).sum()) :].T
    if not ways.shape[1]:
        return None
    share, tight = held.shares[row, ties], side != 0
    pressed = -side[tight][:, None] * (pulls[:, tight].T @ ways)
    slope = side[tight] * held.slope.middle[row, tight] / scale
    left = torch.cat([-ways, ways, pressed])
    left = torch.cat([left, torch.ones_like(left[:, :1])], 1)
    right = torch.cat([share, 1 - share, slope])
    if not bool(left.isfinite().all() & right.isfinite().all()):
        return None
    goal = left.new_zeros(left.shape[1])
    goal[-1] = -1.0
    found = linprog(goal.numpy(), left.numpy(), right.numpy(), bounds=(None, None))
    if found.status != 0:
        return None
    result = held.shares[row].clone()
    result[ties] = share + ways @ torch.as_tensor(found.x[:-1])
    return result.clamp(0.0, 1.0)


def _lagrangian(standing: Stand, slope: Enclosure) -> tuple[Enclosure, Tensor]:
    """(v - μp, μ): any μ serves, the best float is taken."""
    inside = standing.inside
    along = (slope.middle * inside).sum(1) / standing.radius.middle.square()
    multiplier = torch.where(standing.curved, along.clamp(min=0), 0.0)
    return slope - Enclosure.exact(standing.points) * multiplier[:, None], multiplier


def _unrolled(
    kinked: Kinked, held: Lean, row: int, waste: Tensor
) -> tuple[float, float]:
    """(spread, near) where no ball holds the point (see the head of this file)."""
    nothing, free = (torch.nan, torch.nan), held.stand.free[row]
    pressure = held.pressure[row]
    weakest = pressure.amin()
    if not bool(free.any()):
        size = down(weakest)
        return float(up(waste / size)) if size > 0 else torch.nan, 0.0
    share = held.shares[row]
    slack = down(torch.minimum(share, 1 - share))
    ties = (kinked.concave[row] & (slack > 0)).nonzero().flatten()
    if not int(free.sum()) <= len(ties) <= _KINKS:
        return nothing
    kink = Enclosure(kinked.kink.middle[row, ties], kinked.kink.radius[row, ties])
    scale = kink * slack[ties]
    grip = _outer(scale, kinked.hidden[ties])
    stiff = _stiffness(grip.middle[:, free], grip.radius[:, free])
    if not stiff > 0:
        return nothing
    tight = pressure.isfinite()
    count = len(ties)
    cost = up(up(grip.magnitude[:, tight]).sum(0), count)
    theta = torch.ones((), dtype=torch.float64)
    if bool(tight.any()):
        theta = down(down(pressure[tight] / 2) / cost.clamp(min=1e-300)).amin()
        theta = theta.clamp(max=1.0)
    gain = torch.minimum(
        down(down(theta * stiff) - held.leftover[row]), down(weakest / 2)
    )
    if not gain > 0:
        return nothing
    height = up(held.inner.middle[row, ties].abs() + held.inner.radius[row, ties])
    # The waste of every λ_j ∈ [0, 1].
    whole = up(waste + up(up(kink.magnitude * height).sum(), count))
    # For the way d to where all these h_j are 0, Σ τ_j|k_jw_jᵀd| = Σ τ_j|k_jh_j|.
    missed = up(up(scale.magnitude * height).sum(), count)
    square = count == int(free.sum())
    near = float(up(missed / stiff)) if square else torch.nan
    return float(up(whole / gain)), near


def _outer(scale: Enclosure, matrix: Tensor) -> Enclosure:
    """diag(scale) · matrix."""
    column = Enclosure(scale.middle[:, None], scale.radius[:, None])
    return column * matrix


def _stiffness(middle: Tensor, radius: Tensor) -> Tensor:
    """≤ the least ‖Bd‖₁/‖d‖₂ over d, of an enclosed B `[t, n]`, t ≥ n; 0 if unknown.

    With X B = I - E: ‖d‖ ≤ ‖X(Bd)‖ + ‖E‖‖d‖ ≤ max‖x_j‖·‖Bd‖₁ + ‖E‖‖d‖.
    """
    size = middle.abs().amax()
    if not bool(size > 0) or not bool(size.isfinite()):
        return torch.zeros((), dtype=torch.float64)
    try:
        inverse = torch.linalg.pinv(middle / size) / size
    except RuntimeError:  # of LAPACK
        return torch.zeros((), dtype=torch.float64)
    product = Enclosure(middle.T, radius.T) @ inverse.T.contiguous()
    off = product - torch.eye(middle.shape[1], dtype=torch.float64)
    missed = length(off.magnitude.reshape(1, -1))[0]
    stiff = down(down(1 - missed) / longest(inverse))
    return torch.where(stiff > 0, stiff, 0.0)


def strict(kinked: Kinked, limits: Limits, held: Hold, asked: Tensor) -> Tensor:
    """Whether F_π has one maximiser only, where `spread` is known `[rows]`.

    On a sphere that is so unless some dual solution has v = 0 in the coordinates that
    no limit holds: its multipliers differ from ours only where kinks touch.

    Args:
        kinked: F.
        limits: C.
        held: of F_π.
        asked: `[rows]` bool, the rows to look at.
    """
    touching = held.touching(kinked) & kinked.concave
    # Where no kink touches, λ is that of the side.
    side = (held.lean.inner.middle > 0).to(held.lean.shares)
    wrong = (held.lean.shares != side) & kinked.concave & ~touching
    known = asked & ~held.spread.isnan() & ~wrong.any(1)
    result = torch.zeros(len(kinked), dtype=torch.bool)
    curved = held.lean.stand.curved
    rows = (known & curved).nonzero().flatten()
    if len(rows):
        result[rows] = _strict_curved(kinked, limits, held, rows, touching[rows])
    for row in (known & ~curved).nonzero().flatten().tolist():
        ties = touching[row].nonzero().flatten()
        result[row] = _strict_unrolled(kinked, held, row, ties)
    return result


def _strict_curved(
    kinked: Kinked, limits: Limits, held: Hold, rows: Tensor, touching: Tensor
) -> Tensor:
    """0 ∉ {v_I(λ) : λ ∈ [0, 1] where kinks touch}: a hyperplane separates them.

    Args:
        kinked: F.
        limits: C.
        held: of F_π.
        rows: numbers `[n]`.
        touching: `[n, m]`.
    """
    some, region, standing = kinked.take(rows), limits.take(rows), held.lean.stand
    point = standing.points[rows]
    way = up(held.spread[rows] + standing.slack[rows])
    aside = torch.minimum(region.upper - point, point - region.lower)
    free = standing.free[rows] & (down(aside) > way[:, None])
    shares = held.lean.shares[rows].masked_fill(touching, 0.0)
    base = some.coefficients(shares) @ kinked.hidden
    base = Enclosure(base.middle * free, base.radius * free)
    # The slope that the multipliers found give may do; else it is searched for.
    normal = held.lean.slope.middle[rows] * free
    normal = normal / normal.abs().amax(1, keepdim=True).clamp(min=1e-300)
    each = ((Enclosure.exact(normal) @ kinked.hidden.T) * some.kink).lower
    each = torch.where(touching, (-each).clamp(min=0), 0.0)
    lost = up(each.sum(1), each.shape[1] + 1)
    apart = down(base.dot(normal).lower - lost) > 0
    for i in (touching.any(1) & ~apart).nonzero().flatten().tolist():
        ties = touching[i].nonzero().flatten()
        kink = Enclosure(some.kink.middle[i, ties], some.kink.radius[i, ties])
        pulls = _outer(kink, kinked.hidden[ties] * free[i])
        normal[i], lost[i] = _separated(pulls, base.middle[i])
    return down(base.dot(normal).lower - lost) > 0


def _separated(pulls: Enclosure, base: Tensor) -> tuple[Tensor, Tensor]:
    """(n, ≥ Σ_j max(-nᵀx_j, 0)): n the point of base + Σ_j [0, 1]x_j nearest to 0.

    Args:
        pulls: x_j `[t, d]`.
        base: `[d]` floats.
    """
    size = torch.maximum(base.abs().amax(), pulls.middle.abs().amax())
    if not bool(size > 0) or not bool(size.isfinite()):
        return torch.zeros_like(base), torch.zeros_like(size)
    normal, matrix = base / size, pulls.middle.T / size
    solved = lsq_linear(matrix.numpy(), -normal.numpy(), bounds=(0.0, 1.0))
    normal = normal + matrix @ torch.as_tensor(solved.x)
    each = pulls.dot(normal.expand_as(pulls.middle)).lower
    return normal, up((-each).clamp(min=0).sum(), len(each) + 1)


def _strict_unrolled(kinked: Kinked, held: Hold, row: int, ties: Tensor) -> bool:
    """Vertices that stay pressed whatever λ is, and points that kinks alone fix."""
    if not bool(held.lean.stand.free[row].any()):
        tight = held.lean.pressure[row].isfinite()
        scale = up(kinked.kink.middle[row, ties].abs() + kinked.kink.radius[row, ties])
        pulls = up((scale[:, None] * kinked.hidden[ties].abs()).sum(0), len(ties) + 3)
        return bool((down(held.lean.pressure[row] - pulls)[tight] > 0).all())
    share = held.lean.shares[row]
    used = (kinked.concave[row] & (share > 0) & (share < 1)).nonzero().flatten()
    if not torch.equal(used, ties):
        return False
    near = held.near[row]
    return bool((near <= held.spread[row]) & (near < held.lean.stand.room[row]))
