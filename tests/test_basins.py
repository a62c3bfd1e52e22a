"""Which maxima runs ended in, and what is said of those that none has met."""

import pytest
import torch
from scipy.stats import binom

import summiteer as sm
from fakes import labelled_problem, seeded
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError
from summiteer.landscape import unseen_mass
from summiteer.networks.reference import digits_mlp
from summiteer.searching.basins import Basins, seen_enough

KNOWN = {known.name: known for known in PROBLEMS}
SEVERAL = ("trust region", "planted saddle", "convex bowl", "double well", "one neuron")


def labels(*numbers):
    """Of one example, with every run drawn."""
    label = torch.tensor(numbers)[:, None]
    return label, torch.ones_like(label, dtype=torch.bool)


# What is unseen.


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [
        ((0,), 1.0),
        ((0, 0), 0.0),
        ((0, 1), 1.0),
        ((0, 1, 0, 2), 0.5),
        ((0, 1, 2, 0, 1, 2), 0.0),
    ],
)
def test_the_estimate_is_the_share_of_maxima_met_once(numbers, expected):
    estimate, _ = unseen_mass(*labels(*numbers))
    assert float(estimate) == expected


def test_only_draws_enter_and_nothing_is_said_without_one():
    label = torch.tensor([[0, 0, -1], [1, 1, -1], [1, 2, 0]])
    drawn = torch.tensor(
        [[False, False, False], [True, True, True], [True, True, False]]
    )
    estimate, bound = unseen_mass(label, drawn)
    assert estimate[:2].tolist() == [0.0, 1.0]
    assert bool(estimate[2].isnan())
    assert bool(bound[2].isnan())


@pytest.mark.parametrize(("later", "new"), [(1, 0), (5, 0), (10, 3), (50, 0), (4, 4)])
def test_the_bound_is_that_of_clopper_and_pearson(later, new):
    """At the bound, so few new ones of the later half have probability 5 %."""
    early = [0] * (later if later > 1 else 1)
    label, drawn = labels(*early, *[0] * (later - new), *range(1, new + 1))
    _, bound = unseen_mass(label, drawn)
    if new == later:
        assert float(bound) == 1.0
    else:
        # 1e-9: the accuracy of a quantile of the beta distribution.
        assert binom.cdf(new, later, float(bound)) == pytest.approx(0.05, abs=1e-9)


LAWS = {
    "even": torch.full((6,), 1 / 6),
    "one large": torch.tensor([0.9] + [0.01] * 10),
    "geometric": 0.5 ** torch.arange(1, 21),
    "many": torch.full((200,), 1 / 200),
}


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("draws", [4, 9, 24])
def test_the_estimate_and_the_bound_mean_what_they_say(law, draws):
    """Draws from a law that is known: 1000 searches, each its own truth."""
    share = LAWS[law].double() / LAWS[law].double().sum()
    generator = torch.Generator().manual_seed(draws)
    trials = 1000
    label = torch.multinomial(share, draws * trials, True, generator=generator)
    label = label.reshape(draws, trials)
    estimate, bound = unseen_mass(label, torch.ones_like(label, dtype=torch.bool))
    seen = torch.zeros(trials, len(share), dtype=torch.bool)
    seen[torch.arange(trials).expand_as(label), label] = True
    truth = (~seen * share).sum(1)
    # Each number lies in [0, 1]: the mean of 1000 has deviation ≤ 0.5/√1000 = 0.016;
    # four of them.
    assert float(truth.mean() - estimate.mean()) < 0.064
    once = estimate * draws
    assert float(truth.mean() - ((once + 1) / (draws + 1)).mean()) < 0.064
    # 95 % at least, less four deviations √(.05·.95/1000) = 0.0069.
    assert float((truth <= bound).double().mean()) > 0.95 - 0.0276


# Which end points are one maximum.


@pytest.mark.parametrize("name", SEVERAL)
def test_short_runs_count_the_maxima_that_there_are(name):
    """50 steps of APGD do not converge; the saddle between two joins no two."""
    known = KNOWN[name]
    problem = known.problem
    start = sm.CentreStart() + sm.UniformStart(restarts=15)
    ends = torch.stack(
        [
            sm.ascend(
                problem, sm.AutoPGD(50), sm.GivenStart(p), 50, tolerance=None
            ).best
            for p in start.points(problem)
        ]
    )
    maxima = sm.distinct_maxima(ends, problem.size, problem=problem)
    assert int(maxima.count) == len(known.local_maximisers)
    # Each end that has left the saddle lies nearest to the maximiser of its group.
    apart = torch.cdist(ends[:, 0], known.local_maximisers)
    left = apart.amin(1) < 0.1
    for number in range(int(maxima.count)):
        own = apart.argmin(1)[left & (maxima.label[:, 0] == number)]
        assert len(own.unique()) == 1
    assert sum(maxima.runs(0)) == 16


def test_a_saddle_is_no_bridge():
    known = KNOWN["planted saddle"]
    saddle = known.others[0].point
    points = torch.stack([saddle, *known.maximisers])[:, None]
    maxima = sm.distinct_maxima(points, known.problem.size, problem=known.problem)
    assert maxima.count.tolist() == [2]
    assert len(set(maxima.label[1:, 0].tolist())) == 2


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_ends_on_one_slope_are_one_maximum_in_every_dtype(dtype):
    """Ends half-way up a hill are its maximum; those of the twin hill are another."""
    problem = KNOWN["double well"].cast(dtype)
    places = [[0.3, 0.0, 0.0], [0.25, 0.05, 0.1], [-0.3, 0.0, 0.0], [-0.2, 0.1, 0.1]]
    points = torch.tensor(places, dtype=dtype)[:, None]
    by_distance = sm.distinct_maxima(points, problem.size)
    assert by_distance.count.tolist() == [4]
    by_valley = sm.distinct_maxima(points, problem.size, problem=problem)
    assert by_valley.label[:, 0].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("region", [sm.L2Ball(0.5), sm.LinfBall(0.1)])
def test_networks_with_kinks_count_as_when_every_end_is_polished(region):
    """Runs that zigzag along a kink end anywhere on it: distance makes 14 of 2."""
    data = sm.load_data("digits")
    examples = torch.tensor([1, 7, 8] if region.norm == "l2" else [1, 7])
    problem = sm.Problem(
        digits_mlp(),
        data.inputs[examples].flatten(1).float(),
        data.targets[examples],
        sm.CrossEntropy(),
        region,
        box=(0.0, 1.0),
        ids=examples,  # the draws that were polished
    )
    start = sm.UniformStart(restarts=16)
    made = [
        sm.ascend(problem, sm.AutoPGD(20), sm.GivenStart(p), 20, tolerance=None).best
        for p in start.points(problem)
    ]
    ends = torch.stack(made)
    # What polishing all of them for a minute and comparing by distance counts.
    truth = [1, 4, 3] if region.norm == "l2" else [2, 2]
    found = sm.distinct_maxima(ends, problem.size, problem=problem)
    assert found.count.tolist() == truth
    by_distance = sm.distinct_maxima(ends, problem.size)
    assert int(by_distance.count[0]) > 3


def test_a_broken_point_is_no_way():
    """Between both ends the model is NaN: nobody can say that there is no valley."""

    def model(inputs):
        outputs = inputs.sum(1)
        return torch.where(outputs.abs() < 0.1, torch.nan, outputs.abs())

    inputs = torch.zeros(1, 2, dtype=torch.float64)
    problem = sm.Problem(
        model, inputs, torch.zeros(1).double(), _own_output, sm.L2Ball(1.0)
    )
    ends = torch.tensor([[0.5, 0.5], [-0.5, -0.5], [0.6, 0.6]]).double()[:, None]
    maxima = sm.distinct_maxima(ends, problem.size, problem=problem)
    assert maxima.label[:, 0].tolist() == [0, 1, 0]


def _own_output(outputs, targets):
    return outputs


def test_a_problem_of_other_examples_is_refused():
    points = torch.zeros(3, 2, 8, dtype=torch.float64)
    with pytest.raises(UserError, match="problem: expected one of 2 examples"):
        sm.distinct_maxima(points, torch.ones(2), problem=labelled_problem(batch=6))


def test_examples_do_not_depend_on_their_companions():
    problem = labelled_problem(batch=5, region=sm.L2Ball(1.0))
    ends = 0.3 * seeded(6, 5, 8, seed=4)
    whole = sm.distinct_maxima(ends, problem.size, problem=problem)
    for i in range(5):
        index = torch.tensor([i])
        one = sm.distinct_maxima(
            ends[:, index], problem.size[index], problem=problem.take(index)
        )
        assert torch.equal(one.label, whole.label[:, index])
        assert torch.equal(one.unseen, whole.unseen[index])


def test_the_words_say_what_was_counted():
    maxima = sm.distinct_maxima(
        torch.tensor([0.0, 1.0, 0.0]).reshape(3, 1, 1).double(), torch.ones(1)
    )
    assert maxima.runs(0) == [2, 1]
    assert repr(maxima) == (
        "Maxima of 1 examples: 2 seen on average, at most 2; estimated chance that "
        "one more run ends in another 0.333"
    )
    none = torch.zeros(3, 1, dtype=torch.bool)
    nothing = sm.distinct_maxima(torch.zeros(3, 1, 1), torch.ones(1), none)
    assert repr(nothing) == "Maxima of 1 examples: no run was counted"


# What a search keeps of its runs.


def test_an_example_with_a_run_that_was_cut_short_is_not_counted():
    problem = labelled_problem(batch=2)
    points = torch.zeros(3, 2, 8, dtype=torch.float64)
    points[2] = 0.3
    made = torch.ones(3, 2, dtype=torch.bool)
    basins = Basins(points, points[..., 0], made, torch.tensor([True, False]))
    maxima, number = basins.maxima(problem, points[0])
    assert maxima.label[:, 1].tolist() == [-1, -1, -1]
    assert maxima.count.tolist()[1] == 0
    assert bool(maxima.unseen[1].isnan())
    assert number.tolist() == [0, -1]
    assert not bool(seen_enough(maxima, 1.0)[1])


def test_the_run_from_the_centre_is_seen_but_no_draw():
    problem = KNOWN["double well"].problem
    ends = torch.tensor([[0.3, 0, 0], [-0.3, 0, 0], [-0.3, 0, 0]]).double()[:, None]
    basins = Basins(ends, ends[..., 0], torch.ones(3, 1).bool(), torch.ones(1).bool())
    maxima, _ = basins.maxima(problem, ends[0])
    assert maxima.count.tolist() == [2]
    # Two draws, both of the second maximum: the first was met by none of them.
    assert maxima.unseen.tolist() == [0.0]
    assert bool(seen_enough(maxima, 1 / 3))
    assert not bool(seen_enough(maxima, 0.33))


def test_a_best_point_elsewhere_has_no_number():
    problem = KNOWN["double well"].problem
    ends = torch.tensor([[0.3, 0.0, 0.0]]).double()[:, None]
    basins = Basins(ends, ends[..., 0], torch.ones(1, 1).bool(), torch.ones(1).bool())
    for best, expected in ((0.29, 0), (-0.3, -1)):
        point = torch.tensor([[best, 0.0, 0.0]]).double()
        assert basins.maxima(problem, point)[1].tolist() == [expected]
