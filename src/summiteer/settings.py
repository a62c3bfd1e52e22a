"""What determines an attack or an audit besides model and data."""

from dataclasses import dataclass

from torch import Tensor

from summiteer import tolerances
from summiteer.adversaries import Adversary
from summiteer.objectives import Objective
from summiteer.regions import Region
from summiteer.searching import EFFORTS, Effort
from summiteer.until import Until


@dataclass(frozen=True, eq=False)
class Settings:
    """Everything that determines an attack or an audit besides model and data.

    Attributes:
        region: the set of allowed perturbations.
        box: (lo, hi) in input coordinates, or None.
        objective: what is ascended; `default_objective` if None.
        effort: what the search spends; of an adversary of the user's own, restarts,
            steps and rivals.
        adversary: runs in place of the search; None for the search.
        seed: of the random numbers.
        until: a further reason to stop, such as `Misclassified()`.
        within: search distance of verdicts, in radii.
        right_within: for regression, |f - y| that counts as right, or None.
        mask: which coordinates may move, or None for all.
        screened: whether the failure screen looks at model and data.
        neighbours: (inputs, labels) of examples whose classes show the search the way;
            those of the block if None.
    """

    region: Region
    box: tuple[float, float] | None = None
    objective: Objective | None = None
    effort: Effort = EFFORTS["standard"]
    adversary: Adversary | None = None
    seed: int = 0
    until: Until | None = None
    within: float = tolerances.WITHIN
    right_within: float | None = None
    mask: Tensor | None = None
    screened: bool = True
    neighbours: tuple[Tensor, Tensor] | None = None
