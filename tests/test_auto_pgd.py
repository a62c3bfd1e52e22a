"""AutoPGD: its step sizes by hand, its best point, its reference implementation."""

import pytest
import torch

import summiteer as sm
from fakes import labelled_problem, output_problem, seeded
from summiteer.adversaries import default_adversary, default_attack
from summiteer.problem import Evaluation
from summiteer.regions import L1Ball
from summiteer.spaces import rotation_invariant

FREE = {"tolerance": None}  # no run ends before its last step


def sizes(ascent):
    """Step sizes used, `[steps, rows]`, of a recorded ascent."""
    return ascent.trajectory.step_size[1:].flatten(1)


def test_step_sizes_and_iterates_on_a_roof_are_those_computed_by_hand():
    """-|δ - 0.3| on [-1, 1] from 0; 20 steps: checkpoints at 4, 7, 9, 10, 11, ….

    ⌊.22·20⌋ = 4, each interval shorter by max(⌊.6⌋, 1) = 1, the shortest ⌊1.2⌋ = 1.
    d = ±1, so z = clip(δ ± η); δ⁺ = δ + ¾(z - δ) + ¼(δ - δ⁻), dyadic numbers all.

    step  δ before      z            δ after          higher?
     1    0             1            1                no     (α = 1)
     2    1            -1           -.25              yes
     3   -.25           1            .375             yes
     4    .375         -1           -.5               no     2 ≤ ¾·4: η = 1, to .375
     5    .375         -.625        -.375             no     (δ⁻ = .375: no momentum)
     6   -.375          .625         .1875            yes
     7    .1875         1            .9375            no     1 ≤ ¾·3: η = ½, to .375
     8    .375         -.125         .046875          no     (δ⁻ = .1875)
     9    .046875       .546875      .33984375        yes    1 ≤ ¾·2: η = ¼, stays
    10    .33984375     .08984375    .2255859375      no     0 ≤ ¾·1: η = ⅛, back
    """
    problem = output_problem(
        lambda x: -(x - 0.3).abs().sum(1), torch.zeros(1, 1).double(), sm.LinfBall(1.0)
    )
    after = [1, -0.25, 0.375, -0.5, -0.375, 0.1875, 0.9375]
    after += [0.046875, 0.33984375, 0.2255859375]
    for steps, point in enumerate(after, start=1):
        ascent = sm.ascend(
            problem,
            sm.AutoPGD(20),
            sm.CentreStart(),
            steps,
            sm.Recorder(every=1),
            **FREE,
        )
        assert float(ascent.final) == point
        best = max([0, *after[:steps]], key=lambda d: -abs(d - 0.3))
        assert float(ascent.best) == best
    assert sizes(ascent).flatten().tolist() == 4 * [2] + 3 * [1] + 2 * [0.5] + [0.25]


def fed(adversary, losses):
    """Sizes `[steps, rows]` of the steps after each of the losses `[steps, rows]`."""
    losses = torch.tensor(losses, dtype=torch.float64)
    rows = output_problem(
        lambda x: x.sum(1), torch.zeros(losses.shape[1], 2).double(), sm.L2Ball(1.0)
    ).rows()
    points, state, used = torch.zeros_like(rows.inputs), None, []
    for loss in losses:
        wrong = torch.zeros(len(loss), dtype=torch.bool)
        evaluation = Evaluation(loss, torch.ones_like(points), wrong)
        state = state or adversary.init(rows, points, evaluation)
        made = adversary.step(rows, points, evaluation, state)
        points, state = made.points, made.state
        used.append(made.size)
    return torch.stack(used)


def test_both_conditions_halve_at_the_checkpoints_computed_by_hand():
    """ρ = ½, 20 steps: intervals 4, 3, 2, 1, 1; a step is halved at ≤ 2, 1, 1, 0, 0.

    Example 0: 3 rises of 4. Then 3 of 3, but the best stays 3 and nothing was halved
    before: condition 2. Two of 2; 1 of 1; no rise: condition 1.
    Example 1: the best is the start: condition 2 holds at 4 but may not fire there; it
    does at 7, and not at 9, the checkpoint after.
    Example 2: no rise of 4: condition 1, back to loss 0. From there to -.5 is a fall,
    though it is above the -1 left behind; -.6, then -.55 the one rise of 3.
    Example 3: the first step falls from 5 to 4; 2 rises of 4. (Compared with 0 it would
    be a rise, the third.) It returns to 5 and never rises above that: 2, 1, 0, 0.
    """
    losses = [
        # start; then what each step leads to: 4, 3, 2, 1, 1
        [0, 1, 2, 3, 1, 2, 2.5, 2.9, 3.5, 4, 5, 5],
        [0, -1, -0.9, -0.8, -0.7, -0.6, -0.5, -0.4, -1, -0.9, -0.8, -0.7],
        [0, -1, -1, -1, -1, -0.5, -0.6, -0.55, -1, -1, -1, -1],
        [5, 4, 4.5, 4.2, 4.4, 4, 4.1, 4.2, 4, 4.9, 4, 4],
    ]
    used = fed(sm.AutoPGD(20, rho=0.5), list(zip(*losses, strict=True)))
    # The size of step t + 1 is known once loss t is seen.
    assert used[:, 0].tolist() == [2] * 7 + [1] * 4 + [0.5]
    # At 9 one rise of 2: condition 1; at 10 no rise from 0, at 11 neither.
    assert used[:, 1].tolist() == [2] * 7 + [1] * 2 + [0.5, 0.25, 0.125]
    assert used[:, 2].tolist() == [2] * 4 + [1] * 3 + [0.5] * 2 + [0.25, 0.125, 0.0625]
    assert used[:, 3].tolist() == [2] * 4 + [1] * 5 + [0.5, 0.25, 0.125]


def test_condition_two_needs_the_last_checkpoint_to_have_halved_nothing():
    """ρ = ½: without a better loss it fires at most at every other checkpoint."""
    # Rising always, from -1, never to the start's 0: condition 1 never fires, except
    # for the first step after a return, which falls from 0 (1 rise of 2 or 0 of 1).
    losses = [[0.0], *([-1 + 0.01 * t] for t in range(12))]
    used = fed(sm.AutoPGD(50, rho=0.5), losses)[:, 0]
    # ⌊.22·50⌋ = 11: the first checkpoint is free, the next one after 10 more.
    assert used.tolist() == [2] * 13
    losses += [[-0.5 + 0.01 * t] for t in range(20)]
    used = fed(sm.AutoPGD(50, rho=0.5), losses)[:, 0]
    assert used.tolist() == [2] * 21 + [1] * 12


def test_after_its_steps_it_goes_on_with_the_shortest_interval():
    """10 steps: intervals 2, 1, 1, …; a constant loss never rises: halved each time."""
    used = fed(sm.AutoPGD(10), [[1.0]] * 14)[:, 0]
    assert used.tolist() == [2, 2, *(2 * 0.5**k for k in range(1, 13))]


REGIONS = {
    "l2": (sm.L2Ball(0.5), None),
    "l2 ∩ box": (sm.L2Ball(0.5), (-1.5, 1.5)),
    "linf": (sm.LinfBall(0.2), None),
    "linf ∩ box": (sm.LinfBall(0.2), (-1.5, 1.5)),
    "box": (sm.Box(-0.1, 0.3), None),
    "sphere": (sm.Sphere(0.5), None),
    "l1": (L1Ball(0.8), None),
    "l1 ∩ box": (L1Ball(0.8), (-1.5, 1.5)),
}


@pytest.fixture(params=REGIONS.values(), ids=REGIONS)
def problem(request):
    region, box = request.param
    made = labelled_problem(region=region)
    if box is None:
        return made
    return sm.Problem(
        made.model,
        made.inputs.clamp(*box),
        made.targets,
        made.objective,
        region,
        box,
    )


STARTS = sm.CentreStart() + sm.UniformStart(restarts=2)


def test_points_are_feasible_and_the_best_one_never_falls(problem):
    best = []
    for steps in (0, 3, 10, 30, 60):
        ascent = sm.ascend(problem, sm.AutoPGD(40), STARTS, steps, **FREE)
        assert bool(problem.feasible.contains(ascent.best).all())
        for points in ascent.final:
            assert bool(problem.feasible.contains(points).all())
        best.append(ascent.best_loss)
    rises = torch.stack(best).diff(dim=0)
    assert bool((rises >= 0).all())
    assert bool((rises.sum(0) > 0).all())


def test_what_it_reaches_is_nearly_a_local_maximum(problem):
    """Backtracking from there, which stops at local maxima only, gains a per cent."""
    plain = default_adversary(problem.feasible)
    reached = sm.ascend(problem, sm.AutoPGD(100), STARTS, 100)
    further = sm.ascend(problem, plain, sm.GivenStart(reached.best), 400)
    # The same points, alone and in larger batches: last bits.
    assert bool((further.best_loss >= reached.best_loss - 1e-12).all())
    assert bool((further.best_loss <= 1.01 * reached.best_loss).all())


def test_a_run_does_not_depend_on_its_companions(problem):
    together = sm.ascend(problem, sm.AutoPGD(30), STARTS, 30)
    for i in range(len(problem)):
        alone = sm.ascend(problem.take(torch.tensor([i])), sm.AutoPGD(30), STARTS, 30)
        # Products of matrices round by batch size; 30 steps enlarge that.
        assert torch.allclose(alone.best_loss[0], together.best_loss[i], rtol=1e-9)
        assert torch.allclose(alone.final[:, 0], together.final[:, i], atol=1e-7)


def test_recording_changes_nothing():
    """A step that does not move is asked about more often then: it is not the end.

    On inputs at the box's limits sparse steps of a vertex stand still until η falls.
    """
    made = labelled_problem(region=L1Ball(2.0))
    problem = sm.Problem(
        made.model,
        made.inputs.clamp(0, 1),
        made.targets,
        made.objective,
        made.region,
        (0.0, 1.0),
    )
    recorder = sm.Recorder(fields=("loss",))
    plain = sm.ascend(problem, sm.AutoPGD(100), STARTS, 100, **FREE)
    told = sm.ascend(problem, sm.AutoPGD(100), STARTS, 100, recorder=recorder, **FREE)
    assert torch.equal(plain.final, told.final)
    assert (plain.outcome == told.outcome).all()
    assert bool((plain.steps == 100).all())


def test_rows_that_end_early_leave_the_state_of_others_alone():
    """One example is stationary at its start; the others run as without it."""
    problem = labelled_problem(region=sm.LinfBall(0.3))
    still = sm.ascend(problem, max_steps=500).best
    start = torch.zeros_like(still)
    start[2] = still[2]
    mixed = sm.ascend(problem, sm.AutoPGD(30), sm.GivenStart(start), 30)
    plain = sm.ascend(problem, sm.AutoPGD(30), sm.CentreStart(), 30)
    others = torch.tensor([0, 1, 3, 4, 5])
    # The matrix products of fewer rows round otherwise.
    assert torch.allclose(mixed.best[others], plain.best[others], atol=1e-9)


def test_it_commutes_with_rotations_of_an_l2_ball():
    assert rotation_invariant(sm.AutoPGD())
    network = sm.TwoLayerNetwork.random(60, 6, "tanh", seed=3)
    targets = torch.tensor([1.0, -1.0, 1.0], dtype=torch.float64)
    problem = sm.Problem(
        network, 0.3 * seeded(3, 60), targets, sm.Quadratic(), sm.L2Ball(0.8)
    )
    runs = [
        sm.ascend(problem, sm.AutoPGD(40), STARTS, 40, space=space, **FREE)
        for space in ("input", "row")
    ]
    assert [run.space for run in runs] == ["input", "row"]
    # The same numbers but for rounding, in 60 and in 7 dimensions.
    assert torch.allclose(runs[0].best_loss, runs[1].best_loss, rtol=1e-9)
    assert torch.allclose(runs[0].final, runs[1].final, atol=1e-7)


def test_tiny_gradients_have_a_direction():
    """The reference's 1e-12 beside ‖g‖ would leave the point where it is."""
    slope = 1e-30 * torch.tensor([3.0, -4.0]).double()
    problem = output_problem(
        lambda x: x @ slope, torch.zeros(1, 2).double(), sm.L2Ball(1.0)
    )
    ascent = sm.ascend(problem, sm.AutoPGD(10), sm.CentreStart(), 10)
    # Two roundings.
    expected = torch.tensor([[0.6, -0.8]]).double()
    assert torch.allclose(ascent.best, expected, atol=1e-15)


def test_the_default_attack_of_each_region():
    for region, _ in REGIONS.values():
        expected = sm.AutoPGD(50)
        if region.norm == "sphere":
            expected = default_adversary(region)
        assert default_attack(region, 50) == expected
