"""Findings on 80 columns: what was seen, what it does, what to do."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

_WIDTH = 80
#: Ids shown of a finding's examples.
_SHOWN = 8


def findings_text(findings: Sequence[Mapping[str, Any]]) -> str:
    """Return the findings of result.json as text, '' if there are none.

    Args:
        findings: entries as `Finding.as_json` makes them.
    """
    return "\n".join(line for finding in findings for line in _lines(finding))


def _lines(finding: Mapping[str, Any]) -> list[str]:
    """Its code and what was seen, then effect, remedy, examples."""
    lines = [_wrapped("! ", f"[{finding['code']}] {finding['seen']}.")]
    lines += [
        _wrapped(f"  {key}  ", f"{finding[key]}.")
        for key in ("effect", "remedy")
        if finding[key]
    ]
    ids = finding["examples"]
    if ids:
        more = f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else ""
        lines.append(_wrapped("  ids     ", ", ".join(map(str, ids[:_SHOWN])) + more))
    return lines


def _wrapped(first: str, text: str) -> str:
    rest = " " * len(first)
    return fill(first + text, _WIDTH, subsequent_indent=rest, break_on_hyphens=False)
