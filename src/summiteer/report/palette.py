"""Colours: told apart by colour-blind readers, on white and on black.

After Okabe and Ito, darkened or lightened until each has a contrast of at least 3 (what
WCAG asks of graphics) against both backgrounds; the tests compute it.
"""

from collections.abc import Mapping

COLOURS: Mapping[str, str] = {
    "blue": "#2A8FD0",
    "orange": "#D06A1A",
    "green": "#1E9E7A",
    "pink": "#C56A9D",
    "gold": "#A98600",
    "violet": "#8A70D6",
    "red": "#D9483B",
    "quiet": "#808080",
}
#: Curves without a colour of their own take these in turn.
TURN = ("blue", "orange", "green", "pink", "gold", "violet", "red")
#: Backgrounds of a page.
PAPER: Mapping[str, str] = {"light": "#ffffff", "dark": "#16181c"}


def colour(name: str, place: int = 0) -> str:
    """The colour of a name; of the place in the order for "".

    Args:
        name: a key of `COLOURS`, or "".
        place: among its neighbours.
    """
    return COLOURS[name or TURN[place % len(TURN)]]
