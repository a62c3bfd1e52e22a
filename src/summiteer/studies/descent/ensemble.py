"""Many small networks of one shape, trained side by side as one batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor

from summiteer.draws import Draws
from summiteer.networks import TwoLayerNetwork
from summiteer.networks.activations import Activation
from summiteer.networks.activations import activation as find_activation

#: Where the random numbers of a default network's layers begin.
_LAYER = 16


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Members f_s, fully connected: linear layers with σ between them, one output.

    Attributes:
        weights: of each layer, `[members, out, in]`; the last one has one output.
        biases: of each layer, `[members, out]`, or None.
        activation: σ.
    """

    weights: tuple[Tensor, ...]
    biases: tuple[Tensor | None, ...]
    activation: Activation

    def __len__(self) -> int:
        return len(self.weights[0])

    @classmethod
    def random(
        cls,
        seeds: Sequence[int],
        input_dim: int,
        width: int,
        activation: str,
        weight_std: float = 1.0,
        bias_std: float | None = None,
        doubled: bool = False,
    ) -> Self:
        """The paper's initialisation: w_ij ~ N(0, weight_std²), a_j = ±1/√m.

        Args:
            seeds: one member each.
            input_dim: d.
            width: m.
            activation: name of σ.
            weight_std: τ_w.
            bias_std: of hidden biases; None for a network without them.
            doubled: every neuron twice, with a and -a, m/2 different ones: the same
                distribution of each, and f ≡ 0.
        """
        own = width // 2 if doubled else width
        nets = [
            TwoLayerNetwork.random(
                input_dim, own, activation, weight_std, seed, bias_std or 0.0
            )
            for seed in seeds
        ]
        hidden = torch.stack([net.hidden_weights.detach() for net in nets])
        shift = torch.stack([net.hidden_bias.detach() for net in nets])
        output = torch.stack([net.output_weights.detach() for net in nets])[:, None]
        if doubled:
            hidden, shift = hidden.repeat(1, 2, 1), shift.repeat(1, 2)
            output = torch.cat([output, -output], 2) / 2**0.5
        biases = (None if bias_std is None else shift, None)
        return cls((hidden, output), biases, find_activation(activation))

    @classmethod
    def default(
        cls, seeds: Sequence[int], sizes: Sequence[int], activation: str
    ) -> Self:
        """Torch's own initialisation: weights and biases uniform on ±1/√in.

        Args:
            seeds: one member each.
            sizes: of input and hidden layers.
            activation: name of σ.
        """
        weights, biases = [], []
        for layer, (before, after) in enumerate(
            zip(sizes, (*sizes[1:], 1), strict=True)
        ):
            drawn = torch.stack(
                [_uniform(seed, after, before + 1, _LAYER + layer) for seed in seeds]
            )
            weights.append(drawn[..., :-1].contiguous() / before**0.5)
            biases.append(drawn[..., -1].contiguous() / before**0.5)
        return cls(tuple(weights), tuple(biases), find_activation(activation))

    def to(self, dtype: torch.dtype) -> Self:
        """Return the same in another precision.

        Args:
            dtype: of all numbers.
        """
        return replace(
            self,
            weights=tuple(each.to(dtype) for each in self.weights),
            biases=tuple(b if b is None else b.to(dtype) for b in self.biases),
        )

    def take(self, index: Tensor) -> Self:
        """Return the members `index` `[n]`."""
        return replace(
            self,
            weights=tuple(each[index] for each in self.weights),
            biases=tuple(b if b is None else b[index] for b in self.biases),
        )

    def outputs(self, points: Tensor) -> Tensor:
        """f_s(x): `[members, n, d]` -> `[members, n]`."""
        flow = self._layer(0, points)
        for layer in range(1, len(self.weights)):
            flow = self._layer(layer, self.activation.forward(flow))
        return flow[..., 0]

    def _layer(self, layer: int, flow: Tensor) -> Tensor:
        weight, bias = self.weights[layer], self.biases[layer]
        if bias is None:
            return torch.bmm(flow, weight.mT)
        return torch.baddbmm(bias[:, None], flow, weight.mT)

    def with_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """f_s(x) and ∇f_s(x): `[members, n, d]` -> `[members, n]` and `[…, d]`."""
        flow, slopes = self._layer(0, points), []
        for layer in range(1, len(self.weights)):
            flow, slope = self.activation.value_and_first(flow)
            slopes.append(slope)
            flow = self._layer(layer, flow)
        pull = slopes.pop().mul_(self.weights[-1])
        for weight in reversed(self.weights[1:-1]):
            pull = slopes.pop().mul_(torch.bmm(pull, weight))
        return flow[..., 0], torch.bmm(pull, self.weights[0])

    def input_gradients(self, points: Tensor) -> Tensor:
        """∇f_s(x): `[members, n, d]` -> the same."""
        return self.with_gradients(points)[1]

    def network(self, member: int) -> TwoLayerNetwork:
        """One member of two layers by itself, in float64.

        Args:
            member: its number.
        """
        (hidden, output), (shift, _) = self.weights, self.biases
        return TwoLayerNetwork(
            hidden[member].double(),
            output[member, 0].double(),
            None if shift is None else shift[member].double(),
            activation=self.activation,
        )

    def kernel_top(self, inputs: Tensor, trained: str) -> Tensor:
        """λ1 of the tangent kernel/n, ⟨∂f(x_i), ∂f(x_k)⟩/n, of two layers `[members]`.

        Args:
            inputs: `[n, d]`.
            trained: which parameters count: "W", "W+b" or "W+a".
        """
        (hidden, output), (shift, _) = self.weights, self.biases
        before = inputs @ hidden.mT
        if shift is not None:
            before = before + shift[:, None]
        slope = self.activation.first(before) * output
        kernel = (slope @ slope.mT) * (inputs @ inputs.T + (trained == "W+b"))
        if trained == "W+a":
            value = self.activation.value(before)
            kernel = kernel + value @ value.mT
        top: Tensor = torch.linalg.eigvalsh(kernel.double())[:, -1]
        return top / len(inputs)


@dataclass(frozen=True, eq=False)
class MemberLoss:
    """½(f_s(x + δ) - y)², each row with the network of its own member.

    An objective for the identity as model: the ascent loop takes rows out of the batch
    and knows nothing of members, so a row's place in the batch is one of its targets.

    Attributes:
        ensemble: the networks.
        rows: of the whole batch, equally many per member, those of one member together.
    """

    ensemble: Ensemble
    rows: int

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """`[n, d]` points and `[n, 2]` (y, place in the batch) -> `[n]`."""
        packed, place = self._packed(outputs, targets)
        values = self.ensemble.outputs(packed).flatten()[place]
        return 0.5 * (values - targets[:, 0]).square()

    def with_slopes(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Values `[n]` and (f_s - y)∇f_s `[n, d]`."""
        packed, place = self._packed(outputs, targets)
        with torch.no_grad():
            values, slopes = self.ensemble.with_gradients(packed)
        apart = values.flatten()[place] - targets[:, 0]
        return 0.5 * apart.square(), apart[:, None] * slopes.flatten(0, 1)[place]

    def _packed(self, outputs: Tensor, targets: Tensor) -> tuple[Tensor, Any]:
        """`[members, places, d]`, and where among them each row is."""
        members = len(self.ensemble)
        if len(outputs) == self.rows:
            return outputs.reshape(members, -1, outputs.shape[1]), slice(None)
        # The rows left, those of one member together, as many places for each member.
        member = targets[:, 1].long() // (self.rows // members)
        order = torch.argsort(member, stable=True)
        counts = member.bincount(minlength=members)
        first = (counts.cumsum(0) - counts)[member[order]]
        size = int(counts.max())
        place = torch.empty_like(member)
        place[order] = member[order] * size + torch.arange(len(order)) - first
        packed = outputs.new_zeros(members * size, outputs.shape[1])
        packed = packed.index_copy(0, place, outputs)
        return packed.reshape(members, size, -1), place


def itself(points: Tensor) -> Tensor:
    """The identity: the model of problems whose objective is a `MemberLoss`."""
    return points


def _uniform(seed: int, rows: int, columns: int, stream: int) -> Tensor:
    """Uniform on (-1, 1), `[rows, columns]`."""
    ids = torch.arange(rows)
    return 2 * Draws(seed, ids, torch.zeros_like(ids)).on(stream).uniform(columns) - 1
