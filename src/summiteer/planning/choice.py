"""Which setting is recommended, and what an attack with it comes to."""

import time
from collections.abc import Iterable, Sequence

import torch

from summiteer._attack import attack_block
from summiteer.adversaries import named_adversary
from summiteer.examination import gather
from summiteer.planning.setting import Checked, Scale, Setting
from summiteer.problem import Problem
from summiteer.searching import EFFORTS
from summiteer.settings import Settings

#: Settings that are checked, the cheapest first, until one reaches the share.
_CHECKS = 3


def reaching(settings: Iterable[Setting], share: float) -> list[Setting]:
    """The settings whose gain is at least the share."""
    return [setting for setting in settings if setting.gain >= share]


def cost(setting: Setting) -> tuple[float, int, int]:
    """What settings are ordered by: evaluations, then steps, then restarts."""
    return (
        round(setting.gradient_evaluations, 6),
        setting.steps or 0,
        setting.restarts or 0,
    )


def chosen(
    blocks: Sequence[Problem], settings: Sequence[Setting], scale: Scale, seed: int
) -> tuple[Setting, Checked]:
    """The cheapest setting that reaches the share, in the pilot and in an attack.

    Chance may have carried the cheapest ones over the share, so the next ones follow
    where an attack from other starts does not reach it. The best one of those checked
    if none does, and the best one of all if none did in the pilot.

    Args:
        blocks: the sample.
        settings: those of the pilot.
        scale: what gains are measured by.
        seed: of the attack.
    """
    ranked = sorted(reaching(settings, scale.share), key=cost)
    if not ranked:
        ranked = [min(settings, key=lambda setting: (-setting.gain, *cost(setting)))]
    found: list[tuple[Setting, Checked]] = []
    for setting in ranked[:_CHECKS]:
        found.append((setting, checked(blocks, setting, scale, seed)))
        if found[-1][1].gain >= scale.share:
            return found[-1]
    return max(found, key=lambda pair: pair[1].gain)


def checked(
    blocks: Sequence[Problem], setting: Setting, scale: Scale, seed: int
) -> Checked:
    """What an attack with a setting comes to on the sample.

    Args:
        blocks: the sample.
        setting: see `Setting.arguments`.
        scale: what gains are measured by.
        seed: of the attack.
    """
    began = time.monotonic()
    arrays = gather([_attacked(part, setting, seed) for part in blocks])
    examples = len(arrays["losses"])
    # Of those that are drawn although the model is wrong, none survives.
    broken = ~arrays["survived"]
    losses = arrays["losses"]
    return scale.checked(
        scale.gains(losses.masked_fill(~losses.isfinite(), -torch.inf)),
        broken.double(),
        int(arrays["gradient_evaluations"].sum()) / examples,
        (time.monotonic() - began) / examples,
    )


def _attacked(part: Problem, setting: Setting, seed: int) -> dict[str, torch.Tensor]:
    effort, adversary = EFFORTS["standard"], None
    if setting.steps is None:
        effort = EFFORTS[setting.method]
    else:
        effort = effort.with_runs(setting.restarts, setting.steps, 0)
        adversary = named_adversary(setting.method, part.region, setting.steps)
    return attack_block(
        part, Settings(part.region, effort=effort, adversary=adversary, seed=seed)
    )
