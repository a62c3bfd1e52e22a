"""A pilot run: which method, how many steps and restarts reach what can be reached."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from summiteer._caller import undisturbed
from summiteer.adversaries import NAMED, SIZED
from summiteer.errors import UserError
from summiteer.examination import block_size_of, blocks_of
from summiteer.planning.choice import chosen, cost, reaching
from summiteer.planning.interval import Weights
from summiteer.planning.setting import Checked, Scale, Setting
from summiteer.planning.trial import Trial, joined, runs_of, search_of
from summiteer.problem import Problem
from summiteer.searching import EFFORTS
from summiteer.settings import Settings

#: What is tried on boxes unless something else is asked for; without mi-fgsm, whose
#: steps are signs, on round regions.
METHODS = ("apgd", "pga", "pgd", "mi-fgsm", "standard", "thorough")
#: Steps of runs that are tried.
_LENGTHS = (1, 2, 5, 10, 20, 50, 100, 200)
#: Its search is made in any case: the best known is worth as much as it found.
_REFERENCE = "thorough"


@dataclass(frozen=True, repr=False)
class Plan:
    """Which setting of an attack reaches a share of what is known to be reachable.

    Attributes:
        share: of the gain, that is asked for.
        examples: ids of the sample.
        candidates: how many examples it was drawn from: those that are classified
            rightly, if any are.
        total: examples of the problem.
        seed: of sample and attack; the pilot's starts are others.
        clean_losses: of each of `examples`, the objective without perturbation.
        best_losses: of each, the highest objective that anything met: a lower bound of
            its maximum.
        gainless: examples whose objective nothing raised; they count as reached.
        settings: all that were tried.
        choice: the cheapest setting, by gradient evaluations, that reaches the share,
            also where it was checked; the best one if `reached` is False.
        checked: what an attack with the choice comes to on the sample.
        reached: whether the share is reached, in the pilot and where it was checked.
        gradient_evaluations: of the pilot, per example.
    """

    share: float
    examples: tuple[int, ...]
    candidates: int
    total: int
    seed: int
    clean_losses: tuple[float, ...]
    best_losses: tuple[float, ...]
    gainless: int
    settings: tuple[Setting, ...]
    choice: Setting
    checked: Checked
    reached: bool
    gradient_evaluations: float
    seconds: float = field(compare=False)

    @property
    def methods(self) -> tuple[str, ...]:
        """What was tried, in order."""
        return tuple(dict.fromkeys(setting.method for setting in self.settings))

    def cheapest(self, method: str) -> Setting | None:
        """The cheapest setting of a method that reaches the share in the pilot."""
        mine = (s for s in self.settings if s.method == method)
        return min(reaching(mine, self.share), key=cost, default=None)

    def strongest(self, method: str) -> Setting:
        """The setting of a method with the highest gain, the cheapest of such."""
        mine = [s for s in self.settings if s.method == method]
        return min(mine, key=lambda setting: (-setting.gain, *cost(setting)))

    def curve(self, method: str, evaluations: Sequence[float]) -> list[float | None]:
        """The highest gain of a method's settings within so many evaluations.

        Args:
            method: one of `methods`.
            evaluations: gradient evaluations per example.

        Returns:
            One gain for each, None where no setting is as cheap.
        """
        mine = [s for s in self.settings if s.method == method]
        return [
            max((s.gain for s in mine if s.gradient_evaluations <= most), default=None)
            for most in evaluations
        ]

    def __repr__(self) -> str:
        """The choice and what it is worth."""
        verb = "reaches" if self.reached else "is the best, but does not reach"
        low, high = self.checked.gain_interval
        return (
            f"Plan from {len(self.examples)} of {self.total} examples: {self.choice} "
            f"{verb} {self.share:.4g} of the gain best known: {self.checked.gain:.4g} "
            f"({low:.3g} to {high:.3g}) at {self.checked.gradient_evaluations:.4g} "
            "gradient evaluations per example"
        )


def plan(
    problem: Problem,
    share: float = 0.99,
    *,
    methods: Sequence[str] | None = None,
    examples: int = 64,
    max_steps: int = _LENGTHS[-1],
    restarts: int = 9,
    seed: int = 0,
    report: Callable[[int, int], None] | None = None,
) -> Plan:
    """Try methods on a sample, and say which setting reaches the share at least cost.

    The gain of a setting is the mean over examples of (ℓ - clean)/(best - clean): ℓ is
    the highest objective that its runs meet, `clean` the objective without
    perturbation, `best` the highest that anything in the pilot met, a thorough search
    included: a lower bound of the maximum. Runs of 1, 2, 5, 10, 20, 50, 100 and 200
    steps are made, from the centre and from uniform points, until longer ones cannot be
    cheaper than what reaches the share already. The choice is then run again as an
    attack would run it, from other starts.

    Args:
        problem: what is maximised.
        share: of the gain, that is to be reached.
        methods: names of adversaries (`summiteer.adversaries.NAMED`) and efforts;
            those usual for the region if None.
        examples: of the sample; drawn among those that are classified rightly.
        max_steps: longest run that is tried.
        restarts: uniform starts that are tried, besides the centre.
        seed: of sample and attack.
        report: called with (trials made, trials that there are at most).

    Returns:
        `Plan`. Nothing of the caller's is changed.

    Raises:
        UserError: an argument cannot be used.
    """
    if methods is None:
        boxed = problem.feasible.boxed
        methods = [name for name in METHODS if boxed or name != "mi-fgsm"]
    _check(problem, share, methods, examples, max_steps, restarts, seed)
    problem.examine()
    sample, clean, candidates = _drawn(problem, examples, seed)
    named = [name for name in methods if name in NAMED]
    efforts = [name for name in EFFORTS if name in {*methods, _REFERENCE}]
    lengths = _lengths(max_steps)
    most = len(efforts) + len(named) * len(lengths) + 1
    weights = Weights.drawn(len(sample), seed)
    blocks = _blocks(sample, restarts, seed)
    # Not the attack's own seed: what is chosen by these starts is checked with others.
    pilot_seed = (seed + 1) % 2**32
    trials: list[Trial] = []

    def tell(trial: Trial) -> None:
        trials.append(trial)
        if report is not None:
            report(len(trials), most)

    for effort in efforts:
        tell(joined([search_of(part, effort, pilot_seed) for part in blocks]))
    while True:
        scale = _scale(trials, clean, share, weights, problem.labelled)
        settings = _settings(trials, scale, methods)
        due = [
            (name, lengths[_made(trials, name)])
            for name in named
            if _made(trials, name) < len(lengths)
            and _may_improve(settings, name, share)
        ]
        if not due:
            break
        for name, steps in due:
            parts = [runs_of(p, name, steps, restarts, pilot_seed) for p in blocks]
            tell(joined(parts))
    choice, checked = chosen(blocks, settings, scale, seed)
    if report is not None:
        report(most, most)
    return Plan(
        share=share,
        examples=tuple(torch.as_tensor(sample.ids).tolist()),
        candidates=candidates,
        total=len(problem),
        seed=seed,
        clean_losses=tuple(clean.tolist()),
        best_losses=tuple(scale.best.tolist()),
        gainless=int(scale.gainless.sum()),
        settings=tuple(settings),
        choice=choice,
        checked=checked,
        reached=min(choice.gain, checked.gain) >= share,
        gradient_evaluations=sum(
            t.once + t.evaluations * (t.restarts + 1) for t in trials
        ),
        seconds=sum(t.seconds * (t.restarts + 1) for t in trials) * len(sample),
    )


def _check(
    problem: Problem,
    share: float,
    methods: Sequence[str],
    examples: int,
    max_steps: int,
    restarts: int,
    seed: int,
) -> None:
    if not 0 < share < 1:
        raise UserError(f"share: expected a number between 0 and 1, got {share!r}.")
    known = [*NAMED, *EFFORTS]
    wrong = [name for name in methods if name not in known]
    if wrong or isinstance(methods, str) or not methods:
        raise UserError(
            f"methods: expected names out of {known}, got {wrong or methods!r}."
        )
    sized = [name for name in SIZED if name in methods]
    if sized and bool((problem.size != problem.size[0]).any()):
        raise UserError(
            f"methods: the step size of {sized[0]} follows from the radius, which "
            "differs between examples; leave it out."
        )
    numbers = [("examples", examples, 2), ("max_steps", max_steps, 1)]
    numbers += [("restarts", restarts, 0), ("seed", seed, 0)]
    for name, value, least in numbers:
        if not isinstance(value, int) or value < least:
            raise UserError(f"{name}: expected an integer ≥ {least}, got {value!r}.")


def _drawn(problem: Problem, examples: int, seed: int) -> tuple[Problem, Tensor, int]:
    """The sample, its objective without perturbation, and how many could be drawn."""
    centre = torch.zeros_like(problem.inputs)
    losses, wrong = [], []
    with undisturbed(problem.model):
        for index in blocks_of(len(problem), 256):
            value = problem.take(index).rows().value(centre[index])
            losses.append(value.loss.double().cpu())
            wrong.append(value.wrong.cpu())
    loss = torch.cat(losses)
    finite = loss.isfinite()
    usable = finite & ~torch.cat(wrong)
    usable = usable if bool(usable.any()) else finite
    index = usable.nonzero().flatten()
    if not len(index):
        raise UserError(
            "problem: its objective is not finite at any example; look at the model's "
            "outputs there."
        )
    order = np.random.default_rng(seed).permutation(len(index))[:examples]
    drawn = index[torch.from_numpy(np.sort(order))]
    return problem.take(drawn), loss[drawn], len(index)


def _lengths(longest: int) -> list[int]:
    """The numbers of steps up to the longest, itself among them."""
    return [*(steps for steps in _LENGTHS if steps < longest), longest]


def _blocks(sample: Problem, restarts: int, seed: int) -> list[Problem]:
    """The sample in parts whose runs fit into memory together."""
    effort = EFFORTS[_REFERENCE].with_runs(restarts, None, None)
    size = block_size_of(sample, Settings(sample.region, effort=effort), None)
    return [sample.take(index) for index in blocks_of(len(sample), size)]


def _scale(
    trials: list[Trial], clean: Tensor, share: float, weights: Weights, labelled: bool
) -> Scale:
    best = torch.cat([clean[None], *(trial.losses for trial in trials)]).amax(0)
    return Scale(clean, best, share, weights, labelled)


def _settings(
    trials: list[Trial], scale: Scale, methods: Sequence[str]
) -> list[Setting]:
    """Those of the methods that are asked for, in order; the reference need not be."""
    return [
        setting
        for method in methods
        for trial in trials
        if trial.method == method
        for setting in scale.settings(trial)
    ]


def _made(trials: list[Trial], method: str) -> int:
    return sum(trial.method == method for trial in trials)


def _may_improve(settings: list[Setting], method: str, share: float) -> bool:
    """Whether longer runs may reach the share at less cost than those made."""
    mine = [setting for setting in settings if setting.method == method]
    if not mine:
        return True
    # A longer run costs no less than the longest one so far, from one start.
    longer = max(s.gradient_evaluations for s in mine if s.restarts == 0)
    return all(s.gradient_evaluations > longer for s in reaching(mine, share))
