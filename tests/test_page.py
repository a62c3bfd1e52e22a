"""Pages of plain documents: what is shown, escaped, sorted, and never asked for."""

import json
import re
from dataclasses import replace

import pytest

from page_checks import HOSTILE
from summiteer.report.charts import (
    Axis,
    Bars,
    Lines,
    Mark,
    Part,
    Series,
    Surface,
    Track,
)
from summiteer.report.document import (
    Code,
    Column,
    Document,
    Facts,
    Fold,
    Graph,
    Node,
    Picture,
    Plot,
    Prose,
    Section,
    Table,
)
from summiteer.report.page import page, shown, sorted_by
from summiteer.report.palette import COLOURS, PAPER
from summiteer.report.plotly_charts import figure

CURVE = Series(
    "one", (1.0, 2.0, 3.0), (1.0, None, 3.0), (0.5, None, 2.0), (2.0, None, 4.0)
)
LINES = Lines(
    "curves", Axis("step", log=True), Axis("loss"), (CURVE,), (Mark(2.0, "here"),)
)
BARS = Bars(
    "parts", Axis("share"), ("all", "some"), (Part("yes", (0.5, 0.2), pattern=True),)
)
HEIGHTS = ((0.0, 1.0), (1.0, None))
TRACKS = (
    Track("way", (0.0, 1.0), (0.0, 1.0), (0.0, 1.0)),
    Track("end", (1.0,), (1.0,), (1.0,), look="points"),
)
AXES = Axis("x"), Axis("y"), Axis("z")
MAP = Surface("map", *AXES, (0.0, 1.0), (0.0, 1.0), HEIGHTS, TRACKS)
SPACE = Surface("space", *AXES, (0.0, 1.0), (0.0, 1.0), HEIGHTS, TRACKS, space=True)
CHARTS = (LINES, BARS, MAP, SPACE)


def document(text="plain"):
    dot = Picture("data:image/png;base64,AAAA", text)
    rows = ((text, 1, 0.25, None, dot), ("b", 2, float("nan"), True, (dot, dot)))
    columns = (
        Column(text, words=text),
        Column("n"),
        Column("share", "%"),
        Column("q"),
        Column("p"),
    )
    nodes = (
        Node("a", text, text, "https://example.org/?a=1&b=2"),
        Node("b", "B", "b", column=1),
    )
    blocks = (
        Prose(text),
        Facts(((text, text),)),
        *(Plot(chart, f"words {text}") for chart in CHARTS),
        Plot(
            Lines(text, Axis(text), Axis(text), (Series(text, (1.0,), (1.0,)),)), text
        ),
        Table(text, columns, rows, text, filtered=True),
        Table("", columns, rows),
        Code(text, text, "a.bib"),
        Graph(text, nodes, (("a", "b"),), text, (text, text)),
    )  # fmt: skip
    curve = Lines(text, Axis(text), Axis(text), (Series("", (1.0,), (1.0,)),))
    fold = Fold(text, (Prose(text), Plot(curve, "folded")))
    sections = (Section(text, blocks), Section("folded", (fold,)))
    return Document(text, (text,), sections, text, {text: text})


def test_the_same_document_gives_the_same_bytes():
    assert page(document()) == page(document())


def test_hostile_text_is_shown_as_text():
    html = page(document(HOSTILE))
    # What is ours: the style, three scripts; nothing of the text is an element.
    assert html.count("<script") == 3
    assert "<img src=x" not in html
    assert "49" not in html.split("<nav")[0]
    assert html.count("&lt;/script&gt;") > 10
    embedded = re.search(r'id="figures">(.*?)</script>', html, re.DOTALL)
    assert "<" not in embedded[1]
    titles = [each["layout"]["meta"]["title"] for each in json.loads(embedded[1])]
    assert titles == [*(chart.title for chart in CHARTS), HOSTILE, HOSTILE]


def test_nothing_is_asked_of_any_network():
    html = page(document())
    own = html.replace(
        html[
            html.index("/**\n* plotly.js") : html.index(
                "</script>", html.index("/**\n* plotly.js")
            )
        ],
        "",
    )
    assert "default-src 'none'" in html
    addresses = re.findall(r"(?:src|href)=\"([^\"]+)\"", own)
    assert all(
        each.startswith(("data:", "#", "https://example.org")) for each in addresses
    )
    assert not re.search(r"@import|url\(", own)


def test_plotly_is_embedded_once_and_only_where_there_is_a_chart():
    assert page(document()).count("plotly.js v") == 1
    bare = page(Document("t", (), (Section("s", (Prose("p"),)),)))
    assert "plotly.js v" not in bare
    assert len(bare) < 20_000


def test_a_chart_without_words_is_refused():
    with pytest.raises(ValueError, match="words"):
        Plot(LINES, " ")


def test_a_row_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="1 columns"):
        Table("t", (Column("a"),), ((1, 2),))


@pytest.mark.parametrize(
    ("value", "unit", "expected"),
    [
        (None, "", "–"),
        (0.123456, "", "0.1235"),
        (0.123456, "%", "12.3"),
        (True, "", "yes"),
        (7, "", "7"),
        (float("inf"), "", "∞"),
        (float("nan"), "", "–"),
        ("a", "", "a"),
    ],
)
def test_values_are_shown_with_sensible_digits(value, unit, expected):
    assert shown(value, unit) == expected


def test_no_line_ends_within_a_small_number():
    text = "at most 1e-15 < 2"
    plot = Plot(LINES, text)
    html = page(Document("t", (text,), (Section("s", (Prose(text), plot)),)))
    whole = 'at most <span class="whole">1e-15</span> &lt; 2'
    # The figure's place says it to those who do not see it, as it is.
    assert (html.count(whole), html.count("at most 1e-15 &lt; 2")) == (3, 1)


def test_numbers_are_sorted_as_numbers():
    keys = [
        sorted_by(value) for value in (2, 10, float("inf"), None, float("nan"), "B")
    ]
    assert keys == ["2.0", "10.0", "inf", "", "", "b"]


@pytest.mark.parametrize("chart", CHARTS, ids=lambda chart: chart.title)
def test_figures_show_the_numbers_of_the_chart(chart):
    data = figure(chart).to_plotly_json()["data"]
    if isinstance(chart, Lines):
        band, line = data
        assert list(line["y"]) == list(CURVE.y)
        # Round the band once: there below, back above, without the gap.
        assert list(band["y"]) == [0.5, 2.0, 4.0, 2.0]
    elif isinstance(chart, Bars):
        assert list(data[0]["x"]) == [0.5, 0.2]
        assert data[0]["marker"]["pattern"]["shape"] == "/"
    else:
        assert [list(row) for row in data[0]["z"]] == [list(row) for row in HEIGHTS]
        assert [each["name"] for each in data[1:]] == ["way", "end"]


def test_maps_have_equal_scales_and_the_colours_of_their_span():
    flat = figure(replace(MAP, z=Axis("z", span=(0.0, 0.5)))).to_plotly_json()
    assert flat["layout"]["yaxis"]["scaleanchor"] == "x"
    assert (flat["data"][0]["zmin"], flat["data"][0]["zmax"]) == (0.0, 0.5)


def test_a_stair_keeps_each_value_until_the_next():
    stair = Series("s", (0.0, 1.0), (1.0, 2.0), look="stair")
    (line,) = figure(Lines("t", Axis("x"), Axis("y"), (stair,))).data
    assert line.line.shape == "hv"


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ((1e-12, 1.0), ["10<sup>−12</sup>", "10<sup>−10</sup>", "10<sup>−8</sup>"]),
        ((3.0, 60.0), ["2", "5", "10", "20", "50", "100"]),
        ((1.0, 2.0), ["1", "2", "3", "4"]),
        ((0.0, 0.0), []),
    ],
)
def test_logarithmic_axes_have_ticks_where_values_are(values, ticks):
    curve = Series("", (1.0, 2.0), values)
    made = figure(Lines("t", Axis("x"), Axis("y", log=True), (curve,)))
    assert [*(made.layout.yaxis.ticktext or ())][: len(ticks)] == ticks


def test_columns_that_say_nothing_are_left_out():
    columns = Column("a"), Column("b"), Column("c")
    told = Table("t", columns, ((1, None, ""), (0, "", False))).told()
    assert [column.name for column in told.columns] == ["a", "c"]
    assert told.rows == ((1, ""), (0, False))


def luminance(colour):
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, two):
    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("name", COLOURS)
@pytest.mark.parametrize("paper", PAPER.values())
def test_graphics_stand_out_on_both_papers(name, paper):
    # WCAG 2.2, 1.4.11: at least 3 for graphics.
    assert contrast(COLOURS[name], paper) >= 3


def test_text_stands_out_on_both_papers():
    style = page(Document("t", (), ())).split("<style>")[1].split("</style>")[0]
    themes = {"light": 0, "dark": 1}
    for name in ("ink", "soft", "link", "warn"):
        for theme, place in themes.items():
            colour = re.findall(rf"--{name}: (#\w+)", style)[place]
            full = (
                colour if len(colour) == 7 else "#" + "".join(2 * c for c in colour[1:])
            )
            shade = re.findall(r"--shade: (#\w+)", style)[place]
            # WCAG 2.2, 1.4.3: at least 4.5 for text.
            assert contrast(full, PAPER[theme]) >= 4.5
            assert contrast(full, shade) >= 4.5
