"""Beyond one basin: starts worth their cost, and what they leave unseen."""

from summiteer.searching._search import Search, search
from summiteer.searching.effort import EFFORTS, Effort

__all__ = ["EFFORTS", "Effort", "Search", "search"]
