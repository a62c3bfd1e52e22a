"""How much work a search is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Effort:
    """What a search spends, per example, in gradient evaluations.

    Attributes:
        restarts: runs from uniform points with the problem's own objective, besides the
            one from the centre.
        max_steps: of each of these.
        more_steps: spent by an attack afterwards on the survivors, to see what they
            would flip.
        budget: gradient evaluations per example, all runs together.
        rivals: of a classifier, how many of the likeliest other classes are attacked
            towards; None for all.
        rival_steps: of each run towards one.
        gate_steps: of each run through closed gates, and again of the run that goes on
            from where it led; 0 for none. See `summiteer.searching.gates`.
        neighbours: runs towards each rival from vertices in the direction of the
            nearest examples of its class; 0 for none.
        escapes: how many times the strongest point is left along the way uphill of its
            negative certificate; 0 for none.
    """

    restarts: int
    max_steps: int
    more_steps: int = 50
    budget: int = 360
    rivals: int | None = None
    rival_steps: int = 10
    gate_steps: int = 8
    neighbours: int = 1
    escapes: int = 0


EFFORTS = {
    "standard": Effort(restarts=1, max_steps=20),
    "thorough": Effort(
        restarts=9,
        max_steps=100,
        budget=5000,
        rival_steps=50,
        gate_steps=20,
        neighbours=4,
        escapes=2,
    ),
}
