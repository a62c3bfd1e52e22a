"""The main job: attack a model on data and say what the robust accuracy is worth."""

import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from summiteer import _rows, tolerances
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer._snap import snap
from summiteer._typing import Model
from summiteer.adversaries import Adversary, default_adversary
from summiteer.ascent import Ascent
from summiteer.attack_summary import attack_result
from summiteer.errors import SummiteerWarning, UserError, collected_warnings
from summiteer.examination import (
    block_size_of,
    blocks_of,
    examined,
    gather,
    paths_of,
    problem_of,
    proved_robustness,
)
from summiteer.memory import enough
from summiteer.multi_target import multi_targeted
from summiteer.objectives import Objective
from summiteer.outcome import Outcome, codes
from summiteer.problem import Problem
from summiteer.regions import Region
from summiteer.screen import Screening, drawn, screen
from summiteer.screen.loss_path import incomplete
from summiteer.searching import SOURCE_NAMES, STOPPED, Search, effort_of, search
from summiteer.searching.neighbours import most_neighbours, usable_neighbours
from summiteer.settings import Settings
from summiteer.starts import CentreStart, GivenStart, Start, UniformStart
from summiteer.summary import Work
from summiteer.trajectory import Recorder
from summiteer.until import Misclassified, Until

#: Steps that take the strongest point to the top of its hill.
_SETTLING = 50
#: Of that way; the residual of longer ones would cost more than it tells.
_PATHS = Recorder(fields=("loss", "residual"))


@dataclass(frozen=True, eq=False)
class Attack:
    """What an attack found.

    Attributes:
        perturbations: `[n, *input]` float64, the strongest found for each example: the
            one of highest objective, or a misclassified one where that is not.
        arrays: per example, see `attack_block`.
        result: the content of result.json (architecture.md), without run and files.
    """

    perturbations: Tensor
    arrays: Mapping[str, Tensor]
    result: Mapping[str, Any]

    def __repr__(self) -> str:
        result = self.result
        verdicts = ", ".join(
            f"{sum(known.values())} {name}"
            for name, known in result["verdicts"].items()
        )
        left = result["survivors"]["examples"]
        said = "" if left is None else f"at most {left} of them robust; "
        return f"Attack on {result['examples']} examples: {said}{verdicts}"

    @property
    def robust_accuracy(self) -> float | None:
        """Share still correct, or None for regression."""
        accuracy: float | None = self.result["robust_accuracy"]
        return accuracy

    @property
    def clean_accuracy(self) -> float | None:
        """Share correct without attack, or None for regression."""
        accuracy: float | None = self.result["clean_accuracy"]
        return accuracy


def attack(
    model: Model,
    inputs: Tensor,
    targets: Tensor,
    *,
    region: Region,
    box: tuple[float, float] | None = (0.0, 1.0),
    objective: Objective | None = None,
    effort: str = "standard",
    adversary: Adversary | None = None,
    seed: int = 0,
    until: Until | None = None,
    within: float = tolerances.WITHIN,
    block_size: int | None = None,
    mask: Tensor | None = None,
    rivals: int | None = None,
    screened: bool = True,
    neighbours: tuple[Tensor, Tensor] | None = None,
) -> Attack:
    """Attack every example and examine what was found.

    Args:
        model: an nn.Module or callable; run in eval mode, left as it was.
        inputs: `[n, *input]` in the model's dtype.
        targets: labels, ±1 or floats; see `default_objective`.
        region: the set of allowed perturbations.
        box: (lo, hi) in input coordinates, or None.
        objective: what is ascended.
        effort: "standard" or "thorough".
        adversary: the region's default if None.
        seed: of the random starts.
        until: `Misclassified()` stops an example once it is.
        within: search distance of verdicts, in radii.
        block_size: examples attacked at once; chosen by memory if None.
        mask: bool `[*input]` or `[n, *input]`, which coordinates may move.
        rivals: attack towards each of so many most likely other classes; by effort if
            None (all), with an adversary of the user's own none.
        screened: whether the failure screen looks at model and data.
        neighbours: (inputs `[m, *input]`, labels `[m]`) of examples whose classes show
            the way, such as training data; if None the attacked ones, of many a
            sample.

    Returns:
        `Attack`.

    Raises:
        UserError: an argument cannot be used.

    Warns:
        SummiteerWarning: what makes the result mean less than it seems to.
    """
    settings = Settings(
        region=region,
        box=box,
        objective=objective,
        effort=effort_of(effort, adversary is None).with_runs(None, None, rivals),
        adversary=adversary,
        seed=seed,
        until=until,
        within=within,
        mask=mask,
        screened=screened,
    )
    began = time.monotonic()
    with collected_warnings() as messages:
        problem = problem_of(model, inputs, targets, settings)
        problem.examine(warn=not screened)
        settings = replace(settings, neighbours=_shown(problem, neighbours, settings))
        size = block_size_of(problem, settings, block_size)
        screening = screen(problem, seed) if screened else Screening()
        blocks = [
            attack_block(problem.take(index), settings)
            for index in blocks_of(len(problem), size)
        ]
    arrays = gather(blocks)
    seconds = round(time.monotonic() - began, 3)
    work = Work(
        problem,
        problem.labelled,
        settings,
        arrays,
        messages,
        screening,
        seconds,
    )
    result = attack_result(work)
    for finding in result["findings"]:
        warnings.warn(finding["text"], SummiteerWarning, stacklevel=2)
    return Attack(arrays["perturbations"], arrays, result)


def _shown(
    problem: Problem, given: tuple[Tensor, Tensor] | None, settings: Settings
) -> tuple[Tensor, Tensor] | None:
    """Which examples show every block the way; a note is a warning."""
    if settings.adversary is not None or not settings.effort.neighbours:
        if given is None:
            return None
        raise UserError(
            "neighbours: only the search asks for them; leave out adversary, or give "
            "an effort that has them."
        )
    if given is not None:
        known, note = usable_neighbours(problem, *map(torch.as_tensor, given))
        if note:
            warnings.warn(f"{note}.", SummiteerWarning, stacklevel=3)
        return known
    # Labels ±1 of one output name no class to go towards.
    if not problem.labelled or problem.targets.is_floating_point():
        return None
    most = most_neighbours(tuple(problem.inputs.shape[1:]))
    index = drawn(torch.as_tensor(problem.ids), settings.seed, most)
    return problem.inputs[index], problem.targets[index]


def attack_block(problem: Problem, settings: Settings) -> dict[str, Tensor]:
    """Attack one block and examine it.

    The default attack is a `search`, and then `_settled`, which takes the strongest
    point to the top of its hill. An adversary of the user's own, with its runs from
    every start and, if asked for, towards the likeliest rivals, is left alone.

    Args:
        problem: of the block's examples.
        settings: of the attack.

    Returns:
        The arrays of `examined` and, with one entry per example: outcome (int8 code of
        the run that ended at the point), broken (any run met NaN or infinity), period
        (of a cycle that any run met, 0 for none), incomplete (the best run still rose,
        see `summiteer.screen.loss_path`), silent (misclassified, but not where the
        objective is highest), rescued (see `Ascent.rescue`), survived, flipped (by
        more_steps), proved_robust (see `proved_robustness`), steps (of the run that
        ended at the point), gradient_evaluations; and how the runs went (`paths_of`):
        path_losses of the first, or best, run. Of a search also path_residuals of the
        last, source (int8 code in `SOURCE_NAMES`), stopped (int8 code in
        `STOPPED`), spent (gradient evaluations), draws (random restarts counted),
        maxima (distinct ones met), unseen and unseen_bound (of the chance that one more
        restart ends in another; NaN without restarts), and restart_losses `[batch, 1 +
        restarts]`, those of `Search`.

    Raises:
        UserError: the block does not fit into memory.
    """
    with enough(len(problem)):
        return _attacked(problem, settings)


def _attacked(problem: Problem, settings: Settings) -> dict[str, Tensor]:
    """See `attack_block`."""
    found = _climbed(problem, settings)
    if settings.adversary is None:
        found = _settled(problem, found)
    arrays = examined(problem, found.points, settings.within)
    _check_inside(problem, found.points)
    survived = arrays["correct"]
    if problem.labelled:
        survived = survived & ~found.wrong.cpu()
    flipped, spent = _continue(problem, settings, found, survived)
    first, last = found.ascents[0], found.ascents[-1]
    most = settings.effort.max_steps
    plans = most, most if last is first else _SETTLING
    outcome = np.concatenate([ascent.outcome for ascent in found.ascents])
    return arrays | {
        "outcome": found.outcome,
        "broken": torch.from_numpy((outcome == Outcome.NON_FINITE).any(0)),
        "period": torch.cat([a.period for a in found.ascents]).amax(0).cpu(),
        "incomplete": _incomplete(last).cpu(),
        "silent": _silent(problem, found).cpu(),
        "rescued": first.rescue.cpu(),
        **_told(found),
        **paths_of(found.ascents, plans, survived),
        "survived": survived,
        "steps": last.of_best(last.steps).to(torch.int32).cpu(),
        "flipped": flipped.cpu(),
        "proved_robust": proved_robustness(problem, survived),
        "gradient_evaluations": torch.tensor([found.spent + spent]),
    }


@dataclass(frozen=True, eq=False)
class _Found:
    """The strongest point of each example.

    Attributes:
        points: `[batch, *input]`.
        outcome: `[batch]` int8 code of the run that ended there.
        wrong: `[batch]` bool, whether any iterate of any run was misclassified.
        spent: gradient evaluations.
        highest: `[batch, *input]` where the objective is highest.
        ascents: runs of the problem's own objective, the first and the last.
        search: what was searched, None of the user's own adversary.
    """

    points: Tensor
    outcome: Tensor
    wrong: Tensor
    spent: int
    highest: Tensor
    ascents: tuple[Ascent, ...]
    search: Search | None = None


def _told(found: _Found) -> dict[str, Tensor]:
    """What a search says of each example besides its point."""
    made = found.search
    if made is None:
        return {}
    maxima = made.maxima
    stopped = [STOPPED.index(reason) for reason in made.stopped]
    # What broke on the way to the top of the hill is no source's merit.
    source = made.source
    if made.misclassified is not None:
        later = found.wrong & ~made.misclassified
        source = source.masked_fill(later, SOURCE_NAMES.index("settling"))
    return {
        "source": source.to(torch.int8).cpu(),
        "draws": (maxima.label[1:] >= 0).sum(0).to(torch.int32).cpu(),
        "stopped": torch.tensor(stopped, dtype=torch.int8),
        "spent": made.spent.to(torch.int32).cpu(),
        "restart_losses": made.restart_losses.T.double().cpu().contiguous(),
        "maxima": maxima.count.to(torch.int32).cpu(),
        "unseen": maxima.unseen.double().cpu(),
        "unseen_bound": maxima.unseen_bound.double().cpu(),
    }


def _climbed(problem: Problem, settings: Settings) -> _Found:
    """The search; or the user's own adversary, which is left alone."""
    effort, method = settings.effort, settings.adversary
    if method is None:
        return _searched(problem, settings)
    start: Start = CentreStart()
    if effort.restarts:
        start += UniformStart(restarts=effort.restarts, seed=settings.seed)
    ascent = ascend(
        problem,
        method,
        start,
        effort.max_steps,
        recorder=Recorder(fields=("loss",)),
        until=settings.until,
    )
    found = _found(problem, ascent)
    index = (~found.wrong).nonzero().flatten()
    if not (effort.rivals and problem.labelled and len(index)):
        return found
    some = problem.take(index)
    towards = multi_targeted(
        some,
        method,
        start,
        effort.max_steps,
        effort.rivals,
        until=Misclassified() if settings.until else None,
    )
    return _better(problem, found, index, _found(some, towards))


def _searched(problem: Problem, settings: Settings) -> _Found:
    """What a search finds: where the objective is highest, or a misclassified point."""
    made = search(
        problem,
        settings.effort,
        neighbours=settings.neighbours,
        seed=settings.seed,
        until=settings.until,
    )
    points, wrong = made.best, made.misclassified
    if wrong is None or made.misclassified_points is None:
        wrong = torch.zeros(len(problem), dtype=torch.bool, device=points.device)
    else:
        with undisturbed(problem.model):
            there = problem.rows().value(points).wrong
        points = _rows.choose(wrong & ~there, made.misclassified_points, points)
    return _Found(
        points,
        codes(made.ascent.outcome)[0],
        wrong,
        made.gradient_evaluations,
        made.best,
        (made.ascent,),
        made,
    )


def _found(problem: Problem, ascent: Ascent) -> _Found:
    example = torch.arange(len(problem))
    none = torch.zeros(len(problem), dtype=torch.bool, device=ascent.best.device)
    return _Found(
        _strongest(problem, ascent),
        codes(ascent.outcome)[ascent.best_restart.cpu(), example],
        none if ascent.misclassified is None else ascent.misclassified,
        ascent.gradient_evaluations,
        ascent.best,
        (ascent,),
    )


def _better(problem: Problem, found: _Found, index: Tensor, other: _Found) -> _Found:
    """`other`, of the examples `index`, where it broke one or is not lower."""
    with undisturbed(problem.model):
        rows = problem.rows(index)
        before, after = rows.value(found.points[index]), rows.value(other.points)
    higher = (after.loss >= before.loss) & (after.wrong | ~before.wrong)
    place = (higher | (other.wrong & ~found.wrong[index])).nonzero().flatten()
    chosen = index[place]
    outcome = found.outcome.clone()
    outcome[chosen.cpu()] = other.outcome[place.cpu()]
    wrong = found.wrong.clone()
    wrong[index] |= other.wrong
    points = found.points.index_copy(0, chosen, other.points[place])
    spent = found.spent + other.spent
    return replace(found, points=points, outcome=outcome, wrong=wrong, spent=spent)


def _settled(problem: Problem, found: _Found) -> _Found:
    """Take each point to the top of its hill: backtracking steps, then `snap`.

    APGD halves its step by a plan, not by what it meets, and ends near maxima rather
    than at them. What breaks on this way counts.
    """
    everyone = torch.arange(len(problem), device=found.points.device)
    climber = default_adversary(problem.feasible)
    run = ascend(
        problem,
        climber,
        GivenStart(found.points),
        _SETTLING,
        recorder=_PATHS,
    )
    found = _better(problem, found, everyone, _found(problem, run))
    snapped = snap(problem, found.points)
    with undisturbed(problem.model):
        rows = problem.rows()
        before, after = rows.value(found.points), rows.value(snapped.points)
    return replace(
        found,
        # Higher is not always wrong, with many classes or few digits.
        points=_rows.choose(before.wrong & ~after.wrong, found.points, snapped.points),
        wrong=found.wrong | after.wrong,
        spent=found.spent + snapped.gradient_evaluations,
        ascents=(*found.ascents, run),
    )


def _incomplete(ascent: Ascent) -> Tensor:
    """Whether the best run of each example still rose when its steps ran out."""
    assert ascent.trajectory is not None
    assert ascent.trajectory.loss is not None
    stopped = torch.from_numpy(ascent.outcome != Outcome.STEP_LIMIT)
    return ascent.of_best(incomplete(ascent.trajectory.loss.cpu(), stopped))


def _silent(problem: Problem, found: _Found) -> Tensor:
    """Misclassified somewhere, but not where the objective is highest."""
    with undisturbed(problem.model):
        return found.wrong & ~problem.rows().value(found.highest).wrong


def _check_inside(problem: Problem, points: Tensor) -> None:
    """An adversary of the user's own may forget to project; that proves nothing."""
    outside = (~problem.feasible.contains(points)).nonzero().flatten()
    if len(outside):
        ids = torch.as_tensor(problem.ids)[outside.cpu()].tolist()
        raise UserError(
            f"adversary: its points left the region for examples {ids}; make every "
            "step with rows.advance, which projects."
        )


def _strongest(problem: Problem, ascent: Ascent) -> Tensor:
    """Highest objective, or a misclassified iterate where that one is classified."""
    example = torch.arange(len(problem), device=ascent.best.device)
    final = ascent.final[ascent.best_restart, example]
    loss = ascent.losses[ascent.best_restart, example]
    # On a plateau of equal losses the end point is the one that has converged.
    noise = tolerances.same_loss(loss.dtype) * loss.abs()
    points = _rows.choose(ascent.best_loss - loss <= noise, final, ascent.best)
    if ascent.misclassified is None or ascent.misclassified_points is None:
        return points
    with undisturbed(problem.model):
        wrong = problem.rows().value(points).wrong
    return _rows.choose(
        ascent.misclassified & ~wrong, ascent.misclassified_points, points
    )


def _continue(
    problem: Problem, settings: Settings, found: _Found, survived: Tensor
) -> tuple[Tensor, int]:
    """Which survivors `more_steps` further steps of these runs would flip."""
    flipped = torch.zeros_like(survived)
    index = survived.nonzero().flatten()
    if not (problem.labelled and len(index) and settings.effort.more_steps):
        return flipped, 0
    # APGD would begin anew from there; the default goes on.
    more = ascend(
        problem.take(index),
        settings.adversary,
        GivenStart(torch.cat([ascent.final[:, index] for ascent in found.ascents])),
        settings.effort.more_steps,
        until=Misclassified(),
    )
    assert more.misclassified is not None
    flipped[index] = more.misclassified.cpu()
    return flipped, more.gradient_evaluations
