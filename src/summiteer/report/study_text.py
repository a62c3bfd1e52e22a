"""How far a study is and what failed, for a terminal."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: So many failures are shown after a run; `status` shows more.
_AFTER_A_RUN, _IN_STATUS = 3, 20


def failures_text(failures: Sequence[Mapping[str, Any]], directory: Path) -> str:
    """What is said at the end of a run in which cells failed.

    Args:
        failures: of `studies.status.study_status`.
        directory: of the run.
    """
    count = len(failures)
    told = "1 cell failed" if count == 1 else f"{count} cells failed"
    return "\n".join(
        [
            f"{told}; the others went on:",
            *_lines(failures, _AFTER_A_RUN),
            f"--retry-failed runs them again; tracebacks are in {directory}/"
            "store.sqlite, parameters in result.json.",
        ]
    )


def status_text(found: Mapping[str, Any]) -> str:
    """What `summiteer study status` prints.

    Args:
        found: by `studies.status.study_status`.
    """
    cells = found["cells"]
    left = found["seconds_left"]
    lines = [
        f"study {found['name']} (experiment {found['experiment']}, run {found['run']}) "
        f"in {found['directory']}",
        f"{cells['done']} of {cells['planned']} cells done, {cells['failed']} failed, "
        f"{cells['missing']} missing",
        f"at work: {found['at_work'] or 'nobody'}",
        f"computing: {found['seconds']:.1f} s of one process so far"
        + (f", about {left:.1f} s left" if left else ""),
    ]
    if found["failures"]:
        lines += ["failed:", *_lines(found["failures"], _IN_STATUS)]
    if found["changes"]:
        lines += ["the file has changed since:"]
        lines += [f"  {change}" for change in found["changes"]]
    return "\n".join(lines)


def _lines(failures: Sequence[Mapping[str, Any]], most: int) -> list[str]:
    lines = []
    for failure in failures[:most]:
        values = ", ".join(f"{k} {v}" for k, v in failure["parameters"].items())
        lines.append(f"  {values or failure['cell']}: {failure['error']}")
    if failures[most:]:
        lines.append(f"  and {len(failures) - most} more")
    return lines
