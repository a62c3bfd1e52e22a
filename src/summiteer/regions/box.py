"""A box in perturbation coordinates."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from summiteer._typing import PerExample
from summiteer.errors import UserError
from summiteer.regions._region import bind_radius, take_number
from summiteer.regions.intervals import Intervals


@dataclass(frozen=True, eq=False)
class Box(Intervals):
    """{δ : lower ≤ δ ≤ upper}, in perturbation coordinates.

    Args:
        lower: a number, or a tensor `[*input]` or `[batch, *input]`; at most 0.
        upper: the same; at least 0.
        radius: the length that `within` is measured in; by default half the widest
            side. The intersection with an L∞ ball keeps the ball's radius here.
    """

    lower: PerExample
    upper: PerExample
    radius: PerExample | None = None
    norm: ClassVar[str] = "box"

    @property
    def size(self) -> PerExample:
        """The given radius, or half the widest side of each row's box."""
        if self.radius is not None:
            return self.radius
        lower, upper = self.lower, self.upper
        if not (isinstance(lower, Tensor) or isinstance(upper, Tensor)):
            return (upper - lower) / 2
        width = torch.as_tensor(upper - lower)
        return width.flatten(1).amax(1) / 2 if width.ndim > 1 else width / 2

    def bind(self, inputs: Tensor) -> Self:
        """See `Region.bind`."""
        lower = _bind_bound("lower", self.lower, inputs)
        upper = _bind_bound("upper", self.upper, inputs)
        wrong = ~((lower <= 0) & (upper >= 0) & lower.isfinite() & upper.isfinite())
        if bool(wrong.any()):
            bad = wrong.flatten(1).any(1).nonzero().flatten().tolist()
            raise UserError(
                "box: every perturbation box must be finite and contain 0 "
                f"(lower ≤ 0 ≤ upper); not so for examples {bad}."
            )
        radius = None if self.radius is None else bind_radius(self.radius, inputs)
        return replace(self, lower=lower, upper=upper, radius=radius)

    def take(self, index: Tensor) -> Self:
        """See `Region.take`."""
        radius = None if self.radius is None else take_number(self.radius, index)
        return replace(
            self,
            lower=take_number(self.lower, index),
            upper=take_number(self.upper, index),
            radius=radius,
        )

    def limits(self, like: Tensor) -> tuple[Tensor, Tensor]:
        """(lower, upper)."""
        return (
            torch.as_tensor(self.lower, dtype=like.dtype, device=like.device),
            torch.as_tensor(self.upper, dtype=like.dtype, device=like.device),
        )


def _bind_bound(name: str, bound: PerExample, inputs: Tensor) -> Tensor:
    values = torch.as_tensor(bound, dtype=inputs.dtype, device=inputs.device)
    try:
        return values.expand(inputs.shape)
    except RuntimeError:
        raise UserError(
            f"box: `{name}` must be a number or broadcast to the inputs' shape "
            f"{list(inputs.shape)}, got {list(values.shape)}."
        ) from None
