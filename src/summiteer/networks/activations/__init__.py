"""Activation functions σ with derivatives, ranges on intervals and rounding bounds."""

from summiteer.networks.activations.base import Activation as Activation
from summiteer.networks.activations.elementary import Quadratic as Quadratic
from summiteer.networks.activations.elementary import Sin as Sin
from summiteer.networks.activations.gaussian import Erf as Erf
from summiteer.networks.activations.gaussian import Gelu as Gelu
from summiteer.networks.activations.kinked import Abs as Abs
from summiteer.networks.activations.kinked import LeakyRelu as LeakyRelu
from summiteer.networks.activations.kinked import Relu as Relu
from summiteer.networks.activations.logistic import Sigmoid as Sigmoid
from summiteer.networks.activations.logistic import Silu as Silu
from summiteer.networks.activations.logistic import Softplus as Softplus
from summiteer.networks.activations.logistic import Tanh as Tanh
from summiteer.networks.activations.registry import ACTIVATIONS as ACTIVATIONS
from summiteer.networks.activations.registry import activation as activation
