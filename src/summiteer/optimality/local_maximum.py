"""Local maxima of piecewise-linear networks: Props. 10 and 11, with kinks.

On N = C ∩ B(p, R) let F ≤ F(p) + Γ + ḡᵀ(q - p) with ḡ in an enclosure of gradients.
Two ways to have that:

- Γ = 0 and all Clarke gradients of F on N (Lebourg's mean value theorem);
- kinks with weight ≤ 0 on N replaced by a line between their sides, slope σ: F ≤ F_σ,
  affine on N, Γ = F_σ(p) - F(p) (Prop. 9's dual at a point, at any depth).

Where the ball is active, ḡ = μp + Σ s_iλ_ie_i + r gives (Prop. 3 on ball ∩ box, M = 0)
F(q) ≤ F(p) + Γ + ‖r‖D - ½μD², D = ‖q - p‖: the maximum of F over N lies within
(2‖r‖ + √(2μΓ))/μ of p, and if that is below R it is a local maximum over C. Where only
coordinates are held, F(q) ≤ F(p) + Γ - Σ λ_i|q_i - p_i|.
"""

from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks.activations.base import UNIT_ROUNDOFF
from summiteer.optimality.first_order import Multipliers, OfGradient
from summiteer.optimality.local_form import Patch
from summiteer.optimality.norms import spectral
from summiteer.optimality.readout import Difference, Entropy
from summiteer.optimality.rounding import Enclosure, down, gamma, length, up
from summiteer.optimality.stand import Stand


@dataclass(frozen=True, eq=False)
class Summit:
    """That a local maximiser lies near, all `[rows]`.

    Attributes:
        proved: bool.
        strict: bool, whether it is a strict one.
        distance: ≥ its distance from p; NaN where not proved.
        gain: ≥ F there - F(p).
        radius: no point of C within it is higher than p by more than `gain`.
        margin: μ, the least λ_i, or s of `sharpness.py`: what was shown to be positive.
        tangential: ‖r‖.
    """

    proved: Tensor
    strict: Tensor
    distance: Tensor
    gain: Tensor
    radius: Tensor
    margin: Tensor
    tangential: Tensor

    def better(self, other: "Summit") -> "Summit":
        """These where proved, else the other ones."""
        return _rows.choose(self.proved, self, other)

    def where(self, sound: Tensor) -> "Summit":
        """These where `sound` `[rows]`; nothing proved elsewhere."""
        return replace(
            self,
            proved=self.proved & sound,
            strict=self.strict & sound,
            distance=torch.where(sound, self.distance, torch.nan),
            gain=torch.where(sound, self.gain, torch.nan),
            radius=torch.where(sound, self.radius, torch.nan),
        )


def nothing_proved(rows: int) -> Summit:
    """No word on any row."""
    no = torch.zeros(rows, dtype=torch.bool)
    nan = torch.full((rows,), torch.nan, dtype=torch.float64)
    return Summit(no, no.clone(), *(nan.clone() for _ in range(5)))


@dataclass(frozen=True, eq=False)
class Bend:
    """What curvature takes from multipliers on a neighbourhood.

    Attributes:
        ball: from μ `[rows]`.
        held: from those of held coordinates `[rows, d]`.
        drift: ≥ |dμ/dδ| `[rows]`.
    """

    ball: Tensor
    held: Tensor
    drift: Tensor


def _leftover(first: Multipliers, need: Tensor) -> Tensor:
    """`Multipliers.leftover` where held coordinates need a multiplier ≥ `need`."""
    short = up(need - first.pressure).clamp(min=0)
    violated = torch.where(first.stand.side == 0, 0.0, short)
    return up(first.tangential + length(violated))


def summit(
    patch: Patch,
    stand: Stand,
    gradient: Enclosure,
    gap: Tensor,
    bend: "Bend | None" = None,
) -> Summit:
    """Whether F ≤ F(p) + Γ + ḡᵀ(q - p) (plus curvature) proves a maximum near p.

    Where F is piecewise affine, every gradient on N has gᵀp_I > 0, and no free
    coordinate meets a limit there, the maximiser is strict: if two lay on one affine
    piece, so would their midpoint, which is inside the ball, and from which p_I leads
    uphill.

    Args:
        patch: N, of a radius that includes the stand's slack.
        stand: the real points p.
        gradient: of ḡ `[rows, d]`.
        gap: Γ `[rows]`.
        bend: what curvature takes from the multipliers where the ball is active.
    """
    first = OfGradient(gradient, stand)
    room = down(patch.radius - stand.slack)
    inside = within(patch, stand)
    curved = stand.curved & inside
    nothing = torch.zeros_like(room)
    multiplier = down(first.multiplier - (nothing if bend is None else bend.ball))
    left = first.leftover if bend is None else _leftover(first, bend.held)
    hop = up(up(2 * multiplier * gap).sqrt(), 2)
    round_distance = up(up(2 * left + hop) / multiplier)
    round_gain = up(gap + up(left * (left / multiplier) / 2, 3))
    # Coordinates that F does not depend on may be anywhere.
    alive = patch.alive
    loose = (stand.free & alive).any(1)
    held = torch.where(alive & ~stand.free, first.pressure, torch.inf)
    press = held.amin(1)
    # Width 0 on both sides, or nothing alive: nothing can be gained at all.
    flat_distance = torch.where(gap > 0, up(gap / press), 0.0)
    vertex = ~loose & (press > 0) & ~stand.curved & inside
    distance = torch.where(curved, round_distance, flat_distance)
    sound = torch.where(curved, multiplier > 0, vertex) & (distance < room)
    sound = sound & patch.holds & torch.isfinite(distance)
    # Nothing of p may stick out of C, and p must be where N was made.
    everything = (alive | (stand.side == 0) & ~stand.free).all(1)
    firm = _firm(patch, first, distance, multiplier, bend)
    strict = sound & torch.where(curved, firm, (gap == 0) & everything)
    return Summit(
        sound,
        strict,
        torch.where(sound, distance, torch.nan),
        torch.where(sound, torch.where(curved, round_gain, gap), torch.nan),
        torch.where(sound, room, torch.nan),
        torch.where(curved, multiplier, press),
        left,
    )


def within(patch: Patch, stand: Stand) -> Tensor:
    """Whether the real points lie in C `[rows]`: a corner may stick out of the ball.

    Those that are not on the ball are floats, and may lie on a limit exactly.
    """
    limits, points = patch.form.limits, stand.points
    between = ((points <= limits.upper) & (points >= limits.lower)).all(1)
    flat = between & (length(points) <= limits.radius)
    return torch.where(stand.curved, stand.room >= 0, flat)


def _firm(
    patch: Patch,
    first: Multipliers,
    distance: Tensor,
    multiplier: Tensor,
    bend: "Bend | None",
) -> Tensor:
    """Whether a maximiser next to a point on the ball is a strict one `[rows]`.

    With curvature: what was shown at p holds at the maximiser q* too, D away. On the
    way μ changes by at most drift·D, a multiplier λ_i by drift·(e + |p_i|)D, and with
    the tangent space λ_max(B_tᵀB_t) by 3‖B‖²D/e, the rest by 2‖B‖²D/e; drift ≥ ‖B‖²/e.
    """
    limits, stand = patch.form.limits, first.stand
    # No free coordinate meets a limit on N.
    clear = (stand.room > patch.radius) | (not limits.boxed)
    alone = patch.tied == 0
    if bend is None:
        if limits.sphere:
            return alone
        hull = OfGradient(patch.whole.gradient, stand)
        return (hull.outward.lower > 0) & clear
    moved = up(8 * distance * bend.drift, 2)
    reach = up(stand.radius.upper[:, None] + stand.points.abs())
    spare = down(first.pressure - bend.held)
    held = (stand.side == 0) | (spare > up(moved[:, None] * reach))
    return alone & clear & (multiplier > moved) & held.all(1)


def certified(patch: Patch, stand: Stand) -> Summit:
    """Maxima of one affine piece, or with kinks on which all gradients agree.

    Args:
        patch: N, of a radius that includes the stand's slack.
        stand: the real points p.
    """
    nothing = torch.zeros_like(patch.radius)
    return raised(patch, stand, patch.slopes, nothing, patch.tied == 0)


def raised(
    patch: Patch,
    stand: Stand,
    slopes: dict[int, Enclosure],
    gap: Tensor,
    smooth: Tensor,
) -> Summit:
    """Maxima of what is above F on N: the network with these slopes.

    Args:
        patch: N, of a radius that includes the stand's slack.
        stand: the real points p.
        slopes: of all kinks: all that they may have, or chosen ones.
        gap: Γ `[rows]`.
        smooth: whether the network with the slopes is one affine map `[rows]`.
    """
    found = summit(patch, stand, patch.pulled(slopes).gradient, gap)
    index = (stand.curved & smooth & patch.holds).nonzero().flatten()
    if isinstance(patch.form.readout, Difference) or not len(index):
        return found
    # Curved on the ball: Taylor at p, where the gradients of all of N are too coarse.
    # K more passes, for the rows that need them alone.
    part, some = patch.take(index), stand.take(index)
    chosen = {number: _rows.take(slope, index) for number, slope in slopes.items()}
    curved = _curved(part, some, chosen, gap[index])
    return _put(found, index, curved)


def _curved(
    patch: Patch, stand: Stand, slopes: dict[int, Enclosure], gap: Tensor
) -> Summit:
    """`summit` with the curvature of a cross-entropy."""
    # φ's own gradient counts at what the chosen slopes make of p, not at what F does.
    outputs = patch.relaxed(stand.slack, slopes)
    gradient = patch.pulled(slopes, outputs).gradient
    bend = softmax_bend(patch, stand, gradient, slopes)
    return summit(patch, stand, gradient, gap, bend)


def _put(found: Summit, index: Tensor, part: Summit) -> Summit:
    """The rows `index` replaced."""
    changes = {
        field.name: getattr(found, field.name).index_copy(
            0, index, getattr(part, field.name)
        )
        for field in fields(found)
    }
    return replace(found, **changes)


def softmax_bend(
    patch: Patch, stand: Stand, gradient: Enclosure, slopes: dict[int, Enclosure]
) -> "Bend":
    """What the cross-entropy's curvature takes from the multipliers on N (Prop. 11).

    vᵀφ''v = min_c Σ s_i(v_i - c)² for the softmax s, so with s ≤ s⁺ on N, any c and
    B = diag(√s⁺)(J - 1ŝᵀJ): ∇²F ≼ BᵀB on N. With d = q - p, d_I = -an + τ in the free
    coordinates, S = -pᵀd ≥ D²/2 and |a| ≤ (S + Σ_A|p_id_i|)/e,
    ½‖Bd‖² ≤ ½‖B_t‖²D² + κY, κ = R(‖B_t‖ + ½‖Bn‖ + ½‖B_A‖), B_t = B on the tangent
    space, Y = ‖Bn‖S/e + Σ_A(‖Bn‖|p_i|/e + ‖B_i‖)|d_i|: the rest takes κ‖Bn‖/e from μ
    and κ(‖Bn‖|p_i|/e + ‖B_i‖) from the multiplier of a held coordinate.

    Args:
        patch: N.
        stand: p.
        gradient: at p.
        slopes: of all kinks.
    """
    readout = patch.form.readout
    assert isinstance(readout, Entropy)
    high = readout.shares(patch.everywhere)[1]
    terms = readout.classes + 4
    share = torch.softmax(patch.outputs.middle, 1)
    eye = torch.eye(readout.classes, dtype=torch.float64)
    rows = [
        patch.pull(Enclosure.exact(unit.expand(len(share), -1)), slopes).gradient
        for unit in eye
    ]
    middle = torch.stack([row.middle for row in rows], 1)
    radius = torch.stack([row.radius for row in rows], 1)
    mean = torch.einsum("rk,rkd->rd", share, middle)
    doubt = torch.einsum("rk,rkd->rd", share, radius + gamma(terms) * middle.abs())
    weight = up(high.sqrt(), 2)[:, :, None]
    heavy = Enclosure(middle - mean[:, None], up(radius + doubt[:, None], terms))
    heavy = Enclosure(
        heavy.middle, up(heavy.radius + 4 * UNIT_ROUNDOFF * heavy.middle.abs(), 2)
    ) * Enclosure.exact(weight)
    whole = _spectral_of(heavy)
    steep = OfGradient(gradient, stand).steepness.upper
    e = stand.radius.lower
    drift = up(up(whole * whole + up(steep / e)) / e)
    normal, free = stand.normal, stand.free[:, None]
    lifted = Enclosure(normal.middle[:, None], normal.radius[:, None])
    along = heavy.dot(lifted)
    column = Enclosure(along.middle[:, :, None], along.radius[:, :, None])
    across = heavy - column * lifted
    tangent = _spectral_of(Enclosure(across.middle * free, across.radius * free))
    held = Enclosure(heavy.middle * ~free, heavy.radius * ~free)
    each = length(held.magnitude.mT)
    push = along.norm().upper
    rest = up(push + _spectral_of(held), 2)
    near = up(patch.radius * up(tangent + rest / 2, 3), 2)
    pull = up(push / e, 2)
    need = up(near[:, None] * up(pull[:, None] * stand.points.abs() + each, 3), 2)
    # Only where q_i - p_i and p_i have opposite signs.
    inwards = (stand.side * stand.points >= 0).all(1)
    bend = up(tangent * tangent + up(near * pull, 2), 2)
    return Bend(
        torch.where(inwards, bend, up(whole * whole)),
        torch.where(inwards[:, None], need, 0.0),
        drift,
    )


def _spectral_of(matrices: Enclosure) -> Tensor:
    """≥ ‖·‖₂ of every matrix enclosed `[rows, K, d]`."""
    middle = spectral(matrices.middle, squarings=6)
    return up(middle + length(matrices.radius.flatten(1)))
