"""Vertices towards the nearest examples of other classes, against brute force."""

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer.searching import neighbours
from summiteer.searching.neighbours import towards_neighbours, usable_neighbours

F64 = torch.float64
CLASSES, EXAMPLES, OTHERS = 4, 6, 40


def drawn(rows, dtype=F64, seed=0, shape=(2, 3)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, *shape, generator=generator, dtype=F64).to(dtype)


def problem_of(region, dtype=F64, box=(0.0, 1.0)):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(6, CLASSES)).to(dtype)
    targets = torch.arange(EXAMPLES) % CLASSES
    inputs = drawn(EXAMPLES, dtype)
    return sm.Problem(model, inputs, targets, sm.CrossEntropy(), region, box=box)


def data(dtype=F64, count=OTHERS):
    labels = torch.randint(
        CLASSES, (count,), generator=torch.Generator().manual_seed(5)
    )
    return drawn(count, dtype, seed=1), labels


def asked():
    """Every example towards every class."""
    examples = torch.arange(EXAMPLES).repeat_interleave(CLASSES)
    return examples, torch.arange(CLASSES).repeat(EXAMPLES)


def brute(problem, others, labels, example, k, rank):
    """The neighbour itself, by distances of fractions of float64."""
    own = problem.inputs[example].double()
    far = [
        (float((others[i].double() - own).square().sum()), i)
        for i in range(len(labels))
        if labels[i] == k
    ]
    return others[sorted(far)[rank][1]]


@pytest.mark.parametrize("rank", [0, 1, 3])
@pytest.mark.parametrize("pairs", [1, 2**22])
def test_on_a_box_the_vertex_towards_the_nearest_of_the_class(rank, pairs, monkeypatch):
    monkeypatch.setattr(neighbours, "_PAIRS", pairs)
    problem, (others, labels) = problem_of(sm.LinfBall(0.1)), data()
    examples, classes = asked()
    points, there = towards_neighbours(
        problem, (others, labels), examples, classes, rank
    )
    assert there.all()
    lower = (0.0 - problem.inputs).clamp(min=-0.1)
    upper = (1.0 - problem.inputs).clamp(max=0.1)
    for point, example, k in zip(points, examples, classes, strict=True):
        way = brute(problem, others, labels, example, k, rank) - problem.inputs[example]
        vertex = torch.where(way > 0, upper[example], lower[example])
        torch.testing.assert_close(point, vertex, rtol=0, atol=1e-15)


REGIONS = {
    "l2": sm.L2Ball(0.3),
    "l1": sm.L1Ball(0.3),
    "sphere": sm.Sphere(0.3),
    "linf": sm.LinfBall(0.3),
}


@pytest.mark.parametrize("box", [(0.0, 1.0), None], ids=["box", "no box"])
@pytest.mark.parametrize("name", REGIONS)
def test_no_feasible_point_lies_further_that_way(name, box):
    region = REGIONS[name]
    if name == "sphere" and box:
        pytest.skip("a sphere within a box is no region")
    problem, (others, labels) = problem_of(region, box=box), data()
    examples, classes = asked()
    points, _ = towards_neighbours(problem, (others, labels), examples, classes, 0)
    feasible = problem.rows(examples).region
    # Projections of anything, however far, are feasible.
    tried = [10 * (drawn(len(examples), seed=s) - 0.5) for s in range(2, 40)]
    assert feasible.contains(points).all()
    for row, (example, k) in enumerate(zip(examples, classes, strict=True)):
        way = brute(problem, others, labels, example, k, 0) - problem.inputs[example]
        reached = (way * points[row]).sum()
        for points_tried in tried:
            other = feasible.project(points_tried)[row]
            assert (way * other).sum() <= reached + 1e-9


def test_without_a_box_a_ball_is_left_straight_towards_the_neighbour():
    problem, (others, labels) = problem_of(sm.L2Ball(0.3), box=None), data()
    examples, classes = asked()
    points, _ = towards_neighbours(problem, (others, labels), examples, classes, 0)
    for point, example, k in zip(points, examples, classes, strict=True):
        way = brute(problem, others, labels, example, k, 0) - problem.inputs[example]
        torch.testing.assert_close(point, 0.3 * way / way.norm())


@pytest.mark.parametrize(
    "dtype", [torch.float16, torch.bfloat16, torch.float32], ids=str
)
def test_half_precision_asks_for_the_same_neighbours(dtype):
    problem, (others, labels) = problem_of(sm.LinfBall(0.1), dtype), data(dtype)
    examples, classes = asked()
    points, _ = towards_neighbours(problem, (others, labels), examples, classes, 0)
    assert points.dtype == dtype
    feasible = problem.rows(examples).region
    assert feasible.contains(points).all()
    for point, example, k in zip(points, examples, classes, strict=True):
        way = brute(problem, others, labels, example, k, 0) - problem.inputs[example]
        assert torch.equal(point > 0, (way > 0) & (point != 0))


def test_data_of_another_precision_are_taken_as_the_problem_s():
    problem = problem_of(sm.LinfBall(0.1), torch.float32)
    examples, classes = asked()
    double, labels = data()
    wide, _ = towards_neighbours(problem, (double, labels), examples, classes, 0)
    own, _ = towards_neighbours(problem, (double.float(), labels), examples, classes, 0)
    assert torch.equal(wide, own)


def test_a_class_with_too_few_examples_is_told():
    problem = problem_of(sm.LinfBall(0.1))
    others, labels = drawn(3, seed=1), torch.tensor([0, 0, 2])
    examples, classes = asked()
    for rank, there in ((0, {0, 2}), (1, {0}), (2, set())):
        points, known = towards_neighbours(
            problem, (others, labels), examples, classes, rank
        )
        assert set(classes[known].tolist()) == there
        assert points.isfinite().all()


def test_exact_ties_go_to_the_first_whatever_the_block():
    problem = problem_of(sm.LinfBall(0.1))
    step = torch.zeros(EXAMPLES, 2, 3, dtype=F64)
    step[:, 0, 0] = 0.25
    # Mirror images of each other about each example, in both orders.
    for first in (step, -step):
        middle = torch.full_like(problem.inputs, 0.5)
        problem = sm.Problem(
            problem.model,
            middle,
            problem.targets,
            problem.objective,
            sm.LinfBall(0.1),
            box=(0.0, 1.0),
        )
        others = torch.stack([middle[0] + first[0], middle[0] - first[0]])
        labels = torch.ones(2, dtype=torch.int64)
        examples = torch.arange(EXAMPLES)
        classes = torch.ones_like(examples)
        points, _ = towards_neighbours(problem, (others, labels), examples, classes, 0)
        assert torch.equal(points[:, 0, 0].sign(), first[:, 0, 0].sign())


def test_the_neighbour_does_not_depend_on_who_else_asks():
    problem, given = (
        problem_of(sm.LinfBall(0.1), torch.float32),
        data(torch.float32, 3000),
    )
    examples, classes = asked()
    whole, _ = towards_neighbours(problem, given, examples, classes, 2)
    for row in range(len(examples)):
        one = examples[row : row + 1], classes[row : row + 1]
        alone, _ = towards_neighbours(problem, given, *one, 2)
        assert torch.equal(alone[0], whole[row])


def test_far_from_the_origin_the_nearest_is_still_found():
    """The product of matrices alone would lose these differences in float32."""
    others, labels = data(torch.float32)
    far = 4096.0
    problem = problem_of(sm.LinfBall(0.1), torch.float32, box=None)
    moved = sm.Problem(
        problem.model,
        problem.inputs + far,
        problem.targets,
        problem.objective,
        sm.LinfBall(0.1),
    )
    examples, classes = asked()
    points, _ = towards_neighbours(moved, (others + far, labels), examples, classes, 0)
    for point, example, k in zip(points, examples, classes, strict=True):
        way = brute(moved, others + far, labels, example, k, 0) - moved.inputs[example]
        moves = way != 0
        assert torch.equal(point[moves].sign(), way[moves].sign())


def attacked(block_size, neighbours=None):
    problem = problem_of(sm.LinfBall(0.3))
    return sm.attack(
        problem.model,
        problem.inputs,
        problem.targets,
        region=problem.region,
        block_size=block_size,
        neighbours=neighbours,
        screened=False,
    )


@pytest.mark.filterwarnings("ignore::summiteer.SummiteerWarning")
def test_every_block_is_shown_all_examples():
    """As blocks of two alone, no example would see a neighbour of every class."""
    whole, parts = attacked(EXAMPLES), attacked(2)
    torch.testing.assert_close(
        parts.arrays["losses"], whole.arrays["losses"], rtol=1e-9, atol=0
    )
    assert torch.equal(parts.arrays["source"], whole.arrays["source"])


def test_labels_without_an_output_are_left_out_with_a_warning():
    others, labels = data()
    labels[:3] = torch.tensor([-1, 4, 9])
    with pytest.warns(sm.SummiteerWarning, match=r"3 of 40 .* \[-1, 4, 9\]"):
        attacked(EXAMPLES, (others, labels))


@pytest.mark.parametrize(
    ("others", "labels", "said"),
    [
        (
            drawn(3, shape=(5,)),
            torch.zeros(3).long(),
            r"shape \[2, 3\].* got 3 of \[5\]",
        ),
        (drawn(3), torch.zeros(2).long(), "one integer label each"),
        (drawn(3), torch.zeros(3), "one integer label each"),
        (
            drawn(3) + 1.5,
            torch.zeros(3).long(),
            r"outside the box 0, 1 in examples \[0",
        ),
        (drawn(3) * torch.nan, torch.zeros(3).long(), "not finite"),
    ],
)
def test_what_cannot_show_the_way_is_refused_in_a_sentence(others, labels, said):
    with pytest.raises(sm.UserError, match=said):
        usable_neighbours(problem_of(sm.LinfBall(0.1)), others, labels)


def test_as_many_numbers_in_another_shape_are_welcome():
    problem, others = problem_of(sm.LinfBall(0.1)), drawn(3)
    labels = torch.tensor([0, 7, 2])
    known, note = usable_neighbours(problem, others.flatten(1), labels)
    assert torch.equal(known[0], others[[0, 2]])
    assert known[1].tolist() == [0, 2]
    assert "1 of 3 examples left out, whose labels [7]" in note
    none, note = usable_neighbours(problem, others, labels + 9)
    assert none is None
    assert "3 of 3" in note
