"""What `ascend` costs beside the model's own passes, whatever the model.

Time over forward and backward passes alone, what a step is made of, what is saved where
runs end early, and memory.
"""

import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from unittest import mock

import torch
from torch import nn
from torch.nn import functional

import summiteer as sm
from benchmarks import counts, loops
from benchmarks.fresh import fresh
from benchmarks.loops import BARE, MODELS, PEERS, SAME, STOPPING, make_case
from benchmarks.peers import Case
from benchmarks.section import Line, Section, table
from benchmarks.timing import Ratio, Times, in_turns
from summiteer import _ascend

OVERHEAD, MEMORY = 1.05, 1.2
FLOOR = "passes alone"
ALL, LEFT, DROPPED = "none ends", "ended, left in the batch", "ended, dropped"
NORMS = {"l2": "L2", "linf": "L∞"}
MLP, CONV, RESNET = MODELS
#: (model, batch, steps, rounds, whether the peers run too).
CASES = (
    (MLP, 64, 50, 15, True),
    (MLP, 256, 50, 11, True),
    (MLP, 1024, 50, 5, True),
    (CONV, 64, 50, 9, True),
    (CONV, 256, 30, 5, True),
    (CONV, 1024, 20, 5, False),
    (RESNET, 64, 20, 5, True),
    (RESNET, 256, 10, 5, False),
)
QUICK = ((MLP, 64, 10, 2, True), (CONV, 64, 5, 2, False))


def per_evaluation(times: Times, count: float) -> Times:
    """Seconds of each round, of one gradient evaluation of the batch."""
    return Times(tuple(seconds / count for seconds in times.seconds))


def overhead(
    case: Case, rounds: int, peers: bool
) -> tuple[dict[str, Ratio], dict[str, float], float]:
    """Time of a gradient evaluation over that of bare passes.

    Returns:
        By contestant the ratio, and the evaluations made; milliseconds of a pass.
    """
    attacks = loops.contestants(peers)
    loops.check_agreement(case, attacks)
    made = {name: loops.evaluations(name, case) / case.batch for name in attacks}
    # As many passes as our loop makes.
    passes = case.steps + 1
    timed = in_turns(
        {FLOOR: lambda: loops.passes(case, passes)}
        | {name: lambda f=attack: f(case) for name, attack in attacks.items()},
        rounds,
    )
    floor = per_evaluation(timed[FLOOR], passes)
    ratios = {
        name: per_evaluation(timed[name], made[name]).over(floor) for name in attacks
    }
    return ratios, made, 1e3 * floor.median


def overheads(quick: bool) -> tuple[str, list[Line]]:
    """The table, and a line for each model and norm."""
    rows, lines = [], []
    worst: dict[tuple[str, str], list[tuple[Ratio, int]]] = {}
    for name, batch, steps, rounds, peers in QUICK if quick else CASES:
        for norm, shown in NORMS.items():
            case = make_case(name, norm, batch, steps)
            ratios, made, floor = overhead(case, rounds, peers)
            cells = [
                str(ratios[each]) if each in ratios else ""
                for each in (BARE, SAME, STOPPING, *PEERS)
            ]
            count = f"{made[SAME]:g}, {made[STOPPING]:g}"
            rows.append((name, shown, batch, f"{floor:.2f}", *cells, count))
            worst.setdefault((name, shown), []).append((ratios[SAME], batch))
    for (name, shown), found in worst.items():
        ratio, batch = max(found, key=lambda each: each[0].value)
        lines.append(
            Line(
                f"`ascend`, same work, over passes alone: {name}, {shown}",
                f"≤ {OVERHEAD:.2f} at batch ≥ 64",
                f"{ratio} at batch {batch}, the worst of "
                f"{', '.join(str(b) for _, b in found)}",
                ratio.value <= OVERHEAD,
            )
        )
    head = ("model", "norm", "batch", "pass, ms", BARE, SAME, STOPPING, *PEERS)
    return table((*head, "passes of ours"), rows), lines


def step_counts(quick: bool) -> tuple[str, list[Line]]:
    """What a step is made of, at batches that differ."""
    batches = (64, 128) if quick else (64, 256, 1024)
    rows, waited, grown = [], [], []
    for norm, shown in NORMS.items():
        for name in (BARE, SAME, STOPPING):
            found = []
            for batch in batches:
                case = make_case(MLP, norm, batch, 1)
                run = loops.CONTESTANTS[name]
                count = counts.per_step(lambda n, r=run, c=case: r(replace(c, steps=n)))
                found.append(count)
                cells = (f"{x:.1f}" for x in (count.calls, count.operations))
                rows.append((shown, name, batch, *cells, f"{count.waits:.1f}"))
            if name != BARE:
                waited.append(max(count.waits for count in found))
                more = found[-1].calls - found[0].calls
                grown.append(more / (batches[-1] - batches[0]))
    head = ("norm", "loop", "batch", "Python calls", "operations", "waits")
    lines = [
        Line(
            f"Python calls that a step makes more for one more example (batch "
            f"{batches[0]} to {batches[-1]})",
            "none (< 0.1)",
            f"at most {max(grown):.3f}",
            max(grown) < 0.1,
        ),
        Line(
            "numbers that the host waits for in a step",
            "0",
            f"{min(waited):.1f} to {max(waited):.1f}",
            max(waited) == 0,
        ),
    ]
    return table(head, rows), lines


def digits(epochs: int) -> sm.Problem:
    """A small convolutional network trained on digits, and all of them in L∞ 0.1."""
    data = sm.load_data("digits")
    inputs, labels = data.inputs.float().reshape(-1, 1, 8, 8), data.targets
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = nn.Sequential(
            *(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(512, 10)),
        )
        optimiser = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(epochs):
            for index in torch.randperm(len(inputs)).split(64):
                optimiser.zero_grad()
                functional.cross_entropy(model(inputs[index]), labels[index]).backward()
                optimiser.step()
    model.eval().requires_grad_(False)
    region = sm.LinfBall(0.1)
    return sm.Problem(model, inputs, labels, sm.CrossEntropy(), region, box=(0.0, 1.0))


def kept(run: Callable[[], sm.Ascent]) -> sm.Ascent:
    """The same run with finished rows left in the batch."""
    with mock.patch.object(_ascend, "_COMPACT", 0.0):
        return run()


def early_ends(quick: bool) -> tuple[str, list[Line]]:
    """Runs that end early: dropped, left in the batch, or made to make all steps."""
    problem = digits(2 if quick else 10).take(torch.arange(128 if quick else 1024))
    steps, rounds = (20, 2) if quick else (100, 7)
    pgd = sm.ProjectedAscent(sm.Sign(), sm.ConstantStep(0.25 / steps))
    methods: dict[str, tuple[Any, dict[str, Any]]] = {
        "PGD, until misclassified": (pgd, {"until": sm.Misclassified()}),
        "APGD, until stationary": (sm.AutoPGD(steps), {"tolerance": 1e-4}),
    }
    rows, lines = [], []
    for name, (method, reason) in methods.items():
        fixed = {"tolerance": None, "after_cycle": "continue", "rescue": False}

        def run(method: Any = method, **given: Any) -> sm.Ascent:
            return sm.ascend(problem, method, sm.CentreStart(), steps, **given)

        ending = {**fixed, **reason}
        ways: dict[str, Callable[[], sm.Ascent]] = {
            ALL: lambda run=run, fixed=fixed: run(**fixed),
            LEFT: lambda run=run, e=ending: kept(lambda: run(**e)),
            DROPPED: lambda run=run, e=ending: run(**e),
        }
        found = {way: function() for way, function in ways.items()}
        left, dropped = list(found.values())[1:]
        # Of few rows some kernels round differently, and one sign more or less decides.
        same = (left.misclassified == dropped.misclassified).double().mean()
        if same < 0.99:
            raise ValueError(f"{name}: dropping rows changed what was found ({same}).")
        times = in_turns(ways, rounds)
        for way, ascent in found.items():
            ended = f"{float((ascent.steps < steps).double().mean()):.0%}"
            each = ascent.gradient_evaluations / len(problem)
            ratio = times[way].over(times[ALL])
            rows.append((name, way, f"{each:.1f}", ended, str(ratio)))
        saved = times[DROPPED].over(times[ALL])
        share = dropped.gradient_evaluations / found[ALL].gradient_evaluations
        lines.append(
            Line(
                f"time of {name}, over that without",
                "less",
                f"{saved}, with {share:.2f} of the gradient evaluations",
                saved.highest < 1,
            )
        )
    head = ("method", "finished runs", "gradients per example", "ended early", "time")
    return table(head, rows), lines


def prepared(name: str, model: str, norm: str, batch: int) -> Callable[[], None]:
    """What `fresh` watches: a contestant on a case, after a few of its rows."""
    case, attack = make_case(model, norm, batch, 10), loops.CONTESTANTS[name]
    attack(replace(case, inputs=case.inputs[:8], labels=case.labels[:8], steps=2))

    def call() -> None:
        attack(case)

    return call


def memories(quick: bool) -> tuple[str, list[Line]]:
    """Peak memory in fresh processes."""
    cases = [(MLP, 256), (MLP, 1024), (CONV, 256), (CONV, 1024), (RESNET, 256)]
    if quick:
        cases = [(CONV, 64)]
    rows, lines = [], []
    names = (BARE, SAME, STOPPING)
    for model, batch in cases:
        given: dict[str, Any] = {"model": model, "norm": "l2", "batch": batch}
        middle = {
            name: statistics.median(
                fresh(__name__, "prepared", **given, name=name).memory
                for _ in range(1 if quick else 3)
            )
            for name in names
        }
        ratios = {name: middle[name] / middle[BARE] for name in names}
        cells = (f"{middle[name]:.0f} ({ratios[name]:.2f})" for name in names)
        rows.append((model, batch, *cells))
        lines.append(
            Line(
                f"peak memory of `ascend`: {model}, batch {batch}",
                f"≤ {MEMORY} of the bare loop's",
                f"{ratios[STOPPING]:.2f} (same work {ratios[SAME]:.2f})",
                ratios[STOPPING] <= MEMORY,
            )
        )
    return table(("model", "batch", *names), rows), lines


TEXT = """Untrained networks, random inputs, float32, constant steps (L2: normalised,
L∞: sign) from the centre; end points are compared before anything is timed. Each figure
is the time of one gradient evaluation of the batch, over that of a forward and a
backward pass alone ("pass": same batch, no step, no projection), which is what the
model itself costs whoever attacks it. *same work* makes all steps (`tolerance=None`,
`after_cycle="continue"`, `rescue=False`); *default* measures residuals and looks for
cycles too. The evaluation of the last point and, for the residual, of a boundary point
is counted ("passes of ours"). The bare loop is one written by hand that works in place.
What a run does once (checking the problem, writing results) is in the figures.

{overhead}

### What a step is made of

The MLP; one step more, by `cProfile` and `torch.profiler`. A wait is a number, or the
length of an index, that the host asks for: next to nothing on a CPU, a synchronisation
on a GPU.

{counts}

### Runs that end early

{digits} digits, a small convolutional network trained on them, L∞ 0.1, box [0, 1].
A finished run leaves the batch once a quarter of it is done; *left in the batch* is the
same with that switched off. Where none ends, runs whose steps no longer move them do.

{early}

### Memory

By how many MiB a fresh process grows at most beyond model, data and what the first call
loads, on L2; median of three, in brackets over the bare loop's. Beside the model's
activations `ascend` keeps the best, the first misclassified and the last point of each
run.

{memory}
"""


def measure(quick: bool) -> Section:
    """All four."""
    overhead_, lines = overheads(quick)
    counted, more = step_counts(quick)
    lines += more
    early, more = early_ends(quick)
    lines += more
    memory, more = memories(quick)
    lines += more
    text = TEXT.format(
        overhead=overhead_,
        counts=counted,
        early=early,
        memory=memory,
        digits=128 if quick else 1024,
    )
    return Section("Any model", text, lines, PEERS)
