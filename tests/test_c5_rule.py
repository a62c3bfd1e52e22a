"""C5's rule on planted curves: it finds what was planted, and nothing else."""

import math

import numpy as np
import pytest
import torch

from summiteer.studies.claims import c5_cells
from summiteer.studies.claims.c5 import C5
from summiteer.studies.claims.c5_rule import Runs, cause, crossing_standing, majority
from summiteer.studies.claims.claim import Row, Standing
from summiteer.studies.descent.crossing import (
    mean_over_steps,
    sustained_steps,
    thresholds,
)
from summiteer.studies.experiments.scaled_training import ScaledTrainingParameters

AT = (0, 1, 2, 3, 5, 8, 13, 20, 30, 45, 60)
FLOOR = 0.1
LEVELS = thresholds(FLOOR)
SCALES = c5_cells.SCALES


def curve(log_steps, noise=0.05, networks=10, start=1.0, seed=0):
    """Losses that fall from `start` to the floor, θ50 met at about exp(log_steps)."""
    generator = np.random.default_rng(seed)
    half = np.exp(log_steps + noise * generator.standard_normal(networks))
    rate = math.log((start - FLOOR) / (LEVELS[1] - FLOOR)) / half
    at = np.asarray(AT, float)
    return torch.from_numpy(FLOOR + (start - FLOOR) * np.exp(-rate[:, None] * at))


def planted(slope, name="mid", middle=1.5, edge=False, **options):
    """Runs whose log steps grow by `slope` per unit of log c."""
    curves = [
        curve(middle + slope * math.log(c), seed=n, **options)
        for n, c in enumerate(SCALES)
    ]
    runs = Runs.of(SCALES, curves, AT, LEVELS, [edge] * len(SCALES))
    return runs.within(*c5_cells.RANGES[name])


@pytest.mark.parametrize(
    ("name", "middle"), [("low", 3.0), ("mid", 1.5), ("high", 1.0)]
)
def test_a_planted_effect_is_supported(name, middle):
    runs = planted(0.6, name, middle)
    assert crossing_standing(runs) is Standing.SUPPORTED
    # 1 + steps grows a little less than steps; small counts most.
    assert 0.3 < runs.growth()[1].value < 0.62


def test_a_planted_reversal_is_reversed():
    assert crossing_standing(planted(-0.6)) is Standing.REVERSED


def test_no_effect_is_no_effect():
    assert crossing_standing(planted(0.0)) is Standing.NO_EFFECT


def test_noise_is_inconclusive():
    assert crossing_standing(planted(0.1, noise=0.8)) is Standing.INCONCLUSIVE


def test_an_effect_in_steps_but_not_in_the_loss_is_not_supported():
    runs = planted(0.6)
    lower = Runs(
        runs.scales,
        runs.steps,
        runs.never,
        runs.mean_loss[:, ::-1].copy(),
        runs.start_loss,
        runs.edge,
    )
    assert crossing_standing(lower) is Standing.INCONCLUSIVE


def test_a_rate_on_the_edge_decides_nothing():
    assert crossing_standing(planted(0.6, edge=True)) is Standing.INCONCLUSIVE


def test_what_was_not_reached_is_said_to_be():
    stuck = [torch.full((10, len(AT)), 0.51, dtype=torch.float64) for _ in SCALES]
    runs = Runs.of(SCALES, stuck, AT, LEVELS, [False] * 6)
    assert crossing_standing(runs) is Standing.NOT_REACHED
    assert runs.steps.min() == 61.0


def test_one_end_censored_still_counts():
    # θ is met at small scales and never at large ones: K + 1 there.
    curves = [curve(1.0, seed=n) for n in range(3)]
    curves += [torch.full((10, len(AT)), 0.6, dtype=torch.float64)] * 3
    runs = Runs.of(SCALES, curves, AT, LEVELS, [False] * 6)
    assert crossing_standing(runs.within(0.3, 3.0)) is Standing.SUPPORTED
    assert crossing_standing(runs.within(1.0, 10.0)) is Standing.NOT_REACHED


@pytest.mark.parametrize(
    ("steps", "verdict"),
    [
        ((58, 58, 58), Standing.NO_EFFECT),
        ((58, 58, 61), Standing.INCONCLUSIVE),
        ((61, 58, 58), Standing.INCONCLUSIVE),
        ((58, 61, 58), Standing.INCONCLUSIVE),
        ((3, 10, 61), Standing.SUPPORTED),
        ((61, 10, 3), Standing.REVERSED),
        ((3, 61, 61), Standing.SUPPORTED),
    ],
)
def test_c5_gives_no_verdict_that_longer_training_could_overturn(steps, verdict):
    rise = np.tile([0.1, 0.2, 0.3], (10, 1))
    table = np.tile(np.array(steps, float), (3, 10, 1))
    scales = np.array([0.1, 1.0, 10.0])
    runs = Runs(scales, table, 61.0, rise, np.ones((10, 3)), [False] * 3)
    assert crossing_standing(runs) is verdict


def test_networks_that_diverge_never_arrive():
    losses = curve(1.0)
    losses[3, 5:] = math.inf
    steps = sustained_steps(losses, torch.tensor(AT), LEVELS[0])
    assert float(steps[3]) == 61.0
    assert float(steps[2]) < 61.0
    assert bool(mean_over_steps(losses, torch.tensor(AT)).isfinite().all())


def test_a_passing_dip_is_no_crossing():
    at = torch.tensor([0, 1, 2, 3, 4])
    losses = torch.tensor([[1.0, 0.1, 1.0, 0.2, 0.1]]).double()
    # From 1.0 at step 2 to 0.2 at step 3 it passes ½ at 2 + 5/8.
    assert float(sustained_steps(losses, at, 0.5)) == pytest.approx(2.625)
    assert float(sustained_steps(losses, at, 2.0)) == 0.0
    assert float(sustained_steps(losses, at, 0.1)) == 5.0


def test_the_mean_over_steps_is_the_integral():
    at = torch.tensor([0, 1, 3])
    losses = torch.tensor([[1.0, 3.0, 1.0]])
    assert float(mean_over_steps(losses, at)) == pytest.approx((2.0 + 4.0) / 3)


def test_thresholds_are_below_what_doing_nothing_reaches():
    assert thresholds(0.1) == pytest.approx((0.42, 0.3, 0.18))
    assert thresholds(0.498) == (0.45, 0.4, 0.35)
    assert all(level < 0.5 for floor in (0.0, 0.3, 0.45) for level in thresholds(floor))


S, R, N, U = (
    Standing.SUPPORTED,
    Standing.REVERSED,
    Standing.NO_EFFECT,
    Standing.INCONCLUSIVE,
)


@pytest.mark.parametrize(
    ("standings", "expected"),
    [
        ([S, S, S, U, N, S], S),
        ([S, S, S, U, N, N], U),
        ([S, S, S, S, S, R], U),
        ([R, R, U], R),
        ([N, N, S], N),
        ([], U),
    ],
)
def test_the_majority_must_not_be_contradicted(standings, expected):
    assert majority(standings) is expected


@pytest.mark.parametrize(
    ("doubled", "relu", "expected"),
    [
        ([S, S], N, S),
        ([S, S], S, U),
        ([N, R], S, Standing.NOT_SUPPORTED),
        ([N, S], N, U),
        ([], S, U),
    ],
)
def test_the_landscape_is_the_cause_only_if_both_controls_say_so(
    doubled, relu, expected
):
    assert cause(doubled, relu) is expected


def _rows(plan, slope):
    found = []
    for n, c in enumerate(plan.setting.scales):
        strong = curve(1.0 + slope * math.log(c), seed=n)
        parameters = ScaledTrainingParameters(**plan.study.cells()[n].spec)
        record = {
            "rate": 1.0,
            "edge": False,
            "thresholds": list(LEVELS),
            "checkpoints": list(AT),
            "weakest": 0.95,
        }
        arrays = {"strong": strong, "safe": (strong < 0.3).double()}
        found.append(
            Row(parameters.model_dump(mode="json"), record, lambda a=arrays: a)
        )
    return found


@pytest.mark.parametrize(
    ("slope", "doubled", "expected", "causal"),
    [(0.6, 0.0, S, Standing.NOT_SUPPORTED), (-0.6, -0.6, R, Standing.NOT_SUPPORTED),
     (0.6, 0.6, S, U)],
)  # fmt: skip
def test_the_claim_is_judged_from_its_rows(
    slope, doubled, expected, causal, monkeypatch
):
    monkeypatch.setenv("SUMMITEER_DATA", "nowhere")
    plans = [plan for plan in c5_cells.planned("full") if plan.protocol.key == "P2"]
    known = {
        plan.study.name: _rows(
            plan, doubled if plan.setting.number in (4, 5) else slope
        )
        for plan in plans
    }
    judged = C5.judge(known, "full")
    assert judged[0].standing is expected
    assert judged[1].standing is causal
    assert len(judged) == 2 + 3 * len(plans)
    assert all(each.sentence and each.numbers is not None for each in judged)


def test_a_lost_cell_decides_nothing():
    plan = c5_cells.planned("full")[0]
    rows = [row for row in _rows(plan, 0.6) if row.parameters["scale"] != 1.0]
    judged = C5.judge({plan.study.name: rows}, "full")
    by_range = {each.regime.split("; ")[1]: each for each in judged[2:]}
    assert by_range["c 0.3 to 3"].standing is U
    assert "c = 1" in by_range["c 0.3 to 3"].sentence
    assert by_range["c 0.03 to 0.3"].standing is S


def test_quick_is_not_judged():
    plans = c5_cells.planned("quick")
    assert [plan.setting.number for plan in plans] == [1, 4]
    judged = C5.judge({p.study.name: _rows(p, 0.6) for p in plans}, "quick")
    assert {each.standing for each in judged} == {Standing.NOT_JUDGED}


def test_no_study_is_named_twice_and_tuning_networks_are_not_judged_by():
    names = [plan.study.name for plan in c5_cells.planned("full")]
    assert len(names) == len(set(names))
    for plan in c5_cells.planned("full"):
        for cell in plan.study.cells():
            parameters = ScaledTrainingParameters(**cell.spec)
            assert parameters.tuning_seeds <= 10  # evaluation begins at seed + 10
            assert parameters.seed == 0


def test_without_mnist_its_settings_are_left_out(monkeypatch):
    monkeypatch.setenv("SUMMITEER_DATA", "nowhere")
    without = {plan.setting.number for plan in c5_cells.planned("full")}
    assert without == {1, 2, 3, 4, 5, 6, 7}
