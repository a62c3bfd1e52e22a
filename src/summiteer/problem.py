"""The problem: model + inputs + targets + objective + region."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Self

import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._caller import behaves_differently_in_training, undisturbed
from summiteer._typing import Model
from summiteer.errors import ForwardPassError, SummiteerWarning, UserError
from summiteer.feasible import feasible
from summiteer.inputs import check_inputs, ordinary, usable_targets
from summiteer.objectives import (
    Objective,
    check_labels,
    check_objective,
    classifies,
    misclassified,
    taken,
    values_of,
    with_slopes,
)
from summiteer.passes import Width, passes
from summiteer.precision import in_double, lowest_precision
from summiteer.regions import Region

#: Rows of the probe that checks a model once per problem.
_PROBE = 8


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What one forward and backward pass tells.

    Attributes:
        loss: `[rows]`.
        gradient: of the loss with respect to the perturbation, `[rows, *input]`.
        wrong: `[rows]` bool, misclassified (ties as errors); all False where targets
            are not labels.
    """

    loss: Tensor
    gradient: Tensor
    wrong: Tensor

    @cached_property
    def norm_and_kind(self) -> tuple[Tensor, bool]:
        """‖gradient‖₂ `[rows]` and whether all are ordinary numbers, computed once."""
        return _rows.norm_and_kind(self.gradient)

    @property
    def gradient_norm(self) -> Tensor:
        """‖gradient‖₂ `[rows]`."""
        return self.norm_and_kind[0]


@dataclass(frozen=True, eq=False)
class Rows:
    """The problem at a set of (restart, example) rows: what the ascent loop works on.

    The loop and the step rules leave all arithmetic on points to it: another form of a
    point (reduced coordinates) is another class with these methods, and a tensor or a
    dataclass of tensors with one entry per row as its points.

    Attributes:
        model: `[rows, *input]` -> outputs.
        inputs: `[rows, *input]`.
        targets: `[rows, …]`.
        objective: one value per row.
        region: the feasible set of each row's perturbation.
        labelled: whether targets are labels, so that rows can be misclassified.
        width: of a model on the CPU, by which few rows are asked about at once.
    """

    model: Model
    inputs: Tensor
    targets: Tensor
    objective: Objective
    region: Region
    labelled: bool
    width: int = 0

    def evaluate(self, points: Tensor) -> Evaluation:
        """Loss, gradient and misclassification at perturbations `[rows, *input]`."""
        if asked := self._asked(points, with_gradient=True):
            return asked
        moved = (self.inputs + points).detach().requires_grad_()
        outputs = self.model(moved)
        values = outputs.detach()
        loss, slopes = with_slopes(self.objective, values, self.targets)
        # Where the objective is all there is, its slopes are the gradient.
        gradient = slopes if outputs is moved else None
        if gradient is None and outputs.requires_grad:
            # Of the sum: given the slopes explicitly, torch imports sympy (seconds).
            total = (outputs * slopes).sum()
            (gradient,) = torch.autograd.grad(total, moved, allow_unused=True)
        if gradient is None:
            gradient = torch.zeros_like(moved)
        return Evaluation(loss, gradient, self.wrong(values))

    def value(self, points: Tensor) -> Evaluation:
        """Loss and misclassification without the gradient (which is left empty)."""
        if asked := self._asked(points, with_gradient=False):
            return asked
        with torch.no_grad():
            outputs = self.model(self.inputs + points)
            # As `evaluate` has it, to the last bit.
            loss = values_of(self.objective, outputs, self.targets)
        return Evaluation(loss, points.new_empty(0), self.wrong(outputs))

    def _asked(self, points: Tensor, with_gradient: bool) -> Evaluation | None:
        """The answers of several passes, put together; None where one is enough."""
        parts = passes(len(points), self.width)
        if len(parts) == 1:
            return None
        ask, found = Rows.evaluate if with_gradient else Rows.value, []
        for part in parts:
            objective = taken(self.objective, torch.arange(part.start, part.stop))
            some = (self.model, self.inputs[part], self.targets[part], objective)
            rows = Rows(*some, self.region, self.labelled)
            found.append(ask(rows, points[part]))
        return _rows.joined(found)

    def wrong(self, outputs: Tensor) -> Tensor:
        """What is misclassified `[rows]`; False where targets are not labels."""
        if self.labelled:
            return misclassified(outputs, self.targets)
        return torch.zeros(len(outputs), dtype=torch.bool, device=outputs.device)

    def enter(self, perturbations: Tensor) -> Tensor:
        """Return the points of perturbations `[rows, *input]`: here, themselves."""
        return perturbations

    def lift(self, points: Tensor) -> Tensor:
        """Return the perturbations `[rows, *input]` of points: here, themselves."""
        return points

    def lift_gradient(self, gradient: Tensor) -> Tensor:
        """Return the gradient by the perturbation of one by the point."""
        return gradient

    def advance(
        self, points: Tensor, direction: Tensor, size: float | Tensor
    ) -> Tensor:
        """Π(δ + size · direction).

        Args:
            points: δ.
            direction: of the form of a gradient.
            size: a number, or one per row.
        """
        if isinstance(size, Tensor):
            moved = torch.addcmul(points, _rows.expand(size, points), direction)
        else:
            moved = torch.add(points, direction, alpha=size)
        return self.region.project(moved)

    def distance(self, points: Tensor, others: Tensor) -> Tensor:
        """‖δ - δ'‖₂ `[rows]`."""
        return _rows.norm(points - others)

    def length(self, points: Tensor) -> Tensor:
        """‖δ‖₂ `[rows]`."""
        return _rows.norm(points)

    def magnitude(self, points: Tensor) -> Tensor:
        """‖x + δ‖₂ `[rows]`."""
        return _rows.norm(self.inputs + points)

    def residual(
        self, points: Tensor, evaluation: Evaluation, reference: Tensor
    ) -> Tensor:
        """First-order residual `[rows]`; see `Region.residual`."""
        return self.region.residual(points, evaluation.gradient, reference)

    def residual_floor(
        self, points: Tensor, evaluation: Evaluation, reference: Tensor
    ) -> Tensor:
        """A cheap lower bound of it `[rows]`; see `Region.residual_floor`."""
        return self.region.residual_floor(
            points, evaluation.gradient, evaluation.gradient_norm, reference
        )

    def take(self, index: Tensor) -> Self:
        """Return the rows `index`."""
        return replace(
            self,
            inputs=self.inputs.index_select(0, index),
            targets=self.targets.index_select(0, index),
            objective=taken(self.objective, index),
            region=self.region.take(index),
        )


@dataclass(frozen=True, eq=False)
class Problem:
    """maximise objective(model(x_i + δ), y_i) over δ in region (∩ box), for each i.

    Args:
        model: an nn.Module or any callable, `[batch, *input]` -> `[batch]`,
            `[batch, K]`. It is run in eval mode and left as it was.
        inputs: `[batch, *input]` finite floats in the model's own dtype.
        targets: `[batch, …]`, as the objective needs them.
        objective: what is ascended; see `summiteer.objectives`.
        region: the set of allowed perturbations.
        box: (lo, hi) in *input* coordinates, or None. The inputs must lie inside.
        mask: bool `[*input]` or `[batch, *input]`, which coordinates may move.
        ids: one integer per example, which names its random numbers; 0, 1, … if
            omitted.

    Raises:
        UserError: an argument cannot be used; the message names the bad indices.
    """

    model: Model
    inputs: Tensor
    targets: Tensor
    objective: Objective
    region: Region
    box: tuple[float, float] | None = None
    mask: Tensor | None = None
    ids: Sequence[int] | Tensor | None = None
    _widths: list[int] = field(default_factory=list, init=False, repr=False)

    def __post_init__(self) -> None:
        # Tensors made in inference mode could not be saved for a backward pass.
        with torch.inference_mode(False):
            self._check()

    def _check(self) -> None:
        inputs = ordinary(check_inputs(self.model, self.inputs, self.box))
        targets = usable_targets(self.targets, inputs)
        every = torch.arange(len(inputs))
        ids = every if self.ids is None else torch.as_tensor(self.ids)
        if ids.shape != (len(inputs),) or ids.is_floating_point():
            raise UserError(
                f"ids: expected one integer per example [{len(inputs)}], got "
                f"{ids.dtype} {list(ids.shape)}."
            )
        if isinstance(self.objective, type):
            raise UserError(
                "objective: expected an objective such as CrossEntropy(), got a class; "
                f"call it: {self.objective.__name__}()."
            )
        if not isinstance(self.region, Region):
            raise UserError(
                "region: expected a region such as L2Ball(radius=0.5), got "
                f"{type(self.region).__name__}."
            )
        object.__setattr__(self, "inputs", inputs)
        object.__setattr__(self, "targets", targets)
        object.__setattr__(self, "ids", ids.to(torch.int64))
        object.__setattr__(self, "region", self.region.bind(inputs))
        _ = self.feasible  # box and mask must fit the region: say so now

    def __len__(self) -> int:
        return len(self.inputs)

    @cached_property
    def feasible(self) -> Region:
        """Region ∩ box ∩ mask, in perturbation coordinates."""
        return feasible(self.region, self.inputs, self.box, self.mask)

    @cached_property
    def labelled(self) -> bool:
        """Whether the targets are labels, so that accuracy is defined."""
        return classifies(self.targets)

    @cached_property
    def size(self) -> Tensor:
        """The region's radius per example `[batch]`: what `within` is measured in."""
        size = torch.as_tensor(self.region.size, dtype=torch.float64).to(self.inputs)
        return size.expand(len(self))

    def rows(self, index: Tensor | None = None) -> Rows:
        """Return the problem at the examples `index` (all, once each, if None)."""
        own = (self.model, self.inputs, self.targets, self.objective)
        width = self._widths if self.inputs.device.type == "cpu" else ()
        rows = Rows(*own, self.feasible, self.labelled, *width)
        return rows if index is None else rows.take(index.to(self.inputs.device))

    def rows_of_runs(self, index: Tensor) -> Rows:
        """As `rows`, but where each example has one run its inputs are not copied.

        Args:
            index: 0, 1, …, batch - 1 again and again: the example of each run.
        """
        return self.rows(index if len(index) > len(self) else None)

    def take(self, index: Tensor) -> "Problem":
        """Return the problem of the examples `index`."""
        index, mask = index.to(self.inputs.device), self.mask
        if mask is not None and mask.shape == self.inputs.shape:
            mask = mask[index.to(mask.device)]
        ids = torch.as_tensor(self.ids)
        return self._same_model(
            replace(
                self,
                inputs=self.inputs[index],
                targets=self.targets[index],
                objective=taken(self.objective, index),
                region=self.region.take(index),
                mask=mask,
                ids=ids[index.to(ids.device)],
            )
        )

    def with_examples(
        self,
        inputs: Tensor,
        targets: Tensor,
        ids: Tensor,
        region: Region,
        mask: Tensor | None,
    ) -> "Problem":
        """Return the problem of other examples, the model not examined again.

        Args:
            inputs: `[batch, *input]`.
            targets: `[batch, …]`.
            ids: `[batch]`.
            region: of these examples.
            mask: bool `[*input]` or `[batch, *input]`, or None.
        """
        like = self.inputs
        return self._same_model(
            replace(
                self,
                inputs=inputs.to(like),
                targets=targets,
                ids=ids,
                region=region,
                mask=mask,
            )
        )

    def with_objective(self, objective: Objective) -> "Problem":
        """Return the same problem with another objective, the model not examined again.

        Args:
            objective: what is ascended instead; see `examine_targets`.
        """
        return self._same_model(replace(self, objective=objective))

    def with_model(self, model: Model) -> "Problem":
        """Return the problem of another model that takes and returns the same.

        Args:
            model: not examined again.
        """
        return self._same_model(replace(self, model=model))

    def with_region(self, region: Region) -> "Problem":
        """Return the problem of another region, the model not examined again.

        Args:
            region: in place of region, box and mask.
        """
        return self._same_model(replace(self, region=region, box=None, mask=None))

    def examine(self, warn: bool = True) -> None:
        """Check once, on a few examples, that model, objective and targets fit.

        A UserError says what does not; a SummiteerWarning, that train mode matters or
        that two forward passes differ.

        Args:
            warn: False where the failure screen says so.
        """
        if self._widths:
            return
        name = behaves_differently_in_training(self.model)
        if name and warn:
            warnings.warn(
                f"model: is in train mode and has {name}; it was attacked in eval mode "
                "and put back.",
                SummiteerWarning,
                stacklevel=3,
            )
        with undisturbed(self.model):
            with Width(min(_PROBE, len(self))) as width:
                first = self.probe()
            second = self.probe()
            self._fit(first)
        apart = (first - second).abs().max()
        if warn and bool(apart > tolerances.DETERMINISTIC * first.abs().max()):
            warnings.warn(
                "model: two forward passes on the same inputs differ by "
                f"{float(apart):.2g}; verdicts about a random "
                "model mean little. Fix its randomness, or average it.",
                SummiteerWarning,
                stacklevel=3,
            )
        self._widths.append(width.numbers)

    def examine_targets(self, targets: Tensor | None = None) -> None:
        """Check on a few examples that outputs, objective and targets fit.

        Args:
            targets: of all examples where these are the first of more.

        Raises:
            UserError: what does not.
        """
        with undisturbed(self.model):
            self._fit(self.probe(), targets)

    def _fit(self, outputs: Tensor, targets: Tensor | None = None) -> None:
        """See `examine_targets`; outputs of the first few examples."""
        # The targets of all examples, so that every bad index is named at once.
        targets = self.targets if targets is None else targets
        every = outputs[:1].expand(len(targets), *outputs.shape[1:])
        check = getattr(self.objective, "check", None)
        if check is not None:
            check(every, targets)
        if classifies(targets):
            check_labels(every, targets)
        few = torch.arange(len(outputs), device=outputs.device)
        objective = taken(self.objective, few)
        check_objective(objective, outputs, self.targets[: len(outputs)])

    def probe(self) -> Tensor:
        """Outputs on the first few examples; call it inside `undisturbed`.

        Raises:
            UserError: the forward pass fails or returns something else.
        """
        try:
            with torch.no_grad():
                outputs = self.model(self.inputs[:_PROBE])
        except (RuntimeError, ValueError, TypeError, IndexError) as error:
            raise ForwardPassError(
                "model: a forward pass on inputs of shape "
                f"{list(self.inputs[:_PROBE].shape)} failed: {error}"
            ) from error
        rows = self.inputs[:_PROBE].shape[:1]
        if not isinstance(outputs, Tensor) or outputs.shape[:1] != rows:
            got = type(outputs).__name__
            if isinstance(outputs, Tensor):
                got = f"shape {list(outputs.shape)}"
            raise UserError(
                "model: expected a tensor with one row of outputs per example, got "
                f"{got}."
            )
        return outputs

    def in_double(self) -> "Problem":
        """Return the same problem in float64, the model's weights copied.

        A model that does not accept float64 is called in its own dtype. Call it inside
        `undisturbed`.
        """
        inputs = self.inputs.double()
        return self._same_model(
            replace(
                self,
                model=in_double(self.model, self.inputs[:_PROBE]),
                inputs=inputs,
                region=self.region.bind(inputs),
            )
        )

    def on(self, device: torch.device, model: Model) -> "Problem":
        """Return the same problem on another device.

        Args:
            device: where it shall be.
            model: the same model there.
        """
        inputs = self.inputs.to(device)
        mask = None if self.mask is None else self.mask.to(device)
        return self._same_model(
            replace(
                self,
                model=model,
                inputs=inputs,
                targets=self.targets.to(device),
                region=self.region.bind(inputs),
                mask=mask,
            )
        )

    def precision(self) -> torch.dtype:
        """The coarsest dtype met inside the model; call it inside `undisturbed`."""
        return lowest_precision(self.model, self.inputs[:_PROBE])

    def _same_model(self, other: "Problem") -> "Problem":
        """`other`, which need not examine this problem's model once more."""
        object.__setattr__(other, "_widths", [*self._widths])
        return other
