"""Peak memory of a call, in a process of its own: what others left does not count."""

import importlib
import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Found:
    """Of a call in a process of its own.

    Attributes:
        seconds: by the wall.
        memory: MiB at its peak beyond what the process held before the call.
        value: that it returned.
    """

    seconds: float
    memory: float
    value: Any


def fresh(module: str, function: str, **given: Any) -> Found:
    """Call what `function(**given)` of a module returns, and watch that.

    What `function` itself does (making a problem, a first call that warms up) is not
    counted. Given and returned are what JSON can hold.
    """
    words = [sys.executable, "-m", "benchmarks.fresh", module, function]
    done = subprocess.run(
        [*words, json.dumps(given)],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent.parent,
    )
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def resident(which: str) -> float:
    """MiB of this process: "VmRSS" now, "VmHWM" at its peak so far."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{which}:")[1].split()[0]) / 1024


def main() -> None:
    """Watch a call; the last line is what was found."""
    import torch

    torch.set_num_threads(1)
    module, function, given = sys.argv[1:]
    prepare = getattr(importlib.import_module(module), function)
    call = prepare(**json.loads(given))
    # The peak so far is forgotten: "5" in Linux's proc(5).
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, began = resident("VmRSS"), time.perf_counter()
    value = call()
    found = {
        "seconds": time.perf_counter() - began,
        "memory": resident("VmHWM") - before,
        "value": value,
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()
