"""Small networks to try things on, trained on the spot in a second or two."""

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from summiteer.draws import Draws


def digits_mlp(
    hidden: int | Sequence[int] = 64,
    steps: int = 300,
    seed: int = 0,
    activation: Callable[[], nn.Module] = nn.ReLU,
    rate: float = 0.2,
) -> nn.Module:
    """A 64-`hidden`-10 network trained on scikit-learn's digits (pixels/16).

    Full-batch descent with momentum from a seeded start: the same network for the
    same seed on the same machine. The global random state is left as it was.

    Args:
        hidden: width, or the widths of several layers.
        steps: of descent.
        seed: of the initial weights.
        activation: torch's layer, such as nn.Tanh.
        rate: of descent; several layers need a smaller one.

    Returns:
        A float32 classifier of `[batch, 64]` inputs in [0, 1], in eval mode.
    """
    from sklearn.datasets import load_digits

    sizes = [64, *([hidden] if isinstance(hidden, int) else hidden), 10]
    pixels, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(pixels / 16.0).float(), torch.tensor(labels)
    with torch.random.fork_rng(devices=[]):
        layers: list[nn.Module] = []
        for size, following in pairwise(sizes):
            layers += [nn.Linear(size, following), activation()]
        model = nn.Sequential(*layers[:-1])
    for stream, weight in enumerate(model.parameters()):
        with torch.no_grad():
            weight.copy_(_initial(weight, seed, stream))
    # Heavy-ball descent by hand: torch.optim takes ten seconds to import its compiler.
    weights = list(model.parameters())
    velocity = [torch.zeros_like(weight) for weight in weights]
    with torch.enable_grad():
        for _ in range(steps):
            loss = nn.functional.cross_entropy(model(inputs), targets)
            slopes = torch.autograd.grad(loss, weights)
            with torch.no_grad():
                for weight, slope, speed in zip(weights, slopes, velocity, strict=True):
                    speed.mul_(0.9).sub_(slope, alpha=rate)
                    weight.add_(speed)
    return model.eval()


def _initial(weight: Tensor, seed: int, stream: int) -> Tensor:
    """He's initialisation for matrices, zero for biases."""
    if weight.ndim == 1:
        return torch.zeros_like(weight)
    rows = torch.arange(weight.shape[0])
    draws = Draws(seed, rows, torch.zeros_like(rows), stream)
    spread = float(2 / weight.shape[1]) ** 0.5
    return draws.normal(weight.shape[1]).mul(spread).to(weight)
