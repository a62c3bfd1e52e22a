"""Restarts against loss: what a page of an attack says of them."""

import pytest
import torch

from planted_runs import arrays_of, planted
from summiteer.report.document import Plot
from summiteer.report.pages import document_of


def restarts_of(run):
    """The chart, or None."""
    blocks = [each for part in document_of(run).sections for each in part.blocks]
    plots = {each.chart.title: each for each in blocks if isinstance(each, Plot)}
    return plots.get("What random restarts add to the loss")


@pytest.mark.parametrize("labelled", [True, False])
def test_restarts_are_averaged_over_the_same_examples(tmp_path, labelled):
    arrays = arrays_of(120, labelled=labelled)
    plot = restarts_of(planted(tmp_path / "run", arrays))
    (curve,), (mark,) = plot.chart.series, plot.chart.marks
    asked = arrays["survived"] if labelled else torch.ones(120, dtype=torch.bool)
    draws = arrays["draws"][asked]
    count = len(curve.x) - 1
    # Half of those with any restart have as many at least.
    some = draws[draws > 0]
    assert 2 * int((some >= count).sum()) >= len(some)
    assert 2 * int((some > count).sum()) <= len(some)
    same = asked & (arrays["draws"] >= count)
    first = arrays["restart_losses"][same]
    for k, mean in enumerate(curve.y):
        assert mean == pytest.approx(float(first[:, : k + 1].amax(1).mean()))
    assert mark.at == pytest.approx(float(arrays["losses"][same].mean()))
    assert mark.at >= curve.y[-1]
    noun = "survivors" if labelled else "examples"
    assert f"the same {int(same.sum())} of {int(asked.sum())} {noun}" in plot.words
    raised = int((first[:, : count + 1].amax(1) > (1 + 1e-4) * first[:, 0]).sum())
    assert f"after {count} random restarts, which raised it for {raised}" in plot.words


def test_no_restarts_no_chart(tmp_path):
    arrays = arrays_of(30)
    arrays["restart_losses"][:, 1:] = torch.nan
    assert restarts_of(planted(tmp_path / "none", arrays)) is None
    del arrays["restart_losses"]  # of a run by an older version
    assert restarts_of(planted(tmp_path / "older", arrays)) is None
    run = planted(tmp_path / "broken", arrays_of(30, survivors=0))
    assert restarts_of(run) is None
