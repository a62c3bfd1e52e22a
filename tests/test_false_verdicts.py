"""Points that were once called something they are not; each stays as a test."""

import pytest
import torch
from torch import relu

import summiteer as sm
from fakes import measured
from summiteer.studies.claims import c3
from summiteer.studies.claims.claim import Row

F64 = torch.float64


def verdict(function, point, region, inputs=None):
    """The verdict on one point of a plain function of x + δ, x = 0 if not given."""
    point = torch.tensor([point], dtype=F64)
    inputs = torch.zeros_like(point) if inputs is None else inputs
    problem = sm.Problem(
        function, inputs, torch.zeros(1, dtype=F64), lambda f, _: f, region
    )
    certificate = sm.local_optimality(problem, point)
    assert certificate.evidence == (sm.Evidence.NUMERICAL,)
    return certificate.verdict[0]


KINKS = {
    "beside the maximum": (lambda z: z[:, 0] + 0.1 * relu(z[:, 1]), [1.0, 0.0]),
    "just off the kink": (lambda z: z[:, 0] + 0.1 * relu(z[:, 1] - 1e-10), [1.0, 0.0]),
    "interior": (lambda z: -(z**2).sum(1) + 0.1 * relu(z[:, 0]), [0.0, 0.0]),
    "both ways up": (lambda z: z[:, 1] + 0.1 * z[:, 0].abs(), [0.0, 1.0]),
}


@pytest.mark.parametrize("kink", KINKS)
def test_a_kink_that_autograd_does_not_see_is_no_maximum(kink):
    function, point = KINKS[kink]
    assert not verdict(function, point, sm.L2Ball(1.0)).is_maximum


def test_a_kink_at_a_vertex_is_no_maximum():
    def function(z):
        return z[:, 0] + z[:, 1] + 10 * relu(1 - z[:, 0])

    assert not verdict(function, [1.0, 1.0], sm.LinfBall(1.0)).is_maximum


def test_a_kink_of_a_relu_network_is_no_maximum():
    network = sm.TwoLayerNetwork(
        torch.eye(2, dtype=F64), torch.tensor([1.0, 0.1]), activation="relu"
    )
    problem = sm.Problem(
        network,
        torch.zeros(1, 2, dtype=F64),
        torch.tensor([-1.0], dtype=F64),
        sm.Quadratic(),
        sm.L2Ball(1.0),
    )
    point = torch.tensor([[1.0, 0.0]], dtype=F64)
    assert not sm.local_optimality(problem, point).verdict[0].is_maximum


@pytest.mark.parametrize("region", [sm.L2Ball(1.0), sm.LinfBall(1.0)])
def test_a_saturated_tail_is_no_maximum(region):
    network = sm.TwoLayerNetwork(
        torch.tensor([[2000.0]], dtype=F64), torch.tensor([1.0]), activation="tanh"
    )
    problem = sm.Problem(
        network,
        torch.zeros(1, 1, dtype=F64),
        torch.tensor([-1.0], dtype=F64),
        sm.Quadratic(),
        region,
    )
    point = torch.tensor([[0.006]], dtype=F64)
    for judge in (sm.local_optimality, measured):
        assert not judge(problem, point).verdict[0].is_maximum


def test_lanczos_that_has_not_converged_is_no_maximum():
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(700, generator=generator, dtype=F64)
    spectrum = torch.cat(
        [
            -torch.logspace(0.5, 3, 83, dtype=F64),
            -1 + 0.01 * noise,
            torch.tensor([0.1], dtype=F64),
        ]
    )
    basis = torch.linalg.qr(torch.randn(784, 784, generator=generator, dtype=F64))[0]
    hessian = basis * spectrum @ basis.T
    saddle = verdict(
        lambda z: 0.5 * ((z @ hessian) * z).sum(1), [0.0] * 784, sm.L2Ball(1.0)
    )
    assert not saddle.is_maximum


def test_inputs_too_far_from_zero_to_resolve_decide_nothing():
    far = torch.tensor([[1e8, 0.0]], dtype=F64)

    def function(z):
        return -(((z[:, 0] - 1e8) / 1e-6 - 0.3) ** 2) - (z[:, 1] / 1e-6) ** 2

    found = verdict(function, [0.3e-6, 0.0], sm.L2Ball(1e-6), far)
    assert found is sm.Verdict.UNDECIDED


def test_a_control_of_which_nothing_is_known_is_not_flat():
    one = {"maximum": torch.ones(1, 1, dtype=torch.bool), "sign": torch.ones(1, 1)}
    one |= {name: torch.ones(1, 1).double() for name in ("kappa", *c3.INDICES, "loss")}
    other = {**one, "kappa": torch.full((1, 1), torch.nan)}
    rows = [
        Row({"seed": 0}, {}, lambda arrays=arrays: arrays) for arrays in (one, other)
    ]
    drift, _ = c3.control_drift(rows)
    assert drift == torch.inf
    assert c3.control_drift(rows[:1]) == (0.0, 0)


class Cheat:
    """An adversary that does not project."""

    def init(self, rows, points, evaluation):
        return evaluation.loss

    def step(self, rows, points, evaluation, state):
        from summiteer.adversaries import Step

        return Step(points + 2 * evaluation.gradient.sign(), state, state)


def test_an_adversary_that_leaves_the_region_is_refused():
    network = sm.TwoLayerNetwork.random(8, 16, "tanh")
    inputs = torch.rand(4, 8, generator=torch.Generator().manual_seed(0), dtype=F64)
    signs = torch.tensor([1.0, -1.0, 1.0, -1.0], dtype=F64)
    with pytest.raises(sm.UserError, match="left the region for examples"):
        sm.attack(network, inputs, signs, region=sm.LinfBall(1e-4), adversary=Cheat())
