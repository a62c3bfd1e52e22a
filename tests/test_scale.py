import json
import math
import re

import pytest
import torch
from scipy.stats import binom

from summiteer.cells import Cell
from summiteer.report.page import scale_page
from summiteer.report.terminal import print_scale
from summiteer.store import Store
from summiteer.studies import scale

SCALES = (0.1, 1.0, 10.0)


@pytest.fixture(scope="module")
def summary():
    """A small run of the real study: fewer scales, seeds, images and starts."""
    small = {"SCALES": SCALES, "EXAMPLES": 6, "RESTARTS": 8}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in small.items():
            patch.setattr(scale, name, value)
        cells = [
            Cell("scale", {"activation": a, "scale": c, "seed": s})
            for a in scale.ACTIVATIONS
            for c in SCALES
            for s in (0, 1)
        ]
        arrays = {}
        for cell in cells:
            record, values = scale.measure(cell)
            arrays[tuple(cell.spec[k] for k in ("activation", "scale", "seed"))] = (
                values
            )
            assert record["seconds"] > 0
        protocol = dict(scale.specification(0))
        yield scale.summarise(arrays, 1.0, protocol)


def column(summary, activation, name):
    return [getattr(row, name) for row in summary.rows if row.activation == activation]


@pytest.mark.parametrize("activation", ["softplus", "tanh"])
def test_a_smaller_scale_is_more_regular(summary, activation):
    indices = column(summary, activation, "index_global")
    assert indices[0] < indices[1] < indices[2]
    # O(c) for small c: a factor of ten in c, about ten in the index.
    assert 5 < indices[1] / indices[0] < 40
    steps = column(summary, activation, "steps")
    assert steps[0] < steps[1] < steps[2]
    distinct = column(summary, activation, "distinct")
    assert distinct[0] == 1.0
    assert distinct[2] > 1.0
    assert column(summary, activation, "maxima")[0] == 1.0


def test_the_homogeneous_control_is_flat(summary):
    assert summary.control_pairs > 5
    # End points are stationary to 1e-8; κ and the indices are smooth in them.
    assert summary.control_drift < scale.CONTROL_TOLERANCE
    steps = column(summary, "quadratic", "steps")
    assert max(steps) < 2 * min(steps)


def test_the_control_can_fail(summary):
    one = {"maximum": torch.ones(1, 1, dtype=torch.bool), "sign": torch.ones(1, 1)}
    one |= {name: torch.ones(1, 1).double() for name in ("kappa", "global", "unique")}
    one |= {"loss": torch.ones(1, 1)}
    other = {**one, "kappa": 2 * torch.ones(1, 1).double()}
    drift, pairs = scale.control_drift({(0.1, 0): one, (1.0, 0): other})
    assert drift >= 0.5
    assert pairs == 1


@pytest.mark.parametrize(("successes", "trials"), [(0, 7), (3, 7), (7, 7), (79, 80)])
def test_clopper_pearson_ends_have_their_tails(successes, trials):
    low, high = scale.clopper_pearson(successes, trials)
    if successes:
        assert binom.sf(successes - 1, trials, low) == pytest.approx(0.025)
    else:
        assert low == 0.0
    if successes < trials:
        assert binom.cdf(successes, trials, high) == pytest.approx(0.025)
    else:
        assert high == 1.0


def test_result_is_plain_json_without_nan(summary):
    text = json.dumps(scale.result(summary, "run"), allow_nan=False)
    result = json.loads(text)
    assert result["control"]["flat"] is True
    assert len(result["rows"]) == len(scale.ACTIVATIONS) * len(SCALES)
    assert all(math.isfinite(row["steps"]) for row in result["rows"])


def test_the_page_is_one_file_that_needs_no_network(summary):
    page = scale_page(summary, "<b>run</b>")
    assert page == scale_page(summary, "<b>run</b>")
    assert "<b>run</b>" not in page
    own = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r"(?:src|href)\s*=|@import|url\(", own)
    assert page.count("<script>") == page.count("</script>")


def test_the_table_fits_a_terminal(summary, capsys):
    print_scale(summary, "out")
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 100
    assert any("flat, as it must be" in line for line in lines)


def test_a_finished_run_does_no_work(tmp_path, monkeypatch):
    for name, value in {"EXAMPLES": 2, "RESTARTS": 2, "SEEDS": 1}.items():
        monkeypatch.setattr(scale, name, value)
    monkeypatch.setattr(scale, "SCALES", (0.1, 1.0))
    spec = scale.specification(0)
    with Store.open(tmp_path / "run", spec) as store:
        first = scale.run(store)

    def never(cell):
        raise AssertionError(f"{cell} was measured again")

    monkeypatch.setattr(scale, "measure", never)
    with Store.open(tmp_path / "run", spec) as store:
        assert scale.run(store) == first
