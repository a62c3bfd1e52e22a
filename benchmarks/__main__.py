"""`python -m benchmarks [SECTION …]`: measure, print; with --write keep and show.

What is kept is benchmarks/results/SECTION.json; docs/benchmarks.md is made of these.
"""

import argparse
import datetime
import importlib
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Sequence

#: Name -> what it measures; the name is that of the module, which has `measure(quick)`.
#: The page has them in this order.
SECTIONS = {
    "two_layer": "steps on two-layer networks, beside other libraries and bare loops",
    "proved": "from inputs to proved maxima, beside the only other way",
    "any_model": "`ascend` on any model, beside other libraries and bare loops",
    "attack": "the attack command on MNIST's test images, beside whole attacks",
    "proofs": "what certificates cost, against d and m",
    "growth": "time and memory against batch, restarts, d, m, steps, examples",
    "start_up": "the start of the command, of the library, of an attack",
    "device": "a GPU against the floors of arithmetic and memory",
}


def measure(name: str, quick: bool, write: bool) -> None:
    """Measure one section here and print it; keep it where that is asked for."""
    import torch

    import summiteer as sm
    from benchmarks import page

    warnings.simplefilter("ignore", sm.SummiteerWarning)
    torch.set_num_threads(1)
    before, began = os.getloadavg()[0], time.perf_counter()
    section = importlib.import_module(f"benchmarks.{name}").measure(quick)
    flag = " --quick" if quick else " --write" if write else ""
    run = page.Run(
        command=f"python -m benchmarks {name}{flag}",
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        seconds=round(time.perf_counter() - began, 1),
        machine=page.machine(),
        cores=page.cores(),
        threads=torch.get_num_threads(),
        load=(round(before, 2), round(os.getloadavg()[0], 2)),
        versions=page.versions(section.packages),
    )
    result = page.Result(section, run)
    print(page.aims([result]), page.part(result), sep="\n")
    if write:
        page.RESULTS.mkdir(exist_ok=True)
        file = page.RESULTS / f"{name}.json"
        file.write_text(result.as_text(), encoding="utf-8")
        page.write(SECTIONS)


def refused(given: argparse.Namespace) -> str:
    """Why what is asked for cannot be done, or ""."""
    unknown = [name for name in given.sections if name not in SECTIONS]
    if unknown:
        return f"no section is called {', '.join(unknown)}: {', '.join(SECTIONS)} are."
    if given.quick and given.write:
        return "--write does not go with --quick, whose figures say nothing."
    return ""


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what is asked for; 2 where that cannot be done, 1 where a section failed."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks")
    parser.add_argument("sections", nargs="*", metavar="SECTION", help="all if none")
    parser.add_argument("--list", action="store_true", help="name the sections")
    parser.add_argument("--quick", action="store_true", help="to see that it works")
    parser.add_argument("--write", action="store_true", help="keep it, make the page")
    parser.add_argument("--page", action="store_true", help="make the page, no more")
    given = parser.parse_args(arguments)
    if wrong := refused(given):
        print(wrong, file=sys.stderr)
        return 2
    if given.list:
        print("\n".join(f"{name:12} {what}" for name, what in SECTIONS.items()))
    elif given.page:
        from benchmarks import page

        page.write(SECTIONS)
    elif len(given.sections) == 1:
        measure(given.sections[0], given.quick, given.write)
    else:
        # Each in a process of its own: what one leaves in memory is not another's.
        flags = ["--quick"] * given.quick + ["--write"] * given.write
        codes = [
            subprocess.run(
                [sys.executable, "-m", "benchmarks", name, *flags], check=False
            ).returncode
            for name in given.sections or SECTIONS
        ]
        return int(any(codes))
    return 0


if __name__ == "__main__":
    # Before torch is loaded.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    sys.exit(main())
