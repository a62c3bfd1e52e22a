"""Spaces in which the runs of a two-layer problem can be computed."""

from summiteer.spaces.choice import Chosen as Chosen
from summiteer.spaces.choice import choose as choose
from summiteer.spaces.choice import rotation_invariant as rotation_invariant
