"""Findings on 80 columns: what was seen, what it does, what to do."""

from collections.abc import Mapping, Sequence
from textwrap import fill
from typing import Any

_LABELS = (("effect", "effect  "), ("remedy", "remedy  "))
#: Ids shown of a finding's examples.
_SHOWN = 8


def findings_text(findings: Sequence[Mapping[str, Any]], width: int = 80) -> str:
    """Return the findings of result.json as text, '' if there are none.

    Args:
        findings: entries as `Finding.as_json` makes them.
        width: columns.
    """
    return "\n".join(finding_text(finding, width) for finding in findings)


def finding_text(finding: Mapping[str, Any], width: int = 80) -> str:
    """Return one finding: its code and what was seen, then effect, remedy, examples.

    Args:
        finding: as `Finding.as_json` makes it.
        width: columns.
    """
    code, seen = finding["code"], finding["seen"]
    lines = [_wrapped("! ", f"[{code}] {seen}.", width)]
    for key, label in _LABELS:
        if finding[key]:
            lines.append(_wrapped(f"  {label}", f"{finding[key]}.", width))
    ids = finding["examples"]
    if ids:
        rest = len(ids) - _SHOWN
        more = f" and {rest} more" if rest > 0 else ""
        shown = ", ".join(str(i) for i in ids[:_SHOWN])
        lines.append(_wrapped("  ids     ", f"{shown}{more}", width))
    return "\n".join(lines)


def _wrapped(first: str, text: str, width: int) -> str:
    return fill(
        text,
        width,
        initial_indent=first,
        subsequent_indent=" " * len(first),
        break_on_hyphens=False,
    )
