"""Adversaries by the names that the command line knows."""

from collections.abc import Callable

from summiteer.adversaries._adversary import Adversary
from summiteer.adversaries.auto_pgd import AutoPGD
from summiteer.adversaries.dc_ascent import DCAscent
from summiteer.adversaries.frank_wolfe import FrankWolfe
from summiteer.adversaries.momentum_ascent import MomentumAscent
from summiteer.adversaries.projected_ascent import (
    ProjectedAscent,
    default_adversary,
    steepest,
)
from summiteer.adversaries.step_rule import ConstantStep
from summiteer.regions import Region

#: Of PGD's constant step, as usual in the field: steps·size = 2.5 radii reaches every
#: point of a ball from every other one, with some steps left.
_REACH = 2.5


def named_adversary(
    name: str, region: Region, steps: int, step_size: float | None = None
) -> Adversary:
    """The adversary of a name.

    Args:
        name: one of `NAMED`.
        region: a ball, the same for all examples where the step size follows from it.
        steps: of each run; schedules and usual step sizes depend on it.
        step_size: of those in `SIZED`, in units of inputs; radius/steps (mi-fgsm,
            `dong2018boosting`) or 2.5·radius/steps (pgd, `madry2018towards`) if None.
    """
    return NAMED[name](region, max(1, steps), step_size)


def _pgd(region: Region, steps: int, step_size: float | None) -> Adversary:
    size = _radius(region) * _REACH / steps if step_size is None else step_size
    return ProjectedAscent(steepest(region), ConstantStep(size))


def _mi_fgsm(region: Region, steps: int, step_size: float | None) -> Adversary:
    size = _radius(region) / steps if step_size is None else step_size
    return MomentumAscent(ConstantStep(size))


def _radius(region: Region) -> float:
    size = region.size
    return float(size if isinstance(size, float | int) else size.flatten()[0])


#: Name -> (region, steps, step size) -> adversary.
NAMED: dict[str, Callable[[Region, int, float | None], Adversary]] = {
    "apgd": lambda region, steps, size: AutoPGD(steps),
    "pga": lambda region, steps, size: default_adversary(region),
    "pgd": _pgd,
    "mi-fgsm": _mi_fgsm,
    "frank-wolfe": lambda region, steps, size: FrankWolfe(),
    "dc": lambda region, steps, size: DCAscent(),
}
#: Those whose steps have one size.
SIZED = ("pgd", "mi-fgsm")
