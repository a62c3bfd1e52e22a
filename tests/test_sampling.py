"""Points uniform on regions, and what regions refuse."""

import time

import numpy as np
import pytest
import torch
from scipy import stats

from summiteer import _rows
from summiteer.draws import Draws
from summiteer.errors import UserError
from summiteer.regions import (
    Box,
    Intersection,
    L1Ball,
    L2Ball,
    LinfBall,
    Sphere,
    intersect,
)

COUNT = 4000
#: Seeds are fixed, and each of about a hundred p-values is asked to exceed this.
RARE = 1e-4


def draws(rows, seed=0, first=0):
    ids = torch.arange(first, first + rows)
    return Draws(seed, ids, torch.zeros(rows, dtype=torch.int64))


def sample(region, d, rows=COUNT, dtype=torch.float64):
    like = torch.zeros(rows, d, dtype=dtype)
    bound = region.bind(like)
    points = bound.sample(draws(rows), like)
    assert bound.contains(points).all()
    return points.double().numpy()


@pytest.mark.parametrize("d", [1, 2, 6, 50])
def test_the_ball_has_the_radial_law_and_no_preferred_direction(d):
    points = sample(L2Ball(0.7), d)
    length = np.linalg.norm(points, axis=1)
    assert stats.kstest((length / 0.7) ** d, "uniform").pvalue > RARE
    directions = sample(Sphere(2.0), d)
    # u₁ of a uniform direction: (u₁ + 1)/2 ~ Beta((d-1)/2, (d-1)/2); ±1 in d = 1.
    for unit in (points / length[:, None], directions / 2):
        if d == 1:
            assert stats.binomtest(int((unit > 0).sum()), COUNT).pvalue > RARE
            continue
        turned = unit @ (np.ones(d) / d**0.5)
        law = stats.beta((d - 1) / 2, (d - 1) / 2)
        for along in (unit[:, 0], unit[:, -1], turned):
            assert stats.kstest((along + 1) / 2, law.cdf).pvalue > RARE
    # Length and direction are independent: four standard errors.
    if d > 1:
        assert abs(np.corrcoef(length, points[:, 0] / length)[0, 1]) < 4 / COUNT**0.5


@pytest.mark.parametrize("d", [1, 2, 6, 50])
def test_the_l1_ball_is_uniform(d):
    points = sample(L1Ball(0.7), d)
    length = abs(points).sum(1)
    assert stats.kstest((length / 0.7) ** d, "uniform").pvalue > RARE
    signs = (points > 0).sum()
    assert stats.binomtest(int(signs), points.size).pvalue > RARE
    if d == 1:
        return
    # Shares of a point on the simplex: one of them ~ Beta(1, d - 1), two Beta(2, …).
    shares = abs(points) / length[:, None]
    for along in (shares[:, 0], shares[:, -1]):
        assert stats.kstest(along, stats.beta(1, d - 1).cdf).pvalue > RARE
    if d > 2:
        pair = shares[:, 0] + shares[:, -1]
        assert stats.kstest(pair, stats.beta(2, d - 2).cdf).pvalue > RARE
    # Length and direction are independent: four standard errors.
    assert abs(np.corrcoef(length, shares[:, 0])[0, 1]) < 4 / COUNT**0.5


def test_boxes_are_uniform_coordinate_by_coordinate():
    lower = torch.tensor([-1.0, 0.0, -1e-3, 0.0]).double()
    upper = torch.tensor([2.0, 0.5, 1e-3, 0.0]).double()
    points = sample(Box(lower, upper), 4)
    assert (points[:, 3] == 0).all()
    for i in range(3):
        share = (points[:, i] - float(lower[i])) / float(upper[i] - lower[i])
        assert stats.kstest(share, "uniform").pvalue > RARE
    cube = sample(LinfBall(0.3), 3)
    assert stats.kstest(cube.flatten() / 0.6 + 0.5, "uniform").pvalue > RARE
    cells, _ = np.histogramdd(cube, 3, [(-0.3, 0.3)] * 3)
    assert stats.chisquare(cells.flatten()).pvalue > RARE


def limits(kind, d):
    if kind == "loose":
        return -2 * np.ones(d), 2 * np.ones(d)
    if kind == "one-sided":
        return -1.5 * (np.arange(d) % 2), np.where(np.arange(d) % 3 == 0, 0.3, 2.0)
    if kind == "tight":
        return -np.linspace(0.2, 0.9, d), np.linspace(0.9, 0.4, d)
    return -np.linspace(0.05, 0.2, d), np.full(d, 0.15)  # The ball hardly cuts it.


@pytest.mark.parametrize("kind", ["loose", "one-sided", "tight", "small"])
@pytest.mark.parametrize("d", [2, 3, 6])
@pytest.mark.parametrize("ball", [L1Ball, L2Ball])
def test_the_intersection_is_uniform_as_plain_rejection_is(ball, d, kind):
    low, high = limits(kind, d)
    region = intersect(ball(1.0), Box(torch.tensor(low), torch.tensor(high)))
    ours = sample(region, d)
    # Uniform on the box that encloses ball ∩ box, kept where inside the ball.
    inner = np.maximum(low, -1), np.minimum(high, 1)
    plain = np.random.default_rng(0).uniform(*inner, size=(400 * COUNT, d))
    order = 1 if ball is L1Ball else 2
    plain = plain[np.linalg.norm(plain, order, axis=1) <= 1][:COUNT]
    assert len(plain) > 1000
    turn = np.linspace(1, -1, d)
    for statistic in (
        lambda z: (z**2).sum(1),
        lambda z: z[:, 0],
        lambda z: z[:, -1],
        lambda z: z @ turn,
        lambda z: z[:, 0] * z[:, -1],
        lambda z: abs(z).max(1),
    ):
        assert stats.ks_2samp(statistic(ours), statistic(plain)).pvalue > RARE


def test_two_hundred_dimensions_are_fast_and_have_the_right_length():
    """Against importance weights: flat proposals on the box, tilted by nothing.

    Half of the coordinates are free, so that given the held half h the free part
    lies in a ball of dimension k and radius √(ε² - ‖h‖²): its volume is the weight.
    """
    d, k, rows = 200, 100, 500
    low = np.concatenate([-np.full(k, 0.02), -np.full(k, 5.0)])
    high = np.concatenate([np.linspace(0.0, 0.1, k), np.full(k, 5.0)])
    region = Intersection(L2Ball(1.0), Box(torch.tensor(low), torch.tensor(high)))
    started = time.process_time()
    ours = sample(region, d, rows)
    # About 0.5 s on one core of 2024; a fall back to 2²⁰ numbers a point takes 60 s.
    assert time.process_time() - started < 10
    rng = np.random.default_rng(1)
    held = rng.uniform(low[:k], high[:k], size=(100_000, k))
    inside = np.maximum(1 - (held**2).sum(1), 0) ** (k / 2)
    chosen = held[rng.choice(len(held), 3000, p=inside / inside.sum())]
    room = np.sqrt(1 - (chosen**2).sum(1))
    length = np.hypot(
        np.linalg.norm(chosen, axis=1), room * rng.uniform(size=3000) ** (1 / k)
    )
    assert stats.ks_2samp(np.linalg.norm(ours, axis=1), length).pvalue > RARE
    mean, expected = (
        ours[:, :k].mean(0),
        (held * inside[:, None]).mean(0) / inside.mean(),
    )
    error = ours[:, :k].std(0) / rows**0.5
    # A hundred coordinates, each within 4.5 standard errors (fixed seed).
    assert (abs(mean - expected) <= 4.5 * error + 1e-12).all()


def test_degenerate_boxes_are_sampled_without_warnings():
    like = torch.zeros(20, 5, dtype=torch.float64)
    draw = draws(20)
    for upper in ([0.0] * 5, [0.0, 3.0, 0.0, 0.0, 0.0], [1e-9, 1.0, 1e9, 0.0, 1e-300]):
        limit = torch.tensor(upper, dtype=torch.float64)
        for ball in (L2Ball(0.5), L1Ball(0.5)):
            region = intersect(ball, Box(0 * limit, limit)).bind(like)
            points = region.sample(draw, like)
            assert region.contains(points).all()
            assert (points[:, limit == 0] == 0).all()


def regions():
    box = Box(-0.1, 0.3)
    return [
        L1Ball(0.5),
        intersect(L1Ball(0.5), box),
        L2Ball(0.5),
        Sphere(0.5),
        LinfBall(0.2),
        box,
        Intersection(L2Ball(0.5), box),
        intersect(LinfBall(0.2), box),
    ]


@pytest.mark.parametrize("region", regions(), ids=lambda r: type(r).__name__)
@pytest.mark.parametrize("shape", [(1,), (3, 8, 8), (784,)])
def test_a_start_depends_on_its_name_alone(region, shape):
    like = torch.zeros(7, *shape, dtype=torch.float32)
    ids = torch.tensor([9, -4, 1 << 35, 0, 9, 2, 3])
    restarts = torch.tensor([0, 1, 0, 5, 3, 0, 0])
    bound = region.bind(like)
    whole = bound.sample(Draws(1, ids, restarts, 1 << 20), like)
    assert whole.dtype == like.dtype
    for index in (torch.tensor([4, 2, 6]), torch.tensor([1]), torch.arange(0)):
        named = Draws(1, ids[index], restarts[index], 1 << 20)
        part = bound.take(index).sample(named, like[index])
        assert torch.equal(part, whole[index])
    assert not torch.equal(whole[0], whole[4])
    assert not torch.equal(whole, bound.sample(Draws(2, ids, restarts), like))


INPUTS = torch.zeros(3, 2, dtype=torch.float32)


@pytest.mark.parametrize("region", [L1Ball, L2Ball, LinfBall, Sphere])
@pytest.mark.parametrize(
    ("radius", "message"),
    [
        (0.0, "radius: expected a positive finite number, got 0"),
        (-1, "radius: expected a positive finite number, got -1"),
        (float("nan"), "got nan"),
        (float("inf"), "got inf"),
        (1e300, "got 1e"),  # Infinite in float32.
        (1e-60, "got 1e-60"),  # Zero in float32.
        (torch.tensor([1.0, 0.0, torch.nan]), r"not so at indices \[1, 2\]"),
        (torch.tensor([1.0, 1e-60, 1e60]).double(), r"indices \[1, 2\]"),
        (torch.ones(2), r"one per example \[3\], got shape \[2\]"),
        (torch.ones(3, 1), r"got shape \[3, 1\]"),
        ("0.5 px", "radius: expected a number or one per example, got '0.5 px'"),
    ],
)
def test_radii_that_are_no_radii_are_refused(region, radius, message):
    with pytest.raises(UserError, match=message):
        region(radius).bind(INPUTS)


def test_a_radius_keeps_its_digits():
    assert L2Ball(0.1).bind(INPUTS.double()).radius == 0.1
    assert L2Ball(np.float64(0.1)).bind(INPUTS).radius == 0.1
    assert L2Ball(torch.tensor(0.1, dtype=torch.float64)).bind(INPUTS).radius == 0.1
    listed = L2Ball([0.1, 0.2, 0.3]).bind(INPUTS.double()).radius
    assert listed.tolist() == [0.1, 0.2, 0.3]
    assert L2Ball(torch.ones(3).double()).bind(INPUTS).radius.dtype == torch.float32
    assert L2Ball(torch.ones(1)).bind(INPUTS[:1]).radius.shape == (1,)


@pytest.mark.parametrize(
    ("lower", "upper", "message"),
    [
        (0.1, 1.0, r"contain 0 .* not so for examples \[0, 1, 2\]"),
        (-1.0, torch.tensor([[1.0, 1.0], [1, -0.5], [1, 1]]), r"examples \[1\]"),
        (torch.tensor([torch.nan, 0.0]), 1.0, "must be finite"),
        (-1.0, float("inf"), "must be finite"),
        (-torch.ones(4), 1.0, r"`lower` must be a number or broadcast .* got \[4\]"),
    ],
)
def test_boxes_that_are_no_perturbation_boxes_are_refused(lower, upper, message):
    with pytest.raises(UserError, match=message):
        Box(lower, upper).bind(INPUTS)
    with pytest.raises(UserError, match=message):
        Intersection(L2Ball(1.0), Box(lower, upper)).bind(INPUTS)


def test_the_radius_of_a_box_is_checked_too():
    with pytest.raises(UserError, match="radius: expected a positive"):
        Box(-1.0, 1.0, radius=0.0).bind(INPUTS)


def test_intersections_are_the_simplest_region():
    box = Box(-0.5, 0.1)
    small = intersect(LinfBall(0.2), box)
    assert isinstance(small, Box)
    assert (small.lower, small.upper, small.size) == (-0.2, 0.1, 0.2)
    points = torch.tensor([[-1.0, 1.0]]).double()
    assert small.project(points).tolist() == [[-0.2, 0.1]]
    both = intersect(box, Box(-0.3, 0.3)).bind(points)
    assert both.project(points).tolist() == [[-0.3, 0.1]]
    radius = torch.tensor([0.1, 0.2, 0.3])
    per_row = intersect(LinfBall(radius), box.bind(INPUTS)).bind(INPUTS)
    assert torch.equal(per_row.lower, -radius[:, None].expand(3, 2))
    with pytest.raises(UserError, match="one row per example"):
        intersect(LinfBall(radius), box)


def test_a_ball_may_meet_several_boxes():
    """A box of valid inputs and a mask at once."""
    first, second = Box(-0.5, 0.1).bind(INPUTS), Box(0.0, 9.0).bind(INPUTS)
    region = intersect(intersect(L2Ball(2.0).bind(INPUTS), first), second)
    assert isinstance(region, Intersection)
    points = torch.tensor([[-1.0, 1.0], [0.05, 0.05], [5.0, 5.0]])
    expected = torch.tensor([[0.0, 0.1], [0.05, 0.05], [0.1, 0.1]])
    assert torch.equal(region.project(points), expected)
    assert region.size == 2.0


def test_what_has_no_exact_projection_is_refused():
    with pytest.raises(UserError, match="Sphere ∩ box has no exact projection"):
        intersect(Sphere(1.0), Box(-1.0, 1.0))
    with pytest.raises(UserError, match="ball: expected an L2Ball, got LinfBall"):
        Intersection(LinfBall(1.0), Box(-1.0, 1.0))


def test_rows_helpers_take_empty_and_not_finite_rows():
    empty = torch.zeros(0, 3)
    assert _rows.norm(empty).shape == (0,)
    assert _rows.unit(empty).shape == (0, 3)
    rows = torch.tensor([[3.0, 4.0], [torch.nan, 1.0], [torch.inf, 1.0], [0.0, 0.0]])
    norms = _rows.norm(rows)
    assert norms[[0, 2, 3]].tolist() == [5.0, torch.inf, 0.0]
    assert norms[1].isnan()
    units = _rows.unit(rows)
    torch.testing.assert_close(units[0], torch.tensor([0.6, 0.8]))
    assert units[1:3, 0].isnan().all()
    assert (units[3] == 0).all()
