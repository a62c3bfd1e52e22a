"""The activations against autograd, against Arb, and their ranges against sampling."""

import itertools
import math
import pickle

import pytest
import torch
from flint import arb, ctx
from torch import Tensor

from exact import exact
from summiteer.errors import UserError
from summiteer.networks.activations import ACTIVATIONS, Activation, activation

pytestmark = pytest.mark.usefixtures("arb_precision")
INFINITY = math.inf
ALL = list(ACTIVATIONS.values())
SMOOTH = [each for each in ALL if each.smooth]
CURVED = [each for each in SMOOTH if each.name != "quadratic"]
over_all = pytest.mark.parametrize("sigma", ALL, ids=lambda sigma: sigma.name)
over_smooth = pytest.mark.parametrize("sigma", SMOOTH, ids=lambda sigma: sigma.name)
over_curved = pytest.mark.parametrize("sigma", CURVED, ids=lambda sigma: sigma.name)


def derivatives(sigma: Activation):
    return sigma.value, sigma.first, sigma.second, sigma.third


def errors(sigma: Activation):
    return (
        sigma.value_error,
        sigma.first_error,
        sigma.second_error,
        sigma.third_error,
    )


def uniform(lower: float, upper: float, count: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(count, generator=generator, dtype=torch.float64)
    return lower + (upper - lower) * unit


def demanding_points(sigma: Activation) -> Tensor:
    """Bulk, tails, subnormals, and neighbours of zeros and turning points."""
    centres = [0.0, -0.7518, -1.2785, 2**-0.5, 0.54931, 0.65848, math.log(2 + 3**0.5)]
    centres += [20.0, 26.6, 36.7, 38.6, 355.0, 709.78, 710.5, 744.5, 745.2, 746.0]
    if sigma.smooth:
        centres += [at for shape in sigma._shapes for at, _ in shape.turns]
    near = torch.tensor(centres, dtype=torch.float64)
    near = torch.cat([near + step for step in (0, 1e-15, -1e-15, 1e-9, -1e-6, 1e-3)])
    sizes = 10 ** uniform(-320, 2.5, 400, seed=1)
    points = [near, sizes, uniform(0, 12, 500, seed=2), uniform(0, 760, 300, seed=3)]
    if sigma.name == "sin":
        quarters = torch.round(10 ** uniform(0, 7.8, 500, seed=4)) * (math.pi / 2)
        points += [quarters, uniform(0, 1e8, 500, seed=5)]
    one_side = torch.cat(points)
    return torch.cat([one_side, -one_side, torch.tensor([5e-324, -5e-324]).double()])


def worst_ratio(sigma: Activation, points: Tensor) -> list[float]:
    """Largest |computed - exact| / stated bound of σ, σ', σ'', σ'''."""
    computed = [function(points).tolist() for function in derivatives(sigma)]
    bounds = [bound(points).tolist() for bound in errors(sigma)]
    worst = [0.0] * 4
    for row, t in enumerate(points.tolist()):
        # 1 + e^±2t takes 2|t|·log₂e bits to see both summands; zeros of σ'' at 0 take
        # more than the 1000 bits of the bound's underflow term.
        ctx.prec = 1200 + int(3 * min(abs(t), 800))
        for order, true in enumerate(exact(sigma.name, arb(t))):
            gap = abs(arb(computed[order][row]) - true)
            ratio = float((gap / arb(bounds[order][row])).upper())
            worst[order] = max(worst[order], ratio)
            assert ratio <= 1, (sigma.name, order, t, computed[order][row], true)
    return worst


@over_all
def test_rounding_bounds_hold_against_arb(sigma):
    points = demanding_points(sigma)
    assert len(points) >= 2000
    worst_ratio(sigma, points)


@over_all
def test_rounding_bounds_are_useful(sigma):
    t = uniform(-10, 10, 1000)
    for function, bound in zip(derivatives(sigma), errors(sigma), strict=True):
        assert (bound(t) > 0).all()
        assert (bound(t) <= 1e-13 * function(t).abs().clamp(min=0.1)).all()


@over_all
def test_rounding_bounds_refuse_other_dtypes(sigma):
    with pytest.raises(UserError, match=r"t must be float64, got torch\.float32"):
        sigma.first_error(torch.zeros(2))


def test_tails_keep_their_relative_accuracy():
    t = torch.tensor([40.0, 300.0], dtype=torch.float64)
    tail = torch.exp(-t)
    for side in (t, -t):
        torch.testing.assert_close(ACTIVATIONS["sigmoid"].first(side), tail)
        torch.testing.assert_close(ACTIVATIONS["softplus"].second(side), tail)
        expected = 4 * torch.exp(-2 * t)
        torch.testing.assert_close(ACTIVATIONS["tanh"].first(side), expected)
    gelu = ACTIVATIONS["gelu"].value(torch.tensor([-12.0], dtype=torch.float64))
    assert gelu.item() == pytest.approx(-12 * 0.5 * math.erfc(12 / 2**0.5), rel=1e-12)


def test_softplus_does_not_switch_to_the_identity():
    t = torch.tensor([19.999, 20.001, 30.0], dtype=torch.float64)
    excess = ACTIVATIONS["softplus"].value(t) - t
    torch.testing.assert_close(excess, torch.exp(-t), rtol=1e-5, atol=1e-14)


@over_all
def test_derivatives_agree_with_autograd(sigma):
    functions = derivatives(sigma)
    for function, derivative in itertools.pairwise(functions):
        t = uniform(-8, 8, 2000).requires_grad_()
        outputs = function(t)
        if not outputs.requires_grad:  # piecewise constant
            assert (derivative(t) == 0).all()
            continue
        (slope,) = torch.autograd.grad(outputs.sum(), t)
        torch.testing.assert_close(slope, derivative(t), rtol=1e-10, atol=1e-14)


@over_all
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_value_may_be_differentiated_twice_everywhere(sigma, dtype):
    places = [0.0, -0.0, 1.0, -1.0, 20, -20, 50, -50, 89, -89, 100, -100]
    places += [710, -710, 800, -800, 1e3, -1e3]
    t = torch.tensor(places, dtype=dtype, requires_grad=True)
    (slope,) = torch.autograd.grad(sigma.value(t).sum(), t, create_graph=True)
    tolerance = 1e-13 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(slope, sigma.first(t), rtol=tolerance, atol=tolerance)
    if sigma.smooth:
        (bend,) = torch.autograd.grad(slope.sum(), t)
        torch.testing.assert_close(
            bend, sigma.second(t), rtol=tolerance, atol=tolerance
        )


@over_all
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")  # torch's own
def test_value_works_under_function_transforms(sigma):
    t = uniform(-3, 3, 6)
    slope = torch.func.vmap(torch.func.grad(lambda s: sigma.value(s)))(t)
    torch.testing.assert_close(slope, sigma.first(t))
    _, tangent = torch.func.jvp(sigma.value, (t,), (torch.ones_like(t),))
    torch.testing.assert_close(tangent, sigma.first(t))


@over_all
def test_arguments_are_left_alone_and_results_are_new(sigma):
    t = uniform(-2, 2, 20)
    before = t.clone()
    for function in (*derivatives(sigma), *errors(sigma)):
        assert function(t).data_ptr() != t.data_ptr()
    sigma.sup_abs_third(t, t), sigma.inf_first(t, t)
    assert torch.equal(t, before)


@over_all
def test_float32_is_close_to_float64(sigma):
    t = uniform(-12, 12, 2000).float()
    for function in derivatives(sigma):
        assert function(t).dtype == torch.float32
        torch.testing.assert_close(
            function(t).double(), function(t.double()), rtol=1e-5, atol=2e-6
        )


@over_all
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_works_for_value_and_first(sigma, dtype):
    t = torch.tensor([-200, -20, -1.5, -0.0, 0, 0.5, 3, 20, 200], dtype=dtype)
    for function in (sigma.value, sigma.first):
        assert function(t).dtype == dtype
        close = {"rtol": 0.03, "atol": 0.03}
        torch.testing.assert_close(function(t).double(), function(t.double()), **close)


@over_all
def test_huge_arguments_give_no_nan(sigma):
    t = torch.tensor([-1e300, -1e160, -1e20, 1e20, 1e160, 1e300], dtype=torch.float64)
    for function, bound in zip(derivatives(sigma), errors(sigma), strict=True):
        assert not torch.isnan(function(t)).any()
        assert not torch.isnan(bound(t)).any()


def test_symmetries():
    t = uniform(0, 9, 500)
    for name in ("tanh", "erf", "sin"):
        for order, function in enumerate(derivatives(ACTIVATIONS[name])):
            assert torch.equal(function(-t), -((-1) ** order) * function(t))
    # For the others σ(t) + σ(-t) is even, t·tanh(t/2) and the like: so is σ''.
    for name in ("softplus", "gelu", "silu", "quadratic"):
        sigma = ACTIVATIONS[name]
        assert torch.equal(sigma.second(-t), sigma.second(t))
        assert torch.equal(sigma.third(-t), -sigma.third(t))
        torch.testing.assert_close(sigma.value(t) + 0, sigma.value(-t) + odd(name, t))
    sigmoid = ACTIVATIONS["sigmoid"]
    assert torch.equal(sigmoid.first(-t), sigmoid.first(t))
    assert torch.equal(sigmoid.second(-t), -sigmoid.second(t))
    torch.testing.assert_close(
        sigmoid.value(t) + sigmoid.value(-t), torch.ones(500).double()
    )


def odd(name: str, t: Tensor) -> Tensor:
    """σ(t) - σ(-t)."""
    return torch.zeros_like(t) if name == "quadratic" else t


@over_smooth
def test_homogeneity(sigma):
    t, scale = uniform(-3, 3, 50), 2.5
    degree = sigma.homogeneous_degree
    if degree is None:
        assert not torch.allclose(sigma.value(scale * t), scale * sigma.value(t))
    else:
        torch.testing.assert_close(
            sigma.value(scale * t), scale**degree * sigma.value(t)
        )


# Ranges on intervals.


@over_curved
def test_turning_points_and_their_values(sigma):
    for order, shape in enumerate(sigma._shapes, start=1):
        for location, value in shape.turns:
            # The next derivative changes sign within 1e-15: the turn is there.
            step = arb(4e-16) * max(abs(location), 1)
            left = exact(sigma.name, arb(location) - step, 5)[order + 1]
            right = exact(sigma.name, arb(location) + step, 5)[order + 1]
            assert left * right < 0
            true = exact(sigma.name, arb(location))[order]
            assert abs(true - value) <= 2 * 2.0**-53 * abs(value)


@over_curved
def test_derivatives_are_monotone_between_turning_points(sigma):
    """Arb proves it on [-25, 0]: beyond, the leading exponential decides the signs.

    The derivatives are even or odd, but for a constant, and so are the tables.
    """
    ctx.prec = 120
    for order, shape in enumerate(sigma._shapes, start=1):
        turns = [location for location, _ in shape.turns]
        if shape.period:
            turns = [at + k * shape.period for at in turns for k in range(-5, 6)]
        pending = [(k / 4, (k + 1) / 4) for k in range(-100, 0)]
        while pending:
            left, right = pending.pop()
            ball = arb((left + right) / 2, (right - left) / 2 + 1e-9)
            slope, bend = exact(sigma.name, ball, 6)[order + 1 : order + 3]
            holds_turn = any(left - 1e-9 <= at <= right + 1e-9 for at in turns)
            # No zero of the next derivative, or a single one, the known turn.
            if slope != 0 or (holds_turn and bend != 0):
                continue
            assert right - left > 1e-8, (sigma.name, order, left)
            middle = (left + right) / 2
            pending += [(left, middle), (middle, right)]


@pytest.mark.parametrize(
    ("name", "second", "third"),
    [
        ("softplus", 1 / 4, 1 / (6 * 3**0.5)),
        ("sigmoid", 1 / (6 * 3**0.5), 1 / 8),
        ("tanh", 4 / (3 * 3**0.5), 2),
        ("erf", 0.967883, 4 / math.pi**0.5),
        ("gelu", 0.797885, 0.778770),
        ("silu", 1 / 2, 0.308182),
        ("sin", 1, 1),
        ("quadratic", 1, 0),
        ("relu", INFINITY, INFINITY),
    ],
)
def test_the_table_of_suprema(name, second, third):
    sigma = ACTIVATIONS[name]
    line = torch.tensor(-INFINITY).double(), torch.tensor(INFINITY).double()
    assert sigma.sup_abs_second(*line).item() == pytest.approx(second, rel=5e-6)
    assert sigma.sup_abs_third(*line).item() == pytest.approx(third, rel=5e-6)


@pytest.mark.parametrize(
    ("name", "order", "location", "value"),
    [
        ("sigmoid", 3, math.log(5 + 2 * 6**0.5), 1 / 24),
        ("tanh", 3, math.atanh((2 / 3) ** 0.5), 2 / 3),
        ("tanh", 2, 0.6584789485, 4 / (3 * 3**0.5)),
        ("erf", 3, 1.5**0.5, 1.007102),
        ("gelu", 2, 2, 0.107982),
        ("gelu", 3, 0.7922869914, 0.778770),
        ("gelu", 3, 2.524337799, 0.098742),
        ("silu", 2, 3.435840994, 0.0369144),
        ("silu", 3, 1.031958242, 0.308182),
        ("silu", 3, 4.429235101, 0.0138623),
    ],
)
def test_the_local_extrema_of_the_table(name, order, location, value):
    sigma = ACTIVATIONS[name]
    supremum = sigma.sup_abs_second if order == 2 else sigma.sup_abs_third
    for centre in (location, -location):
        ends = torch.tensor([centre - 0.1, centre + 0.1]).double()
        assert supremum(*ends).item() == pytest.approx(value, rel=5e-6)


def random_intervals(count: int, seed: int) -> tuple[Tensor, Tensor]:
    centre = uniform(-7, 7, count, seed)
    half = 10 ** uniform(-4, 0.1, count, seed + 1)
    return centre - half, centre + half


@over_smooth
@pytest.mark.parametrize("seed", [10, 20])
def test_ranges_enclose_and_are_tight(sigma, seed):
    lower, upper = random_intervals(150, seed)
    grid = lower + (upper - lower) * torch.linspace(0, 1, 4001).double()[:, None]
    grid = torch.minimum(torch.maximum(grid, lower), upper)
    bounds = [
        (sigma.inf_first, sigma.sup_first, sigma.sup_abs_first),
        (sigma.inf_second, sigma.sup_second, sigma.sup_abs_second),
        (None, None, sigma.sup_abs_third),
    ]
    for order, (infimum, supremum, magnitude) in enumerate(bounds, start=1):
        values = derivatives(sigma)[order](grid)
        error = errors(sigma)[order](grid)
        slack = 1e-6 * values.abs().amax(0) + 1e-15
        over = magnitude(lower, upper)
        assert (over >= (values.abs() - error).amax(0)).all()
        assert (over <= values.abs().amax(0) + slack).all()
        if supremum is None:
            continue
        high, low = supremum(lower, upper), infimum(lower, upper)
        assert (high >= (values - error).amax(0)).all()
        assert (low <= (values + error).amin(0)).all()
        assert (high <= values.amax(0) + slack).all()
        assert (low >= values.amin(0) - slack).all()


@over_smooth
def test_ranges_on_single_points(sigma):
    t = torch.cat([uniform(-30, 30, 1000), 10 ** uniform(-300, 2, 300)])
    second, error = sigma.second(t), sigma.second_error(t)
    low, high = sigma.inf_second(t, t), sigma.sup_second(t, t)
    assert (low <= second + error).all()
    assert (high >= second - error).all()
    torch.testing.assert_close(high, second, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(low, second, rtol=1e-12, atol=1e-14)
    size = sigma.third(t).abs() - sigma.third_error(t)
    assert (sigma.sup_abs_third(t, t) >= size).all()


@over_smooth
def test_ranges_contain_arb_at_the_ends_of_tail_intervals(sigma):
    lower = uniform(-750, 749, 100, seed=7)
    upper = lower + uniform(0, 1, 100, seed=8)
    high, low = sigma.sup_second(lower, upper), sigma.inf_second(lower, upper)
    for row in range(100):
        ctx.prec = 3000
        for end in (lower[row].item(), upper[row].item()):
            true = exact(sigma.name, arb(end))[2]
            assert true <= high[row].item()
            assert true >= low[row].item()


@over_smooth
def test_ranges_on_unbounded_intervals(sigma):
    ends = torch.tensor([-INFINITY, -3.0, 3.0, INFINITY], dtype=torch.float64)
    far = torch.tensor([-60.0, -3.0, 3.0, 60.0], dtype=torch.float64)
    for i, j in [(0, 1), (0, 2), (1, 3), (2, 3), (0, 3)]:
        for bound in (sigma.sup_second, sigma.inf_second, sigma.sup_abs_third):
            value, nearly = bound(ends[i], ends[j]), bound(far[i], far[j])
            torch.testing.assert_close(value, nearly, rtol=1e-12, atol=1e-15)
    if sigma.name == "quadratic":
        assert sigma.sup_first(ends[0], ends[3]).item() == INFINITY
        assert sigma.inf_first(ends[0], ends[1]).item() == -INFINITY


@over_all
def test_ranges_pass_nan_on_and_return_float64(sigma):
    nan, one = torch.tensor([math.nan, -1.0, math.nan]), torch.tensor([1, math.nan, 1])
    for name in ("abs_first", "first", "abs_second", "second", "abs_third"):
        result = getattr(sigma, f"sup_{name}")(nan, one)
        assert result.isnan().tolist() == [True, True, True]
        assert result.dtype == torch.float64
    assert sigma.inf_second(nan, one).isnan().all()
    assert sigma.inf_first(-one, nan).isnan().all()


def test_sine_turns_are_found_far_out_and_given_up_beyond():
    sine = ACTIVATIONS["sin"]
    lower = torch.tensor([1e7, 1e7, 1e12, 1e300]).double()
    upper = lower + torch.tensor([7.0, 0.0, 1.0, 0.0]).double()
    high = sine.sup_second(lower, upper)
    assert high[1].item() == pytest.approx(-math.sin(1e7), rel=1e-8)
    for row in (0, 2, 3):
        assert high[row].item() == pytest.approx(1, rel=1e-15)
    # [0.1, 3.0] holds π/2 but no point where -sin reaches its supremum 1.
    ends = torch.tensor([0.1, 3.0], dtype=torch.float64)
    assert sine.sup_second(*ends).item() == pytest.approx(-math.sin(0.1), rel=1e-14)
    assert sine.inf_second(*ends).item() == pytest.approx(-1, rel=1e-15)


def test_relu_ranges():
    relu = activation("relu")
    lower = torch.tensor([-2.0, -1.0, 0.0, 1.0, -1.0]).double()
    upper = torch.tensor([-1.0, 0.0, 1.0, 2.0, 1.0]).double()
    kinks = [0, INFINITY, INFINITY, 0, INFINITY]
    assert relu.sup_second(lower, upper).tolist() == kinks
    assert relu.sup_abs_second(lower, upper).tolist() == kinks
    assert relu.sup_abs_third(lower, upper).tolist() == kinks
    assert relu.inf_second(lower, upper).tolist() == [0] * 5
    assert relu.sup_first(lower, upper).tolist() == [0, 1, 1, 1, 1]
    assert relu.inf_first(lower, upper).tolist() == [0, 0, 0, 1, 0]
    assert relu.first(torch.tensor([-1.0, -0.0, 0.0, 1.0])).tolist() == [0, 0, 0, 1]


# The registry.


@over_all
def test_activations_are_found_by_name_and_travel(sigma):
    assert activation(sigma.name) is sigma
    assert activation(sigma) is sigma
    assert pickle.loads(pickle.dumps(sigma)) == sigma
    assert len({sigma, type(sigma)()}) == 1


@pytest.mark.parametrize("wrong", ["swish", 3])
def test_unknown_activation(wrong):
    with pytest.raises(
        UserError, match=r"activation must be one of softplus, .*, relu"
    ):
        activation(wrong)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_what_ascent_uses_is_the_same_function(name, dtype):
    """`forward` and `value_and_first` are new tensors, and σ and σ' to rounding."""
    sigma = activation(name)
    t = torch.cat([torch.linspace(-60, 60, 2001), torch.tensor([-800.0, 800.0])])
    t = t.to(dtype)
    given, unit = t.clone(), torch.finfo(dtype).eps
    value, first = sigma.value_and_first(t)
    assert torch.equal(value, sigma.forward(t))
    # Softplus and GELU lose digits of tiny values differently, none of the large ones.
    assert torch.allclose(value, sigma.value(t), 256 * unit, 16 * unit)
    assert torch.allclose(first, sigma.first(t), 4 * unit, 0.0)
    value.zero_()
    first.zero_()
    assert torch.equal(t, given)
