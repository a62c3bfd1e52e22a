"""A model to attack: any function without arguments that returns an nn.Module.

summiteer attack examples/model.py:build digits --norm linf --radius 0.1
"""

from torch import nn

from summiteer.networks.reference import digits_mlp


def build():
    """A 64-64-10 ReLU network trained on 8x8 digits in about a second."""
    return digits_mlp()


def build_smooth():
    """The same with tanh: a network that can be proved about."""
    return digits_mlp(activation=nn.Tanh)


def build_untrained():
    """The architecture alone, for weights of your own.

    summiteer attack examples/model.py:build_untrained digits --weights my.safetensors
    """
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 10))
