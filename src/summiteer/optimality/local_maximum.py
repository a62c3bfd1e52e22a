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

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.networks.activations.base import UNIT_ROUNDOFF
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.local_form import Patch, Pulled
from summiteer.optimality.pieces import spectral
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
        margin: μ, or the least λ_i: what was shown to be positive.
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


def summit(
    patch: Patch,
    stand: Stand,
    gradient: Enclosure,
    gap: Tensor,
    bend: Tensor | None = None,
    drift: Tensor | None = None,
) -> Summit:
    """Whether F ≤ F(p) + Γ + ḡᵀ(q - p) (+ ½·bend·D²) proves a maximum near p.

    Where F is piecewise affine and every gradient on N has gᵀp_I > 0, the maximiser is
    strict: if two lay on one affine piece, so would their midpoint, which is inside the
    ball, and from which p_I leads uphill.

    Args:
        patch: N, of a radius that includes the stand's slack.
        stand: the real points p.
        gradient: of ḡ `[rows, d]`.
        gap: Γ `[rows]`.
        bend: ≥ 0, what curvature takes from μ where the ball is active; 0 if None.
        drift: ≥ |dμ/dδ| where F is curved.
    """
    first = FirstOrder(Pulled(gradient), stand)
    room = down(patch.radius - stand.slack)
    curved = stand.curved & (stand.room >= 0)
    nothing = torch.zeros_like(room)
    multiplier = down(first.multiplier - (nothing if bend is None else bend))
    left = first.leftover
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
    vertex = ~loose & (press > 0) & ~stand.curved
    distance = torch.where(curved, round_distance, flat_distance)
    sound = torch.where(curved, multiplier > 0, vertex) & (distance < room)
    sound = sound & patch.holds & torch.isfinite(distance)
    # Nothing of p may stick out of C, and p must be where N was made.
    everything = (alive | (stand.side == 0) & ~stand.free).all(1)
    if drift is None:
        hull = FirstOrder(Pulled(patch.whole.gradient), stand)
        limits = patch.form.limits
        clear = (not limits.boxed) | (stand.room > patch.radius)
        uphill = (hull.outward.lower > 0) & clear & (not limits.sphere)
        firm = (patch.tied == 0) | uphill
    else:
        firm = (patch.tied == 0) & (multiplier > up(distance * drift))
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


def certified(patch: Patch, stand: Stand) -> Summit:
    """Maxima of one affine piece, or with kinks on which all gradients agree.

    Args:
        patch: N, of a radius that includes the stand's slack.
        stand: the real points p.
    """
    nothing = torch.zeros_like(patch.radius)
    found = summit(patch, stand, patch.whole.gradient, nothing)
    readout = patch.form.readout
    if isinstance(readout, Difference) or not bool(stand.curved.any()):
        return found
    # Curved on the ball: Taylor at p, where the gradients of all of N are too coarse.
    there = patch.form.around(stand.points, stand.slack)
    gradient = patch.pulled(patch.slopes, there.everywhere).gradient
    bend, drift = softmax_bend(patch, stand, gradient)
    smooth = patch.tied == 0
    curved = summit(patch, stand, gradient, nothing, bend, drift)
    return _rows.choose(stand.curved & smooth, curved, found)


def softmax_bend(
    patch: Patch, stand: Stand, gradient: Enclosure
) -> tuple[Tensor, Tensor]:
    """What the cross-entropy's curvature takes from μ on N (Prop. 11), and |dμ/dδ|.

    vᵀφ''v = min_c Σ s_i(v_i - c)² for the softmax s, so with s ≤ s⁺ on N, any c and
    B = diag(√s⁺)(J - 1ŝᵀJ): ∇²F ≼ BᵀB on N. On a whole ball, with q - p = -an + τ,
    a ≥ D²/2ε: λ = ‖Bτ‖²/‖τ‖² counts on the tangent space only, for
    ½‖B(q - p)‖² ≤ ½λD² + a(R‖B_t‖‖Bn‖ + ½R‖Bn‖²).

    Args:
        patch: N.
        stand: p.
        gradient: at p.
    """
    readout = patch.form.readout
    assert isinstance(readout, Entropy)
    high = readout.shares(patch.everywhere)[1]
    terms = readout.classes + 4
    share = torch.softmax(patch.outputs.middle, 1)
    eye = torch.eye(readout.classes, dtype=torch.float64)
    rows = [
        patch.pull(Enclosure.exact(unit.expand(len(share), -1)), patch.slopes).gradient
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
    steep = FirstOrder(Pulled(gradient), stand).steepness.upper
    e = stand.radius.lower
    drift = up(up(whole * whole + up(steep / e)) / e)
    if patch.form.limits.boxed:
        return up(whole * whole), drift
    normal = stand.normal
    lifted = Enclosure(normal.middle[:, None], normal.radius[:, None])
    along = heavy.dot(lifted)
    column = Enclosure(along.middle[:, :, None], along.radius[:, :, None])
    tangent = _spectral_of(heavy - column * lifted)
    push = along.norm().upper
    extra = up(tangent * push + push * push / 2, 4)
    return up(tangent * tangent + up(patch.radius / e * extra, 3), 2), drift


def _spectral_of(matrices: Enclosure) -> Tensor:
    """≥ ‖·‖₂ of every matrix enclosed `[rows, K, d]`."""
    middle = spectral(matrices.middle, squarings=6)
    return up(middle + length(matrices.radius.flatten(1)))
