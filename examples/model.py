"""A model to attack: any function without arguments that returns an nn.Module."""

from torch import nn

from summiteer.networks.reference import digits_mlp


def build_smooth():
    """The same with tanh: a network that can be proved about."""
    return digits_mlp(activation=nn.Tanh)


def build():
    """A 64-64-10 ReLU network trained on 8x8 digits in about a second."""
    return digits_mlp()
