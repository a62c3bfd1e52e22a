"""Adversarial inputs as a tool left them: their dtype, their grid, their order."""

from dataclasses import dataclass, replace
from typing import Self

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.auditing.excess import displaced, length_of, size_of
from summiteer.errors import UserError
from summiteer.problem import Problem

#: Levels that 8-bit files come in: pixels over 255, or over 256.
GRIDS = (255, 256)
#: A file with fewer different values between its limits is on every grid.
_FEWEST_LEVELS = 3
#: A rounding error of so much of a level hides whether a number is on the grid.
_BLURRED = 0.05
#: Perturbations longer than this many radii are no attack's, but somebody's mistake.
_FAR = 2.0
#: …and those shorter than this could be an attack's, rounded in some other units.
_NEAR = 1.5
#: Perturbations are no longer than this many radii, whatever rounded them.
_OWN = 1.1
#: Share of the examples that other units must explain before they are believed.
_MOST = 0.9
#: Rows compared with all inputs at once.
_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Given:
    """Adversarial inputs and what is known of the file they came in.

    What holds for the whole file is repeated per example, so that a block of examples
    knows it too and nothing depends on how they are divided.

    Attributes:
        inputs: `[n, *input]` floats, in the units of the problem's inputs as far as
            these are known.
        rounding: `[n]` relative rounding of the coarsest dtype that file, model and
            values have in common.
        levels: `[n]` int16, 255 or 256 where all values lie on that grid, else 0.
        step: `[n]` the distance of two levels; 0 where there is no grid.
        fits: `[n]` id of the example whose input it does fit, -1 where that is not
            another one.
        factor: `[n]` 1, or what the inputs seem to have been multiplied by; 0 where
            the file seems to hold perturbations and not inputs.
        shift: `[n]` 0, or what seems to have been added then.
    """

    inputs: Tensor
    rounding: Tensor
    levels: Tensor
    step: Tensor
    fits: Tensor
    factor: Tensor
    shift: Tensor

    def __getitem__(self, index: Tensor) -> Self:
        """The examples `index`."""
        fields = {name: value[index] for name, value in vars(self).items()}
        return replace(self, **fields)

    def __len__(self) -> int:
        return len(self.inputs)


def given_of(problem: Problem, adversarial: Tensor) -> Given:
    """Look at all adversarial inputs together.

    Args:
        problem: of all examples.
        adversarial: `[n, *input]` floats, or integers 0 … 255.

    Raises:
        UserError: no such tensor.
    """
    checked = _checked(problem, adversarial)
    limits = _limits(problem)
    inputs = checked if checked.is_floating_point() else _scaled(checked, limits)
    rounding = _rounding(problem, inputs)
    levels, step = 0, 0.0
    if limits is not None:
        levels = _grid(inputs, limits, rounding)
        step = (limits[1] - limits[0]) / levels if levels else 0.0
    far = _length(problem, inputs) > _FAR * size_of(problem)
    factor, shift = 1.0, 0.0
    fits = torch.full((len(inputs),), -1, dtype=torch.int64)
    if bool(far.any()):
        factor, shift = _units(problem, inputs, far)
        if factor == 1.0 and shift == 0.0:
            fits = _fits(problem, inputs, far)

    def all_of(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.full((len(inputs),), value, dtype=dtype)

    return Given(
        inputs=inputs,
        rounding=all_of(rounding),
        levels=all_of(levels, torch.int16),
        step=all_of(step),
        fits=fits,
        factor=all_of(factor),
        shift=all_of(shift),
    )


def _checked(problem: Problem, adversarial: Tensor) -> Tensor:
    wanted = list(problem.inputs.shape)
    if not isinstance(adversarial, Tensor):
        raise UserError(
            f"adversarial_inputs: expected a tensor {wanted}, got "
            f"{type(adversarial).__name__}; summiteer.adapters has one line for the "
            "output of each attack library."
        )
    if list(adversarial.shape) != wanted:
        raise UserError(
            "adversarial_inputs: expected one input per example, of the inputs' shape "
            f"{wanted}, got {list(adversarial.shape)}."
        )
    if adversarial.is_complex() or adversarial.dtype == torch.bool:
        raise UserError(
            f"adversarial_inputs: expected numbers, got {adversarial.dtype}."
        )
    adversarial = adversarial.detach().to(problem.inputs.device)
    if adversarial.is_inference():
        adversarial = adversarial.clone()
    if not adversarial.is_floating_point():
        low, high = int(adversarial.min()), int(adversarial.max())
        if not (low >= 0 and high <= 255):
            raise UserError(
                "adversarial_inputs: integers are read as 8-bit pixels 0 … 255, got "
                f"{low} … {high}; give floats in the units of the inputs."
            )
    return adversarial


def _limits(problem: Problem) -> tuple[float, float] | None:
    """What the lowest and the highest pixel are: the box, else what the data span."""
    if problem.box is not None:
        return float(problem.box[0]), float(problem.box[1])
    low, high = float(problem.inputs.min()), float(problem.inputs.max())
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (0.0, 255.0) if low >= 0 and 2 < high <= 255 else None


def _scaled(pixels: Tensor, limits: tuple[float, float] | None) -> Tensor:
    """8-bit pixels in the units of the inputs."""
    if limits is None:
        raise UserError(
            "adversarial_inputs: 8-bit pixels, but neither the box nor the inputs say "
            "what 0 and 255 are; give floats in the units of the inputs."
        )
    low, high = limits
    # In float64, then rounded once by whoever casts it: k/255 as everybody has it.
    return low + (high - low) * (pixels.double() / 255)


def _rounding(problem: Problem, inputs: Tensor) -> float:
    """The relative rounding of the coarsest of the file's and the model's dtype.

    Values that are all float32 numbers were computed in float32, whatever holds them.
    """
    dtypes = [inputs.dtype, problem.inputs.dtype]
    if bool((inputs.float().to(inputs.dtype) == inputs).all()):
        dtypes.append(torch.float32)
    return max(torch.finfo(dtype).eps for dtype in dtypes)


def _grid(inputs: Tensor, limits: tuple[float, float], rounding: float) -> int:
    """255 or 256 if all values are multiples of that part of the range, else 0."""
    found = (n for n in GRIDS if _on_grid(inputs, limits, rounding, n))
    return next(found, 0)


def _on_grid(
    inputs: Tensor, limits: tuple[float, float], rounding: float, levels: int
) -> bool:
    """Whether all values are k/levels of the range; a few different ones at least."""
    if 2 * rounding * levels > _BLURRED:
        return False  # in half precision every number looks like one on a grid
    low, high = limits
    # A few examples rule a grid out; all of them are looked at only if these do not.
    for part in (inputs[:8], inputs):
        exact = (part.double() - low) / (high - low) * levels
        nearest = exact.round()
        off = (exact - nearest).abs() > 2 * rounding * exact.abs().clamp(min=1)
        if bool(off.any()):
            return False
    between = nearest[(nearest > 0) & (nearest < levels)]
    return len(torch.unique(between)) >= _FEWEST_LEVELS


def _length(problem: Problem, inputs: Tensor) -> Tensor:
    """The norm of each perturbation, NaN where the input is not finite."""
    return length_of(problem.region, displaced(problem.inputs, inputs))


def _units(problem: Problem, inputs: Tensor, far: Tensor) -> tuple[float, float]:
    """(factor, shift) if most rows are far and become near in other units."""
    finite = inputs.flatten(1).isfinite().all(1)
    if not bool(finite.any()) or int(far.sum()) < _MOST * int(finite.sum()):
        return 1.0, 0.0
    index = finite.nonzero().flatten()[:_CHUNK]
    some, x = problem.take(index.cpu()), inputs[index].double()
    clean = some.inputs.double()
    size = size_of(some)
    raw = length_of(some.region, x - clean)

    def explains(back: Tensor, radii: float) -> bool:
        left = length_of(some.region, back - clean)
        near = (left <= radii * size) & (left <= raw / 2)
        return float(near.double().mean()) >= _MOST

    known = [(255.0, 0.0), (256.0, 0.0), (1 / 255, 0.0), (2.0, -1.0), (0.5, 0.5)]
    for factor, shift in known:
        if explains((x - shift) / factor, _NEAR):
            return factor, shift
    slope, start = _fitted(clean, x)
    # The attack itself tilts the line a little.
    if bool((slope > 0).all()) and explains((x - start) / slope, 2 * _NEAR):
        return float(slope.mean()), float(start.mean())
    # x' = 0·x + δ: as short as perturbations, and of both signs as no pixels are.
    own = float((length_of(some.region, x) <= _OWN * size).double().mean())
    both = bool((x < 0).any()) and bool((x > 0).any())
    return (0.0, 0.0) if own >= _MOST and both else (1.0, 0.0)


def _fitted(clean: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Least-squares line of moved on clean, one per channel where there are some."""
    keep = [0, *range(2, clean.ndim)] if clean.ndim >= 4 else [*range(clean.ndim)]
    at, to = clean.mean(keep, keepdim=True), moved.mean(keep, keepdim=True)
    spread = (clean - at).square().mean(keep, keepdim=True)
    slope = ((clean - at) * (moved - to)).mean(keep, keepdim=True)
    slope = _rows.ratio(slope, spread)
    return slope, to - slope * at


def _fits(problem: Problem, inputs: Tensor, far: Tensor) -> Tensor:
    """The id of the example whose input a far row is near to, -1 if there is none."""
    fits = torch.full((len(inputs),), -1, dtype=torch.int64)
    ids = torch.as_tensor(problem.ids)
    clean = problem.inputs.double().flatten(1)
    for index in torch.split(far.nonzero().flatten(), _CHUNK):
        moved = inputs[index].double()
        nearest = torch.cdist(moved.flatten(1), clean).argmin(1)
        # Judged by the other example's own radius.
        other = problem.take(nearest.cpu())
        apart = length_of(other.region, moved - other.inputs.double())
        close = (apart <= _NEAR * size_of(other)).cpu()
        fits[index.cpu()[close]] = ids[nearest.cpu()[close]]
    return fits
