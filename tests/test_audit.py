import json

import numpy as np
import pytest
import torch
from torch import nn

import summiteer as sm
from audits import COUNT, RADIUS, ascent, audited, codes
from fakes import seeded
from summiteer.auditing.findings import CORRECTIONS
from summiteer.auditing.kinds import KIND_NAMES
from summiteer.data import load_data


def kinds(audit):
    return [KIND_NAMES[code] for code in audit.arrays["kind"].tolist()]


def test_a_good_attack_is_confirmed(digits):
    model, _, targets = digits
    given = ascent(digits, steps=40, step=0.01)
    audit = audited(digits, given)
    with torch.no_grad():
        right = model(given).argmax(1) == targets
    assert audit.claimed_robust_accuracy == float(right.double().mean())
    assert audit.corrected_robust_accuracy == audit.claimed_robust_accuracy
    assert bool(audit.arrays["inside"].all())
    assert set(kinds(audit)) <= {"SINGLE_STEP", "VERTEX", "BOUNDARY"}
    assert not {"OUTSIDE", "CLEAN_RETURNED", "RANDOM_START_RETURNED"} & {*codes(audit)}
    assert audit.result["corrections"] == dict.fromkeys(
        (name.lower() for name in CORRECTIONS[1:]), 0
    )


def test_clean_inputs_are_named_and_attacked(digits):
    audit = audited(digits, digits[1])
    assert set(kinds(audit)) == {"CLEAN"}
    assert codes(audit)[0] == "CLEAN_RETURNED"
    assert audit.claimed_robust_accuracy == audit.result["clean_accuracy"]
    assert audit.corrected_robust_accuracy < audit.claimed_robust_accuracy - 0.2
    moved = audit.result["corrections"]
    lost = audit.claimed_robust_accuracy - audit.corrected_robust_accuracy
    assert moved["ascent"] + moved["centre"] == round(COUNT * lost)
    i = audit.arrays["correction"].tolist().index(CORRECTIONS.index("ASCENT"))
    told = audit.explain(i)
    assert "the clean input itself" in told
    assert "turn" not in told.splitlines()[0]
    assert "it counts as wrong" in told
    assert float(audit.arrays["given_margins"][i]) < 0
    assert float(audit.arrays["reached_losses"][i]) > float(audit.arrays["losses"][i])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_random_starts_are_told_from_attacks(digits, norm):
    _, inputs, _ = digits
    noise = seeded(*inputs.shape, seed=5, dtype=torch.float32)
    if norm == "linf":
        region, radius = sm.LinfBall(RADIUS), RADIUS
        delta = RADIUS * (2 * torch.special.ndtr(noise) - 1)
    else:
        region, radius = sm.L2Ball(0.6), 0.6
        delta = 0.6 * noise / noise.norm(dim=1, keepdim=True)
    random = audited(digits, (inputs + delta).clamp(0, 1), region)
    # Chance looks unlike chance a few times in a thousand per test; three tests each.
    assert kinds(random).count("RANDOM_START") >= 0.9 * COUNT
    assert "RANDOM_START_RETURNED" in codes(random)
    # One small step is no chance, nor is the whole attack (but where a saturated loss
    # has left the tool's own gradient nothing but rounding).
    for steps in (1, 3, 10):
        given = ascent(digits, radius, radius / 4, steps, norm)
        assert kinds(audited(digits, given, region)).count("RANDOM_START") <= 1


def test_a_random_start_is_told_where_every_pixel_is_at_a_limit():
    # Half of a uniform start is clipped away there: its signs are still known.
    inputs = (seeded(20, 400, seed=2) > 0).float()
    model = nn.Sequential(nn.Linear(400, 5)).eval()
    with torch.no_grad():
        for i, weight in enumerate(model.parameters()):
            weight.copy_(seeded(*weight.shape, seed=i, dtype=torch.float32) / 20)
    targets = model(inputs).argmax(1)
    noise = torch.special.ndtr(seeded(20, 400, seed=3, dtype=torch.float32))
    given = (inputs + 0.05 * (2 * noise - 1)).clamp(0, 1)
    case = model, inputs, targets
    assert kinds(audited(case, given, sm.LinfBall(0.05))).count("RANDOM_START") >= 18
    shove = ascent(case, 0.05, 0.05, 1)
    assert "RANDOM_START" not in kinds(audited(case, shove, sm.LinfBall(0.05)))


def test_one_signed_step_is_named(digits):
    # Where the loss is saturated in float32, the tool's gradient is noise: not all.
    audit = audited(digits, ascent(digits, steps=1, step=RADIUS))
    assert kinds(audit).count("SINGLE_STEP") >= 0.75 * COUNT
    assert "SINGLE_STEP" in codes(audit)
    half = audited(digits, ascent(digits, steps=1, step=RADIUS / 2))
    assert kinds(half).count("SINGLE_STEP") >= 0.75 * COUNT
    round_one = audited(digits, ascent(digits, 0.6, 0.3, 1, "l2"), sm.L2Ball(0.6))
    assert kinds(round_one).count("SINGLE_STEP") >= 0.6 * COUNT


def test_points_that_break_the_model_only_outside_do_not_count(digits):
    allowed, beyond = ascent(digits), ascent(digits, radius=0.15, step=0.0375)
    audit = audited(digits, beyond)
    assert "OUTSIDE" in codes(audit)
    assert audit.corrected_robust_accuracy > audit.claimed_robust_accuracy + 0.1
    regained = audit.result["corrections"]["outside_only"]
    gap = audit.corrected_robust_accuracy - audit.claimed_robust_accuracy
    assert regained == round(COUNT * gap)
    # 0.15 - 0.1, as float32 says: exact to a unit of rounding of 0.15.
    excess = audit.arrays["excess"][~audit.arrays["inside"]]
    assert float((excess - 0.05).abs().max()) < 2e-7
    honest = audited(digits, allowed)
    assert audit.corrected_robust_accuracy <= honest.claimed_robust_accuracy


def test_outside_is_what_exceeds_two_units_of_rounding(digits):
    _, inputs, _ = digits
    model = digits[0].double()
    clean = inputs.double()
    room = (clean > 0.2) & (clean < 0.8)
    try:
        for dtype, slack in ((torch.float64, 2**-52), (torch.float32, 2**-23)):
            point = clean.clone()
            point[room] += RADIUS
            # inputs up to 1: a unit of rounding is 2**-52 or 2**-23
            for units, inside in ((1.0, True), (4.0, False)):
                moved = point.clone()
                moved[room] += units * slack
                # 1/3 is no float32: the file's precision is not mistaken for less
                moved[:, 0] = clean[:, 0] + (1 / 30 if dtype == torch.float64 else 0)
                audit = audited(
                    digits, moved.to(dtype), model=model, inputs=clean, box=None
                )
                assert bool((audit.arrays["inside"] == inside).all()), (dtype, units)
    finally:
        model.float()


def test_float16_files_are_not_called_outside(digits):
    given = ascent(digits).half()
    audit = audited(digits, given)
    over = float(audit.arrays["excess"].max())
    assert over > 1e-5  # float16 rounding alone
    assert "OUTSIDE" not in codes(audit)
    assert audit.result["excess"]["outside"] == 0


def test_eight_bit_files_are_recognised_and_their_excess_explained(digits):
    exact = ascent(digits)
    rounded = (exact * 255).round() / 255
    audit = audited(digits, rounded)
    assert "EIGHT_BITS" in codes(audit)
    assert "OUTSIDE" not in codes(audit)
    over = float(audit.arrays["excess"].max())
    assert 0 < over <= 0.5 / 255 + 1e-7  # float32
    assert audit.result["excess"]["grid"] == 255
    # uint8 of the same numbers is the same file
    pixels = audited(digits, (exact * 255).round().to(torch.uint8))
    assert torch.equal(pixels.arrays["excess"] > 0, audit.arrays["excess"] > 0)
    assert pixels.claimed_robust_accuracy == audit.claimed_robust_accuracy
    # without rounding, as a plain cast does
    cut = audited(digits, (exact * 255).to(torch.uint8))
    assert "EIGHT_BITS" in codes(cut)
    assert 0.5 / 255 < float(cut.arrays["excess"].max()) <= 1 / 255 + 1e-7
    # Floats are on no grid.
    assert audited(digits, exact).result["excess"]["grid"] is None
    # A grid explains no more than a level.
    far = (ascent(digits, 0.12, 0.025) * 255).round() / 255
    assert "OUTSIDE" in codes(audited(digits, far))


def test_permuted_rows_come_first(digits):
    given = ascent(digits)
    audit = audited(digits, given.roll(1, 0))
    assert codes(audit) == ["PERMUTED"]
    assert audit.arrays["fits"].tolist() == [(i - 1) % COUNT for i in range(COUNT)]
    swapped = given.clone()
    swapped[[3, 7]] = given[[7, 3]]
    few = audited(digits, swapped)
    finding = few.findings[0]
    assert (finding.code, finding.examples) == ("PERMUTED", (3, 7))
    assert "another order" in few.explain(3)


@pytest.mark.parametrize(
    ("factor", "shift", "told"),
    [(255.0, 0.0, "255·x"), (2.0, -1.0, "2·x - 1"), (1 / 0.3081, -0.4242, "about")],
)
def test_other_units_come_first(digits, factor, shift, told):
    audit = audited(digits, factor * ascent(digits) + shift)
    assert codes(audit) == ["OTHER_UNITS"]
    assert told in audit.findings[0].text


def test_not_finite_rows_are_outcomes_of_their_examples(digits):
    given = ascent(digits)
    plain = audited(digits, given)
    given[2, 5], given[4, 0] = torch.nan, torch.inf
    audit = audited(digits, given)
    assert [i for i, k in enumerate(kinds(audit)) if k == "NOT_FINITE"] == [2, 4]
    assert "NOT_FINITE" in codes(audit)
    assert not bool(audit.arrays["claimed"][[2, 4]].any())
    assert audit.arrays["residuals"][[2, 4]].isnan().all()
    others = [i for i in range(COUNT) if i not in (2, 4)]
    for name in ("kind", "survived", "verdict"):
        assert torch.equal(plain.arrays[name][others], audit.arrays[name][others])
    json.dumps(audit.result, allow_nan=False)
    assert "NaN or infinite" in audit.explain(2)


def test_blocks_change_nothing(digits):
    given = ascent(digits).clone()
    given[3] = digits[1][3]
    given[5, 0] = torch.nan
    whole, parts = (audited(digits, given, block_size=size) for size in (COUNT, 7))
    for name in ("kind", "inside", "claimed", "survived", "correction", "levels"):
        assert torch.equal(whole.arrays[name], parts.arrays[name]), name
    # The same float64 numbers, whatever the block.
    for name in ("length", "excess", "ulps"):
        left, right = whole.arrays[name], parts.arrays[name]
        assert torch.equal(left.nan_to_num(-1), right.nan_to_num(-1)), name


def test_the_last_iterate_of_too_large_a_step_is_not_the_best(digits):
    given = ascent(digits, radius=0.6, step=0.5, steps=7, norm="l2")
    audit = audited(digits, given, sm.L2Ball(0.6))
    assert "NOT_THE_BEST" in codes(audit)
    gains = audit.result["gains"]
    assert gains["examples"] > COUNT / 4
    short = audit.arrays["gained"] > 0
    reached = audit.arrays["reached_losses"] - audit.arrays["losses"]
    # The best point again, evaluated in another batch: float32 rounding of the loss.
    assert torch.allclose(reached[short], audit.arrays["gained"][short], atol=1e-5)


def test_a_saturated_loss_is_climbed_all_the_same():
    # Cross-entropy of 1e-13 with a slope as small: the margin is a step away.
    model = nn.Sequential(nn.Linear(30, 2, bias=False)).eval()
    with torch.no_grad():
        model[0].weight.copy_(torch.stack([torch.ones(30), -torch.ones(30)]) * 1.0)
    inputs = torch.full((4, 30), 0.5)
    targets = torch.zeros(4, dtype=torch.int64)
    audit = audited((model, inputs, targets), inputs.clone(), sm.LinfBall(0.499))
    # 30·(0.5 - 0.499) > 0: no label changes, but nearly.
    assert audit.corrected_robust_accuracy == 1
    wide = audited((model, inputs, targets), inputs.clone(), sm.LinfBall(0.6), box=None)
    assert wide.claimed_robust_accuracy == 1
    assert wide.corrected_robust_accuracy == 0


def test_regression_has_gains_but_no_accuracy():
    data = load_data("diabetes")
    inputs, targets = data.inputs[:20], data.targets[:20]
    network = sm.TwoLayerNetwork.random(10, 32, "tanh", weight_std=3.0)
    case = network, inputs, targets
    audit = audited(case, inputs.clone(), sm.L2Ball(0.05), box=None)
    assert audit.claimed_robust_accuracy is None
    assert audit.result["corrections"] is None
    assert audit.result["gains"]["examples"] == 20
    assert "claimed" not in repr(audit)
    assert "more ascent gains" in audit.explain(0)


def test_masked_coordinates_may_not_move(digits):
    mask = torch.ones(64, dtype=torch.bool)
    mask[:32] = False
    audit = audited(digits, ascent(digits), mask=mask)
    assert bool((~audit.arrays["inside"]).all())
    assert float(audit.arrays["box_excess"].max()) == pytest.approx(RADIUS, abs=1e-6)


def test_its_repr_and_explanations_are_short(digits):
    audit = audited(digits, ascent(digits))
    assert len(repr(audit)) < 400
    assert "tensor" not in repr(audit)
    assert len(audit.explain(-1).splitlines()) <= 6
    with pytest.raises(sm.UserError, match="expected an index below 24"):
        audit.explain(COUNT)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (np.zeros((COUNT, 64)), "summiteer.adapters"),
        (torch.zeros(COUNT, 8, 8), "of the inputs' shape"),
        (torch.zeros(COUNT, 64, dtype=torch.complex64), "expected numbers"),
        (torch.full((COUNT, 64), 300), "8-bit pixels"),
    ],
)
def test_what_is_no_input_is_refused(digits, given, told):
    with pytest.raises(sm.UserError, match=told):
        audited(digits, given)


def test_findings_are_warnings(digits):
    model, inputs, targets = digits
    with pytest.warns(sm.SummiteerWarning, match="are the clean inputs themselves"):
        sm.audit(model, inputs, targets, inputs, region=sm.LinfBall(0.02))
