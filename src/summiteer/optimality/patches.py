"""Patches of a region, {δ ∈ C : lo ≤ Vᵀδ ≤ hi}, and where pre-activations lie on them.

On balls V is a frame of few directions, on boxes (and balls ∩ boxes) the coordinates.
V is a matrix of floats, and a patch a set of real points: that the columns of V are
nearly orthonormal is enclosed, not assumed.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from summiteer.optimality.definite import Weighted
from summiteer.optimality.rounding import Enclosure, length, up
from summiteer.optimality.stand import Limits
from summiteer.optimality.surface import Surface

#: Steps of a bisection on log τ; the bound holds for every τ.
_HALVINGS = 20
#: Numbers held at once while preactivations are narrowed.
_NUMBERS = 2**24


def peak(slope: Enclosure, bend: Tensor, low: Enclosure, high: Enclosure) -> Tensor:
    """≥ max of ct + ½et² over l ≤ t ≤ h, entry by entry; all shapes broadcast.

    Where e < 0 the maximum over R, c²/(2|e|), serves, and the value at an end where
    the function still rises there. The ends may be infinite then.

    Args:
        slope: c.
        bend: ≥ e.
        low: l.
        high: h.
    """
    curve = Enclosure.exact(bend)
    ends, still = [], []
    for end, side in ((low, -1.0), (high, 1.0)):
        pull = curve * end
        ends.append(((slope + halved(pull)) * end).upper)
        still.append(((slope + pull) * Enclosure.exact(bend.new_tensor(side))).lower)
    top = torch.maximum(*ends)
    size = slope.magnitude
    free = up(up(size * size) / (-2 * bend), 2)
    hill = torch.where(still[0] >= 0, ends[0], free)
    hill = torch.where(still[1] >= 0, ends[1], hill)
    return torch.where(bend < 0, hill, top)


def halved(values: Enclosure) -> Enclosure:
    """Half of the numbers."""
    return Enclosure(0.5 * values.middle, up(0.5 * values.radius))


@dataclass(frozen=True, eq=False)
class Frame:
    """The directions V along which a region is cut, beside the W of a network.

    Attributes:
        weighted: W `[m, d]`.
        vectors: V `[d, k]`; None for the d coordinates.
    """

    weighted: Weighted
    vectors: Tensor | None

    @property
    def size(self) -> int:
        """K."""
        vectors = self.vectors
        return (self.weighted.hidden if vectors is None else vectors).shape[1]

    def along(self, points: Tensor) -> Enclosure:
        """Vᵀδ `[rows, k]` of float points `[rows, d]`."""
        exact = Enclosure.exact(points)
        return exact if self.vectors is None else exact @ self.vectors

    def back(self, values: Enclosure) -> Enclosure:
        """Vs `[rows, d]` of `[rows, k]`."""
        if self.vectors is None:
            return values
        return values @ self.vectors.T.contiguous()

    @cached_property
    def stacked(self) -> Weighted:
        """[W; Vᵀ], whose weighted forms are Wᵀ diag(D) W + V diag(ν) Vᵀ."""
        hidden = self.weighted.hidden
        vectors = self.vectors
        if vectors is None:
            vectors = torch.eye(hidden.shape[1], dtype=hidden.dtype)
        if not vectors.shape[1]:
            return self.weighted
        return Weighted(torch.cat([hidden, vectors.T]))

    @cached_property
    def split(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """W = cVᵀ + W⊥: (c `[m, k]`, ≥ ‖w⊥_j‖, ≥ ‖Vᵀw⊥_j‖, ≥ ‖VᵀV - I‖)."""
        hidden, vectors = self.weighted.hidden, self.vectors
        assert vectors is not None
        slopes = hidden @ vectors
        across = Enclosure.exact(slopes) @ vectors.T.contiguous() - hidden
        leak = across @ vectors
        gram = Enclosure.exact(vectors.T.contiguous()) @ vectors
        gram = gram - torch.eye(self.size, dtype=hidden.dtype)
        defect = length(gram.magnitude.reshape(1, -1))[0]
        return slopes, across.norm().upper, leak.norm().upper, defect


@dataclass(frozen=True, eq=False)
class Patches:
    """{δ ∈ C : lo ≤ Vᵀδ ≤ hi}, one per row.

    Attributes:
        limits: C of each row.
        frame: V.
        low: lo `[rows, k]`.
        high: hi.
    """

    limits: Limits
    frame: Frame
    low: Tensor
    high: Tensor

    def __len__(self) -> int:
        return len(self.low)

    @classmethod
    def whole(cls, limits: Limits, frame: Frame) -> "Patches":
        """All of C; the frame of a region with a box is that of its coordinates."""
        if frame.vectors is None:
            return cls(limits, frame, limits.lower, limits.upper)
        far = up(limits.radius[:, None] * length(frame.vectors.T))
        return cls(limits, frame, -far, far)

    def take(self, index: Tensor) -> "Patches":
        """The rows `index`."""
        return Patches(
            self.limits.take(index), self.frame, self.low[index], self.high[index]
        )

    def halves(self, axis: Tensor) -> "Patches":
        """Both halves of each patch, `[2·rows]`, cut across the direction `axis`."""
        rows = torch.arange(len(self))
        middle = 0.5 * self.low[rows, axis] + 0.5 * self.high[rows, axis]
        low, high = self.low.clone(), self.high.clone()
        low[rows, axis] = middle
        high[rows, axis] = middle
        both = self.take(torch.cat([rows, rows]))
        ends = torch.cat([self.low, low]), torch.cat([high, self.high])
        return Patches(both.limits, self.frame, *ends)

    def nearest(self, points: Tensor) -> Tensor:
        """Floats in or next to the patches, next to `points`: to look from."""
        vectors = self.frame.vectors
        if vectors is None:
            points = points.clamp(self.low, self.high)
        else:
            along = points @ vectors
            points = points + (along.clamp(self.low, self.high) - along) @ vectors.T
        size = points.norm(dim=1).clamp(min=1e-300)
        scale = (self.limits.radius / size).clamp(max=1)
        nearest: Tensor = points * scale[:, None]
        return nearest

    def interval(self, surface: Surface) -> tuple[Enclosure, Tensor]:
        """(I `[rows, m]`, nothing `[rows]`): pre-activations, and whether none exist.

        `nothing` is proved: the patch is empty, and what I says of it is of no use.
        """
        limits = self.limits
        lower = torch.full_like(surface.centre.middle, -torch.inf)
        upper = torch.full_like(lower, torch.inf)
        parts = []
        if limits.round:
            parts.append(surface.within(limits.radius))
        if self.frame.vectors is None:
            sides = Enclosure.between(self.low, self.high)
            parts.append(surface.centre + sides @ surface.hidden.T)
        elif self.frame.size:
            parts.append(surface.centre + self._narrowed())
        for part in parts:
            lower = torch.maximum(lower, part.lower)
            upper = torch.minimum(upper, part.upper)
        nothing = (lower > upper).any(1)
        upper = torch.where(nothing[:, None], lower, upper)
        return Enclosure.between(lower, upper), nothing

    def _narrowed(self) -> Enclosure:
        """Wδ on the ball between the slabs, `[rows, m]`."""
        each = self.frame.weighted.hidden.shape[0] * self.frame.size
        rows = torch.split(torch.arange(len(self)), max(1, _NUMBERS // (8 * each)))
        parts = [self.take(index)._slabs() for index in rows]
        return Enclosure(
            torch.cat([part.middle for part in parts]),
            torch.cat([part.radius for part in parts]),
        )

    def _slabs(self) -> Enclosure:
        """Wδ by duality, for the ball ‖δ‖ ≤ ε between slabs lo ≤ s ≤ hi, s = Vᵀδ.

        wᵀδ = cᵀs + w⊥ᵀ(δ - Vs) + (Vᵀw⊥)ᵀs with ‖δ - Vs‖² ≤ ε² - ‖s‖² but for the
        defect of V, so that for every τ > 0, xy ≤ ½x²/τ + ½τy² gives
        wᵀδ ≤ Σ_i max over [lo_i, hi_i] of (c_is - ½τs²) + ½‖w⊥‖²/τ + ½τε²; with the
        best τ this is the maximum itself.
        """
        slopes, across, leak, defect = self.frame.split
        radius = self.limits.radius[:, None]
        far = up(radius * (1 + defect), 2)
        square = up(up(radius * radius) + up(defect * up(far * far)))
        lost = up(leak * far)
        low, high = (Enclosure.exact(x[:, None]) for x in (self.low, self.high))
        ends = []
        for side in (slopes, -slopes):
            tau = self._balance(side, across)
            each = peak(Enclosure.exact(side), -tau[..., None], low, high)
            # Mixed signs: as enclosures of exact numbers.
            total = Enclosure.exact(each).dot(torch.ones_like(each)).upper
            rest = up(up(across * across / tau, 3) / 2 + up(tau * square / 2, 3))
            ends.append(up(total + up(rest + lost)))
        return Enclosure.between(-ends[1], ends[0])

    def _balance(self, slopes: Tensor, across: Tensor) -> Tensor:
        """A τ `[rows, m]` near the best: τ²(ε² - ‖s‖²) = ‖w⊥‖², s = clip(c/τ)."""
        radius = self.limits.radius[:, None]
        lengths = self.frame.weighted.lengths
        least = torch.maximum(0.5 * across, 1e-9 * lengths).clamp(min=1e-200)
        low = (least / radius).log().expand(len(self), -1)
        high = (1e6 * lengths.clamp(min=1e-200) / radius).log()
        for _ in range(_HALVINGS):
            middle = 0.5 * (low + high)
            tau = middle.exp()
            at = (slopes / tau[..., None]).clamp(self.low[:, None], self.high[:, None])
            left = radius.square() - at.square().sum(-1)
            over = tau.square() * left > across.square()
            low, high = torch.where(over, low, middle), torch.where(over, middle, high)
        return (0.5 * (low + high)).exp()
