"""What each part of a search buys: searches without it."""

from dataclasses import dataclass

import torch

import summiteer as sm
from benchmarks.strength_accuracy import searched
from benchmarks.strength_settings import Setting
from summiteer.searching import SOURCE_NAMES

#: What is left out, one after the other; 0 is the ascent that every search begins with.
PARTS = SOURCE_NAMES[1:]


@dataclass(frozen=True)
class Ablation:
    """One search with or without a part.

    Attributes:
        without: the part that is left out, "nothing", or "all of them".
        robust: how many images are left.
        gradients: evaluations of all images together.
        margin: mean of max_{k≠y} z_k - z_y at the strongest point, over the images that
            no search of this setting broke; None where there are none.
    """

    without: str
    robust: int
    gradients: int
    margin: float | None


def ablated(setting: Setting, effort: str, budget: int | None = None) -> list[Ablation]:
    """The whole search, one without each part, and one without any.

    Args:
        setting: what is attacked.
        effort: "standard" or "thorough".
        budget: gradient evaluations per image; the effort's if None.
    """
    left_out: dict[str, tuple[str, ...]] = {"nothing": ()}
    left_out |= {name: (name,) for name in PARTS}
    left_out["all of them"] = PARTS
    robust, found = {}, {}
    for name, without in left_out.items():
        robust[name], found[name] = searched(setting, effort, budget, without)
    never = torch.tensor([made.robust for made in robust.values()]).all(0)
    problem = setting.problem(double=True).with_objective(sm.Margin())
    lines = []
    for name, made in robust.items():
        margins = problem.rows().value(found[name].best.double()).loss[never]
        margin = float(margins.mean()) if len(margins) else None
        lines.append(Ablation(name, sum(made.robust), made.gradients, margin))
    return lines
