"""The failure screen: does anything make the result mean less than it seems to?

Two kinds of checks. `CHECKS` look at model and data once per run, on a seeded sample
(`screen(problem, …)`); `SIGNS` read what attack or audit recorded per example. Each is
a function in a file of its own, named by one line in a tuple here.
"""

from summiteer.screen._screening import Screening as Screening
from summiteer.screen._screening import screen as screen
from summiteer.screen._screening import signs as signs
from summiteer.screen.subject import drawn as drawn
