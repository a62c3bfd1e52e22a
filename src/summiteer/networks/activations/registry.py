"""The activations by name."""

from summiteer.errors import UserError
from summiteer.networks.activations.base import Activation
from summiteer.networks.activations.elementary import Quadratic, Sin
from summiteer.networks.activations.gaussian import Erf, Gelu
from summiteer.networks.activations.kinked import Abs, LeakyRelu, Relu
from summiteer.networks.activations.logistic import Sigmoid, Silu, Softplus, Tanh

#: Every activation of the package, by its name; leaky_relu with torch's slope 0.01.
ACTIVATIONS: dict[str, Activation] = {
    known.name: known
    for known in (
        Softplus(),
        Tanh(),
        Sigmoid(),
        Erf(),
        Gelu(),
        Silu(),
        Sin(),
        Quadratic(),
        Relu(),
        LeakyRelu(),
        Abs(),
    )
}


def activation(name_or_instance: str | Activation) -> Activation:
    """The activation of that name; an instance is returned as it is.

    Args:
        name_or_instance: A key of `ACTIVATIONS`, or an `Activation`.

    Returns:
        The activation.

    Raises:
        UserError: If there is no activation of that name.
    """
    if isinstance(name_or_instance, Activation):
        return name_or_instance
    if isinstance(name_or_instance, str) and name_or_instance in ACTIVATIONS:
        return ACTIVATIONS[name_or_instance]
    raise UserError(
        f"activation must be one of {', '.join(ACTIVATIONS)}, "
        f"got {name_or_instance!r}: choose one of these names."
    )
