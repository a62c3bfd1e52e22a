"""How much work a search is."""

from dataclasses import dataclass, replace

from summiteer.errors import UserError


@dataclass(frozen=True)
class Effort:
    """What a search spends, per example, in gradient evaluations.

    Attributes:
        restarts: most runs from uniform points with the problem's own objective,
            besides the one from the centre.
        max_steps: of each of these.
        more_steps: spent by an attack afterwards on the survivors, to see what they
            would flip.
        budget: gradient evaluations per example, all runs together.
        rivals: of a classifier, how many of the likeliest other classes are attacked
            towards; None for all.
        rival_steps: of each run towards one.
        gate_rivals: how many rivals, those nearest to success first, are attacked
            through closed gates; None for all.
        gate_steps: of each run through closed gates, and again of the run that goes on
            from where it led; 0 for none. See `summiteer.searching.gates`.
        neighbours: runs towards each rival from vertices in the direction of the
            nearest examples of its class; 0 for none.
        unseen: no more restarts once the chance that one more ends in a maximum not met
            yet is estimated to be at most this; see `summiteer.searching.basins`. With
            0.2 never before the fourth.
        escapes: how many times the strongest point is left along the way uphill of its
            negative certificate; 0 for none.
    """

    restarts: int
    max_steps: int
    more_steps: int = 50
    budget: int = 380
    rivals: int | None = 9
    rival_steps: int = 10
    gate_rivals: int | None = 3
    gate_steps: int = 8
    neighbours: int = 1
    unseen: float = 0.2
    escapes: int = 0

    def with_runs(
        self, restarts: int | None, max_steps: int | None, rivals: int | None
    ) -> "Effort":
        """Other numbers of runs and steps; the budget grows or shrinks by their cost.

        Args:
            restarts: None to leave it as it is, as for the others.
            max_steps: of each run.
            rivals: classes that are attacked towards.
        """
        changed = replace(
            self,
            restarts=self.restarts if restarts is None else restarts,
            max_steps=self.max_steps if max_steps is None else max_steps,
            rivals=self.rivals if rivals is None else rivals,
        )
        more = changed._own_cost() - self._own_cost()
        return replace(changed, budget=max(1, self.budget + more))

    def _own_cost(self) -> int:
        """Gradient evaluations of the runs with the problem's own objective."""
        return (self.restarts + 1) * (self.max_steps + 1)


EFFORTS = {
    "standard": Effort(restarts=4, max_steps=20),
    "thorough": Effort(
        restarts=9,
        max_steps=100,
        budget=5000,
        rivals=None,
        gate_rivals=None,
        rival_steps=50,
        gate_steps=20,
        neighbours=4,
        escapes=2,
    ),
}
#: The same for an adversary of the user's own, whose runs are made as they are.
PLAIN = {
    "standard": Effort(restarts=4, max_steps=100, rivals=0),
    "thorough": Effort(restarts=19, max_steps=500, rivals=0),
}


def effort_of(name: str, search: bool = True) -> Effort:
    """The effort of a name.

    Args:
        name: "standard" or "thorough".
        search: False where an adversary of the user's own takes the search's place.

    Raises:
        UserError: there is no such effort.
    """
    if name not in EFFORTS:
        raise UserError(f"effort: expected one of {list(EFFORTS)}, got {name!r}.")
    return (EFFORTS if search else PLAIN)[name]
