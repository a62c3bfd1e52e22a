"""Weights of your own, of a network that was trained on normalised inputs.

    python examples/checkpoint.py my.safetensors
    summiteer attack examples/model.py:build_untrained digits --norm linf --radius 0.1 \
        --weights my.safetensors --mean 0.3 --std 0.4

The normalisation is done inside the model: radius and box stay in the units of the
data, pixels in [0, 1].
"""

import sys

import torch
from model import build_untrained
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

torch.manual_seed(0)
pixels, labels = load_digits(return_X_y=True)
inputs = (torch.tensor(pixels / 16, dtype=torch.float32) - 0.3) / 0.4
targets = torch.tensor(labels)
model = build_untrained()
optimiser = torch.optim.Adam(model.parameters(), 0.01)
for _ in range(100):
    optimiser.zero_grad()
    cross_entropy(model(inputs), targets).backward()
    optimiser.step()
save_file(model.state_dict(), sys.argv[1])
