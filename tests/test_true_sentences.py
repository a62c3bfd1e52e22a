"""Sentences of attacks and audits where arrays are unusual: each is true of them."""

from dataclasses import replace

import pytest
import torch

from planted_runs import arrays_of, audit_arrays_of, planted
from summiteer import Attack, LinfBall, attack, audit
from summiteer.auditing.findings import CORRECTIONS
from summiteer.auditing.kinds import KIND_NAMES
from summiteer.errors import SummiteerWarning
from summiteer.examination import EVIDENCE_NAMES, VERDICT_NAMES
from summiteer.report.attack_headline import attack_headline, audit_headline
from summiteer.report.closing_text import closing_text
from summiteer.report.document import Code, Fold, Plot, Prose
from summiteer.report.methods_text import methods_text
from summiteer.report.pages import document_of, write_page
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.terminal import print_attack
from summiteer.report.wording import percent


def headline(run):
    words = attack_headline if run.spec["command"] == "attack" else audit_headline
    return words(RecordedRun.of(run))


def blocks_of(run, kind):
    return [
        block
        for section in document_of(run).sections
        for block in section.blocks
        if isinstance(block, kind)
    ]


def words_of(run):
    return {plot.chart.title: plot.words for plot in blocks_of(run, Plot)}


def printed(run, capsys):
    print_attack(run.result, "runs/x")
    return capsys.readouterr().out


def all_are(arrays, verdict, evidence):
    arrays["verdict"][:] = VERDICT_NAMES.index(verdict)
    arrays["evidence"][:] = EVIDENCE_NAMES.index(evidence)
    return arrays


def advice(run):
    text = closing_text(run.result, "runs/x", None)
    return "".join(line for line in text.splitlines() if line.startswith("next:"))


def test_a_repr_rounds_no_bound(tmp_path):
    arrays = arrays_of(3, survivors=1 / 3)
    run = planted(tmp_path / "run", arrays)
    said = repr(Attack(arrays["perturbations"], arrays, run.result))
    assert said.startswith("Attack on 3 examples: at most 1 of them robust")


def test_what_is_undecided_is_not_drawn_as_proved(tmp_path):
    run = planted(tmp_path / "run", all_are(arrays_of(20), "UNDECIDED", "NUMERICAL"))
    (plot,) = (
        p
        for p in blocks_of(run, Plot)
        if p.chart.title == "What the examined points are"
    )
    assert all(part.pattern for part in plot.chart.parts)


def test_points_on_plateaus_are_told(tmp_path):
    run = planted(tmp_path / "run", all_are(arrays_of(20), "FLAT", "PROVED"))
    assert "all are near a plateau, proved" in headline(run)[1]


def test_losses_are_compared_over_the_same_examples(tmp_path, capsys):
    """Of regressions: NaN is nothing found, and counts as outside."""
    arrays = arrays_of(12, labelled=False)
    arrays["clean_losses"][:4] = torch.nan
    arrays["losses"][8:] = torch.nan
    run = planted(tmp_path / "run", arrays)
    mean, within = headline(run)[:2]
    clean, after = (float(arrays[n][4:8].mean()) for n in ("clean_losses", "losses"))
    assert "of the 4 of 12 examples whose losses are finite" in mean
    assert f"from {clean:.3g} to {after:.3g};" in mean
    assert "4 that are NaN or infinite count as outside" in within
    said = printed(run, capsys)
    assert f"{clean:.3g} clean, {after:.3g} attacked (of the 4 where" in said
    assert "(4 NaN or infinite count as outside)" in said


@pytest.mark.parametrize(
    ("margin", "said"),
    [(0.0, "equals output 2 (float64)"), (0.5, "exceeds output 2 by 0.5 ")],
)
def test_a_violated_property_says_by_how_much(tmp_path, margin, said):
    claim = {"name": "p", "violated": True, "label": 2, "rival": 5, "margin": margin}
    run = planted(
        tmp_path / "run",
        arrays_of(1, survivors=0),
        spec={"property": "p"},
        result={"property": claim},
    )
    assert said in headline(run)[0]
    assert "--radius" not in advice(run)


def test_a_point_outside_leaves_no_output_below_by_a_negative_number(tmp_path):
    claim = {"name": "p", "violated": False, "label": 2, "rival": 5, "margin": 0.25}
    more = {"property": claim, "proved_robust_accuracy": None}
    run = planted(
        tmp_path / "run", arrays_of(1, survivors=0), spec={"property": "p"}, result=more
    )
    assert "below" not in headline(run)[0]


def test_nothing_is_advised_after_a_proof(tmp_path):
    arrays = arrays_of(20, survivors=1)
    arrays["draws"][:] = 5
    arrays["unseen_bound"][:] = 0.9
    assert "--effort thorough" in advice(planted(tmp_path / "a", arrays))
    arrays["proved_robust"][:] = 1
    assert "--effort" not in advice(planted(tmp_path / "b", arrays))


def test_where_all_are_wrong_no_radius_helps(tmp_path):
    arrays = arrays_of(20, survivors=0)
    assert "--radius" in advice(planted(tmp_path / "a", arrays))
    arrays["correct"][:] = False
    assert "without any attack" in advice(planted(tmp_path / "b", arrays))


def test_a_screen_that_was_not_run_clears_nothing(tmp_path, capsys):
    run = planted(tmp_path / "run", arrays_of(8))
    assert "failure screen: not run on model and data" in printed(run, capsys)
    said = [b.title for b in blocks_of(run, Fold) if "screen" in b.title]
    said += [b.text for b in blocks_of(run, Prose) if "screen" in b.text]
    assert any("not run on model and data" in text for text in said)
    assert not any("checks are clear" in text for text in said)


def test_page_and_terminal_give_one_chance(tmp_path, capsys):
    arrays = arrays_of(60, survivors=1)
    basins = headline(planted(tmp_path / "a", arrays))[2]
    bound = planted(tmp_path / "b", arrays).result["search"]["unseen_bound"]
    assert 0 <= float(basins.split("at most ")[1].split(" %")[0]) - 100 * bound < 0.1
    run = planted(tmp_path / "c", all_are(arrays, "GLOBAL_MAXIMUM", "PROVED"))
    assert "may find another" not in printed(run, capsys)


def test_bounds_after_stopping_early_are_called_nominal(tmp_path, capsys):
    arrays = arrays_of(60, survivors=1)
    search = planted(tmp_path / "a", arrays).result["search"] | {"early_stop": True}
    run = planted(tmp_path / "b", arrays, result={"search": search})
    for text in (headline(run)[2], printed(run, capsys)):
        assert "(mean of nominal 95 % bounds" in text


def test_what_has_no_remedy_is_not_said_to_have_one(tmp_path):
    finding = {"code": "WARNING", "seen": "s", "effect": "", "remedy": ""}
    finding |= {"examples": None, "text": "s"}
    run = planted(tmp_path / "run", arrays_of(8), result={"findings": [finding]})
    assert document_of(run).lead[-1].endswith("WARNING; below is what was seen.")


def test_a_mask_is_told_wherever_the_region_is(tmp_path, capsys):
    region = {"norm": "linf", "radius": 0.1, "box": [0, 1], "moving": [8, 8, 64]}
    run = planted(tmp_path / "run", arrays_of(8), result={"region": region})
    assert "8 of 64 coordinates" in printed(run, capsys).splitlines()[0]
    document = document_of(run)
    assert "8 of 64 coordinates" in document.facts["region"]
    text = blocks_of(run, Code)[0].text
    assert "8 of 64 coordinates" in text


def test_masks_are_counted():
    mask = torch.tensor([[True, False, True, False], [True, True, True, False]])
    model, inputs, labels = torch.nn.Identity(), torch.rand(2, 4), torch.tensor([0, 1])
    more = {"region": LinfBall(0.1), "screened": False}
    found = [
        attack(model, inputs, labels, mask=each, **more).result["region"]
        for each in (mask, mask[0], None)
    ]
    assert [each.get("moving") for each in found] == [[2, 3, 4], [2, 2, 4], None]


def test_float64_is_said_only_where_it_is(tmp_path, capsys):
    run = planted(tmp_path / "run", arrays_of(8), result={"examined_in": "float32"})
    assert "examined in float32" in printed(run, capsys)
    said = [plot.words for plot in blocks_of(run, Plot)]
    said += [block.text for block in blocks_of(run, Code)]
    assert not any("float64" in text for text in said)
    assert any("float32" in text for text in said)


@pytest.mark.parametrize("share", [1e-5, 1 - 1e-5])
def test_shares_are_all_or_none_only_where_they_are(share):
    assert percent(share) in ("0.1 %", "99.9 %")


def test_negative_objectives_are_told_as_they_are(tmp_path):
    arrays = arrays_of(20)
    arrays["path_losses"] -= 2
    plots = words_of(planted(tmp_path / "run", arrays))
    (words,) = (w for title, w in plots.items() if "on the first way up" in title)
    assert "from -" in words
    assert "1e-12" not in words


def test_no_lower_bound_no_range(tmp_path):
    words = words_of(planted(tmp_path / "run", arrays_of(20, bound=False)))
    assert "no lower bound is known" in words["Where the robust accuracy lies"]
    assert "lies between" not in words["Where the robust accuracy lies"]


def test_restarts_that_change_no_digit_raise_nothing(tmp_path):
    arrays = arrays_of(24, survivors=1)
    first = arrays["restart_losses"][:, :1]
    arrays["inputs"] = arrays["inputs"].double()
    arrays["restart_losses"] = first * (1 + 1e-10 * torch.arange(6).double())
    words = words_of(planted(tmp_path / "run", arrays))
    assert "raised it for 0 by" in words["What random restarts add to the loss"]


def test_restarts_of_broken_examples_are_not_held_against_their_points(tmp_path):
    words = words_of(planted(tmp_path / "run", arrays_of(24, survivors=0)))
    assert "What random restarts add to the loss" not in words


def test_what_a_model_cannot_is_not_said_to_be():
    """A model that refuses float64 is examined in its own precision."""
    net = torch.nn.Linear(3, 3)
    inputs, labels = torch.rand(2, 3), torch.tensor([0, 1])
    more = {"region": LinfBall(0.1), "screened": False}
    cast = attack(lambda x: net(x.float()), inputs, labels, **more)
    assert cast.result["examined_in"] == "float32"
    assert attack(net, inputs, labels, **more).result["examined_in"] == "float64"


def test_a_run_of_two_machines_names_both(tmp_path):
    recorded = RecordedRun.of(planted(tmp_path / "run", arrays_of(8)))
    places = [
        {"python": f"3.1{n}", "torch": f"2.{n}", "numpy": "2.4", "commit": 12 * str(n)}
        for n in (1, 2)
    ]
    text = methods_text(replace(recorded, environments=places))
    assert "Python 3.11, 3.12, PyTorch 2.1, 2.2 and NumPy 2.4 " in text
    assert f"(commit {12 * '1'}, commit {12 * '2'})" in text


def test_rows_that_were_left_out_are_told(tmp_path):
    arrays = arrays_of(8)
    arrays["ids"] = torch.tensor([0, 1, 3, 4, 5, 6, 8, 9])
    run = planted(tmp_path / "run", arrays)
    assert "8 of the first 10 examples of digits" in blocks_of(run, Code)[0].text


def test_pages_of_names_that_are_no_utf8_can_be_written(tmp_path):
    run = planted(tmp_path / "run", arrays_of(4), spec={"data": "a\udcff.npz"})
    assert "a\\udcff.npz" in write_page(run.directory).read_text("utf-8")


# Audits.


def finding_of(run, code):
    (found,) = (each for each in run.result["findings"] if each["code"] == code)
    return found


def test_bounds_are_held_against_all_that_an_audit_found(tmp_path):
    arrays = audit_arrays_of(40)
    arrays["reached_losses"] = arrays["upper_bounds"] - 0.001
    words = words_of(planted(tmp_path / "run", arrays, "audit"))
    said = words["Between what was found and what is proved"]
    assert "exceeds what was found by 0.001 (median)" in said


def test_what_is_no_input_is_not_counted_as_outside(tmp_path):
    run = planted(tmp_path / "run", audit_arrays_of(40), "audit")
    words = words_of(run)["How long the given perturbations are"]
    assert "; 0 of 40 lie outside" in words
    assert run.result["excess"]["outside"] == 0


def test_gains_are_counted_among_inputs(tmp_path):
    run = planted(tmp_path / "run", audit_arrays_of(40), "audit")
    count, inputs = run.result["gains"]["examples"], 35
    assert f"gains on {count} of {inputs}:" in headline(run)[-1]
    assert "  " not in " ".join(headline(run))
    assert f" {count} gain more than rounding" in " ".join(words_of(run).values())


def test_an_audit_of_nothing_says_so(tmp_path):
    arrays = audit_arrays_of(8)
    arrays["kind"][:] = 0
    for name in ("length", "radii", "gained", "given_losses", "losses"):
        arrays[name][:] = torch.nan
    run = planted(tmp_path / "run", all_are(arrays, "UNDECIDED", "NUMERICAL"), "audit")
    assert headline(run) == (
        "None of the given points is an input: nothing was examined.",
    )
    assert "What the examined points are" not in words_of(run)


def test_survivors_that_were_not_examined_are_left_out_by_name(tmp_path):
    arrays = audit_arrays_of(40)
    arrays["survived"][arrays["kind"] == 0] = True
    said = headline(planted(tmp_path / "run", arrays, "audit"))[2]
    left = int((arrays["survived"] & (arrays["kind"] != 0)).sum())
    assert said.startswith(f"Of the {left} survivors that are inputs ")


def test_methods_keep_no_given_point_within_the_region(tmp_path):
    run = planted(tmp_path / "run", audit_arrays_of(8), "audit")
    text = blocks_of(run, Code)[0].text
    assert "were kept in" not in text
    assert "given points outside were projected" in text


def test_random_starts_are_said_to_be_those_inside(tmp_path):
    arrays = audit_arrays_of(40)
    arrays["claimed"][:] = True
    arrays["kind"][:] = KIND_NAMES.index("RANDOM_START")
    arrays["inside"][:] = torch.arange(40) < 30
    run = planted(tmp_path / "run", arrays, "audit")
    seen = finding_of(run, "RANDOM_START_RETURNED")["seen"]
    assert "30 of the 40 that the model withstood lie inside and are" in seen


@pytest.mark.parametrize("code", ["NOT_THE_BEST", "POORER_BASIN"])
def test_what_turned_wrong_is_counted_whatever_came_first(tmp_path, code):
    arrays = audit_arrays_of(10)
    arrays["kind"][:] = KIND_NAMES.index("BOUNDARY")
    arrays["claimed"][:], arrays["survived"][:] = True, False
    arrays["correction"][:] = CORRECTIONS.index("PROJECTED")
    arrays["gained"][:] = 0.5
    arrays["centre_losses"] = arrays["reached_losses"] + 5
    run = planted(tmp_path / "run", arrays, "audit")
    assert "turns 10 of them wrong" in finding_of(run, code)["effect"]


def test_the_longest_perturbation_is_no_longer_than_said(tmp_path):
    arrays = audit_arrays_of(8)
    arrays["kind"][:] = KIND_NAMES.index("BOUNDARY")
    arrays["claimed"][:], arrays["radii"][:] = True, 0.4444
    arrays["norms"][:] = 0.2
    seen = finding_of(planted(tmp_path / "run", arrays, "audit"), "SHORT")["seen"]
    assert "longer than 0.45 of the radius" in seen


def test_nothing_is_measured_from_what_was_never_given():
    inputs, labels = torch.rand(4, 3), torch.tensor([0, 1, 2, 0])
    given = inputs.clone()
    given[0] = torch.nan
    model, more = torch.nn.Linear(3, 3), {"region": LinfBall(0.1), "screened": False}
    with pytest.warns(SummiteerWarning):
        found = audit(model, inputs, labels, given, **more)
    assert bool(found.arrays["reached_losses"].isnan()[0])
    loss, arrays = found.result["loss"], found.arrays
    for name in ("clean", "reached"):
        mean = (
            loss["clean_mean"]
            if name == "clean"
            else found.result["gains"]["reached_mean"]
        )
        assert mean == pytest.approx(float(arrays[f"{name}_losses"][1:].mean()))
