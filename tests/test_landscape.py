"""Distinct maxima: grouping end points by distance."""

import pytest
import torch

import summiteer as sm
from fakes import seeded
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError

KNOWN = {known.name: known for known in PROBLEMS}
ONE = torch.ones(1, dtype=torch.float64)


def line(*places):
    """End points of one example on a line, as [restarts, 1, 1]."""
    return torch.tensor(places, dtype=torch.float64).reshape(-1, 1, 1)


def test_near_points_are_one_maximum():
    maxima = sm.distinct_maxima(line(0.0, 1.0, 0.005, 1.0, -1.0), ONE)
    assert maxima.label[:, 0].tolist() == [0, 1, 0, 1, 2]
    assert maxima.count.tolist() == [3]
    # One of five runs ended where no other did (Good 1953).
    assert float(maxima.unseen) == pytest.approx(0.2)


def test_chains_are_single_linkage():
    # Each step of 0.009 is below the threshold of 0.01 radii, the whole is not.
    maxima = sm.distinct_maxima(line(0.0, 0.018, 0.009, 0.5), ONE)
    assert maxima.label[:, 0].tolist() == [0, 0, 0, 1]


def test_distances_are_measured_in_radii_of_each_example():
    points = line(0.0, 0.05).expand(2, 3, 1)
    sizes = torch.tensor([1.0, 5.0, 10.0], dtype=torch.float64)
    assert sm.distinct_maxima(points, sizes).count.tolist() == [2, 1, 1]
    assert sm.distinct_maxima(points, sizes, threshold=0.1).count.tolist() == [1] * 3


def test_only_counted_runs_count():
    counted = torch.tensor([[True, False], [False, False], [True, False]])
    points = line(0.0, 0.5, 1.0).expand(3, 2, 1)
    maxima = sm.distinct_maxima(points, torch.ones(2), counted)
    assert maxima.label.tolist() == [[0, -1], [-1, -1], [1, -1]]
    assert maxima.count.tolist() == [2, 0]
    assert float(maxima.unseen[0]) == 1.0
    assert bool(maxima.unseen[1].isnan())


def test_an_uncounted_run_is_no_bridge():
    counted = torch.tensor([[True], [False], [True]])
    maxima = sm.distinct_maxima(line(0.0, 0.009, 0.018), ONE, counted)
    assert maxima.count.tolist() == [2]


def test_examples_are_grouped_apart():
    """The same coordinates in two examples are two questions."""
    points = torch.zeros(4, 3, 2, dtype=torch.float64)
    points[2:, 1] = 1.0
    maxima = sm.distinct_maxima(points, torch.ones(3))
    assert maxima.count.tolist() == [1, 2, 1]
    assert maxima.label[:, 1].tolist() == [0, 0, 1, 1]


def test_order_of_runs_only_renames():
    points = seeded(1, 12, 1)[0].round()[:, None]
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    first = sm.distinct_maxima(points, ONE)
    second = sm.distinct_maxima(points[order], ONE)
    assert torch.equal(first.count, second.count)
    assert torch.equal(first.unseen, second.unseen)
    same = first.label[order, 0][:, None] == first.label[order, 0]
    assert torch.equal(same, second.label[:, 0][:, None] == second.label[:, 0])


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("linear on L2", 1),
        ("double well", 2),
        ("planted saddle", 2),
        ("trust region", 2),
        ("one neuron", 2),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_known_numbers_of_maxima(name, count, dtype):
    problem = KNOWN[name].cast(dtype)
    ascent = sm.ascend(problem, start=sm.UniformStart(restarts=24), max_steps=1000)
    maxima = sm.distinct_maxima(ascent.final, problem.size)
    assert maxima.count.tolist() == [count]
    assert len(KNOWN[name].local_maximisers) == count
    # Every basin is met by several of 24 runs, so nothing seems unseen.
    assert maxima.unseen.tolist() == [0.0]


def test_images_are_points_too():
    points = seeded(3, 2, 1, 4, 4)
    assert sm.distinct_maxima(points, torch.ones(2)).count.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("points", "size", "counted"),
    [
        (torch.zeros(3, 2), torch.ones(2), None),
        (torch.zeros(3, 2, 1), torch.ones(3), None),
        (torch.zeros(3, 2, 1), torch.ones(2), torch.ones(2, 3, dtype=torch.bool)),
    ],
)
def test_shapes_that_do_not_fit_are_refused(points, size, counted):
    with pytest.raises(
        UserError, match=r"(points|counted): expected \[restarts, batch"
    ):
        sm.distinct_maxima(points, size, counted)
