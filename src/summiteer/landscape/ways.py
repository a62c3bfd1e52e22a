"""What the ways of runs to their end points were like."""

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer.ascent import Ascent
from summiteer.problem import Problem
from summiteer.trajectory import Recorder

#: What must be recorded, at every step.
FIELDS = ("loss", "rise", "displacement", "gradient_norm", "gradient_change")
#: Steps shorter than this many radii tell rounding, not the slope of the gradient.
_SHORT = 1e-6


@dataclass(frozen=True, eq=False)
class Ways:
    """Of each run from δ_0 to δ_T `[restarts, batch]`, float64; NaN if it made no step.

    With g_t = ∇ℓ(δ_t):

    Attributes:
        straightness: ‖δ_T - δ_0‖ / Σ ‖δ_t - δ_(t-1)‖, 1 for a straight way.
        monotonicity: share of steps on which the objective did not fall beyond rounding
            (`tolerances.SAME_LOSS`).
        gradient_variation: Σ ‖g_t - g_(t-1)‖ / max ‖g_t‖, 0 where the gradient is the
            same all along.
        gradient_slope: max ‖g_t - g_(t-1)‖ / ‖δ_t - δ_(t-1)‖ over steps longer than
            1e-6 radii: at most the Lipschitz constant of ∇ℓ, and often what a step size
            has to fear (`santurkar2018does`).
    """

    straightness: Tensor
    monotonicity: Tensor
    gradient_variation: Tensor
    gradient_slope: Tensor

    @classmethod
    def of(cls, problem: Problem, starts: Tensor, ascent: Ascent) -> Self:
        """What was recorded of an ascent.

        Args:
            problem: of the ascent.
            starts: `[restarts, batch, *input]`.
            ascent: recorded by `every_step`.
        """
        record = ascent.trajectory
        assert record is not None
        recorded = (getattr(record, name) for name in FIELDS)
        loss, rise, moved, norm, change = (values.double() for values in recorded)
        made = rise[1:].isfinite()
        count = made.sum(0)
        none = count == 0
        length = moved[1:].nansum(0)
        shape = ascent.final.shape
        apart = _rows.norm((ascent.final - starts).flatten(0, 1)).reshape(shape[:2])
        rounding = tolerances.same_loss(problem.inputs.dtype) * loss[1:].abs()
        kept = (rise[1:] >= -rounding).sum(0) / count
        steep = norm.nan_to_num(0.0).amax(0)
        size = problem.size.double().cpu()
        quotient = (change / moved)[1:]
        quotient = quotient.masked_fill(~(moved[1:] > _SHORT * size), torch.nan)
        slope = quotient.nan_to_num(-torch.inf).amax(0) if len(quotient) else kept
        variation = change[1:].nansum(0) / steep
        return cls(
            (apart.cpu().double() / length).clamp(max=1).masked_fill(none, torch.nan),
            kept.double().masked_fill(none, torch.nan),
            variation.masked_fill(none, torch.nan),
            slope.double().masked_fill(none | slope.isinf(), torch.nan),
        )

    @classmethod
    def joined(cls, parts: "list[Ways]") -> Self:
        """Those of several blocks of examples, in their order."""
        names = [field.name for field in fields(cls)]
        return cls(*(torch.cat([getattr(p, n) for p in parts], 1) for n in names))


def every_step(max_steps: int, runs: int) -> Recorder:
    """A recorder with room for every step.

    Args:
        max_steps: of each run.
        runs: of all examples of one ascent.
    """
    room = 4 * len(FIELDS) * runs * (max_steps + 1)
    return Recorder(max_bytes=room, fields=FIELDS)
