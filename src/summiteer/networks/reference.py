"""Small networks to try things on, trained on the spot in a second or two."""

import torch
from torch import Tensor, nn

from summiteer.draws import Draws


def digits_mlp(hidden: int = 64, steps: int = 300, seed: int = 0) -> nn.Module:
    """A 64-`hidden`-10 ReLU network trained on scikit-learn's digits (pixels/16).

    Full-batch Adam from a seeded start: the same network for the same seed on the
    same machine. The global random state is not touched.

    Args:
        hidden: width.
        steps: of Adam.
        seed: of the initial weights.

    Returns:
        A float32 classifier of `[batch, 64]` inputs in [0, 1], in eval mode.
    """
    from sklearn.datasets import load_digits

    pixels, labels = load_digits(return_X_y=True)
    inputs, targets = torch.tensor(pixels / 16.0).float(), torch.tensor(labels)
    model = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, 10))
    for stream, weight in enumerate(model.parameters()):
        with torch.no_grad():
            weight.copy_(_initial(weight, seed, stream))
    optimiser = torch.optim.Adam(model.parameters(), lr=0.01)  # standard for MLPs
    with torch.enable_grad():
        for _ in range(steps):
            optimiser.zero_grad()
            nn.functional.cross_entropy(model(inputs), targets).backward()
            optimiser.step()
    for weight in model.parameters():
        weight.grad = None
    return model.eval()


def _initial(weight: Tensor, seed: int, stream: int) -> Tensor:
    """He's initialisation for matrices, zero for biases."""
    if weight.ndim == 1:
        return torch.zeros_like(weight)
    rows = torch.arange(weight.shape[0])
    draws = Draws(seed, rows, torch.zeros_like(rows), stream)
    return (draws.normal(weight.shape[1]) * (2 / weight.shape[1]) ** 0.5).to(weight)
