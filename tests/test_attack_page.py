"""Pages of attacks and audits: what they say is what the arrays hold."""

import base64
import math
import re
import struct
import zlib

import pytest
import torch

from page_checks import HOSTILE, assert_shown_as_text, plots
from planted_runs import arrays_of, audit_arrays_of, planted
from summiteer.errors import UserError
from summiteer.examination import (
    EVIDENCE_NAMES,
    QUANTILES,
    VERDICT_NAMES,
    paths_of,
)
from summiteer.optimality import Verdict
from summiteer.report.attack_headline import attack_headline, audit_headline
from summiteer.report.document import Code, Plot, Table
from summiteer.report.examined_groups import KINDS, kinds_of
from summiteer.report.examples_table import ROWS, chosen
from summiteer.report.finished import Finished
from summiteer.report.page import page
from summiteer.report.pages import document_of
from summiteer.report.pictures import LARGEST, image_of, picture, png
from summiteer.report.recorded_run import Paths, RecordedRun

MAXIMA = {verdict.name for verdict in Verdict if verdict.is_maximum}


def numbers_in(sentence):
    return [float(text) for text in re.findall(r"\d+(?:\.\d+)?(?:e-?\d+)?", sentence)]


def headline(run):
    words = attack_headline if run.spec["command"] == "attack" else audit_headline
    return words(RecordedRun.of(run))


def near_proved(recorded):
    pairs = zip(recorded.named("verdict"), recorded.named("evidence"), strict=True)
    found = [name in MAXIMA and how == "PROVED" for name, how in pairs]
    return torch.tensor(found)


def global_ones(recorded):
    pairs = zip(recorded.named("verdict"), recorded.named("evidence"), strict=True)
    return torch.tensor([p == ("GLOBAL_MAXIMUM", "PROVED") for p in pairs])


# Sentences.


@pytest.mark.parametrize("seed", range(5))
def test_the_headline_says_what_the_arrays_hold(tmp_path, seed):
    arrays = arrays_of(150, seed=seed)
    run = planted(tmp_path / "run", arrays)
    recorded = RecordedRun.of(run)
    bracket, points, basins, more = attack_headline(recorded)
    survived = arrays["survived"]
    most, count, alive, least = numbers_in(bracket)
    # Rounded away from what would be claimed too much.
    assert 0 <= most - 100 * float(survived.double().mean()) < 0.1
    assert (count, alive) == (150, int(survived.sum()))
    robust = float((arrays["proved_robust"] == 1).double().mean())
    assert 0 <= 100 * robust - least < 0.1
    assert "found by attack" in bracket
    assert "proved for the whole region" in bracket
    sure = near_proved(recorded) & survived
    said = numbers_in(points.split(";")[0])
    assert said[0] == alive
    assert said[1] == pytest.approx(100 * int(sure.sum()) / alive, abs=0.05)
    assert said[2:4] == [int(sure.sum()), 1e-3]
    largest = float(arrays["loss_gap_bounds"][sure].max())
    assert largest <= said[4] <= 1.1 * largest
    summits = survived & global_ones(recorded)
    assert numbers_in(basins)[0] == int(summits.sum())
    known = survived & ~summits & (arrays["draws"] >= 4)
    bound = float(arrays["unseen_bound"][known].mean())
    assert 0 <= numbers_in(basins)[1] - 100 * bound < 0.1
    assert numbers_in(basins)[-1] == int(known.sum())
    assert more == "50 more steps flip none of the survivors."


def test_every_kind_of_survivor_is_counted_once(tmp_path):
    recorded = RecordedRun.of(planted(tmp_path / "run", arrays_of(140)))
    points = attack_headline(recorded)[1]
    left = recorded.numbers["survived"].tolist()
    kinds = [k for k, s in zip(kinds_of(recorded), left, strict=True) if s]
    for words, names in {
        "measurement only": ("maximum, numerical",),
        "proved to be no maximum": ("not stationary, proved", "saddle, proved"),
        "no maximum by": ("not stationary, numerical", "saddle, numerical"),
        "near a plateau, proved": ("flat, proved",),
        "undecided": ("undecided",),
    }.items():
        (part,) = (part for part in points.split(";") if words in part)
        assert numbers_in(part)[1] == sum(kind in names for kind in kinds)


def test_what_is_not_known_is_left_out(tmp_path):
    arrays = arrays_of(60, bound=False)
    for name in ("loss_gap_bounds", "upper_bounds", "distance_bounds"):
        del arrays[name]  # of a run by an older version
    for name in ("source", "draws", "stopped", "spent", "unseen", "unseen_bound"):
        del arrays[name]  # of an adversary of the user's own
    arrays["verdict"][:] = VERDICT_NAMES.index("LOCAL_MAXIMUM")
    run = planted(tmp_path / "run", arrays)
    bracket, points, basins, _ = headline(run)
    assert "at least" not in bracket
    assert "no lower bound is known" in bracket
    assert "gain at most" not in points
    assert basins == "Other basins may hold more: nothing here bounds what they hold."
    assert "Between what was found and what is proved" not in plots(document_of(run))


def test_a_bound_of_some_maxima_is_not_one_of_all(tmp_path):
    arrays = arrays_of(60, survivors=1)
    first = int(arrays["loss_gap_bounds"].isfinite().nonzero()[0])
    arrays["loss_gap_bounds"][first] = torch.nan
    points = headline(planted(tmp_path / "run", arrays))[1]
    known = int(arrays["loss_gap_bounds"].isfinite().sum())
    assert f"({known} of which can gain at most" in points


def test_without_survivors_there_is_nothing_more_to_say(tmp_path):
    arrays = arrays_of(30, survivors=0)
    wrong = int((~arrays["correct"]).sum())
    (said,) = headline(planted(tmp_path / "run", arrays))
    assert said == (
        f"None of the 30 examples is robust (found by attack, {wrong} of them wrong "
        "before any attack)."
    )


def test_regression_speaks_of_losses_and_tolerance(tmp_path):
    arrays = arrays_of(80, labelled=False)
    mean, within, points, basins = headline(planted(tmp_path / "run", arrays))
    assert f"{float(arrays['losses'].mean()):.3g}" in mean
    limit = 0.5 * 1.8**2
    most, _, least = numbers_in(within)
    held = float((arrays["losses"] <= limit).double().mean())
    proved = float((arrays["upper_bounds"] <= limit).double().mean())
    assert 0 <= most - 100 * held < 0.1
    assert 0 <= 100 * proved - least < 0.1
    assert proved < held
    assert points.startswith("Of the 80 examples ")
    assert "examples" in basins
    assert not any("robust" in each for each in (mean, within, points, basins))


def said_of_a_property(tmp_path, violated, margin, proved):
    arrays = arrays_of(1, survivors=0 if violated else 1)
    claim = {"name": "p.vnnlib", "violated": violated, "label": 2, "rival": 5}
    claim |= {"margin": margin, "margin_in_model_dtype": margin, "source": None}
    more = {"property": claim, "proved_robust_accuracy": proved}
    spec = {"property": "p.vnnlib"}
    return headline(planted(tmp_path / "run", arrays, spec=spec, result=more))


def test_a_violated_property_is_said_to_be(tmp_path):
    (said,) = said_of_a_property(tmp_path, True, 0.25, 0.0)
    assert "violated: output 5 exceeds output 2 by 0.25" in said


def test_an_unviolated_property_is_not_called_proved(tmp_path):
    said = said_of_a_property(tmp_path, False, -0.5, None)[0]
    assert "that is no proof" in said
    assert "by 0.5" in said


def test_a_proved_property_is(tmp_path):
    (said,) = said_of_a_property(tmp_path, False, -0.5, 1.0)
    assert "holds" in said
    assert "(proved)" in said


def test_one_example_is_spoken_of_as_one(tmp_path):
    said = headline(planted(tmp_path / "run", arrays_of(1, survivors=1)))
    assert said[0].startswith("At most 100.0 % of the one example is robust")
    assert said[1].startswith("The one survivor is within 0.001 radii")


def test_the_audit_headline_says_what_the_arrays_hold(tmp_path):
    arrays = audit_arrays_of(160)
    run = planted(tmp_path / "run", arrays, "audit")
    claimed, bracket, points, gains = headline(run)
    assert numbers_in(claimed)[1] == int(arrays["claimed"].sum())
    most = numbers_in(bracket)[0]
    assert 0 <= most - 100 * float(arrays["survived"].double().mean()) < 0.1
    # What is no input was not examined.
    examined = arrays["survived"] & (arrays["kind"] != 0)
    assert numbers_in(points)[0] == int(examined.sum())
    assert numbers_in(gains)[0] == run.result["gains"]["examples"]


def test_rows_of_other_units_are_given_no_numbers(tmp_path):
    arrays = audit_arrays_of(40) | {"factor": torch.full((40,), 255.0).double()}
    run = planted(tmp_path / "run", arrays, "audit")
    (said,) = headline(run)
    assert "no number" in said
    html = document_of(run)
    assert [section.title for section in html.sections] == [
        "What weakens these numbers",
        "What was run",
    ]


def test_above_a_proved_summit_nothing_is_said_to_be(tmp_path):
    arrays = arrays_of(20)
    arrays["verdict"][:] = VERDICT_NAMES.index("GLOBAL_MAXIMUM")
    arrays["evidence"][:] = EVIDENCE_NAMES.index("PROVED")
    basins = headline(planted(tmp_path / "run", arrays))[2]
    assert basins.startswith("No other basin holds more")


def test_nobody_within_the_tolerance_is_nobody(tmp_path):
    arrays = arrays_of(20, labelled=False)
    arrays["losses"] += 10
    within = headline(planted(tmp_path / "run", arrays))[1]
    assert within.startswith("None of the outputs stays within 1.8")
    assert "at least" not in within


# Charts and paths.


def test_bars_show_the_counts(tmp_path):
    arrays = arrays_of(140)
    run = planted(tmp_path / "run", arrays)
    shown = plots(document_of(run))
    bars = shown["What the examined points are"].chart
    kinds = kinds_of(RecordedRun.of(run))
    for part in bars.parts:
        assert part.values[0] == pytest.approx(100 * kinds.count(part.name) / 140)
        assert part.pattern == (not part.name.endswith("proved"))
        assert part.name in KINDS
    for bar in range(2):
        assert sum(part.values[bar] for part in bars.parts) == pytest.approx(100)
    accuracy = shown["Where the robust accuracy lies"].chart
    shares = {part.name: part.values[0] for part in accuracy.parts}
    assert sum(shares.values()) == pytest.approx(100)
    robust = (arrays["proved_robust"] == 1).double().mean()
    assert shares["proved robust on the whole region"] == pytest.approx(100 * robust)


def test_quantiles_of_blocks_are_nearly_those_of_all():
    generator = torch.Generator().manual_seed(0)
    sizes = (256, 256, 256, 40)
    values = [10 * torch.rand(1, n, generator=generator) + n % 7 for n in sizes]

    class Run:
        trajectory = type("T", (), {"step": torch.arange(1)})()

        def __init__(self, values):
            self.trajectory.loss = values[None]

        def of_best(self, values):
            return values[:, 0]

    parts = []
    for part in values:
        alive = torch.zeros(part.shape[1], dtype=torch.bool)
        path = paths_of((Run(part),), (0, 0), alive)["path_losses"]
        assert path.shape == (1, 2, 1, QUANTILES)
        assert bool(path[0, 1].isnan().all())
        parts.append((path[0, 0], part.shape[1]))
    path = Paths(torch.arange(1), tuple(parts))
    everything = torch.cat(values, 1)[0]
    for share in (0.1, 0.5, 0.9):
        (found,) = path.quantile(share)
        rank = float((everything <= found).double().mean())
        # 1/50 of each block, and the step of the pooled quantiles.
        assert abs(rank - share) <= 0.02 + 1 / QUANTILES


def test_paths_say_where_runs_went(tmp_path, run_cli, model_file):
    folder = tmp_path / "run"
    code, _, _ = run_cli(
        "attack", f"{model_file}:classifier", "digits", "--norm", "l2", "--radius",
        0.5, "--limit", 12, "--block-size", 6, "--no-screen", "--out", folder,
    )  # fmt: skip
    assert code == 0
    html = (folder / "report.html").read_text()
    assert "on the first way up" in html
    recorded = RecordedRun.of(Finished.read(folder))
    path = recorded.paths["path_losses", "all"]
    assert path.steps.tolist() == list(range(21))
    assert sum(count for _, count in path.values) == 12
    start, end = path.quantile(0.5)[0], path.quantile(0.5)[-1]
    clean = recorded.numbers["clean_losses"].sort().values
    assert float(clean[3]) <= start <= float(clean[8])
    assert end > start
    # No wider than its examples, and the same run says the same.
    assert page(document_of(recorded.run)) == html


# Examples.


def test_survivors_and_undecided_come_first(tmp_path):
    recorded = RecordedRun.of(planted(tmp_path / "run", arrays_of(1000), block=256))
    places = chosen(recorded)
    assert len(places) == len(set(places)) == ROWS
    survived = recorded.numbers["survived"]
    sure = near_proved(recorded)
    first = [bool(survived[p] & ~sure[p]) for p in places]
    # What begins with these does not come back to them.
    assert first == sorted(first, reverse=True)
    assert sum(bool(survived[p]) for p in places) == 150
    (table,) = (t for t in document_of(recorded.run).blocks(Table) if t.filtered)
    assert "200 of 1000 examples" in table.note


def test_pictures_show_input_perturbation_and_sum(tmp_path):
    arrays = arrays_of(3)
    run = planted(tmp_path / "run", arrays)
    (table,) = (t for t in document_of(run).blocks(Table) if t.filtered)
    column = [c.name for c in table.columns].index("input")
    ids = arrays["ids"].tolist()
    largest = float(arrays["perturbations"].abs().max())
    for row in table.rows:
        place = ids.index(row[0])
        given, move = arrays["inputs"][place], arrays["perturbations"][place]
        pixels = [pixels_of(each.source) for each in row[column : column + 3]]
        wanted = (given, (move / largest + 1) / 2, (given.double() + move).clamp(0, 1))
        for found, values in zip(pixels, wanted, strict=True):
            expected = (255 * values.double().reshape(1, 8, 8)).round()
            assert float((found - expected).abs().max()) <= 1
    assert f"{largest:.3g}" in table.note


def pixels_of(source):
    """Read a PNG of ours without any code of ours."""
    content = base64.b64decode(source.split(",")[1])
    width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
    assert depth == 8
    channels = {0: 1, 2: 3}[kind]
    size = struct.unpack(">I", content[33:37])[0]
    raw = zlib.decompress(content[41 : 41 + size])
    lines = torch.tensor(list(raw)).reshape(height, 1 + width * channels)
    assert bool((lines[:, 0] == 0).all())
    return lines[:, 1:].reshape(height, width, channels).permute(2, 0, 1)


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((1, 5, 7), (1, 5, 7)),
        ((3, 9, 4), (3, 9, 4)),
        ((784,), (1, 28, 28)),
        ((64,), (1, 8, 8)),
        ((10,), None),
        ((9,), None),
        ((30,), None),
        ((2, 8, 8), None),
        ((5, 4), None),
    ],
)
def test_images_are_known_by_their_shape(shape, image):
    found = image_of(torch.zeros(shape))
    assert image is None if found is None else tuple(found.shape) == image


def test_large_pictures_are_averaged_down():
    shown = picture(torch.full((3, 300, 150), 0.5), 0.0, 1.0, "p")
    pixels = pixels_of(shown.source)
    assert tuple(pixels.shape) == (3, LARGEST, LARGEST // 2)
    assert set(pixels.flatten().tolist()) == {128}


def test_a_png_has_right_checks():
    content = png(torch.arange(12, dtype=torch.uint8).reshape(1, 3, 4))
    place = 8
    while place < len(content):
        size = struct.unpack(">I", content[place : place + 4])[0]
        body = content[place + 4 : place + 8 + size]
        check = struct.unpack(">I", content[place + 8 + size : place + 12 + size])[0]
        assert zlib.crc32(body) == check
        place += 12 + size
    assert place == len(content)


def test_tables_of_no_images_have_no_pictures(tmp_path):
    run = planted(tmp_path / "run", arrays_of(5, shape=(10,)))
    (table,) = (t for t in document_of(run).blocks(Table) if t.filtered)
    assert not any(column.name == "input" for column in table.columns)


# The page.


@pytest.mark.parametrize("command", ["attack", "audit"])
def test_hostile_names_are_shown_as_text(tmp_path, command):
    arrays = arrays_of(20) if command == "attack" else audit_arrays_of(20)
    names = dict.fromkeys(
        ("model", "data", "layers", "weights", "adversarial"), HOSTILE
    )
    finding = {"code": HOSTILE, "seen": HOSTILE, "effect": HOSTILE, "text": HOSTILE}
    finding |= {"remedy": HOSTILE, "examples": [1]}
    more = {"findings": [finding], "objective": HOSTILE}
    run = planted(tmp_path / "run", arrays, command, 64, names, more)
    assert_shown_as_text(lambda: document_of(run))


def test_what_was_run_can_be_copied(tmp_path):
    run = planted(tmp_path / "run", arrays_of(20))
    (code,) = document_of(run).blocks(Code)
    for wanted in (run.result["run"], "L-infinity ball of radius 0.1", "seed 0", "380"):
        assert wanted in code.text
    assert f"PyTorch {torch.__version__}" in code.text
    assert code.file == "methods.txt"


def test_ten_thousand_examples_make_a_small_page(tmp_path):
    run = planted(tmp_path / "run", arrays_of(10_000), block=2500)
    html = page(document_of(run))
    assert html.count("<tr>") < ROWS + 50
    # Plotly itself is 4.8 million characters.
    assert len(html) < 5_700_000


def test_a_run_without_its_blocks_says_so(tmp_path):
    run = planted(tmp_path / "run", arrays_of(20))
    more = {**run.result, "examples": 200}
    with pytest.raises(UserError, match="blocks are not in its store"):
        document_of(type(run)(run.directory, run.spec, more))


@pytest.mark.parametrize("labelled", [True, False])
@pytest.mark.parametrize("bound", [True, False])
@pytest.mark.parametrize("survivors", [0, 0.5, 1])
@pytest.mark.parametrize("command", ["attack", "audit"])
def test_every_kind_of_run_has_a_page(tmp_path, command, survivors, bound, labelled):
    make = arrays_of if command == "attack" else audit_arrays_of
    arrays = make(9, labelled=labelled, bound=bound, survivors=survivors)
    document = document_of(planted(tmp_path / "run", arrays, command))
    assert all(math.isfinite(len(sentence)) for sentence in document.lead)
    text = " ".join(document.lead) + " ".join(p.words for p in document.blocks(Plot))
    assert not re.search(r"\b(nan|inf|None(?! of))\b", text)
