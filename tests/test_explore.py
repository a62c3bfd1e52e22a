"""`explore` on problems whose maxima are known, and its laws."""

import math

import pytest
import torch

import summiteer as sm
from summiteer.analytic import PROBLEMS
from summiteer.errors import UserError
from summiteer.landscape.separation import Separation

KNOWN = {known.name: known for known in PROBLEMS}
COUNTED = [known for known in PROBLEMS if not known.constant]


@pytest.mark.parametrize("known", COUNTED, ids=lambda known: known.name)
def test_all_maxima_of_known_problems_are_met(known):
    land = sm.explore(known.problem, restarts=24)
    truth = known.local_maximisers
    assert land.count.tolist() == [len(truth)]
    points = torch.stack([peak.point for peak in land.peaks[0]])
    apart = torch.cdist(points, truth)
    # Each maximum is near one of the truth, and no two near the same one; ends are
    # within `within` = 1e-3 radii of their maxima.
    assert float(apart.amin(1).max()) <= 1e-3 * float(known.problem.size[0])
    assert len(apart.argmin(1).unique()) == len(truth)
    assert land.peaks[0][0].loss == pytest.approx(known.value, rel=1e-6, abs=1e-9)
    assert land.at_least[0] <= len(truth) <= land.at_most[0]


def test_a_quadratic_on_a_sphere_has_its_two_maxima():
    """½δᵀAδ on ‖δ‖ = ε is highest at ±ε·e₁, and at no other local maximum."""
    matrix = torch.diag(torch.tensor([3.0, 2.0, 1.0, 0.5], dtype=torch.float64))

    def form(inputs):
        return 0.5 * ((inputs @ matrix) * inputs).sum(1)

    inputs = torch.zeros(1, 4, dtype=torch.float64)

    def itself(outputs, targets):
        return outputs

    problem = sm.Problem(form, inputs, torch.zeros(1), itself, sm.Sphere(0.7))
    land = sm.explore(problem, restarts=40)
    assert land.count.tolist() == [2]
    for peak in land.peaks[0]:
        assert abs(float(peak.point[0])) == pytest.approx(0.7, rel=1e-6)
        # 40 uniform starts, two basins of equal size.
        low, high = peak.share_interval
        assert low < 0.5 < high
        assert peak.evidence is sm.Evidence.NUMERICAL
    assert land.at_least.tolist() == [0]
    assert math.isinf(land.at_most)
    assert not bool(land.complete)


def two_layer(activation="tanh", batch=3, scale=4.0, seed=0, dtype=torch.float64):
    net = sm.TwoLayerNetwork.random(
        input_dim=6, width=20, activation=activation, seed=seed
    ).to(dtype)
    generator = torch.Generator().manual_seed(seed)
    inputs = torch.randn(batch, 6, generator=generator, dtype=torch.float64)
    inputs = (scale * inputs / inputs.norm(dim=1, keepdim=True)).to(dtype)
    targets = torch.linspace(-1, 1, batch, dtype=dtype)
    return sm.Problem(net, inputs, targets, sm.Quadratic(), sm.L2Ball(0.5 * scale))


@pytest.fixture(scope="module")
def explored():
    problem = two_layer()
    return problem, sm.explore(problem, restarts=16)


def test_shares_and_counts_add_up(explored):
    _, land = explored
    assert len(land) == 3
    for example, peaks in enumerate(land.peaks):
        counted = int((land.maxima.label[:, example] >= 0).sum())
        assert sum(peak.runs for peak in peaks) == counted
        assert sum(peak.share for peak in peaks) == pytest.approx(counted / 16)
        assert len(peaks) == int(land.count[example])
        assert sum(land.per_sign(example).values()) == len(peaks)
        assert sum(land.verdicts(example).values()) == 16
        losses = [peak.loss for peak in peaks]
        assert losses == sorted(losses, reverse=True)
        for number, peak in enumerate(peaks):
            assert peak.runs == int((land.maxima.label[:, example] == number).sum())
            low, high = peak.share_interval
            assert low < peak.share <= high
        top, least = losses[0], losses[-1]
        assert float(land.spread[example]) == pytest.approx((top - least) / top)


def test_several_maxima_of_both_signs_are_seen(explored):
    """The fixture tests nothing if it has one maximum each."""
    _, land = explored
    assert int(land.count.max()) >= 3
    assert any(len(land.per_sign(example)) == 2 for example in range(3))


def test_batches_do_not_matter(explored):
    """Each example alone gives what it gave among others, to rounding."""
    problem, land = explored
    for example in range(3):
        alone = sm.explore(problem.take(torch.tensor([example])), restarts=16)
        # Starts are named by the example's id.
        assert torch.equal(alone.starts[:, 0], land.starts[:, example])
        assert torch.equal(alone.maxima.label[:, 0], land.maxima.label[:, example])
        ends, others = alone.ends[:, 0], land.ends[:, example]
        assert torch.allclose(ends, others, rtol=0, atol=1e-6)
        assert alone.at_least[0] == land.at_least[example]
        assert alone.at_most[0] == land.at_most[example]


def test_indices_and_curvature_are_those_of_the_certificates(explored):
    problem, land = explored
    for example, peaks in enumerate(land.peaks):
        some = problem.take(torch.full((len(peaks),), example))
        points = torch.stack([peak.point for peak in peaks])
        proof = sm.local_optimality(some, points)
        for row, peak in enumerate(peaks):
            assert peak.verdict is proof.verdict[row]
            assert peak.index_global == pytest.approx(
                float(proof.indices["global"][row])
            )
            assert peak.curvature_ratio == pytest.approx(
                float(proof.curvature_ratio[row])
            )
        assert float(land.a_priori[example]) == float(proof.indices["a_priori"][0])


def test_a_float32_model_is_explored_in_float64():
    problem = two_layer(dtype=torch.float32, batch=1)
    land = sm.explore(problem, restarts=4)
    assert land.ends.dtype == torch.float64
    assert problem.model.hidden_weights.dtype == torch.float32


def test_ways_against_hand_written_sums():
    """A straight climb: one direction, a gradient that only changes its length."""
    known = KNOWN["linear on L2"]
    land = sm.explore(known.problem, restarts=4)
    ways = land.ways
    # The gradient is constant.
    assert float(ways.gradient_variation.abs().max()) < 1e-12
    assert float(ways.gradient_slope.nan_to_num(0).abs().max()) < 1e-12
    assert bool((ways.monotonicity == 1).all())
    assert bool(((ways.straightness > 0) & (ways.straightness <= 1)).all())


def test_ways_against_the_recorded_points():
    problem = two_layer(batch=2)
    climber = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.4))
    land = sm.explore(problem, restarts=3, adversary=climber, max_steps=30)
    start = sm.UniformStart(restarts=3)
    recorder = sm.Recorder(fields=("point",))
    record = sm.ascend(problem, climber, start, 30, recorder).trajectory
    for run in range(3):
        for example in range(2):
            way = record.point[:, run, example].double()
            way = way[way.isfinite().all(1)]
            steps = (way[1:] - way[:-1]).norm(dim=1)
            rows = problem.rows(torch.full((len(way),), example))
            seen = rows.evaluate(way)
            turns = (seen.gradient[1:] - seen.gradient[:-1]).norm(dim=1)
            rises = seen.loss[1:] >= seen.loss[:-1] * (1 - 1e-12)
            expected = {
                "straightness": (way[-1] - way[0]).norm() / steps.sum(),
                "monotonicity": rises.double().mean(),
                "gradient_variation": turns.sum() / seen.gradient.norm(dim=1).max(),
                "gradient_slope": (turns / steps).max(),
            }
            for name, value in expected.items():
                found = float(getattr(land.ways, name)[run, example])
                # Recorded in float32.
                assert found == pytest.approx(float(value), rel=1e-4), name
    # Steps of constant length go up and down on this landscape.
    assert float(land.ways.monotonicity.min()) < 1


def test_a_saddle_is_seen_and_left():
    """Started in the plane δ₁ = 0 nothing would leave it; uniform starts are not."""
    known = KNOWN["planted saddle"]

    class Frozen:
        """Stays at the saddle whatever happens."""

        def init(self, rows, points, evaluation):
            return torch.zeros_like(evaluation.loss)

        def step(self, rows, points, evaluation, state):
            from summiteer.adversaries import Step

            return Step(torch.zeros_like(points), state, state)

    land = sm.explore(known.problem, restarts=3, adversary=Frozen(), max_steps=2)
    assert land.saddles(0) == 3
    assert {verdict for verdict, _ in land.verdicts(0)} == {sm.Verdict.SADDLE}


def test_deep_models_are_explored_without_proofs():
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Linear(5, 8), torch.nn.Tanh(), torch.nn.Linear(8, 8), torch.nn.Tanh(),
        torch.nn.Linear(8, 3),
    ).double()  # fmt: skip
    inputs = torch.randn(2, 5, dtype=torch.float64)
    labels = torch.tensor([0, 2])
    problem = sm.Problem(model, inputs, labels, sm.CrossEntropy(), sm.L2Ball(0.5))
    land = sm.explore(problem, restarts=8)
    assert int(land.count.min()) >= 1
    for peaks in land.peaks:
        # Where there is one alone too: there is no other, but it is not proved either.
        for known in ("evidence", "apart", "joined"):
            assert {getattr(peak, known) for peak in peaks} == {sm.Evidence.NUMERICAL}
        assert "(NUMERICAL), apart NUMERICAL" in repr(peaks[0])
        assert len(repr(peaks)) < 300 * len(peaks)
    assert land.at_least.tolist() == [0, 0]
    assert bool(land.at_most.isinf().all())
    assert bool(land.a_priori.isnan().all())


def rules(places, bound, unique, isolated=None, best=None):
    points = torch.tensor(places, dtype=torch.float64).reshape(-1, 1, 1)
    count = len(places)
    yes = torch.ones(count, 1, dtype=torch.bool)
    return Separation.by_bounds(
        points,
        torch.tensor(bound, dtype=torch.float64)[:, None],
        torch.tensor(unique, dtype=torch.float64)[:, None],
        yes,
        yes if isolated is None else torch.tensor(isolated)[:, None],
        None if best is None else torch.tensor(best)[:, None],
    )


def test_the_rules_at_their_edges():
    nan = math.nan
    # Balls that touch may hold one maximiser: nothing is proved.
    assert not bool(rules([0.0, 2.0], [1.0, 1.0], [nan, nan]).different.any())
    assert rules([0.0, 2.01], [1.0, 1.0], [nan, nan]).least() == [2]
    # A ball that reaches the edge of uniqueness may hold another one.
    assert not bool(rules([0.0, 2.0], [0.1, 1.0], [3.0, nan]).same[0, 0, 1])
    assert bool(rules([0.0, 1.99], [0.1, 1.0], [3.0, nan]).same[0, 0, 1])
    # Two points of a plateau are no two maxima.
    level = rules([0.0, 5.0], [1.0, 1.0], [nan, nan], [False, False])
    assert not bool(level.different.any())
    assert level.least() == [1]
    half = rules([0.0, 5.0], [1.0, 1.0], [nan, nan], [True, False])
    assert half.least() == [2]
    # Only both being the global maximum makes them one.
    one = rules([0.0, 1.0], [1.0, 1.0], [nan, nan], best=[True, False])
    assert not bool(one.same[0, 0, 1])
    assert bool(rules([0.0, 1.0], [1.0, 1.0], [nan, nan], best=[True] * 2).same.all())


def test_a_chain_does_not_join_what_is_proved_apart():
    """Five ends a little apart each: linked by distance, but the outer two are two."""
    from summiteer.landscape.grouping import grouped

    problem = KNOWN["linear on L2"].problem
    size = float(problem.size[0])
    points = torch.zeros(5, 1, 5, dtype=torch.float64)
    points[:, 0, 0] = torch.arange(5) * 0.006 * size
    counted = torch.ones(5, 1, dtype=torch.bool)
    no = torch.zeros(1, 5, 5, dtype=torch.bool)
    nothing = Separation(no, no, ~counted)
    assert int(grouped(problem, points, counted, ~counted, nothing).max()) == 0
    torn = no.clone()
    torn[0, 0, 4] = torn[0, 4, 0] = True
    label = grouped(problem, points, counted, ~counted, Separation(no, torn, counted))
    assert int(label.max()) == 1
    assert label[0] != label[4]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"restarts": 0}, "restarts: expected an integer ≥ 1"),
        ({"max_steps": 0}, "max_steps: expected an integer ≥ 1"),
        ({"within": 1.5}, "within: expected 0 < within < 1"),
    ],
)
def test_bad_arguments_are_refused(changes, words):
    with pytest.raises(UserError, match=words):
        sm.explore(KNOWN["linear on L2"].problem, **changes)
