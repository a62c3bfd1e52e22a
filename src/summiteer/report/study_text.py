"""How far a study is and what failed, for a terminal."""

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from summiteer.report.wording import plural
from summiteer.studies.experiment import Experiment

#: So many failures are shown after a run; `status` shows more.
_AFTER_A_RUN, _IN_STATUS = 3, 20


def begun_text(cells: int, done: int, failed: int, again: bool) -> str:
    """What is said at the beginning of a run.

    Args:
        cells: of the study.
        done: of them, those that are not run.
        failed: those whose record is that of a failure.
        again: whether these are run again.
    """
    parts = [f"{cells} cells"]
    if done:
        left = f" ({failed} failed)" if failed and not again else ""
        parts.append(f"{done} of them already{left}")
    if failed and again:
        parts.append(f"{failed} failed {'one' if failed == 1 else 'ones'} again")
    return ", ".join(parts)


def failures_text(failures: Sequence[Mapping[str, Any]], directory: Path) -> str:
    """What is said at the end of a run in which cells failed.

    Args:
        failures: of `studies.status.study_status`.
        directory: of the run.
    """
    return "\n".join(
        [
            f"{plural(len(failures), 'cell')} failed; the others went on:",
            *_lines(failures, _AFTER_A_RUN),
            "--retry-failed runs them again; tracebacks: "
            f"summiteer study status {shlex.quote(str(directory))} --tracebacks",
        ]
    )


def status_text(found: Mapping[str, Any], tracebacks: bool = False) -> str:
    """What `summiteer study status` prints.

    Args:
        found: by `studies.status.study_status`.
        tracebacks: whether those of failed cells are shown, equal ones once.
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
        if tracebacks:
            lines += _tracebacks(found["failures"])
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


def _tracebacks(failures: Sequence[Mapping[str, Any]]) -> list[str]:
    """Each traceback once, with how many cells ended in it."""
    counts = Counter(str(failure["traceback"]).strip() for failure in failures)
    return [
        line
        for text, count in counts.most_common()
        for line in (f"traceback of {plural(count, 'cell')}:", text)
    ]
