"""Towards one other class of each example, its rival.

`rivals` is one class for all or an integer tensor with one class per example; the
objective of some rows is `take(index)`, which `Problem.take` and `Rows.take` call.
"""

from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

import torch
from torch import Tensor

from summiteer.errors import UserError
from summiteer.objectives.cross_entropy import cross_entropy
from summiteer.objectives.labels import check_classes
from summiteer.objectives.margin import margin
from summiteer.objectives.ratio import capped_ratio

Over = Literal["label", "all"]


@dataclass(frozen=True, eq=False)
class _Targeted:
    """What has a rival per row.

    Args:
        rivals: t, a class, or `[rows]` integers, none the label of its row.
    """

    rivals: int | Tensor

    def __post_init__(self) -> None:
        rivals = self.rivals
        if isinstance(rivals, int) and not isinstance(rivals, bool):
            return
        try:
            rivals = torch.as_tensor(rivals)
        except (TypeError, ValueError, RuntimeError):
            rivals = torch.empty(0)
        whole = not (rivals.is_floating_point() or rivals.is_complex())
        if not whole or rivals.dtype == torch.bool or rivals.ndim > 1:
            raise UserError(
                f"rivals: {type(self).__name__} needs one class, such as 3, or an "
                "integer tensor with a class per example [batch], got "
                f"{self.rivals!r}."
            )
        object.__setattr__(self, "rivals", rivals.to(torch.int64))

    def of(self, targets: Tensor) -> Tensor:
        """The rival of each row `[rows]`, on the device of the targets."""
        rivals = torch.as_tensor(self.rivals, device=targets.device)
        return rivals.expand(len(targets))

    def take(self, index: Tensor) -> Self:
        """The objective of the rows `index`."""
        rivals = self.rivals
        if isinstance(rivals, int) or not rivals.ndim:
            return self
        try:
            return replace(self, rivals=rivals.to(index.device)[index])
        except IndexError as error:
            raise UserError(
                f"rivals: {type(self).__name__} has rivals of {len(rivals)} examples, "
                "the problem has more; give one class per example."
            ) from error

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless there is one class per row, none its label."""
        self._check(outputs, targets, least=2)

    def _check(self, outputs: Tensor, targets: Tensor, least: int) -> None:
        name = type(self).__name__
        check_classes(name, outputs, targets, least)
        rivals, classes = torch.as_tensor(self.rivals), outputs.shape[1]
        if rivals.ndim and len(rivals) != len(targets):
            raise UserError(
                f"rivals: {name} needs one class per example [{len(targets)}], got "
                f"{list(rivals.shape)}."
            )
        rivals = self.of(targets)
        wrong = ((rivals < 0) | (rivals >= classes)).nonzero().flatten().tolist()
        if wrong:
            raise UserError(
                f"rivals: classes must lie in 0 … {classes - 1} (the model has "
                f"{classes} outputs); not so at indices {wrong}."
            )
        same = (rivals == targets).nonzero().flatten().tolist()
        if same:
            raise UserError(
                "rivals: the class to reach must not be the example's own label; it "
                f"is at indices {same}: leave these examples out."
            )


@dataclass(frozen=True, eq=False)
class TargetedCrossEntropy(_Targeted):
    """log softmax(z)_t ≤ 0: minus the cross-entropy of the rival t.

    Above -log 2 the example is classified as t.

    Args:
        rivals: t, a class, or `[rows]` integers, none the label of its row.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Log softmax(z)_t `[rows]`."""
        return -cross_entropy(outputs, self.of(targets))


@dataclass(frozen=True, eq=False)
class TargetedMargin(_Targeted):
    """z_t - z_y, or with over="all" z_t - max over k ≠ t of z_k.

    At least 0 only where the example is misclassified; with over="all", exactly where
    it is classified as t (ties count): `until=Reached(0.0)` stops there.

    Args:
        rivals: t, a class, or `[rows]` integers, none the label of its row.
        over: what the rival is to overtake, the "label" or "all" other classes.
    """

    over: Over = "label"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.over not in get_args(Over):
            raise UserError(f'over: expected "label" or "all", got {self.over!r}.')

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The margin of the rival `[rows]`."""
        rivals = self.of(targets)
        if self.over == "all":
            return -margin(outputs, rivals)
        return _ahead(outputs, rivals, targets)


@dataclass(frozen=True, eq=False)
class TargetedDLR(_Targeted):
    """(z_t - z_y)/(z_(1) - ½(z_(3) + z_(4))), four classes or more.

    z_(1) ≥ z_(2) ≥ … are the sorted outputs (`croce2020reliable`). Above 0 only where
    the example is misclassified. Neither adding a constant to all outputs nor
    multiplying them by one changes it.

    Departure from the paper, which adds 1e-12 below: where the first four are equal,
    or nearly, it goes no further than ±1/u (see `capped_ratio`).

    Args:
        rivals: t, a class, or `[rows]` integers, none the label of its row.
    """

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The ratio `[rows]`."""
        top = outputs.topk(4, dim=1).values
        below = top[:, 0] - 0.5 * (top[:, 2] + top[:, 3])
        return capped_ratio(_ahead(outputs, self.of(targets), targets), below)

    def check(self, outputs: Tensor, targets: Tensor) -> None:
        """Raise UserError unless there are four classes, and a rival per row."""
        self._check(outputs, targets, least=4)


def _ahead(outputs: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """z_left - z_right `[rows]`."""
    both = outputs.gather(1, torch.stack([left, right], 1))
    return both[:, 0] - both[:, 1]
