"""Proved upper bounds of λ_max(Wᵀ diag(D) W) from one verified factorisation each.

If a floating Cholesky factor L of A = tI - S exists, A = LLᵀ + E with a residual E that
can be bounded entry by entry whatever computed L, and S = tI - LLᵀ - E ≼ (t + ‖E‖)I
(mathematics.md §10.3; after Rump 2006, `rump2006verification`). Computed eigenvalues
prove nothing; they only choose t.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from summiteer.networks.two_layer import weighted_gram
from summiteer.optimality.rounding import (
    Enclosure,
    gamma,
    length,
    up,
)

#: Numbers of a batch of matrices held at once: 8 MiB. Larger ones are no faster: LAPACK
#: takes one after the other, and what is made of each is still in the cache.
_NUMBERS = 2**20
#: A factor found for λ̃(1 + this) is found for λ̃: far above rounding, far below need.
_ABOVE = 1e-6


@dataclass(frozen=True, eq=False)
class Weighted:
    """The matrices Wᵀ diag(D_i) W of one W `[m, d]`, through its row space.

    Where m < d they are examined as r x r matrices: W = RQᵀ + E with R `[m, r]` and a
    nearly orthonormal Q `[d, r]`, r = m; ‖E‖ and ‖QᵀQ - I‖ enter the bounds (§10.6).

    Attributes:
        hidden: W `[m, d]` float64.
    """

    hidden: Tensor

    @cached_property
    def lengths(self) -> Tensor:
        """‖w_j‖ `[m]`, rounded up."""
        return length(self.hidden)

    @cached_property
    def size(self) -> Tensor:
        """‖W‖_F ≥ ‖W‖₂, rounded up."""
        return length(self.lengths[None])[0]

    @cached_property
    def _space(self) -> tuple[Tensor, Tensor | None, Tensor, Tensor]:
        """(R, Q, ≥ ‖W - RQᵀ‖, ≥ ‖QᵀQ - I‖); Q is None for R = W."""
        width, dim = self.hidden.shape
        zero = torch.zeros((), dtype=torch.float64)
        if width >= dim:
            return self.hidden, None, zero, zero
        basis, triangle = torch.linalg.qr(self.hidden.T)
        rows = triangle.T.contiguous()
        left = Enclosure.exact(rows) @ basis.T.contiguous() - self.hidden
        gram = Enclosure.exact(basis.T.contiguous()) @ basis
        gram = gram - torch.eye(width, dtype=torch.float64)
        missed = length(left.magnitude.reshape(1, -1))[0]
        return rows, basis, missed, length(gram.magnitude.reshape(1, -1))[0]

    @property
    def coordinates(self) -> Tensor:
        """R `[m, r]`, or W itself where m ≥ d."""
        return self._space[0]

    @property
    def basis(self) -> Tensor | None:
        """Q `[d, r]`, or None where m ≥ d."""
        return self._space[1]

    @property
    def reduced(self) -> bool:
        """Whether d > m: then every Wᵀ diag(D) W has the eigenvalue 0."""
        return self._space[1] is not None

    @cached_property
    def spectral(self) -> Tensor:
        """‖W‖₂² = λ_max(WᵀW), rounded up."""
        return self.largest(torch.ones_like(self.lengths)[None])[0]

    def largest(self, weights: Tensor) -> Tensor:
        """Upper bounds of λ_max(Wᵀ diag(D_i) W), each guessed from its eigenvalues.

        Args:
            weights: D `[n, m]`, exact.
        """
        bounds = weights.new_zeros(len(weights))
        for i, each in enumerate(weights):
            finite = torch.where(each.isfinite(), each, 0.0)
            matrix = weighted_gram(self.coordinates, finite[None])[0]
            values = torch.linalg.eigvalsh(matrix)
            top, size = values[-1], values.abs().amax()
            guess = top + _ABOVE * torch.maximum(top.abs(), 1e-6 * size)
            bounds[i] = self.top(Enclosure.exact(each[None]), guess[None])[0]
        return bounds

    def top(
        self,
        weights: Enclosure,
        guess: Tensor,
        normal: Enclosure | None = None,
        push: Tensor | None = None,
        free: Tensor | None = None,
    ) -> Tensor:
        """Upper bounds of λ_max(Wᵀ diag(D_i) W), one factorisation each.

        With a unit `normal` n the largest vᵀHv over unit v ⟂ n: tI - H + βnnᵀ ≻ 0
        bounds it for any β ≥ 0 (§10.3). With `free` only over v supported there.

        Args:
            weights: D `[rows, m]`.
            guess: t `[rows]`, a little above λ_max; the bound is hardly larger.
            normal: `[rows, d]`, or None.
            push: β `[rows]`; needed with `normal`.
            free: `[rows, d]` bool, or None for all coordinates.

        Returns:
            `[rows]`; inf where no factor was found. At least 0 where d > m and all
            coordinates are free.
        """
        if free is not None and bool(free.all()):
            free = None
        rows, basis = (self.hidden, None) if free is not None else self._space[:2]
        per = max(rows.shape[1] ** 2, rows.numel())
        step = max(1, _NUMBERS // per)
        bounds = [
            self._top(rows, basis, weights, guess, normal, push, free, index)
            for index in torch.split(torch.arange(len(guess)), step)
        ]
        return torch.cat(bounds) if bounds else guess.clone()

    def _top(
        self,
        rows: Tensor,
        basis: Tensor | None,
        weights: Enclosure,
        guess: Tensor,
        normal: Enclosure | None,
        push: Tensor | None,
        free: Tensor | None,
        index: Tensor,
    ) -> Tensor:
        """`top` of the rows `index`."""
        heavy, t = weights[index], guess[index]
        count = rows.shape[1]
        # Symmetric but for rounding, and so it stays: the two halves are bounded apart.
        matrix = weighted_gram(rows, heavy.middle)
        # ‖E‖ ≤ ‖ |R|ᵀ(γ|D| + ΔD)|R|·1 ‖_∞.
        spread = gamma(rows.shape[0] + 3) * heavy.middle.abs() + heavy.radius
        reach = up(rows.abs().sum(1), count + 1)
        formed = up((spread * reach) @ rows.abs(), rows.shape[0] + count + 4).amax(1)
        if free is not None:
            inside = free[index]
            matrix = matrix * inside[:, :, None] * inside[:, None, :]
        sizes = matrix.abs().sum(2)
        matrix = matrix.neg_()
        diagonal = matrix.diagonal(dim1=1, dim2=2)
        if free is None:
            diagonal += t[:, None]
        else:
            # Any positive number does where the coordinate is held.
            held = t.abs() + sizes.amax(1)
            diagonal += torch.where(free[index], t[:, None], held[:, None])
        sizes = sizes + t.abs()[:, None]
        across = t.new_zeros(len(t))
        if normal is not None and push is not None:
            way, across = self._normal(basis, normal[index])
            if free is not None:
                way = way * free[index]
            beta = push[index]
            pushed = (beta[:, None] * way)[:, :, None]
            matrix = matrix.baddbmm_(pushed, way[:, None])
            widest = way.abs().sum(1)
            sizes = sizes + beta[:, None] * way.abs() * widest[:, None]
            across = up(beta * across.square(), 3)
        factor, info = torch.linalg.cholesky_ex(matrix)
        big = factor.abs()
        wide = torch.einsum("rij,rj->ri", big, big.sum(1))
        rest = torch.baddbmm(matrix, factor, factor.mT, alpha=-1)
        left = torch.linalg.vector_norm(rest, 1, dim=2)
        # The matrix may be the first summand of the products: it is rounded with them.
        wide = gamma(2 * count + 12) * (wide + sizes)
        missed = up(left + wide, 2 * count + 8).amax(1)
        bound = up(t + up(missed + formed))
        bound = torch.where(info == 0, bound, torch.inf)
        if basis is not None:
            bound = self._lifted(bound, heavy)
        return up(bound + across)

    def _normal(self, basis: Tensor | None, normal: Enclosure) -> tuple[Tensor, Tensor]:
        """ν in the coordinates of R, and ≥ |zᵀν| for z = Qᵀv of any unit v ⟂ n.

        zᵀν = vᵀ(Qν - n), so that any ν will do.
        """
        if basis is None:
            return normal.middle, length(normal.radius)
        way = normal.middle @ basis
        gap = Enclosure.exact(way) @ basis.T.contiguous() - normal
        return way, length(gap.magnitude)

    def _lifted(self, bound: Tensor, weights: Enclosure) -> Tensor:
        """From λ_max(RᵀDR) to λ_max(WᵀDW), W = RQᵀ + E.

        vᵀWᵀDWv = (Rz + Ev)ᵀD(Rz + Ev) with z = Qᵀv, ‖z‖² ≤ 1 + ‖QᵀQ - I‖.
        """
        rows, _, missed, defect = self._space
        largest = weights.magnitude.amax(1)
        size = length(length(rows)[None])[0]
        cross = largest * missed * (2 * size * (1 + defect) + missed)
        return up(bound.clamp(min=0) * (1 + defect) + up(cross, 6), 3)
