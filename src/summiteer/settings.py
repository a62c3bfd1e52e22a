"""What determines an attack or an audit besides model and data."""

from dataclasses import dataclass

from torch import Tensor

from summiteer import tolerances
from summiteer.adversaries import Adversary
from summiteer.objectives import Objective
from summiteer.regions import Region
from summiteer.until import Until


@dataclass(frozen=True)
class Effort:
    """How much work an attack is.

    Attributes:
        restarts: runs from uniform points, besides the one from the centre.
        max_steps: of each run.
        more_steps: spent afterwards on the survivors, to see what they would flip.
    """

    restarts: int
    max_steps: int
    more_steps: int = 50


EFFORTS = {"standard": Effort(4, 100), "thorough": Effort(19, 500)}


@dataclass(frozen=True, eq=False)
class Settings:
    """Everything that determines an attack or an audit besides model and data.

    Attributes:
        region: the set of allowed perturbations.
        box: (lo, hi) in input coordinates, or None.
        objective: what is ascended; `default_objective` if None.
        effort: restarts and steps.
        adversary: `default_attack` of region and steps if None.
        seed: of the random numbers.
        until: a further reason to stop, such as `Misclassified()`.
        within: search distance of verdicts, in radii.
        right_within: for regression, |f - y| that counts as right, or None.
        mask: which coordinates may move, or None for all.
        rivals: of a classifier, how many of the most likely other classes are attacked
            towards, one run from each start apiece; 0 for the objective alone.
        screened: whether the failure screen looks at model and data.
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
    rivals: int = 0
    screened: bool = True
