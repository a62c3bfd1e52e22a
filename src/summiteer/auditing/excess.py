"""How far outside its region a given point lies, beyond rounding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.problem import Problem
from summiteer.regions import Box, Region
from summiteer.regions._region import order_of

#: Units of rounding that a coordinate may be off: one of x + δ, one of clipping it.
ULPS = 2.0
#: What `norms_of` measures, in its order.
NORMS = ("linf", "l2", "l1")
#: Numbers of the usual size: no more than so many times the median of those not 0.
_LIKE = 10.0


@dataclass(frozen=True, eq=False)
class Excess:
    """One number per example, float64; NaN where the input is not finite.

    Attributes:
        length: ‖δ‖ in the region's norm, in units of the inputs.
        radius: by how much it exceeds the radius (the sphere: differs from it).
        box: by how much a coordinate leaves the box or moves though it is held.
        unit: of rounding, of each coordinate `[rows, d]`.
        ulps: the larger of both in units of rounding of that quantity.
        rounded: bool, outside, but by no more than rounding to the file's 8 bits may
            add.
    """

    length: Tensor
    radius: Tensor
    box: Tensor
    unit: Tensor
    ulps: Tensor
    rounded: Tensor

    @property
    def inside(self) -> Tensor:
        """Allowed, up to rounding `[rows]` bool; NaN is not."""
        return self.ulps <= ULPS


def length_of(region: Region, perturbations: Tensor) -> Tensor:
    """‖δ‖_p `[rows]` in the norm of the region.

    Args:
        region: whose norm.
        perturbations: `[rows, *input]`, float64.
    """
    flat = perturbations.flatten(1)
    length: Tensor = torch.linalg.vector_norm(flat, order_of(region), dim=1)
    return length


def norms_of(perturbations: Tensor) -> Tensor:
    """The L∞, the L2 and the L1 norm `[rows, 3]`, as `NORMS` names them.

    Args:
        perturbations: `[rows, *input]`, float64.
    """
    flat = perturbations.flatten(1)
    orders = (torch.inf, 2.0, 1.0)
    return torch.stack([torch.linalg.vector_norm(flat, p, 1) for p in orders], 1)


def displaced(inputs: Tensor, moved: Tensor) -> Tensor:
    """Return x' - x in float64; NaN in rows that the model's dtype cannot hold."""
    finite = moved.to(inputs.dtype).flatten(1).isfinite().all(1)
    apart = moved.double() - inputs.double()
    return apart.masked_fill(~_rows.expand(finite, apart), torch.nan)


def size_of(problem: Problem) -> Tensor:
    """The radius of each example `[rows]` as it was given, not in the model's dtype."""
    size = torch.as_tensor(problem.region.size, dtype=torch.float64)
    return size.to(problem.inputs.device).expand(len(problem))


def excess_of(
    problem: Problem, moved: Tensor, rounding: Tensor, step: Tensor
) -> Excess:
    """Measure exactly, in float64, how far x' lies outside region and box.

    A coordinate computed in a dtype with relative rounding u at numbers as large as s
    is off by u·s. s is the largest of |x_i|, |x'_i|, the radius, the ends of the box,
    and the largest |x_k| that is of the usual size, for tools compute in units of their
    own: one feature of another scale hides nothing in the others. A norm is off by no
    more than Σ|∂_i|u·s_i with ∂ its gradient at δ, since it is convex.

    Args:
        problem: of the same examples.
        moved: `[rows, *input]` adversarial inputs x'.
        rounding: `[rows]` u.
        step: `[rows]` distance of two levels of the file's grid, 0 for none.
    """
    delta = displaced(problem.inputs, moved)
    length = length_of(problem.region, delta)
    unit = rounding.to(delta.device)[:, None] * _scale(problem, moved)
    radius, radius_ulps = _beyond_region(problem, delta, length, unit)
    beyond = _beyond_limits(problem, moved.double(), delta)
    box = beyond.amax(1)
    ulps = torch.maximum(radius_ulps, (beyond / unit).amax(1))
    # A cast to 8 bits that does not round takes a whole level away.
    level = step.to(delta.device)
    width = delta[0].numel() ** (1.0 / order_of(problem.region))
    # …and, as it can take a whole one, rounding comes on top of it.
    blur = ULPS * unit
    edge = level * width + torch.linalg.vector_norm(blur, order_of(problem.region), 1)
    rounded = (level > 0) & (radius <= edge) & (box <= level + blur.amax(1))
    rounded &= ulps > ULPS
    return Excess(length, radius, box, unit, ulps, rounded)


def _scale(problem: Problem, moved: Tensor) -> Tensor:
    """How large the numbers are that each coordinate was computed from `[rows, d]`."""
    own = problem.inputs.double().flatten(1).abs()
    typical = own.masked_fill(own == 0, torch.nan).nanmedian(1).values.nan_to_num(0.0)
    least = torch.minimum(own.amax(1), _LIKE * typical)
    least = torch.maximum(least, size_of(problem))
    if problem.box is not None:
        least = least.clamp(min=max(abs(end) for end in problem.box))
    both = torch.maximum(own, moved.double().flatten(1).abs())
    return torch.maximum(both, least[:, None])


def _beyond_region(
    problem: Problem, delta: Tensor, length: Tensor, unit: Tensor
) -> tuple[Tensor, Tensor]:
    """(By how much the region is left, the same in units of rounding) `[rows]`."""
    region, size, flat = problem.region, size_of(problem), delta.flatten(1)
    over, units = torch.zeros_like(size), torch.zeros_like(size)
    box = region if isinstance(region, Box) else getattr(region, "box", None)
    if isinstance(box, Box):
        lower, upper = box.limits(delta)
        each = torch.maximum(delta - upper, lower - delta).flatten(1).clamp(min=0)
        over, units = each.amax(1), (each / unit).amax(1)
    if isinstance(region, Box):
        return over, units
    ball = length - size
    ball = ball.abs() if region.norm == "sphere" else ball.clamp(min=0)
    if order_of(region) == torch.inf:
        each = (flat.abs() - size[:, None]).clamp(min=0)
        return torch.maximum(over, ball), torch.maximum(units, (each / unit).amax(1))
    room = room_of(order_of(region), flat, unit)
    if region.norm == "sphere":  # its points may have been shorter
        room = torch.maximum(room, unit.norm(dim=1))
    return torch.maximum(over, ball), torch.maximum(units, _rows.ratio(ball, room))


def room_of(order: float, perturbations: Tensor, unit: Tensor) -> Tensor:
    """Σ|∂_i|u_i `[rows]`: what rounding may have added to an L1 or L2 norm.

    Args:
        order: of the norm.
        perturbations: δ `[rows, d]`.
        unit: u `[rows, d]`.
    """
    size = perturbations.abs()
    if order == 1.0:
        return ((size > 0) * unit).sum(1)
    length = size.norm(dim=1, keepdim=True).expand(size.shape)
    return (_rows.ratio(size, length) * unit).sum(1)


def _beyond_limits(problem: Problem, moved: Tensor, delta: Tensor) -> Tensor:
    """By how much each coordinate of x' leaves the box, or moves though it is held."""
    out = torch.zeros_like(delta).masked_fill(delta.isnan(), torch.nan)
    if problem.box is not None:
        low, high = problem.box
        out = torch.maximum(out, torch.maximum(moved - high, low - moved))
    if problem.mask is not None:
        held = (~problem.mask.to(delta.device)).expand(delta.shape)
        out = torch.maximum(out, delta.abs() * held)
    return out.flatten(1)
