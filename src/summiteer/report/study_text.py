"""How far a study is and what failed, for a terminal."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from summiteer.studies.experiment import Experiment

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


def experiments_text(experiments: Iterable[Experiment]) -> str:
    """Names and what they measure.

    Args:
        experiments: all that there are.
    """
    return "\n".join(f"{each.name:16} {each.summary}" for each in experiments)


def parameters_text(experiment: Experiment) -> str:
    """The parameters of an experiment, with defaults and limits, and its columns.

    Args:
        experiment: any.
    """
    schema = experiment.parameters.model_json_schema()
    lines = [f"{experiment.name}: {experiment.summary}"]
    for name, about in schema["properties"].items():
        default = (
            json.dumps(about["default"]) if "default" in about else "(to be given)"
        )
        lines.append(f"  {name:14} {default:20} {_kind(about)}".rstrip())
    if experiment.columns:
        lines += ["measured, the columns of a table beside the parameters:"]
        lines += [f"  {name:18} {about}" for name, about in experiment.columns.items()]
    return "\n".join(lines)


def _kind(about: Mapping[str, Any]) -> str:
    """What a parameter may be, in a few words."""
    if "enum" in about or "const" in about:
        return ", ".join(str(each) for each in about.get("enum", [about.get("const")]))
    if about.get("type") == "array":
        return f"list of: {_kind(about.get('items', {}))}"
    limits = [
        f"{sign} {about[key]}"
        for key, sign in (
            ("exclusiveMinimum", ">"),
            ("minimum", "≥"),
            ("exclusiveMaximum", "<"),
            ("maximum", "≤"),
        )
        if key in about
    ]
    return " ".join([str(about.get("type", "")), *limits])


def _lines(failures: Sequence[Mapping[str, Any]], most: int) -> list[str]:
    lines = []
    for failure in failures[:most]:
        values = ", ".join(f"{k} {v}" for k, v in failure["parameters"].items())
        lines.append(f"  {values or failure['cell']}: {failure['error']}")
    if failures[most:]:
        lines.append(f"  and {len(failures) - most} more")
    return lines
