"""The L1 ball: its projection, its faces, and the verdicts on its vertices."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import summiteer as sm
from fakes import Output, measured, seeded
from shapes import make
from summiteer import _rows
from summiteer.draws import Draws
from summiteer.errors import UserError
from summiteer.regions import Box, L1Ball, L1Intersection, L2Ball, intersect

WITHIN = 1e-3
PROVED, NUMERICAL = sm.Evidence.PROVED, sm.Evidence.NUMERICAL
UP = {sm.Verdict.STRICT_LOCAL_MAXIMUM, sm.Verdict.GLOBAL_MAXIMUM}


def rows(*lists):
    return torch.tensor(lists, dtype=torch.float64)


@settings(deadline=None, derandomize=True, max_examples=150)
@given(data=st.data())
def test_projections_satisfy_the_conditions_that_define_them(data):
    """v - z is normal to the region at z: a face that presses, nothing along it."""
    d = data.draw(st.integers(1, 6))
    entry = st.floats(-4, 4) | st.integers(-4, 4).map(lambda k: k / 4)
    width = st.floats(0, 2) | st.integers(0, 4).map(lambda k: k / 4)
    vector, low, high = (
        rows(data.draw(st.lists(kind, min_size=d, max_size=d)))
        for kind in (entry, width, width)
    )
    radius = data.draw(st.sampled_from([0.25, 0.5, 1.0, 0.3]))
    scale = data.draw(st.sampled_from([1e-12, 1.0, 1e9]))
    region = L1Ball(radius * scale).bind(vector)
    if data.draw(st.booleans()):
        region = intersect(region, Box(-low * scale, high * scale)).bind(vector)
    point = region.project(vector * scale)
    away = vector * scale - point
    assert bool(region.contains(point))
    # Two roundings of numbers of the size of v.
    room = 1e-13 * (float(vector.abs().max()) + 1) * scale
    assert float(region.gap(point, away)) <= room * scale * d * 4
    assert float(_rows.norm(region.project(point) - point)) <= room


def test_the_largest_coordinate_goes_first_and_of_equals_the_first():
    region = L1Ball(2.0).bind(torch.zeros(4, 3))
    slopes = torch.tensor([[1.0, -3, 2], [2, -2, 2], [0, 0, 0], [0, 1e-40, 0]])
    expected = [[0.0, -2, 0], [2, 0, 0], [0, 0, 0], [0, 2, 0]]
    assert region.linear_maximiser(slopes).tolist() == expected
    cut = intersect(region, Box(-0.5, 1.25)).bind(torch.zeros(4, 3))
    expected = [[0.25, -0.5, 1.25], [1.25, -0.5, 0.25], [0, 0, 0], [0, 1.25, 0]]
    assert cut.linear_maximiser(slopes).tolist() == expected


def test_the_face_of_the_ball_has_the_signs_for_a_normal():
    region = L1Ball(1.0).bind(rows([0] * 4))
    point = rows([0.5, -0.5, 0.0, 0.0])
    face = region.face(point, rows([3.0, -5.0, 1.0, -2.5]))
    assert face.free.tolist() == [[True, True, False, False]]
    # λ = (3 + 5)/2 = 4; zeros: 4 - 2.5; the ball: 4√2; flat: no multiplier.
    assert face.normal.tolist() == [pytest.approx([0.5**0.5, -(0.5**0.5), 0, 0])]
    assert face.pressure.tolist() == pytest.approx([1.5])
    assert (face.multiplier.tolist(), face.dimension.tolist()) == ([0.0], [1])
    assert region.face(point, rows([3.0, -5, 4.5, 0])).pressure[0] == -0.5
    assert region.face(point, rows([-3.0, 5, 0, 0])).pressure[0] < -4
    inside = region.face(point * 0.9, rows([3.0, -5, 1, 0]))
    assert (inside.dimension.tolist(), inside.pressure.tolist()) == ([4], [torch.inf])


def test_the_face_in_a_box_knows_which_ways_are_open():
    lower, upper = rows([-1.0, -1, 0, 0, -1]), rows([0.5, 1, 1, 0, 1])
    region = intersect(L1Ball(1.0), Box(lower, upper)).bind(lower)
    point = rows([0.5, -0.5, 0.0, 0.0, 0.0])
    # λ = 4 by the second; limit: 6 - 4; third may only rise; fourth not at all.
    face = region.face(point, rows([6.0, -4, -9, 99, 1]))
    assert face.free.tolist() == [[False, True, False, False, False]]
    assert (face.pressure.tolist(), face.dimension.tolist()) == ([2.0], [0])
    assert region.face(point, rows([6.0, -4, 4.5, 99, 1])).pressure[0] == -0.5
    # Limits alone fill the ball: λ halfway between 3 and 1, whatever fits.
    full = intersect(L1Ball(1.5), Box(lower, upper)).bind(lower)
    vertex = rows([0.5, -1.0, 0.0, 0.0, 0.0])
    assert full.face(vertex, rows([3.0, -6, 1, 99, -1])).pressure[0] == 1.0
    assert full.face(vertex, rows([1.0, -6, 3, 99, -1])).pressure[0] == -1.0


@pytest.mark.parametrize("box", [None, (0.0, 1.0)])
@pytest.mark.parametrize("each", [False, True])
def test_masked_coordinates_stay(box, each):
    inputs, radius = 0.25 + seeded(6, 2, 3).abs().clamp(max=0.5), seeded(6).abs() + 0.1
    mask = torch.tensor([[True, False, True], [True, True, False]])
    mask = (seeded(6, 2, 3, seed=3) > 0) if each else mask
    weights = seeded(2, 3, seed=5)
    problem = sm.Problem(
        lambda x: (x * weights.to(x)).flatten(1).sum(1),
        inputs,
        torch.zeros(6),
        Output(),
        L1Ball(radius),
        box=box,
        mask=mask,
    )
    assert isinstance(problem.feasible, L1Intersection)
    ascent = sm.ascend(problem, start=sm.UniformStart(), max_steps=100)
    for points in (ascent.final[0], sm.BoundaryStart(seed=2).points(problem)[0]):
        assert (points[~mask.expand(points.shape)] == 0).all()
        assert problem.feasible.contains(points).all()
    slopes = (weights * mask).expand(inputs.shape)
    best = problem.feasible.linear_maximiser(slopes)
    loss = ((inputs + best) * weights).flatten(1).sum(1)
    # Linear: all runs end at the vertex.
    torch.testing.assert_close(ascent.losses.amin(0), loss, rtol=0, atol=1e-12)
    judged = sm.local_optimality(problem.take(torch.arange(2)), best[:2])
    assert judged.verdict == (sm.Verdict.STRICT_LOCAL_MAXIMUM,) * 2


def test_an_intersection_may_be_cut_again_and_takes_only_l1_balls():
    like = torch.zeros(2, 3)
    once = intersect(L1Ball(1.0).bind(like), Box(-0.5, 0.2).bind(like))
    twice = intersect(once, Box(-0.1, 9.0).bind(like))
    assert isinstance(twice, L1Intersection)
    points = torch.tensor([[-1.0, 1.0, 0.0], [5.0, 5.0, 5.0]])
    expected = torch.tensor([[-0.1, 0.2, 0.0], [0.2, 0.2, 0.2]])
    assert torch.equal(twice.project(points), expected)
    assert twice.size == 1.0
    with pytest.raises(UserError, match="ball: expected an L1Ball, got L2Ball"):
        L1Intersection(L2Ball(1.0), Box(-1.0, 1.0))


class Deep(nn.Module):
    """Three layers; `recognise` knows it with ReLU, and not with tanh."""

    def __init__(self, kind, outputs=1, d=6):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(d, 20), kind(), nn.Linear(20, 12), kind(), nn.Linear(12, outputs)
        )
        for k, weight in enumerate(self.parameters()):
            weight.data = seeded(*weight.shape, seed=k) / weight.shape[-1] ** 0.5
        self.double()

    def forward(self, inputs):
        return self.layers(inputs)


def network(kind, d=6, outputs=None):
    """A two-layer network, or a deep one."""
    if kind.startswith("deep"):
        return Deep({"deep relu": nn.ReLU, "deep tanh": nn.Tanh}[kind], outputs or 1, d)
    heads = (20,) if outputs is None else (outputs, 20)
    return sm.TwoLayerNetwork(
        seeded(20, d), seeded(*heads, seed=1) / 4, seeded(20, seed=2), activation=kind
    )


def problem_of(kind, radius=0.3, box=None, count=12, objective=None):
    """Problems with a scalar output, or with three classes and a margin."""
    inputs = torch.sigmoid(seeded(count, 6, seed=7))
    if objective is not None:
        return sm.Problem(
            network(kind, outputs=3),
            inputs,
            torch.arange(count) % 3,
            objective,
            L1Ball(radius),
            box=box,
        )
    targets = seeded(count, seed=8)
    model = network(kind)
    return sm.Problem(model, inputs, targets, sm.Quadratic(), L1Ball(radius), box=box)


def ends(problem):
    return sm.ascend(problem, start=sm.CentreStart(), max_steps=100).final[0]


def beside(problem, points, count=120):
    """(share t, points p + t(w - p)) with w random in C, or a random vertex of it."""
    for t in (1.0, 0.1, 1e-3, 1e-5):
        for start in (sm.UniformStart, sm.BoundaryStart):
            for other in start(restarts=count // 8, seed=1).points(problem):
                yield t, points + t * (other - points)


def unbeaten(problem, certificate):
    """No point of C found by sampling contradicts a proved maximum."""
    points, verdicts = certificate.certified_point, certificate.verdict
    strict = torch.tensor([v in UP for v in verdicts])
    best = torch.tensor([v is sm.Verdict.GLOBAL_MAXIMUM for v in verdicts])
    proved = strict & torch.tensor([e is PROVED for e in certificate.evidence])
    here = problem.rows().value(points).loss
    noise = 1e-14 * (1 + here.abs())
    for t, other in beside(problem, points):
        near = _rows.norm(other - points) < certificate.best_radius
        asked = proved & (best | near | (t <= 1e-5))
        there = problem.rows().value(other).loss
        assert (~asked | (there <= here + noise)).all()
    return proved


BOXES = [None, (0.0, 1.0)]


@pytest.mark.parametrize("box", BOXES)
@pytest.mark.parametrize("kind", ["softplus", "tanh", "relu", "deep relu"])
def test_vertices_are_proved_and_sampling_finds_nothing_higher(kind, box):
    for radius in (0.05, 0.6):
        problem = problem_of(kind, radius, box)
        certificate = sm.local_optimality(problem, ends(problem))
        proved = unbeaten(problem, certificate)
        # Wide balls have kinks in them, where most deep runs end.
        assert proved.sum() >= (7 if radius == 0.05 else 1 if "deep" in kind else 3)
        assert (certificate.distance_bound[proved] <= 1e-12).all()
        reasons = [text for text in certificate.unproved if "not a region" in text]
        assert not reasons
        starts = sm.UniformStart(seed=3).points(problem)[0]
        away = sm.local_optimality(problem, starts)
        assert set(away.verdict) == {sm.Verdict.NOT_STATIONARY}
        refuted = torch.tensor([e is PROVED for e in away.evidence])
        assert refuted.sum() >= 9
        # What the proof promises is there, one search distance along its way.
        gain = away.guaranteed_gain
        asked = refuted & (gain > 0)
        moved = starts + WITHIN * radius * torch.where(
            asked[:, None], away.direction, 0.0
        )
        loss = [problem.rows().value(points).loss for points in (starts, moved)]
        assert asked.any()
        assert (~asked | (loss[1] - loss[0] >= gain * (1 - 1e-6) - 1e-15)).all()


@pytest.mark.parametrize("objective", [sm.Margin(), sm.CrossEntropy()])
@pytest.mark.parametrize("kind", ["softplus", "relu", "deep relu"])
def test_several_outputs_have_vertices_too(kind, objective):
    problem = problem_of(kind, 0.05, (0.0, 1.0), objective=objective)
    certificate = sm.local_optimality(problem, ends(problem))
    proved = unbeaten(problem, certificate)
    if kind == "softplus" and isinstance(objective, sm.CrossEntropy):
        # Three classes of a smooth network are not one scalar function.
        assert not proved.any()
        assert certificate.maximum.sum() >= 9
    else:
        assert proved.sum() >= 8


def test_smooth_deep_networks_are_measured():
    problem = problem_of("deep tanh", 0.05, (0.0, 1.0))
    certificate = sm.local_optimality(problem, ends(problem))
    assert set(certificate.evidence) == {NUMERICAL}
    assert certificate.maximum.sum() >= 9
    assert all("Tanh" in text or "tanh" in text for text in certificate.unproved)


class Slopes(nn.Module):
    """Σ g_i x_i as a network that proofs know: no activation at all."""

    def __init__(self, slopes):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(slopes.shape[0], 1, bias=False))
        self.layers[0].weight.data = slopes[None].clone()

    def forward(self, inputs):
        return self.layers(inputs)


def judged(slopes, point, radius=1.0, box=None, inputs=None):
    """The verdict on a point of a linear objective (a hinge far from its kink)."""
    slopes, point = rows(slopes)[0], rows(point)
    inputs = torch.zeros_like(point) + 0.5 if inputs is None else rows(inputs)
    problem = sm.Problem(
        Slopes(slopes), inputs, torch.tensor([-1]), sm.Margin(), L1Ball(radius), box=box
    )
    certificate = sm.local_optimality(problem, point)
    return certificate.verdict[0], certificate.evidence[0]


GLOBAL = (sm.Verdict.GLOBAL_MAXIMUM, PROVED)


def test_linear_objectives_have_one_best_vertex():
    assert judged([3.0, -2, 1], [1.0, 0, 0]) == GLOBAL
    assert judged([3.0, -4, 1], [0.0, -1, 0]) == GLOBAL
    for wrong in ([0.0, -1, 0], [-1.0, 0, 0], [0.5, -0.5, 0], [0.0, 0, 0]):
        assert judged([3.0, -2, 1], wrong) == (sm.Verdict.NOT_STATIONARY, PROVED)


@pytest.mark.parametrize("slip", [0.0, 2.0**-52, -(2.0**-53)])
def test_ties_are_never_proved(slip):
    """|g_i| = |g_k|: a whole edge is best; a unit of rounding apart it may not be."""
    tied = [1.0, 1.0 + slip, 0.25]
    for point in ([1.0, 0, 0], [0.0, 1, 0], [0.5, 0.5, 0]):
        verdict, evidence = judged(tied, point)
        if slip == 0:
            assert (verdict, evidence) == (sm.Verdict.UNDECIDED, NUMERICAL)
        elif evidence is PROVED and verdict in UP:
            # Exact gradients resolve even this; then the right one only.
            assert point == ([0.0, 1, 0] if slip > 0 else [1.0, 0, 0])


def test_a_box_that_cuts_the_corner_off_is_not_missed():
    # x + δ ≤ 1 leaves 0.5 of room: ε·e_1 is outside, the rest goes to the second.
    assert judged([3.0, -2, 1], [0.5, -0.25, 0], 0.75, (0.0, 1.0)) == GLOBAL
    # By one unit of rounding only: the vertex has two coordinates, the given point one.
    room = 1 - 0.7
    inputs, point = [0.7, 0.5, 0.5], [room, 0, 0]
    for radius in (room, room * (1 + 2.0**-52), 0.3, room * (1 - 2.0**-52)):
        assert judged([3.0, -2, 1], point, radius, (0.0, 1.0), inputs) == GLOBAL
    # By more than the search distance: the point is not it.
    found = judged([3.0, -2, 1], point, room * 1.01, (0.0, 1.0), inputs)
    assert found == (sm.Verdict.NOT_STATIONARY, PROVED)


def test_limits_alone_may_fill_the_ball_exactly():
    """Black and white inputs and a whole radius: no coordinate is left over."""
    inputs = [0.0, 1.0, 0.0, 1.0]
    slopes = [4.0, -3.0, 2.0, 1.0]
    assert judged(slopes, [1.0, -1, 0, 0], 2.0, (0.0, 1.0), inputs) == GLOBAL
    # The third ties with the second: an edge of vertices.
    tied = judged([4.0, -3, 3, 1], [1.0, -1, 0, 0], 2.0, (0.0, 1.0), inputs)
    assert tied[1] is NUMERICAL
    assert tied[0] is sm.Verdict.UNDECIDED
    # Inside the ball: the corner of the box, the last coordinate pressed inwards.
    assert judged(slopes, [1.0, -1, 1, 0], 3.5, (0.0, 1.0), inputs) == GLOBAL
    # Limits of 0.1 do not add up to what ten of them name.
    many = [0.1 * (i + 1) for i in range(10)]
    found = judged(many, [0.1] * 10, 1.0, (0.0, 1.0), [0.9] * 10)
    assert found == GLOBAL


def test_a_vertex_on_a_kink_is_proved_only_if_every_side_agrees():
    """|x_2| at its kink: ±w beside a slope of 1 along the first coordinate."""

    def at(weight):
        model = nn.Sequential(nn.Linear(2, 3, bias=False), nn.ReLU(), nn.Linear(3, 1))
        model[0].weight.data = rows([1.0, 0], [0, 1], [0, -1])
        model[2].weight.data = rows([1.0, weight, weight])
        model[2].bias.data = torch.zeros(1).double()
        inputs = rows([1.0, 0.0])
        problem = sm.Problem(
            model, inputs, torch.tensor([-1]), sm.Margin(), L1Ball(0.5)
        )
        return sm.local_optimality(problem, rows([0.5, 0.0]))

    low = at(0.75)
    assert (low.verdict[0], low.evidence[0]) == GLOBAL
    # (0.5 - t, ±t) gains 1.25t - t: no maximum, and no proof of one.
    high = at(1.25)
    assert high.verdict[0] not in UP


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_points_beside_the_vertex_are_judged_by_their_distance(dtype):
    problem = problem_of("softplus", 0.05, (0.0, 1.0))
    points = ends(problem)
    kept = torch.tensor(
        [e is PROVED for e in sm.local_optimality(problem, points).evidence]
    )
    some = problem.take(kept.nonzero().flatten())
    points = points[kept]
    inwards = -points / _rows.norm(points)[:, None]
    for share, expected in ((0.5, UP), (2.0, {sm.Verdict.NOT_STATIONARY})):
        moved = points + share * WITHIN * 0.05 * inwards
        found = sm.local_optimality(some, moved.to(dtype).double())
        assert set(found.verdict) <= expected
        assert set(found.evidence) == {PROVED}
        if share < 1:
            bound = found.distance_bound
            assert (bound >= share * WITHIN * 0.05 * (1 - 1e-3)).all()


def test_measurement_agrees_with_proofs():
    for kind in ("softplus", "deep relu"):
        problem = problem_of(kind, 0.3, (0.0, 1.0))
        points = torch.cat([ends(problem), sm.UniformStart().points(problem)[0]])
        twice = problem.take(torch.arange(12).repeat(2))
        proofs, claims = sm.local_optimality(twice, points), measured(twice, points)
        decided = 0
        for proof, evidence, verdict in zip(
            proofs.verdict, proofs.evidence, claims.verdict, strict=True
        ):
            if evidence is PROVED and verdict is not sm.Verdict.UNDECIDED:
                assert proof.is_maximum == verdict.is_maximum
                decided += 1
        assert decided >= 15


def test_another_network_than_its_weights_say_is_not_proved():
    problem = problem_of("deep relu", 0.05)
    points = ends(problem)
    with_hook = problem.model.layers[0].register_forward_hook(
        lambda module, args, output: output + 0.01 * args[0][:, :1] ** 2
    )
    certificate = sm.local_optimality(problem, points)
    with_hook.remove()
    assert PROVED not in certificate.evidence


def test_derived_regions_are_not_proved():
    class Smaller(L1Ball):
        def project(self, points):
            return super().project(points) * 0.5

    problem = problem_of("softplus", 0.05)
    certificate = sm.local_optimality(
        sm.Problem(
            problem.model,
            problem.inputs,
            problem.targets,
            sm.Quadratic(),
            Smaller(0.05),
        ),
        ends(problem),
    )
    assert PROVED not in certificate.evidence


@pytest.mark.parametrize("kind", ["l1", "l1box"])
def test_an_unusual_shape_and_many_rows_are_projected_one_by_one(kind):
    like = torch.zeros(40, 2, 5, 7, dtype=torch.float32)
    region = make(kind, like, 0.7)
    points = (
        seeded(40, 2, 5, 7, dtype=torch.float32)
        * torch.logspace(-3, 8, 40)[:, None, None, None]
    )
    whole = region.project(points)
    for row in range(40):
        index = torch.tensor([row])
        assert torch.equal(region.take(index).project(points[index])[0], whole[row])
    draws = Draws(0, torch.arange(40), torch.zeros(40, dtype=torch.int64))
    assert region.contains(region.sample(draws, like)).all()
