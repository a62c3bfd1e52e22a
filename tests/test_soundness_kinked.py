"""The soundness campaign on networks with kinks: a slice, and bugs that it catches."""

import importlib
from contextlib import contextmanager
from dataclasses import replace
from unittest.mock import patch

import numpy as np
import pytest
import torch
from soundness import campaign, tampering
from soundness.field import Zone
from soundness.kinked import module_of
from soundness.kinked_checks import check_kinked, trial_of
from soundness.kinked_families import (
    KINKED,
    deep_layers,
    drawn,
    drawn_case,
    drawn_linear,
)
from soundness.layers import Flow, Leaky, Norm, Skip
from soundness.tally import Tally
from torch import nn
from torch.nn import functional

import summiteer as sm

pytestmark = pytest.mark.filterwarnings("ignore")
#: (family, round) that take a second or less and prove something.
SLICE = [
    ("kinked_wide", 3),
    ("kinked_deep", 0),
    ("kinked_deep", 2),
    ("kinked_images", 1),
    ("kinked_planted", 1),
]


def test_a_slice_of_the_campaign_finds_no_false_proof():
    tally = Tally()
    for name, turn in SLICE:
        campaign.one(name, 0, turn, tally)
    assert not tally.violations, tally.table()
    proved = {n.split()[1] for n in tally.verdicts if n.startswith("PROVED")}
    assert {
        "GLOBAL_MAXIMUM",
        "STRICT_LOCAL_MAXIMUM",
        "NOT_STATIONARY",
        "FLAT",
    } <= proved
    assert tally.claims > 1500
    assert tally.checks > 10 * tally.claims


def _trial(name: str, turn: int):
    """A fresh trial of a round, whose claims may be altered."""
    rng = np.random.default_rng([0, turn, *name.encode()])
    with np.errstate(all="ignore"):
        case = KINKED[name](rng)
    points = torch.from_numpy(case.points).reshape(case.problem.inputs.shape)
    certificate = sm.local_optimality(case.problem, points, case.within)
    return trial_of(case, certificate, rng, Tally())


def _violated(trial) -> set[str]:
    with np.errstate(all="ignore"):
        check_kinked(trial)
    kinds = trial.tally.kinds.items()
    return {name for name, kind in kinds if kind.violations}


@pytest.fixture(scope="module")
def deep():
    return _trial("kinked_deep", 1)


@contextmanager
def _altered(trial, **claims):
    before, trial.tally = dict(trial.claims), Tally()
    trial.claims.update(claims)
    yield trial
    trial.claims.update(before)


def test_claims_as_they_are_hold(deep):
    with _altered(deep):
        assert not _violated(deep)


@pytest.mark.parametrize(
    ("name", "change", "kind"),
    [
        ("best_radius", lambda v: v + 1e9, "best_radius"),
        ("loss_gap_bound", lambda v: v - 1e-9, "best_radius"),
        ("guaranteed_gain", lambda v: 1.5 * v, "guaranteed_gain"),
        ("distance_bound", lambda v: v + 1.0, "within the search distance"),
    ],
)
def test_a_number_that_is_too_good_is_caught(deep, name, change, kind):
    with _altered(deep, **{name: change(deep.claims[name])}):
        assert kind in _violated(deep)


def test_a_direction_the_wrong_way_is_caught(deep):
    deep.direction *= -1
    with _altered(deep):
        assert "uphill along one way" in _violated(deep)
    deep.direction *= -1


def test_maxima_called_not_stationary_are_caught(deep):
    plain = deep.verdicts.copy()
    deep.verdicts[plain == "STRICT_LOCAL_MAXIMUM"] = "NOT_STATIONARY"
    with _altered(deep):
        assert "NOT_STATIONARY: no maximum near" in _violated(deep)
    deep.verdicts[:] = plain


def test_points_on_a_slope_called_maxima_are_caught(deep):
    plain = deep.verdicts.copy()
    slope = plain == "NOT_STATIONARY"
    deep.verdicts[slope] = "LOCAL_MAXIMUM"
    claims = {
        "distance_bound": np.where(slope, 0.0, deep.claims["distance_bound"]),
        "loss_gap_bound": np.where(slope, 0.0, deep.claims["loss_gap_bound"]),
        "best_radius": np.where(slope, deep.reach, deep.claims["best_radius"]),
    }
    with _altered(deep, **claims):
        assert "best_radius" in _violated(deep)
    deep.verdicts[:] = plain


def _leaky(true: float) -> Tally:
    """Claims at the prover's own summits on balls, with leaky units."""
    tally = Tally()
    for seed in range(3):
        rng = np.random.default_rng(seed)
        layers = (
            *(drawn_linear(rng, 6, 3), Leaky(0.1)),
            *(drawn_linear(rng, 5, 6), Leaky(0.1)),
            drawn_linear(rng, 1, 5),
        )
        kinked = drawn(rng, layers, (3,), "margin", 1)
        far = np.full(kinked.inputs.shape, np.inf)
        zone = Zone(np.full(len(far), 0.05), -far, far)
        case = drawn_case(rng, replace(kinked, zone=zone))
        found = sm.local_optimality(case.problem, torch.from_numpy(case.points))
        again = found.certified_point
        found = sm.local_optimality(case.problem, again)
        truth = tuple(Leaky(true) if type(u) is Leaky else u for u in layers)
        case = replace(
            case,
            kinked=replace(case.kinked, layers=truth),
            points=again.numpy(),
            within=1e-3,
        )
        trial = trial_of(case, found, rng, tally)
        with np.errstate(all="ignore"):
            check_kinked(trial)
    return tally


def test_slopes_in_single_precision_are_caught():
    # A bug that there was: the prover's slope of a leaky unit rounded to float32.
    honest, wrong = _leaky(0.1), _leaky(float(np.float32(0.1)))
    assert not honest.violations, honest.table()
    assert honest.kinds["distance_bound"].claims
    assert wrong.kinds["distance_bound"].violations


def test_wrong_numbers_of_two_layers_are_caught():
    trial = _trial("kinked_wide", 3)
    upper = trial.claims["upper_bound"]
    assert np.isfinite(upper).any()
    whole = trial.verdicts == "GLOBAL_MAXIMUM"
    assert whole.any()
    with _altered(trial, upper_bound=upper - 1e-6 * np.abs(upper)):
        assert "upper_bound" in _violated(trial)
    short = np.where(whole, trial.claims["loss_gap_bound"] - 1e-9, np.nan)
    with _altered(trial, loss_gap_bound=short):
        assert "best_radius" in _violated(trial)


def test_truth_computes_what_the_modules_do():
    kinds = set()
    for seed in range(12):
        rng = np.random.default_rng(seed)
        d, outputs = int(rng.integers(1, 5)), int(rng.integers(1, 4))
        layers = deep_layers(rng, d, outputs)
        kinds |= {type(layer) for layer in layers}
        kinked = drawn(rng, layers, (d,), "margin", outputs)
        _agrees(kinked)
    assert {Norm, Skip} <= kinds


@pytest.mark.parametrize("turn", range(6))
def test_truth_computes_what_convolutions_do(turn):
    name = "kinked_images"
    rng = np.random.default_rng([0, turn, *name.encode()])
    with np.errstate(all="ignore"):
        _agrees(KINKED[name](rng).kinked)


def _agrees(kinked):
    model, count = module_of(kinked)
    inputs = torch.from_numpy(np.array(kinked.inputs)).requires_grad_()
    d = inputs.shape[1]
    flow = kinked.flow(np.zeros((len(inputs), 1, d)), slopes=float)
    outputs = model(inputs.reshape(-1, *kinked.shape)).reshape(-1, count)
    gradients = [
        torch.autograd.grad(outputs[:, k].sum(), inputs, retain_graph=True)[0]
        for k in range(count)
    ]
    slopes = torch.stack(gradients, 1).numpy()
    size = 1 + float(outputs.detach().abs().max())
    assert np.abs(flow.value.astype(float) - outputs.detach().numpy()).max() < (
        1e-12 * size
    )
    assert bool((flow.error < 1e-13 * size).all())
    # Where a window ties, autograd may take the other entry.
    firm = np.ones(len(inputs), bool)
    for each in flow.kinks:
        firm &= (np.abs(each.height) > 1e-9).all(1)
    np.testing.assert_allclose(flow.slope[firm], slopes[firm], rtol=0, atol=1e-9)


def test_error_bounds_hold_the_rounding():
    # The same numbers in rationals: sums of floats that cancel.
    from fractions import Fraction

    from soundness.layers import Linear

    rng = np.random.default_rng(0)
    weight, bias = rng.normal(size=(4, 6)), rng.normal(size=4)
    value = rng.normal(size=(5, 6)).astype(np.longdouble)
    made = Linear(weight, bias).push(Flow(value, np.zeros((5, 6)), None))
    for row in range(5):
        for out in range(4):
            exact = Fraction(bias[out])
            for a, b in zip(weight[out], value[row], strict=True):
                exact += Fraction(float(a)) * Fraction(float(b))
            high = float(made.value[row, out])
            low = float(made.value[row, out] - np.longdouble(high))
            gap = abs(Fraction(high) + Fraction(low) - exact)
            assert gap <= Fraction(float(made.error[row, out]))


def _two_layers():
    net = sm.TwoLayerNetwork.random(4, 8, "relu", seed=2, bias_std=0.5)
    inputs = torch.tensor([[0.2, -0.4, 0.1, 0.9]], dtype=torch.float64)
    target = torch.ones(1, dtype=torch.float64)
    return sm.Problem(net, inputs, target, sm.Margin(), sm.L2Ball(0.3))


def _sequence():
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)
    ).double()
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator).double())
    inputs = torch.tensor([[0.2, -0.4, 0.1, 0.9]], dtype=torch.float64)
    target = torch.zeros(1, dtype=torch.int64)
    return sm.Problem(model, inputs, target, sm.Margin(), sm.LinfBall(0.01))


def _verdict(problem) -> str:
    ascent = sm.ascend(problem, sm.ProjectedAscent(), sm.CentreStart(), max_steps=200)
    certificate = sm.local_optimality(problem, ascent.best, within=0.1)
    return f"{certificate.evidence[0].name} {certificate.verdict[0].name}"


MAKERS = {"two layers": _two_layers, "sequence": _sequence}


@pytest.mark.parametrize("maker", MAKERS)
def test_untouched_networks_are_proved(maker):
    verdict = _verdict(MAKERS[maker]())
    assert verdict.startswith("PROVED")
    assert "MAXIMUM" in verdict


#: Those that suit any module.
COMMON = (
    "forward_hook",
    "forward_pre_hook",
    "global_hook",
    "own_forward",
    "class_call",
    "lambda_model",
)


@pytest.mark.parametrize("maker", MAKERS)
@pytest.mark.parametrize("name", COMMON)
def test_nothing_is_proved_of_an_altered_model(name, maker):
    problem = MAKERS[maker]()
    with tampering.ALTERED[name](problem.model) as model:
        object.__setattr__(problem, "model", model)
        assert _verdict(problem).startswith("NUMERICAL")


@pytest.mark.parametrize(
    "name",
    ["subclass", "class_forward", "parametrized", "compiled_form", "activation_value"],
)
def test_nothing_is_proved_of_an_altered_two_layer_network(name):
    problem = _two_layers()

    @contextmanager
    def activation_value(network):
        kind = type(network.activation)
        with patch.object(kind, "value", lambda self, t: torch.relu(t) + 1e-9 * t):
            yield network

    changes = {**tampering.ALTERED, "activation_value": activation_value}
    with changes[name](problem.model) as model:
        object.__setattr__(problem, "model", model)
        assert _verdict(problem).startswith("NUMERICAL")


class _Tilted(nn.ReLU):
    def forward(self, input):
        return functional.relu(input) + 1e-9 * input


def _inner_hook(model):
    model[1].register_forward_hook(lambda module, given, out: 1.001 * out)
    return patch.dict({})


def _inner_forward(model):
    layer = model[1]
    object.__setattr__(layer, "forward", lambda x: torch.relu(x) * 1.001)
    return patch.dict({})


def _inner_subclass(model):
    model[1].__class__ = _Tilted
    return patch.dict({})


def _changed_class(model):
    plain = nn.Linear.forward
    return patch.object(nn.Linear, "forward", lambda self, x: 1.001 * plain(self, x))


def _changed_function(model):
    plain = functional.relu
    return patch.object(
        functional, "relu", lambda x, inplace=False: 1.001 * plain(x, inplace)
    )


def _computed_weight(model):
    class Doubled(nn.Module):
        def forward(self, weight):
            return 2 * weight

    nn.utils.parametrize.register_parametrization(model[2], "weight", Doubled())
    return patch.dict({})


def _sequence_forward(model):
    plain = nn.Sequential.forward
    return patch.object(
        nn.Sequential, "forward", lambda self, x: plain(self, x) * 1.001
    )


INNER = [
    _inner_hook,
    _inner_forward,
    _inner_subclass,
    _changed_class,
    _changed_function,
    _computed_weight,
    _sequence_forward,
]


@pytest.mark.parametrize("change", INNER)
def test_nothing_is_proved_of_altered_layers(change):
    problem = _sequence()
    with change(problem.model):
        assert _verdict(problem).startswith("NUMERICAL")


#: Under most of the others a two-layer network takes long to be given up.
SHORT = ["function mode", "Tensor.sum", "nextafter", "maximum"]
LYING = [("sequence", n) for n in sorted(tampering.LIES)]
LYING += [("two layers", n) for n in SHORT]


@pytest.mark.parametrize(("maker", "name"), LYING)
def test_nothing_is_proved_with_a_torch_that_lies(maker, name):
    problem = MAKERS[maker]()
    ascent = sm.ascend(problem, sm.ProjectedAscent(), sm.CentreStart(), max_steps=200)
    honest = sm.local_optimality(problem, ascent.best, within=0.1)
    try:
        with tampering.LIES[name]():
            found = sm.local_optimality(problem, ascent.best, within=0.1)
    except sm.UserError:  # it may break before
        return
    proved = found.evidence[0] is sm.Evidence.PROVED
    # What no proof uses may lie; then nothing at all may change.
    assert not proved or torch.equal(found.distance_bound, honest.distance_bound)
    assert not proved or torch.equal(found.best_radius, honest.best_radius)


def test_certificates_speak_of_the_weights_at_the_time():
    problem = _sequence()
    ascent = sm.ascend(problem, sm.ProjectedAscent(), sm.CentreStart(), max_steps=200)
    first = sm.local_optimality(problem, ascent.best, within=0.1)
    with torch.no_grad():
        problem.model[4].weight.neg_()
        problem.model[4].bias.neg_()
    second = sm.local_optimality(problem, ascent.best, within=0.1)
    assert bool(first.maximum.all())
    assert not bool(second.maximum.any())
    assert first.subject != second.subject


def test_the_campaign_asks_the_provers_alone():
    certificate = importlib.import_module("summiteer.optimality.certificate")
    assert {*certificate.PROVERS} - {*campaign._PROOFS} == {campaign.numerical.prove}
