"""Beyond one basin: starts worth their cost, and what they leave unseen."""

from summiteer.searching._search import STOPPED, Search, search
from summiteer.searching.effort import EFFORTS, Effort, effort_of
from summiteer.searching.sources import NAMES

#: What finds the points of an attack: the sources of a search, then its settling.
SOURCE_NAMES = (*NAMES, "settling")

__all__ = [
    "EFFORTS",
    "SOURCE_NAMES",
    "STOPPED",
    "Effort",
    "Search",
    "effort_of",
    "search",
]
