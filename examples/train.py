"""Adversarial training in a loop of one's own, its inner problem watched in one line.

    python examples/train.py 5 my_weights.safetensors
    summiteer attack examples/model.py:build_untrained digits --norm linf --radius 0.1 \
        --weights my_weights.safetensors

Five epochs of PGD with three steps, written by hand; the weights are written to a file.
"""

import sys

import torch
from model import build_untrained
from safetensors.torch import save_file
from torch.nn.functional import cross_entropy

import summiteer as sm

epochs, radius = int(sys.argv[1]), 0.1
data = sm.load_data("digits")
inputs, labels = data.inputs.float(), data.targets
torch.manual_seed(0)
model = build_untrained()
optimizer = torch.optim.Adam(model.parameters(), 0.01)
monitor = sm.Monitor(
    inputs, labels, region=sm.LinfBall(radius), box=(0.0, 1.0), max_steps=3, budget=1.0
)
for _ in range(epochs):
    for index in torch.randperm(len(inputs)).split(128):
        clean, wanted = inputs[index], labels[index]
        moved = clean + radius * (2 * torch.rand_like(clean) - 1)
        for _ in range(3):
            moved = moved.detach().clamp(0, 1).requires_grad_()
            (slope,) = torch.autograd.grad(cross_entropy(model(moved), wanted), moved)
            moved = moved + radius / 1.2 * slope.sign()
            moved = moved.clamp(clean - radius, clean + radius)
        optimizer.zero_grad()
        cross_entropy(model(moved.detach().clamp(0, 1)), wanted).backward()
        optimizer.step()
    print(monitor.epoch(model, optimizer))
save_file(model.state_dict(), sys.argv[2])
