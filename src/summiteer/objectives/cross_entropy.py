"""The cross-entropy, accurate however sure the model is."""

from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.objectives.labels import check_classes

#: Above this the softplus is the identity to the last bit of float64: e^-40 < 2^-53.
_STRAIGHT = 40.0


@dataclass(frozen=True)
class CrossEntropy:
    """-log softmax(z)_y for `[rows, K]` outputs and integer labels.

    See `cross_entropy` for how it is computed.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """-log softmax(z)_y `[rows]`."""
        return cross_entropy(outputs, targets)

    def with_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """-log p_y `[rows]` with p = softmax(z), and p - e_y.

        With t = log Σ_{k ≠ y} exp(z_k - z_y) as in `cross_entropy`: 1 - p_y = s(t) is
        shared out to the other classes as exp(z_k).
        """
        wide = outputs.float() if outputs.dtype.itemsize == 2 else outputs
        label = targets[:, None]
        ahead = wide - wide.amax(1, keepdim=True)
        # Of the label nothing: exp(-∞).
        rivals = ahead.scatter(1, label, -torch.inf).exp_()
        total = rivals.sum(1, keepdim=True)
        rise = total.log() - ahead.gather(1, label)
        values = torch.nn.functional.softplus(rise, threshold=_STRAIGHT)
        missed = rise.sigmoid()
        # The smallest number above 0: of no rivals there is nothing to share out.
        least = torch.finfo(wide.dtype).tiny * torch.finfo(wide.dtype).eps
        slopes = rivals.mul_(missed / total.clamp(min=least))
        slopes = slopes.scatter_(1, label, -missed)
        return values[:, 0].to(outputs.dtype), slopes.to(outputs.dtype)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless targets are labels of the outputs' classes."""
        check_classes("CrossEntropy", outputs, targets)


def cross_entropy(outputs: Tensor, targets: Tensor) -> Tensor:
    """log(1 + exp(t)), t = log Σ_{k ≠ y} exp(z_k - z_y): -log softmax(z)_y `[rows]`.

    The value of `torch.nn.functional.cross_entropy`, which computes it and its slope
    1 - softmax(z)_y by differences of numbers near 1: in float32 the slope is half
    wrong from a margin of 16 on and 0 from 17 on, and with it the direction. Here
    value, gradient and curvature keep their relative accuracy until they underflow
    (margin 87 in float32). A constant added to the outputs changes only their own
    rounding. Outputs of 16 bits are worked on in float32.

    Args:
        outputs: z `[rows, K]`; -∞ is a class that cannot be.
        targets: y `[rows]` integers.
    """
    wide = outputs.float() if outputs.dtype.itemsize == 2 else outputs
    label = targets[:, None]
    # The value does not depend on what is subtracted, so no gradient flows through it.
    ahead = wide - wide.detach().amax(1, keepdim=True)
    own = ahead.gather(1, label)[:, 0]
    # Not -∞: a sum of none but zeros would have no gradient.
    rivals = ahead.scatter(1, label, torch.finfo(wide.dtype).min)
    rise = rivals.logsumexp(1) - own
    return torch.nn.functional.softplus(rise, threshold=_STRAIGHT).to(outputs.dtype)
