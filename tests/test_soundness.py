"""A slice of the soundness campaign (`python -m soundness`), and bugs it catches."""

import sys
from unittest.mock import patch

import numpy as np
import pytest
import torch
from soundness import arb, campaign, tampering
from soundness.climb import climb, newton
from soundness.draw import draw_field, problem_of
from soundness.families import FAMILIES
from soundness.sigma import SIGMA, ULP
from soundness.tally import Tally

import summiteer as sm
from summiteer.networks.activations import ACTIVATIONS
from summiteer.optimality import smooth
from summiteer.optimality.maximum import strict_maximum

pytestmark = pytest.mark.filterwarnings("ignore")
SLICE = 12.0


def test_a_slice_of_the_campaign_finds_no_false_proof():
    tally = campaign.run(SLICE, seed=1)
    assert not tally.violations, tally.table()
    assert tally.checks > 1000
    assert sum(n for name, n in tally.verdicts.items() if "PROVED" in name) > 20


def _violated(*rounds: tuple[str, int]) -> dict[str, int]:
    tally = Tally()
    for name, turn in rounds:
        campaign.one(name, 0, turn, tally)
    return {name: kind.violations for name, kind in tally.kinds.items()}


def test_the_campaign_catches_a_distance_that_is_too_short():
    def short(*given, **named):
        reach, unique = strict_maximum(*given, **named)
        object.__setattr__(reach, "distance", 0 * reach.distance)
        return reach, unique

    rounds = [("regular", 0), ("plain", 0)]
    assert not any(_violated(*rounds).values())
    with patch.object(smooth, "strict_maximum", short):
        assert _violated(*rounds)["distance_bound"]


def test_the_campaign_catches_a_curvature_that_is_too_small():
    plain = smooth.bounds_of

    def halved(*given):
        bounds = plain(*given)
        object.__setattr__(bounds, "majorant", 0.5 * bounds.majorant)
        return bounds

    with patch.object(smooth, "bounds_of", halved):
        found = _violated(("regular", 0), ("plain", 0))
    assert found["majorant"]
    assert found["Prop. 3 inequality"]


@pytest.mark.parametrize("name", SIGMA)
def test_truth_agrees_with_arb(name):
    points = np.concatenate([np.linspace(-9, 9, 37), [-40.0, -3.0, 3.0, 30.0]])
    found = SIGMA[name](points.astype(np.longdouble))
    with arb.precise():
        for order, values in enumerate(found):
            for t, value in zip(points, values, strict=True):
                exact = arb.SIGMA[name][order](arb.exact(t))
                scale = 1 + abs(t) * abs(float(arb.SIGMA[name][1](arb.exact(t))))
                assert abs(arb.exact(value) - exact) < 64 * ULP * (scale + abs(t))


def test_all_smooth_activations_are_in_the_campaign():
    assert set(SIGMA) == {n for n, a in ACTIVATIONS.items() if a.smooth}
    assert len(FAMILIES) >= 15


def _proved(activation: str = "softplus"):
    """A problem whose points are proved global, and its points."""
    rng = np.random.default_rng(3)
    field = draw_field(
        rng, activation=activation, loss="margin", region="ball", scale=0.1,
        output=rng.normal(size=(1, 5)), hidden=rng.normal(size=(5, 3)),
        bias=rng.normal(size=5), shift=np.zeros(1), inputs=rng.normal(size=(4, 3)),
    )  # fmt: skip
    surface = field.lead(np.zeros((4, 3)))
    ends = newton(surface, climb(surface, np.zeros((4, 1, 3)), 200))
    problem = problem_of(field)
    return problem, torch.from_numpy(ends.points[:, 0].astype(float))


def _evidence(problem, points) -> set[str]:
    certificate = sm.local_optimality(problem, points)
    return {evidence.name for evidence in certificate.evidence}


def test_the_untouched_network_is_proved():
    assert _evidence(*_proved()) == {"PROVED"}


@pytest.mark.parametrize("name", tampering.ALTERED)
def test_nothing_is_proved_of_an_altered_model(name):
    problem, points = _proved()
    with tampering.ALTERED[name](problem.model) as model:
        object.__setattr__(problem, "model", model)
        assert _evidence(problem, points) == {"NUMERICAL"}


@pytest.mark.parametrize("name", tampering.LIES)
def test_nothing_is_proved_with_a_torch_that_lies(name):
    problem, points = _proved("tanh" if name == "tanh" else "softplus")
    try:
        with tampering.LIES[name]():
            evidence = _evidence(problem, points)
    except sm.UserError:  # it may break before
        return
    # functional.softplus too: cross-entropies are measured with it.
    assert evidence == {"NUMERICAL"}


@pytest.mark.parametrize("name", tampering.AMBIENT)
def test_proofs_do_not_depend_on_global_state(name):
    problem, points = _proved()
    expected = sm.local_optimality(problem, points)
    before = tampering.state()
    try:
        with tampering.AMBIENT[name]():
            inside = tampering.state()
            found = sm.local_optimality(problem, points)
            assert tampering.state() == inside
    except RuntimeError:
        assert name == "meta device"
        return
    assert tampering.state() == before
    evidence = {e.name for e in found.evidence}
    if name in ("flush denormal", "autocast"):
        assert evidence == {"NUMERICAL"}
        return
    assert evidence == {"PROVED"}
    assert found.verdict == expected.verdict
    for number in ("distance_bound", "upper_bound", "rate"):
        left, right = getattr(found, number), getattr(expected, number)
        assert torch.equal(left, right), number


def test_certificates_speak_of_the_weights_at_the_time():
    problem, points = _proved()
    first = sm.local_optimality(problem, points)
    with torch.no_grad():
        problem.model.output_weights.neg_()
    second = sm.local_optimality(problem, points)
    assert {v.name for v in first.verdict} == {"GLOBAL_MAXIMUM"}
    assert not bool(second.maximum.any())
    assert first.subject != second.subject


@pytest.mark.skipif(sys.maxsize < 2**32, reason="no 80-bit floats")
def test_long_doubles_are_longer():
    assert ULP < 2.0**-60
