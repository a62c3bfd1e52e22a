"""A normalisation inside the model, so that radius and box keep the data's units."""

from typing import TypeAlias

import torch
from torch import Tensor, nn

from summiteer.errors import UserError

Numbers: TypeAlias = float | tuple[float, ...] | list[float] | Tensor
#: More numbers than this are counted instead of shown.
_SHOWN = 8


class Standardise(nn.Module):
    """(x - mean)/std, one pair of numbers for all inputs or one per channel.

    As the first layer, nn.Sequential(Standardise(mean, std), model), it lets an attack
    speak of the data as they are stored. Both are buffers: they belong to the state
    dict, and a run's id depends on them. Behind it a piecewise-linear network is still
    recognised, with the rounding of the difference and of the quotient counted; smooth
    networks are NUMERICAL.

    Args:
        mean: a number, or one per channel of inputs `[batch, channels, ...]`, which
            are the features of inputs `[batch, features]`.
        std: the same, each > 0.
        dtype: of the buffers and so of the inputs; torch's default if None.

    Raises:
        UserError: a number is not finite, a std not positive, or the counts differ.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Numbers, std: Numbers, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        centre = _numbers("mean", mean, dtype)
        spread = _numbers("std", std, dtype)
        if not bool((spread > 0).all()):
            raise UserError(
                f"std: expected numbers > 0, got {spread.tolist()}; inputs are divided "
                "by them."
            )
        if len(centre) != len(spread) and 1 not in (len(centre), len(spread)):
            raise UserError(
                f"mean and std: {len(centre)} and {len(spread)} numbers; give one "
                "each, or as many as there are channels."
            )
        self.register_buffer("mean", centre)
        self.register_buffer("std", spread)

    @property
    def channels(self) -> int:
        """How many channels it is made for; 1: for any inputs."""
        return max(len(self.mean), len(self.std))

    def forward(self, inputs: Tensor) -> Tensor:
        """(inputs - mean)/std.

        Args:
            inputs: `[rows, channels, ...]`.

        Raises:
            UserError: the channels of the inputs are not as many as the numbers.
        """
        mean, std = self.constants(tuple(inputs.shape[1:]))
        return (inputs - mean) / std

    def constants(self, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Mean and std, of the dimensions of a row.

        Args:
            shape: of a row of inputs.

        Raises:
            UserError: its channels are not as many as the numbers.
        """
        if self.channels > 1 and (not shape or shape[0] != self.channels):
            raise UserError(
                f"mean and std: {self.channels} numbers for inputs {list(shape)}; give "
                "one number, or one per channel (the first dimension)."
            )
        ones = [1] * (len(shape) - 1)
        first = [-1] if shape else []
        return self.mean.reshape(first + ones), self.std.reshape(first + ones)

    def extra_repr(self) -> str:
        """What print(model) shows."""
        return f"mean={_shown(self.mean)}, std={_shown(self.std)}"


def _numbers(name: str, given: Numbers, dtype: torch.dtype | None) -> Tensor:
    own = isinstance(given, Tensor) and given.is_floating_point()
    try:
        # Numbers of Python are float64, whatever torch's default is.
        wide = None if isinstance(given, Tensor) else torch.float64
        numbers = torch.as_tensor(given, dtype=wide).detach().flatten()
    except (TypeError, ValueError, RuntimeError) as error:
        raise UserError(f"{name}: expected numbers, got {given!r}.") from error
    if dtype is None:
        dtype = numbers.dtype if own else torch.get_default_dtype()
    numbers = numbers.to(dtype, copy=True)
    if not numbers.numel() or not bool(numbers.isfinite().all()):
        raise UserError(f"{name}: expected finite numbers, got {numbers.tolist()}.")
    return numbers


def _shown(numbers: Tensor) -> str:
    if len(numbers) > _SHOWN:
        return f"{len(numbers)} numbers"
    # As many digits as tell one float32 from another.
    return ", ".join(f"{number:.9g}" for number in numbers.tolist())
