"""The constants of mathematics.md §5 and 6 against dense sampling and their laws."""

import dataclasses
import math

import pytest
import torch
from torch import Tensor

import summiteer as sm
from summiteer._constants import (
    Constants,
    constants,
    constants_of,
    lipschitz_of_gradient,
    network_constants,
)
from summiteer.errors import UserError
from summiteer.networks import TwoLayerNetwork
from summiteer.networks.activations import ACTIVATIONS

torch.set_num_threads(1)

SMOOTH = [name for name, sigma in ACTIVATIONS.items() if sigma.smooth]
over_smooth = pytest.mark.parametrize("name", SMOOTH)
#: Bounds and samples are both rounded to about 1e-15 times a condition number of the
#: sums below 1e3; a wrong formula misses by far more.
ROUNDING = 1e-10
#: (d, m): more neurons than inputs, fewer, one of each.
SIZES = [(3, 12), (8, 3), (1, 1)]


def rand(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64)


def network(name: str, dim: int, width: int) -> TwoLayerNetwork:
    """With biases, and where there is room a repeated and two dead neurons."""
    hidden, output = rand(width, dim, seed=1), rand(width, seed=2)
    if width > 2:
        hidden[1], output[1] = hidden[0], 0.7 * output[0]
        output[2] = 0.0
    if width > 4:
        hidden[3] = 0.0
    return TwoLayerNetwork(hidden, output, rand(width, seed=3), 0.3, name)


def ball(net: TwoLayerNetwork, centre: Tensor, radius: float, count: int) -> Tensor:
    """Points of the ball: inside, on its surface, and along ±w_j (where I_j ends)."""
    dim = len(centre)
    directions = torch.cat(
        [rand(count, dim, seed=9), net.hidden_weights.detach(), -net.hidden_weights]
    ).detach()
    units = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-300)
    generator = torch.Generator().manual_seed(4)
    lengths = torch.rand(len(units), 1, generator=generator).double() ** (1 / dim)
    return centre + radius * torch.cat([units, lengths * units, 0 * units[:1]])


def below(actual: Tensor, bound: Tensor) -> bool:
    return bool((actual <= bound + ROUNDING * (1 + bound.abs())).all())


def norms(matrices: Tensor) -> Tensor:
    return torch.linalg.eigvalsh(matrices).abs().amax(-1)


# -- the bounds hold ------------------------------------------------------------------


@over_smooth
@pytest.mark.parametrize(("dim", "width"), SIZES)
@pytest.mark.parametrize("radius", [1e-3, 0.3, 20.0])
def test_bounds_hold_on_the_ball(name, dim, width, radius):
    net = network(name, dim, width)
    centres = torch.stack([rand(dim, seed=5), torch.zeros(dim).double()])
    known = network_constants(net, centres, torch.full((2,), radius).double())
    for row, centre in enumerate(centres):
        points = ball(net, centre, radius, 200)
        gradients, hessians = net.gradient(points), net.hessian(points)
        lengths = gradients.norm(dim=1)
        top = torch.linalg.eigvalsh(hessians)
        assert below(top.abs().amax(1), known.gradient_lipschitz[row])
        assert below(top[:, -1], known.majorant[row])
        assert below(-top[:, 0], known.majorant_down[row])
        assert below(lengths, known.gradient_ceiling[row])
        assert below(known.gradient_floor[row], lengths)
        assert torch.allclose(
            net.gradient(centre[None]).norm(), known.gradient_norm[row]
        )
        assert torch.allclose(net(centre[None])[0], known.value[row])
        other = points.roll(1, 0)
        apart = (points - other).norm(dim=1)
        # Pairs a hair apart would show rounding, not slopes.
        usable = apart > 1e-3 * radius
        rise = norms(hessians - net.hessian(other))[usable] / apart[usable]
        slack = 1e-13 * known.gradient_lipschitz[row] / (1e-3 * radius)
        assert below(rise, known.hessian_lipschitz[row] + slack)


@over_smooth
def test_bounds_of_one_neuron_are_the_suprema(name):
    """d = m = 1: nothing is lost, so that no bound may be far above the samples."""
    net = TwoLayerNetwork(torch.tensor([[1.5]]).double(), [-0.8], [0.2], 0.0, name)
    centre, radius = torch.tensor([[0.125]]).double(), torch.tensor([0.875]).double()
    known = network_constants(net, centre, radius)
    points = torch.linspace(-0.75, 1.0, 20001, dtype=torch.float64)[:, None]
    slopes = net.gradient(points)[:, 0].detach()
    bends = net.hessian(points)[:, 0, 0].detach()
    twists = bends.diff() / points[:, 0].diff()
    sampled = {
        "gradient_lipschitz": bends.abs().max(),
        "majorant": bends.max().clamp(min=0),
        "majorant_down": (-bends).max().clamp(min=0),
        "hessian_lipschitz": twists.abs().max(),
        "gradient_floor": slopes.abs().min() if (slopes[0] * slopes > 0).all() else 0.0,
    }
    for field, value in sampled.items():
        bound = float(getattr(known, field).detach())
        # The grid of step 9e-5 misses a supremum by its square or, at an end of the
        # difference quotients, by half a step.
        assert float(value) <= bound + 1e-6, field
        assert bound <= float(value) + 1e-3, field
    assert float(slopes.abs().max()) <= float(known.gradient_ceiling) + ROUNDING


@over_smooth
@pytest.mark.parametrize(("dim", "width"), SIZES[:2])
def test_the_fixed_point_map_contracts_with_q(name, dim, width):
    net, found = network(name, dim, width), 0
    for radius in (1e-3, 1e-2, 0.05):
        centre = rand(dim, seed=6)
        known = network_constants(net, centre[None], torch.tensor([radius]).double())
        q = float(known.a_priori)
        growth = float(known.gradient_lipschitz) * radius
        room = float(known.gradient_norm) - growth
        assert q == pytest.approx(growth / room if room > 0 else math.inf)
        if not q < 1:
            continue
        found += 1
        points = ball(net, centre, radius, 200)
        gradients = net.gradient(points)
        images = radius * gradients / gradients.norm(dim=1, keepdim=True)
        moved = (images - images.roll(1, 0)).norm(dim=1)
        apart = (points - points.roll(1, 0)).norm(dim=1)
        # Rounding of unit vectors, in units of the radius.
        assert bool((moved <= q * apart + 1e-12 * radius).all())
    assert found


def test_q_is_infinite_where_the_gradient_may_vanish():
    net = network("tanh", 3, 12)
    known = network_constants(net, rand(1, 3), torch.tensor([20.0]).double())
    assert float(known.a_priori) == math.inf
    dead = TwoLayerNetwork(torch.ones(2, 3).double(), [0.0, 0.0])
    nothing = network_constants(dead, rand(1, 3), torch.ones(1).double())
    assert float(nothing.a_priori) == math.inf
    assert float(nothing.gradient_lipschitz) == 0.0


def test_the_ceiling_does_not_grow_without_end():
    net = network("tanh", 3, 12)
    wide = network_constants(net, rand(1, 3), torch.tensor([1e6]).double())
    weights = net.hidden_weights.detach(), net.output_weights.detach()
    most = torch.linalg.matrix_norm(weights[0], 2) * weights[1].norm()
    assert below(wide.gradient_ceiling, most[None])


# -- rectifiers -----------------------------------------------------------------------


def test_relu_has_constants_where_no_live_kink_is_reached():
    hidden = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0], [1.0, 1.0]]).double()
    bias = torch.tensor([3.0, 3.0, 0.0, -0.5]).double()
    for output, reached in (([1.0, -1.0, 2.0, 0.0], False), ([1.0, -1, 2, 0.5], True)):
        net = TwoLayerNetwork(hidden, output, bias, 0.0, "relu")
        known = network_constants(net, rand(1, 2) * 0, torch.ones(1).double())
        expected = math.inf if reached else 0.0
        assert float(known.gradient_lipschitz) == expected
        assert float(known.majorant) == expected
        assert float(known.majorant_down) == 0.0
        assert float(known.a_priori) == expected
        points = ball(net, torch.zeros(2).double(), 1.0, 500)
        lengths = net.gradient(points).norm(dim=1)
        assert below(lengths, known.gradient_ceiling)
        assert below(known.gradient_floor, lengths)
        assert all(not getattr(known, f.name).isnan().any() for f in _fields())


def _fields() -> tuple[dataclasses.Field, ...]:
    return dataclasses.fields(Constants)


# -- laws -----------------------------------------------------------------------------


def same(left: Constants, right: Constants, powers: dict[str, int], c: float) -> None:
    """`left` is `right` times c to the field's power."""
    for field in _fields():
        a, b = getattr(left, field.name), getattr(right, field.name)
        factor = c ** powers.get(field.name, 0)
        # The floor is a difference of larger numbers.
        scale = right.gradient_ceiling if "gradient" in field.name else b.abs()
        error = (a - factor * b).abs()
        assert bool((error <= 1e-11 * factor * (scale + 1)).all()), field.name


@over_smooth
@pytest.mark.parametrize(("dim", "width"), SIZES[:2])
def test_rotations_and_permutations_change_nothing(name, dim, width):
    net, inputs = network(name, dim, width), rand(4, dim)
    radius = rand(4, seed=8).abs()
    known = network_constants(net, inputs, radius)
    turn = torch.linalg.qr(rand(dim, dim, seed=7)).Q
    order = torch.randperm(width, generator=torch.Generator().manual_seed(1))
    weights = [p.detach() for p in net.parameters()]
    rotated = TwoLayerNetwork(weights[0] @ turn, *weights[1:], activation=name)
    same(network_constants(rotated, inputs @ turn, radius), known, {}, 1.0)
    shuffled = TwoLayerNetwork(
        *(w[order] for w in weights[:3]), weights[3], activation=name
    )
    same(network_constants(shuffled, inputs, radius), known, {}, 1.0)


@over_smooth
def test_a_change_of_sign_exchanges_the_majorants(name):
    net, inputs, radius = network(name, 3, 12), rand(4, 3), rand(4, seed=8).abs()
    weights = [p.detach() for p in net.parameters()]
    mirrored = TwoLayerNetwork(
        weights[0], -weights[1], weights[2], -weights[3], activation=name
    )
    known, mirror = (network_constants(n, inputs, radius) for n in (net, mirrored))
    up, down = torch.ones(4), -torch.ones(4)
    assert torch.allclose(known.majorant_for(up), mirror.majorant_for(down))
    assert torch.allclose(known.majorant_for(down), mirror.majorant_for(up))
    assert torch.allclose(known.value, -mirror.value)
    for field in (
        "gradient_lipschitz",
        "gradient_floor",
        "gradient_ceiling",
        "a_priori",
    ):
        assert torch.allclose(getattr(known, field), getattr(mirror, field))


@over_smooth
@pytest.mark.parametrize("c", [1e-3, 7.0])
def test_units_of_the_input_do_not_matter(name, c):
    """W → cW, x → x/c, ε → ε/c is f in other units: ∇ gains c, ∇² c², ∇³ c³."""
    net, inputs, radius = network(name, 3, 12), rand(4, 3), rand(4, seed=8).abs()
    weights = [p.detach() for p in net.parameters()]
    scaled = TwoLayerNetwork(c * weights[0], *weights[1:], activation=name)
    known = network_constants(net, inputs, radius)
    other = network_constants(scaled, inputs / c, radius / c)
    powers = {
        "gradient_lipschitz": 2,
        "hessian_lipschitz": 3,
        "majorant": 2,
        "majorant_down": 2,
        "gradient_norm": 1,
        "gradient_ceiling": 1,
        "gradient_floor": 1,
        "radius": -1,
    }
    same(other, known, powers, c)
    # q = growth/(‖g0‖ - growth) is sensitive where the difference is small.
    finite = known.a_priori.isfinite()
    assert torch.equal(finite, other.a_priori.isfinite())
    assert torch.allclose(other.a_priori[finite], known.a_priori[finite], rtol=1e-8)
    ratio = known.majorant * radius / known.gradient_norm
    scaled_ratio = other.majorant * (radius / c) / other.gradient_norm
    assert torch.allclose(ratio, scaled_ratio, rtol=1e-10)


def test_homogeneous_indices_do_not_depend_on_the_input_scale():
    net = TwoLayerNetwork.random(20, 100, "quadratic", weight_std=20**-0.5)
    inputs = rand(5, 20)
    lengths = inputs.norm(dim=1)
    for ratio in (0.01, 0.3):
        at = {
            c: network_constants(net, c * inputs, c * ratio * lengths)
            for c in (1e-3, 1.0, 1e3)
        }
        for known in at.values():
            assert torch.allclose(known.a_priori, at[1.0].a_priori, rtol=1e-9)
            assert torch.allclose(
                known.majorant * known.radius / known.gradient_norm,
                at[1.0].majorant * at[1.0].radius / at[1.0].gradient_norm,
                rtol=1e-12,
            )


@pytest.mark.parametrize("name", ["softplus", "sigmoid", "silu", "gelu"])
def test_other_indices_vanish_like_the_input_scale(name):
    net = TwoLayerNetwork.random(20, 100, name, weight_std=20**-0.5)
    inputs = rand(5, 20)
    scales = torch.tensor([1e-2, 1e-3, 1e-4]).double()
    indices = torch.stack(
        [
            network_constants(net, c * inputs, 0.3 * c * inputs.norm(dim=1)).a_priori
            for c in scales
        ]
    )
    assert bool((indices[0] < 1).all())
    if name == "sigmoid":  # σ''(0) = 0: they vanish like c²
        indices = indices / scales[:, None]
    slopes = indices / scales[:, None]
    # Relative to the limit the next term is O(c): below 2 % at 1e-3, 0.2 % at 1e-4.
    assert torch.allclose(slopes[1], slopes[2], rtol=2e-2)


# -- from problems --------------------------------------------------------------------


def problem(net, rows: int = 6, objective=None, region=None, dtype=torch.float64):
    inputs = rand(rows, net.hidden_weights.shape[1], seed=4).to(dtype)
    targets = rand(rows, seed=5).sign().to(dtype)
    region = region or sm.L2Ball(radius=0.4)
    return sm.Problem(net, inputs, targets, objective or sm.Quadratic(), region)


def test_constants_of_a_problem_are_those_of_its_balls():
    net = network("softplus", 3, 12)
    radius = torch.linspace(0.1, 1.0, 6, dtype=torch.float64)
    for region in (sm.L2Ball(radius=radius), sm.Sphere(radius=radius)):
        posed = problem(net, region=region)
        known = constants(posed)
        same(known, network_constants(net, posed.inputs, radius), {}, 1.0)
        some = constants_of(posed.rows(torch.tensor([4, 4, 1])))
        assert torch.equal(some.radius, radius[[4, 4, 1]])
        assert torch.allclose(some.majorant, known.majorant[[4, 4, 1]])
    boxed = dataclasses.replace(posed, region=sm.L2Ball(radius=radius), box=(-5.0, 5.0))
    same(constants(boxed), known, {}, 1.0)


def test_float32_networks_have_float64_constants():
    single = network("tanh", 3, 12).float()
    double = TwoLayerNetwork(
        *(p.detach().double() for p in single.parameters()), activation="tanh"
    )
    posed = problem(single, dtype=torch.float32)
    known = constants(posed)
    assert all(getattr(known, f.name).dtype == torch.float64 for f in _fields())
    assert not any(getattr(known, f.name).requires_grad for f in _fields())
    # The radius is 0.4 as the user wrote it, not rounded to float32 in between.
    radius = torch.full((6,), 0.4, dtype=torch.float64)
    exact = network_constants(double, posed.inputs, radius)
    assert torch.equal(known.radius, radius)
    same(known, exact, {}, 1.0)


def test_many_rows_and_one_column_of_outputs():
    net = network("gelu", 3, 12)
    column = TwoLayerNetwork(
        net.hidden_weights, net.output_weights[None], net.hidden_bias, 0.3, "gelu"
    )
    inputs, radius = rand(600, 3), rand(600, seed=1).abs()
    known = network_constants(net, inputs, radius)
    assert torch.equal(
        network_constants(net, inputs[590:], radius[590:]).majorant,
        known.majorant[590:],
    )
    same(network_constants(column, inputs, radius), known, {}, 1.0)
    same(constants(problem(column)), constants(problem(net)), {}, 1.0)


@pytest.mark.parametrize(
    ("net", "region", "message"),
    [
        (torch.nn.Linear(3, 1).double(), None, "model: .*Linear is not a TwoLayerNet"),
        (
            TwoLayerNetwork(rand(4, 3), rand(2, 4)),
            None,
            "model: .* one output only; this one has 2 outputs",
        ),
        (network("tanh", 3, 12), sm.LinfBall(radius=0.1), "region: .* got LinfBall"),
    ],
)
def test_what_is_not_known_is_said(net, region, message):
    inputs = rand(2, 3)
    region = region or sm.L2Ball(radius=0.1)
    posed = sm.Problem(net, inputs, torch.ones(2), sm.Logistic(), region)
    with pytest.raises(UserError, match=message):
        constants(posed)


# -- Lipschitz constant of the loss's gradient ----------------------------------------


@over_smooth
@pytest.mark.parametrize("loss", [sm.Quadratic(), sm.Logistic(), sm.Margin()])
@pytest.mark.parametrize("radius", [0.05, 1.5])
def test_the_bound_of_the_loss_is_above_every_sample(name, loss, radius):
    net = network(name, 3, 12)
    posed = problem(net, 4, loss, sm.L2Ball(radius=radius))
    bound = lipschitz_of_gradient(posed.rows())
    for row in range(4):
        points = ball(net, torch.zeros(3).double(), radius, 100)
        rows = posed.rows(torch.full((len(points),), row))
        gradients = rows.evaluate(points).gradient
        rise = torch.cdist(gradients, gradients) / torch.cdist(points, points)
        apart = torch.cdist(points, points) > 1e-3 * radius
        # cdist takes squares of differences: 1e-8 relative.
        assert float(rise[apart].max()) <= float(bound[row]) * (1 + 1e-7)


def test_restarts_share_their_balls():
    posed = problem(network("tanh", 3, 12), region=sm.L2Ball(radius=rand(6).abs()))
    once = lipschitz_of_gradient(posed.rows())
    index = torch.arange(6).repeat(3).flip(0)
    assert torch.allclose(lipschitz_of_gradient(posed.rows(index)), once[index])


def test_there_is_no_lipschitz_step_across_a_kink():
    posed = problem(TwoLayerNetwork.random(3, 12, "relu"), objective=sm.Margin())
    with pytest.raises(
        UserError, match=r"step_rule: ∇f of a relu network jumps .*Backt"
    ):
        lipschitz_of_gradient(posed.rows())
    with pytest.raises(
        UserError, match=r"objective: .*got CrossEntropy; use Backtrack"
    ):
        lipschitz_of_gradient(
            problem(network("tanh", 3, 12), 2, sm.CrossEntropy()).rows()
        )


def test_a_constant_network_has_a_usable_bound():
    net = TwoLayerNetwork(torch.ones(2, 3), [0.0, 0.0], activation="tanh")
    rows = problem(net, objective=sm.Margin(), dtype=torch.float32).rows()
    size = (1 / lipschitz_of_gradient(rows)).float()
    assert bool(size.isfinite().all())
