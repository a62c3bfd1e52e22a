"""The real point next to a float one, and first order there, against Arb."""

import pytest
import torch
from flint import arb

import summiteer as sm
from exact import Network, dot, inside, length, reals
from fakes import seeded
from summiteer.optimality.first_order import FirstOrder
from summiteer.optimality.rounding import Enclosure
from summiteer.optimality.stand import faces, limits_of, stand
from summiteer.optimality.surface import Surface
from summiteer.regions import Box, Intersection, L2Ball, LinfBall, Sphere

pytestmark = pytest.mark.usefixtures("arb_precision")

F64 = torch.float64
ROWS, DIM, WIDTH = 5, 4, 7
RADIUS = 0.7
#: Units of rounding of the points' length by which they are moved off the sphere.
ULPS = [-50, -1, 0, 1, 50]


def limits(region):
    like = torch.zeros(ROWS, DIM, dtype=F64)
    found = limits_of(region.bind(like), like)
    assert found is not None
    return found


def near_sphere(ulps=0, seed=0, scale=RADIUS):
    points = seeded(ROWS, DIM, seed=seed)
    points = points / points.norm(dim=1, keepdim=True) * scale
    return points * (1 + ulps * 2.0**-53)


def real_point(stood, row, radius):
    """The point that a stand speaks of: the free part scaled to the sphere, in Arb."""
    point, free = reals(stood.points[row]), stood.free[row].tolist()
    if not bool(stood.curved[row]):
        return point, None
    held = [p for p, loose in zip(point, free, strict=True) if not loose]
    left = (arb(radius) ** 2 - dot(held, held)).sqrt()
    own = length([p for p, loose in zip(point, free, strict=True) if loose])
    scaled = [
        p * left / own if loose else p for p, loose in zip(point, free, strict=True)
    ]
    return scaled, left


def distance(left, right):
    return length([a - b for a, b in zip(left, right, strict=True)])


BALL_AND_BOX = Intersection(L2Ball(RADIUS), Box(-0.4, 0.4))


def near_edge(free, ulps=0):
    """Points of BALL_AND_BOX with the other coordinates at a limit, on the sphere."""
    signs = seeded(ROWS, DIM, seed=2).sign()
    loose = (signs + 0.1 * seeded(ROWS, DIM, seed=3)) * free
    held = 0.4 * signs * ~free
    left = (RADIUS**2 - held.square().sum(1, keepdim=True)).sqrt()
    return loose / loose.norm(dim=1, keepdim=True) * left * (1 + ulps * 2.0**-53) + held


def stands(ulps=0):
    """Name -> (stand, region): points on a ball, on a box, and on both."""
    whole = torch.ones(ROWS, DIM, dtype=torch.bool)
    yes, no = whole[:, 0], ~whole[:, 0]
    some = whole.clone()
    some[:, 0] = some[1, 2] = False
    ball, box, both = (
        limits(region) for region in (L2Ball(RADIUS), LinfBall(0.5), BALL_AND_BOX)
    )
    inside_box = near_sphere(ulps, 1, 0.45)
    return {
        "ball": (stand(ball, near_sphere(ulps), whole, yes), ball),
        "interior": (stand(ball, 0.5 * near_sphere(), whole, no), ball),
        "box": (stand(box, inside_box, some, no), box),
        "both": (stand(both, near_edge(some, ulps), some, yes), both),
    }


@pytest.mark.parametrize("name", ["ball", "interior", "box", "both"])
@pytest.mark.parametrize("ulps", ULPS)
def test_slack_reaches_the_real_point(name, ulps):
    stood, known = stands(ulps)[name]
    for row in range(ROWS):
        real, left = real_point(stood, row, RADIUS)
        slack, normal = float(stood.slack[row]), stood.normal
        assert distance(real, reals(stood.points[row])) <= slack
        if left is None:
            assert slack == 0.0
            assert float(normal.magnitude[row].max()) <= 1e-300
            continue
        # Rounding of the length and of the ulps that were added.
        if name == "ball":
            assert slack <= (abs(ulps) + 4 * DIM) * 2.0**-53
        middle, radius = stood.radius.middle[row], stood.radius.radius[row]
        assert inside(middle, radius, left)
        loose = stood.free[row].tolist()
        for i, keep in enumerate(loose):
            n = real[i] / left if keep else arb(0)
            assert inside(normal.middle[row, i], normal.radius[row, i], n)
            if not keep:
                at = float(stood.points[row, i])
                assert at in (float(known.lower[row, i]), float(known.upper[row, i]))


@pytest.mark.parametrize("name", ["interior", "box", "both"])
def test_room_is_left_on_every_side(name):
    """No free coordinate within `room` of the real point leaves the region."""
    stood, known = stands()[name]
    for row in range(ROWS):
        real, left = real_point(stood, row, RADIUS)
        room = float(stood.room[row])
        gaps = [
            min(float(known.upper[row, i]) - x, x - float(known.lower[row, i]))
            for i, x in enumerate(float(x) for x in real)
            if bool(stood.free[row, i])
        ]
        if left is None and name == "interior":
            gaps.append(float(arb(RADIUS) - length(real)))
        # Doubles of the exact numbers: rounded once more.
        assert room <= min(gaps) + 1e-16
        assert room >= min(gaps) - 1e-14


def test_what_the_box_alone_fills_leaves_no_sphere():
    """Held coordinates longer than the radius: nothing can be proved there."""
    both = limits(Intersection(L2Ball(RADIUS), Box(-0.6, 0.6)))
    free = torch.zeros(ROWS, DIM, dtype=torch.bool)
    free[:, 0] = True
    stood = stand(both, near_sphere(), free, free[:, 0])
    assert bool(stood.radius.lower.isnan().all())
    assert not bool((stood.slack < torch.inf).any())
    # Infinite limits hold nothing.
    ball = limits(L2Ball(RADIUS))
    assert not ball.boxed
    assert ball.round
    assert not limits(LinfBall(0.5)).round
    assert limits(Sphere(RADIUS)).sphere


def test_points_are_put_on_the_nearer_limit():
    box = limits(LinfBall(0.5))
    points = torch.tensor([[0.49, -0.49, 0.1, 0.0]], dtype=F64).expand(ROWS, -1)
    free = torch.tensor([False, False, True, True]).expand(ROWS, -1)
    stood = stand(box, points, free, torch.zeros(ROWS, dtype=torch.bool))
    assert stood.points[0].tolist() == [0.5, -0.5, 0.1, 0.0]
    assert stood.side[0].tolist() == [1.0, -1.0, 0.0, 0.0]


def test_faces_hold_what_presses():
    both = limits(Intersection(L2Ball(RADIUS), Box(-0.3, 0.4)))
    points = torch.tensor([0.4, -0.3, 0.39, 0.2], dtype=F64).expand(ROWS, -1)
    points = points.clone()
    points[3] *= 0.5
    gradient = torch.tensor([1.0, -1.0, 0.2, 0.1], dtype=F64).repeat(ROWS, 1)
    gradient[1, 0] = -0.5  # pulls off its limit
    gradient[2] *= -1
    snap = torch.full((ROWS,), 2e-3, dtype=F64)
    norms, flat = points.norm(dim=1), torch.zeros_like(points)
    outer = points * (RADIUS / norms)[:, None]
    free, curved = faces(both, outer, gradient, flat, snap)
    assert curved.tolist() == [True, True, False, True, True]
    free, curved = faces(both, points, gradient, flat, snap)
    assert curved.tolist() == [False] * ROWS
    assert free[0].tolist() == [False, False, True, True]
    assert free[1].tolist() == [True, False, True, True]
    assert bool(free[2:4].all())
    # Beside its limit the gradient may still pull, if it presses at the limit.
    points[4, 0], gradient[4, 0] = 0.3995, -1e-4
    assert bool(faces(both, points, gradient, flat, snap)[0][4, 0])
    assert not bool(faces(both, points, gradient, flat + 1.0, snap)[0][4, 0])


def problem_at(stood):
    """A network's first order at a stand, and the same network in Arb per row."""
    net = sm.TwoLayerNetwork(
        seeded(WIDTH, DIM, seed=5),
        seeded(WIDTH, seed=6),
        seeded(WIDTH, seed=7),
        activation="tanh",
    )
    inputs = seeded(ROWS, DIM, seed=8)
    output = Enclosure.exact(net.output_weights.detach().expand(ROWS, -1))
    shift = Enclosure.exact(torch.zeros(ROWS, dtype=F64))
    surface = Surface.of(net, inputs, output, shift)
    known = [
        Network(
            "tanh",
            reals(net.hidden_weights.detach()),
            reals(net.hidden_bias.detach()),
            reals(inputs[row]),
            reals(net.output_weights.detach()),
            arb(0),
        )
        for row in range(ROWS)
    ]
    return FirstOrder(surface.at(stood.points, stood.slack), stood), known


@pytest.mark.parametrize("name", ["ball", "interior", "box", "both"])
@pytest.mark.parametrize("ulps", [-50, 0, 1])
def test_first_order_is_enclosed(name, ulps):
    stood, _ = stands(ulps)[name]
    first, networks = problem_at(stood)
    along_n, across_n, above_n = first.normal_bend
    for row, known in enumerate(networks):
        real, left = real_point(stood, row, RADIUS)
        free = stood.free[row].tolist()
        kept = [arb(int(keep)) for keep in free]
        full = known.gradient(real)
        gradient = [g * k for g, k in zip(full, kept, strict=True)]
        place = [p * k for p, k in zip(real, kept, strict=True)]
        outward = dot(gradient, place)
        assert inside(first.outward.middle[row], first.outward.radius[row], outward)
        steep = first.steepness
        assert inside(steep.middle[row], steep.radius[row], length(gradient))
        multiplier = arb(0) if left is None else outward / left**2
        assert float(first.multiplier_low[row]) <= multiplier + arb(1e-300)
        across = [g - multiplier * p for g, p in zip(gradient, place, strict=True)]
        tangential = length(across)
        assert tangential <= float(first.tangential[row])
        assert tangential >= float(first.tangential_low[row])
        # Both are hardly apart: the slack times |μ| and rounding.
        apart = float(first.tangential[row] - first.tangential_low[row])
        assert apart <= 100 * (abs(ulps) + DIM * WIDTH) * 2.0**-53
        float_multiplier = arb(float(first.multiplier[row]))
        rest = list(across)
        for i, side in enumerate(stood.side[row].tolist()):
            if side:
                push = side * (full[i] - float_multiplier * real[i])
                assert push >= float(first.pressure[row, i])
                rest[i] = arb(min(0.0, float(push)))
            else:
                assert float(first.pressure[row, i]) == torch.inf
                rest[i] -= (float_multiplier - multiplier) * place[i]
        assert length(rest) <= float(first.leftover[row]) * (1 + 1e-14)
        if left is None:
            continue
        normal = [p / left for p in place]
        bent = [b * k for b, k in zip(known.bent(real, normal), kept, strict=True)]
        value = dot(bent, normal)
        tangent = [b - value * n for b, n in zip(bent, normal, strict=True)]
        assert abs(value) <= float(along_n[row])
        assert length(tangent) <= float(across_n[row])
        assert value <= float(above_n[row])


def test_taking_rows_keeps_what_is_known():
    stood, _ = stands()["both"]
    first, _ = problem_at(stood)
    index = torch.tensor([3, 1])
    some = first.take(index)
    assert torch.equal(some.tangential, first.tangential[index])
    assert torch.equal(some.stand.room, stood.room[index])
