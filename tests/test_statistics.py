"""Estimates and their intervals: known values, scipy, and coverage."""

import math

import numpy as np
import pytest
from scipy import stats
from scipy.stats import binom

from summiteer.studies import statistics
from summiteer.studies.statistics import (
    Estimate,
    as_numbers,
    bootstrap,
    clopper_pearson,
    clustered_share,
    growth,
    median,
    slopes,
    student,
    unknown,
)


@pytest.mark.parametrize(("hits", "trials"), [(0, 7), (3, 7), (7, 7), (79, 80)])
def test_clopper_pearson_ends_have_their_tails(hits, trials):
    share = clopper_pearson(hits, trials)
    assert share.value == hits / trials
    assert share.units == trials
    if hits:
        assert binom.sf(hits - 1, trials, share.low) == pytest.approx(0.025)
    else:
        assert share.low == 0.0
    if hits < trials:
        assert binom.cdf(hits, trials, share.high) == pytest.approx(0.025)
    else:
        assert share.high == 1.0


def test_seventy_two_successes_are_ninety_five_per_cent():
    assert clopper_pearson(72, 72).low > 0.95
    assert clopper_pearson(71, 71).low < 0.95


def test_student_is_scipys():
    values = np.array([1.0, 2.5, 2.0, 4.0, 3.5])
    found = student(values)
    low, high = stats.t.interval(
        0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values)
    )
    assert (found.low, found.high) == pytest.approx((low, high))
    assert found.value == pytest.approx(values.mean())


def test_the_bootstrap_is_near_students_for_normal_values():
    values = np.random.default_rng(0).normal(size=40)
    wide, exact = bootstrap(values), student(values)
    assert wide.value == exact.value
    # Resampling noise of 10 000 draws, and skewness that 40 values have by chance.
    assert wide.low == pytest.approx(exact.low, abs=0.05)
    assert wide.high == pytest.approx(exact.high, abs=0.05)


def test_the_bootstrap_covers_in_small_samples():
    """Of 8 normal values; plain percentiles cover 0 in 89 % of these samples."""
    generator = np.random.default_rng(1)
    samples = generator.normal(size=(300, 8))
    found = [bootstrap(sample, seed) for seed, sample in enumerate(samples)]
    covered = sum(each.low <= 0 <= each.high for each in found)
    # 95 % but for three standard deviations of 300 tries.
    assert covered >= 300 * (0.95 - 3 * math.sqrt(0.95 * 0.05 / 300))


def test_the_bootstrap_is_the_same_every_time():
    values = np.arange(9.0)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(values, 1) != bootstrap(values, 2)


@pytest.mark.parametrize("values", [[], [1.0], [1.0, math.nan], [1.0, math.inf]])
@pytest.mark.parametrize("estimate", [bootstrap, student])
def test_what_is_not_known_is_not_stated(estimate, values):
    found = estimate(values)
    assert not found.known
    assert found.units == len(values)
    assert as_numbers(found)["value"] is None


def test_clusters_count_and_not_runs():
    """Runs of one network that all agree are one observation."""
    networks = 40
    hits = np.array([10] * 20 + [0] * 20)
    clustered = clustered_share(hits, [10] * networks)
    naive = clopper_pearson(200, 400)
    assert clustered.value == 0.5
    assert clustered.units == networks
    exact = clopper_pearson(20, 40)
    assert clustered.half_width > 2.5 * naive.half_width
    assert clustered.half_width == pytest.approx(exact.half_width, rel=0.1)


def test_shares_without_spread_are_those_of_one_run_per_network():
    assert clustered_share([5] * 72, [5] * 72) == clopper_pearson(72, 72)
    assert clustered_share([0] * 30, [5] * 30) == clopper_pearson(0, 30)


def test_clusters_may_differ_in_size():
    found = clustered_share([1, 8, 2, 30], [2, 10, 4, 40])
    assert found.value == 41 / 56
    assert 0 <= found.low < found.value < found.high <= 1


def test_shares_stay_between_none_and_all():
    found = clustered_share([4] * 30 + [3], [4] * 31)
    assert found.high == 1.0
    assert 0.85 < found.low < clustered_share([4] * 31, [4] * 31).low
    assert found.low < found.value < 1


def test_a_miss_never_makes_a_share_surer():
    none = clustered_share([8] * 34, [8] * 34)
    one = clustered_share([8] * 33 + [7], [8] * 34)
    whole = clustered_share([8] * 33 + [0], [8] * 34)
    assert whole.low < one.low < none.low
    assert clustered_share([0] * 33 + [1], [8] * 34).high > 0.1


@pytest.mark.parametrize(
    ("networks", "failing", "else_"), [(72, 0.055, 0.995), (34, 0.04, 0.98)]
)
def test_rare_networks_that_fail_altogether_are_reckoned_with(
    networks, failing, else_, monkeypatch
):
    """The truth is below 95 %: it is called at least that in 2.5 % of samples at most.

    300 samples: 14 at 2.5 % have probability 0.01.
    """
    monkeypatch.setattr(statistics, "RESAMPLES", 500)
    generator = np.random.default_rng(0)
    truth, claimed, covered = (1 - failing) * else_, 0, 0
    for _ in range(300):
        fails = generator.random(networks) < failing
        hits = np.where(fails, 0, generator.binomial(8, else_, networks))
        found = clustered_share(hits, [8] * networks)
        claimed += found.low >= 0.95
        covered += found.low <= truth <= found.high
    assert truth < 0.95
    assert claimed <= 14
    assert covered >= 300 * 0.93


def test_slopes_of_powers_are_their_exponents():
    x = np.array([0.1, 0.3, 1.0, 3.0, 10.0])
    y = np.stack([5 * x**1.5, 2 * x**-0.5, np.full(5, 3.0)])
    assert slopes(x, y) == pytest.approx([1.5, -0.5, 0.0], abs=1e-12)


def test_slopes_are_scipys_of_logs():
    generator = np.random.default_rng(2)
    x, y = np.sort(generator.uniform(1, 9, 6)), generator.uniform(1, 9, 6)
    exact = stats.linregress(np.log(x), np.log(y)).slope
    assert slopes(x, y)[0] == pytest.approx(exact)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf])
def test_a_slope_of_what_has_no_logarithm_is_not_known(bad):
    x = [1.0, 2.0, 4.0]
    assert math.isnan(slopes(x, [[1.0, bad, 2.0]])[0])
    assert not growth(x, [[1.0, bad, 2.0], [1.0, 2.0, 3.0]]).known


def test_growth_covers_the_exponent():
    generator = np.random.default_rng(3)
    x = np.array([1.0, 10.0, 100.0])
    y = x**0.7 * np.exp(0.1 * generator.normal(size=(12, 3)))
    found = growth(x, y)
    assert found.low < 0.7 < found.high
    assert found.half_width < 0.1
    assert found.units == 12


def test_medians_ignore_what_is_missing_and_keep_infinity():
    assert median([3.0, math.nan, 1.0, 2.0]) == 2.0
    assert median([1.0, math.inf]) == 1.0
    assert median([math.inf, math.inf, 1.0]) == math.inf
    assert math.isnan(median([math.nan]))


def test_half_widths():
    assert Estimate(0.5, 0.4, 0.7, 3).half_width == pytest.approx(0.15)
    assert not unknown().known
