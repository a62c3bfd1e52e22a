"""Code that names a public object or a work leads there: `sm.attack`, a key."""

import re

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

import summiteer
from summiteer.bibliography import REFERENCES

_NAME = re.compile(r"(?:sm\.|summiteer\.)?([A-Za-z_]\w*)(?:\(.*\))?$", re.DOTALL)


def _target(text: str) -> tuple[str, str, str] | None:
    """(domain, kind, name) of what code names, or None."""
    if text in REFERENCES:
        return "std", "ref", text
    named = _NAME.match(text)
    # `attack` alone may be the command.
    plain = text[:1].islower() and not text.startswith(("sm.", "summiteer."))
    if named and not plain and named[1] in summiteer.__all__:
        return "py", "obj", f"summiteer.{named[1]}"
    return None


def _link(app: Sphinx, doctree: nodes.document) -> None:
    here = app.env.docname if hasattr(app.env, "docname") else ""
    for literal in list(doctree.findall(nodes.literal)):
        if any(
            isinstance(parent, nodes.reference | addnodes.pending_xref | nodes.title)
            for parent in _parents(literal)
        ):
            continue
        target = _target(literal.astext())
        if target is None:
            continue
        domain, kind, name = target
        link = addnodes.pending_xref(
            "",
            refdomain=domain,
            reftype=kind,
            reftarget=name,
            refexplicit=True,
            refwarn=True,
            refdoc=here,
        )
        literal.replace_self(link)
        link += literal


def _parents(node: nodes.Node) -> list[nodes.Node]:
    found = []
    while node.parent is not None:
        node = node.parent
        found.append(node)
    return found


def setup(app: Sphinx) -> dict[str, bool]:
    """After a page was read, before its references are resolved."""
    app.connect("doctree-read", _link)
    return {"parallel_read_safe": True}
