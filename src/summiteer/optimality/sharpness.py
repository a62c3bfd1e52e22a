"""Maxima that only kinks hold: no ball active, some coordinates free (Prop. 9's dual).

F ≤ F_σ on N for *every* choice of slopes σ between the two sides of its ridges. Let
u_j = ∂(∇F_σ)/∂σ_j, so that the gradients at σ ± τ_je_j are g ± τ_ju_j. With multipliers
λ_i > 0 of held coordinates and τ_j|u_ji| ≤ ½λ_i, for d = q - p

    F(q) ≤ F(p) + Γ + γ‖d_I‖ - ½Σ_A λ_i|d_i| - max_j τ_j|u_jᵀd_I|,

Γ over all those slopes. If max_j |τ_ju_jᵀd_I| ≥ s‖d_I‖ and s > γ, F is highest on N
within Γ/(s - γ) + 2Γ/min λ_i of p. With U the matrix of rows τ_ju_jᵀ and any X,
‖d‖ ≤ ‖X‖√t·max_j|(Ud)_j| + ‖I - XU‖‖d‖ gives such an s.
"""

import torch
from torch import Tensor

from summiteer.optimality.first_order import Multipliers, OfGradient
from summiteer.optimality.local_form import Patch
from summiteer.optimality.local_maximum import Summit, nothing_proved, within
from summiteer.optimality.rounding import Enclosure, down, gamma, length, up
from summiteer.optimality.stand import Stand
from summiteer.optimality.ties import Ties, heights_gradient

#: Multipliers nearer than this to 0 or 1 hold nothing.
_LEAST = 1e-6


def sharp_summit(
    patch: Patch,
    standing: Stand,
    slopes: dict[int, Enclosure],
    ties: Ties,
    gaps: Tensor,
    index: Tensor,
) -> Summit:
    """Whether kinks alone hold the points `index`, row by row.

    Args:
        patch: N, where every kink that matters and is open is a ridge.
        standing: the real points p.
        slopes: σ of all kinks.
        ties: the ridges near the points.
        gaps: Γ over all slopes `[rows]`.
        index: rows to examine: no ball active, some coordinates free.

    Returns:
        Summit of all rows, proved only at some of `index`.
    """
    result, inside = nothing_proved(len(gaps)), within(patch, standing)
    pulled = patch.pulled(slopes)
    first = OfGradient(pulled.gradient, standing)
    for row in index.tolist():
        found = _row(patch, slopes, ties, first, pulled.weights, row)
        if found is None:
            continue
        sharp, left, press = found
        gap = gaps[row]
        if not bool(sharp > left):
            continue
        distance = up(up(gap / down(sharp - left)) + up(2 * gap / press))
        room = down(patch.radius[row] - standing.slack[row])
        if bool(distance < room) and bool(inside[row]) and bool(patch.holds[row]):
            result.proved[row] = True
            result.distance[row], result.gain[row] = distance, gap
            result.radius[row], result.margin[row] = room, sharp
            result.tangential[row] = left
    return result


def _row(
    patch: Patch,
    slopes: dict[int, Enclosure],
    ties: Ties,
    first: Multipliers,
    weights: dict[int, Enclosure],
    row: int,
) -> tuple[Tensor, Tensor, Tensor] | None:
    """(s, γ, min λ_i) of one row; None where nothing holds it."""
    standing, alive = first.stand, patch.alive[row]
    free = (standing.free[row] & alive).nonzero().flatten()
    held = (~standing.free[row] & alive & (standing.side[row] != 0)).nonzero().flatten()
    pressure = first.pressure[row, held]
    press = pressure.amin() if len(held) else torch.tensor(torch.inf).double()
    if not bool(press > 0):
        return None
    rows = _normals(patch, slopes, ties, weights, row)
    if rows is None or len(rows[0].middle) < len(free):
        return None
    normal, share = rows
    # τ_j: as far as the slope may go, and no held coordinate may turn.
    size = normal.magnitude[:, held]
    most = (down(pressure / 2) / size).amin(1) if len(held) else share * torch.inf
    tau = torch.minimum(share, down(most, 2))
    tau = torch.where(tau.isfinite(), tau, share)
    matrix = Enclosure(normal.middle[:, free], normal.radius[:, free]) * tau[
        :, None
    ].expand(-1, len(free))
    inverse = torch.linalg.pinv(matrix.middle)
    count = len(tau)
    eye = torch.eye(len(free), dtype=torch.float64)
    error = (eye - inverse @ matrix.middle).abs()
    error = error + inverse.abs() @ matrix.radius
    error = error + gamma(count + 4) * (inverse.abs() @ matrix.middle.abs() + eye)
    missed = length(up(error, count + 4).flatten()[None])[0]
    size_of = up(
        length(inverse.flatten()[None])[0]
        * up(torch.tensor(float(count), dtype=torch.float64).sqrt())
    )
    sharp = down(down(1 - missed) / size_of)
    gradient = first.gradient
    left = Enclosure(gradient.middle[row, free], gradient.radius[row, free])
    return sharp, length(left.magnitude[None])[0], press


def _normals(
    patch: Patch,
    slopes: dict[int, Enclosure],
    ties: Ties,
    weights: dict[int, Enclosure],
    row: int,
) -> tuple[Enclosure, Tensor] | None:
    """(u_j `[ties, d]`, min(σ_j - s, 1 - σ_j)) of the ridges of a row with room."""
    middles, radii, shares = [], [], []
    for number, tie in patch.ties.items():
        kink, slope = patch.around.kinks[number], slopes[number].middle[row].flatten()
        room = torch.minimum(slope - kink.slope, 1 - slope)
        spots = (tie[row].flatten() & (room > _LEAST)).nonzero().flatten()
        if not len(spots):
            continue
        rows = torch.full_like(spots, row)
        towards = heights_gradient(patch, number, rows, spots, slopes)
        weight = weights[number]
        column = Enclosure(
            weight.middle[row].flatten()[spots][:, None],
            weight.radius[row].flatten()[spots][:, None],
        )
        normal = towards * column
        middles.append(normal.middle)
        radii.append(normal.radius)
        shares.append(down(room[spots]))
    if not middles:
        return None
    return Enclosure(torch.cat(middles), torch.cat(radii)), torch.cat(shares)
