"""Piecewise-linear networks enclosed, against rational numbers (mathematics.md §9).

Every operation is evaluated by its definition in `rational.py`: what is enclosed is the
exact function, so no tolerance is needed anywhere but where tightness is asked for.
"""

from fractions import Fraction

import numpy as np
import pytest
import torch

from rational import F64, Program, evaluated, gradient, inside, rational
from summiteer.networks.affine import (
    Dense,
    Elementwise,
    Normalisation,
)
from summiteer.optimality.pieces import around, backward, forward, reached
from summiteer.optimality.rounding import Enclosure

ROWS = 2


def pictures(seed=0, scale=1.0):
    """Every kind of step once, on images."""
    made = Program((2, 4, 5), seed)
    made.convolution(4, (2, 2), groups=2, padding=(1, 0), dilation=(1, 2))
    made.normalisation(scale)
    made.rectifier(0.1)
    made.pool((2, 2), (1, 2), padding=(1, 1))
    made.convolution(2, (2, 1), stride=(2, 1))
    made.rectifier(-1.0)
    made.average((2, 2), (1, 1), padding=(1, 0))
    flat = made.flatten()
    made.elementwise(scale)
    left = made.dense(5)
    right = made.dense(5, flat)
    made.add(left, right)
    made.rectifier()
    made.dense(3)
    return made.network


def flat(seed=0, scale=1.0):
    """A residual network on vectors, with LeakyReLU, |·| and ReLU."""
    made = Program((4,), seed)
    made.dense(6, scale=scale)
    first = made.rectifier(0.1)
    made.dense(6, scale=1 / scale)
    made.normalisation()
    made.rectifier(-1.0)
    made.add(first, len(made.steps))
    made.dense(5)
    made.rectifier()
    made.dense(2)
    return made.network


def pooled(seed=0, scale=1.0):
    """Overlapping windows, some places in the padding, on rectified values."""
    made = Program((1, 3, 4), seed)
    made.convolution(2, (3, 3), padding=(1, 1))
    made.rectifier()
    made.pool((2, 3), (1, 1), padding=(1, 1))
    made.pool((2, 2), (2, 2), dilation=(1, 2))
    made.flatten()
    made.elementwise(scale)
    made.dense(2)
    return made.network


NETWORKS = {"pictures": pictures, "flat": flat, "pooled": pooled}
#: Of whole layers, undone later or not: nothing of them may be lost or overflow.
SCALES = (1.0, 1e-150, 1e150)


def neighbourhood(network, seed, size, euclid):
    """(x + p, r, R): boxes of which some entries are fixed."""
    generator = torch.Generator().manual_seed(seed)
    shape = (ROWS, *network.shape)
    middle = torch.randn(shape, generator=generator, dtype=F64)
    vary = size * torch.rand(shape, generator=generator, dtype=F64)
    vary = torch.where(vary < 0.2 * size, 0.0, vary)
    return Enclosure.exact(middle), vary, torch.full((ROWS,), euclid, dtype=F64)


def within(point, vary, euclid, generator, count):
    """Rational points of one N: corners and faces of the box, and of the sphere."""
    points = []
    for number in range(count):
        step = vary * torch.randn(vary.shape, generator=generator, dtype=F64)
        if number % 2:
            step = vary * step.sign()
        if number % 3 == 2:
            step = step * (torch.rand(step.shape, generator=generator) < 0.3)
        step = step.clamp(-vary, vary)
        length = float(step.norm())
        if length > float(euclid):
            step = step * (float(euclid) / length) * (1 - 1e-12)
        exact = rational(step)
        assert (abs(exact) <= rational(vary)).all()
        assert (exact * exact).sum() <= Fraction(float(euclid)) ** 2
        points.append(rational(point) + exact)
    return points


def hull(seen, row, generator):
    """Random shares of the right side, any that an open kink may have."""
    slopes = {}
    for number, kink in seen.kinks.items():
        side = torch.tensor(kink.slope, dtype=F64)
        low = torch.where(kink.right, 1.0, side)[row]
        high = torch.where(kink.left, side, 1.0)[row]
        part = torch.rand(low.shape, generator=generator, dtype=F64)
        part = torch.where(part < 0.3, 0.0, torch.where(part > 0.7, 1.0, part))
        slopes[number] = rational(low + (high - low) * part)
        assert (slopes[number] <= 1).all()
    return slopes


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("name", NETWORKS)
def test_values_at_the_point_are_enclosed_and_known_to_rounding(name, scale):
    network = NETWORKS[name](scale=scale)
    inputs, vary, euclid = neighbourhood(network, 1, 0.0, 0.0)
    wide = torch.rand(inputs.middle.shape, dtype=F64, generator=torch.manual_seed(0))
    inputs = Enclosure(inputs.middle, 1e-9 * wide)
    for radius in (1.0, 0.0):
        given = Enclosure(inputs.middle, radius * inputs.radius)
        seen = around(network, given, vary, euclid)
        for row in range(ROWS):
            end = rational(given.middle[row]) - rational(given.radius[row])
            values, heights = evaluated(network, end)
            assert inside(seen.outputs, values[-1], row)
            for number, kink in seen.kinks.items():
                assert inside(kink.centre, heights[number], row)
    # Without a radius of the inputs what is left is rounding: γ_n per layer.
    if scale == 1.0:
        assert float(seen.outputs.radius.max()) < 1e-12


def test_cancelling_weights_of_wild_scales_are_enclosed():
    made = Program((3,))
    big = torch.tensor([[1e150, -1e150, 1e-150], [1.0, 1e-150, -1e150]], dtype=F64)
    bias = torch.tensor([1e-3, 1e150], dtype=F64)
    made.append(Dense(big, bias), (0,), (2,))
    made.rectifier(0.1)
    made.append(
        Dense(big[:, :2].T.contiguous() * 1e-150, bias.new_zeros(2)), (2,), (2,)
    )
    made.rectifier(-1.0)
    network = made.network
    inputs = torch.tensor([[0.1, 0.1 + 1e-17, 0.3], [1.0, 1.0, 1.0]], dtype=F64)
    zero = torch.zeros_like(inputs)
    seen = around(network, Enclosure.exact(inputs), zero, zero[:, 0])
    for row in range(ROWS):
        values, _ = evaluated(network, rational(inputs[row]))
        assert inside(seen.outputs, values[-1], row)


@pytest.mark.parametrize("kind", ["elementwise", "normalisation"])
def test_a_scale_that_underflows_is_enclosed(kind):
    """1e-170/1e150 has few digits left, and 1e-200/1e150 none."""
    made = Program((2,))
    small = torch.tensor([1e-170, 1e-200], dtype=F64)
    zero, big = torch.zeros(2, dtype=F64), torch.full((2,), 1e150, dtype=F64)
    if kind == "elementwise":
        made.append(Elementwise(small, big, zero), (0,), (2,))
    else:
        square = big * big
        made.append(Normalisation(zero, square, small, zero, 1e-5, 0), (0,), (2,))
    inputs = torch.tensor([[1e300, 1e300]], dtype=F64)
    vary = torch.full((1, 2), 1e290, dtype=F64)
    seen = around(made.network, Enclosure.exact(inputs), vary, 2 * vary[:, 0])
    truth = evaluated(made.network, rational(inputs[0]))[0][-1]
    assert inside(seen.outputs, truth, 0)
    moved = evaluated(made.network, rational(inputs[0] + vary[0]))[0][-1]
    assert (abs(moved - truth) <= rational(seen.vary[0])).all()
    form = Enclosure.exact(torch.full((1, 2), 1e300, dtype=F64))
    back = backward(made.network, {1: form}, {}).gradient
    assert inside(
        back,
        gradient(made.network, np.diag(rational(form.middle[0])).diagonal(), {}),
        0,
    )


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("size", "euclid"), [(1e-9, 1e-9), (0.02, 1.0), (1.0, 0.05), (0.5, 0.6)]
)
@pytest.mark.parametrize("name", NETWORKS)
def test_nothing_on_a_neighbourhood_leaves_its_bounds(name, size, euclid, wide):
    """With `wide` for every choice of slopes of open kinks, else for the network."""
    network = NETWORKS[name](seed=2)
    inputs, vary, radius = neighbourhood(network, 3, size, euclid)
    seen = around(network, inputs, vary, radius, chosen=wide)
    generator = torch.Generator().manual_seed(4)
    for row in range(ROWS):
        here = evaluated(network, rational(inputs.middle[row]))[0][-1]
        room = rational(seen.vary[row])
        for point in within(inputs.middle[row], vary[row], radius[row], generator, 5):
            slopes = hull(seen, row, generator) if wide else None
            values, heights = evaluated(network, point, slopes)
            assert (abs(values[-1] - here) <= room).all()
            assert inside(seen.everywhere, values[-1], row)
            for number, kink in seen.kinks.items():
                height = heights[number]
                assert inside(kink.height, height, row)
                assert (height[kink.right[row].numpy()] > 0).all()
                absent = getattr(network.steps[number].operation, "absent", None)
                left = kink.left[row]
                left = left if absent is None else left & ~absent
                assert (height[left.numpy()] < 0).all()
    opened = int(seen.open.sum())
    assert opened == 0 if size == 1e-9 and name == "flat" else opened >= 0
    if size >= 0.5:
        assert opened > 0


def test_one_layer_moves_by_exactly_what_it_may():
    """min(|W|r, R·‖w‖): both are reached, so nothing smaller would be true."""
    made = Program((5,), 7)
    made.dense(4)
    inputs, vary, _ = neighbourhood(made.network, 0, 1.0, 1.0)
    weight = made.steps[0].operation.weight
    for euclid in (1e-3, 0.4, 10.0):
        radius = torch.full((ROWS,), euclid, dtype=F64)
        seen = around(made.network, inputs, vary, radius)
        by_box = vary @ weight.abs().T
        reach = torch.minimum(radius, vary.norm(dim=1))
        by_ball = reach[:, None] * weight.norm(dim=1)
        assert torch.allclose(seen.vary, torch.minimum(by_box, by_ball), rtol=1e-12)


def test_an_affine_image_of_a_ball_is_bounded_by_the_norm_of_its_map():
    """A deep network without kinks: within the product of the layers' norms."""
    made = Program((6,), 1)
    for _ in range(3):
        made.dense(6)
    zero = torch.zeros(1, 6, dtype=F64)
    radius = torch.tensor([1e-3], dtype=F64)
    seen = around(made.network, Enclosure.exact(zero), zero + 1e-3, radius)
    matrices = [step.operation.weight for step in made.steps]
    product = torch.linalg.multi_dot(matrices[::-1])
    least = 1e-3 * product.norm(dim=1)
    norms = [float(torch.linalg.matrix_norm(m, 2)) for m in matrices[:-1]]
    most = 1e-3 * norms[0] * norms[1] * matrices[-1].norm(dim=1)
    assert bool((seen.vary >= least).all())
    # 6^(1/32) per layer is what four squarings leave.
    assert bool((seen.vary <= 1.2 * most).all())


@pytest.mark.parametrize("size", [1e-9, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_with_any_slopes_of_open_kinks_are_enclosed(name, size):
    network = NETWORKS[name](seed=5)
    inputs, vary, radius = neighbourhood(network, 6, size, size)
    seen = around(network, inputs, vary, radius)
    generator = torch.Generator().manual_seed(7)
    form = torch.randn(seen.vary.shape, generator=generator, dtype=F64)
    wide = Enclosure(form, 1e-10 * form.abs())
    back = backward(network, {network.last: wide}, seen.slopes())
    for row in range(ROWS):
        for sign in (-1, 1):
            slopes = hull(seen, row, generator)
            weights = rational(form[row]) + sign * rational(wide.radius[row])
            truth = gradient(network, weights, slopes)
            assert inside(back.gradient, truth, row)
    if size == 1e-9 and not bool(seen.open.any()):
        assert float(back.gradient.radius.max()) < 1e-8


def test_the_gradient_is_that_of_autograd_where_no_kink_is_near():
    decided = 0
    for build in NETWORKS.values():
        network = build(seed=9)
        inputs, vary, radius = neighbourhood(network, 10, 1e-12, 1e-12)
        seen = around(network, inputs, vary, radius)
        x = inputs.middle.clone().requires_grad_()
        outputs = network.evaluate(x)
        form = torch.ones_like(outputs)
        (expected,) = torch.autograd.grad(outputs.sum(), x)
        back = backward(
            network, {network.last: Enclosure.exact(form)}, seen.slopes()
        ).gradient
        sure = seen.open == 0
        gap = (back.middle - expected).abs()
        assert bool((gap <= back.radius + 1e-12)[sure].all())
        assert bool((back.radius < 1e-10)[sure].all())
        decided += int(sure.sum())
    assert decided >= 2


@pytest.mark.parametrize("size", [1e-9, 0.3])
@pytest.mark.parametrize("name", NETWORKS)
def test_forward_is_the_adjoint_of_backward(name, size):
    """The exact derivative along v lies in what forward says and in gᵀv."""
    network = NETWORKS[name](seed=11)
    inputs, vary, radius = neighbourhood(network, 12, size, size)
    seen = around(network, inputs, vary, radius)
    generator = torch.Generator().manual_seed(13)
    way = torch.randn(inputs.middle.shape, generator=generator, dtype=F64)
    along = forward(network, Enclosure.exact(way), seen.slopes())
    for row in range(ROWS):
        slopes = hull(seen, row, generator)
        truth = evaluated(network, rational(way[row]), slopes, affine=False)[0][-1]
        assert inside(along, truth, row)
    chosen = {
        number: Enclosure.exact(
            torch.where(k.right, 1.0, torch.tensor(k.slope, dtype=F64))
        )
        for number, k in seen.kinks.items()
    }
    one = forward(network, Enclosure.exact(way), chosen)
    form = torch.randn(one.middle.shape, generator=generator, dtype=F64)
    back = backward(network, {network.last: Enclosure.exact(form)}, chosen).gradient
    left = Enclosure(one.middle.flatten(1), one.radius.flatten(1)).dot(form.flatten(1))
    right = Enclosure(back.middle.flatten(1), back.radius.flatten(1))
    right = right.dot(way.flatten(1))
    gap = (left.middle - right.middle).abs()
    assert bool((gap <= left.radius + right.radius).all())
    assert float((left.radius + right.radius).max()) < 1e-10


def test_the_derivative_along_a_way_that_no_open_kink_sees_is_sharp():
    """In a gradient an open kink costs its whole weight; along that way nothing."""
    made = Program((2,))
    weight = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=F64)
    made.append(Dense(weight, torch.zeros(2, dtype=F64)), (0,), (2,))
    made.rectifier()
    made.append(Dense(weight.sum(0, keepdim=True), weight[0, :1]), (2,), (1,))
    inputs = torch.tensor([[0.0, 1.0]], dtype=F64)
    vary = torch.full((1, 2), 0.1, dtype=F64)
    seen = around(made.network, Enclosure.exact(inputs), vary, vary[:, 0])
    way = Enclosure.exact(torch.tensor([[0.0, 1.0]], dtype=F64))
    along = forward(made.network, way, seen.slopes())
    assert float(along.lower) > 1 - 1e-12
    form = Enclosure.exact(torch.ones(1, 1, dtype=F64))
    back = backward(made.network, {3: form}, seen.slopes()).gradient
    assert float(back.lower[0, 0]) <= 0 < 1 <= float(back.upper[0, 0])


@pytest.mark.parametrize("name", NETWORKS)
def test_inputs_called_unreachable_never_change_the_output(name):
    network = NETWORKS[name](seed=14)
    inputs, vary, radius = neighbourhood(network, 15, 0.1, 0.2)
    # Most rectified units are dead: their own inputs reach nothing.
    seen = around(network, inputs, vary, radius)
    used = torch.ones_like(seen.vary, dtype=torch.bool)
    used[:, 0] = False
    found, results = reached(network, seen.kinks, used)
    generator = torch.Generator().manual_seed(16)
    for row in range(ROWS):
        mask = found[row].numpy()
        one, two = within(inputs.middle[row], vary[row], radius[row], generator, 2)
        mixed = np.where(mask, one, two)
        ends = [evaluated(network, q)[0][-1][1:] for q in (one, mixed)]
        assert (ends[0] == ends[1]).all()
    assert all(number in results for number in seen.kinks)


def test_dead_units_zero_weights_and_underflow_decide_what_is_reached():
    made = Program((5,))
    weight = torch.zeros(4, 5, dtype=F64)
    weight[0, 0], weight[1, 1], weight[2, 2], weight[3, 3] = 1.0, 1.0, 5e-324, 1.0
    bias = torch.tensor([0.5, -9.0, 1.0, 1.0], dtype=F64)
    made.append(Dense(weight, bias), (0,), (4,))
    made.rectifier()
    # The computed scale 1e-300/1e300 is 0, the real one is not; the last one is.
    factor = torch.tensor([1e-300, 1.0, 1.0, 0.0], dtype=F64)
    divisor = torch.tensor([1e300, 1.0, 1.0, 1.0], dtype=F64)
    made.append(Elementwise(factor, divisor, torch.zeros(4, dtype=F64)), (2,), (4,))
    zero = torch.zeros(1, 5, dtype=F64)
    radius = torch.ones(1, dtype=F64)
    seen = around(made.network, Enclosure.exact(zero), zero + 1.0, radius)
    found, results = reached(
        made.network, seen.kinks, torch.ones(1, 4, dtype=torch.bool)
    )
    assert found.tolist() == [[True, False, True, False, False]]
    assert results[1].tolist() == [[True, True, True, False]]


def test_a_place_of_a_window_that_never_wins_is_not_reached():
    made = Program((1, 1, 2))
    made.pool((1, 2), (1, 2))
    inputs = torch.tensor([[[[1.0, 0.0]]], [[[0.0, 1.0]]], [[[0.0, 0.05]]]], dtype=F64)
    vary = torch.full_like(inputs, 0.1)
    seen = around(made.network, Enclosure.exact(inputs), vary, vary[:, 0, 0, 0])
    used = torch.ones_like(seen.vary, dtype=torch.bool)
    found, _ = reached(made.network, seen.kinks, used)
    assert found.flatten(1).tolist() == [[True, False], [False, True], [True, True]]
