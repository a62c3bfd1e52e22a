"""Modules for what ONNX has and torch has no layer for."""

import torch
from torch import Tensor, nn
from torch.nn import functional


class Shift(nn.Module):
    """x + constant.

    Args:
        constant: broadcasts to a row.
    """

    constant: Tensor

    def __init__(self, constant: Tensor) -> None:
        super().__init__()
        self.register_buffer("constant", constant)

    def forward(self, inputs: Tensor) -> Tensor:
        """The sum; torch.fx can trace it."""
        return inputs + self.constant


class Scale(Shift):
    """x·constant."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The product; torch.fx can trace it."""
        return inputs * self.constant


class Quotient(Shift):
    """x/constant."""

    def forward(self, inputs: Tensor) -> Tensor:
        """The quotient; torch.fx can trace it."""
        return inputs / self.constant


class Transpose(nn.Module):
    """The dimensions of each example in another order.

    Args:
        order: of all dimensions, the batch first.
    """

    def __init__(self, order: tuple[int, ...]) -> None:
        super().__init__()
        self.order = order

    def forward(self, inputs: Tensor) -> Tensor:
        """The rows with their dimensions reordered."""
        return inputs.permute(self.order)


class Elu(nn.Module):
    """ONNX's Elu and Selu: gamma·(x where x > 0, alpha·(eˣ - 1) elsewhere).

    Args:
        alpha: of the negative side.
        gamma: of both.
    """

    def __init__(self, alpha: float, gamma: float = 1.0) -> None:
        super().__init__()
        self.alpha, self.gamma = alpha, gamma

    def forward(self, inputs: Tensor) -> Tensor:
        """Entry by entry."""
        return self.gamma * functional.elu(inputs, self.alpha)


class HardSigmoid(nn.Module):
    """max(0, min(1, alpha·x + beta)), times x for HardSwish.

    Args:
        alpha: the slope.
        beta: the value at 0.
        times: whether the result is multiplied by x.
    """

    def __init__(self, alpha: float, beta: float, times: bool = False) -> None:
        super().__init__()
        self.alpha, self.beta, self.times = alpha, beta, times

    def forward(self, inputs: Tensor) -> Tensor:
        """Entry by entry."""
        gate = (self.alpha * inputs + self.beta).clamp(0.0, 1.0)
        return inputs * gate if self.times else gate


class Clip(nn.Module):
    """min(max(x, low), high).

    Args:
        low: or None.
        high: or None.
    """

    def __init__(self, low: float | None, high: float | None) -> None:
        super().__init__()
        self.low, self.high = low, high

    def forward(self, inputs: Tensor) -> Tensor:
        """Entry by entry."""
        return inputs.clamp(self.low, self.high)


class ParametricRelu(Shift):
    """x where x > 0, constant·x elsewhere."""

    def forward(self, inputs: Tensor) -> Tensor:
        """Entry by entry."""
        return torch.where(inputs > 0, inputs, self.constant * inputs)


class Frame(nn.Module):
    """A frame of one number around each example.

    Args:
        pads: as torch counts them, from the last axis.
        filling: the number.
    """

    def __init__(self, pads: list[int], filling: float) -> None:
        super().__init__()
        self.pads, self.filling = pads, filling

    def forward(self, inputs: Tensor) -> Tensor:
        """The rows with their frames."""
        return functional.pad(inputs, self.pads, value=self.filling)
