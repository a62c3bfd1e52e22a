"""Adversarial inputs as a tool left them: their dtype, their grid, their order."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import Self

import torch
from torch import Tensor

from summiteer import _rows
from summiteer.auditing.excess import displaced, length_of, size_of
from summiteer.data import Column, Held
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
#: Rows that tell in which units a file is.
_CHUNK = 256
#: Far rows that are compared with all inputs in one reading of these, if they have no
#: more numbers than this; and inputs that they are compared with at once.
_FAR_ROWS, _FAR_NUMBERS, _CLEAN_ROWS = 1024, 2**23, 4096


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


@dataclass(frozen=True, eq=False)
class Look:
    """What all adversarial inputs together tell of the file they came in.

    Attributes:
        rows: the inputs as they are `[n, *input]`.
        part: indices in ascending order -> the problem of these examples.
        limits: what the lowest and the highest pixel are, None where that is unknown.
        rounding: see `Given`; so are those that follow.
        levels: of the file.
        factor: of the file.
        shift: of the file.
        fits: `[n]`.
    """

    rows: Column
    part: Callable[[Tensor], Problem]
    limits: tuple[float, float] | None
    rounding: float = 0.0
    levels: int = 0
    factor: float = 1.0
    shift: float = 0.0
    fits: Tensor = field(default_factory=lambda: torch.empty(0, dtype=torch.int64))

    def given(self, problem: Problem, index: Tensor) -> Given:
        """Return what the tool left of some examples.

        Args:
            problem: of these examples.
            index: `[rows]` which they are, in ascending order.
        """
        step = 0.0
        if self.limits is not None and self.levels:
            step = (self.limits[1] - self.limits[0]) / self.levels

        def all_of(value: float, dtype: torch.dtype = torch.float64) -> Tensor:
            return torch.full((len(index),), value, dtype=dtype)

        return Given(
            inputs=self.moved(problem, index),
            rounding=all_of(self.rounding),
            levels=all_of(self.levels, torch.int16),
            step=all_of(step),
            fits=self.fits[index],
            factor=all_of(self.factor),
            shift=all_of(self.shift),
        )

    def moved(self, problem: Problem, index: Tensor) -> Tensor:
        """Return x' of some examples, in the units of the inputs as far as known."""
        rows = self.rows.take(index).detach().to(problem.inputs.device)
        if rows.is_inference():
            rows = rows.clone()
        return rows if rows.is_floating_point() else _scaled(rows, self.limits)

    def blocks(self) -> Iterator[tuple[Tensor, Problem, Tensor]]:
        """All examples, some at a time: indices, their problem, x'."""
        for index in torch.split(torch.arange(len(self.rows)), self.rows.at_once):
            problem = self.part(index)
            yield index, problem, self.moved(problem, index)


def given_of(problem: Problem, adversarial: Tensor) -> Given:
    """Look at all adversarial inputs together.

    Args:
        problem: of all examples.
        adversarial: `[n, *input]` floats, or integers 0 … 255.

    Raises:
        UserError: no such tensor.
    """
    if not isinstance(adversarial, Tensor):
        raise UserError(
            f"adversarial_inputs: expected a tensor {list(problem.inputs.shape)}, got "
            f"{type(adversarial).__name__}; summiteer.adapters has one line for the "
            "output of each attack library."
        )
    span = float(problem.inputs.min()), float(problem.inputs.max())
    rows, ids = Held.of(adversarial), torch.as_tensor(problem.ids)
    look = looked_at(problem, problem.take, rows, span, ids)
    return look.given(problem, torch.arange(len(ids)))


def looked_at(
    head: Problem,
    part: Callable[[Tensor], Problem],
    rows: Column,
    span: tuple[float, float],
    ids: Tensor,
) -> Look:
    """Look at all adversarial inputs, some at a time.

    Args:
        head: of the first examples, or of all.
        part: indices in ascending order -> the problem of these examples.
        rows: `[n, *input]` floats, or integers 0 … 255.
        span: the least and the largest number of all clean inputs.
        ids: `[n]` of all examples.

    Raises:
        UserError: no such rows.
    """
    _check(rows, (len(ids), *head.inputs.shape[1:]))
    look = Look(rows, part, _limits(head, span))
    finite, far, single = _measured(look)
    dtypes = [look.moved(head, torch.arange(0)).dtype, head.inputs.dtype]
    if single:
        dtypes.append(torch.float32)
    look = replace(look, rounding=max(torch.finfo(dtype).eps for dtype in dtypes))
    look = replace(look, levels=_grid(look))
    fits = torch.full((len(ids),), -1, dtype=torch.int64)
    factor, shift = 1.0, 0.0
    if bool(far.any()):
        factor, shift = _units(look, finite, far)
        if factor == 1.0 and shift == 0.0:
            fits = _fits(look, far, ids)
    return replace(look, fits=fits, factor=factor, shift=shift)


def _check(rows: Column, wanted: tuple[int, ...]) -> None:
    if list(rows.shape) != list(wanted):
        raise UserError(
            "adversarial_inputs: expected one input per example, of the inputs' shape "
            f"{list(wanted)}, got {list(rows.shape)}."
        )
    if rows.dtype.is_complex or rows.dtype == torch.bool:
        raise UserError(f"adversarial_inputs: expected numbers, got {rows.dtype}.")
    if rows.dtype.is_floating_point:
        return
    ends = [(int(some.min()), int(some.max())) for _, some in rows.blocks()]
    low, high = min(low for low, _ in ends), max(high for _, high in ends)
    if not (low >= 0 and high <= 255):
        raise UserError(
            "adversarial_inputs: integers are read as 8-bit pixels 0 … 255, got "
            f"{low} … {high}; give floats in the units of the inputs."
        )


def _limits(head: Problem, span: tuple[float, float]) -> tuple[float, float] | None:
    """What the lowest and the highest pixel are: the box, else what the data span."""
    if head.box is not None:
        return float(head.box[0]), float(head.box[1])
    low, high = span
    if low >= 0 and high <= 1:
        return 0.0, 1.0
    return (0.0, 255.0) if low >= 0 and 2 < high <= 255 else None


def _measured(look: Look) -> tuple[Tensor, Tensor, bool]:
    """Which rows are finite and which far `[n]`, and whether all are float32 numbers.

    Values that are all float32 numbers were computed in float32, whatever holds them.
    """
    finite = torch.ones(len(look.rows), dtype=torch.bool)
    far, single = torch.zeros_like(finite), True
    for index, problem, moved in look.blocks():
        finite[index] = moved.flatten(1).isfinite().all(1).cpu()
        length = length_of(problem.region, displaced(problem.inputs, moved))
        far[index] = (length > _FAR * size_of(problem)).cpu()
        single = single and bool((moved.float().to(moved.dtype) == moved).all())
    return finite, far, single


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


def _grid(look: Look) -> int:
    """255 or 256 if all values are multiples of that part of the range, else 0."""
    return next((levels for levels in GRIDS if _on_grid(look, levels)), 0)


def _on_grid(look: Look, levels: int) -> bool:
    """Whether all values are k/levels of the range; a few different ones at least."""
    if look.limits is None or 2 * look.rounding * levels > _BLURRED:
        return False  # in half precision every number looks like one on a grid
    low, high = look.limits
    between: set[float] = set()
    # A few examples rule a grid out; all of them are looked at only if these do not.
    first = torch.arange(len(look.rows))[:8]
    parts = chain(
        [look.moved(look.part(first), first)], (moved for _, _, moved in look.blocks())
    )
    for part in parts:
        exact = (part.double() - low) / (high - low) * levels
        nearest = exact.round()
        off = (exact - nearest).abs() > 2 * look.rounding * exact.abs().clamp(min=1)
        if bool(off.any()):
            return False
        inside = nearest[(nearest > 0) & (nearest < levels)]
        between.update(torch.unique(inside).tolist())
    return len(between) >= _FEWEST_LEVELS


def _units(look: Look, finite: Tensor, far: Tensor) -> tuple[float, float]:
    """(factor, shift) if most rows are far and become near in other units."""
    if not bool(finite.any()) or int(far.sum()) < _MOST * int(finite.sum()):
        return 1.0, 0.0
    index = finite.nonzero().flatten()[:_CHUNK]
    some = look.part(index)
    x = look.moved(some, index).double()
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


def _fits(look: Look, far: Tensor, ids: Tensor) -> Tensor:
    """The id of the example whose input a far row is near to, -1 if there is none."""
    fits = torch.full((len(ids),), -1, dtype=torch.int64)
    numbers = max(1, math.prod(look.rows.row))
    size = max(1, min(_FAR_ROWS, _FAR_NUMBERS // numbers))
    for index in torch.split(far.nonzero().flatten(), size):
        moved = look.moved(look.part(index), index).double()
        nearest = _nearest(look, moved)
        # Judged by the other example's own radius.
        unique, back = torch.unique(nearest, return_inverse=True)
        other = look.part(unique).take(back)
        apart = length_of(other.region, moved - other.inputs.double())
        close = (apart <= _NEAR * size_of(other)).cpu()
        fits[index[close]] = ids[nearest[close]]
    return fits


def _nearest(look: Look, moved: Tensor) -> Tensor:
    """The index of the example whose input is nearest `[rows]`, ties to the first."""
    flat = moved.flatten(1)
    nearest = torch.zeros(len(flat), dtype=torch.int64)
    least = flat.new_full((len(flat),), torch.inf)
    size = min(look.rows.at_once, _CLEAN_ROWS)
    for index in torch.split(torch.arange(len(look.rows)), size):
        clean = look.part(index).inputs.double().flatten(1)
        distance, place = torch.cdist(flat, clean).min(1)
        closer = distance < least
        least = torch.where(closer, distance, least)
        nearest = torch.where(closer.cpu(), index[place.cpu()], nearest)
    return nearest
