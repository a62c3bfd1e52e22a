"""Mistakes that people make with adversarial files, and what an audit says of them."""

import re
from pathlib import Path

import pytest
import torch

import summiteer as sm
from audits import COUNT, RADIUS, ascent, audited, codes
from summiteer.auditing import findings
from summiteer.report.audit_text import print_audit


def finding(audit, code):
    (found,) = (entry for entry in audit.findings if entry.code == code)
    return found


@pytest.mark.parametrize("pixels", [7, 8, 9, 16])
def test_a_cast_without_rounding_is_no_cheating(digits, pixels):
    # Data on the grid and a radius on it: the cast takes exactly one level away.
    model, inputs, targets = digits
    inputs = (inputs * 255).round() / 255
    region = sm.LinfBall(pixels / 255)
    given = ascent((model, inputs, targets), pixels / 255)
    # What was computed a hair below a level falls to the next one.
    cut = (given * 255 - 1e-4).clamp(min=0).to(torch.uint8)
    cut = audited(digits, cut, region, inputs=inputs)
    assert float(cut.arrays["excess"].max()) > 0.999999 / 255
    assert "EIGHT_BITS" in codes(cut)
    assert "OUTSIDE" not in codes(cut)
    # Two levels are no rounding.
    far = ((given - inputs).sign() * (pixels + 2) / 255 + inputs).clamp(0, 1)
    far = audited(digits, (far * 255).round().to(torch.uint8), region, inputs=inputs)
    assert "OUTSIDE" in codes(far)


def test_rows_that_are_no_input_are_not_called_inside(digits, capsys):
    given = ascent(digits)
    given[2, 5] = torch.nan
    audit = audited(digits, given)
    page = printed(audit, capsys)
    assert "23 inside region and box, up to rounding; 1 is no input" in page
    assert "all inside" not in page
    known = sum(sum(of.values()) for of in audit.result["verdicts"].values())
    assert known == COUNT - 1
    assert "1 no input: nothing to examine" in page
    given[7, 0] = torch.inf
    assert "2 are no input" in printed(audited(digits, given), capsys)


def printed(audit, capsys):
    """The page, on one line for each paragraph's words."""
    capsys.readouterr()
    print_audit(audit.result, "runs/x")
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("mistake", ["permuted", "units", "deltas"])
def test_rows_of_no_example_give_no_numbers(digits, capsys, mistake):
    inputs, given = digits[1], ascent(digits)
    wrong = {
        "permuted": given.roll(1, 0),
        "units": 255 * given,
        "deltas": given - inputs,
    }
    audit = audited(digits, wrong[mistake])
    (code,) = codes(audit)
    assert (
        code
        == {
            "permuted": "PERMUTED",
            "units": "OTHER_UNITS",
            "deltas": "DELTAS",
        }[mistake]
    )
    assert audit.claimed_robust_accuracy is None
    assert audit.corrected_robust_accuracy is None
    assert {*audit.result["shares"].values()} == {None}
    page = printed(audit, capsys)
    assert "claimed – the rows are not these examples' inputs" in page
    assert "verdicts" not in page
    assert "longest" not in page
    assert "not these examples' inputs" in repr(audit)
    assert len(audit.explain(0).splitlines()) <= 6


def test_perturbations_are_told_from_inputs(digits):
    _, inputs, _ = digits
    given = ascent(digits)
    told = finding(audited(digits, given - inputs), "DELTAS")
    assert told.remedy == "give x + δ"
    # Black images are no perturbations, nor is what lies near its own input.
    assert "DELTAS" not in codes(audited(digits, torch.zeros_like(inputs)))
    assert "DELTAS" not in codes(audited(digits, given))
    # Data that are centred at 0 and short themselves.
    small = 0.05 * (inputs - 0.5)
    wide = sm.LinfBall(RADIUS)
    moved = small + 0.5 * (given - inputs)
    audit = audited(digits, moved, wide, inputs=small, box=None)
    assert "DELTAS" not in codes(audit)


def test_a_smaller_radius_of_the_tool_is_named(digits, capsys):
    audit = audited(digits, ascent(digits, RADIUS / 3))
    told = finding(audit, "SHORT")
    assert "0.34 of the radius" in told.seen
    assert "steps were too few or too short" in told.seen
    assert "or its radius was about 0.0333" in told.seen
    assert audit.result["radii"]["longest"] == pytest.approx(1 / 3, abs=1e-5)
    assert "longest perturbation 0.333 of the radius" in printed(audit, capsys)
    full = audited(digits, ascent(digits))
    assert "SHORT" not in codes(full)
    assert "longest perturbation 1 of the radius" in printed(full, capsys)
    # A tool that returns the shortest perturbation that misleads found what it sought.
    model, inputs, targets = digits
    near = ascent(digits, 0.3)
    with torch.no_grad():
        wrong = model(near).argmax(1) != targets
    near = torch.where(wrong[:, None], near, inputs)
    assert "SHORT" not in codes(audited(digits, near, sm.LinfBall(0.6)))
    # The clean inputs have a finding of their own.
    assert "SHORT" not in codes(audited(digits, inputs))


def test_a_radius_in_pixels_given_here_is_named(digits):
    audit = audited(digits, ascent(digits, 8 / 255), sm.LinfBall(8.0))
    assert "1/255 of the one given here" in finding(audit, "SHORT").seen


def test_another_norm_that_fits_is_named(digits):
    given = ascent(digits)
    told = finding(audited(digits, given, sm.L2Ball(RADIUS)), "OUTSIDE")
    assert "they fit linf at the same radius" in told.seen
    assert "units of rounding" not in told.seen  # it is no rounding
    # The other way round: the coordinates of an L2 attack are short.
    _, inputs, _ = digits
    delta = given - inputs
    delta = delta / delta.norm(dim=1, keepdim=True) * RADIUS
    told = finding(audited(digits, inputs + delta), "SHORT")
    assert "they fit l2 at the same radius" in told.seen
    # None fits: how long they are is what can be said.
    told = finding(audited(digits, ascent(digits, 2 * RADIUS)), "OUTSIDE")
    assert "the longest is 2 radii long" in told.seen
    assert "they fit" not in told.seen


def test_a_sound_claim_is_said_to_stand(digits):
    audit = audited(digits, ascent(digits, steps=5))
    assert audit.corrected_robust_accuracy == audit.claimed_robust_accuracy
    told = finding(audit, "NOT_THE_BEST")
    assert "nothing tried here lowers the claimed robust accuracy" in told.effect
    assert "of the objective; it ends" in told.seen
    # A claim that falls is not said to stand.
    weak = audited(digits, ascent(digits, RADIUS / 3))
    assert weak.corrected_robust_accuracy < weak.claimed_robust_accuracy
    assert all("stands" not in entry.effect for entry in weak.findings)


def test_findings_name_no_zeros(digits):
    audit = audited(digits, ascent(digits, 1.2 * RADIUS))
    for entry in audit.findings:
        assert not entry.effect.startswith("0 "), entry.text
        assert " 0 of them" not in entry.text


def test_every_finding_of_an_audit_has_its_line():
    root = Path(__file__).parents[1]
    page = (root / "docs" / "audit.md").read_text(encoding="utf-8")
    (table,) = re.findall(r"## Findings\n(.*?)\n## ", page, re.DOTALL)
    source = Path(findings.__file__).read_text(encoding="utf-8")
    raised = {*re.findall(r'Finding\(\s*"([A-Z_]+)"', source)}
    raised |= {"CLEAN_RETURNED", "RANDOM_START_RETURNED"}
    assert len(raised) >= 12
    assert {*re.findall(r"^\| ([A-Z_]+) \|", table, re.MULTILINE)} == raised
