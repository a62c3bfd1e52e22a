"""What is recorded on the way, and how much memory it may take."""

import pytest
import torch

import summiteer as sm
from fakes import Fragile, labelled_problem, named, output_problem
from summiteer.analytic import trust_region
from summiteer.errors import UserError
from summiteer.trajectory import FIELDS

PLAIN = sm.ProjectedAscent(sm.Normalised(), sm.ConstantStep(0.05))
STARTS = sm.CentreStart() + sm.UniformStart(restarts=2, seed=3)


def climb(recorder, steps=30, **changes):
    problem = labelled_problem(region=sm.L2Ball(0.3))
    changes.setdefault("adversary", PLAIN)
    ascent = sm.ascend(
        problem, start=STARTS, max_steps=steps, recorder=recorder, **changes
    )
    return problem, ascent


def test_nothing_is_recorded_unless_asked_for():
    _, ascent = climb(None)
    assert ascent.trajectory is None


def test_fields_against_their_definitions():
    problem, ascent = climb(sm.Recorder(), steps=6, tolerance=None)
    record = ascent.trajectory
    assert record is not None
    assert record.step.tolist() == list(range(7))
    iterates = [sm.ascend(problem, PLAIN, STARTS, t, tolerance=None) for t in range(7)]
    centre = torch.zeros_like(problem.inputs)
    rows = problem.rows()
    g0 = rows.evaluate(centre).gradient
    edge = 0.3 * g0 / g0.norm(dim=1, keepdim=True)
    largest = torch.maximum(g0.norm(dim=1), rows.evaluate(edge).gradient.norm(dim=1))
    for t, run in enumerate(iterates):
        points = run.final
        expected = {"loss": run.losses, "norm": points.norm(dim=2)}
        residual = []
        for p in points:
            g = rows.evaluate(p).gradient
            scale = torch.maximum(largest, g.norm(dim=1))[:, None]
            moved = p + 0.3 * g / scale
            moved = moved * (0.3 / moved.norm(dim=1, keepdim=True)).clamp(max=1)
            residual.append((moved - p).norm(dim=1) / 0.3)
        expected["residual"] = torch.stack(residual)
        if t:
            expected["displacement"] = (points - iterates[t - 1].final).norm(dim=2)
        for name, value in expected.items():
            recorded = getattr(record, name)[t]
            # Float32 records.
            assert torch.allclose(recorded, value.float(), rtol=1e-6, atol=1e-7), name
        assert set(record.step_size[t].flatten().tolist()) == {
            float(torch.tensor(0.05 if t else 0.0))
        }
    assert not bool(record.displacement[0].any())


@pytest.mark.parametrize("every", [1, 3, 8])
def test_a_stride_records_every_so_many_steps(every):
    _, dense = climb(sm.Recorder(), tolerance=None)
    _, sparse = climb(sm.Recorder(every=every), tolerance=None)
    assert dense.trajectory is not None
    assert sparse.trajectory is not None
    assert sparse.trajectory.step.tolist() == list(range(0, 31, every))
    for name in FIELDS:
        fine, coarse = (getattr(a.trajectory, name) for a in (dense, sparse))
        assert torch.equal(coarse, fine[::every]), name


def test_memory_is_bounded_by_doubling_the_stride():
    rows = 3 * 6
    cost = 4 * len(FIELDS) * rows
    for room, every in ((31, 1), (30, 2), (16, 2), (15, 4), (2, 16), (1, 32)):
        assert sm.Recorder(max_bytes=room * cost).stride(30, rows) == every
    _, ascent = climb(sm.Recorder(max_bytes=8 * cost), tolerance=None)
    record = ascent.trajectory
    assert record is not None
    assert record.step.tolist() == list(range(0, 31, 4))
    used = sum(getattr(record, name).nbytes for name in FIELDS)
    assert used <= 8 * cost
    # One record is the least there is.
    assert sm.Recorder(max_bytes=1).stride(30, rows) > 30


def test_nan_once_a_run_has_stopped():
    _, ascent = climb(sm.Recorder(), steps=500, adversary=None)
    record = ascent.trajectory
    assert record is not None
    assert len(set(ascent.steps.flatten().tolist())) > 1
    assert int(record.step[-1]) == int(ascent.steps.max())
    step = record.step[:, None, None]
    for name in FIELDS:
        finite = getattr(record, name).isfinite()
        assert torch.equal(finite, (step <= ascent.steps).expand(finite.shape)), name
    last = record.loss.gather(0, ascent.steps[None])[0]
    assert torch.equal(last, ascent.losses.float())
    assert torch.equal(
        record.residual.gather(0, ascent.steps[None])[0], ascent.residual.float()
    )


def test_a_step_that_broke_is_not_recorded():
    model = Fragile(torch.tensor([1.0, 0.5], dtype=torch.float64), 0.3)
    problem = output_problem(model, torch.zeros(1, 2).double(), sm.L2Ball(1.0))
    ascent = sm.ascend(problem, PLAIN, sm.CentreStart(), 20, sm.Recorder())
    record = ascent.trajectory
    assert named(ascent.outcome) == ["NON_FINITE"]
    assert record is not None
    steps = int(ascent.steps)
    for name in FIELDS:
        values = getattr(record, name).flatten()
        assert bool(values[: steps + 1].isfinite().all()), name
        assert bool(values[steps + 1 :].isnan().all()), name


def test_recording_changes_nothing():
    _, plain = climb(None, steps=100, adversary=None)
    _, recorded = climb(sm.Recorder(every=2), steps=100, adversary=None)
    assert torch.equal(plain.final, recorded.final)
    assert named(plain.outcome) == named(recorded.outcome)
    assert plain.gradient_evaluations == recorded.gradient_evaluations


@pytest.mark.parametrize("changes", [{"every": 0}, {"max_bytes": 0}])
def test_bad_recorders_are_refused(changes):
    with pytest.raises(UserError, match=r"recorder: expected every ≥ 1"):
        sm.Recorder(**changes)


def test_only_what_is_asked_for_is_computed_and_kept(monkeypatch):
    def refuse(*arguments):
        raise AssertionError("nobody asked for it")

    _, full = climb(sm.Recorder(), tolerance=None)
    monkeypatch.setattr(sm.L2Ball, "residual", refuse)
    _, plain = climb(None, tolerance=None)
    _, ascent = climb(sm.Recorder(fields=("loss",)), tolerance=None)
    record = ascent.trajectory
    assert record is not None
    assert record.residual is record.norm is record.gap is None
    assert torch.equal(record.loss, full.trajectory.loss)
    # Nor is the residual's scale evaluated.
    assert ascent.gradient_evaluations == plain.gradient_evaluations
    assert sm.Recorder(fields=("loss",), max_bytes=4 * 18 * 31).stride(30, 18) == 1


def test_the_gap_is_recorded_where_it_is_asked_for():
    problem, ascent = climb(sm.Recorder(fields=("gap",)), steps=5, tolerance=None)
    gap = ascent.trajectory.gap
    assert gap is not None
    assert ascent.trajectory.loss is None
    ended = ascent.final
    for run, points in enumerate(ended):
        gradient = problem.rows().evaluate(points).gradient
        # ε‖g‖ - gᵀδ on a ball; recorded in float32.
        expected = 0.3 * gradient.norm(dim=1) - (gradient * points).sum(1)
        assert torch.allclose(gap[5, run], expected.float(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("fields", [(), ("nonsense",), "loss"])
def test_bad_fields_are_refused(fields):
    with pytest.raises(UserError, match="recorder: expected fields out of"):
        sm.Recorder(fields=fields)


def test_what_a_step_did_is_recorded():
    """Rises, gradients and points, against runs of t and t - 1 steps."""
    fields = ("rise", "gradient_norm", "gradient_change", "point")
    problem, ascent = climb(sm.Recorder(fields=fields), steps=6, tolerance=None)
    record = ascent.trajectory
    assert record is not None
    iterates = [sm.ascend(problem, PLAIN, STARTS, t, tolerance=None) for t in range(7)]
    rows = problem.rows()
    gradients = [
        torch.stack([rows.evaluate(p).gradient for p in run.final]) for run in iterates
    ]
    for t, run in enumerate(iterates):
        last = max(t - 1, 0)
        turn = gradients[t] - gradients[last]
        expected = {
            "rise": run.losses - iterates[last].losses,
            "gradient_norm": gradients[t].norm(dim=2),
            "gradient_change": turn.norm(dim=2),
            "point": run.final,
        }
        for name, value in expected.items():
            recorded = getattr(record, name)[t]
            exact = name == "point"  # the others are float32
            rtol, atol = (0.0, 1e-14) if exact else (1e-5, 1e-7)
            assert recorded.dtype == (torch.float64 if exact else torch.float32)
            value = value.to(recorded.dtype)
            assert torch.allclose(recorded, value, rtol=rtol, atol=atol), name


def test_points_count_in_the_memory():
    rows, size = 18, 5
    record = rows * (4 + 8 * size)
    recorder = sm.Recorder(fields=("loss", "point"), max_bytes=record)
    assert recorder.stride(30, rows, size) > 30
    wide = sm.Recorder(fields=("loss", "point"), max_bytes=31 * record)
    assert wide.stride(30, rows, size) == 1


def test_a_rise_is_not_rounded_to_float32():
    """Near a maximum a step raises the objective by less than float32 resolves."""
    problem = trust_region().problem
    recorder = sm.Recorder(fields=("rise", "loss"))
    ascent = sm.ascend(problem, None, STARTS, 200, recorder)
    rise, loss = ascent.trajectory.rise, ascent.trajectory.loss
    tiny = (rise > 0) & (rise < 1e-9 * loss.abs())
    assert problem.inputs.dtype == torch.float64
    assert bool(tiny.any())
