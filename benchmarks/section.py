"""What one benchmark hands to the runner: a part of docs/benchmarks.md."""

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Line:
    """One line of the table of aims.

    Attributes:
        what: is measured.
        aim: what is asked for.
        measured: the figure, with its spread.
        reached: whether the aim is; None where there is none.
    """

    what: str
    aim: str
    measured: str
    reached: bool | None


@dataclass(frozen=True)
class Section:
    """What a benchmark found.

    Attributes:
        title: of its part of the page.
        text: Markdown: what is measured and how, tables, what falls short and why.
        lines: its lines of the table of aims.
        packages: whose versions count, beside summiteer and torch.
    """

    title: str
    text: str
    lines: list[Line] = field(default_factory=list)
    packages: tuple[str, ...] = ()


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """A Markdown table with aligned columns."""
    lines = [list(map(str, row)) for row in (head, *rows)]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    text = [
        "| " + " | ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) + " |"
        for line in lines
    ]
    rule = "|" + "|".join("-" * (width + 2) for width in widths) + "|"
    return "\n".join([text[0], rule, *text[1:]])
