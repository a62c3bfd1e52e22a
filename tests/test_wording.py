"""Bounds stay bounds when they are rounded, wherever they are shown."""

import re

import pytest
import torch

from planted_runs import arrays_of, audit_arrays_of, planted
from summiteer.report.attack_headline import attack_headline, audit_headline
from summiteer.report.audit_text import print_audit
from summiteer.report.document import Table
from summiteer.report.page import shown
from summiteer.report.pages import document_of
from summiteer.report.recorded_run import RecordedRun
from summiteer.report.terminal import print_attack
from summiteer.report.wording import (
    at_least,
    at_most,
    no_more_than,
    part_of,
    rounded_down,
    rounded_up,
    share_above,
    share_below,
)


@pytest.mark.parametrize("count", range(0, 1798, 7))
def test_bounds_are_rounded_to_the_safe_side(count):
    share = count / 1797
    up, down = (float(each(share).split()[0]) for each in (at_most, at_least))
    assert down <= 100 * share + 1e-9 <= up + 2e-9
    assert up - down < 0.11
    assert f"{100 * share_above(share):.1f} %" == at_most(share)
    assert f"{100 * share_below(share):.1f} %" == at_least(share)


@pytest.mark.parametrize(
    ("count", "expected"),
    [(0, "none"), (1, "0.1 % (1)"), (1999, "99.9 % (1999)"), (2000, "all")],
)
def test_all_and_none_are_what_they_say(count, expected):
    assert part_of(count, 2000) == expected


@pytest.mark.parametrize("value", [3e-302, 1e-9, 9.91e-7, 0.123, 1.0, 99.5, 1234.5])
def test_bounds_have_two_digits_and_are_no_lower(value):
    said = no_more_than(value)
    assert value <= float(said) <= max(1.1 * value, 1e-15)


@pytest.mark.parametrize("value", [1.23479, 0.99996, -1.23411, 7e-9, 0.0, 12345.0])
def test_a_bound_rounded_down_is_no_higher(value):
    down = rounded_down(value)
    assert value - 1e-3 * abs(value) <= down <= value
    assert float(f"{down:.4g}") == down


@pytest.mark.parametrize("digits", [1, 2, 4])
def test_a_bound_rounded_up_is_the_next_number_of_so_many_digits(digits):
    generator = torch.Generator().manual_seed(digits)
    exponents = 30 * torch.rand(500, generator=generator).double() - 12
    for value in (10**exponents).tolist():
        up = rounded_up(value, digits)
        assert value <= up <= value * (1 + 10.0 ** (1 - digits))
        assert float(f"{up:.{digits}g}") == up
        assert rounded_up(up, digits) == up
    assert rounded_up(0.0) == 0.0
    assert rounded_up(torch.inf) == torch.inf


def said_of(text):
    """What stands beside "at most" and "at least", in per cent."""
    return {
        side: {
            float(number)
            for pattern in (rf"{side} (\d+\.\d) %", rf"(\d+\.\d) %  {side}")
            for number in re.findall(pattern, text, re.IGNORECASE)
        }
        for side in ("at most", "at least")
    }


@pytest.mark.parametrize("survivors", [11 / 32, 0.35, 0.8])
@pytest.mark.parametrize("command", ["attack", "audit"])
def test_headline_strip_and_terminal_say_the_same(tmp_path, capsys, command, survivors):
    """Of 96: every share of them but the eighths is rounded."""
    make = arrays_of if command == "attack" else audit_arrays_of
    run = planted(tmp_path / "run", make(96, survivors=survivors), command)
    result, recorded = run.result, RecordedRun.of(run)
    head = (attack_headline if command == "attack" else audit_headline)(recorded)
    (print_attack if command == "attack" else print_audit)(result, "runs/x")
    printed = capsys.readouterr().out
    strip = " ".join(f"{k} {v}" for k, v in document_of(run).facts.items())
    strip = strip.replace(" (proved)", "").replace(",", "")
    key = "robust_accuracy" if command == "attack" else "corrected_robust_accuracy"
    most, least = 100 * result[key], 100 * result["proved_robust_accuracy"]
    for text in (" ".join(head[:2]), strip, printed):
        said = said_of(text)
        (up,) = (each for each in said["at most"] if abs(each - most) < 0.1)
        (down,) = said["at least"]
        assert down <= least + 1e-9 < down + 0.1 + 1e-9
        assert up - 0.1 - 1e-9 < most - 1e-9 <= up


def test_bounds_of_examples_are_rounded_up(tmp_path):
    arrays = arrays_of(40)
    run = planted(tmp_path / "run", arrays)
    (table,) = (
        block
        for section in document_of(run).sections
        for block in section.blocks
        if isinstance(block, Table) and block.title == "Examples"
    )
    titles = [column.name for column in table.columns]
    places = {int(row[0]): row for row in table.rows}
    for title, array, unit, scale in (
        ("left to gain, at most", "loss_gap_bounds", "", 1),
        ("unseen, at most", "unseen_bound", "%", 100),
    ):
        cell = titles.index(title)
        for number, bound in zip(
            arrays["ids"].tolist(), arrays[array].tolist(), strict=True
        ):
            text = shown(places[number][cell], unit)
            assert (text == "–") == (bound != bound)
            assert text == "–" or float(text) >= scale * bound - 1e-12
