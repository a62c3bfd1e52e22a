"""Two-layer networks in closed form."""

import math
from functools import partial
from typing import Any, Self

import torch
from torch import Tensor, nn

from summiteer.draws import Draws
from summiteer.errors import UserError
from summiteer.networks.activations import Activation, LeakyRelu
from summiteer.networks.activations import activation as find_activation

_MODULES: dict[type[nn.Module], str] = {
    nn.Softplus: "softplus",
    nn.Tanh: "tanh",
    nn.Sigmoid: "sigmoid",
    nn.GELU: "gelu",
    nn.SiLU: "silu",
    nn.ReLU: "relu",
    nn.LeakyReLU: "leaky_relu",
}
#: torch's default threshold, where its Softplus is within 2.1e-9 of ours.
_SOFTPLUS_THRESHOLD = 20
_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)
_EXPECTED = {
    "output_weights": "expected [m] or [K, m]",
    "hidden_bias": "expected [m]",
    "output_bias": "expected a number, or [K] with output_weights [K, m],",
}
#: Numbers in one intermediate result of `weighted_gram`: 128 MiB in float64.
_CHUNK = 2**24


class TwoLayerNetwork(nn.Module):
    """f(x) = Σ_j a_j σ(w_jᵀx + b_j) + c (mathematics.md §1; paper, section 2).

    With K outputs, a_j and c are vectors and all formulas hold per output. Values,
    gradients and Hessians are closed forms; `forward` is what autograd sees. Inputs
    are `[rows, d]`: flatten images first.

    Args:
        hidden_weights: W `[m, d]`.
        output_weights: a `[m]`, or A `[K, m]`.
        hidden_bias: b `[m]`; zero if omitted, as in the paper.
        output_bias: c, a number (the same for every output) or `[K]`; zero if
            omitted.
        activation: a name in `summiteer.networks.activations.ACTIVATIONS`.

    Raises:
        UserError: shapes do not fit, or a weight is not finite.
    """

    hidden_weights: nn.Parameter
    output_weights: nn.Parameter
    hidden_bias: nn.Parameter
    output_bias: nn.Parameter

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
        if hidden.ndim != 2 or not hidden.numel() or not hidden.is_floating_point():
            raise UserError(
                "hidden_weights: expected a floating-point matrix [m, d], got "
                f"{hidden.dtype} {list(hidden.shape)}."
            )
        # Not `.to(hidden)`: that would take Python numbers through float32.
        like = partial(torch.as_tensor, dtype=hidden.dtype, device=hidden.device)
        output = like(output_weights)
        width, outputs = hidden.shape[:1], output.shape[:-1]
        shift = like(0.0 if output_bias is None else output_bias)
        given = {
            "hidden_weights": hidden,
            "output_weights": output,
            "hidden_bias": hidden.new_zeros(width)
            if hidden_bias is None
            else like(hidden_bias),
            "output_bias": shift if shift.ndim else shift.expand(outputs),
        }
        fits = {
            "output_weights": output.ndim in (1, 2)
            and output.shape[-1:] == width
            and output.numel() > 0,
            "hidden_bias": given["hidden_bias"].shape == width,
            "output_bias": given["output_bias"].shape == outputs,
        }
        for name, value in given.items():
            if not fits.get(name, True):
                raise UserError(
                    f"{name}: {_EXPECTED[name]} for hidden_weights "
                    f"{list(hidden.shape)}, got {list(value.shape)}."
                )
            if not bool(value.isfinite().all()):
                raise UserError(f"{name}: every entry must be finite.")
            setattr(self, name, nn.Parameter(value.detach().clone()))
        self.activation = find_activation(activation)

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

        Raises:
            UserError: a size, a deviation or the seed cannot be used.
        """
        for name, size in {"input_dim": input_dim, "width": width}.items():
            if not (isinstance(size, int) and size >= 1):
                raise UserError(f"{name}: expected an integer ≥ 1, got {size!r}.")
        for name, std in {"weight_std": weight_std, "bias_std": bias_std}.items():
            if not (math.isfinite(std) and std >= 0):
                raise UserError(f"{name}: expected a finite number ≥ 0, got {std!r}.")
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
        plain = getattr(type(module), "forward", None) is nn.Sequential.forward
        sequence = plain and isinstance(module, nn.Sequential)
        layers: list[Any] = list(module.children()) if sequence else []
        if len(layers) != 3 or {type(layers[0]), type(layers[2])} != {nn.Linear}:
            found = ", ".join(type(layer).__name__ for layer in layers)
            raise UserError(
                "module: expected nn.Sequential(nn.Linear, activation, nn.Linear), got "
                f"{type(module).__name__}({found})."
            )
        for part in (module, *layers):
            changed = attached(part)
            if changed:
                raise UserError(
                    f"module: {type(part).__name__} has more than its weights "
                    f"({changed}), which the closed form would leave out; remove it."
                )
        first, middle, last = layers
        name = _MODULES.get(type(middle))
        if name is None or not _same_function(middle):
            names = ", ".join(known.__name__ for known in _MODULES)
            raise UserError(
                f"module: the activation {middle} has no closed form here; known: "
                f"{names} (exact GELU, Softplus with beta=1, threshold ≥ "
                f"{_SOFTPLUS_THRESHOLD}), or build TwoLayerNetwork directly."
            )
        weight, bias = last.weight, last.bias
        if len(weight) == 1:
            weight, bias = weight[0], None if bias is None else bias[0]
        sigma = find_activation(name)
        if isinstance(middle, nn.LeakyReLU):
            sigma = LeakyRelu(middle.negative_slope)
        return cls(first.weight, weight, first.bias, bias, activation=sigma)

    @property
    def outputs(self) -> int | None:
        """K, or None for a scalar output."""
        return None if self.output_weights.ndim == 1 else self.output_weights.shape[0]

    def preactivations(self, inputs: Tensor) -> Tensor:
        """Return h = Wx + b, `[rows, m]`."""
        hidden = self.hidden_weights
        if inputs.ndim != 2 or inputs.shape[1] != hidden.shape[1]:
            raise UserError(
                f"inputs: a TwoLayerNetwork takes [rows, {hidden.shape[1]}], got "
                f"{list(inputs.shape)}; flatten images first, inputs.flatten(1)."
            )
        return torch.addmm(self.hidden_bias, inputs, hidden.T)

    def forward(self, inputs: Tensor) -> Tensor:
        """f(x): `[rows, d]` -> `[rows]` or `[rows, K]`."""
        return self.head(self.activation.forward(self.preactivations(inputs)))

    def head(self, hidden: Tensor) -> Tensor:
        """The outputs of σ(h) `[rows, m]`: `[rows]` or `[rows, K]`."""
        if self.outputs is None:
            return torch.addmv(self.output_bias, hidden, self.output_weights)
        return torch.addmm(self.output_bias, hidden, self.output_weights.T)

    def gradient(self, inputs: Tensor) -> Tensor:
        """∇f = Wᵀ(a ⊙ σ'(h)): `[rows, d]`, or `[rows, K, d]`."""
        slope = self.activation.first(self.preactivations(inputs))
        if self.outputs is None:
            return (slope * self.output_weights) @ self.hidden_weights
        return (slope[:, None] * self.output_weights) @ self.hidden_weights

    def hessian(self, inputs: Tensor) -> Tensor:
        """∇²f = Wᵀ diag(a ⊙ σ''(h)) W: `[rows, d, d]`, or `[rows, K, d, d]`."""
        bend = self.activation.second(self.preactivations(inputs))
        if self.outputs is None:
            return weighted_gram(self.hidden_weights, bend * self.output_weights)
        weights = bend[:, None] * self.output_weights
        matrices = weighted_gram(self.hidden_weights, weights.flatten(0, 1))
        return matrices.reshape(*weights.shape[:2], *matrices.shape[1:])

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
        outputs = "" if self.outputs is None else f", outputs={self.outputs}"
        return f"input_dim={dim}, width={width}{outputs}, " + (
            f"activation={self.activation.name}"
        )


def weighted_gram(matrix: Tensor, weights: Tensor) -> Tensor:
    """Wᵀ diag(w_i) W for every row w_i, in chunks of bounded memory.

    Args:
        matrix: W `[m, d]`.
        weights: `[n, m]`.

    Returns:
        `[n, d, d]`, symmetric up to rounding.
    """
    chunks = torch.split(weights, max(1, _CHUNK // matrix.numel()))
    return torch.cat([(chunk[:, None] * matrix.T) @ matrix for chunk in chunks])


def attached(module: nn.Module) -> str:
    """Name what hangs on a module and could change what it computes, or ''."""
    for name in _HOOKS:
        if getattr(module, name):
            return f"hooks in {name}"
    # An attribute of the instance that hides a method of the class, or a compiled form.
    for name in vars(module):
        if name == "_compiled_call_impl" or callable(getattr(type(module), name, None)):
            return f"its own {name}"
    return ""


def _same_function(middle: nn.Module) -> bool:
    """Whether a module of a known type has the settings that make it our function."""
    if isinstance(middle, nn.Softplus):
        return middle.beta == 1 and middle.threshold >= _SOFTPLUS_THRESHOLD
    return not isinstance(middle, nn.GELU) or middle.approximate == "none"
