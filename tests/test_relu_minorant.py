"""The inner dual of DC ascent: weak duality always, no gap at the end."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import linprog
from torch import Tensor

from summiteer.networks.relu_minorant import ReluMinorant, maximise
from summiteer.regions import Box, Intersection, L2Ball, LinfBall, Region

RADIUS = 0.4


def rand(*shape: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def random_minorant(
    rows: int, width: int, dim: int, biases: float = 1.0, seed: int = 0
) -> ReluMinorant:
    hidden = rand(width, dim, seed=seed)
    inputs = torch.nn.functional.normalize(rand(rows, dim, seed=seed + 1), dim=1)
    output = rand(width, seed=seed + 2) / width**0.5
    height = inputs @ hidden.T + biases * rand(width, seed=seed + 3)
    on = (height > 0) & (output > 0)
    return ReluMinorant(
        hidden=hidden,
        height=height,
        weight=output.clamp(max=0).expand(rows, width).clone(),
        linear=(on * output) @ hidden,
        constant=(on * output * height).sum(1),
    )


def region(kind: str, rows: int, dim: int) -> Region:
    if kind == "ball":
        return L2Ball(RADIUS)
    if kind == "cube":
        return LinfBall(RADIUS / dim**0.5)
    limits = RADIUS * torch.rand(2, rows, dim, dtype=torch.float64).sqrt() / dim**0.5
    limits[0, :, 0] = 0.0
    box = Box(-limits[0], limits[1])
    return box if kind == "box" else Intersection(L2Ball(0.7 * RADIUS), box)


def scale(minorant: ReluMinorant) -> Tensor:
    """Of the terms of the dual: what rounding is measured against."""
    lengths = minorant.hidden.norm(dim=1)
    return minorant.linear.norm(dim=1) + (minorant.weight.abs() * lengths).norm(dim=1)


kinds = pytest.mark.parametrize("kind", ["ball", "cube", "box", "both"])


@pytest.fixture(autouse=True)
def _same_boxes():
    with torch.random.fork_rng():
        torch.manual_seed(5)
        yield


@kinds
@pytest.mark.parametrize(
    ("width", "dim", "biases"), [(12, 2, 1.0), (40, 5, 0.0), (120, 30, 1.0)]
)
def test_the_gap_closes_and_the_bounds_hold(kind, width, dim, biases):
    minorant, where = random_minorant(40, width, dim, biases), region(kind, 40, dim)
    peak = maximise(minorant, where)
    # No rounding worth speaking of: a relative gap near the unit of rounding.
    assert (peak.gap <= 1e-12 * scale(minorant)).all()
    assert (peak.gap >= 0).all()
    assert where.contains(peak.points).all()
    assert ((peak.multipliers >= 0) & (peak.multipliers <= 1)).all()
    for stated, computed in (
        (peak.lower, minorant.value(peak.points)),
        (peak.direction, minorant.direction(peak.multipliers)),
    ):
        torch.testing.assert_close(stated, computed, rtol=0, atol=1e-13)
    difference = peak.upper - peak.lower
    torch.testing.assert_close(difference, peak.gap, rtol=0, atol=1e-12)
    for seed in range(5):
        tried = where.project(RADIUS * rand(40, dim, seed=100 + seed))
        assert (minorant.value(tried) <= peak.upper + 1e-13).all()


@kinds
def test_every_multiplier_bounds_every_point(kind):
    minorant, where = random_minorant(60, 15, 3), region(kind, 60, 3)
    for seed in range(5):
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            multipliers = torch.rand(60, 15, dtype=torch.float64)
        direction = minorant.direction(multipliers)
        linear = (multipliers * minorant.weight * minorant.height).sum(1)
        support = (direction * where.linear_maximiser(direction)).sum(1)
        upper = minorant.constant + linear + support
        points = where.project(rand(60, 3, seed=seed))
        assert (minorant.value(points) <= upper + 1e-13).all()
        assert (maximise(minorant, where, multipliers).upper <= upper + 1e-13).all()


@pytest.mark.parametrize("kind", ["cube", "box"])
@pytest.mark.parametrize("dim", [2, 6])
def test_boxes_agree_with_linear_programming(kind, dim):
    minorant, where = random_minorant(8, 15, dim, seed=20), region(kind, 8, dim)
    peak = maximise(minorant, where)
    lower, upper = (
        limit.expand(8, dim) for limit in where.limits(torch.zeros(8, dim).double())
    )
    for row in range(8):
        weight = minorant.weight[row].numpy()
        # max lᵀδ + Σ c_j t_j over t_j ≥ 0, t_j ≥ w_jᵀδ + h_j.
        program = linprog(
            -np.concatenate([minorant.linear[row].numpy(), weight]),
            A_ub=np.hstack([minorant.hidden.numpy(), -np.eye(15)]),
            b_ub=-minorant.height[row].numpy(),
            bounds=[*zip(lower[row].tolist(), upper[row].tolist(), strict=True)]
            + [(0, None)] * 15,
            method="highs",
        )
        expected = float(minorant.constant[row]) - program.fun
        assert peak.lower[row].item() == pytest.approx(expected, abs=1e-9)


@kinds
def test_the_plane_agrees_with_a_fine_grid(kind):
    minorant, where = random_minorant(20, 9, 2, seed=40), region(kind, 20, 2)
    peak = maximise(minorant, where)
    axis = torch.linspace(-RADIUS, RADIUS, 401, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    spacing = float(axis[1] - axis[0])
    for row in range(20):
        own = minorant.take(torch.full((len(grid),), row))
        inside = where.take(torch.full((len(grid),), row)).contains(grid)
        highest = own.value(grid)[inside].max()
        # Slopes are at most Σ|c_j|‖w_j‖ + ‖l‖, and a grid point is near the peak.
        slope = float(
            (own.weight[0].abs() * own.hidden.norm(dim=1)).sum() + own.linear[0].norm()
        )
        assert highest <= peak.upper[row] + 1e-13
        assert highest >= peak.lower[row] - 4 * slope * spacing


def roof(dim: int, drop: float) -> ReluMinorant:
    """-|δ_1| - … - |δ_d| + drop·δ_1, the top of it at 0 where |drop| < 1."""
    eye = torch.eye(dim, dtype=torch.float64)
    linear = torch.ones(1, dim, dtype=torch.float64)
    linear[0, 0] += drop
    return ReluMinorant(
        hidden=eye,
        height=torch.zeros(1, dim, dtype=torch.float64),
        weight=torch.full((1, dim), -2.0, dtype=torch.float64),
        linear=linear,
        constant=torch.ones(1, dtype=torch.float64),
    )


@kinds
@pytest.mark.parametrize("drop", [0.0, 0.3, 1.0])
def test_interior_maximisers_are_found(kind, drop):
    dim = 4
    peak = maximise(roof(dim, drop), region(kind, 1, dim))
    assert peak.gap.item() <= 1e-14
    assert peak.lower.item() == pytest.approx(1.0, abs=1e-14)
    if drop < 1 and kind in ("ball", "cube"):
        assert peak.points.norm().item() <= 1e-14
        assert peak.direction.norm().item() <= 1e-13


@kinds
def test_duplicated_neurons_share_their_force(kind):
    minorant, where = random_minorant(30, 10, 4, seed=60), region(kind, 30, 4)
    twice = ReluMinorant(
        hidden=minorant.hidden.repeat(3, 1),
        height=minorant.height.repeat(1, 3),
        weight=torch.cat([s * minorant.weight for s in (0.5, 0.3, 0.2)], 1),
        linear=minorant.linear,
        constant=minorant.constant,
    )
    one, three = maximise(minorant, where), maximise(twice, where)
    assert (three.gap <= 1e-12 * scale(minorant)).all()
    torch.testing.assert_close(three.lower, one.lower, rtol=0, atol=1e-12)


@kinds
def test_neurons_without_weight_or_slope_change_nothing(kind):
    minorant, where = random_minorant(20, 10, 3, seed=80), region(kind, 20, 3)
    idle = ReluMinorant(
        hidden=torch.cat([minorant.hidden, torch.zeros(2, 3), rand(1, 3, seed=1)]),
        height=torch.cat([minorant.height, rand(20, 3, seed=2)], 1),
        weight=torch.cat(
            [minorant.weight, torch.tensor([-1.0, -2.0, 0.0]).expand(20, 3)], 1
        ),
        linear=minorant.linear,
        constant=minorant.constant,
    )
    peak = maximise(idle, where)
    still = (idle.weight[:, 10:12] * idle.height[:, 10:12].relu()).sum(1)
    expected = maximise(minorant, where).lower + still
    assert (peak.gap <= 1e-13).all()
    torch.testing.assert_close(peak.lower, expected, rtol=0, atol=1e-13)
    flat = ReluMinorant(
        hidden=minorant.hidden,
        height=minorant.height,
        weight=torch.zeros_like(minorant.weight),
        linear=minorant.linear,
        constant=minorant.constant,
    )
    affine = maximise(flat, where)
    top = (flat.linear * where.linear_maximiser(flat.linear)).sum(1) + flat.constant
    torch.testing.assert_close(affine.lower, top, rtol=0, atol=1e-13)


@kinds
def test_a_row_does_not_depend_on_its_companions(kind):
    minorant, where = random_minorant(12, 60, 8, seed=90), region(kind, 12, 8)
    whole = maximise(minorant, where)
    for row in (0, 7):
        index = torch.tensor([row])
        own = maximise(minorant.take(index), where.take(index))
        torch.testing.assert_close(own.points, whole.points[index], rtol=0, atol=1e-7)
        assert own.lower.item() == pytest.approx(whole.lower[row].item(), abs=1e-13)


def test_a_warm_start_costs_less_and_ends_at_the_same():
    minorant, where = random_minorant(20, 120, 40, seed=95), L2Ball(RADIUS)
    cold = maximise(minorant, where)
    warm = maximise(minorant, where, cold.multipliers)
    assert (warm.gap <= 1e-12 * scale(minorant)).all()
    torch.testing.assert_close(warm.lower, cold.lower, rtol=0, atol=1e-13)
    assert warm.evaluations.sum() < cold.evaluations.sum() / 2


@kinds
def test_float32_closes_the_gap_to_its_own_rounding(kind):
    double, where = random_minorant(20, 50, 10), region(kind, 20, 10)
    single = ReluMinorant(*(getattr(double, name).float() for name in vars(double)))
    peak = maximise(single, where.bind(torch.zeros(20, 10)))
    assert peak.points.dtype == torch.float32
    assert (peak.gap <= 2e-4 * scale(double)).all()


def test_a_failed_search_shows():
    # Far from the maximum the gap is what is missing.
    minorant = random_minorant(10, 30, 5)
    peak = maximise(minorant, L2Ball(RADIUS))
    worse = minorant.value(torch.zeros_like(peak.points))
    assert (peak.upper - worse > 1e-3).all()
    assert math.isclose(float(peak.gap.max()), 0.0, abs_tol=1e-13)
