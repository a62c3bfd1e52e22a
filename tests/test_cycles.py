"""Iterates that repeat: seen exactly, at their true period, and never elsewhere."""

import pytest
import torch
from torch import nn

import summiteer as sm
from fakes import labelled_problem, named, output_problem, seeded
from summiteer.errors import UserError
from summiteer.recurrence import Recurrence, memoryless

SIGNS = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.125))
#: Steps of ⅛ from 0 are exact in binary: iterates are multiples of ⅛.
TOP = torch.tensor([0.05, -0.05, 0.9, 0.3], dtype=torch.float64)


class Bowl(nn.Module):
    """-½‖x - c‖²: sign steps of size s end within s of c and cross it for ever."""

    def __init__(self, centre):
        super().__init__()
        self.register_buffer("centre", centre)

    def forward(self, inputs):
        return -0.5 * (inputs - self.centre).square().sum(1)


def bowl(batch=3, centre=TOP, region=None):
    inputs = torch.zeros(batch, len(centre), dtype=centre.dtype)
    return output_problem(Bowl(centre), inputs, region or sm.LinfBall(0.75))


def test_sign_steps_across_a_maximum_have_period_two():
    ascent = sm.ascend(bowl(), SIGNS, sm.CentreStart(), 500)
    assert set(named(ascent.outcome)) == {"CYCLE"}
    assert ascent.period.tolist() == [[2, 2, 2]]
    # On the cycle from step 6 on (0.9 is out of reach: six steps to the limit), saved
    # at step 7, seen two steps later.
    assert ascent.steps.tolist() == [[9, 9, 9]]
    # In closed form: 0.05 is crossed between 0 and ⅛, -0.05 between -⅛ and 0 and 0.3
    # between ¼ and ⅜; all at once, since each begins at 0.
    ends = torch.tensor([[0.0, 0, 0.75, 0.25], [0.125, -0.125, 0.75, 0.375]]).double()
    assert any(torch.equal(ascent.final[0, 0], end) for end in ends)
    assert torch.equal(ascent.losses[0], bowl().rows().value(ascent.final[0]).loss)
    # The best of all iterates, on the way to the cycle too.
    way = [sm.ascend(bowl(), SIGNS, sm.CentreStart(), t).losses for t in range(9)]
    assert torch.equal(ascent.best_loss, torch.stack(way).amax((0, 1)))


def test_members_and_coordinates():
    problem = bowl()
    ascent = sm.ascend(problem, SIGNS, sm.CentreStart(), 100)
    cycle = sm.cycle_members(problem, SIGNS, ascent, 0, 1)
    assert cycle.apart == 0
    assert torch.equal(cycle.members[0], ascent.final[0, 1])
    assert cycle.members[:, 2].tolist() == [0.75, 0.75]
    assert sorted(cycle.members[:, 0].tolist()) == [0.0, 0.125]
    assert cycle.oscillating.tolist() == [True, True, False, True]
    values = Bowl(TOP)(cycle.members)
    assert torch.equal(cycle.losses, values)


def test_members_of_what_is_no_cycle_are_refused():
    slope = lambda x: x.sum(1)  # noqa: E731
    problem = output_problem(slope, torch.zeros(1, 4).double(), sm.LinfBall(0.25))
    still = sm.ascend(problem, SIGNS, sm.CentreStart(), 100)
    with pytest.raises(UserError, match="did not end in a cycle but as"):
        sm.cycle_members(problem, SIGNS, still, 0, 0)
    with pytest.raises(UserError, match="restart, example: expected numbers within"):
        sm.cycle_members(problem, SIGNS, still, 3, 0)
    ascent = sm.ascend(bowl(), SIGNS, sm.CentreStart(), 100)
    with pytest.raises(UserError, match="has a memory"):
        sm.cycle_members(bowl(), sm.ProjectedAscent(), ascent, 0, 0)


class Turn(torch.autograd.Function):
    """A value whose gradient is what leads from each point of a list to the next."""

    @staticmethod
    def forward(ctx, inputs, path, following):
        place = (inputs[:, None] - path).abs().sum(2).argmin(1)
        ctx.save_for_backward(path[following[place]] - inputs)
        return inputs.new_tensor([1.0, 3.0, 2.0, 5.0])[place % 4]

    @staticmethod
    def backward(ctx, gradient):
        (way,) = ctx.saved_tensors
        return gradient[:, None] * way, None, None


def wheel(tail, period):
    """Raw gradient steps of size 1 go through `tail` points, then round `period`."""
    path = torch.stack([torch.arange(tail + period).double(), torch.ones(())
                        .double().expand(tail + period)], 1)  # fmt: skip
    following = torch.arange(1, tail + period + 1)
    following[-1] = tail
    start = path[:1].clone()
    problem = output_problem(
        lambda x: Turn.apply(x, path, following),
        torch.zeros(1, 2, dtype=torch.float64),
        sm.L2Ball(1e3),
    )
    adversary = sm.ProjectedAscent(sm.RawGradient(), sm.ConstantStep(1.0))
    return problem, adversary, sm.GivenStart(start)


@pytest.mark.parametrize("tail", [0, 1, 2, 7, 12])
@pytest.mark.parametrize("period", [2, 3, 4, 5, 6, 12, 17])
def test_the_period_is_the_true_one(tail, period):
    """Brent's bound on when, and neither a multiple nor a divisor of the period.

    Losses come back after four steps and often sooner: only points count.
    """
    problem, adversary, start = wheel(tail, period)
    ascent = sm.ascend(problem, adversary, start, 500, tolerance=None)
    assert named(ascent.outcome) == ["CYCLE"]
    assert int(ascent.period) == period
    assert int(ascent.steps) <= 2 * max(tail + 1, period) + period
    cycle = sm.cycle_members(problem, adversary, ascent, 0, 0)
    assert cycle.apart == 0
    assert sorted(cycle.members[:, 0].tolist()) == list(range(tail, tail + period))


def test_a_run_that_ends_before_its_cycle_is_none():
    problem, adversary, start = wheel(3, 5)
    ascent = sm.ascend(problem, adversary, start, 7, tolerance=None)
    assert named(ascent.outcome) == ["STEP_LIMIT"]
    assert int(ascent.period) == 0


def test_fixed_points_are_no_cycles():
    """Sign steps at a vertex come back to it each time: stationary, or stalled."""
    vertex = output_problem(
        lambda x: x.sum(1), torch.zeros(2, 3).double(), sm.LinfBall(0.25)
    )
    for tolerance, name in ((-1.0, "STATIONARY"), (None, "STALLED")):
        ascent = sm.ascend(vertex, SIGNS, sm.CentreStart(), 99, tolerance=tolerance)
        assert set(named(ascent.outcome)) == {name}
        assert not bool(ascent.period.any())
        assert int(ascent.steps.max()) <= 5


@pytest.mark.parametrize("direction", [sm.Normalised(), sm.RawGradient()])
@pytest.mark.parametrize("tolerance", [-1.0, None])
def test_rounding_around_a_maximum_is_no_cycle(direction, tolerance):
    """Steps that only flip last bits have stalled, whether or not they repeat."""
    problem = labelled_problem(batch=8, region=sm.L2Ball(0.3))
    adversary = sm.ProjectedAscent(direction, sm.ConstantStep(0.2))
    ascent = sm.ascend(problem, adversary, None, 3000, tolerance=tolerance)
    assert not bool(ascent.period.any())
    assert set(named(ascent.outcome)) <= {"STATIONARY", "STALLED", "STEP_LIMIT"}
    assert "STEP_LIMIT" not in named(ascent.outcome[:, :4])


class Heavy(sm.ProjectedAscent):
    """A sub-class that may do anything."""


@pytest.mark.parametrize(
    "method",
    [
        Heavy(sm.Sign(), sm.ConstantStep(0.125)),
        sm.ProjectedAscent(sm.Sign(), sm.DecayingStep(0.125)),
        sm.ProjectedAscent(sm.Sign(), sm.BacktrackingStep()),
        sm.MomentumAscent(step_rule=sm.ConstantStep(0.125)),
        sm.AutoPGD(50),
    ],
    ids=lambda method: type(method).__name__,
)
def test_methods_with_a_memory_are_not_watched(method):
    assert not memoryless(method)
    ascent = sm.ascend(bowl(), method, sm.CentreStart(), 50, tolerance=None)
    assert "CYCLE" not in named(ascent.outcome)
    assert not bool(ascent.period.any())


def test_cycles_do_not_depend_on_the_batch():
    centres = 0.3 * seeded(7, 4)

    def climb(rows, mode):
        problem = output_problem(
            lambda x: -x.square().sum(1), -centres[rows], sm.LinfBall(0.75)
        )
        return sm.ascend(
            problem, SIGNS, sm.CentreStart(), 200, after_cycle=mode, tolerance=1e-6
        )

    for mode in ("stop", "refine"):
        whole = climb(torch.arange(7), mode)
        assert bool((whole.period == 2).all())
        for i in range(7):
            alone = climb(torch.tensor([i]), mode)
            for name in ("final", "steps", "period", "losses"):
                mine = getattr(alone, name)[:, 0]
                assert torch.equal(mine, getattr(whole, name)[:, i]), name
            assert alone.outcome[0, 0] is whole.outcome[0, i]


def test_a_cycle_goes_on_from_where_it_is_started():
    problem = bowl()
    ascent = sm.ascend(problem, SIGNS, sm.CentreStart(), 100)
    again = sm.ascend(problem, SIGNS, sm.GivenStart(ascent.final), 100)
    assert set(named(again.outcome)) == {"CYCLE"}
    assert again.period.tolist() == [[2, 2, 2]]
    # No way to it any more: saved at step 1, back at step 3.
    assert again.steps.tolist() == [[3, 3, 3]]


@pytest.mark.parametrize("region", [sm.LinfBall(0.75), sm.L2Ball(0.75)])
def test_refined_runs_reach_the_maximum_that_the_cycle_misses(region):
    centre = torch.tensor([0.05, -0.05, 0.1, 0.3], dtype=torch.float64)
    problem = bowl(1, centre, region)
    stopped = sm.ascend(problem, SIGNS, sm.CentreStart(), 600)
    refined = sm.ascend(problem, SIGNS, sm.CentreStart(), 600, after_cycle="refine")
    assert named(stopped.outcome) == ["CYCLE"]
    assert float(stopped.best_loss) < -1e-3
    # The maximum is c itself; a residual of 1e-8 of a gradient of norm below 1.
    assert named(refined.outcome) == ["STATIONARY"]
    assert float((refined.best[0] - centre).abs().max()) < 1e-7
    assert int(refined.period) == 2
    # One evaluation per step, the start, two for the residual's scale, and one for
    # each return to the best point.
    steps, spent = int(refined.steps), refined.gradient_evaluations
    assert steps < 600
    assert steps + 3 < spent <= steps + 3 + 30


def test_refining_counts_against_the_step_limit():
    ascent = sm.ascend(
        bowl(), SIGNS, sm.CentreStart(), 20, after_cycle="refine", tolerance=0.0
    )
    assert set(named(ascent.outcome)) == {"STEP_LIMIT"}
    assert set(ascent.steps.flatten().tolist()) == {20}
    with pytest.raises(UserError, match="after_cycle: expected one of"):
        sm.ascend(bowl(), SIGNS, after_cycle="again")


def test_rows_that_leave_the_batch_take_what_is_saved_with_them():
    """The second row cycles long after the first has left."""
    inputs = torch.zeros(2, 1, dtype=torch.float64)
    inputs[1] = -8.0

    def model(x):
        return -(x[:, 0] - 0.05).abs()

    problem = output_problem(model, inputs, sm.LinfBall(20.0))
    ascent = sm.ascend(problem, SIGNS, sm.CentreStart(), 500)
    assert set(named(ascent.outcome)) == {"CYCLE"}
    assert ascent.period.tolist() == [[2, 2]]
    assert int(ascent.steps[0, 0]) < 6
    # 64 steps to 0, on the cycle; saved at step 127.
    assert int(ascent.steps[0, 1]) == 129


def test_only_running_rows_are_compared():
    points, loss = torch.zeros(2, 1).double(), torch.zeros(2).double()
    rows = bowl(2, TOP[:1]).rows()
    watch = Recurrence.begin(points, loss)
    running = torch.tensor([True, False])
    _, period = watch.look(rows, 1, points, loss, running)
    assert period is not None
    assert period.tolist() == [1, 0]


def test_patience_ends_what_circles_without_repeating():
    """Normalised steps around a maximum inside the ball; nobody looks for cycles."""
    problem = bowl(1, 0.1 * seeded(4, seed=3), sm.L2Ball(0.75))
    adversary = Heavy(sm.Normalised(), sm.ConstantStep(0.03))
    free = sm.ascend(problem, adversary, sm.CentreStart(), 400)
    ended = sm.ascend(problem, adversary, sm.CentreStart(), 400, patience=40)
    assert named(free.outcome) == ["STEP_LIMIT"]
    assert named(ended.outcome) == ["STALLED"]
    assert float(ended.residual) > 1e-8
    steps = int(ended.steps)
    way = [
        float(sm.ascend(problem, adversary, sm.CentreStart(), t).best_loss)
        for t in (steps - 41, steps - 40, steps)
    ]
    # Forty steps without a rise, and a rise before them.
    assert way[0] < way[1] == way[2]
    with pytest.raises(UserError, match="patience: expected an integer ≥ 1 or None"):
        sm.ascend(problem, patience=0)


def test_patience_adds_small_rises_up():
    """Rises of one unit of rounding do not count each, but do in their sum."""
    unit = torch.finfo(torch.float64).eps
    slope = 64 * unit

    problem = output_problem(
        lambda x: 1 + slope * x[:, 0], torch.zeros(1, 1).double(), sm.LinfBall(1e3)
    )
    adversary = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(1.0))
    climb = {"max_steps": 50, "start": sm.CentreStart()}
    assert named(sm.ascend(problem, adversary, patience=8, **climb).outcome) == [
        "STEP_LIMIT"
    ]
    assert named(sm.ascend(problem, adversary, patience=3, **climb).outcome) == [
        "STALLED"
    ]


def test_a_run_that_continues_ends_where_the_published_one_does():
    """Whichever member the last step meets: one more step ends at the other."""
    inputs, target = torch.zeros(1, 1).double(), torch.tensor([0.0]).double()
    problem = sm.Problem(
        lambda x: 2 - (x[:, 0] - 0.3).square(),
        inputs,
        target,
        sm.Quadratic(),
        sm.LinfBall(1.0),
    )
    method = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.25))
    ends = []
    for steps in (20, 21):
        run = sm.ascend(
            problem, method, sm.CentreStart(), steps, after_cycle="continue"
        )
        assert run.outcome[0, 0] is sm.Outcome.STEP_LIMIT
        assert int(run.steps) == steps
        assert int(run.period) == 0
        ends.append(float(run.final))
    # 0 → 0.25 → 0.5 → 0.25 → …
    assert ends == [0.5, 0.25]
    stopped = sm.ascend(problem, method, sm.CentreStart(), 21)
    assert stopped.outcome[0, 0] is sm.Outcome.CYCLE
