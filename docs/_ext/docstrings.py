"""Docstrings are plain text with code in single backticks: make them reStructuredText.

The mathematics in them is written with its own letters: δ*, |t|, l_i. These mean other
things in reStructuredText and are escaped; `code` becomes ``code``.
"""

import re
from typing import Any

from sphinx.application import Sphinx

#: What means something in reStructuredText and nothing in our docstrings.
_MARKUP = re.compile(r"([*|\\]|(?<=\w)_(?!\w))")
_CODE = re.compile(r"(?<!`)`([^`]+)`(?!`)")


def as_restructured(text: str) -> str:
    """One docstring, its lines kept.

    Args:
        text: as it is in the source.

    Returns:
        The same with code and letters marked as reStructuredText wants them.
    """
    parts = _CODE.split(text)
    # Odd parts are code. A literal may not run over the end of a line with blanks, so
    # it is joined to one line; the line break follows it.
    for number, part in enumerate(parts):
        if number % 2:
            breaks = part.count("\n")
            inner = re.sub(r"\s*\n\s*", " ", part)
            parts[number] = f"``{inner}``" + _break(parts, number, breaks)
        else:
            parts[number] = _MARKUP.sub(r"\\\1", part)
    return "".join(parts)


def _break(parts: list[str], number: int, breaks: int) -> str:
    """The line break that the code held, with the indentation that it had."""
    if not breaks:
        return ""
    follows = parts[number + 1]
    indent = re.search(r"\n( *)", parts[number])
    # Punctuation stays with the code.
    mark = re.match(r"[.,;:)\]]*", follows)
    kept = mark[0] if mark else ""
    parts[number + 1] = follows[len(kept) :].lstrip(" ")
    return kept + "\n" + (indent[1] if indent else "")


def _process(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    lines[:] = as_restructured("\n".join(lines)).split("\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Before napoleon, which reads the sections (priority 500)."""
    app.connect("autodoc-process-docstring", _process, priority=400)
    return {"parallel_read_safe": True}
