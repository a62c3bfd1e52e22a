"""Inputs in the units that the model expects."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.findings import Finding
from summiteer.screen.subject import NotRun, Subject

#: Levels of an 8-bit file.
_LEVELS = 256
#: Fewer levels than this are counts or flags, not pixels.
_FEWEST_LEVELS = 64
#: Numbers per channel that are looked at.
_LOOKED_AT = 2**16
#: Means of pixels in [0, 1] and in 0..255.
_UNIT_MEANS, _BYTE_MEANS = (0.05, 0.95), (10.0, 245.0)
#: Grid points are met to this, in steps: normalising in float32 costs three digits.
_ON_GRID = 0.02


@dataclass(frozen=True)
class Pixels:
    """What the inputs look like.

    Attributes:
        step: between two levels, the widest of all channels; None if on no grid.
        means: of each channel.
        stds: of each channel.
    """

    step: float | None
    means: Tensor
    stds: Tensor


def pixels(inputs: Tensor) -> Pixels:
    """Statistics per channel (dim 1 of `[n, C, H, W]`, else one), and the grid.

    Args:
        inputs: `[n, *input]`.
    """
    if inputs.ndim == 4 and inputs.shape[1] <= 4:
        channels = inputs.transpose(0, 1).flatten(1)
    else:
        channels = inputs.reshape(1, -1)
    channels = channels[:, :_LOOKED_AT].double()
    steps = [_step(values) for values in channels]
    known = [step for step in steps if step]
    return Pixels(
        max(known) if known and len(known) == len(steps) else None,
        channels.mean(1),
        channels.std(1),
    )


def _step(values: Tensor) -> float | None:
    """The step of the grid of 64 to 256 levels that all values lie on, or None."""
    levels = torch.unique(values)
    if not _FEWEST_LEVELS <= len(levels) <= _LEVELS:
        return None
    gaps = levels.diff()
    step = float(gaps.min())
    off = gaps / step - (gaps / step).round()
    count = float(levels[-1] - levels[0]) / step
    on_grid = bool((off.abs() <= _ON_GRID).all()) and count < _LEVELS - 0.5
    return step if on_grid else None


def normalisation(subject: Subject) -> Finding | NotRun | None:
    """(x - m)/s inside the model, m and s of pixels, on inputs that are no such pixels.

    Inputs that are normalised already (negative, and not centred by m and s), inputs
    in [0, 1] where m is of 0..255, or the other way round.
    """
    mean, std = subject.forward_pass.mean, subject.forward_pass.std
    if mean is None or std is None:
        return NotRun("no normalisation at the model's entrance was seen")
    m, s = float(mean.mean()), float(std.mean())
    inputs = subject.problem.inputs.double()
    low, high = float(inputs.min()), float(inputs.max())
    centre, spread = (float(inputs.mean()) - m) / s, float(inputs.std()) / s
    unit = _UNIT_MEANS[0] < m < _UNIT_MEANS[1] and 0 < s < _UNIT_MEANS[1]
    byte = _BYTE_MEANS[0] < m < _BYTE_MEANS[1] and s < _BYTE_MEANS[1]
    wrong = ""
    if unit and low < -_UNIT_MEANS[0] and (abs(centre) > 1 or spread > 2):
        wrong = "look normalised already"
    elif unit and high > _BYTE_MEANS[0]:
        wrong = "are not in [0, 1]"
    elif byte and high <= 2:
        wrong = "are not in 0..255"
    if not wrong:
        return None
    return Finding(
        "NORMALISATION",
        f"inputs: {wrong} ({low:.3g} … {high:.3g}), and the model subtracts {m:.3g} "
        f"and divides by {s:.3g} once more",
        "the model sees what it was not trained on, clean and robust accuracy are "
        "those of another task",
        "normalise once: inside the model, with inputs and radius in plain pixels",
    )


def normalised(subject: Subject) -> Finding | NotRun | None:
    """Negative values on the grid of an 8-bit file, or standardised RGB; no box.

    Standardised tables are left alone: their radius is meant in these units.
    """
    problem = subject.problem
    if problem.box is not None:
        return NotRun("a box was given")
    low, high = float(problem.inputs.min()), float(problem.inputs.max())
    if low >= 0 or high <= 0:
        return None
    seen = pixels(problem.inputs)
    colours = problem.inputs.ndim == 4 and problem.inputs.shape[1] == 3
    standard = bool(
        (seen.means.abs() < 0.7).all() and (seen.stds - 1).abs().max() < 0.6
    )
    if seen.step is None and not (colours and standard):
        return None
    means = ", ".join(f"{value:.2f}" for value in seen.means)
    stds = ", ".join(f"{value:.2f}" for value in seen.stds)
    step = seen.step or float(high - low) / (_LEVELS - 1)
    radius = float(torch.as_tensor(problem.region.size).double().max())
    return Finding(
        "NORMALISED_INPUTS",
        f"inputs: look like normalised pixels ({low:.3g} … {high:.3g}, mean {means}, "
        f"std {stds}), and there is no box",
        f"the radius counts in these units ({radius:g} is {radius / step:.2g}/255 of "
        "the pixels' range), and perturbed inputs may be no valid pixels",
        "give inputs in [0, 1] with box 0,1 and normalise inside the model (--mean, "
        "--std)",
    )
