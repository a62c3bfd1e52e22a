"""What a step does, counted: calls of Python, tensor operations, waits for the device.

Counts of two runs that differ in their steps alone are subtracted: what a run does once
is no part of a step.
"""

import cProfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.profiler import ProfilerActivity

#: A number read on the host, and an index whose length is: each waits for a GPU.
WAITS = ("aten::_local_scalar_dense", "aten::nonzero")
#: What else the host waits for where there is a GPU.
COPIES = "Memcpy DtoH"


@dataclass(frozen=True)
class Counts:
    """Of one step.

    Attributes:
        calls: of Python functions and of what they call in torch.
        operations: on tensors, not counting those that one of them makes.
        waits: of the host for numbers on the device.
        copies: from a GPU; 0 where there is none.
    """

    calls: float
    operations: float
    waits: float
    copies: float


def calls(function: Callable[[], Any]) -> int:
    """Calls that Python makes."""
    profile = cProfile.Profile()
    profile.enable()
    function()
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats())


def events(function: Callable[[], Any]) -> Counter[str]:
    """How often torch's profiler sees each thing; "operations" are the outermost."""
    activities = [ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities, acc_events=True) as seen:
        function()
    found = Counter[str]()
    for event in seen.events() or ():
        found[event.name] += 1
        parent = event.cpu_parent
        inside = parent is not None and parent.name.startswith("aten::")
        if event.name.startswith("aten::") and not inside:
            found["operations"] += 1
    return found


def waits(found: Counter[str]) -> int:
    """How often the host waited for a number."""
    return sum(found[name] for name in WAITS)


def copies(found: Counter[str]) -> int:
    """From a GPU to the host."""
    return sum(n for name, n in found.items() if name.startswith(COPIES))


def per_step(run: Callable[[int], Any], few: int = 10, many: int = 30) -> Counts:
    """What one more step costs.

    Args:
        run: makes so many steps.
        few: steps of the run that is subtracted.
        many: steps of the other.
    """
    run(few)
    steps = many - few
    first, second = (events(lambda n=n: run(n)) for n in (few, many))
    called = calls(lambda: run(many)) - calls(lambda: run(few))
    return Counts(
        called / steps,
        (second["operations"] - first["operations"]) / steps,
        (waits(second) - waits(first)) / steps,
        (copies(second) - copies(first)) / steps,
    )
