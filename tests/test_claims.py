"""The rules of C1 to C4 on planted rows, and their experiments on real cells."""

import json
import math

import numpy as np
import pytest
import torch

from summiteer.studies.claims import c1, c2, c3, c4
from summiteer.studies.claims.claim import Row, Standing
from summiteer.studies.claims.rules import (
    Curves,
    bound_standing,
    chosen,
    curves,
    share_standing,
    standing,
    together,
)
from summiteer.studies.experiments import EXPERIMENTS
from summiteer.studies.statistics import Estimate, unknown

SCALES = (0.1, 1.0, 10.0)
EXTENTS = ("quick", "full")


def estimate(low, high):
    return Estimate((low + high) / 2, low, high, 8)


def row(kind, arrays, record=None, **values):
    """A finished cell with parameters as they are recorded."""
    parameters = EXPERIMENTS[kind].cell(**values).spec
    return Row(parameters, record or {}, lambda: arrays)


def noise(seed, size=8):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=size))


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.1, 0.3), Standing.SUPPORTED),
        ((0.01, 0.3), Standing.SUPPORTED),
        ((0.01, 0.04), Standing.NO_EFFECT),
        ((-0.04, 0.04), Standing.NO_EFFECT),
        ((-0.3, -0.1), Standing.REVERSED),
        ((-0.1, 0.3), Standing.INCONCLUSIVE),
        ((-0.1, 0.02), Standing.INCONCLUSIVE),
    ],
)
def test_an_effect_is_judged_by_its_interval(interval, verdict):
    assert standing(estimate(*interval), 0.05) is verdict
    assert standing(unknown(), 0.05) is Standing.INCONCLUSIVE
    # No effect in any unit that was seen says nothing of the others.
    assert standing(estimate(0.0, 0.0), 0.05) is Standing.INCONCLUSIVE
    assert standing(estimate(2.0, 2.0), 0.05) is Standing.SUPPORTED


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.95, 1.0), Standing.SUPPORTED),
        ((0.94, 1.0), Standing.INCONCLUSIVE),
        ((0.5, 0.94), Standing.NOT_SUPPORTED),
        ((0.5, 0.95), Standing.INCONCLUSIVE),
    ],
)
def test_a_share_is_judged_by_its_interval(interval, verdict):
    assert share_standing(estimate(*interval), 0.95) is verdict
    assert share_standing(unknown(), 0.95) is Standing.INCONCLUSIVE


def test_a_bound_is_judged_by_the_upper_end():
    assert bound_standing(estimate(0.5, 2.0), 2.0) is Standing.SUPPORTED
    assert bound_standing(estimate(0.5, 2.1), 2.0) is Standing.INCONCLUSIVE
    assert bound_standing(estimate(2.1, 3.0), 2.0) is Standing.NOT_SUPPORTED
    assert bound_standing(unknown(), 2.0) is Standing.INCONCLUSIVE


def test_all_parts_must_hold():
    yes, no, open_ = Standing.SUPPORTED, Standing.NO_EFFECT, Standing.INCONCLUSIVE
    assert together([yes, yes]) is yes
    assert together([no, no]) is no
    assert together([yes, open_]) is open_
    assert together([yes, no]) is Standing.NOT_SUPPORTED
    assert together([yes, Standing.REVERSED]) is Standing.NOT_SUPPORTED
    assert together([yes, Standing.NOT_SUPPORTED]) is Standing.NOT_SUPPORTED


def test_curves_have_networks_as_units_or_images():
    rows = [
        row("climb", {"steps": torch.tensor([[s, s + 10 * c, 1e6]])}, scale=c, seed=s)
        for s in range(6)
        for c in SCALES
    ]
    found = curves(rows, "scale", lambda r: r.arrays()["steps"][0])
    assert found.unit == "network"
    assert found.y.shape == (6, 3)
    assert found.y[2].tolist() == [3.0, 12.0, 102.0]  # medians over images
    few = chosen(rows, seed=0) + chosen(rows, seed=1)
    images = curves(few, "scale", lambda r: r.arrays()["steps"][0])
    assert images.unit == "image"
    assert images.y.shape == (6, 3)


def test_blocks_of_images_are_joined_in_their_order():
    rows = [
        row("climb", {"v": torch.tensor([10.0 * f + c])}, scale=c, seed=0, first=f)
        for f in (2, 0, 1)
        for c in SCALES
    ]
    found = curves(rows, "scale", lambda r: r.arrays()["v"])
    assert found.y[:, 0] == pytest.approx([0.1, 10.1, 20.1])


# C1


def shares(hits, networks, runs=4, **values):
    record = {"proved": hits, "maximum": hits, "best": 0, "runs": runs}
    record |= {"decided": runs, "decided_by_proof": runs, "limit": 0}
    return [row("climb", {}, record, seed=s, **values) for s in range(networks)]


@pytest.mark.parametrize(
    ("hits", "networks", "verdict"),
    [
        (4, 72, Standing.SUPPORTED),
        (4, 20, Standing.INCONCLUSIVE),
        (2, 72, Standing.NOT_SUPPORTED),
        (0, 72, Standing.NOT_SUPPORTED),
    ],
)
def test_c1_is_about_the_share_of_proved_maxima(hits, networks, verdict):
    (judgement,) = c1.judge({"paper-step": shares(hits, networks)}, "full")
    assert judgement.standing is verdict
    assert judgement.effect == hits / 4
    assert judgement.low <= judgement.effect <= judgement.high
    assert "softplus, c = 1, digits" in judgement.regime


def test_c1_tells_methods_scales_and_activations_apart():
    rows = shares(4, 72) + shares(0, 72, scale=10.0)
    relu = shares(0, 72, activation="relu", method="normalised")
    relu += shares(4, 72, activation="relu", method="dc")
    found = c1.judge({"paper-step": rows, "relu": relu}, "full")
    assert found[0].regime == "softplus, c = 1, digits"
    verdicts = {(j.protocol, j.regime): j.standing for j in found}
    assert len(verdicts) == 4
    dc = verdicts[c1.WORDS["dc"], "relu, c = 1, digits"]
    pga = verdicts[c1.WORDS["normalised"], "relu, c = 1, digits"]
    assert (dc, pga) == (Standing.SUPPORTED, Standing.NOT_SUPPORTED)


def test_c1_on_two_networks_speaks_of_them_alone():
    rows = shares(250, 1, 250, data="mnist") + [
        row("climb", {}, {**r.record, "proved": 200}, seed=1, data="mnist")
        for r in shares(0, 1, 250)
    ]
    (judgement,) = c1.judge({"mnist": rows}, "full")
    assert judgement.effect == 0.9
    # The interval holds those of both networks.
    assert judgement.low < 0.8 < 0.98 < judgement.high == 1.0
    assert judgement.standing is Standing.INCONCLUSIVE
    assert "two networks" in judgement.regime


# C2


def climbs(axis, exponent, last=1.0, unreached=0):
    """Steps that grow with a parameter to a power; the last decades `last` times."""
    values, _ = c2.AXES[axis]
    found = []
    for seed in range(6):
        for value in values:
            base = 1000 * (value / values[0]) ** exponent
            steps = base * torch.exp(0.02 * noise(seed + 100 * int(100 * value)))
            parts = torch.stack([0.5 * steps, steps, 2 * steps, (2 + last) * steps])
            arrays = {"steps": parts.round().long()}
            if unreached:
                arrays["steps"][-1] = -1
            none = torch.zeros(8, dtype=torch.bool)
            arrays |= {"applies": none, "worst": torch.full((8,), torch.nan)}
            for name in ("rate", "ratio", "last", "local", "local_map"):
                arrays[name] = torch.full((8,), 0.5)
            record = {"runs": 8, "unreached": unreached}
            found.append(row("rate", arrays, record, seed=seed, **{axis: value}))
    return found


def rates(exponents, **values):
    return {
        f"rate-{axis}-paper": climbs(axis, exponents.get(axis, 0.5), **values)
        for axis in c2.AXES
    }


def test_c2_small_powers_are_polynomial():
    judgement, proved = c2.judge(rates({"scale": 1.2}), "full")
    assert judgement.standing is Standing.SUPPORTED
    # The largest slope is the effect.
    assert judgement.effect == pytest.approx(1.2, abs=0.05)
    assert judgement.low < 1.2 < judgement.high
    assert proved.standing is Standing.NOT_JUDGED


def test_c2_a_higher_degree_is_not():
    judgement, _ = c2.judge(rates({"dimension": 3.0}), "full")
    assert judgement.standing is Standing.NOT_SUPPORTED
    assert judgement.effect == pytest.approx(3.0, abs=0.05)


def test_c2_powers_of_the_tolerance_are_not_logarithmic():
    judgement, _ = c2.judge(rates({}, last=3.0), "full")
    assert judgement.standing is Standing.NOT_SUPPORTED


def test_c2_runs_that_do_not_arrive_are_not_reached():
    judgement, _ = c2.judge(rates({}, unreached=8), "full")
    assert judgement.standing is Standing.NOT_REACHED


@pytest.mark.parametrize(
    ("worst", "verdict"), [(0.999, Standing.SUPPORTED), (1.01, Standing.NOT_SUPPORTED)]
)
def test_c2_a_step_slower_than_proved_is_seen(worst, verdict):
    rows = rates({})
    arrays = rows["rate-scale-paper"][3].arrays()
    arrays["applies"][2], arrays["worst"][2] = True, worst
    _, proved = c2.judge(rows, "full")
    assert proved.standing is verdict
    assert proved.numbers["applies"] == 1
    assert ("bug of ours" in proved.sentence) == (worst > 1)


# C3


def landscapes(power, count, activation="softplus", spread=0.0, seeds=8):
    """Indices that grow like c^power; `count(c)` maxima of each image, two runs."""
    found = []
    for seed in range(seeds):
        for scale in SCALES:
            index = scale**power * torch.exp(0.05 * noise(seed)).expand(4, 8)
            number = count(scale)
            label = torch.arange(4)[:, None].expand(4, 8) % number
            loss = torch.ones(4, 8).double()
            loss[1] -= spread * scale
            arrays = {
                "maximum": torch.ones(4, 8, dtype=torch.bool),
                "sign": torch.ones(4, 8, dtype=torch.int8),
                "label": label,
                "loss": loss,
                "unseen": torch.zeros(8).double(),
                "proved_distinct": torch.full((8,), number),
                **{name: index for name in (*c3.INDICES, "kappa")},
            }
            values = {"activation": activation, "scale": scale, "seed": seed}
            found.append(row("climb", arrays, **values))
    return found


def moved(values, bias):
    arrays = {"moved": torch.tensor(values).double()}
    return row("kinks", arrays, bias_std=bias)


def judged(power=1.0, count=lambda c: 1, spread=0.0):
    rows = landscapes(power, count, spread=spread)
    rows += landscapes(power, count, "tanh", spread)
    known = {
        "maxima": rows,
        "c3-control": landscapes(0.0, lambda c: 1, "quadratic"),
        "c3-relu": [moved([[0.0, 1e-9]], 0.0), moved([[0.5, 1e-9]], 1.0)],
    }
    found = c3.judge(known, "full")
    return {(j.protocol, j.regime.split(",")[0]): j for j in found}


def test_c3_indices_that_grow_are_supported():
    found = judged()
    judgement = found["indices", "softplus"]
    assert judgement.standing is Standing.SUPPORTED
    assert judgement.effect == pytest.approx(1.0, abs=1e-6)
    assert found["indices", "tanh"].standing is Standing.SUPPORTED


def test_c3_indices_that_stay_are_no_effect():
    found = judged(power=0.0)
    assert found["indices", "softplus"].standing is Standing.NO_EFFECT
    assert judged(power=-1.0)["indices", "tanh"].standing is Standing.REVERSED


def test_c3_an_index_that_becomes_infinite_grows():
    rows = landscapes(1.0, lambda c: 1)
    for each in rows:
        if each.parameters["scale"] > 0.1:
            each.arrays()["a_priori"] = torch.full((4, 8), math.inf).double()
    judgement = c3._indices(rows, "softplus")
    assert judgement.standing is Standing.SUPPORTED
    assert "q from finite to ∞" in judgement.sentence
    json.dumps(judgement.numbers, allow_nan=False)


def test_c3_kappa_may_be_negative_and_is_compared_at_the_ends():
    rows = landscapes(1.0, lambda c: 1)
    for each in rows:
        scale = each.parameters["scale"]
        shift = 0.3 if scale == 1.0 else -0.1 * scale
        each.arrays()["kappa"] = 0.01 * noise(3).expand(4, 8) + shift
    judgement = c3._kappa(rows, "softplus")
    # Higher in between, lower at the end.
    assert judgement.standing is Standing.REVERSED
    assert judgement.effect == pytest.approx(-0.99, abs=0.01)
    assert judgement.numbers["kappa"][1] > 0.2


def test_a_slope_of_what_is_not_positive_everywhere_is_not_known():
    rows = landscapes(1.0, lambda c: 1)
    rows[2].arrays()["global"] = -torch.ones(4, 8).double()
    assert not curves(rows, "scale", c3.at_maxima("global")).growth().known


def test_c3_more_maxima_are_counted():
    more = judged(count=lambda c: 1 if c < 5 else 3)["distinct maxima", "softplus"]
    assert more.standing is Standing.SUPPORTED
    assert more.effect == 2.0
    assert "never more than one up to c = 1" in more.sentence
    same = judged()["distinct maxima", "softplus"]
    # Not one more in eight networks: in one of four there may be.
    assert same.standing is Standing.INCONCLUSIVE
    assert same.effect == 0.0
    assert "0 (alike in all 8) more" in same.sentence


def test_c3_loss_spread():
    assert judged(spread=0.01)["loss spread", "tanh"].standing is Standing.SUPPORTED
    assert judged()["loss spread", "tanh"].standing is Standing.INCONCLUSIVE


def test_c3_signs_of_u_are_counted_apart():
    rows = landscapes(1.0, lambda c: 2)
    arrays = rows[0].arrays()
    arrays["sign"][1::2] = -1  # with it goes the second maximum
    assert c3.distinct(rows[0]).tolist() == [1.0] * 8
    assert c3.distinct(rows[1]).tolist() == [2.0] * 8


def test_c3_controls_are_flat_or_a_bug_is_told():
    found = judged()
    control = found["control: κ and indices", "quadratic (homogeneous)"]
    assert control.standing is Standing.AS_IT_MUST
    rows = landscapes(0.0, lambda c: 1, "quadratic")
    rows[1].arrays()["kappa"] = 2 * rows[1].arrays()["kappa"]
    drift, pairs = c3.control_drift(rows)
    assert drift >= 0.5
    assert pairs == 8 * 8
    assert c3._control(rows).standing is Standing.BUG
    rows = landscapes(0.0, lambda c: 1, "quadratic")
    rows[1].arrays()["a_priori"] = torch.full((4, 8), math.inf).double()
    assert c3._control(rows).standing is Standing.BUG  # finite at another scale
    for each in rows:
        each.arrays()["a_priori"] = torch.full((4, 8), math.inf).double()
    assert c3._control(rows).standing is Standing.AS_IT_MUST


def test_c3_relu_maxima_stay_without_biases_only():
    found = judged()
    stays = found["control: maxima by DC ascent", "relu without biases (homogeneous)"]
    assert stays.standing is Standing.AS_IT_MUST
    leaves = found["contrast: maxima by DC ascent", "relu with biases"]
    assert leaves.standing is Standing.SUPPORTED
    assert leaves.numbers["stay"] == 0.5
    bug = c3._carried([moved([[0.5, 0.0]], 0.0)])
    assert bug.standing is Standing.BUG


def test_the_contrast_of_c3_needs_a_maximum_that_was_left():
    stays = c3._carried([moved([[0.0, 1e-9]], 1.0)])
    assert stays.standing is Standing.NO_EFFECT
    assert "the scale matters" not in stays.sentence
    nothing = c3._carried([moved([[0.0, math.nan]], 1.0)])
    assert nothing.standing is Standing.INCONCLUSIVE
    assert nothing.numbers["moved"] is None


def levels(table):
    """An index per network (rows) and scale (columns), the same at all images."""
    x = np.array([0.1, 1.0, 10.0, 100.0])
    return Curves("scale", x, np.array(table, float), "network")


def test_an_index_that_becomes_infinite_grows_in_every_network_or_is_not_judged():
    rises = [[0.1, math.inf, math.inf, math.inf], [0.1, 5.0, 7.0, 9.0]]
    assert c3._finite_at_first_alone(levels(rises))
    falls = [[0.1, math.inf, math.inf, math.inf], [0.1, 0.05, 0.04, 0.03]]
    assert not c3._finite_at_first_alone(levels(falls))


def test_up_to_means_from_the_first_on_without_a_gap():
    assert "up to c = 1" in c3._below_one(levels([[0.1, 0.5, 3.0, 0.9]]))
    assert c3._below_one(levels([[2.0, 0.5, 3.0, 0.9]])) == ""


# C4


def climbed(steps):
    return {"steps": steps[None], "stationary": torch.ones(1, 8, dtype=torch.bool)}


def speeds(power, activation="softplus", method="paper", wide=0.02):
    found = []
    for seed in range(8):
        shift = wide * float(noise(seed, 1))
        for scale in SCALES:
            steps = 50 * scale ** (power + shift) * torch.exp(0.02 * noise(seed))
            arrays = climbed(steps)
            record = {"runs": 8, "limit": 0}
            values = {"activation": activation, "method": method}
            found.append(row("climb", arrays, record, scale=scale, seed=seed, **values))
    return found


@pytest.mark.parametrize(
    ("power", "wide", "verdict"),
    [
        (0.8, 0.02, Standing.SUPPORTED),
        (0.0, 0.02, Standing.NO_EFFECT),
        (-0.5, 0.02, Standing.REVERSED),
        (0.1, 1.0, Standing.INCONCLUSIVE),
    ],
)
def test_c4_is_about_the_slope_over_the_scale(power, wide, verdict):
    (judgement,) = c4.judge({"paper-step": speeds(power, wide=wide)}, "full")
    assert judgement.standing is verdict
    assert judgement.low <= judgement.effect <= judgement.high


def test_c4_takes_the_networks_that_were_climbed_at_every_scale():
    rows = speeds(1.0)
    lone = row("climb", climbed(torch.ones(8)), {"runs": 8, "limit": 0}, seed=99)
    (judgement,) = c4.judge({"a": rows[:12], "b": [*rows[12:], lone]}, "full")
    assert judgement.numbers["units"] == 8
    assert judgement.effect == pytest.approx(1.0, abs=0.05)


def test_c4_shows_where_the_effect_ends():
    rows = speeds(1.0)
    for each in rows:
        if each.parameters["scale"] >= 1.0:
            wobble = each.parameters["seed"] % 2 * (each.parameters["scale"] > 1)
            each.arrays()["steps"] = torch.full((1, 8), 50.0 + wobble)
    (judgement,) = c4.judge({"paper-step": rows}, "full")
    assert "no growth from c = 1 to 10" in judgement.sentence


@pytest.mark.parametrize(
    ("power", "scales", "verdict"),
    [
        (0.8, [10.0], Standing.SUPPORTED),
        (0.8, [0.1], Standing.REVERSED),
        (0.8, [0.1, 10.0], Standing.INCONCLUSIVE),
        (0.0, [1.0], Standing.INCONCLUSIVE),
        (0.0, SCALES, Standing.INCONCLUSIVE),
        (-0.5, [0.1], Standing.REVERSED),
        (-0.5, [10.0], Standing.SUPPORTED),
    ],
)
def test_c4_gives_no_verdict_that_longer_runs_could_overturn(power, scales, verdict):
    rows = speeds(power)
    for each in rows:
        if each.parameters["scale"] in scales:
            # As stalled runs end: after few steps, and not where they were to arrive.
            arrays = each.arrays()
            arrays["stationary"] = torch.zeros(1, 8, dtype=torch.bool)
    (judgement,) = c4.judge({"paper-step": rows}, "full")
    assert judgement.standing is verdict
    if len(scales) == 3:
        assert "no growth" not in judgement.sentence


@pytest.mark.parametrize("claim", [c1.C1, c2.C2, c3.C3, c4.C4], ids=lambda c: c.key)
@pytest.mark.parametrize("extent", EXTENTS)
def test_claims_plan_without_doubles_and_state_their_rule(claim, extent):
    planned = claim.studies(extent, {})
    names = [study.name for study in planned]
    assert len(set(names)) == len(names)
    cells = [cell for study in planned for cell in study.cells()]
    assert cells
    assert claim.statement.endswith(".")
    assert claim.rule.endswith(".")
    # Asked again with everything known, it names nothing new.
    known = {name: [] for name in names}
    assert [study.name for study in claim.studies(extent, known)] == names
