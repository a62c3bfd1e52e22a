"""Does the gradient describe the function? Differences beside derivatives.

φ(x) = vᵀ f(x) with a random unit v per example. For directions d and lengths h:
D = (φ(x + hd) - φ(x - hd)) / 2h beside ∇φᵀd. Where f is differentiable near x, D tends
to ∇φᵀd as h falls, until rounding takes over; so the best h decides.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.draws import Draws
from summiteer.problem import Problem

#: Lengths per coordinate, in widths of the box: from one that crosses any quantiser to
#: one below every grid in use.
_LENGTHS = (0.6, 0.1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-7, 1e-9)  # decades
#: The first so many are too long to tell a derivative, but cross quantisation steps.
_LONG = 2
_DIRECTIONS = 4
#: The probe is moved off the input by up to so many widths: inputs lie on kinks (black
#: pixels and no bias) and on the grid of an 8-bit file, random points do not.
_OFFSET = 2 / 255
#: Rounding errors that the layers of a network may add up to, in units of rounding.
_ROUNDING = 64.0
#: A difference counts where rounding is at most this share of it.
_RESOLVED = 0.03
#: Central differences stay this far, relatively, from the derivative only if they are
#: of another function: the best of six lengths is off by less than 1e-3 otherwise.
MISMATCH = 0.1


@dataclass(frozen=True, eq=False)
class Slopes:
    """What was measured, per example.

    Attributes:
        error: `[batch]` |D - ∇φᵀd| relative to the slopes: median over directions, at
            the best h; NaN where rounding hides it, or where it is large but D has not
            settled as h falls.
        along: `[batch]` D/∇φᵀd along the gradient itself, at that h; NaN where the
            gradient is zero.
        still: `[batch]` the longest length, in widths, over which f does not change at
            all in most random directions, though a straight line through what it
            changes over longer ones would show; 0 if it changes over each.
        moves: `[batch]` bool, f changes over the longest lengths.
        norm: `[batch]` ‖∇φ‖.
        refused: why there is no gradient, or "".
    """

    error: Tensor
    along: Tensor
    still: Tensor
    moves: Tensor
    norm: Tensor
    refused: str


def slopes(
    exact: Problem, limits: tuple[float, float], draws: Draws, eps: float
) -> Slopes:
    """Measure gradient and differences; call it inside `undisturbed`.

    Args:
        exact: the problem in float64.
        limits: (lo, hi) that inputs keep to.
        draws: random numbers of its examples.
        eps: unit of rounding of the coarsest dtype inside the model.
    """
    width = limits[1] - limits[0]
    points = generic(exact.inputs, limits, draws)
    with torch.no_grad():
        outputs = flat(exact.model(points).double())
    weights = draws.on(draws.stream + 1).normal(outputs.shape[1]).to(outputs)
    weights = _rows.unit(weights)
    gradient, refused = _gradient(exact, points, weights)
    norm = _rows.norm(gradient)
    numbers = points[0].numel()
    signs = draws.on(draws.stream + 2).uniform(_DIRECTIONS * numbers).to(points)
    signs = (signs - 0.5).sign().reshape(len(points), _DIRECTIONS, numbers)
    along = _rows.unit(gradient).flatten(1) * numbers**0.5
    ways = torch.cat([signs, along[:, None]], 1).reshape(
        len(points), _DIRECTIONS + 1, *points.shape[1:]
    )
    lengths = torch.tensor(_LENGTHS, dtype=points.dtype, device=points.device) * width
    rises = torch.stack(
        [
            torch.stack([_rise(exact, points, weights, h * way) for h in lengths])
            for way in ways.unbind(1)
        ]
    )  # [directions, lengths, batch]
    slope = torch.einsum("nd,nkd->kn", gradient.flatten(1), ways.flatten(2))
    noise = _ROUNDING * eps * _rows.norm(outputs)
    # Inputs are rounded too.
    grid = eps * float(points.abs().max())
    best, along = _errors(rises, slope, lengths, noise, grid)
    big = rises.abs() > noise / _RESOLVED
    still = _still(rises[:-1], lengths, noise)
    return Slopes(best, along, still / width, big.any(0).any(0), norm, refused)


def _errors(
    rises: Tensor, slope: Tensor, lengths: Tensor, noise: Tensor, grid: float
) -> tuple[Tensor, Tensor]:
    """See `Slopes.error` and `Slopes.along`."""
    size = lengths[None, :, None]
    differences = rises / (2 * size)
    both = torch.maximum(differences.square(), slope[:, None].square())
    scale = both.mean(0).sqrt()  # [lengths, batch]
    error = (differences - slope[:, None]).abs().median(0).values / scale
    resolved = noise / (2 * size[0]) <= _RESOLVED * scale
    resolved &= (lengths > grid / _RESOLVED)[:, None]
    resolved[:_LONG] = False
    best, where = error.where(resolved & (scale > 0), torch.inf).min(0)
    example = torch.arange(len(noise), device=noise.device)
    along = differences[-1, where, example] / slope[-1]
    # Differences that still change from one length to the next tell no derivative.
    change = (differences[:, 1:] - differences[:, :-1]).abs().median(0).values
    size_of = differences[:, 1:].square().mean(0).sqrt()
    settled = (change <= MISMATCH * size_of) & resolved[1:] & resolved[:-1]
    known = best.isfinite() & ((best <= MISMATCH) | settled.any(0))
    return torch.where(known, best, torch.nan), along


def _still(rises: Tensor, lengths: Tensor, noise: Tensor) -> Tensor:
    """See `Slopes.still`, in the units of the inputs."""
    size = lengths[None, :, None]
    steepest = (rises.abs() / size).cummax(1).values  # over lengths at least as long
    visible = (steepest * size > noise / _RESOLVED).double().mean(0) > 0.5
    still = ((rises == 0).double().mean(0) > 0.5) & visible
    return (still * lengths[:, None]).amax(0)


def generic(inputs: Tensor, limits: tuple[float, float], draws: Draws) -> Tensor:
    """Inputs moved by a random offset, to the side that the limits leave.

    Args:
        inputs: `[batch, *input]`.
        limits: (lo, hi).
        draws: random numbers of the examples.
    """
    offset = draws.uniform(inputs[0].numel()).to(inputs).reshape(inputs.shape)
    offset = (2 * offset - 1) * _OFFSET * (limits[1] - limits[0])
    moved = inputs + offset
    outside = (moved < limits[0]) | (moved > limits[1])
    return torch.where(outside, inputs - offset, moved)


def _gradient(exact: Problem, points: Tensor, weights: Tensor) -> tuple[Tensor, str]:
    """∇φ, or zeros and why there is none."""
    moved = points.detach().requires_grad_()
    try:
        value = (flat(exact.model(moved)) * weights).sum()
        if not value.requires_grad:
            return torch.zeros_like(points), "no gradient reaches the inputs"
        (gradient,) = torch.autograd.grad(value, moved, allow_unused=True)
    except (RuntimeError, NotImplementedError) as error:
        text = str(error).splitlines()[0].rstrip(".") if str(error) else "an error"
        return torch.zeros_like(points), f"the backward pass fails ({text})"
    if gradient is None:
        return torch.zeros_like(points), "no gradient reaches the inputs"
    return gradient, ""


def _rise(exact: Problem, points: Tensor, weights: Tensor, move: Tensor) -> Tensor:
    """φ(x + move) - φ(x - move) `[batch]`."""
    with torch.no_grad():
        ahead, behind = exact.model(points + move), exact.model(points - move)
    return (flat(ahead.double() - behind.double()) * weights).sum(1)


def flat(outputs: Tensor) -> Tensor:
    """`[rows, …]` as `[rows, numbers]`, `[rows]` as `[rows, 1]`."""
    return outputs.reshape(len(outputs), -1)
