"""Directives made of summiteer.bibliography: `works`, all of it; `citation`, BibTeX."""

from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx.application import Sphinx

from summiteer.bibliography import (
    METHODS,
    PAPER,
    REFERENCES,
    SELF,
    SUMMITEER,
    Reference,
    cited,
)


class Works(Directive):
    """A definition list: the key, which code and pages cite, and the work."""

    def run(self) -> list[nodes.Node]:
        """One entry per work, in the order of the keys."""
        document = self.state.document
        entries = nodes.definition_list()
        for key, work in sorted(REFERENCES.items()):
            name = nodes.fully_normalize_name(key)
            term = nodes.term("", "", nodes.strong(key, key), ids=[name], names=[name])
            document.note_explicit_target(term)
            said = nodes.paragraph("", f"{work.line()} ")
            said += nodes.reference("", _said(work), refuri=work.address)
            parts = [said]
            uses = [method.name for method in METHODS if key in method.works]
            if uses:
                parts.append(nodes.paragraph("", f"Behind: {'; '.join(uses)}."))
            entries += nodes.definition_list_item(
                "", term, nodes.definition("", *parts)
            )
        return [entries]


class Citation(Directive):
    """How to cite Summiteer and the paper, as BibTeX."""

    def run(self) -> list[nodes.Node]:
        """One literal block."""
        text = cited({SELF: SUMMITEER, PAPER: REFERENCES[PAPER]}, "bibtex")
        return [nodes.literal_block(text, text, language="bibtex")]


def _said(work: Reference) -> str:
    return f"doi:{work.doi}" if work.doi else f"arXiv:{work.arxiv}"


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directives."""
    app.add_directive("works", Works)
    app.add_directive("citation", Citation)
    return {"parallel_read_safe": True}
