"""Landscapes: distinct maxima, their basins, the ways to them, slices."""

from summiteer.landscape._explore import explore as explore
from summiteer.landscape.landscape import Landscape as Landscape
from summiteer.landscape.maxima import Maxima as Maxima
from summiteer.landscape.maxima import distinct_maxima as distinct_maxima
from summiteer.landscape.maxima import unseen_mass as unseen_mass
from summiteer.landscape.peak import Peak as Peak
from summiteer.landscape.slice import Projection as Projection
from summiteer.landscape.slice import Slice as Slice
from summiteer.landscape.slice import slice_through as slice_through
from summiteer.landscape.views import landscape_slice as landscape_slice
from summiteer.landscape.views import named_points as named_points
from summiteer.landscape.views import runs_to as runs_to
