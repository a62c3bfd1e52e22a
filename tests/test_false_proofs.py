"""Claims with evidence PROVED that were once false; each stays as a test."""

import subprocess
import sys

import torch

import summiteer as sm

F64 = torch.float64


def vector(*entries: float) -> torch.Tensor:
    return torch.tensor(entries, dtype=F64)


def certificate(network, region, point, loss=None, target=-1.0, within=0.9):
    """At x = 0; a Margin with target -1 ascends the output itself."""
    dim = network.hidden_weights.shape[1]
    problem = sm.Problem(
        network,
        torch.zeros(1, dim, dtype=F64),
        vector(target),
        loss or sm.Margin(),
        region,
    )
    return sm.local_optimality(problem, point[None], within)


def test_gain_from_a_point_outside_a_box_is_that_of_the_nearest_point_inside():
    # F = -½(δ - 5)² is steeper at -2, outside [-1, 1], than at -1.
    network = sm.TwoLayerNetwork(
        vector(1.0)[:, None], vector(-1.0), vector(-5.0), activation="quadratic"
    )
    found = certificate(network, sm.LinfBall(1.0), vector(-2.0))
    assert found.evidence == (sm.Evidence.PROVED,)
    assert found.verdict == (sm.Verdict.NOT_STATIONARY,)
    gained = 0.5 * 6**2 - 0.5 * 5.1**2
    assert not float(found.guaranteed_gain[0]) > gained * (1 + 1e-12)


def test_constants_of_a_tail_do_not_serve_where_the_way_starts():
    # F = -softplus(-δ) is straight at -40, outside [-1, 1], and bent at -1.
    network = sm.TwoLayerNetwork(vector(-1.0)[:, None], vector(-1.0))
    found = certificate(network, sm.LinfBall(1.0), vector(-40.0), within=0.5)
    assert found.evidence == (sm.Evidence.PROVED,)
    start, end = network(vector(-1.0, -0.5)[:, None]).tolist()
    assert not float(found.guaranteed_gain[0]) > end - start


def test_gain_on_the_sphere_counts_from_the_objective_there():
    # F falls towards the sphere, so that u is smaller there than at the given point.
    bias, reach = 100.0, 0.01
    way = torch.tensor([[-1.0, 0.5]], dtype=F64)
    network = sm.TwoLayerNetwork(
        way, vector(1 / bias), vector(bias), activation="quadratic"
    )

    def output(point):
        return float(network(point[None]).detach())

    given, base = vector(1 - 0.8 * reach, 0.0), vector(1.0, 0.0)
    target = output(given) - reach
    found = certificate(
        network, sm.L2Ball(1.0), given, sm.Quadratic(), target, within=reach
    )
    assert found.evidence == (sm.Evidence.PROVED,)
    gain = float(found.guaranteed_gain[0])
    end = vector(1.0, 2 * reach)
    end = end / end.norm()  # further than the search distance reaches
    gained = 0.5 * (output(end) - target) ** 2 - 0.5 * (output(base) - target) ** 2
    near = vector(1.0, reach) / vector(1.0, reach).norm()
    there = 0.5 * (output(near) - target) ** 2 - 0.5 * (output(base) - target) ** 2
    assert there < gained
    assert not gain > there


def test_a_corner_that_the_ball_cuts_off_is_no_maximum():
    # F = ½‖δ - x0‖², x0 next to the corner (1, 1) of the box, the ball just inside it.
    near = 1 - 1e-5
    network = sm.TwoLayerNetwork(
        torch.eye(2, dtype=F64),
        vector(1.0, 1.0),
        vector(-near, -near),
        activation="quadratic",
    )
    radius = 2**0.5 - 5e-5
    region = sm.Intersection(sm.L2Ball(radius), sm.Box(-1.0, 1.0))
    point = (radius / 2**0.5 - 1e-6) * vector(1.0, 1.0)
    found = certificate(network, region, point, within=1e-3)
    assert not (found.verdict[0].is_maximum and found.evidence[0] is sm.Evidence.PROVED)


def test_nothing_is_said_of_a_model_that_computes_something_else(monkeypatch):
    model = torch.nn.Sequential(
        torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1)
    ).double()
    plain = torch.nn.functional.linear
    monkeypatch.setattr(
        torch.nn.functional, "linear", lambda *given: 1.5 * plain(*given)
    )
    problem = sm.Problem(
        model, torch.ones(2, 3, dtype=F64), vector(1.0, -1.0), sm.Margin(), sm.L2Ball(1)
    )
    found = sm.local_optimality(problem, torch.zeros(2, 3, dtype=F64))
    assert set(found.evidence) == {sm.Evidence.NUMERICAL}
    assert bool(found.upper_bound.isnan().all())


def test_a_point_inside_a_sphere_is_no_maximum_on_it():
    # F = -½‖δ‖² peaks at 0, which is no point of the sphere; on it F is constant.
    network = sm.TwoLayerNetwork(
        torch.eye(2, dtype=F64), vector(-1.0, -1.0), activation="quadratic"
    )
    for near in (0.0, 0.1):
        found = certificate(network, sm.Sphere(1.0), vector(near, 0.0), within=0.5)
        assert found.evidence == (sm.Evidence.NUMERICAL,)


def test_gain_on_a_sphere_far_from_the_point_counts_the_curvature_there():
    # tanh is flat at the given point and steep and bent at the sphere next to it.
    network = sm.TwoLayerNetwork(
        vector(100.0, 400.0)[None], vector(1.0), vector(-100.0), activation="tanh"
    )
    reach = 1e-3
    found = certificate(network, sm.Sphere(1.0), vector(0.8, 0.0), within=reach)
    path = torch.linspace(0.0, reach, 1001, dtype=F64)
    values = network(torch.stack([path.cos(), path.sin()], 1)).detach()
    assert not float(found.guaranteed_gain[0]) > float(values.max() - values[0])


def test_polish_does_not_push_an_interior_maximum_onto_the_sphere():
    # F = -½·10⁶‖δ - c‖², c inside the ball by less than Newton's method snaps.
    peak = vector(1 - 9e-5, 0.0)
    network = sm.TwoLayerNetwork(
        torch.eye(2, dtype=F64), vector(-1e6, -1e6), -peak, activation="quadratic"
    )
    zero, target = torch.zeros(1, 2, dtype=F64), vector(-1.0)
    problem = sm.Problem(network, zero, target, sm.Margin(), sm.L2Ball(1.0))
    given = (peak - vector(1e-9, 0.0))[None]
    polished = sm.polish(problem, given)
    assert float((network(polished) - network(given)).detach()) >= -1e-12


def test_nothing_is_said_of_a_model_whose_copy_is_another_one():
    # Proofs of float32 networks are made on a float64 copy.
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)
    )
    other = torch.nn.Sequential(
        torch.nn.Linear(2, 3), torch.nn.Tanh(), torch.nn.Linear(3, 1)
    )
    changed = (model, model[0].weight)
    zero, target = torch.zeros(1, 2), torch.ones(1)
    for owner, copied in zip(changed, (other, other[0].weight), strict=True):
        owner.__deepcopy__ = lambda memo, copied=copied: copied
        problem = sm.Problem(model, zero, target, sm.Margin(), sm.L2Ball(1.0))
        assert sm.upper_bound(problem).reason != ("",)
        del owner.__deepcopy__
    assert sm.upper_bound(problem).reason == ("",)


def test_gain_at_a_saddle_is_reached_within_the_search_distance():
    # F = ½δ_2², seen from beside the sphere: further along it there is more to gain.
    network = sm.TwoLayerNetwork(
        vector(0.0, 1.0)[None], vector(1.0), activation="quadratic"
    )
    reach = 0.11
    for region, far in ((sm.Sphere(1.0), 1.1), (sm.LinfBall(1.0), 1.05)):
        found = certificate(network, region, vector(far, 0.0), within=reach)
        assert found.verdict == (sm.Verdict.SADDLE,)
        assert found.evidence == (sm.Evidence.PROVED,)
        assert 0 < float(found.guaranteed_gain[0]) <= 0.5 * reach**2


class Doubled(torch.Tensor):
    """A weight that counts twice, until it is copied."""

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        result = super().__torch_function__(func, types, args, kwargs or {})
        if func is torch.nn.functional.linear:
            return 2 * result.as_subclass(torch.Tensor)
        if func in (torch.Tensor.detach, torch.Tensor.clone):
            return result.as_subclass(torch.Tensor)
        return result


def test_a_weight_that_is_no_parameter_is_looked_at_too():
    model = torch.nn.Sequential(
        torch.nn.Linear(2, 3, bias=False),
        torch.nn.Tanh(),
        torch.nn.Linear(3, 1, bias=False),
    ).double()
    weight = model[2].weight.detach().clone()
    del model[2].weight
    model[2].weight = weight.as_subclass(Doubled)
    # At the input both functions are 0, so that values tell nothing.
    zero = torch.zeros(1, 2, dtype=F64)
    problem = sm.Problem(model, zero, vector(-1.0), sm.Margin(), sm.L2Ball(3.0))
    assert sm.upper_bound(problem).reason == ("a weight is a Doubled",)


_FLUSHED = """
import torch
torch.set_num_threads(2)
# The pool's threads begin with the flag of this one, which then gives it up.
torch.set_flush_denormal(True)
long = torch.full((2**22,), 1e-310, dtype=torch.float64)
long.mul(1.0)
torch.set_flush_denormal(False)
from summiteer.optimality.rounding import arithmetic_fault
seen = "flushed" in arithmetic_fault()
assert seen == bool((long * 1.0 == 0).any())
torch.set_num_threads(1)
assert arithmetic_fault() == ""
"""


def test_subnormals_that_only_other_threads_flush_are_seen():
    # In a process of its own: the threads stay as they are.
    subprocess.run([sys.executable, "-c", _FLUSHED], check=True)


def test_a_tiny_cross_entropy_is_not_taken_for_another_model():
    network = sm.TwoLayerNetwork(
        torch.eye(2, dtype=F64), 12 * torch.eye(2, dtype=F64), activation="tanh"
    )
    inputs = torch.tensor([[2.0, -2.0]], dtype=F64)
    problem = sm.Problem(
        network, inputs, torch.tensor([0]), sm.CrossEntropy(), sm.L2Ball(0.1)
    )
    best = sm.polish(problem, sm.ascend(problem).best)
    found = sm.local_optimality(problem, best)
    assert found.evidence == (sm.Evidence.PROVED,), found.explain(0)
