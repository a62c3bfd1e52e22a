"""An attack written by hand in ten lines, and what it left unfound.

    python examples/audit.py my_adversarial.npy 200
    summiteer audit examples/model.py:build digits my_adversarial.npy --norm linf \
        --radius 0.1 --limit 200

Ten steps of sign gradient ascent, the last iterate kept: what many scripts do.
"""

import sys

import numpy as np
import torch
from model import build
from torch.nn.functional import cross_entropy

import summiteer as sm

model, data, radius = build(), sm.load_data("digits"), 0.1
count = int(sys.argv[2])
inputs, labels = data.inputs[:count].float(), data.targets[:count]
adversarial = inputs.clone()
for _ in range(10):
    adversarial.requires_grad_()
    loss = cross_entropy(model(adversarial), labels)
    (gradient,) = torch.autograd.grad(loss, adversarial)
    moved = adversarial.detach() + radius / 4 * gradient.sign()
    adversarial = moved.clamp(inputs - radius, inputs + radius).clamp(0, 1)
np.save(sys.argv[1], adversarial.numpy())
