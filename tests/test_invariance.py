"""What a proof says does not depend on coordinates, order, sign or scale."""

import math

import numpy as np
import pytest
import torch
from soundness.climb import climb, newton
from soundness.draw import draw_field, problem_of

import summiteer as sm

F64 = torch.float64
#: Numbers and the power of the input scale that they carry (F itself carries none).
POWERS = {
    "distance_bound": 1,
    "best_radius": 1,
    "uniqueness_radius": 1,
    "upper_bound": 0,
    "rate": 0,
    "curvature_ratio": 0,
    "multiplier": -2,
    "curvature": -2,
    "lipschitz": -2,
    "majorant": -2,
}
#: Rounding is all that these consist of at polished points.
ROUNDING = ("distance_bound",)
CASES = [(seed, region) for seed in range(6) for region in ("ball", "sphere", "box")]


def made(seed: int, region: str):
    """(weights, inputs, targets, zone, points) of a random problem, and its field."""
    rng = np.random.default_rng(seed)
    d, m = 3, 6
    field = draw_field(
        rng, batch=6, region=region, scale=0.4,
        activation=["softplus", "tanh", "gelu"][seed % 3],
        loss=["quadratic", "logistic", "margin"][seed // 2 % 3],
        hidden=rng.normal(size=(m, d)), bias=rng.normal(size=m),
        output=rng.normal(size=(1, m)), shift=np.array([0.1]),
        inputs=rng.normal(size=(6, d)),
    )  # fmt: skip
    surface = field.lead(np.zeros((6, d)))
    ends = newton(surface, climb(surface, np.zeros((6, 1, d)), 200))
    points = ends.points[:, 0].astype(float)
    elsewhere = field.zone.project(rng.normal(size=(6, 1, d)))[:, 0]
    points[4:] = elsewhere[4:]
    return problem_of(field), torch.from_numpy(points)


def changed(problem, **parts):
    """The problem with other weights, inputs, targets or region."""
    old = problem.model
    network = sm.TwoLayerNetwork(
        parts.get("hidden", old.hidden_weights.detach()),
        parts.get("output", old.output_weights.detach()),
        parts.get("bias", old.hidden_bias.detach()),
        parts.get("shift", old.output_bias.detach()),
        activation=old.activation,
    )
    return sm.Problem(
        network,
        parts.get("inputs", problem.inputs),
        parts.get("targets", problem.targets),
        problem.objective,
        parts.get("region", problem.region),
    )


def same(left, right, scale: float = 1.0, tolerance: float = 1e-9) -> None:
    """Equal verdicts, and numbers that are equal up to rounding."""
    assert left.verdict == right.verdict
    assert left.evidence == right.evidence
    assert left.proposition == right.proposition
    for name, power in POWERS.items():
        a, b = getattr(left, name) * scale**power, getattr(right, name)
        assert torch.equal(a.isnan(), b.isnan()), name
        if name in ROUNDING:
            continue
        known = ~a.isnan()
        assert torch.allclose(a[known], b[known], rtol=tolerance, atol=1e-13), name


@pytest.mark.parametrize(("seed", "region"), CASES)
def test_order_of_the_neurons(seed, region):
    problem, points = made(seed, region)
    order = torch.randperm(6, generator=torch.Generator().manual_seed(seed))
    model = problem.model
    other = changed(
        problem,
        hidden=model.hidden_weights.detach()[order],
        output=model.output_weights.detach()[order],
        bias=model.hidden_bias.detach()[order],
    )
    same(sm.local_optimality(problem, points), sm.local_optimality(other, points))


@pytest.mark.parametrize(("seed", "region"), CASES)
def test_sign_of_output_and_target(seed, region):
    problem, points = made(seed, region)
    model = problem.model
    other = changed(
        problem,
        output=-model.output_weights.detach(),
        shift=-model.output_bias.detach(),
        targets=-problem.targets,
    )
    same(sm.local_optimality(problem, points), sm.local_optimality(other, points))


@pytest.mark.parametrize("scale", [2.0**-9, 0.3, 2.0**7, 1000.0])
@pytest.mark.parametrize(("seed", "region"), CASES)
def test_scale_of_the_inputs(seed, region, scale):
    # W → cW, (x, ε, δ) → (x, ε, δ)/c: lengths are divided by c.
    problem, points = made(seed, region)
    region = problem.region
    if isinstance(region, sm.Box):
        shrunk = sm.Box(region.lower / scale, region.upper / scale)
    else:
        shrunk = type(region)(region.radius / scale)
    other = changed(
        problem,
        hidden=scale * problem.model.hidden_weights.detach(),
        inputs=problem.inputs / scale,
        region=shrunk,
    )
    found = sm.local_optimality(other, points / scale)
    # Powers of two are exact, so that even rounding is the same.
    exact = math.frexp(scale)[0] == 0.5
    tolerance = 1e-13 if exact else 1e-8
    same(sm.local_optimality(problem, points), found, 1 / scale, tolerance)


@pytest.mark.parametrize(
    ("seed", "region"), [case for case in CASES if case[1] != "box"]
)
def test_rotation_of_the_inputs(seed, region):
    problem, points = made(seed, region)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator, dtype=F64))[0]
    other = changed(
        problem,
        hidden=problem.model.hidden_weights.detach() @ turn,
        inputs=problem.inputs @ turn,
    )
    found = sm.local_optimality(other, points @ turn)
    same(sm.local_optimality(problem, points), found, tolerance=1e-5)


@pytest.mark.parametrize(("seed", "region"), CASES)
def test_permutation_of_the_coordinates(seed, region):
    problem, points = made(seed, region)
    order = torch.tensor([2, 0, 1])
    region = problem.region
    if isinstance(region, sm.Box):
        region = sm.Box(region.lower[:, order], region.upper[:, order])
    other = changed(
        problem,
        hidden=problem.model.hidden_weights.detach()[:, order],
        inputs=problem.inputs[:, order],
        region=region,
    )
    found = sm.local_optimality(other, points[:, order])
    same(sm.local_optimality(problem, points), found, tolerance=1e-5)
