"""Verdicts: no maximum where there is none, and what else certificates say."""

import math

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import (
    CastsDown,
    Fragile,
    classifier,
    labelled_problem,
    measured,
    output_problem,
    seeded,
)
from summiteer.analytic import PROBLEMS, Form
from summiteer.errors import UserError
from summiteer.optimality import shares
from summiteer.optimality.claims import Claims

WITHIN = 1e-3
ZERO2 = torch.zeros(2, dtype=torch.float64)
KNOWN = {known.name: known for known in PROBLEMS}


def verdict(problem, point, within=WITHIN):
    certificate = sm.local_optimality(problem, point[None], within)
    return certificate.verdict[0], certificate.reason[0]


def plane_nets(activation):
    """Random networks on the plane, with every kind of end point."""
    network = sm.TwoLayerNetwork.random(
        2, 12, activation, weight_std=3.0, bias_std=1.0, seed=5
    )
    inputs, targets = seeded(12, 2, seed=6), 0.5 * seeded(12, seed=7)
    return sm.Problem(network, inputs, targets, sm.Quadratic(), sm.L2Ball(1.0))


def peak_inside(problem, i, point, reach):
    """Whether a dense search in the disc finds its best value away from the rim."""
    radii = torch.linspace(0, 1, 41, dtype=torch.float64) * reach
    angles = torch.linspace(0, 2 * math.pi, 181, dtype=torch.float64)
    ring = torch.stack([angles.cos(), angles.sin()], 1)
    disc = point + (radii[:, None, None] * ring).reshape(-1, 2)
    few = problem.rows(torch.full((len(disc),), i))
    disc = few.region.project(disc)
    loss = few.value(disc).loss
    distance = (disc - point).norm(dim=1)
    return float(loss[distance < 0.97 * reach].max()) >= float(loss.max())


@pytest.mark.parametrize("activation", ["softplus", "tanh", "sin", "relu", "gelu"])
@pytest.mark.parametrize("how", ["proofs", "measured", "opaque"])
def test_no_maximum_without_one_in_a_dense_search(activation, how):
    problem = plane_nets(activation)
    network = problem.model
    judge = measured if how == "measured" else sm.local_optimality
    if how == "opaque":
        problem = sm.Problem(
            lambda x: network(x),
            problem.inputs,
            problem.targets,
            sm.Quadratic(),
            problem.region,
        )
    # Ends of converged and of broken-off runs, and points beside them.
    start = sm.UniformStart(restarts=1, seed=8)
    ends = [sm.ascend(problem, None, start, n).final[0] for n in (0, 3, 10, 300)]
    ends += [ends[-1] + 0.02 * seeded(12, 2, seed=s) for s in (1, 2)]
    said, within = {}, 0.02
    for points in ends:
        points = problem.feasible.project(points)
        judged = judge(problem, points, within)
        for i, found in enumerate(judged.verdict):
            said[found] = said.get(found, 0) + 1
            if found.is_maximum:
                inside = peak_inside(problem, i, points[i], within)
                assert inside, (i, judged.reason[i])
    assert sum(count for found, count in said.items() if found.is_maximum) >= 12
    assert said[sm.Verdict.NOT_STATIONARY] >= 12


def test_a_kink_is_undecided():
    """At the peak of -|δ₁| - δ₂² there is a maximum that no derivative shows."""

    def roof(x):
        return -x[:, 0].abs() - x[:, 1] ** 2 + 0.3 * x[:, 0]

    problem = output_problem(roof, torch.zeros(1, 2).double(), sm.L2Ball(1.0))
    for offset in (0.0, 1e-7, 3e-4):
        point = torch.tensor([offset, -offset / 2], dtype=torch.float64)
        found, _ = verdict(problem, point)
        assert found in {sm.Verdict.UNDECIDED, sm.Verdict.STRICT_LOCAL_MAXIMUM}
    found, reason = verdict(problem, torch.tensor([3e-4, 2e-4]).double())
    assert found is sm.Verdict.UNDECIDED
    assert "kink" in reason


def relu_net(columns):
    """Piecewise linear; only the first `columns` inputs matter."""
    net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3)).double()
    with torch.no_grad():
        net[0].weight.copy_(seeded(8, 4, seed=1))
        net[0].weight[:, columns:] = 0
        net[0].bias.copy_(seeded(8, seed=4))
        net[2].weight.copy_(seeded(3, 8, seed=2))
        net[2].bias.zero_()
    return net


@pytest.mark.parametrize(("columns", "name"), [(4, "STRICT_LOCAL_MAXIMUM"), (3, "")])
def test_unknown_piecewise_linear_functions_on_linf(columns, name):
    problem = sm.Problem(
        # A function, not a module: nothing is known of it, and all is measured.
        relu_net(columns).forward,
        0.3 * seeded(6, 4, seed=3),
        torch.tensor([0, 1, 2, 0, 1, 2]),
        sm.Margin(),
        sm.LinfBall(0.01),
    )
    ascent = sm.ascend(problem, start=sm.UniformStart(), max_steps=50)
    certificate = sm.local_optimality(problem, ascent.final[0])
    for found, reason in zip(certificate.verdict, certificate.reason, strict=True):
        if name:
            assert found.name == name
            assert "held at its bound" in reason
        else:
            # A coordinate that does not matter stays inside, without curvature.
            assert found is sm.Verdict.UNDECIDED
            assert "piecewise linear" in reason


def test_vanishing_derivatives_are_no_plateau():
    for sign in (1.0, -1.0):
        form = Form(ZERO2, ZERO2, torch.zeros(2, 2).double(), sign * torch.ones(2))
        problem = output_problem(form, ZERO2[None], sm.L2Ball(0.5))
        found, reason = verdict(problem, ZERO2)
        assert found is sm.Verdict.UNDECIDED
        assert "not constant around" in reason


def test_a_saturated_network_is_flat():
    """All rectifiers off: the output does not depend on the input near the point."""
    network = sm.TwoLayerNetwork(
        torch.ones(3, 2), torch.ones(3), torch.full((3,), -5.0), activation="relu"
    ).double()
    for model in (network, lambda x: network(x)):
        problem = sm.Problem(
            model,
            torch.zeros(1, 2).double(),
            torch.ones(1).double(),
            sm.Quadratic(),
            sm.L2Ball(0.5),
        )
        certificate = sm.local_optimality(problem, torch.zeros(1, 2).double())
        assert certificate.verdict == (sm.Verdict.FLAT,)


def test_disconnected_models_are_flat_and_not_an_error():
    problem = labelled_problem(model=lambda x: x.detach()[:, :3] * 0 + 1)
    certificate = sm.local_optimality(problem, torch.zeros(6, 8).double())
    assert set(certificate.verdict) == {sm.Verdict.FLAT}


class Once(torch.autograd.Function):
    """x² with a gradient and no second derivative."""

    @staticmethod
    def forward(ctx, values):
        ctx.save_for_backward(values)
        return values**2

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, gradients):
        (values,) = ctx.saved_tensors
        return 2 * values * gradients


def test_no_second_derivative_is_said():
    def bowl(x):
        return -Once.apply(x).sum(1)

    interior = output_problem(bowl, torch.zeros(1, 2).double(), sm.L2Ball(0.5))
    found, reason = verdict(interior, ZERO2)
    assert found is sm.Verdict.UNDECIDED
    assert "no second derivative" in reason
    corner = output_problem(bowl, torch.full((1, 2), 3.0).double(), sm.LinfBall(0.5))
    found, _ = verdict(corner, torch.full((2,), -0.5).double())
    assert found is sm.Verdict.STRICT_LOCAL_MAXIMUM


@pytest.mark.parametrize("inner", ["casts", "function", "middle"])
def test_models_that_cast_down_are_examined_as_they_are(inner):
    net = classifier(dtype=torch.float32)
    models = {
        "casts": CastsDown(),
        "function": lambda x: net(x),
        "middle": lambda x: net(x.float()).double(),
    }
    dtype = torch.float64 if inner == "middle" else torch.float32
    labels = labelled_problem(region=sm.L2Ball(0.3))
    problem = sm.Problem(
        models[inner],
        labels.inputs.to(dtype),
        labels.targets,
        sm.CrossEntropy(),
        sm.L2Ball(0.3),
    )
    exact = labelled_problem(dtype=torch.float32, region=sm.L2Ball(0.3)).in_double()
    points = sm.ascend(exact, start=sm.CentreStart(), max_steps=2000).final[0]
    for shift, is_maximum in ((0.0, True), (0.05, False)):
        given = exact.feasible.project(points + shift * seeded(6, 8))
        certificate = sm.local_optimality(problem, given)
        expected = sm.local_optimality(exact, given)
        assert set(certificate.evidence) == {sm.Evidence.NUMERICAL}
        assert certificate.verdict == expected.verdict
        assert set(certificate.maximum.tolist()) == {is_maximum}
        for reason in certificate.reason:
            assert reason.endswith("; the model computes in float32 inside")
        assert not any("float32" in reason for reason in expected.reason)
        # Second derivatives through float32: three digits at least.
        ratios = certificate.curvature_ratio, expected.curvature_ratio
        assert not is_maximum or torch.allclose(*ratios, rtol=1e-3)


def test_points_outside_the_region_are_not_excused():
    known = KNOWN["linear on L2"]
    found, reason = verdict(known.problem, 1.01 * known.maximisers[0])
    assert found is sm.Verdict.NOT_STATIONARY
    assert "outside" in reason
    found, _ = verdict(known.problem, (1 + 1e-7) * known.maximisers[0])
    assert found.is_maximum


def test_a_model_that_breaks_nearby_is_no_maximum():
    """NaN just beyond the point: ascent cannot go on, and nothing is known."""
    weights = torch.tensor([1.0, 0.0], dtype=torch.float64)
    problem = output_problem(Fragile(weights, 0.2), ZERO2[None], sm.L2Ball(0.5))
    found, _ = verdict(problem, torch.tensor([0.2 - 1e-5, 0.0]).double())
    assert not found.is_maximum
    broken, _ = verdict(problem, torch.tensor([0.3, 0.0]).double())
    assert broken is sm.Verdict.UNDECIDED


EXPLAINED = {
    "trust region": (
        "example 0: STRICT_LOCAL_MAXIMUM (NUMERICAL): an isolated local maximum",
        "because the curvature is below the multiplier",
        "search distance 0.001 radii",
        "not proved: Form is not an nn.Module",
        "residual ",
        "curvature ratio ",
        "distance estimate ",
    ),
    "one neuron": (
        "example 0: GLOBAL_MAXIMUM (PROVED): no allowed perturbation has a higher",
        "because the multiplier exceeds the curvature on the whole region",
        "Prop. 3: ω = μ - λ⁺(M) ≥ ",
        "search distance 0.001 radii",
        "residual ",
        "curvature ratio ",
        "distance bound ",
        "index global ",
        "of subject ",
    ),
}


@pytest.mark.parametrize("name", EXPLAINED)
def test_explain_says_how_it_is_known(name):
    known = KNOWN[name]
    text = sm.local_optimality(known.problem, known.maximisers).explain(0)
    for part in EXPLAINED[name]:
        assert part in text
    assert "nan" not in text


@pytest.mark.parametrize(
    ("points", "within", "message"),
    [
        (torch.zeros(2, 6, 8), 1e-3, r"points: expected one perturbation per example"),
        (torch.full((6, 8), torch.nan), 1e-3, r"points: NaN or infinite at indices"),
        (torch.zeros(6, 8), 0.0, r"within: expected 0 < within < 1"),
        (torch.zeros(6, 8), 1.0, r"within: expected 0 < within < 1"),
    ],
)
def test_bad_points_are_refused(points, within, message):
    with pytest.raises(UserError, match=message):
        sm.local_optimality(labelled_problem(), points, within)


def test_the_subject_names_everything_the_verdict_is_about():
    known = KNOWN["one neuron"]
    base = known.problem

    def subject(point=known.maximisers, **changes):
        problem = sm.Problem(
            changes.get("model", base.model),
            changes.get("inputs", base.inputs),
            changes.get("targets", base.targets),
            changes.get("objective", base.objective),
            changes.get("region", base.region),
            changes.get("box"),
            changes.get("mask"),
        )
        return sm.local_optimality(problem, point).subject[0]

    net = base.model
    other = sm.TwoLayerNetwork(
        net.hidden_weights, net.output_weights, activation="tanh"
    )
    variants = [
        subject(),
        subject(0.5 * known.maximisers),
        subject(model=other),
        subject(inputs=base.inputs + 1e-9),
        subject(targets=base.targets + 1e-9),
        subject(objective=sm.Logistic(), targets=torch.ones(1).double()),
        subject(region=sm.L2Ball(0.6)),
        subject(region=sm.LinfBall(0.7)),
        subject(box=(-2.0, 2.0)),
        subject(mask=torch.tensor([True, True, False])),
    ]
    assert len(set(variants)) == len(variants)
    assert all(len(text) == 64 for text in variants)
    assert subject() == variants[0]


def test_shares_count_verdicts():
    maximum, saddle = sm.Verdict.STRICT_LOCAL_MAXIMUM, sm.Verdict.SADDLE
    proved, measured = sm.Evidence.PROVED, sm.Evidence.NUMERICAL
    counted = shares(
        [maximum, saddle, sm.Verdict.GLOBAL_MAXIMUM, sm.Verdict.UNDECIDED],
        [measured, proved, proved, measured],
    )
    assert counted == {
        "maximum": 0.5,
        "proved": 0.5,
        "proved_maximum": 0.25,
        "proved_global": 0.25,
        "numerical": 0.25,
        "undecided": 0.25,
    }
    assert shares([], []) == {}


def test_the_first_prover_that_decides_is_heard():
    nan = torch.nan
    strong = Claims.undecided(3, "no proof").state(
        verdict=[sm.Verdict.UNDECIDED, sm.Verdict.SADDLE, sm.Verdict.UNDECIDED],
        evidence=[sm.Evidence.NUMERICAL, sm.Evidence.PROVED, sm.Evidence.NUMERICAL],
        numbers={"rate": torch.tensor([0.7, 0.5, nan])},
        certified_point=torch.ones(3, 1),
        direction=torch.ones(3, 1),
    )
    assert strong.open.tolist() == [0, 2]
    weak = Claims.undecided(2, "flat").state(
        verdict=[sm.Verdict.FLAT, sm.Verdict.FLAT],
        numbers={"rate": torch.tensor([nan, 0.2]), "gain": torch.tensor([1.0, 2.0])},
        certified_point=torch.zeros(2, 1),
    )
    both = strong.filled(strong.open, weak)
    assert list(both.verdict) == [weak.verdict[0], strong.verdict[1], weak.verdict[1]]
    assert list(both.evidence) == list(strong.evidence)
    assert list(both.reason) == ["flat", "no proof", "flat"]
    assert both.open.tolist() == []
    # A number stays where the second says none, its gain is unknown where not asked.
    assert torch.allclose(both.numbers["rate"], torch.tensor([0.7, 0.5, 0.2]))
    assert both.numbers["gain"].nan_to_num(-1).tolist() == [1.0, -1.0, 2.0]
    assert both.certified_point is not None
    assert both.certified_point.flatten().tolist() == [0.0, 1.0, 0.0]
    assert both.direction is strong.direction
    assert strong.numbers["rate"].isnan().tolist() == [False, False, True]


def test_inputs_given_for_perturbations_are_called_outside():
    net = sm.TwoLayerNetwork.random(3, 8, "relu", seed=1, bias_std=1.0)
    inputs = torch.full((1, 3), 5.0, dtype=torch.float64)
    target = torch.ones(1, dtype=torch.float64)
    problem = sm.Problem(net, inputs, target, sm.Logistic(), sm.L2Ball(0.1))
    found = sm.local_optimality(problem, inputs)
    assert "outside the region" in found.reason[0]
    inside = sm.local_optimality(problem, torch.zeros_like(inputs))
    assert "outside the region" not in inside.reason[0]


def test_an_ascent_given_for_points_and_a_class_for_an_objective():
    net = sm.TwoLayerNetwork.random(3, 8, "relu", seed=1)
    inputs = torch.zeros(1, 3, dtype=torch.float64)
    target = torch.ones(1, dtype=torch.float64)
    problem = sm.Problem(net, inputs, target, sm.Logistic(), sm.L2Ball(0.1))
    with pytest.raises(sm.UserError, match="give its `best`"):
        sm.local_optimality(problem, sm.ascend(problem, max_steps=1))
    with pytest.raises(sm.UserError, match=r"call it: Logistic\(\)"):
        sm.Problem(net, inputs, target, sm.Logistic, sm.L2Ball(0.1))
