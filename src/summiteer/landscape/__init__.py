"""Landscapes: distinct maxima, their basins, the ways to them, slices."""

from summiteer.landscape._explore import explore as explore
from summiteer.landscape.landscape import Landscape as Landscape
from summiteer.landscape.maxima import CONFIDENCE as CONFIDENCE
from summiteer.landscape.maxima import Maxima as Maxima
from summiteer.landscape.maxima import distinct_maxima as distinct_maxima
from summiteer.landscape.maxima import unseen_mass as unseen_mass
from summiteer.landscape.peak import Peak as Peak
