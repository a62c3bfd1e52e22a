"""Duals against the same formula in Arb, and against truth for any multipliers."""

import pytest
from flint import arb, arb_mat, ctx

from exact import exact
from fakes import seeded
from summiteer.optimality import dual
from summiteer.optimality.ceiling import whole
from summiteer.optimality.interior_point import interior_point
from summiteer.optimality.majorant import tangent_majorant
from summiteer.optimality.rounding import length
from surfaces import REGIONS, SMOOTH, case, truth

over_smooth = pytest.mark.parametrize("name", SMOOTH)
over_regions = pytest.mark.parametrize("kind", REGIONS)


def exact_dual(surface, place, weights, patches, chosen):
    """The dual about z with A⁻¹ in Arb, for the first row: nothing is estimated."""
    hidden = [[arb(x) for x in r] for r in surface.hidden.tolist()]
    width, dim = len(hidden), len(hidden[0])
    p, z = ([arb(x) for x in v[0].tolist()] for v in (place.points, chosen.at))
    a = [arb(x) for x in surface.output.middle[0].tolist()]
    # Wx + b to rounding; the float is the function's own here.
    h = [
        arb(c) + sum(w * x for w, x in zip(r, p, strict=True))
        for c, r in zip(surface.centre.middle[0].tolist(), hidden, strict=True)
    ]
    name = surface.activation.name
    step = [x - y for x, y in zip(z, p, strict=True)]
    moved = [sum(w * x for w, x in zip(r, step, strict=True)) for r in hidden]
    heavy = [arb(x) for x in weights[0].tolist()]
    value, left = arb(0), [arb(0)] * dim
    for j in range(width):
        s, slope = exact(name, h[j], 2)
        value += a[j] * (s + slope * moved[j]) + heavy[j] * moved[j] ** 2 / 2
        pull = a[j] * slope + heavy[j] * moved[j]
        left = [x + pull * w for x, w in zip(left, hidden[j], strict=True)]
    matrix = arb_mat(
        [
            [-sum(heavy[j] * hidden[j][i] * hidden[j][k] for j in range(width))
             for k in range(dim)]
            for i in range(dim)
        ]
    )  # fmt: skip
    ball = arb(float(chosen.ball[0]))
    if patches.limits.round:
        radius = arb(float(patches.limits.radius[0]))
        value += ball * (radius**2 - sum(x * x for x in z)) / 2
        left = [x - ball * y for x, y in zip(left, z, strict=True)]
    for i in range(dim):
        matrix[i, i] += ball
    if patches.frame.vectors is None:
        for i in range(dim):
            nu = arb(float(chosen.slabs[0, i]))
            lo, hi = arb(float(patches.low[0, i])), arb(float(patches.high[0, i]))
            value += nu * (hi - z[i]) * (z[i] - lo) / 2
            left[i] += nu * ((lo + hi) / 2 - z[i])
            matrix[i, i] += nu
    rest = arb_mat([[x] for x in left])
    assert all(pivot > 0 for pivot in pivots(matrix))
    return value + (rest.transpose() * matrix.solve(rest))[0, 0] / 2


def pivots(matrix):
    """Of Gaussian elimination: all positive where the matrix is positive definite."""
    size = matrix.nrows()
    rows = [[matrix[i, k] for k in range(size)] for i in range(size)]
    found = []
    for i in range(size):
        found.append(rows[i][i])
        for k in range(i + 1, size):
            share = rows[k][i] / rows[i][i]
            rows[k] = [x - share * y for x, y in zip(rows[k], rows[i], strict=True)]
    return found


@over_smooth
@over_regions
def test_the_bound_is_the_formula_in_arb_rounded_up(name, kind):
    before, ctx.prec = ctx.prec, 600
    try:
        for seed, scale in [(0, 1.0), (1, 0.01), (2, 3.0)]:
            surface, limits, region = case(name, kind, 2, 4, scale, rows=1, seed=seed)
            best, at = truth(surface, limits, region, 2000)
            patches = whole(surface, limits)
            interval, _ = patches.interval(surface)
            place = surface.at(at)
            weights = tangent_majorant(place, interval)
            solve = interior_point if patches.frame.size else dual.trust_region
            chosen = solve(place, weights, patches)
            bound = dual.bound(place, weights, patches, chosen)
            formula = exact_dual(surface, place, weights, patches, chosen)
            # Arb starts from the rounded Wx + b: within the enclosure's own radius.
            room = length(surface.output.middle) * surface.centre.radius.amax() * 4
            low = arb(float(bound[0] + 10 * room[0] + 1e-14 * bound.abs()[0]))
            assert formula <= low, (name, kind, float(bound[0]))
            assert float(formula.mid()) >= float(best[0]) - 1e-9
            # And the bound is hardly above it.
            width = abs(float(bound[0])) + float(limits.reach[0])
            assert float(bound[0]) - float(formula.mid()) <= 1e-8 * width
    finally:
        ctx.prec = before


def test_bounds_hold_for_any_multipliers_and_any_centre():
    """Nothing that floats choose can make a bound false."""
    for seed in range(30):
        kind = REGIONS[seed % 4]
        surface, limits, region = case("gelu", kind, 3, 6, rows=2, seed=seed)
        best, _ = truth(surface, limits, region, 3000)
        patches = whole(surface, limits)
        interval, _ = patches.interval(surface)
        place = surface.at(3 * seeded(2, 3, seed=seed))
        weights = tangent_majorant(place, interval)
        ball = 5 * seeded(2, seed=seed).abs() * float(limits.round)
        slabs = 5 * seeded(2, patches.frame.size, seed=seed).abs()
        at = 2 * seeded(2, 3, seed=seed + 1)
        for below in (ball - 0.1, ball - 10, ball + 1):
            chosen = dual.Multipliers(ball, slabs, at, below)
            bound = dual.bound(place, weights, patches, chosen)
            assert bool((bound >= best).all())
        chosen = dual.Multipliers(-ball - 1, slabs, at, ball + 50)
        assert bool(dual.bound(place, weights, patches, chosen).isinf().all())
        curvature = surface.weighted.largest(weights).clamp(min=0)
        bound = dual.separable_bound(place, curvature, patches)
        assert bool((bound >= best).all())
