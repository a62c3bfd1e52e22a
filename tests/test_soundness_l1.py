"""The soundness campaign on L1 balls and behind `sm.Standardise`, and what it finds."""

from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from soundness import campaign
from soundness.diamond import diamond
from soundness.kinked import module_of
from soundness.kinked_checks import trial_of
from soundness.l1_checks import check_l1
from soundness.l1_families import KINKED, drawn_diamond
from soundness.layers import Standard
from soundness.tally import Tally

import summiteer as sm
from summiteer.optimality import l1_vertex

pytestmark = pytest.mark.filterwarnings("ignore")
FAMILIES = ("l1_smooth", "l1_two_layers", "l1_deep", "standardised", "l1_standardised")
#: A round with claims of every kind.
MANY = ("l1_two_layers", 4)


@pytest.mark.parametrize(
    ("name", "turn"), list(zip(FAMILIES, (1, 4, 0, 1, 3), strict=True))
)
def test_a_slice_of_the_campaign_finds_no_false_proof(name, turn):
    tally = Tally()
    campaign.one(name, 0, turn, tally)
    assert not tally.violations, tally.table()
    assert sum(n for v, n in tally.verdicts.items() if v.startswith("PROVED")) > 3
    assert tally.checks > 500


def _case(name: str, turn: int):
    rng = np.random.default_rng([0, turn, *name.encode()])
    with np.errstate(all="ignore"):
        return KINKED[name](rng), rng


def _trial(name: str, turn: int):
    case, rng = _case(name, turn)
    certificate = sm.local_optimality(
        case.problem, torch.from_numpy(case.points), case.within
    )
    return trial_of(case, certificate, rng, Tally())


def _violated(trial) -> set[str]:
    trial.tally = Tally()
    with np.errstate(all="ignore"):
        check_l1(trial)
    return {name for name, kind in trial.tally.kinds.items() if kind.violations}


@pytest.mark.parametrize(
    ("name", "change", "kind", "turn"),
    [
        ("best_radius", lambda v: v + 1e9, "L1: higher vertices", ("l1_deep", 2)),
        ("loss_gap_bound", lambda v: v - 1e-9, "loss_gap_bound", MANY),
        ("distance_bound", lambda v: 0.9 * v, "distance_bound", MANY),
        ("uniqueness_radius", lambda v: v + 1e9, "L1: one vertex", MANY),
        ("margin", lambda v: 10 * v + 1, "L1: margin", MANY),
        ("guaranteed_gain", lambda v: 1.5 * v, "guaranteed_gain", MANY),
    ],
)
def test_a_number_that_is_too_good_is_caught(name, change, kind, turn):
    trial = _trial(*turn)
    assert not _violated(trial)
    trial.claims[name] = change(trial.claims[name])
    assert kind in _violated(trial)


@pytest.mark.parametrize("name", ["l1_smooth", "l1_deep"])
def test_maxima_called_not_stationary_are_caught(name):
    trial = _trial(name, 0)
    peak = np.isin(trial.verdicts, ["STRICT_LOCAL_MAXIMUM", "GLOBAL_MAXIMUM"])
    assert peak.any()
    trial.verdicts[peak] = "NOT_STATIONARY"
    found = _violated(trial)
    assert {"NOT_STATIONARY: no maximum near", "L1: uphill from everywhere"} <= found


def test_a_prover_that_overlooks_slopes_is_caught():
    plain = l1_vertex._Polytope.margin

    def only_held(self, vertex, gradient):
        # The ways that leave a zero coordinate are forgotten.
        none = replace(self, lower=0 * self.lower, upper=0 * self.upper)
        return plain(none, vertex, gradient)

    tally = Tally()
    with patch.object(l1_vertex._Polytope, "margin", only_held):
        campaign.one(MANY[0], 0, MANY[1], tally)
    assert tally.violations


def _behind(factor: float) -> Tally:
    """A round whose truth divides by other numbers than the package does."""
    tally = Tally()
    case, rng = _case("l1_standardised", 3)
    points = torch.from_numpy(case.points)
    found = sm.local_optimality(case.problem, points, case.within)
    first, *rest = case.kinked.layers
    truth = (Standard(first.mean, factor * first.std), *rest)
    altered = replace(case, kinked=replace(case.kinked, layers=truth))
    with np.errstate(all="ignore"):
        check_l1(trial_of(altered, found, rng, tally))
    return tally


def test_a_standardisation_that_divides_by_another_number_is_caught():
    assert not _behind(1.0).violations
    assert _behind(1.001).violations


@pytest.mark.parametrize("name", FAMILIES)
def test_truth_computes_what_the_modules_do(name):
    for turn in range(4):
        kinked = _case(name, turn)[0].kinked
        model, _ = module_of(kinked)
        points = np.zeros((len(kinked), 1, kinked.inputs.shape[1]))
        flow = kinked.flow(points)
        with torch.no_grad():
            seen = model(torch.from_numpy(kinked.inputs)).numpy()
        # float64 has 2048 times the unit of rounding; their sums differ too.
        room = 1e5 * flow.error + 1e-13
        assert (np.abs(seen.reshape(flow.value.shape) - flow.value) <= room).all()


@pytest.mark.parametrize("seed", range(4))
def test_the_best_vertex_is_the_linear_maximum_of_the_region(seed):
    rng = np.random.default_rng(seed)
    zone = drawn_diamond(rng, 1.0, 8, 3)
    slopes = rng.normal(size=(8, 3))
    region = zone.region().bind(torch.zeros(8, 3, dtype=torch.float64))
    best = region.linear_maximiser(torch.from_numpy(slopes)).numpy()
    top = (slopes[:, None] * zone.corners()).sum(-1).max(1)
    assert np.abs((slopes * best).sum(-1) - top).max() < 1e-14


def test_the_nearest_point_of_a_diamond():
    zone = diamond(np.ones(1), np.array([[-1.0, -0.2]]), np.array([[1.0, 0.2]]))
    points = np.array([[[2.0, 2.0], [0.3, 0.1], [0.3, -9.0], [3.0, 0.0]]])
    expected = [[0.8, 0.2], [0.3, 0.1], [0.3, -0.2], [1.0, 0.0]]
    assert np.abs(zone.project(points)[0] - expected).max() < 1e-15
    assert zone.inside(zone.project(points)).all()
    assert not zone.inside(1.001 * np.array(expected)[None, [0, 2, 3]]).any()
