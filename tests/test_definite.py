"""Bounds of λ_max against exact LDLᵀ in rationals, whatever computed them."""

import pytest
import torch
from flint import fmpq

from exact import positive_definite, rational
from fakes import seeded
from summiteer.networks.activations import ACTIVATIONS
from summiteer.optimality.definite import Weighted
from summiteer.optimality.majorant import (
    diagonal_majorant,
    grouped,
    groups,
    shared_top,
)
from summiteer.optimality.rounding import Enclosure, gamma
from summiteer.optimality.surface import Surface, lipschitz

F64 = torch.float64
ROWS = 3
#: How far above the eigenvalue of the floats the guesses lie, relative to ‖S‖.
ABOVE = 1e-9
#: β in ‖S‖, and the room that it needs: vᵀSv + ‖PSn‖²/β bounds the other direction.
PUSH, ROOM = 100.0, 0.02

SHAPES = {"wide": (9, 5), "square": (5, 5), "low rank": (4, 7), "one neuron": (1, 4)}
over_shapes = pytest.mark.parametrize("shape", SHAPES)
over_scales = pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])


def layer(shape, scale=1.0, kind="random"):
    """W `[m, d]`, exactly as floats."""
    hidden = seeded(*SHAPES[shape], seed=3)
    if kind == "near singular":
        hidden[:, 1] = hidden[:, 0] * (1 + 2.0**-45)
    return scale * hidden


def weights(kind, width, scale=1.0):
    """D `[ROWS, m]`."""
    drawn = seeded(ROWS, width, seed=4)
    kinds = {
        "positive": drawn.abs(),
        "negative": -drawn.abs(),
        "mixed": drawn,
        # Huge weights that cancel to nothing but rounding.
        "cancelling": 1e8 * torch.where(torch.arange(width) % 2 == 0, 1.0, -1.0)
        + drawn,
    }
    return scale * kinds[kind].double()


def gram(hidden, heavy):
    """Wᵀ diag(D) W in rationals."""
    rows, heavy = rational(hidden), rational(heavy)
    size = range(len(rows[0]))
    return [
        [
            sum((d * w[i] * w[j] for d, w in zip(heavy, rows, strict=True)), fmpq(0))
            for j in size
        ]
        for i in size
    ]


def bounded_by(bound, matrix):
    """Whether bound·I - S is positive definite, S in rationals."""
    top = rational(bound)
    return positive_definite(
        [
            [(top if i == j else fmpq(0)) - entry for j, entry in enumerate(row)]
            for i, row in enumerate(matrix)
        ]
    )


def spectra(hidden, heavy):
    """(λ_max, ‖S‖, ‖|W|ᵀ|D||W|‖_∞) in floats."""
    matrices = hidden.T @ (heavy[:, :, None] * hidden)
    values = torch.linalg.eigvalsh(matrices)
    sizes = hidden.abs().T @ (heavy.abs()[:, :, None] * hidden.abs())
    return values[:, -1], values.abs().amax(1), sizes.sum(2).amax(1)


@over_shapes
@over_scales
@pytest.mark.parametrize("kind", ["positive", "negative", "mixed", "cancelling"])
@pytest.mark.parametrize("layers", ["random", "near singular"])
def test_the_bound_is_one_and_hardly_larger_than_the_eigenvalue(
    shape, scale, kind, layers
):
    hidden, heavy = layer(shape, scale, layers), weights(kind, SHAPES[shape][0], scale)
    weighted = Weighted(hidden)
    top, size, formed = spectra(hidden, heavy)
    bound = weighted.top(Enclosure.exact(heavy), top + ABOVE * size)
    for i in range(ROWS):
        assert bounded_by(bound[i], gram(hidden, heavy[i]))
    # Formation and factorisation lose γ_n of the sums of magnitudes each.
    room = ABOVE * size + 100 * gamma(sum(hidden.shape)) * formed
    least = top.clamp(min=0) if weighted.reduced else top
    assert bool((bound <= least + room).all())
    largest = weighted.largest(heavy)
    for i in range(ROWS):
        assert bounded_by(largest[i], gram(hidden, heavy[i]))
    assert bool((largest <= bound + 1e-6 * size + room).all())


@over_shapes
@pytest.mark.parametrize("kind", ["positive", "mixed"])
def test_uncertain_weights_are_covered(shape, kind):
    """Every D within the radius, its ends included."""
    hidden, heavy = layer(shape), weights(kind, SHAPES[shape][0])
    radius = 0.1 * seeded(*heavy.shape, seed=5).abs()
    top, size, _ = spectra(hidden, heavy)
    bound = Weighted(hidden).top(Enclosure(heavy, radius), top + ABOVE * size)
    for share in (-1.0, 0.5, 1.0):
        # Rounded inwards, so that the floats lie within the radius.
        other = heavy + share * radius * (1 - 1e-12)
        for i in range(ROWS):
            assert bounded_by(bound[i], gram(hidden, other[i]))


@over_shapes
@pytest.mark.parametrize("kind", ["positive", "negative", "mixed"])
@pytest.mark.parametrize("share", [-1.0, 0.5, 0.999])
def test_a_guess_below_the_eigenvalue_gives_no_false_bound(shape, kind, share):
    hidden, heavy = layer(shape), weights(kind, SHAPES[shape][0])
    weighted = Weighted(hidden)
    matrix = hidden if not weighted.reduced else weighted.coordinates
    top, size, _ = spectra(matrix, heavy)
    guess = top - (1 - share) * size
    bound = weighted.top(Enclosure.exact(heavy), guess)
    assert bool(bound.isinf().all())
    # Just below, by rounding: either nothing or a bound.
    bound = weighted.top(Enclosure.exact(heavy), top - 1e-15 * size)
    for i in range(ROWS):
        assert bool(bound[i].isinf()) or bounded_by(bound[i], gram(hidden, heavy[i]))


def unit_in_rationals(vector):
    """A rational vector of length exactly 1 near a float one: stereographic."""
    first, *rest = rational(vector / vector.norm())
    shares = [each / (1 + first) for each in rest]
    square = sum((each * each for each in shares), fmpq(0))
    return [(1 - square) / (1 + square), *(2 * each / (1 + square) for each in shares)]


def on_complement(matrix, normal, kept):
    """BᵀSB and BᵀB for a rational basis B of the vectors ⟂ n supported on `kept`."""
    first, *others = kept
    basis = []
    for i in others:
        vector = [fmpq(0)] * len(matrix)
        vector[i], vector[first] = fmpq(1), -normal[i] / normal[first]
        basis.append(vector)

    def product(left, middle, right):
        return sum(
            (
                left[i] * middle[i][j] * right[j]
                for i in range(len(middle))
                for j in range(len(middle))
            ),
            fmpq(0),
        )

    size = range(len(matrix))
    eye = [[fmpq(int(i == j)) for j in size] for i in size]
    return (
        [[product(u, matrix, v) for v in basis] for u in basis],
        [[product(u, eye, v) for v in basis] for u in basis],
    )


def tangent_bounded(bound, matrix, normal, kept):
    inner, metric = on_complement(matrix, normal, kept)
    top = rational(bound)
    return positive_definite(
        [
            [top * m - s for m, s in zip(ms, ss, strict=True)]
            for ms, ss in zip(metric, inner, strict=True)
        ]
    )


@over_shapes
@over_scales
@pytest.mark.parametrize("kind", ["positive", "negative", "mixed"])
@pytest.mark.parametrize("off", [0.0, 1e-9, 1e-2], ids=["unit", "near", "coarse"])
@pytest.mark.parametrize("masked", [False, True])
def test_tangent_bounds(shape, scale, kind, off, masked):
    """Over v ⟂ n for a real unit n that the float normal is only near to."""
    width, dim = SHAPES[shape]
    hidden, heavy = layer(shape, scale), weights(kind, width, scale)
    free = torch.ones(ROWS, dim, dtype=torch.bool)
    if masked:
        free[:, 1] = False
    # In the row space, as at every critical point, unless coordinates are held.
    normal = (seeded(ROWS, width, seed=6) @ layer(shape)) * free
    exact = [unit_in_rationals(each) for each in normal]
    near = torch.tensor([[float(n.p) / float(n.q) for n in each] for each in exact])
    moved = near + off * seeded(ROWS, dim, seed=7) * free
    # What the exact unit vector is away from the float one, entry by entry.
    radius = ((moved - near).abs() * (1 + 1e-9) + 1e-15) * free
    eye = torch.eye(dim, dtype=F64)
    projector = eye * free[:, :, None] - near[:, :, None] * near[:, None, :]
    matrices = hidden.T @ (heavy[:, :, None] * hidden)
    inner = projector @ matrices @ projector
    size = torch.linalg.matrix_norm(matrices)
    held = eye - projector
    top = torch.linalg.eigvalsh(inner - 2 * size[:, None, None] * held)[:, -1]
    bound = Weighted(hidden).top(
        Enclosure.exact(heavy),
        top + ROOM * size,
        Enclosure(moved, radius),
        PUSH * size,
        free if masked else None,
    )
    for i in range(ROWS):
        kept = free[i].nonzero().flatten().tolist()
        matrix = gram(hidden, heavy[i])
        assert bool(bound[i].isinf()) or tangent_bounded(
            bound[i], matrix, exact[i], kept
        )
    if off == 0.0:
        # Where the normal is known the bound exists and is hardly above the guess.
        reduced = Weighted(hidden).reduced and not masked
        least = top.clamp(min=0) if reduced else top
        assert bool((bound <= least + 1.001 * ROOM * size).all())


def test_a_doubtful_normal_costs_what_it_may_hide():
    """Curvature 10 along e₁, from which n leans: some v ⟂ n has more than 1."""
    hidden = torch.eye(3, dtype=F64)
    heavy = torch.tensor([[10.0, 1.0, 0.5]], dtype=F64)
    lean = 2.0**-4
    exact = unit_in_rationals(torch.tensor([1.0, lean, 0.0], dtype=F64))
    axis = torch.tensor([[1.0, 0.0, 0.0]], dtype=F64)
    off = torch.full_like(axis, 1.01 * lean)
    guess, push = torch.tensor([1.001], dtype=F64), torch.tensor([20.0], dtype=F64)
    weighted, exactly = Weighted(hidden), Enclosure.exact(heavy)
    matrix = gram(hidden, heavy[0])
    assert not tangent_bounded(guess[0], matrix, exact, [0, 1, 2])
    bound = weighted.top(exactly, guess, Enclosure(axis, off), push)
    assert float(bound) < 2.0
    assert tangent_bounded(bound[0], matrix, exact, [0, 1, 2])


def spoiled(factor, by=2.0**-20):
    """A factor in the digits of float32, and too small."""
    return factor.float().double() * (1 - by)


@over_shapes
@pytest.mark.parametrize("kind", ["positive", "mixed"])
def test_whatever_factorises_the_bound_holds(shape, kind, monkeypatch):
    """Residuals are bounded, factors are not believed."""
    hidden, heavy = layer(shape), weights(kind, SHAPES[shape][0])
    top, size, _ = spectra(hidden, heavy)
    guess = top + 1e-5 * size

    def cholesky(matrix):
        # Of tI - S where it is none: the factor of the nearest that has one.
        values, vectors = torch.linalg.eigh(matrix)
        root = vectors * values.clamp(min=1e-8).sqrt()[:, None, :]
        factor = torch.linalg.qr(root.mT)[1].mT
        return spoiled(factor), torch.zeros(len(matrix))

    for below in (0.0, 1e-3):
        with monkeypatch.context() as patch:
            patch.setattr(torch.linalg, "cholesky_ex", cholesky)
            bound = Weighted(hidden).top(Enclosure.exact(heavy), guess - below * size)
            for i in range(ROWS):
                assert bounded_by(bound[i], gram(hidden, heavy[i]))
    basis, triangle = torch.linalg.qr(hidden.T)
    # So small that a factor is found below the eigenvalue of W.
    small = basis, spoiled(triangle, 2.0**-8)
    monkeypatch.setattr(torch.linalg, "qr", lambda _: small)
    bound = Weighted(hidden).top(Enclosure.exact(heavy), guess - 1e-3 * size)
    if not Weighted(hidden).reduced:  # W itself is factorised, and there is no factor
        assert bool(bound.isinf().all())
        return
    for i in range(ROWS):
        assert bounded_by(bound[i], gram(hidden, heavy[i]))


@over_shapes
@pytest.mark.parametrize("kind", ["positive", "mixed"])
def test_bounds_on_free_coordinates(shape, kind):
    width, dim = SHAPES[shape]
    hidden, heavy = layer(shape), weights(kind, width)
    free = torch.ones(ROWS, dim, dtype=torch.bool)
    free[0, 0] = free[1, 1:3] = False
    matrices = hidden.T @ (heavy[:, :, None] * hidden)
    for i in range(ROWS):
        kept = free[i].nonzero().flatten()
        values = torch.linalg.eigvalsh(matrices[i][kept][:, kept])
        guess = values[-1] + ABOVE * values.abs().amax()
        bound = Weighted(hidden).top(
            Enclosure.exact(heavy[i : i + 1]), guess[None], free=free[i : i + 1]
        )
        matrix = gram(hidden[:, kept], heavy[i])
        assert bounded_by(bound[0], matrix)
        # No more than the eigenvalue of the whole matrix where it has fewer rows.
        assert float(bound) <= float(values[-1]) + 2 * ABOVE * float(
            values.abs().amax()
        )


def test_what_is_not_finite_is_not_bounded():
    weighted = Weighted(layer("wide"))
    heavy = weights("mixed", 9)
    heavy[0, 0], heavy[1, 0] = torch.inf, torch.nan
    guess = torch.full((ROWS,), 1e3, dtype=F64)
    bound = weighted.top(Enclosure.exact(heavy), guess)
    assert not bool((bound[:2] < torch.inf).any())
    assert bool(bound[2].isfinite())
    assert not bool((weighted.largest(heavy)[:2] < torch.inf).any())
    assert len(weighted.top(Enclosure.exact(heavy[:0]), guess[:0])) == 0


@over_shapes
@over_scales
def test_crude_bounds_that_cost_no_factorisation(shape, scale):
    hidden, heavy = layer(shape, scale), weights("positive", SHAPES[shape][0], scale)
    weighted = Weighted(hidden)
    bound = lipschitz(weighted, heavy)
    square = gram(hidden, torch.ones_like(heavy[0]))
    for i in range(ROWS):
        assert bounded_by(bound[i], gram(hidden, heavy[i]))
    assert bounded_by(weighted.spectral, square)
    assert bounded_by(weighted.size.square() * (1 + 1e-15), square)


def surface_of(hidden, output):
    zero = Enclosure.exact(torch.zeros(len(output), len(hidden), dtype=F64))
    shift = Enclosure.exact(torch.zeros(len(output), dtype=F64))
    weighted = Weighted(hidden)
    sigma = ACTIVATIONS["tanh"]
    return Surface(sigma, weighted, zero, Enclosure.exact(output), shift)


@over_shapes
def test_rows_of_equal_weights_share_their_factorisation(shape):
    hidden, heavy = layer(shape), weights("mixed", SHAPES[shape][0])
    output = heavy[torch.tensor([0, 1, 0])]
    group = groups(surface_of(hidden, output))
    assert group[0] == group[2] != group[1]
    shared = grouped(heavy, group)[group]
    assert bool((shared >= heavy).all())
    bound = shared_top(Weighted(hidden), heavy, group)
    assert bound[0] == bound[2]
    for i in range(ROWS):
        assert bounded_by(bound[i], gram(hidden, heavy[i]))


@over_shapes
def test_diagonal_majorants_lie_above(shape):
    """Diag(D) - M is positive semidefinite, M of the rows' own weights."""
    hidden, output = layer(shape), weights("mixed", SHAPES[shape][0])
    surface = surface_of(hidden, output[torch.tensor([0, 1, 0])])
    interval = surface.within(torch.full((ROWS,), 0.3, dtype=F64))
    upward = surface.upward(interval)
    for row, heavy in zip(diagonal_majorant(surface, interval), upward, strict=True):
        matrix, entries = gram(hidden, heavy), rational(row)
        for i, own in enumerate(matrix):
            own[i] = own[i] - entries[i]
        assert positive_definite([[-entry for entry in own] for own in matrix])
