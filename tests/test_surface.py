"""Enclosures of two-layer networks, and bounds over intervals, against Arb."""

import pytest
import torch
from flint import arb

import summiteer as sm
from exact import Network, dot, exact, inside, length, reals
from fakes import seeded
from summiteer.networks.activations import ACTIVATIONS
from summiteer.networks.activations.logistic import Tanh
from summiteer.optimality.majorant import tangent_guess, tangent_majorant
from summiteer.optimality.rounding import Enclosure
from summiteer.optimality.scalar_form import margin_surfaces, scalar_form
from summiteer.optimality.surface import (
    Place,
    Surface,
    gradient_ceiling,
    gradient_floor,
    unit,
)

pytestmark = pytest.mark.usefixtures("arb_precision")

F64 = torch.float64
SMOOTH = [each for each in ACTIVATIONS.values() if each.smooth]
over_smooth = pytest.mark.parametrize("sigma", SMOOTH, ids=lambda sigma: sigma.name)
ROWS, DIM, WIDTH = 3, 4, 6
#: The scales of x and w: pre-activations in the bulk, and far out in the tails.
SCALES = (0.1, 1.0, 20.0)


def network(sigma, scale=1.0, outputs=None):
    heavy = (WIDTH,) if outputs is None else (outputs, WIDTH)
    shape = () if outputs is None else (outputs,)
    return sm.TwoLayerNetwork(
        scale * seeded(WIDTH, DIM, seed=1),
        seeded(*heavy, seed=2),
        seeded(WIDTH, seed=3),
        seeded(*shape, seed=4) if shape else 0.3,
        activation=sigma,
    )


def surface_of(net, inputs):
    output = Enclosure.exact(net.output_weights.detach().expand(len(inputs), -1))
    shift = Enclosure.exact(net.output_bias.detach().expand(len(inputs)))
    return Surface.of(net, inputs, output, shift)


def truth(net, inputs, row):
    """The same function in Arb."""
    return Network(
        net.activation.name,
        reals(net.hidden_weights.detach()),
        reals(net.hidden_bias.detach()),
        reals(inputs[row]),
        reals(net.output_weights.detach()),
        reals(net.output_bias.detach()),
    )


def shifted(point, slack, seed):
    """A real point within `slack` of a float one: nearly at that distance."""
    way = reals(seeded(len(point), seed=seed))
    size = length(way) * (1 + arb(2) ** -60)
    # The middles: numbers, not balls of numbers.
    share = arb(float(slack)) / size
    return [(p + share * w).mid() for p, w in zip(point, way, strict=True)]


def all_inside(found, row, numbers):
    pairs = zip(found.middle[row], found.radius[row], numbers, strict=True)
    return all(inside(*each) for each in pairs)


@over_smooth
@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("size", [0.0, 1e-12, 1e-3])
def test_values_and_derivatives_around_a_point(sigma, scale, size):
    net, inputs = network(sigma, scale), scale * seeded(ROWS, DIM, seed=5)
    points = seeded(ROWS, DIM, seed=6)
    slack = torch.full((ROWS,), size, dtype=F64)
    place = surface_of(net, inputs).at(points, slack)
    vectors = seeded(ROWS, DIM, seed=7)
    bent = place.bent(Enclosure.exact(vectors))
    for row in range(ROWS):
        known, middle = truth(net, inputs, row), reals(points[row])
        for real in (middle, *(shifted(middle, size, seed) for seed in (8, 9))):
            assert all_inside(place.inner, row, known.inner(real))
            value = known.value(real)
            assert inside(place.value.middle[row], place.value.radius[row], value)
            assert all_inside(place.gradient, row, known.gradient(real))
            assert all_inside(place.bend, row, known.terms(real, 2))
            assert all_inside(bent, row, known.bent(real, reals(vectors[row])))
    if not size:
        # Rounding of sums of magnitudes below 10·m·d·scale⁴.
        room = 1e-13 * WIDTH * DIM * max(scale, 1.0) ** 4
        for found in (place.value, place.gradient, place.bend, bent):
            assert float(found.radius.max()) <= room


class Coarse(Tanh):
    """Tanh to six digits, as it says itself."""

    def value(self, t):
        return super().value(t) * (1 + 1e-6)

    def first(self, t):
        return super().first(t) * (1 - 1e-6)

    def second(self, t):
        return super().second(t) + 1e-6

    def _error(self, order, t, value=None):
        return super()._error(order, t, value) + 2e-6


def test_the_error_of_the_activation_is_carried():
    sigma, inputs = Coarse(), seeded(ROWS, DIM, seed=5)
    place = surface_of(network(sigma), inputs).at(torch.zeros_like(inputs))
    for row in range(ROWS):
        known, real = truth(network(sigma), inputs, row), [arb(0)] * DIM
        value = known.value(real)
        assert inside(place.value.middle[row], place.value.radius[row], value)
        assert all_inside(place.gradient, row, known.gradient(real))
        assert all_inside(place.bend, row, known.terms(real, 2))
    # And six digits is what is left.
    assert float(place.value.radius.min()) > 1e-7


@over_smooth
def test_bounds_of_derivatives_over_an_interval(sigma):
    net, inputs = network(sigma), seeded(ROWS, DIM, seed=5)
    surface = surface_of(net, inputs)
    radius = torch.tensor([0.01, 0.3, 2.0], dtype=F64)
    interval = surface.within(radius)
    second, upward = surface.second(interval), surface.upward(interval)
    steep, wiggle = surface.steep(interval), surface.wiggle(interval)
    units = unit(seeded(ROWS, DIM, seed=10))
    sloped = surface.sloped_range(interval)
    floor = gradient_floor(surface.at(torch.zeros_like(inputs)), sloped, units)
    highest = gradient_ceiling(surface, sloped)
    for row in range(ROWS):
        known, centre = truth(net, inputs, row), [arb(0)] * DIM
        along = reals(units[row])
        assert length(along) <= 1
        for seed in range(20):
            share = (1.0, 0.99, 0.5)[seed % 3]
            real = shifted(centre, share * radius[row], seed)
            assert all_inside(interval, row, known.inner(real))
            bends, thirds = known.terms(real, 2), known.terms(real, 3)
            assert all_inside(second, row, bends)
            for j in range(WIDTH):
                assert bends[j] <= float(upward[row, j])
                assert abs(bends[j]) <= float(steep[row, j])
                assert abs(thirds[j]) <= float(wiggle[row, j])
            gradient = known.gradient(real)
            assert dot(along, gradient) >= float(floor[row])
            assert length(gradient) <= float(highest[row])


@over_smooth
def test_the_gradient_floor_is_met_on_a_point(sigma):
    """Nothing is lost where the interval is a point: the floor is vᵀ∇F there."""
    net, inputs = network(sigma), seeded(ROWS, DIM, seed=5)
    place = surface_of(net, inputs).at(torch.zeros_like(inputs))
    units = unit(place.gradient.middle)
    floor = gradient_floor(place, place.surface.sloped_range(place.inner), units)
    steepness = place.gradient.middle.norm(dim=1)
    # `unit` shortens by 2⁻³⁰.
    assert bool((floor >= steepness * (1 - 1e-8) - 1e-12).all())
    assert bool((floor <= steepness).all())


def tangent_place(sigma, offset):
    """h_p at `offset` half-widths from the middle of I_j, with a doubtful a."""
    middle = 3.0 * seeded(ROWS, WIDTH, seed=11)
    half = torch.tensor([[0.01], [0.7], [6.0]], dtype=F64).expand(ROWS, WIDTH)
    interval = Enclosure(middle, half)
    a = Enclosure(seeded(ROWS, WIDTH, seed=12), torch.full_like(middle, 1e-3))
    net, inputs = network(sigma), torch.zeros(ROWS, DIM, dtype=F64)
    shift = Enclosure.exact(torch.zeros(ROWS, dtype=F64))
    surface = Surface.of(net, inputs, a, shift)
    inner = Enclosure(middle + offset * half, torch.full_like(middle, 1e-6))
    return Place(surface, inputs, inner), interval


def tangent_excess(name, a, at, h, kappa):
    """a[σ(h) - σ(p) - σ'(p)(h - p)] - ½κ(h - p)², in Arb."""
    base, slope = exact(name, at, 2)
    rise = exact(name, h, 1)[0] - base - slope * (h - at)
    return a * rise - arb(float(kappa)) * (h - at) ** 2 / 2


#: Shares of an interval's half-width: both ends, its middle, dense between.
SPREAD = torch.cat([torch.linspace(-1, 1, 81, dtype=F64), torch.tensor([1e-9, 1e-5])])


@over_smooth
@pytest.mark.parametrize("offset", [0.0, 0.31, 1.0, -1.7])
def test_the_tangent_majorant_is_one(sigma, offset):
    """At every h of I_j and every h_p and a within their radii."""
    place, interval = tangent_place(sigma, offset)
    kappa = tangent_majorant(place, interval)
    output, inner = place.surface.output, place.inner
    for row in range(ROWS):
        for j in range(WIDTH):
            ends = [
                (arb(float(each.middle[row, j])), arb(float(each.radius[row, j])))
                for each in (output, inner, interval)
            ]
            (a, da), (at, dat), (middle, half) = ends
            for k, share in enumerate(SPREAD.tolist()):
                side = (-1, 0, 1)[k % 3]
                h = middle + arb(share) * half
                excess = tangent_excess(
                    sigma.name, a - side * da, at + side * dat, h, kappa[row, j]
                )
                # At h = p both sides are 0.
                assert excess <= 0 or abs(h - at - side * dat) < 1e-80


@over_smooth
def test_the_tangent_majorant_is_worth_its_price(sigma):
    """Never above the curvature's supremum, and as low as the quotient allows."""
    for offset in (0.0, 0.31, 1.0):
        place, interval = tangent_place(sigma, offset)
        kappa = tangent_majorant(place, interval)
        assert bool(
            (kappa <= place.surface.upward(interval) * (1 + 1e-12) + 1e-5).all()
        )
        sample = tangent_guess(place, interval)
        # One piece of 64, in which the quotient changes by |a|c3/3 times its length,
        # and the doubt about a, times σ'' < 1.1.
        piece = 2 * interval.radius / 64
        room = 4 * place.surface.wiggle(interval) * (piece + 1e-5) + 1.1e-3
        assert bool((kappa <= sample + room).all())
    wide = 6.0  # the last row's half-width: there the tangent pays
    assert float(interval.radius[-1, 0]) == wide
    if sigma.name != "quadratic":
        upward = place.surface.upward(interval)[-1]
        assert bool((kappa[-1] < 0.9 * upward)[upward > 0].any())


def margin_problem(sigma, objective):
    """Three classes; the label of each row is the least likely class."""
    net, inputs = network(sigma, outputs=3), seeded(ROWS, DIM, seed=5)
    labels = net(inputs).argmin(1).detach()
    return sm.Problem(net, inputs, labels, objective, sm.L2Ball(0.4)), labels


def difference_in_arb(net, inputs, row, left, right):
    known = truth(net, inputs, row)
    weights, bias = known.output, known.shift
    output = [a - b for a, b in zip(weights[left], weights[right], strict=True)]
    shift = bias[left] - bias[right]
    return Network(known.name, known.hidden, known.bias, known.inputs, output, shift)


@over_smooth
def test_margins_are_differences_and_lead_as_far_as_they_say(sigma):
    problem, labels = margin_problem(sigma, sm.Margin())
    points = 0.1 * seeded(ROWS, DIM, seed=6)
    form = scalar_form(problem, points)
    radius, slack = torch.full((ROWS,), 0.4, dtype=F64), torch.zeros(ROWS, dtype=F64)
    lead = form.lead(points, slack, radius)
    surfaces = margin_surfaces(problem.model, problem.inputs, labels)
    largest = torch.stack([each.at(points).value.middle for each in surfaces]).amax(0)
    assert torch.equal(largest, form.surface.at(points).value.middle)
    assert bool((lead > 0).all())
    values = [each.at(points).value for each in (form.surface, *form.rivals)]
    logits = problem.model(problem.inputs + points).detach()
    for row in range(ROWS):
        label, real = int(labels[row]), reals(points[row])
        others = sorted(set(range(3)) - {label}, key=lambda k: -float(logits[row, k]))
        exacts = [
            difference_in_arb(problem.model, problem.inputs, row, k, label)
            for k in others
        ]
        for found, known in zip(values, exacts, strict=True):
            assert inside(found.middle[row], found.radius[row], known.value(real))
        for seed in range(20):
            beside = shifted(real, min(float(lead[row]), 0.3), seed)
            assert exacts[0].value(beside) > exacts[1].value(beside)


@over_smooth
def test_a_squared_error_leads_on_its_side_of_the_target(sigma):
    net, inputs = network(sigma), seeded(ROWS, DIM, seed=5)
    targets = net(inputs).detach() + torch.tensor([0.1, -0.2, 1e-9], dtype=F64)
    problem = sm.Problem(net, inputs, targets, sm.Quadratic(), sm.L2Ball(1.0))
    points = torch.zeros(ROWS, DIM, dtype=F64)
    form = scalar_form(problem, points)
    assert form.mirrored
    lead = form.lead(points, points[:, 0], torch.ones(ROWS, dtype=F64))
    value = form.surface.at(points).value
    for row in range(ROWS):
        known, target = truth(net, inputs, row), arb(float(targets[row]))
        real, sign = reals(points[row]), (-1, 1, -1)[row]
        distance = sign * (known.value(real) - target)
        assert distance > 0
        assert inside(value.middle[row], value.radius[row], distance)
        assert 0 < float(lead[row]) < 1
        for seed in range(20):
            beside = shifted(real, float(lead[row]), seed)
            assert sign * (known.value(beside) - target) > 0


LINKS = {
    "identity": (sm.Margin, lambda t: t),
    "square": (sm.Quadratic, lambda t: t * t / 2 if t > 0 else arb(0)),
    "softplus": (sm.Logistic, lambda t: t.exp().log1p()),
}


@pytest.mark.parametrize("kind", LINKS)
def test_links_are_bounded_on_both_sides(kind):
    objective, function = LINKS[kind]
    net, inputs = network("tanh"), seeded(1, DIM, seed=5)
    target = torch.ones(1, dtype=F64)
    problem = sm.Problem(net, inputs, target, objective(), sm.L2Ball(1.0))
    link = scalar_form(problem, torch.zeros_like(inputs)).link
    lows = torch.tensor([-800.0, -30.0, -1e-3, 0.0, 1e-12, 0.3, 4.0, 900.0], dtype=F64)
    for gap in (0.0, 1e-13, 1e-3, 2.0):
        highs = lows + gap
        top, rise = link.ceiling(highs), link.rise(lows, highs)
        climb = link.climb(lows, torch.full_like(lows, gap))
        for i, low in enumerate(reals(lows)):
            high = arb(float(highs[i]))
            assert function(high) <= float(top[i])
            assert float(climb[i]) >= 0
            if gap:  # else two balls of Arb would be compared with 0
                assert function(high) - function(low) <= float(rise[i])
                assert function(low + gap) - function(low) >= float(climb[i])
    # Nothing but what underflow may add.
    assert bool((link.rise(highs, lows) <= 1e-290).all())
    # From the bottom of ½t² there is something to be gained, if at second order.
    if kind == "square":
        assert float(climb[3]) >= 0.249 * gap**2
