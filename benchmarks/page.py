"""docs/benchmarks.md: a table of aims, then a part for each stored result."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from benchmarks.section import Line, Section, table

PAGE = Path(__file__).parent.parent / "docs" / "benchmarks.md"
RESULTS = Path(__file__).parent / "results"
#: The heading from which on the page is `benchmarks.strength`'s.
STRENGTH = "## Strength"
#: Names under which packages are installed, where they are called otherwise here.
PACKAGES = {"ART": "adversarial-robustness-toolbox", "APGD": "pyautoattack"}


@dataclass(frozen=True)
class Run:
    """How a section was measured.

    Attributes:
        command: that measures it again.
        date: of its end, UTC.
        seconds: that it took by the wall.
        machine: processor, system, Python; the GPU where there is one.
        cores: that the process may use.
        threads: of torch.
        load: averages over the last minute, before and after.
        versions: package -> version, or "not installed".
    """

    command: str
    date: str
    seconds: float
    machine: str
    cores: int
    threads: int
    load: tuple[float, float]
    versions: Mapping[str, str]


@dataclass(frozen=True)
class Result:
    """A section and how it was measured: a file in `RESULTS`."""

    section: Section
    run: Run

    def as_text(self) -> str:
        """The content of its file."""
        return json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def of(cls, text: str) -> "Result":
        """What a file holds."""
        found = json.loads(text)
        section: dict[str, Any] = found["section"]
        section["lines"] = [Line(**line) for line in section["lines"]]
        section["packages"] = tuple(section["packages"])
        run = found["run"]
        return cls(Section(**section), Run(**{**run, "load": tuple(run["load"])}))


def machine() -> str:
    """Processor, system, Python; the GPU where there is one."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [x for x in info.read_text().splitlines() if x.startswith("model name")]
        cpu = names[0].split(":")[1].strip() if names else cpu
    if torch.cuda.is_available():
        cpu += f", {torch.cuda.get_device_name()}"
    return f"{cpu}, {platform.system()}, Python {platform.python_version()}"


def version(name: str) -> str | None:
    """Of an installed package, or None."""
    try:
        return importlib.metadata.version(PACKAGES.get(name, name))
    except importlib.metadata.PackageNotFoundError:
        return None


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of the packages that count, this one and torch first."""
    names = ["summiteer", "torch", *packages]
    return {name: version(name) or "not installed" for name in names}


def cores() -> int:
    """That this process may use."""
    known = getattr(os, "sched_getaffinity", None)
    return len(known(0)) if known else os.cpu_count() or 1


INTRODUCTION = """# Benchmarks

Written by `python -m benchmarks --write`; `--list` names its sections, and
`python -m benchmarks SECTION --write` measures one anew. Contestants do the same work,
which is checked before anything is timed, and take turns (A B A B); ratios are of
medians, with the least and the largest ratio of single rounds. One thread unless a
section says otherwise. Nothing here is timed in the tests. Each line of the first table
was measured as its section says at its end; what is not reached is "no", and the
section says why.
"""
_REACHED = {True: "yes", False: "**no**", None: ""}


def aims(results: Iterable[Result]) -> str:
    """The table of what was asked for and what was found, or ""."""
    rows = [
        (
            line.what,
            line.aim,
            line.measured,
            _REACHED[line.reached],
            f"{result.run.machine.partition(',')[0]}, {result.run.date}",
        )
        for result in results
        for line in result.section.lines
    ]
    head = ("what", "aim", "measured", "reached", "where, when")
    return f"## Aims\n\n{table(head, rows)}\n" if rows else ""


def page(results: Sequence[Result], old: str = "") -> str:
    """The page: aims, the parts in the order given, what other programs wrote.

    Args:
        results: of the sections.
        old: the page as it is.
    """
    rest = "".join(old.partition(STRENGTH)[1:])
    parts = [INTRODUCTION, aims(results), *map(part, results), rest]
    return "\n".join(filter(None, parts))


def write(order: Iterable[str]) -> None:
    """docs/benchmarks.md from all that is kept, in the order of the names given."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    PAGE.write_text(page(stored(order), old), encoding="utf-8")


def part(result: Result) -> str:
    """A section, and at its end how it was measured."""
    section, run = result.section, result.run
    known = ", ".join(f"{name} {number}" for name, number in run.versions.items())
    before, after = run.load
    told = (
        f"`{run.command}`, {run.date}, {run.seconds:.0f} s: {run.machine}; "
        f"{run.cores} cores, threads: {run.threads}, load {before:.1f} before and "
        f"{after:.1f} after; {known}."
    )
    return f"## {section.title}\n\n{section.text.strip()}\n\nMeasured by {told}\n"


def stored(order: Iterable[str]) -> list[Result]:
    """What is kept, in the order of the names given; others follow."""
    found = {path.stem: path for path in sorted(RESULTS.glob("*.json"))}
    names = [name for name in order if name in found]
    names += [name for name in found if name not in names]
    return [Result.of(found[name].read_text(encoding="utf-8")) for name in names]
