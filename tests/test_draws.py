"""The counter-based generator: published answers, names, laws."""

import numpy as np
import pytest
import torch
from scipy import stats

from summiteer import draws as module
from summiteer.draws import Draws, philox
from summiteer.errors import UserError

ONES = 0xFFFFFFFF
# Random123 1.09, tests/kat_vectors, philox4x32 10.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((ONES,) * 4, (ONES, ONES), (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]


def draws(seed=0, ids=(0,), restarts=None, stream=0):
    ids = torch.tensor(ids, dtype=torch.int64)
    restarts = torch.zeros_like(ids) if restarts is None else torch.tensor(restarts)
    return Draws(seed, ids, restarts, stream)


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN)
def test_philox_gives_the_published_known_answers(counter, key, answer):
    words = philox(np.array(counter, dtype=np.uint64), key)
    assert tuple(int(word) for word in words) == answer


def test_philox_is_vectorised_over_counters():
    counters = np.array([c for c, k, _ in KNOWN[:1] * 3], dtype=np.uint64).T
    words = philox(counters.reshape(4, 3, 1), (0, 0))
    assert words.shape == (4, 3, 1)
    assert (np.array(KNOWN[0][2], dtype=np.uint64) == words[:, :, 0].T).all()


def test_a_coordinate_is_two_words_of_the_block_of_its_name():
    # Coordinate 5 is the second number of block 2: words 2 and 3.
    seed, restart, stream = 7, 3, 11
    ident = (1 << 40) + 5
    words = philox(
        np.array([2, restart, ident & ONES, ident >> 32], dtype=np.uint64),
        (seed, stream),
    )
    whole = (int(words[2]) >> 6) * 2**26 + (int(words[3]) >> 6)
    number = draws(seed, [ident], [restart], stream).uniform(6)[0, 5]
    assert float(number) == (whole + 0.5) / 2**52


@pytest.mark.parametrize("word", [0, ONES])
def test_the_extreme_words_stay_inside_the_open_interval(monkeypatch, word):
    monkeypatch.setattr(
        module, "philox", lambda counter, key: np.full_like(counter, word)
    )
    uniform = draws().uniform(3)
    assert ((uniform > 0) & (uniform < 1)).all()
    assert draws().normal(3).isfinite().all()


@pytest.mark.parametrize("count", [1, 2, 5, 50])
def test_numbers_depend_on_their_names_alone(count):
    ids = torch.tensor([5, -3, 1 << 40, 0, 5])
    restarts = torch.tensor([0, 2, 1, 7, 1])
    rows = Draws(3, ids, restarts, 9)
    for call in (Draws.uniform, Draws.normal):
        all_rows = call(rows, count)
        order = torch.tensor([3, 0, 4, 1])
        some = call(Draws(3, ids[order], restarts[order], 9), count)
        assert torch.equal(some, all_rows[order])
        for row in range(5):
            one = Draws(3, ids[row : row + 1], restarts[row : row + 1], 9)
            assert torch.equal(call(one, count), all_rows[row : row + 1])
        # More coordinates do not rename the first ones.
        assert torch.equal(call(rows, count + 3)[:, :count], all_rows)


def test_every_part_of_the_name_matters():
    names = [
        draws(0, [1]),
        draws(1, [1]),
        draws(0, [2]),
        draws(0, [-1]),
        draws(0, [1 + (1 << 32)]),
        draws(0, [1 - (1 << 32)]),
        draws(0, [1], [1]),
        draws(0, [1], stream=1),
        draws(0, [1]).on(1 << 20),
    ]
    numbers = torch.cat([name.uniform(4) for name in names])
    assert len(numbers.flatten().unique()) == numbers.numel()


def test_no_rows_and_other_integer_dtypes():
    none = Draws(0, torch.arange(0), torch.arange(0))
    assert none.uniform(3).shape == (0, 3)
    small = Draws(0, torch.tensor([4], dtype=torch.int32), torch.tensor([1]))
    assert torch.equal(small.uniform(3), draws(0, [4], [1]).uniform(3))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "0", None])
def test_a_seed_that_is_no_32_bit_number_is_refused(seed):
    with pytest.raises(UserError, match=r"seed: expected an integer from 0 to 2\*\*32"):
        draws(seed)


def test_the_largest_seed_is_allowed():
    assert draws(2**32 - 1).uniform(1).shape == (1, 1)


def test_uniform_and_normal_have_their_laws():
    rows = draws(1, range(400))
    # p-values of a fixed seed; 1e-3 would fail one seed in a thousand.
    uniform = rows.uniform(250).flatten().numpy()
    assert stats.kstest(uniform, "uniform").pvalue > 1e-3
    normal = rows.normal(250).flatten().numpy()
    assert stats.kstest(normal, "norm").pvalue > 1e-3
    # Moments of 1e5 numbers: four standard errors, sqrt(1, 2, 15, 96)/sqrt(1e5).
    for power, mean, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        error = abs((normal**power).mean() - mean)
        assert error < 4 * (variance / len(normal)) ** 0.5


@pytest.mark.parametrize(
    "other",
    [
        lambda n: draws(0, range(n), stream=1),
        lambda n: draws(1, range(n)),
        lambda n: draws(0, range(n), [1] * n),
        lambda n: draws(0, range(n, 2 * n)),
    ],
)
def test_streams_seeds_restarts_and_examples_are_independent(other):
    n = 2000
    first, second = draws(0, range(n)).uniform(2), other(n).uniform(2)
    for left in (0, 1):
        for right in (0, 1):
            cells, _, _ = np.histogram2d(
                first[:, left].numpy(), second[:, right].numpy(), 8, [[0, 1], [0, 1]]
            )
            # χ² with equal cells: fixed seeds, 16 tests, so 1e-4.
            assert stats.chisquare(cells.flatten()).pvalue > 1e-4


def test_coordinates_are_independent():
    numbers = draws(0, range(4000)).normal(6).numpy()
    correlation = np.corrcoef(numbers.T) - np.eye(6)
    # Standard error 1/sqrt(4000) = 0.016; 15 pairs, four of them.
    assert abs(correlation).max() < 0.064
