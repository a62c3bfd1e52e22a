"""Figures for papers: what the charts say, one column wide, the same bytes again."""

import os
import re
import subprocess
import sys
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest

from summiteer.cli.report import KINDS
from summiteer.report.charts import Axis, Bars, Lines, Mark, Part, Series
from summiteer.report.document import Document, Fold, Plot, Prose, Section
from test_page import (
    BARS,
    CHARTS,
    CURVE,
    HEIGHTS,
    LINES,
    MAP,
    SPACE,
    document,
)

pytest.importorskip("matplotlib", reason="Matplotlib is not installed: no figures")

from summiteer.report.matplotlib_charts import figure, save
from summiteer.report.static_figures import slug, write_figures

COLUMN = 3.3
EVERY = (*CHARTS, replace(LINES, title="cost $5 <b> & $6"))


def drawn(made):
    """What the figure looks like: laid out, as when it is saved."""
    made.draw_without_rendering()
    return made


@pytest.mark.parametrize("chart", EVERY, ids=lambda chart: chart.title)
def test_one_column_wide(chart):
    made = figure(chart)
    assert made.get_size_inches()[0] == pytest.approx(COLUMN)


def test_lines_show_the_numbers_with_gaps_and_band():
    (axes,) = drawn(figure(LINES)).axes
    curve = axes.lines[0]
    np.testing.assert_array_equal(curve.get_xdata(), CURVE.x)
    np.testing.assert_array_equal(curve.get_ydata(), [1.0, np.nan, 3.0])
    corners = np.concatenate([p.vertices for p in axes.collections[0].get_paths()])
    assert corners[:, 1].min() == 0.5
    assert corners[:, 1].max() == 4.0
    assert axes.get_xscale() == "log"
    assert axes.get_xlabel() == "step"
    assert list(axes.lines[1].get_xdata()) == [2.0, 2.0]
    assert axes.texts[0].get_text() == "here"


def test_bars_are_stacked_from_above_and_hatched():
    parts = (*BARS.parts, Part("no", (0.5, 0.8)))
    (axes,) = drawn(figure(replace(BARS, parts=parts))).axes
    assert [p.get_width() for p in axes.patches] == [0.5, 0.2, 0.5, 0.8]
    assert [p.get_x() for p in axes.patches] == [0, 0, 0.5, 0.2]
    assert [bool(p.get_hatch()) for p in axes.patches] == [True, True, False, False]
    assert [t.get_text() for t in axes.get_yticklabels()] == ["all", "some"]
    low, high = axes.get_ylim()
    assert low > high  # the first bar is at the top


def test_surfaces_show_heights_and_tracks():
    axes, bar = drawn(figure(MAP)).axes
    assert [line.get_label() for line in axes.lines] == ["way", "end"]
    assert bar.get_ylabel() == "z"
    known = [v for row in HEIGHTS for v in row if v is not None]
    assert axes.collections[0].get_clim() == (min(known), max(known))
    space = drawn(figure(SPACE)).axes[0]
    assert space.name == "3d"
    assert [line.get_label() for line in space.lines] == ["way", "end"]


@pytest.mark.parametrize("heights", [((1.0, 1.0),) * 2, ((None, None),) * 2])
@pytest.mark.parametrize("space", [False, True])
def test_a_surface_that_is_flat_or_unknown_is_drawn(heights, space):
    drawn(figure(replace(MAP, heights=heights, space=space)))


@pytest.mark.parametrize(
    "chart",
    [
        Lines("none", Axis("x"), Axis("y"), ()),
        Lines("no logarithm", Axis("x", log=True), Axis("y", log=True), (
            Series("", (-1.0, 0.0, None), (0.0, -2.0, None)),
        )),
        Lines("at one", Axis("x"), Axis("y"), (Series("", (1.0,), (None,)),)),
        Lines("marked", Axis("x"), Axis("y"), (), (Mark(1.0, "m", along="y"),)),
        Bars("none", Axis("x"), (), ()),
        replace(MAP, title="no tracks", tracks=()),
    ],
    ids=lambda chart: chart.title,
)  # fmt: skip
def test_what_has_little_to_show_is_drawn(chart):
    drawn(figure(chart))


def test_ticks_spans_and_names_that_are_given():
    curves = (replace(CURVE, name="a"), replace(CURVE, name="b", look="points"))
    ticks = Axis("c", log=True, ticks=(0.1, 1.0, 10.0), span=(0.05, 20.0))
    chart = Lines("t", ticks, Axis("y", span=(0.0, 5.0)), curves)
    made = drawn(figure(chart))
    (axes,) = made.axes
    assert [t.get_text() for t in axes.get_xticklabels()] == ["0.1", "1", "10"]
    assert axes.get_xlim() == (0.05, 20.0)
    assert axes.get_ylim() == (0.0, 5.0)
    assert [t.get_text() for t in made.legends[0].get_texts()] == ["a", "b"]


@pytest.mark.parametrize("chart", EVERY, ids=lambda chart: chart.title)
def test_nothing_sticks_out_of_the_column(chart):
    made = drawn(figure(chart))
    box = made.get_tightbbox()
    slack = 0.05
    assert box.x0 > -slack
    assert box.x1 < COLUMN + slack


_SAVE = """
import sys
from pathlib import Path
from test_figures import write_every
write_every(Path(sys.argv[1]))
"""


def write_every(folder):
    for number, chart in enumerate(EVERY):
        for kind in KINDS:
            save(chart, "words <b> & $x$", folder / f"{number}.{kind}")


def test_the_same_bytes_in_every_process(tmp_path):
    """Neither sets, which Python orders at random, nor the reader's settings."""
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    ours.mkdir()
    theirs.mkdir()
    write_every(ours)
    settings = tmp_path / "matplotlibrc"
    settings.write_text("font.size: 20\naxes.grid: True\nsvg.fonttype: none\n")
    others = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "PYTHONHASHSEED": "7",
        "MATPLOTLIBRC": str(settings),
        "SOURCE_DATE_EPOCH": "0",
    }
    command = [sys.executable, "-c", _SAVE, str(theirs)]
    subprocess.run(command, env=os.environ | others, check=True)
    one, other = ({p.name: p.read_bytes() for p in d.iterdir()} for d in (ours, theirs))
    assert len(one) == len(EVERY) * len(KINDS)
    assert one == other


def test_fonts_are_embedded_and_words_are_kept(tmp_path):
    words = "falls <b> & rises"
    for kind in KINDS:
        save(LINES, words, tmp_path / f"a.{kind}")
    pdf = (tmp_path / "a.pdf").read_bytes()
    # A TrueType font's own file is in it; nothing says when it was made.
    assert b"/FontFile2" in pdf
    assert b"/Type3" not in pdf
    assert b"CreationDate" not in pdf
    svg = (tmp_path / "a.svg").read_text()
    root = ElementTree.fromstring(svg)
    assert words in [node.text for node in root.iter()]
    assert not re.search(r"<text|font-family", svg)
    png = (tmp_path / "a.png").read_bytes()
    assert words.encode() in png
    assert b"Software" not in png
    width = int.from_bytes(png[16:20], "big")
    assert width == COLUMN * 300


def test_a_dollar_is_a_dollar(tmp_path):
    named = Series("$5 and \\frac$", (1.0, 2.0), (1.0, 2.0))
    chart = Lines("$t$", Axis("$x$"), Axis("y"), (named, CURVE))
    made = drawn(figure(chart))
    assert made.axes[0].get_xlabel() == r"\$x\$"
    save(chart, "w", tmp_path / "a.pdf")
    assert (tmp_path / "a.pdf").stat().st_size > 0


def test_files_are_numbered_and_named_after_their_titles(tmp_path):
    places = write_figures(document("Robust/clean λ⁺ <b>"), tmp_path / "figures", "svg")
    names = [place.name for place in places]
    assert names == [
        "01-curves.svg",
        "02-parts.svg",
        "03-map.svg",
        "04-space.svg",
        "05-robust-clean-b.svg",
        "06-robust-clean-b.svg",
    ]
    assert all(place.stat().st_size > 1000 for place in places)
    bare = Document("t", (), (Section("s", (Prose("p"),)),))
    assert write_figures(bare, tmp_path / "none", "svg") == ()
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize(
    ("title", "name"),
    [("λ", "figure"), ("../../etc", "etc"), ("a" * 99, "a" * 50), ("É 1 %", "e-1")],
)
def test_names_of_files_are_plain(title, name):
    assert slug(title) == name


def test_charts_in_folds_are_drawn_too(tmp_path):
    plot = Plot(LINES, "words")
    folded = Document("t", (), (Section("s", (Fold("f", (plot,)),)),))
    assert len(write_figures(folded, tmp_path, "png")) == 1
