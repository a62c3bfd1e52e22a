"""What every region can do: the set owns its geometry."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from summiteer import _rows
from summiteer._typing import PerExample
from summiteer.draws import Draws
from summiteer.errors import UserError


@dataclass(frozen=True)
class Face:
    """Where a point lies on the boundary, and what holds it there.

    Near the point the region looks like {held coordinates fixed} ∩ {inside a ball}.

    Attributes:
        free: `[rows, *input]` bool, coordinates that no bound holds.
        normal: `[rows, *input]` unit normal of the ball's surface inside the free
            coordinates; zero where the ball is not active.
        multiplier: `[rows]` μ of the ball (mathematics.md §3); 0 where not active.
        pressure: `[rows]` the smallest outward multiplier of any active constraint,
            in units of the gradient; +inf where none is active. First-order
            conditions hold strictly where it is positive.
    """

    free: Tensor
    normal: Tensor
    multiplier: Tensor
    pressure: Tensor

    def project(self, vectors: Tensor) -> Tensor:
        """Project `[rows, *input]` orthogonally on the tangent space of the face."""
        inside = vectors * self.free
        along = _rows.expand(_rows.dot(inside, self.normal), inside)
        return inside - along * self.normal

    @property
    def dimension(self) -> Tensor:
        """Dimension of the tangent space, `[rows]` int64."""
        curved = (_rows.norm(self.normal) > 0).long()
        return self.free.flatten(1).sum(1) - curved


class Region(ABC):
    """A closed set of perturbations that contains 0 (the sphere excepted).

    Methods take and return rows `[rows, *input]`; radii and bounds are numbers, or
    tensors with one entry per row. `project` always means Euclidean projection.
    """

    norm: ClassVar[str]
    #: A whole Euclidean ball, or its surface: what mathematics.md §§4-6 speak of.
    whole_ball: ClassVar[bool] = False
    #: A product of intervals: its linear maximisers are vertices.
    boxed: ClassVar[bool] = False

    @property
    @abstractmethod
    def size(self) -> PerExample:
        """The length that `within` and residuals are measured in (the radius)."""

    @abstractmethod
    def bind(self, inputs: Tensor) -> Self:
        """Return the region with its radii and bounds checked against `inputs`.

        Args:
            inputs: `[batch, *input]`.

        Returns:
            The same region; what is per example has shape `[batch, …]`, the dtype and
            the device of `inputs`.

        Raises:
            UserError: a radius or bound is not usable, with the bad indices.
        """

    @abstractmethod
    def take(self, index: Tensor) -> Self:
        """Return the region of the rows `index` of a bound region."""

    @abstractmethod
    def project(self, points: Tensor) -> Tensor:
        """Return argmin over v in the region of ‖v - point‖₂, row by row."""

    @abstractmethod
    def contains(self, points: Tensor, slack: float | None = None) -> Tensor:
        """Return `[rows]` bool: inside, up to `slack` · size.

        Args:
            points: `[rows, *input]`.
            slack: relative; eight units of rounding of the dtype by default.
        """

    @abstractmethod
    def linear_maximiser(self, gradients: Tensor) -> Tensor:
        """Return argmax over v in the region of gᵀv (the support point), row by row."""

    def gap(self, points: Tensor, gradients: Tensor) -> Tensor:
        """Frank-Wolfe gap max over v in the region of gᵀ(v - δ) `[rows]` (§3).

        It bounds what a concave function can still gain, and vanishes exactly at the
        points that first order cannot improve. Regions form it without cancellation
        where they can.

        Args:
            points: δ `[rows, *input]` inside the region.
            gradients: g, of the ascended function at the points.
        """
        return _rows.dot(gradients, self.linear_maximiser(gradients) - points)

    @abstractmethod
    def steepest(self, gradients: Tensor) -> Tensor:
        """Return argmax of gᵀv over the unit ball of the region's norm."""

    @abstractmethod
    def sample(self, draws: Draws, like: Tensor) -> Tensor:
        """Return points uniform on the region (on the sphere: by surface area).

        Args:
            draws: the random numbers of the rows.
            like: `[rows, *input]`, gives shape, dtype and device.
        """

    @abstractmethod
    def face(self, points: Tensor, gradients: Tensor) -> Face:
        """Return where the points lie on the boundary (tolerances.BOUNDARY)."""

    @abstractmethod
    def magnitude(self, gradients: Tensor) -> Tensor:
        """Return what the residual is scaled by: ‖g‖ `[rows]`, or |g| on boxes."""

    @abstractmethod
    def residual(self, points: Tensor, gradients: Tensor, reference: Tensor) -> Tensor:
        """First-order residual `[rows]` (mathematics.md §3).

        Args:
            points: `[rows, *input]` inside the region.
            gradients: of the ascended function at the points.
            reference: the largest `magnitude` at the centre and at the boundary point.

        Returns:
            A number that vanishes exactly at KKT points; free of the loss's scale.
        """

    def residual_floor(
        self,
        points: Tensor,
        gradients: Tensor,
        gradient_norms: Tensor,
        reference: Tensor,
    ) -> Tensor:
        """A cheap lower bound of the residual `[rows]`; 0 where none is known.

        It spares the loop the exact residual while runs are far from stationary.

        Args:
            points: `[rows, *input]`.
            gradients: at the points.
            gradient_norms: ‖g‖ `[rows]`.
            reference: as for `residual`.
        """
        return torch.zeros_like(gradient_norms)


@dataclass(frozen=True, eq=False)
class Radial(Region):
    """A region that its radius describes.

    Args:
        radius: a positive number, or one per example `[batch]`.
    """

    radius: PerExample

    @property
    def size(self) -> PerExample:
        """The radius."""
        return self.radius

    def bind(self, inputs: Tensor) -> Self:
        """See `Region.bind`."""
        return replace(self, radius=bind_radius(self.radius, inputs))

    def take(self, index: Tensor) -> Self:
        """See `Region.take`."""
        return replace(self, radius=take_number(self.radius, index))


def default_slack(points: Tensor) -> float:
    """Eight units of rounding: a projection and the norm that judges it err by four."""
    return 8.0 * torch.finfo(points.dtype).eps


def bind_radius(radius: PerExample, inputs: Tensor) -> PerExample:
    """Check a radius against `inputs`; see `Region.bind`."""
    try:
        # In float64: torch reads the number 0.1 as a float32, 1.5e-8 too large.
        given = radius if isinstance(radius, Tensor) else np.asarray(radius, float)
        values = torch.as_tensor(given, device=inputs.device)
    except (TypeError, ValueError) as error:
        raise UserError(
            f"radius: expected a number or one per example, got {radius!r}."
        ) from error
    if values.ndim > 1 or (values.ndim == 1 and len(values) != len(inputs)):
        raise UserError(
            f"radius: expected a number or one per example [{len(inputs)}], got shape "
            f"{list(values.shape)}."
        )
    # What is positive and finite must be so in the dtype of the inputs too.
    rounded = values.to(inputs.dtype)
    bad = ~((rounded > 0) & rounded.isfinite())
    if bool(bad.any()):
        if values.ndim == 0:
            raise UserError(
                f"radius: expected a positive finite number, got {values.item():g}."
            )
        raise UserError(
            "radius: expected positive finite numbers; not so at indices "
            f"{bad.nonzero().flatten().tolist()}."
        )
    if values.ndim == 0:
        return float(values)
    return rounded


def rows_of(value: PerExample, points: Tensor) -> Tensor:
    """Return a per-example number as `[rows]` beside `points`."""
    if isinstance(value, Tensor):
        return value
    return points.new_full((len(points),), value)


def take_number(value: PerExample, index: Tensor) -> PerExample:
    """Return the rows `index` of a per-example number."""
    return value[index] if isinstance(value, Tensor) and value.ndim else value


def order_of(region: Region) -> float:
    """Return p of the norm that a region's size is a length in; ∞ for boxes.

    Args:
        region: whose `norm` is asked.
    """
    return {"l1": 1.0, "l2": 2.0, "sphere": 2.0}.get(region.norm, torch.inf)
