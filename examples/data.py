"""Data of your own: an .npz file with `inputs` and `targets`, made in three lines.

python examples/data.py my.npz
summiteer attack examples/model.py:build my.npz --norm linf --radius 0.1
"""

import sys

import numpy as np
from sklearn.datasets import load_digits

pixels, labels = load_digits(return_X_y=True)
inputs, targets = (pixels / 16).astype(np.float32), labels
np.savez(sys.argv[1], inputs=inputs[1500:], targets=targets[1500:])
