"""Verdicts on problems with known answers, by proof and by measurement."""

import pytest
import torch

import summiteer as sm
from fakes import measured, seeded
from summiteer.analytic import PROBLEMS, Known

WITHIN = 1e-3
CASES = [
    pytest.param(known, i, id=f"{known.name}-{i}-{point.verdict.name}")
    for known in PROBLEMS
    for i, point in enumerate(known.points)
]
#: Proofs cover this one; the others are functions that only measurement examines.
PROVABLE = {"one neuron"}
#: Whoever judges must be right; measurement is asked of its own where proofs precede.
JUDGED = [(known, sm.local_optimality) for known in PROBLEMS] + [
    (known, measured) for known in PROBLEMS if known.name in PROVABLE
]
PEAKED_JUDGED = [(known, judge) for known, judge in JUDGED if not known.constant]


def judged_id(value):
    return getattr(value, "name", None) or getattr(value, "__name__", None)


@pytest.mark.parametrize(("known", "i"), CASES)
def test_known_points_get_their_measured_verdict(known, i):
    point = known.points[i]
    claims = measured(known.problem, point.point[None])
    assert list(claims.verdict) == [point.verdict], claims.reason
    assert list(claims.evidence) == [sm.Evidence.NUMERICAL]
    if point.verdict.is_maximum:
        # The point is known to a few units of rounding, which ascent resolves.
        assert float(claims.numbers["distance_estimate"]) <= 1e-12


def sayable(known, point):
    """The true verdicts on a point, one of which must be given."""
    if point.verdict is sm.Verdict.SADDLE:
        # Proofs may rule out a maximum by the slope of F, the loss being ½F², and from
        # beside a saddle ascent may leave: no maximum is near either way.
        return {sm.Verdict.SADDLE, sm.Verdict.NOT_STATIONARY}
    best = any(torch.equal(point.point, peak) for peak in known.maximisers)
    if known.name in PROVABLE and best:
        return {sm.Verdict.GLOBAL_MAXIMUM}
    return {point.verdict}


@pytest.mark.parametrize(("known", "i"), CASES)
def test_known_points_get_their_verdict(known, i):
    point = known.points[i]
    certificate = sm.local_optimality(known.problem, point.point[None])
    assert certificate.verdict[0] in sayable(known, point), certificate.explain(0)
    proved = certificate.evidence == (sm.Evidence.PROVED,)
    assert proved is (known.name in PROVABLE)
    bounded = proved and point.verdict.is_maximum
    assert bool(certificate.distance_bound.isnan()) is not bounded
    if point.verdict.is_maximum:
        # The point is known to a few units of rounding, which a residual resolves.
        assert float(certificate.residual) <= 1e-12
        assert bool(certificate.distance_estimate.isnan()) is proved
        # A bound has the rounding of every step of its proof in it.
        assert not bounded or float(certificate.distance_bound) <= 1e-12


@pytest.mark.parametrize(("known", "i"), CASES)
def test_rounding_to_float32_changes_no_verdict(known, i):
    """A converged float point is not condemned for its last bit."""
    point = known.points[i]
    rounded = point.point.float().double()
    certificate = sm.local_optimality(known.problem, rounded[None])
    assert certificate.verdict[0] in sayable(known, point), certificate.explain(0)
    if known.name in PROVABLE:
        (found,) = measured(known.problem, rounded[None]).verdict
        assert found in sayable(known, point) | {point.verdict}


def copies(known, count):
    """The problem with its one example several times."""
    return known.problem.take(torch.zeros(count, dtype=torch.int64))


def shifted(known, point, direction, distance):
    """The feasible point at this distance from a known one, along a projected ray."""
    region = known.problem.feasible

    def at(length):
        return region.project((point + length * direction)[None])[0]

    low, high = 0.0, 8 * distance
    if float((at(high) - point).norm()) < distance:
        return None  # the ray runs into the normal cone
    for _ in range(60):
        middle = (low + high) / 2
        short = float((at(middle) - point).norm()) < distance
        low, high = (middle, high) if short else (low, middle)
    return at(high)


@pytest.mark.parametrize("share", [0.5, 0.9, 1.1, 2.0])
@pytest.mark.parametrize(
    ("known", "judge", "point"),
    [(*case, point) for case in PEAKED_JUDGED for point in case[0].local_maximisers],
    ids=judged_id,
)
def test_a_maximum_is_searched_within_the_distance_asked_for(
    known, judge, point, share
):
    distance = share * WITHIN * float(known.problem.size)
    ways = [seeded(len(point), seed=seed) for seed in range(6)]
    moved = [shifted(known, point, way / way.norm(), distance) for way in ways]
    points = torch.stack([found for found in moved if found is not None])
    assert len(points) >= 2
    judged = judge(copies(known, len(points)), points)
    for found, reason in zip(judged.verdict, judged.reason, strict=True):
        expected = found.is_maximum if share < 1 else found is sm.Verdict.NOT_STATIONARY
        assert expected, reason


@pytest.mark.parametrize(("known", "judge"), PEAKED_JUDGED, ids=judged_id)
def test_random_points_are_not_stationary(known, judge):
    points = sm.UniformStart(restarts=8, seed=2).points(known.problem)[:, 0]
    judged = judge(copies(known, 8), points)
    assert set(judged.verdict) == {sm.Verdict.NOT_STATIONARY}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("known", PROBLEMS, ids=lambda known: known.name)
def test_what_ascend_finds_is_a_maximum(known, dtype):
    problem = known.cast(dtype)
    start = sm.UniformStart(restarts=2, seed=4)
    ascent = sm.ascend(problem, start=start, max_steps=2000)
    for points in ascent.final:
        certificate = sm.local_optimality(problem, points)
        found = certificate.verdict[0]
        expected = (
            sm.Verdict.FLAT if known.constant else sm.Verdict.STRICT_LOCAL_MAXIMUM
        )
        if (
            known.name in PROVABLE
            and float(points[0].double() @ known.maximisers[0]) > 0
        ):
            expected = sm.Verdict.GLOBAL_MAXIMUM
        assert found is expected, certificate.explain(0)
        assert certificate.residual.dtype == torch.float64
        if dtype == torch.float64 and not known.constant:
            # One definition (mathematics.md §3), needing nothing of the run.
            there = float(ascent.residual.max())
            assert float(certificate.residual) <= max(there, 1e-12)


def test_batches_get_one_verdict_each():
    known = next(known for known in PROBLEMS if known.name == "trust region")
    points = torch.stack([point.point for point in known.points])
    certificate = sm.local_optimality(copies(known, 4), points)
    assert certificate.verdict == tuple(point.verdict for point in known.points)
    assert len(certificate) == 4
    assert certificate.maximum.tolist() == [True, True, False, False]


@pytest.mark.parametrize("known", PROBLEMS, ids=lambda known: known.name)
def test_analytic_problems_are_what_they_say(known):
    """Each asserts its own optimality: feasible, of the value named, unbeaten."""
    rows = known.problem.rows()
    for point in known.maximisers:
        assert bool(known.problem.feasible.contains(point[None]).all())
        value = float(rows.value(point[None]).loss)
        assert value == pytest.approx(known.value, rel=1e-14, abs=1e-15)
    many = known.problem.rows(torch.zeros(4000, dtype=torch.int64))
    draws = sm.UniformStart(restarts=2000).points(known.problem)[:, 0]
    edges = sm.BoundaryStart(restarts=2000).points(known.problem)[:, 0]
    values = many.value(torch.cat([draws, edges])).loss
    assert float(values.max()) <= known.value + 1e-14
    assert all(isinstance(point, Known) for point in known.points)
