"""A property of the verification competitions: its problem, and how it fares."""

import copy
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from summiteer._caller import undisturbed
from summiteer._typing import Model
from summiteer.data import Property
from summiteer.errors import UserError
from summiteer.objectives import Margin
from summiteer.precision import model_dtype
from summiteer.problem import Problem
from summiteer.regions import Box


def property_problem(
    model: Model, claim: Property, shape: tuple[int, ...] | None = None
) -> Problem:
    """Return the problem of violating a property, in float64 throughout.

    One example, the centre of the box; the region is the box in perturbation
    coordinates, rounded inwards (`Property.around`); the objective is the margin
    max over rivals j of Y_j - Y_label, which is at least 0 exactly at violations.

    Args:
        model: an nn.Module, of which a float64 copy is attacked, or a callable.
        claim: the property.
        shape: of one input of the model; `[n]` if None.

    Raises:
        UserError: the property does not fit the model, or its box is one point.
    """
    model = _double_copy(model)
    centre, lower, upper = claim.around(torch.float64)
    shape = shape or tuple(centre.shape)
    if centre.numel() != torch.Size(shape).numel():
        raise UserError(
            f"--property: {claim.name} declares {centre.numel()} inputs, but the model "
            f"takes {list(shape)}."
        )
    radius = float((upper - lower).max()) / 2
    if radius == 0:
        raise UserError(
            f"--property: the box of {claim.name} is one point; run the model on it."
        )
    inputs = centre.reshape(1, *shape)
    region = Box(lower.reshape(shape), upper.reshape(shape), radius=radius)
    label = torch.tensor([claim.label])
    problem = Problem(model, inputs, label, Margin(), region)
    with undisturbed(model):
        outputs = problem.probe()
    if outputs.shape != (1, claim.outputs):
        raise UserError(
            f"--property: {claim.name} declares {claim.outputs} outputs, but the "
            f"model's output for one input has the shape {list(outputs.shape)}."
        )
    if len(claim.rivals) == claim.outputs - 1:
        return problem
    chosen = _selection(claim)
    both = (
        nn.Sequential(*(model if isinstance(model, nn.Sequential) else [model]), chosen)
        if isinstance(model, nn.Module)
        else lambda values: chosen(model(values))
    )
    return replace(problem, model=both, targets=torch.zeros_like(label))


def _double_copy(model: Model) -> Model:
    return copy.deepcopy(model).double() if isinstance(model, nn.Module) else model


def _selection(claim: Property) -> nn.Linear:
    """The outputs of label and rivals, in this order, exactly: sums with zeros."""
    kept = [claim.label, *claim.rivals]
    layer = nn.Linear(claim.outputs, len(kept), dtype=torch.float64)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(claim.outputs, dtype=torch.float64)[kept])
        layer.bias.zero_()
    return layer


@dataclass(frozen=True)
class Margins:
    """How a property fares at one input.

    Attributes:
        rival: j of the largest Y_j among the rivals, in float64.
        margin: Y_rival - Y_label in float64; the property is violated if ≥ 0.
        own: the largest Y_j - Y_label in the model's own dtype at the nearest of its
            numbers inside the box; None where it has no other dtype or no such number.
        inside: whether the input lies inside the declared box.
        outputs: Y_0, Y_1, … in float64.
    """

    rival: int
    margin: float
    own: float | None
    inside: bool
    outputs: tuple[float, ...]

    @property
    def violated(self) -> bool:
        """Inside the box and Y_rival ≥ Y_label in float64; NaN violates nothing."""
        return self.inside and self.margin >= 0


def property_margins(model: Model, claim: Property, point: Tensor) -> Margins:
    """Evaluate a property at one input, afresh.

    Args:
        model: the caller's.
        claim: the property.
        point: `[1, *input]` float64.
    """
    rivals = list(claim.rivals)

    def outputs_of(network: Model, values: Tensor) -> Tensor:
        with undisturbed(network), torch.no_grad():
            return network(values)[0].double()

    outputs = outputs_of(_double_copy(model), point)
    margins = outputs[rivals] - outputs[claim.label]
    best = int(margins.argmax())
    own, dtype = None, model_dtype(model)
    if dtype is not None and dtype != torch.float64:
        nearest = _nearest(claim, point, dtype)
        if nearest is not None:
            theirs = outputs_of(model, nearest)
            own = float((theirs[rivals] - theirs[claim.label]).max())
    return Margins(
        rival=rivals[best],
        margin=float(margins[best]),
        own=own,
        inside=bool(claim.contains(point)),
        outputs=tuple(outputs.tolist()),
    )


def _nearest(claim: Property, point: Tensor, dtype: torch.dtype) -> Tensor | None:
    """The nearest input of another dtype inside the box, or None."""
    try:
        lower, upper = claim.limits(dtype)
    except UserError:
        return None
    shape = point.shape
    return point.to(dtype).clamp(lower.reshape(shape), upper.reshape(shape))
