"""What a page says, before anything is drawn: plain frozen values.

A run is summarised into a `Document`; `page` makes HTML of it and knows nothing of
runs, and what makes documents knows nothing of HTML.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias, TypeVar

from summiteer.report.charts import Chart


@dataclass(frozen=True)
class Prose:
    """A paragraph.

    Attributes:
        text: plain; what looks like HTML in it is shown as it is.
        tone: "plain", "lead" for what must be read first, "note" for small print,
            "warning".
    """

    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Facts:
    """Names and what they are.

    Attributes:
        pairs: (name, value).
    """

    pairs: "tuple[tuple[str, str | Link], ...]"


@dataclass(frozen=True)
class Plot:
    """A chart with what it shows in words, for those who do not see it.

    Attributes:
        chart: what is drawn.
        words: a text summary; never empty.
    """

    chart: Chart
    words: str

    def __post_init__(self) -> None:
        if not self.words.strip():
            raise ValueError("words: a chart without a summary in words")


@dataclass(frozen=True)
class Picture:
    """A small grey or colour image.

    Attributes:
        source: a data address of a PNG.
        words: what it is.
    """

    source: str
    words: str


@dataclass(frozen=True)
class Link:
    """Text that leads somewhere.

    Attributes:
        text: shown.
        address: "#KEY" for the section with that key, or https://…, which is opened by
            a click, never by itself.
    """

    text: str
    address: str

    def __post_init__(self) -> None:
        if not self.address.startswith(("#", "https://")):
            raise ValueError(f"address: expected #KEY or https://, got {self.address}")


#: A cell of a table: a number is sorted as one and shown with sensible digits.
Value: TypeAlias = str | int | float | bool | Link | Picture | Sequence[Picture] | None


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its head.
        unit: shown behind the name; "%" makes percentages of shares.
        words: what the column is, shown on demand.
    """

    name: str
    unit: str = ""
    words: str = ""


@dataclass(frozen=True)
class Table:
    """Rows that can be sorted, and filtered where there are many.

    Attributes:
        title: its caption.
        columns: heads.
        rows: one value per column each.
        note: below it; which rows were left out, for example.
        filtered: whether a field to filter by is shown.
    """

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]
    note: str = ""
    filtered: bool = False

    def __post_init__(self) -> None:
        wrong = {len(row) for row in self.rows} - {len(self.columns)}
        if wrong:
            raise ValueError(f"rows: {wrong} values for {len(self.columns)} columns")

    def told(self) -> "Table":
        """Without columns that say nothing in any row."""
        kept = [
            place
            for place in range(len(self.columns))
            if any(row[place] not in (None, "") for row in self.rows)
        ]
        columns = tuple(self.columns[place] for place in kept)
        rows = tuple(tuple(row[place] for place in kept) for row in self.rows)
        return replace(self, columns=columns, rows=rows)


@dataclass(frozen=True)
class Code:
    """Text to be copied, or downloaded as a file.

    Attributes:
        text: as it is copied.
        title: what it is.
        file: name it is downloaded under; "" for no button.
    """

    text: str
    title: str = ""
    file: str = ""


@dataclass(frozen=True)
class Node:
    """A circle of a graph.

    Attributes:
        key: within the graph.
        label: short, shown.
        words: what it is, shown when it is chosen.
        address: where it leads, "" for nowhere; an http address is opened by a click,
            never by itself.
        column: from left to right, from 0.
    """

    key: str
    label: str
    words: str
    address: str = ""
    column: int = 0


@dataclass(frozen=True)
class Graph:
    """Circles and arrows between them.

    Attributes:
        title: of it.
        nodes: circles.
        arrows: (from, to), keys of nodes.
        words: a text summary.
        columns: heads of the columns.
    """

    title: str
    nodes: tuple[Node, ...]
    arrows: tuple[tuple[str, str], ...]
    words: str
    columns: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fold:
    """What is closed at first, and open on paper.

    Attributes:
        title: says what is in it.
        blocks: no folds among them.
    """

    title: str
    blocks: "tuple[Block, ...]"


Block: TypeAlias = Prose | Facts | Plot | Table | Code | Graph | Fold
_Kind = TypeVar("_Kind")


@dataclass(frozen=True)
class Section:
    """A part of a page under a heading.

    Attributes:
        title: heading.
        blocks: what stands in it.
        key: by which links find it; "" for its number.
    """

    title: str
    blocks: tuple[Block, ...]
    key: str = ""

    def unfolded(self) -> tuple[Block, ...]:
        """Its blocks, and in place of folds what is in them."""
        found: list[Block] = []
        for block in self.blocks:
            found += block.blocks if isinstance(block, Fold) else (block,)
        return tuple(found)


@dataclass(frozen=True)
class Document:
    """A page.

    Attributes:
        title: of the page.
        lead: what must be seen first, in sentences that are true by themselves.
        sections: the rest.
        footer: small print at the end.
        facts: a strip of the most important numbers under the lead, (name, value).
    """

    title: str
    lead: tuple[str, ...]
    sections: tuple[Section, ...]
    footer: str = ""
    facts: Mapping[str, str] | None = None

    def blocks(self, kind: type[_Kind]) -> list[_Kind]:
        """What there is of a kind of blocks, from above; those in folds too.

        Args:
            kind: of them.
        """
        every = (block for section in self.sections for block in section.unfolded())
        return [block for block in every if isinstance(block, kind)]
