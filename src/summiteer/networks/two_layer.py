"""Two-layer networks in closed form."""

from typing import Self

import torch
from torch import Tensor, nn

from summiteer.draws import Draws
from summiteer.errors import UserError
from summiteer.networks.activations import Activation, activation as find_activation

_MODULES: dict[type[nn.Module], str] = {
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.ReLU: "relu",
}


class TwoLayerNetwork(nn.Module):
    """f(x) = Σ_j a_j σ(w_jᵀx + b_j) + c (mathematics.md §1; paper, section 2).

    With K outputs, a_j and c are vectors and all formulas hold per output. Values,
    gradients and Hessians are closed forms; `forward` is what autograd sees.

    Args:
        hidden_weights: W `[m, d]`.
        output_weights: a `[m]`, or A `[K, m]`.
        hidden_bias: b `[m]`; zero if omitted, as in the paper.
        output_bias: c, a number or `[K]`; zero if omitted.
        activation: a name in `summiteer.networks.activations.ACTIVATIONS`.

    Raises:
        UserError: shapes do not fit or a weight is not finite.
    """

    def __init__(
        self,
        hidden_weights: Tensor,
        output_weights: Tensor,
        hidden_bias: Tensor | None = None,
        output_bias: Tensor | float | None = None,
        activation: str | Activation = "softplus",
    ) -> None:
        super().__init__()
        hidden = torch.as_tensor(hidden_weights)
        output = torch.as_tensor(output_weights).to(hidden)
        bias = hidden.new_zeros(hidden.shape[:1]) if hidden_bias is None else hidden_bias
        shift = hidden.new_zeros(output.shape[:-1]) if output_bias is None else output_bias
        self.activation = find_activation(activation)
        self.hidden_weights = nn.Parameter(hidden.detach().clone())
        self.output_weights = nn.Parameter(output.detach().clone())
        self.hidden_bias = nn.Parameter(torch.as_tensor(bias).to(hidden).detach().clone())
        self.output_bias = nn.Parameter(torch.as_tensor(shift).to(hidden).detach().clone())
        self._check()

    def _check(self) -> None:
        hidden, output = self.hidden_weights, self.output_weights
        if hidden.ndim != 2 or not hidden.is_floating_point():
            raise UserError(
                "hidden_weights: expected a floating-point matrix [m, d], got "
                f"{hidden.dtype} {list(hidden.shape)}."
            )
        width = hidden.shape[0]
        expected = {
            "output_weights": output.ndim in (1, 2) and output.shape[-1] == width,
            "hidden_bias": self.hidden_bias.shape == (width,),
            "output_bias": self.output_bias.shape == output.shape[:-1],
        }
        for name, fits in expected.items():
            if not fits:
                raise UserError(
                    f"{name}: does not fit hidden_weights {list(hidden.shape)}; got "
                    f"{list(getattr(self, name).shape)}."
                )
        for name, value in self.named_parameters():
            if not bool(value.isfinite().all()):
                raise UserError(f"{name}: every entry must be finite.")

    @classmethod
    def random(
        cls,
        input_dim: int,
        width: int,
        activation: str | Activation = "softplus",
        weight_std: float = 1.0,
        seed: int = 0,
        bias_std: float = 0.0,
        dtype: torch.dtype = torch.float64,
    ) -> Self:
        """The paper's initialisation: w_ij ~ N(0, weight_std²), a_j = ±1/√m.

        Args:
            input_dim: d.
            width: m.
            activation: name of σ.
            weight_std: τ_w.
            seed: of the counter-based generator; the same network on every machine.
            bias_std: b_j ~ N(0, bias_std²); 0 in the paper.
            dtype: of the parameters.

        Returns:
            A network with one output and output bias 0.
        """
        neurons = torch.arange(width)
        draws = Draws(seed, neurons, torch.zeros_like(neurons))
        signs = torch.where(draws.on(1).uniform(1)[:, 0] < 0.5, -1.0, 1.0)
        return cls(
            (weight_std * draws.normal(input_dim)).to(dtype),
            (signs.double() / width**0.5).to(dtype),
            (bias_std * draws.on(2).normal(1)[:, 0]).to(dtype),
            activation=activation,
        )

    @classmethod
    def from_module(cls, module: nn.Module) -> Self:
        """Return the network of nn.Sequential(Linear, activation, Linear).

        The result is a copy with *our* activation: nn.Softplus is accepted, but torch
        switches to the identity above 20 and so differs from ours by up to 2e-9
        (mathematics.md §10.2). One output row becomes a scalar output.

        Args:
            module: the sequence; its weights are copied.

        Raises:
            UserError: the module has another form.
        """
        layers = list(module) if isinstance(module, nn.Sequential) else []
        if [type(layer) for layer in layers[::2]] != [nn.Linear, nn.Linear]:
            raise UserError(
                "module: expected nn.Sequential(nn.Linear, activation, nn.Linear), got "
                f"{type(module).__name__}({', '.join(type(x).__name__ for x in layers)})."
            )
        first, middle, last = layers
        plain = (
            getattr(middle, "approximate", "none") == "none"
            and getattr(middle, "beta", 1) == 1
        )
        if type(middle) not in _MODULES or not plain:
            names = ", ".join(known.__name__ for known in _MODULES)
            raise UserError(
                f"module: the activation {middle} has no closed form here; known: "
                f"{names} (exact GELU, Softplus with beta=1), or build TwoLayerNetwork "
                "directly."
            )
        single = last.weight.shape[0] == 1
        bias = last.bias
        return cls(
            first.weight,
            last.weight[0] if single else last.weight,
            first.bias,
            bias[0] if single and bias is not None else bias,
            activation=_MODULES[type(middle)],
        )

    @property
    def outputs(self) -> int | None:
        """K, or None for a scalar output."""
        return None if self.output_weights.ndim == 1 else self.output_weights.shape[0]

    def preactivations(self, inputs: Tensor) -> Tensor:
        """h = Wx + b, `[rows, m]`."""
        return torch.addmm(self.hidden_bias, inputs, self.hidden_weights.T)

    def forward(self, inputs: Tensor) -> Tensor:
        """f(x): `[rows, d]` -> `[rows]` or `[rows, K]`."""
        hidden = self.activation.value(self.preactivations(inputs))
        return hidden @ self.output_weights.T + self.output_bias

    def gradient(self, inputs: Tensor) -> Tensor:
        """∇f = Wᵀ(a ⊙ σ'(h)): `[rows, d]`, or `[rows, K, d]`."""
        slope = self.activation.first(self.preactivations(inputs))
        if self.outputs is None:
            return (slope * self.output_weights) @ self.hidden_weights
        return (slope[:, None] * self.output_weights) @ self.hidden_weights

    def hessian(self, inputs: Tensor) -> Tensor:
        """∇²f = Wᵀ diag(a ⊙ σ''(h)) W: `[rows, d, d]`, or `[rows, K, d, d]`."""
        bend = self.activation.second(self.preactivations(inputs))
        if self.outputs is not None:
            bend = bend[:, None]
        weights = (bend * self.output_weights)[..., None] * self.hidden_weights
        return self.hidden_weights.T @ weights

    def hessian_product(self, inputs: Tensor, vectors: Tensor) -> Tensor:
        """∇²f·v = Wᵀ(a ⊙ σ''(h) ⊙ Wv): `[rows, d]`, or `[rows, K, d]`.

        Args:
            inputs: `[rows, d]`.
            vectors: `[rows, d]`.
        """
        bend = self.activation.second(self.preactivations(inputs))
        bent = bend * (vectors @ self.hidden_weights.T)
        if self.outputs is None:
            return (bent * self.output_weights) @ self.hidden_weights
        return (bent[:, None] * self.output_weights) @ self.hidden_weights

    def extra_repr(self) -> str:
        """What print(network) shows."""
        width, dim = self.hidden_weights.shape
        return f"input_dim={dim}, width={width}, activation={self.activation.name}"
