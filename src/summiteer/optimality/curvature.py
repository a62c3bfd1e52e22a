"""Second order on the face where a point lies (mathematics.md §4).

The operator is v ↦ P(∇²F)Pv on the tangent space of the face, P the orthogonal
projector. It is never formed as PHP with its spurious zero eigenvalue.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.draws import LANCZOS, Draws
from summiteer.regions import Face

#: Hessian products per row; the residual bound says what they were worth.
_PRODUCTS = 32
#: The same where those left it open whether the multiplier is larger.
MORE_PRODUCTS = 128
#: Floats of a batch of dense matrices held at once.
_DENSE_FLOATS = 2**24
#: A Lanczos vector shorter than this, relative to the operator, has closed the space.
_CLOSED = 1e-12  # ~ d·u: rounding of an orthogonalisation in float64


@dataclass(frozen=True, eq=False)
class Curvature:
    """The spectrum of ∇²F on the tangent space; all `[rows]`.

    Attributes:
        top: λ_max; -inf where the tangent space is {0}.
        bottom: λ_min; +inf where the tangent space is {0}.
        error: some eigenvalue lies within `error` of `top` (0 for dense spectra). A
            Lanczos value is never above the true λ_max.
        newton: `[rows, *input]` (μI - H)⁻¹Pg, the way to the critical point of the
            quadratic model; not finite where that is singular; None if not computed.
        way: `[rows, *input]` a unit vector of the tangent space whose Rayleigh quotient
            is `top`; zero where there is none; None if not computed.
    """

    top: Tensor
    bottom: Tensor
    error: Tensor
    newton: Tensor | None
    way: Tensor | None = None

    def put(self, index: Tensor, other: "Curvature") -> "Curvature":
        """These with the rows `index` from `other`, whose `newton` is not known."""
        assert self.way is not None
        assert other.way is not None
        ways = other.way.reshape(-1, *self.way.shape[1:])
        newton = self.newton
        if newton is not None:
            newton = newton.index_fill(0, index, torch.nan)
        return Curvature(
            self.top.index_copy(0, index, other.top),
            self.bottom.index_copy(0, index, other.bottom),
            self.error.index_copy(0, index, other.error),
            newton,
            self.way.index_copy(0, index, ways),
        )


def dense_curvature(
    hessians: Callable[[Tensor], Tensor], face: Face, gradients: Tensor
) -> Curvature:
    """The whole spectrum of each row.

    Args:
        hessians: row numbers `[n]` -> `[n, d, d]` float64; asked for a few at a time.
        face: of each row, flat (`[rows, d]`).
        gradients: of the same function, `[rows, d]`.

    Returns:
        Curvature with error 0.
    """
    size = max(1, _DENSE_FLOATS // gradients.shape[1] ** 2)
    parts = [
        _spectrum(hessians(rows), rows, face, gradients)
        for rows in torch.split(torch.arange(len(gradients)), size)
    ]
    columns = zip(*parts, strict=True)
    top, bottom, newton, way = (torch.cat(column) for column in columns)
    return Curvature(top, bottom, torch.zeros_like(top), newton, way)


def _spectrum(
    hessians: Tensor, rows: Tensor, face: Face, gradients: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """(top, bottom, newton, way) of a few rows."""
    normal = face.normal[rows]
    projector = torch.diag_embed(face.free[rows].double())
    projector = projector - normal[:, :, None] * normal[:, None, :]
    inner = projector @ hessians @ projector
    # On the normal space the operator is set to -K, K = 2‖H‖: below the whole spectrum,
    # yet of its order, so that eigenvalues keep their relative accuracy.
    norm = torch.linalg.matrix_norm(hessians)
    floor = torch.where(norm > 0, 2 * norm, 1.0)[:, None]
    eye = torch.eye(inner.shape[-1], dtype=inner.dtype, device=inner.device)
    values, vectors = torch.linalg.eigh(inner - floor[:, :, None] * (eye - projector))
    pushed = torch.einsum("rij,rj->ri", projector, gradients[rows])
    along = torch.einsum("rij,ri->rj", vectors, pushed)
    tangent = values > -0.75 * floor
    gap = face.multiplier[rows, None] - values
    step = torch.where(tangent, _rows.ratio(along, gap), 0.0)
    return (
        torch.where(tangent, values, -torch.inf).amax(1),
        torch.where(tangent, values, torch.inf).amin(1),
        torch.einsum("rij,rj->ri", vectors, step),
        # The largest of all is on the tangent space if anything is.
        vectors[:, :, -1] * tangent[:, -1:],
    )


def lanczos_curvature(
    product: Callable[[Tensor], Tensor],
    face: Face,
    like: Tensor,
    products: int = _PRODUCTS,
) -> Curvature:
    """The ends of the spectrum by Lanczos with full reorthogonalisation.

    Args:
        product: v ↦ ∇²F·v, `[rows, *input]` both.
        face: of each row.
        like: `[rows, *input]` float64, for the shape.
        products: how many times `product` may be called.

    Returns:
        Ritz values; `error` is the larger of the top one's residual bound and of what
        Lanczos is expected to miss; `newton` is None.
    """
    rows = len(like)
    shape = like.shape
    steps = int(min(products, like[0].numel()))
    # The same start for every row: what a row is told does not depend on its place.
    ids = torch.zeros(rows, dtype=torch.int64)
    start = Draws(0, ids, ids, LANCZOS).normal(like[0].numel()).reshape(shape)
    vector = _rows.unit(face.project(start.to(like))).flatten(1)
    # Not `torch.stack`: copying the basis at every step would cost more than the steps.
    basis = vector.new_zeros(rows, steps + 1, vector.shape[1])
    basis[:, 0] = vector
    alphas: list[Tensor] = []
    betas: list[Tensor] = []
    alive = _rows.norm(vector) > 0
    for step in range(steps):
        image = face.project(product(basis[:, step].reshape(shape))).flatten(1)
        alphas.append(_rows.dot(image, basis[:, step]))
        # The recurrence first, then once against all: together that is as good as
        # twice (Parlett), and reads the basis half as often.
        image = image - alphas[-1][:, None] * basis[:, step]
        if step:
            image = image - betas[-1][:, None] * basis[:, step - 1]
        known = basis[:, : step + 1]
        overlap = torch.bmm(known, image[:, :, None])
        image = image - torch.bmm(overlap.mT, known)[:, 0]
        beta = _rows.norm(image)
        scale = torch.stack([a.abs() for a in alphas] + betas).amax(0)
        beta = torch.where(beta > _CLOSED * scale, beta, 0.0)
        betas.append(beta)
        if not bool((beta > 0).any()):
            break
        basis[:, step + 1] = _rows.unit(image) * (beta > 0)[:, None]
    return _ritz(alphas, betas, basis, alive, shape)


def _ritz(
    alphas: list[Tensor],
    betas: list[Tensor],
    basis: Tensor,
    alive: Tensor,
    shape: torch.Size,
) -> Curvature:
    """The ends of the tridiagonal spectra.

    Args:
        alphas: the diagonals, one entry `[rows]` after the other.
        betas: next to them; a zero closes the space.
        basis: `[rows, steps, d]`.
        alive: `[rows]` bool, where the tangent space is not {0}.
        shape: `[rows, *input]`.
    """
    count, rows = len(alphas), len(alive)
    matrix = torch.diag_embed(torch.stack(alphas, 1))
    # A closed space must not add its padding to the spectrum, nor to `way`: it is put
    # below the whole spectrum, yet of its order.
    floor = 2 * torch.stack([a.abs() for a in alphas] + betas).amax(0)
    floor = torch.where(floor > 0, -3 * floor, -1.0)
    padding = torch.zeros(rows, 1, dtype=torch.int64, device=alive.device)
    for k, beta in enumerate(betas[: count - 1]):
        matrix[:, k, k + 1] = beta
        matrix[:, k + 1, k] = beta
        shut = beta == 0
        matrix[:, k + 1, k + 1] = torch.where(shut, floor, alphas[k + 1])
        padding += shut[:, None]
    values, vectors = torch.linalg.eigh(matrix)
    top, bottom = values[:, -1], values.gather(1, padding)[:, 0]
    error = betas[-1] * vectors[:, -1, -1].abs()
    way = torch.einsum("rkd,rk->rd", basis[:, :count], vectors[:, :, -1])
    if count > 1:
        # What Lanczos from a random start misses of λ_max - λ_min on the average
        # (Kuczyński and Woźniakowski 1992, `kuczynski1992estimating`).
        size = basis.shape[2] * (count - 1.0) ** 4
        missed = 0.103 * (math.log(size) / (count - 1)) ** 2
        spread = missed * (top - bottom)
        error = torch.where(betas[-1] > 0, torch.maximum(error, spread), error)
    return Curvature(
        torch.where(alive, top, -torch.inf),
        torch.where(alive, bottom, torch.inf),
        error,
        None,
        way.reshape(shape),
    )
