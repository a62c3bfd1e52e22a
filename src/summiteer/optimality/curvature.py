"""Second order on the face where a point lies (mathematics.md §4).

The operator is v ↦ P(∇²F)Pv on the tangent space of the face, P the orthogonal
projector. It is never formed as PHP with its spurious zero eigenvalue.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.draws import Draws
from summiteer.regions import Face

#: Hessian products per row; the residual bound says what they were worth.
_PRODUCTS = 32
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
        newton: `[rows]` ‖(μI - H)⁻¹Pg‖, the distance to the critical point of the
            quadratic model; ∞ where that is singular; NaN where not computed.
    """

    top: Tensor
    bottom: Tensor
    error: Tensor
    newton: Tensor


def dense_curvature(hessians: Tensor, face: Face, gradients: Tensor) -> Curvature:
    """The whole spectrum of each row.

    Args:
        hessians: `[rows, d, d]` float64.
        face: of each row, flat (`[rows, d]`).
        gradients: of the same function, `[rows, d]`.

    Returns:
        Curvature with error 0.
    """
    free, normal = face.free.flatten(1), face.normal.flatten(1)
    parts = []
    size = max(1, _DENSE_FLOATS // hessians.shape[-1] ** 2)
    for rows in torch.arange(len(hessians)).split(size):
        projector = torch.diag_embed(free[rows].double())
        projector = projector - normal[rows, :, None] * normal[rows, None, :]
        inner = projector @ hessians[rows] @ projector
        # On the normal space the operator is set to -K below the whole spectrum.
        floor = 2 * torch.linalg.matrix_norm(hessians[rows]) + 1.0
        eye = torch.eye(inner.shape[-1], dtype=inner.dtype)
        operator = inner - floor[:, None, None] * (eye - projector)
        values, vectors = torch.linalg.eigh(operator)
        pushed = torch.einsum("rij,rj->ri", projector, gradients[rows].flatten(1))
        along = torch.einsum("rij,ri->rj", vectors, pushed)
        gap = face.multiplier[rows, None] - values
        step = _rows.ratio(along, gap)
        tangent = values > -0.5 * floor[:, None] - 0.5
        parts.append(
            (
                torch.where(tangent, values, -torch.inf).amax(1),
                torch.where(tangent, values, torch.inf).amin(1),
                torch.where(tangent, step, 0.0).norm(dim=1),
            )
        )
    top, bottom, newton = (torch.cat(column) for column in zip(*parts, strict=True))
    return Curvature(top, bottom, torch.zeros_like(top), newton)


def lanczos_curvature(
    product: Callable[[Tensor], Tensor], face: Face, like: Tensor
) -> Curvature:
    """The ends of the spectrum by Lanczos with full reorthogonalisation.

    Args:
        product: v ↦ ∇²F·v, `[rows, *input]` both.
        face: of each row.
        like: `[rows, *input]` float64, for the shape.

    Returns:
        Ritz values with the residual bound of the top one; `newton` is NaN.
    """
    rows = len(like)
    shape = like.shape
    steps = int(min(_PRODUCTS, like[0].numel()))
    ids = torch.zeros(rows, dtype=torch.int64)
    start = Draws(0, ids, ids, 3 << 20).normal(like[0].numel()).reshape(shape)
    vector = _rows.unit(face.project(start.to(like)))
    basis, alphas, betas = [vector.flatten(1)], [], []
    alive = _rows.norm(vector) > 0
    for _ in range(steps):
        image = face.project(product(basis[-1].reshape(shape))).flatten(1)
        alphas.append(_rows.dot(image, basis[-1]))
        for _ in range(2):  # twice is enough (Parlett)
            stack = torch.stack(basis, 1)
            overlap = torch.einsum("rkd,rd->rk", stack, image)
            image = image - torch.einsum("rkd,rk->rd", stack, overlap)
        beta = _rows.norm(image)
        scale = torch.stack([a.abs() for a in alphas] + betas).amax(0)
        beta = torch.where(beta > _CLOSED * scale, beta, 0.0)
        betas.append(beta)
        if not bool((beta > 0).any()):
            break
        basis.append(_rows.unit(image) * (beta > 0)[:, None])
    count = len(alphas)
    matrix = torch.diag_embed(torch.stack(alphas, 1))
    for k, beta in enumerate(betas[: count - 1]):
        matrix[:, k, k + 1] = beta
        matrix[:, k + 1, k] = beta
        # A closed space must not add its padding zero to the spectrum.
        shut = beta == 0
        matrix[:, k + 1, k + 1] = torch.where(shut, matrix[:, k, k], alphas[k + 1])
    values, vectors = torch.linalg.eigh(matrix)
    error = betas[-1] * vectors[:, -1, -1].abs()
    return Curvature(
        torch.where(alive, values[:, -1], -torch.inf),
        torch.where(alive, values[:, 0], torch.inf),
        error,
        torch.full_like(error, torch.nan),
    )
