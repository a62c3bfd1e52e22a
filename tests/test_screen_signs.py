"""Signs of a run that the failure screen reads from its arrays, and how they print."""

import numpy as np
import pytest
import torch

from summiteer.findings import Finding
from summiteer.report.findings_text import findings_text
from summiteer.screen import signs
from summiteer.screen._screening import SIGNS
from summiteer.screen.loss_path import incomplete


def _arrays(**more):
    none = torch.zeros(5, dtype=torch.bool)
    arrays = {
        "ids": torch.arange(10, 15),
        "masked": none,
        "broken": none,
        "flipped": none,
        "survived": torch.tensor([True, True, True, False, False]),
        "incomplete": none,
        "silent": none,
        "period": torch.zeros(5, dtype=torch.int64),
        "rescued": torch.zeros(5, dtype=torch.int8),
    }
    return arrays | {name: torch.tensor(values) for name, values in more.items()}


F, T = False, True


@pytest.mark.parametrize(
    ("code", "values", "examples", "text"),
    [
        ("ZERO_GRADIENT", {"masked": [F, T, F, F, T]}, (11, 14), "of 2 examples"),
        ("NON_FINITE", {"broken": [F, F, F, T, F]}, (13,), "runs of 1 example"),
        ("NOT_CONVERGED", {"flipped": [T, F, F, F, F]}, (10,), "flip 1 of 3 survivors"),
        ("INCOMPLETE", {"incomplete": [F, T, T, T, F]}, (11, 12), "of 2 examples"),
        ("SILENT_SUCCESS", {"silent": [F, F, F, T, F]}, (13,), "credited"),
        ("CYCLE", {"period": [0, 2, 2, 0, 6]}, (11, 12, 14), "most often 2"),
        ("CYCLE", {"period": [2, 2, 0, 0, 0]}, (10, 11), "points with period 2"),
        ("RESCUED", {"rescued": [0, 1, 2, 1, 0]}, (11, 12, 13), "2 in float64, 1 with"),
    ],
)
def test_signs_of_a_run(code, values, examples, text):
    findings, checks = signs(_arrays(**values))
    assert [finding.code for finding in findings] == [code]
    assert findings[0].examples == examples
    assert text in findings[0].text
    assert checks[code] == "found"
    assert sum(said == "clear" for said in checks.values()) == len(SIGNS) - 1


def test_signs_of_a_healthy_run_and_of_one_that_recorded_less():
    findings, checks = signs(_arrays())
    assert not findings
    assert set(checks.values()) == {"clear"}
    arrays = _arrays()
    for name in ("period", "silent", "incomplete", "rescued"):
        del arrays[name]
    findings, checks = signs(arrays)
    assert not findings
    assert sum(said.startswith("not run: ") for said in checks.values()) == 4


def test_incomplete_by_its_definition():
    nan = torch.nan
    rising = torch.linspace(0, 1, 30)
    settled = 1 - 0.5 ** torch.arange(30.0)
    stopped = torch.where(torch.arange(30) < 12, rising, nan)
    shaking = torch.where(torch.arange(30) % 2 == 0, 0.0, 1.0)
    constant, once = torch.ones(30), torch.full((30,), nan)
    once[0] = 1.0
    paths = torch.stack([rising, settled, stopped, shaking, constant, once], 1)
    said = incomplete(paths[:, None]).flatten().tolist()
    assert said == [True, False, True, False, False, False]
    # By numbers: 40 entries to 0.95, then at most 0.05 of the range in the last ten.
    for gain, late in ((0.049, False), (0.051, True)):
        path = torch.cat([torch.linspace(0, 1 - gain, 40), torch.full((9,), 1.0)])
        assert incomplete(path[:, None, None]).item() is late
    done = torch.tensor([[True]])
    assert not incomplete(rising[:, None, None], done).item()


def test_incomplete_against_the_formula_in_a_loop():
    generator = torch.Generator().manual_seed(0)
    losses = torch.randn(40, 3, 50, generator=generator).cumsum(0)
    losses += torch.rand(3, 50, generator=generator) * torch.arange(40.0)[:, None, None]
    stop = torch.randint(1, 41, (3, 50), generator=generator)
    losses = losses.where(torch.arange(40)[:, None, None] < stop, torch.nan)
    said = incomplete(losses)
    for run in np.ndindex(3, 50):
        path = losses[(slice(None), *run)].numpy()
        path = path[np.isfinite(path)]
        best = np.maximum.accumulate((path - path.min()) / max(np.ptp(path), 1e-30))
        last = best[-10:]
        assert bool(said[run]) == (len(path) > 1 and last.max() - last.min() > 0.05)
    assert 0.1 < said.double().mean() < 0.9


def test_findings_are_readable_on_80_columns():
    finding = Finding(
        "CYCLE",
        "attack: runs of 12 examples repeat the same points with period 2, so the step "
        "is too large",
        "further steps change nothing",
        "use a smaller step",
        tuple(range(100, 112)),
    )
    entries = [finding.as_json(), Finding("WARNING", "model: x").as_json()]
    text = findings_text(entries)
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith("! [CYCLE] attack: runs of 12 examples")
    assert "  effect  further steps change nothing." in lines
    assert "  remedy  use a smaller step." in lines
    assert lines[-2] == "  ids     100, 101, 102, 103, 104, 105, 106, 107 and 4 more"
    assert lines[-1] == "! [WARNING] model: x."
    assert findings_text([]) == ""
