"""The page of `landscape`: every sentence and picture is what the arrays say."""

import json
import math

import numpy as np
import pytest
import torch

from page_checks import HOSTILE, assert_shown_as_text, plots
from planted_landscapes import RADIUS, height, land, peak, planted, slices
from summiteer.report.cut import Cut, kept
from summiteer.report.document import Facts, Prose, Table
from summiteer.report.finished import Finished
from summiteer.report.landscape_document import landscape_document
from summiteer.report.landscape_text import print_landscapes
from summiteer.report.page import shown
from summiteer.report.slice_charts import plane_chart, scale_plots
from summiteer.store import Store


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (
            {},
            ["Example 3: 8 of 8 runs from uniform starts ended at 2 distinct maxima, "
             "1 of them climbed on from where the adversary stopped.",
             "Proved of the number of local maxima: at least 1; there may be more.",
             "One more run ends at a maximum not met yet with an estimated chance of "
             "0.0 %, at most 40.0 % (95 %)."],
        ),
        (
            {"counted": 0, "at_maximum": 0, "count": 0, "at_least": 0, "maxima": [],
             "unseen": None, "unseen_bound": None, "spread": None, "a_priori": None},
            ["Example 3: none of 8 runs from uniform starts ended at a maximum.",
             "Of the number of local maxima nothing is proved."],
        ),
        (
            {"count": 1, "at_maximum": 8, "at_least": 2, "at_most": 2.0,
             "complete": True, "maxima": [peak()]},
            ["Example 3: 8 of 8 runs from uniform starts ended at 1 maximum.",
             "The landscape is completely known: there are 2 local maxima; 1 of them "
             "no run met (proved).",
             "One more run ends at a maximum not met yet with an estimated chance of "
             "0.0 %, at most 40.0 % (95 %)."],
        ),
        (
            {"count": 3, "at_maximum": 8, "at_most": 1.0, "complete": True},
            ["Example 3: 8 of 8 runs from uniform starts ended at 3 places told apart "
             "by distance, which are fewer maxima (proved).",
             "The landscape is completely known: there is 1 local maximum (proved).",
             "One more run ends at a maximum not met yet with an estimated chance of "
             "0.0 %, at most 40.0 % (95 %)."],
        ),
        (
            {"at_most": 4.0, "at_maximum": 8},
            ["Example 3: 8 of 8 runs from uniform starts ended at 2 distinct maxima.",
             "Proved of the number of local maxima: at least 1, at most 4.",
             "One more run ends at a maximum not met yet with an estimated chance of "
             "0.0 %, at most 40.0 % (95 %)."],
        ),
    ],
    ids=["some", "none", "known", "fewer", "bounded"],
)  # fmt: skip
def test_the_headline_of_one_example(tmp_path, changes, expected):
    document = landscape_document(planted(tmp_path / "run", [land(**changes)]))
    assert list(document.lead) == expected


def test_the_headline_of_several_counts_them(tmp_path):
    lands = [
        land(id=1, count=1, maxima=[peak()], complete=True, at_most=1.0),
        land(id=2, count=5, unseen_bound=0.1),
        land(id=7, count=0, maxima=[], unseen=None, unseen_bound=None),
    ]
    lead = landscape_document(planted(tmp_path / "run", lands)).lead
    assert lead == (
        "Runs from uniform starts met a single maximum in 1 of 3 examples; the most, "
        "5, in example 2.",
        "In 1 example no run ended at a maximum.",
        "The landscape is completely known (proved) in 1 of 3.",
        "One more run ends at a maximum not met yet with a chance of at most 10.0 % to "
        "40.0 %, depending on the example (95 %, of each for itself).",
    )


def test_several_of_which_no_run_ended_at_a_maximum(tmp_path):
    none = {"count": 0, "maxima": [], "unseen": None, "unseen_bound": None}
    lands = [land(id=n, **none) for n in (1, 2)]
    lead = landscape_document(planted(tmp_path / "run", lands)).lead
    assert lead[0] == "In 2 examples no run ended at a maximum."


def test_a_share_of_a_negative_objective_is_not_told(tmp_path, capsys):
    lands = [
        land(id=n, maxima=[peak(loss=high), peak(loss=low, runs=2)], spread=spread)
        for n, high, low, spread in ((1, -0.1, -0.3, 2.0), (2, 1.5, 1.2, 0.2))
    ]
    run = planted(tmp_path / "run", lands)
    table = landscape_document(run).blocks(Table)[0]
    place = [column.name for column in table.columns].index("spread")
    assert [row[place] for row in table.rows] == [None, 0.2]
    print_landscapes(run.result, "runs/x")
    said = capsys.readouterr().out
    assert "the lowest maximum's loss is 0.2 below the highest's" in said
    assert "the lowest maximum's loss is 20.0 % below the highest's" in said


def test_bounds_are_rounded_up(tmp_path, capsys):
    bounds = [1 / 3, 0.2001, 0.5]
    lands = [land(id=n, unseen_bound=bound) for n, bound in enumerate(bounds)]
    several = planted(tmp_path / "several", lands)
    assert "at most 20.1 % to 50.0 %" in landscape_document(several).lead[-1]
    table = landscape_document(several).blocks(Table)[0]
    place = [column.name for column in table.columns].index("unseen at most")
    assert [shown(row[place], "%") for row in table.rows] == ["33.4", "20.1", "50.0"]
    single = planted(tmp_path / "single", lands[:1])
    assert "at most 33.4 %" in landscape_document(single).lead[-1]
    print_landscapes(several.result, "runs/x")
    assert "at most 33.4 %" in capsys.readouterr().out


def test_a_plane_is_drawn_as_it_was_evaluated(tmp_path):
    told, arrays = slices()
    run = planted(tmp_path / "run", [land(slices=told)], arrays)
    shown = plots(landscape_document(run))
    space, above = shown["The objective on a plane"], shown["The plane as a map"]
    assert space.chart.space
    assert not above.chart.space
    for chart in (space.chart, above.chart):
        for row, y in zip(chart.heights, chart.rows, strict=True):
            for value, x in zip(row, chart.columns, strict=True):
                assert value == pytest.approx(height(x, y))
    inside = arrays["plane.inside"]
    values = arrays["plane.values"][inside]
    assert f"between {values.min():.4g} and {values.max():.4g}." in space.words
    assert f"{int(inside.sum())} of the 441 points" in space.words
    # The way is thinned, but begins and ends where the run did.
    (way,) = (t for t in space.chart.tracks if t.name == "ways of runs")
    assert len(way.x) == 80
    assert (way.x[0], way.x[-1], way.z[-1]) == (0.0, 1.0, 1.0)
    assert way.texts[-1] == "run 5, step 299"
    assert "came from up to 0.75 beside it" in space.words
    assert "1 proved (filled), 1 numerical (open)" in above.words
    assert "1 of 2 maxima lie beside it, by up to 0.5" in space.words


def test_maxima_are_told_apart_by_symbol_and_colour(tmp_path):
    told, arrays = slices()
    run = planted(tmp_path / "run", [land(slices=told)], arrays)
    (chart,) = (
        block.chart
        for block in plots(landscape_document(run)).values()
        if block.chart.title == "The plane as a map"
    )
    looks = {t.name: (t.symbol, t.colour) for t in chart.tracks if t.look == "points"}
    assert looks == {
        "strict local maximum, proved": ("circle", "green"),
        "strict local maximum, numerical": ("circle-open", "orange"),
        "centre": ("cross", "quiet"),
    }
    kinds = [
        peak(verdict=verdict, evidence=evidence)
        for verdict in ("GLOBAL_MAXIMUM", "STRICT_LOCAL_MAXIMUM", "LOCAL_MAXIMUM")
        for evidence in ("PROVED", "NUMERICAL")
    ]
    cut = Cut.of("plane", told["plane"], arrays)
    symbols = set()
    for place in range(0, 6, 2):
        made = plane_chart(cut, "t", kinds[place : place + 2], space=False)
        symbols |= {t.symbol for t in made.tracks if "maximum," in t.name}
    assert len(symbols) == 6


def test_the_border_of_a_ball_is_a_circle(tmp_path):
    told, arrays = slices()
    cut = Cut.of("plane", told["plane"], arrays, "l2", RADIUS)
    assert np.linalg.norm(cut.border, axis=1) == pytest.approx(RADIUS)
    assert cut.border[0] == pytest.approx(cut.border[-1])
    run = planted(tmp_path / "run", [land(slices=told)], arrays)
    chart = plots(landscape_document(run))["The objective on a plane"].chart
    (track,) = (t for t in chart.tracks if t.name == "border of the region")
    # The heights are on the surface: this one is linear, and bilinear is exact.
    for x, y, z in zip(track.x, track.y, track.z, strict=True):
        assert z == pytest.approx(height(x, y))


def test_the_border_of_a_ball_that_a_box_cuts():
    told, arrays = slices(count=41, box=1.0)
    cut = Cut.of("plane", told["plane"], arrays, "l2", RADIUS)
    border = np.array(cut.border)
    # Known to two ticks at the corners, where both end nearly at once.
    assert border[:, 0].max() <= 1.0 + 2 * 4.4 / 40
    left = border[border[:, 0] < 0.9]
    assert np.linalg.norm(left, axis=1) == pytest.approx(RADIUS)


@pytest.mark.parametrize("norm", [1, math.inf])
def test_the_border_of_other_balls_is_known_to_a_tick(norm):
    told, arrays = slices(count=41, norm=norm)
    cut = Cut.of("plane", told["plane"], arrays, "linf", RADIUS)
    size = np.linalg.norm(cut.border, norm, axis=1)
    assert np.abs(size - RADIUS).max() <= math.sqrt(2) * 4.4 / 40


def test_nothing_allowed_has_no_border_and_says_so(tmp_path):
    told, arrays = slices()
    arrays["plane.inside"] = torch.zeros_like(arrays["plane.inside"])
    run = planted(
        tmp_path / "run",
        [land(slices=told)],
        arrays,
        region={"norm": "linf", "radius": RADIUS, "box": None},
    )
    shown = plots(landscape_document(run))["The objective on a plane"]
    assert "No point of its grid is allowed." in shown.words
    assert "border of the region" not in {t.name for t in shown.chart.tracks}


def test_a_sphere_is_drawn_as_the_border(tmp_path):
    told, arrays = slices()
    arrays["plane.inside"] = torch.zeros_like(arrays["plane.inside"])
    cut = Cut.of("plane", told["plane"], arrays, "sphere", RADIUS)
    assert np.linalg.norm(cut.border, axis=1) == pytest.approx(RADIUS)


def test_a_circle_shows_its_tops_and_the_maxima_on_it(tmp_path):
    told, arrays = slices(count=41)
    run = planted(tmp_path / "run", [land(slices=told)], arrays)
    shown = plots(landscape_document(run))["Round a great circle of the sphere"]
    values = arrays["circle.values"].numpy()[:-1]
    tops = (values > np.roll(values, 1)) & (values > np.roll(values, -1))
    assert int(tops.sum()) == 2  # cos 2φ: at 0, and at ±π, which is one point
    assert "it has 2 tops" in shown.words
    symbols = {each.name: each.symbol for each in shown.chart.series}
    assert symbols["strict local maximum, proved"] == "circle"
    assert symbols["centre"] == "cross"
    names = [each.name for each in shown.chart.series]
    # "maximum 1" lies beside it.
    assert names == ["allowed", "strict local maximum, proved", "centre"]
    assert shown.chart.series[0].y == tuple(arrays["circle.values"].tolist())


def test_what_is_not_allowed_on_a_line_is_dotted(tmp_path):
    told, arrays = slices()
    run = planted(tmp_path / "run", [land(slices={"line": told["line"]})], arrays)
    chart = plots(landscape_document(run))["Along a line"].chart
    allowed, outside = chart.series[:2]
    inside = arrays["line.inside"].tolist()
    assert [v is not None for v in allowed.y] == inside
    assert all(v is not None for v, good in zip(outside.y, inside, strict=True)
               if not good)  # fmt: skip
    assert outside.dash == "dot"


def test_a_line_that_is_an_axis_of_the_plane_is_not_drawn_again(tmp_path):
    told, arrays = slices()
    run = planted(tmp_path / "run", [land(slices=told)], arrays)
    assert "Along a line" not in plots(landscape_document(run))


def test_a_fine_slice_is_thinned_and_says_so(tmp_path):
    told, arrays = slices(count=301)
    run = planted(tmp_path / "run", [land(slices=told)], arrays)
    shown = plots(landscape_document(run))["The objective on a plane"]
    assert len(shown.chart.columns) == 101
    assert shown.chart.columns[-1] == pytest.approx(2.2)
    assert "Of its ticks 101 per axis are drawn" in shown.words


def test_basins_show_shares_with_their_intervals(tmp_path):
    one = land()
    document = landscape_document(planted(tmp_path / "run", [one]))
    shown = plots(document)["Basins: share of the runs"]
    interval, *points = shown.chart.series
    expected = []
    for each in one["maxima"]:
        expected += [*(100 * share for share in each["share_interval"]), None]
    assert list(interval.x) == pytest.approx(expected)
    assert [p.x for p in points] == [(75.0,), (25.0,)]
    assert [p.name for p in points] == [
        "strict local maximum, proved",
        "strict local maximum, numerical",
    ]
    assert "75.0 % of the runs (35.0 % to 97.0 %)" in shown.words
    (table,) = document.blocks(Table)
    heads = [column.name for column in table.columns]
    told = [dict(zip(heads, row, strict=True)) for row in table.rows]
    shares = [(row["share"], row["share from"], row["share to"]) for row in told]
    assert shares == [(0.75, 0.35, 0.97), (0.25, 0.03, 0.65)]
    assert [row["loss"] for row in told] == [1.5, 1.2]


def test_the_largest_basin_may_be_one_that_is_not_drawn(tmp_path):
    maxima = [peak(loss=9 - 0.1 * n, runs=1, share=0.01) for n in range(60)]
    maxima[55] = peak(loss=1.0, runs=41, share=0.41)
    document = landscape_document(planted(tmp_path / "run", [land(maxima=maxima)]))
    words = plots(document)["Basins: share of the runs"].words
    assert "the largest basin, that of maximum 55, 41.0 %" in words
    assert words.endswith("Drawn are the 50 highest of 60.")


def test_a_single_maximum_has_no_chart_of_basins(tmp_path):
    one = land(maxima=[peak(share=1.0, runs=8)], count=1)
    document = landscape_document(planted(tmp_path / "run", [one]))
    assert "Basins: share of the runs" not in plots(document)


def test_where_runs_ended_keeps_proofs_and_measurements_apart(tmp_path):
    verdicts = {"UNDECIDED": {"NUMERICAL": 1}, **land()["verdicts"]}
    document = landscape_document(planted(tmp_path / "run", [land(verdicts=verdicts)]))
    shown = plots(document)["Where the adversary's own runs ended"]
    assert shown.chart.bars == ("strict local maximum", "undecided")
    parts = {part.name: part.values for part in shown.chart.parts}
    assert parts == {"proved": (5.0, 0.0), "numerical": (2.0, 1.0)}
    assert "strict local maximum: 5 proved, 2 numerical; undecided: 1" in shown.words


def test_no_slices_and_why(tmp_path):
    why = "points: 'gradient' lies on the line of those before it."
    empty = landscape_document(planted(tmp_path / "a", [land()]))
    refused = landscape_document(
        planted(tmp_path / "b", [land(no_slices={"plane": why})])
    )
    assert "No slice was asked for." in [each.text for each in empty.blocks(Prose)]
    texts = [each.text for each in refused.blocks(Prose)]
    assert f"There is no plane: {why}" in texts
    assert "No slice was asked for." not in texts


def test_of_many_examples_the_first_are_drawn(tmp_path):
    told, arrays = slices(count=5)
    lands = [land(id=n, slices=told) for n in range(9)]
    document = landscape_document(planted(tmp_path / "run", lands, arrays))
    drawn = [s.title for s in document.sections if s.title.startswith("Example ")]
    assert drawn == [f"Example {n}, target 1" for n in range(6)]
    overview = next(table for table in document.blocks(Table) if len(table.rows) == 9)
    assert "first 6 are drawn" in overview.note


def test_several_radii_have_a_circle_that_says_which(tmp_path):
    told, arrays = slices()
    region = {"norm": "l2", "radius": [1.0, RADIUS], "box": [0.0, 1.0]}
    run = planted(tmp_path / "run", [land(slices=told)], arrays, region=region)
    chart = plots(landscape_document(run))["The objective on a plane"].chart
    (track,) = (t for t in chart.tracks if t.name == "border of the region")
    assert np.hypot(track.x, track.y) == pytest.approx(RADIUS)
    bare = {"plane": told["plane"]}
    run = planted(tmp_path / "b", [land(slices=bare)], arrays, region=region)
    assert "radius 1 to 2" in landscape_document(run).facts["region"]


def test_hostile_names_are_text_and_the_bytes_are_the_same(tmp_path):
    told, arrays = slices(count=5)
    run = planted(
        tmp_path / "run",
        [land(slices=told, target=HOSTILE, no_slices={"circle": HOSTILE})],
        arrays,
        spec={"model": HOSTILE, "data": HOSTILE},
        messages=[HOSTILE],
    )
    assert_shown_as_text(lambda: landscape_document(run))


def test_every_verdict_on_the_page_is_explained(tmp_path):
    verdicts = {"FLAT": {"NUMERICAL": 1}, **land()["verdicts"]}
    document = landscape_document(planted(tmp_path / "run", [land(verdicts=verdicts)]))
    (meanings,) = (s for s in document.sections if s.title == "What the words mean")
    (facts,) = meanings.blocks
    assert isinstance(facts, Facts)
    names = [name for name, _ in facts.pairs]
    assert names == ["strict local maximum", "flat", "proved", "numerical"]


def test_several_scales_stand_beside_each_other():
    told, arrays = slices(count=41)
    found = {}
    for scale, tops in ((10.0, 3), (0.1, 1)):
        angle = arrays["circle.coordinates.0"]
        own = arrays | {"circle.values": 5 + scale * torch.cos(tops * angle)}
        kinds = ("plane", "circle")
        found[scale] = {kind: Cut.of(kind, told[kind], own) for kind in kinds}
    circles, *maps = scale_plots(found)
    assert circles.words == "Round the circle: one top at c = 0.1, 3 tops at c = 10."
    assert [each.name for each in circles.chart.series] == ["c = 0.1", "c = 10"]
    for each in circles.chart.series:
        assert (min(each.y), max(each.y)) == (0.0, 1.0)
    assert [each.chart.title for each in maps] == ["c = 0.1", "c = 10"]
    assert not any(each.chart.wide for each in maps)
    assert scale_plots({}) == ()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_has_no_tops(dtype):
    """An objective that is constant up to rounding, and one with two real tops."""
    told, arrays = slices(count=201)
    angle = arrays["circle.coordinates.0"]
    noise = torch.randn(201, generator=torch.Generator().manual_seed(0)).double()
    noise[-1] = noise[0]
    rough = 5 + 20 * torch.finfo(dtype).eps * noise
    found = {
        scale: {
            "circle": Cut.of(
                "circle", told["circle"], {**arrays, "circle.values": values.to(dtype)}
            )
        }
        for scale, values in ((0.1, rough), (10.0, rough + torch.cos(2 * angle)))
    }
    (circles,) = scale_plots(found)
    assert circles.words == (
        "Round the circle: no top (level up to rounding) at c = 0.1, 2 tops at c = 10."
    )
    assert set(circles.chart.series[0].y) == {0.5}
    assert max(circles.chart.series[1].y) == 1.0


def test_the_range_of_a_plane_is_that_of_its_ticks(tmp_path):
    """A marked maximum may be higher than any tick: nothing is said to be the top."""
    told, arrays = slices()
    arrays["plane.marks.1.losses"] = torch.tensor([99.0]).double()
    run = planted(tmp_path / "run", [land(slices=told)], arrays)
    shown = plots(landscape_document(run))
    inside, values = arrays["plane.inside"], arrays["plane.values"]
    low, high = values[inside].min(), values[inside].max()
    assert (
        f"{int(inside.sum())} of the 441 points drawn are allowed; at these the "
        f"objective lies between {low:.4g} and {high:.4g}."
    ) in shown["The objective on a plane"].words
    assert shown["The plane as a map"].chart.z.span[1] == 99.0


@pytest.mark.parametrize("most", [2, 5, 101])
@pytest.mark.parametrize("count", [1, 2, 5, 6, 300])
def test_what_is_kept_has_both_ends(count, most):
    shown = kept(count, most)
    assert len(shown) == min(count, most)
    assert (shown[0], shown[-1]) == (0, count - 1)
    assert shown == sorted(set(shown))


def test_the_page_of_a_run_says_what_its_arrays_say(tmp_path, run_cli):
    model = tmp_path / "nets.py"
    model.write_text(
        "import summiteer as sm\n\n\ndef tanh():\n    return sm.TwoLayerNetwork.random("
        "input_dim=3, width=8, activation='tanh', weight_std=2.0, seed=1)\n"
    )
    generator = np.random.default_rng(0)
    inputs, targets = generator.normal(size=(2, 3)), generator.normal(size=2)
    np.savez(tmp_path / "data.npz", inputs=inputs, targets=targets)
    out = tmp_path / "run"
    options = "--norm l2 --radius 2 --box none --objective quadratic --restarts 8"
    command = ("landscape", f"{model}:tanh", tmp_path / "data.npz", "--example", 1)
    code, _, errors = run_cli(
        *command, *options.split(), "--resolution", 7, "--out", out
    )
    assert code == 0, errors
    run = Finished.read(out)
    document = landscape_document(run)
    with Store.read(out) as store:
        (record,) = store.finished().values()
        arrays = store.arrays(record.name)
    met = arrays["label"][arrays["label"] >= 0]
    count = len(met.unique())
    noun = "maximum" if count == 1 else "distinct maxima"
    assert document.lead[0].startswith(
        f"Example 1: {len(met)} of 8 runs from uniform starts ended at {count} {noun}"
    )
    shown = plots(document)["The objective on a plane"]
    values = arrays["plane.values"][arrays["plane.inside"]]
    assert f"between {values.min():.4g} and {values.max():.4g}." in shown.words
    assert json.loads((out / "result.json").read_text())["run"] in document.footer
