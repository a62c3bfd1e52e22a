"""Networks whose structure is known, and how a model is recognised as one."""

from summiteer.networks.piecewise_linear import PiecewiseLinear as PiecewiseLinear
from summiteer.networks.standardise import Standardise as Standardise
from summiteer.networks.structure import Opaque as Opaque
from summiteer.networks.structure import TwoLayer as TwoLayer
from summiteer.networks.structure import as_piecewise_linear as as_piecewise_linear
from summiteer.networks.structure import as_two_layer as as_two_layer
from summiteer.networks.structure import recognise as recognise
from summiteer.networks.two_layer import TwoLayerNetwork as TwoLayerNetwork
