"""What the tests of every page look for."""

from summiteer.report.document import Plot
from summiteer.report.page import page

#: HTML, and what ends a script, an attribute or a template.
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"


def plots(document):
    """Title -> plot."""
    return {plot.chart.title: plot for plot in document.blocks(Plot)}


def assert_shown_as_text(make):
    """What is `HOSTILE` in the document is text on its page, whose bytes are the same.

    Args:
        make: of the document.
    """
    html = page(make())
    assert html == page(make())
    # What is ours: figures, plotly.js, the page's own script.
    assert html.count("<script") == 3
    assert "<img src=x" not in html
    assert "&lt;img src=x" in html
