"""Every exact result lies inside its enclosure: rationals are the oracle."""

import math

import pytest
import torch
from flint import fmpq

from exact import rational
from summiteer.optimality.rounding import (
    TINY,
    Enclosure,
    arithmetic_fault,
    down,
    gamma,
    length,
    up,
)

F64 = torch.float64
LARGEST, SMALLEST = torch.finfo(F64).max, 5e-324
ROWS, TERMS = 12, 7


def drawn(*shape, kind, seed):
    """Numbers of one kind, random signs."""
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand(*shape, generator=generator, dtype=F64)
    sign = 1 - 2 * torch.randint(2, shape, generator=generator).double()
    if kind == "cancelling":
        # ±1 but for the last bits: sums lose nearly all digits.
        return sign * (1 + torch.round(8 * unit) * 2.0**-50)
    low, high = {
        "ordinary": (-2, 2),
        "huge": (100, 140),
        "tiny": (-160, -140),
        "subnormal": (-323.5, -308),
        "wild": (-320, 140),
    }[kind]
    return sign * 10 ** (low + (high - low) * unit)


KINDS = ["ordinary", "huge", "tiny", "subnormal", "wild", "cancelling"]
over_kinds = pytest.mark.parametrize("kind", KINDS)


def enclosed(*shape, kind, seed):
    """An enclosure and real numbers in it: its ends and something between."""
    middle = drawn(*shape, kind=kind, seed=seed)
    share = torch.rand(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)
    radius = middle.abs() * share * 2.0 ** -torch.arange(0, 60, 60 / shape[-1])
    within = Enclosure(middle, radius)
    members = [
        [
            [m + part * r for m, r in zip(ms, rs, strict=True)]
            for ms, rs in zip(rational(middle), rational(radius), strict=True)
        ]
        for part in (fmpq(-1), fmpq(1, 3), fmpq(1))
    ]
    return within, members


def assert_inside(found, exact):
    """The exact number is within the radius, and between both ends."""
    assert abs(exact - rational(found.middle)) <= rational(found.radius)
    assert rational(found.lower) <= exact <= rational(found.upper)
    assert abs(exact) <= rational(found.magnitude)


def root_between(square, low, high):
    """Whether √square lies in [low, high]."""
    low, high = rational(low.clamp(min=0)), rational(high)
    return low * low <= square <= high * high


@over_kinds
@pytest.mark.parametrize("name", ["sum", "difference", "product"])
def test_elementwise_arithmetic_contains_the_exact_result(kind, name):
    left, lefts = enclosed(ROWS, TERMS, kind=kind, seed=1)
    right, rights = enclosed(ROWS, TERMS, kind=kind, seed=2)
    operation = {
        "sum": lambda a, b: a + b,
        "difference": lambda a, b: a - b,
        "product": lambda a, b: a * b,
    }[name]
    found = operation(left, right)
    for one in lefts:
        for other in rights:
            for i in range(ROWS):
                for j in range(TERMS):
                    exact = operation(one[i][j], other[i][j])
                    entry = Enclosure(found.middle[i, j], found.radius[i, j])
                    assert_inside(entry, exact)


@over_kinds
def test_products_of_rows_contain_the_exact_result(kind):
    left, lefts = enclosed(ROWS, TERMS, kind=kind, seed=3)
    right, rights = enclosed(ROWS, TERMS, kind=kind, seed=4)
    matrix = drawn(TERMS, 3, kind=kind, seed=5)
    columns = rational(matrix.T)
    inner, image, size = left.dot(right), left @ matrix, left.norm()
    for one, other in zip(lefts, rights, strict=True):
        for i in range(ROWS):
            exact = sum((a * b for a, b in zip(one[i], other[i], strict=True)), fmpq(0))
            assert_inside(Enclosure(inner.middle[i], inner.radius[i]), exact)
            for k, column in enumerate(columns):
                exact = sum(
                    (a * b for a, b in zip(one[i], column, strict=True)), fmpq(0)
                )
                entry = Enclosure(image.middle[i, k], image.radius[i, k])
                assert_inside(entry, exact)
            square = sum((a * a for a in one[i]), fmpq(0))
            assert root_between(square, size.lower[i], size.upper[i])


@over_kinds
def test_lengths_and_intervals_are_rounded_outwards(kind):
    vectors = drawn(ROWS, TERMS, kind=kind, seed=6)
    ends = torch.sort(drawn(ROWS, 2, kind=kind, seed=7), dim=1)[0]
    between = Enclosure.between(ends[:, 0], ends[:, 1])
    for i, (row, bound) in enumerate(zip(vectors, length(vectors), strict=True)):
        square = sum((each * each for each in rational(row)), fmpq(0))
        assert root_between(square, torch.zeros(()), bound)
        for end in rational(ends[i]):
            assert_inside(Enclosure(between.middle[i], between.radius[i]), end)


@pytest.mark.parametrize("count", [3, 1000])
def test_enclosures_are_as_narrow_as_their_rounding(count):
    """Hardly more than γ_n of the sum of magnitudes: else proofs fail for nothing."""
    left, right = (drawn(50, count, kind="ordinary", seed=s) for s in (8, 9))
    found = Enclosure.exact(left).dot(right)
    scale = (left * right).abs().sum(1)
    assert bool((found.radius <= 1.1 * gamma(count + 3) * scale).all())
    image = Enclosure.exact(left) @ right.T.contiguous()
    scale = left.abs() @ right.abs().T
    assert bool((image.radius <= 1.1 * gamma(count + 3) * scale).all())
    added = Enclosure.exact(left) + right
    assert bool((added.radius <= 1e-15 * (left + right).abs() + 4 * TINY).all())


@pytest.mark.parametrize("operations", [1, 5, 1000])
def test_up_and_down_undo_so_many_roundings(operations):
    values = torch.tensor([1.0, 3e300, 1e-300, 7e-310, SMALLEST, 0.0], dtype=F64)
    unit = fmpq(1, 2**53)
    for value, high, low in zip(
        values, up(values, operations), down(values, operations), strict=True
    ):
        real = rational(value)
        assert rational(high) >= real / (1 - unit) ** operations
        assert rational(low) <= real / (1 + unit) ** operations
    # One operation may have any sign.
    assert bool((up(-values) >= -values).all())
    assert bool((down(-values) < -values).all())


def test_infinities_and_nan_prove_nothing():
    """A comparison that holds must be true of the real number, which is finite."""
    big = torch.full((1, 4), LARGEST, dtype=F64)
    ones = torch.ones(4, 1, dtype=F64)
    alternating = torch.tensor([[LARGEST, LARGEST, -LARGEST, -LARGEST]], dtype=F64)
    overflowing = [
        Enclosure.exact(big) + big,
        Enclosure.exact(big) * big,
        Enclosure.exact(big) @ ones,
        Enclosure.exact(alternating) @ ones,
        Enclosure.exact(big).dot(torch.ones_like(big)),
        Enclosure.exact(alternating).dot(torch.ones_like(big)),
        Enclosure.exact(big).norm(),
        Enclosure.exact(big * torch.nan) + big,
    ]
    for found in overflowing:
        assert not bool((found.lower > -LARGEST).any())
        assert not bool((found.upper < LARGEST).any())
        assert not bool((found.magnitude < LARGEST).any())
    assert up(torch.tensor(math.inf)) == math.inf
    assert down(torch.tensor(-math.inf)) == -math.inf
    assert bool(up(torch.tensor(math.nan)).isnan())
    unbounded = Enclosure.between(torch.tensor([-math.inf]), torch.tensor([0.0]))
    assert not bool((unbounded.lower > -LARGEST).any())
    assert not bool((unbounded.upper < 0).any())


def test_gamma_is_rounded_up_and_knows_its_limit():
    unit = fmpq(1, 2**53)
    for count in (1, 2, 1000, 10**12):
        found = fmpq(*gamma(count).as_integer_ratio())
        assert found >= count * unit / (1 - count * unit)
    with pytest.raises(OverflowError, match="summands"):
        gamma(10**12 + 1)


def test_sound_arithmetic_has_no_fault():
    assert arithmetic_fault() == ""


def test_flushing_subnormal_numbers_is_noticed():
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        assert arithmetic_fault() == "subnormal numbers are flushed to zero"
    finally:
        torch.set_flush_denormal(False)
    assert arithmetic_fault() == ""


def test_autocast_is_noticed():
    with torch.autocast("cpu", torch.bfloat16):
        assert arithmetic_fault() == "autocast is on"
