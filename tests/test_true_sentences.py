"""Sentences of attacks and audits where arrays are unusual: each is true of them."""

import pytest
import torch

from planted_runs import arrays_of, planted
from summiteer import Attack
from summiteer.examination import EVIDENCE_NAMES, VERDICT_NAMES
from summiteer.report.attack_headline import attack_headline, audit_headline
from summiteer.report.closing_text import closing_text
from summiteer.report.document import Code as _Code
from summiteer.report.document import Fold, Plot, Prose
from summiteer.report.pages import document_of
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.terminal import print_attack
from summiteer.summary import moving


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


@pytest.mark.parametrize(("margin", "said"), [(0.0, "equals output 2 (float64)"),
                                              (0.5, "exceeds output 2 by 0.5 ")])  # fmt: skip
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


def test_a_mask_is_told_wherever_the_region_is(tmp_path, capsys):
    region = {"norm": "linf", "radius": 0.1, "box": [0, 1], "moving": [8, 8, 64]}
    run = planted(tmp_path / "run", arrays_of(8), result={"region": region})
    assert "8 of 64 coordinates" in printed(run, capsys).splitlines()[0]
    document = document_of(run)
    assert "8 of 64 coordinates" in document.facts["region"]
    text = blocks_of(run, _Code)[0].text
    assert "8 of 64 coordinates" in text


def test_masks_are_counted():
    assert moving(None, 4) is None
    assert moving(torch.tensor([True, False, True, False]), 4) == [2, 2, 4]
    assert moving(torch.eye(4).bool().cumsum(1).bool(), 4) == [1, 4, 4]


def test_float64_is_said_only_where_it_is(tmp_path, capsys):
    run = planted(tmp_path / "run", arrays_of(8), result={"examined_in": "float32"})
    assert "examined in float32" in printed(run, capsys)
    said = [plot.words for plot in blocks_of(run, Plot)]
    said += [block.text for block in blocks_of(run, _Code)]
    assert not any("float64" in text for text in said)
    assert any("float32" in text for text in said)
