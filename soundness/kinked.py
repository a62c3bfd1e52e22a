"""A piecewise-linear network with a batch of examples: values, slopes, ascent."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

import summiteer as sm
from soundness.diamond import Diamond
from soundness.draw import LOSSES
from soundness.field import LONG, Zone, length
from soundness.layers import Flow, Kinks, Layer, Leaky, Linear, Smooth
from soundness.sigma import ULP, logistic

Array = NDArray[Any]


@dataclass(frozen=True, eq=False)
class Kinked:
    """What is ascended.

    Attributes:
        layers: of the network.
        shape: of an input.
        inputs: x `[batch, d]`.
        targets: y `[batch]`, labels as floats.
        loss: "quadratic", "logistic", "margin" or "entropy".
        zone: the region.
        activation: of a two-layer network of the package's own, or "".
    """

    layers: tuple[Layer, ...]
    shape: tuple[int, ...]
    inputs: Array
    targets: Array
    loss: str
    zone: Zone
    activation: str = ""

    def __len__(self) -> int:
        return len(self.inputs)

    def take(self, rows: Array) -> "Kinked":
        """The examples `rows`."""
        return replace(
            self,
            inputs=self.inputs[rows],
            targets=self.targets[rows],
            zone=self.zone.take(rows),
        )

    def flow(self, points: Array, slopes: type | None = None) -> Flow:
        """Everything at `[batch, n, d]` points, flattened to rows.

        Args:
            points: δ.
            slopes: the precision of Jacobians; none if None.
        """
        where = self.inputs[:, None].astype(LONG) + points.astype(LONG)
        batch, count, d = where.shape
        flat = where.reshape(-1, d)
        slope = None
        if slopes is not None:
            slope = np.broadcast_to(np.eye(d, dtype=slopes), (batch * count, d, d))
        flow = Flow(flat, ULP * np.abs(flat).astype(float), slope)
        for layer in self.layers:
            flow = layer.push(flow)
        return flow

    def objective(self, points: Array) -> tuple[Array, Array]:
        """(objective, bound of its 80-bit rounding) `[batch, n]`."""
        flow = self.flow(points)
        shape = points.shape[:2]
        value, error = self.joined(
            flow.value.reshape(*shape, -1), flow.error.reshape(*shape, -1)
        )
        return value, error

    def joined(self, z: Array, doubt: Array) -> tuple[Array, Array]:
        """The objective of outputs `[batch, n, K]`."""
        y = self.targets[:, None].astype(LONG)
        if self.loss == "quadratic":
            u, error = z[..., 0] - y, doubt[..., 0] + ULP * np.abs(y).astype(float)
            room = np.abs(u) * error + error**2 + ULP * u * u
            return u * u / 2, room.astype(float)
        if z.shape[-1] == 1:
            margin, error = -y * z[..., 0], doubt[..., 0]
        else:
            gaps = self.gaps(z)
            margin, error = gaps.max(-1), 2 * doubt.max(-1)
            error = error + ULP * np.abs(z).max(-1).astype(float)
            if self.loss == "entropy":
                top = np.maximum(margin, 0)
                total = np.exp(-top) + np.exp(gaps - top[..., None]).sum(-1)
                value = top + np.log(total)
                # Of log(1 + Σ exp): its error where it is small is relative.
                tiny = np.log1p(np.exp(gaps).sum(-1))
                value = np.where(margin < -1, tiny, value)
                return value, error * np.minimum(1, value).astype(float) + (
                    32 * ULP * np.abs(value).astype(float)
                )
        if self.loss in ("logistic", "entropy"):
            value = np.logaddexp(0, margin)
            room = error * logistic(margin) + 8 * ULP * value
            return value, room.astype(float)
        return margin, np.asarray(error)

    def gaps(self, z: Array) -> Array:
        """z_k - z_y, -∞ for k = y."""
        label = self.targets.astype(int)[:, None, None]
        own = np.take_along_axis(z, np.broadcast_to(label, (*z.shape[:2], 1)), -1)
        index = np.arange(z.shape[-1])
        return np.where(index == label, -np.inf, z - own)

    def slopes(
        self, points: Array, kind: type = float
    ) -> tuple[Array, Array, list[Kinks]]:
        """(objective, its gradient `[batch, n, d]`, kinks of flattened rows)."""
        flow = self.flow(points, kind)
        shape = points.shape[:2]
        z = flow.value.reshape(*shape, -1)
        value, _ = self.joined(z, flow.error.reshape(*shape, -1))
        assert flow.slope is not None
        jacobian = flow.slope.reshape(*z.shape, -1)
        weight = self._weights(z).astype(kind)
        gradient = np.einsum("bnk,bnkd->bnd", weight, jacobian)
        return value, gradient, flow.kinks

    def _weights(self, z: Array) -> Array:
        """dℓ/dz `[batch, n, K]`."""
        y = self.targets[:, None].astype(LONG)
        if self.loss == "quadratic":
            return np.asarray(z - y[..., None])
        if z.shape[-1] == 1:
            slope = logistic(-y * z[..., 0]) if self.loss == "logistic" else 1.0 + 0 * y
            return np.asarray((-y * slope)[..., None])
        gaps = self.gaps(z)
        label = self.targets.astype(int)[:, None, None]
        index = np.arange(z.shape[-1])
        if self.loss == "entropy":
            top = np.maximum(gaps.max(-1, keepdims=True), 0)
            share = np.exp(gaps - top)
            share = share / (np.exp(-top) + share.sum(-1, keepdims=True))
            return np.asarray(np.where(index == label, -share.sum(-1, keepdims=True),
                                       share))  # fmt: skip
        best = gaps.argmax(-1)[..., None]
        return np.asarray((index == best) * 1.0 - (index == label) * 1.0)

    @property
    def affine(self) -> bool:
        """Whether the objective increases with a piecewise linear function."""
        last = self.layers[-1]
        outputs = len(last.bias) if isinstance(last, Linear) else 0
        return self.loss != "entropy" or outputs == 2


def climb(kinked: Kinked, points: Array, steps: int, centre: Any = None,
          radius: Any = None) -> Array:  # fmt: skip
    """Projected ascent and jumps to the maximum of the affine piece.

    Args:
        kinked: what is ascended.
        points: starts `[batch, n, d]`.
        steps: how many.
        centre: `[batch, d]`; the ascent stays within `radius` of it, if given.
        radius: `[batch]`.
    """
    zone = kinked.zone
    now = zone.project(points.astype(LONG))
    value, gradient, _ = kinked.slopes(now)
    width = zone.width[:, None, None]
    step = width / np.maximum(length(gradient)[..., None], 1e-300)
    if radius is not None:
        step = step * np.minimum(1, radius[:, None, None] / width)
    for turn in range(steps):
        jump = width / np.maximum(length(gradient)[..., None], 1e-300) * 1e12
        size = jump if turn % 4 == 3 else step
        tried = zone.project(now + size * gradient)
        if radius is not None:
            apart = tried - centre[:, None]
            far = length(apart)[..., None]
            limit = radius[:, None, None]
            scale = np.where(far > limit, limit / np.maximum(far, 1e-300), 1)
            tried = zone.project(centre[:, None] + scale * apart)
        high, ahead, _ = kinked.slopes(tried)
        better = (high > value)[..., None]
        now = np.where(better, tried, now)
        gradient = np.where(better, ahead, gradient)
        value = np.where(better[..., 0], high, value)
        if turn % 4 != 3:
            step = np.where(better, 1.6 * step, 0.4 * step)
    return now


def surely_maximal(kinked: Kinked, points: Array) -> tuple[Array, Array]:
    """(which are next to a strict local maximiser of an affine piece, that one).

    The maximiser q of the piece over the region lies within 1e-8 radii of the point,
    and no kink turns within 1e-6: then q, known to 1e-14 radii, is a strict local
    maximiser over the region. Those on kinks are not seen.

    Args:
        kinked: with an affine objective, or a box.
        points: `[batch, n, d]`.
    """
    zone, shape = kinked.zone, points.shape[:2]
    if not kinked.affine and zone.round:
        return np.zeros(shape, bool), points
    value, gradient, kinks = kinked.slopes(points, LONG)
    width = zone.width[:, None]
    if not zone.round:
        firm = np.abs(gradient) > 1e-9 * np.abs(gradient).max(-1, keepdims=True)
        side = np.where(gradient > 0, zone.upper[:, None], zone.lower[:, None])
        fixed = (zone.lower == zone.upper)[:, None]
        sure = ((firm & (points == side)) | fixed).all(-1)
    else:
        steep = np.maximum(length(gradient), 1e-300)
        goal = gradient * (zone.radius[:, None] / steep)[..., None]
        apart = length(goal - points)
        sure = (apart <= 1e-8 * width) & (not zone.boxed)
        points = goal
    sure &= length(gradient) > 0
    for each in kinks:
        assert each.slope is not None
        steep = np.sqrt((each.slope**2).sum(-1))
        room = 1e-6 * np.broadcast_to(width, shape).reshape(-1, 1)
        # Units that nothing moves have no kink, wherever they are.
        away = (np.abs(each.height) - each.doubt > room * steep) | (steep == 0)
        sure &= away.all(-1).reshape(shape)
    if kinked.loss == "quadratic":
        sure &= value > 1e-9
    outputs = _outputs(kinked, points)
    if kinked.loss == "margin" and outputs.shape[-1] > 2:
        gaps = np.sort(kinked.gaps(outputs), -1)
        sure &= gaps[..., -1] - gaps[..., -2] > 1e-4
    return np.asarray(sure), points


def _outputs(kinked: Kinked, points: Array) -> Array:
    return np.asarray(kinked.flow(points).value.reshape(*points.shape[:2], -1))


def problem_of(kinked: Kinked) -> sm.Problem:
    """The package's problem."""
    zone = kinked.zone

    def tensor(array: Array) -> torch.Tensor:
        made = torch.from_numpy(np.array(array, float))
        many = made.ndim == 2 and made.shape[1] == kinked.inputs.shape[1]
        return made.reshape(-1, *kinked.shape) if many else made

    region: sm.Region
    if isinstance(zone, Diamond):
        region = zone.region()
    elif zone.boxed:
        region = sm.Box(tensor(zone.lower), tensor(zone.upper))
        same = bool((zone.upper == zone.upper[:, :1]).all())
        if not zone.round and same and bool((zone.lower == -zone.upper).all()):
            region = sm.LinfBall(torch.from_numpy(np.array(zone.upper[:, 0])))
        if zone.round:
            region = sm.Intersection(sm.L2Ball(torch.from_numpy(zone.radius)), region)
    else:
        region = sm.L2Ball(torch.from_numpy(zone.radius))
    model, outputs = module_of(kinked)
    labels = torch.from_numpy(np.array(kinked.targets, float))
    if outputs > 1:
        labels = labels.long()
    elif not kinked.activation:
        labels = labels[:, None]
    return sm.Problem(
        model, tensor(kinked.inputs), labels, LOSSES[kinked.loss](), region
    )


def module_of(kinked: Kinked) -> tuple[nn.Module, int]:
    """(the torch module, its outputs)."""
    last = kinked.layers[-1]
    assert isinstance(last, Linear)
    outputs = len(last.bias)
    if kinked.activation:
        first, middle, _ = kinked.layers
        assert isinstance(first, Linear)
        assert isinstance(middle, Leaky | Smooth)
        weights = [torch.from_numpy(np.array(a, float)) for a in (
            first.weight, last.weight, first.bias, last.bias)]  # fmt: skip
        hidden, output, bias, shift = weights
        if outputs == 1:
            output, shift = output[0], shift[0]
        return sm.TwoLayerNetwork(
            hidden, output, bias, shift, activation=kinked.activation
        ), outputs
    made = nn.Sequential(*(layer.module() for layer in kinked.layers))
    return made.eval(), outputs
