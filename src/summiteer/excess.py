"""How far outside its region a given point lies, beyond rounding."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.problem import Problem
from summiteer.regions import Box, Intersection, Region

#: Units of rounding that a coordinate may be off: one of x + δ, one of clipping it.
ULPS = 2.0
_ORDERS = {"l1": 1.0, "l2": 2.0, "sphere": 2.0}


@dataclass(frozen=True, eq=False)
class Excess:
    """One number per example, float64; NaN where the input is not finite.

    Attributes:
        length: ‖δ‖ in the region's norm, in units of the inputs.
        radius: by how much it exceeds the radius (the sphere: differs from it).
        box: by how much a coordinate leaves the box or moves though it is held.
        unit: of rounding, of one coordinate.
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


def order_of(region: Region) -> float:
    """Return p of the region's norm; ∞ for boxes and L∞ balls."""
    return _ORDERS.get(region.norm, torch.inf)


def length_of(region: Region, perturbations: Tensor) -> Tensor:
    """‖δ‖_p `[rows]` in the norm of the region.

    Args:
        region: whose norm.
        perturbations: `[rows, *input]`, float64.
    """
    flat = perturbations.flatten(1)
    length: Tensor = torch.linalg.vector_norm(flat, order_of(region), dim=1)
    return length


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

    A coordinate computed in a dtype with relative rounding u at inputs as large as s
    is off by u·s; a norm of d such coordinates by u·s·d^(1/p).

    Args:
        problem: of the same examples.
        moved: `[rows, *input]` adversarial inputs x'.
        rounding: `[rows]` u.
        step: `[rows]` distance of two levels of the file's grid, 0 for none.
    """
    delta = displaced(problem.inputs, moved)
    length = length_of(problem.region, delta)
    size = size_of(problem)
    largest = torch.stack(
        [problem.inputs.double().flatten(1).abs().amax(1), size]
    ).amax(0)
    largest = torch.maximum(largest, moved.double().flatten(1).abs().amax(1))
    unit = rounding.to(size.device) * largest
    width = delta[0].numel() ** (1.0 / order_of(problem.region))
    over = _beyond_region(problem, delta, length)
    out = _beyond_box(problem, moved.double(), delta)
    ulps = torch.maximum(over / (unit * width), out / unit)
    # A cast to 8 bits that does not round takes a whole level away.
    level = step.to(size.device)
    rounded = (level > 0) & (over <= level * width) & (out <= level) & (ulps > ULPS)
    return Excess(length, over, out, unit, ulps, rounded)


def _beyond_region(problem: Problem, delta: Tensor, length: Tensor) -> Tensor:
    region = problem.region
    if isinstance(region, Intersection):
        ball = length - size_of(problem)
        return torch.maximum(ball, _beyond_limits(region.box, delta)).clamp(min=0)
    if isinstance(region, Box):
        return _beyond_limits(region, delta).clamp(min=0)
    over = length - size_of(problem)
    return over.abs() if region.norm == "sphere" else over.clamp(min=0)


def _beyond_limits(box: Box, delta: Tensor) -> Tensor:
    lower, upper = box.limits(delta)
    return torch.maximum(delta - upper, lower - delta).flatten(1).amax(1)


def _beyond_box(problem: Problem, moved: Tensor, delta: Tensor) -> Tensor:
    """By how much the box on x' is left, or a coordinate moves that may not."""
    out = torch.zeros_like(moved[:, :1]).flatten(1)[:, 0]
    out = torch.where(delta.flatten(1).isnan().any(1), torch.nan, out)
    if problem.box is not None:
        low, high = problem.box
        beyond = torch.maximum(moved - high, low - moved).flatten(1).amax(1)
        out = torch.maximum(out, beyond)
    if problem.mask is not None:
        held = (~problem.mask.to(delta.device)).expand(delta.shape)
        out = torch.maximum(out, (delta.abs() * held).flatten(1).amax(1))
    return out
