"""Which method rests on which work, in which module it is, and what uses it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib import resources

#: How works are cited by key.
_KEY = re.compile(r"`([a-z]+\d{4}[a-z]+)`")


@dataclass(frozen=True)
class Method:
    """What one module makes of the works that it cites.

    Attributes:
        name: for readers.
        module: where it is, below `summiteer.`.
        used: commands that use it.
    """

    name: str
    module: str
    used: tuple[str, ...]

    @cached_property
    def works(self) -> tuple[str, ...]:
        """Keys that the module cites, in order."""
        place = resources.files("summiteer") / f"{self.module.replace('.', '/')}.py"
        return tuple(sorted({*_KEY.findall(place.read_text("utf-8"))}))


_ATTACKS = ("attack", "train")
_POINTS = ("attack", "audit")
_JUDGES = ("attack", "audit", "landscape", "reproduce")
_EVERY = ("attack", "audit", "landscape", "train", "reproduce")

METHODS: tuple[Method, ...] = (
    Method(
        "projected gradient ascent, FGSM, BIM, PGD",
        "adversaries.projected_ascent",
        _EVERY,
    ),
    Method("momentum (MI-FGSM)", "adversaries.momentum_ascent", _ATTACKS),
    Method("adversaries by name", "adversaries.named", _ATTACKS),
    Method("Auto-PGD", "adversaries.auto_pgd", ("attack", "audit", "train")),
    Method("sparse PGD on L1", "adversaries.sparse_pgd", _ATTACKS),
    Method(
        "Frank-Wolfe, its steps, its gap (FOSC)", "adversaries.frank_wolfe", _ATTACKS
    ),
    Method("backtracking steps", "adversaries.step_rule", _EVERY),
    Method("one ascent per rival class", "multi_target", ("attack",)),
    Method("difference of logits ratio", "objectives.ratio", _ATTACKS),
    Method("the same, targeted", "objectives.targeted", ("attack",)),
    Method("gradients through closed gates", "searching.gates", ("attack",)),
    Method("L1 projection and best vertex in a box", "regions.knapsack", _POINTS),
    Method("cycles of iterates", "recurrence", _EVERY),
    Method(
        "constants of a network on a ball",
        "_constants",
        ("landscape", "train", "reproduce"),
    ),
    Method("named random numbers", "draws", _EVERY),
    Method("proved largest eigenvalues", "optimality.definite", _JUDGES),
    Method("enclosures of rounding", "optimality.rounding", _JUDGES),
    Method("largest curvature by Lanczos", "optimality.curvature", _JUDGES),
    Method("concave ridges by active sets", "optimality.ridge", _JUDGES),
    Method("problems with known maxima", "analytic", ()),
    Method(
        "distinct maxima, unseen mass",
        "landscape.maxima",
        ("attack", "landscape", "reproduce"),
    ),
    Method("shares of basins", "landscape.peak", ("landscape",)),
    Method("variation of gradients on the way", "landscape.ways", ("landscape",)),
    Method("limits of chances", "confidence", _EVERY),
    Method("limits of means of few examples", "planning.interval", ("attack",)),
    Method("bootstrap intervals", "studies.statistics", ("reproduce",)),
    Method("screen: no gradient", "screen.gradients", _POINTS),
    Method("screen: unstable loss", "screen.stability", _POINTS),
    Method("screen: silent success", "screen.recorded", _POINTS),
    Method("screen: incomplete ascent", "screen.loss_path", ("attack",)),
    Method("screen: unbounded attack", "screen.unconstrained", _POINTS),
    Method("screen: random or stateful models", "screen.behaviour", _POINTS),
    Method("screen: outputs that are probabilities", "screen.outputs", _POINTS),
    Method("adversarial training", "training._training", ("train",)),
    Method("its usual attack", "training.recipe", ("train",)),
    Method("alarm of catastrophic overfitting", "training.alarm", ("train",)),
    Method("the inner problem watched", "training.inner_problem", ("train",)),
    Method("what is recorded of it", "training.record", ("train",)),
    Method("digits", "data.dataset", _EVERY),
)

#: Works around the paper -> what they have to do with it, in a sentence of ours.
RELATED: Mapping[str, str] = {
    "goodfellow2015explaining": "One signed gradient step as an attack (FGSM), and "
    "training on what it finds.",
    "madry2018towards": "Adversarial training as a minimum over weights of a maximum "
    "over perturbations, the maximum by projected gradient steps: the procedure whose "
    "maximisation the paper analyses.",
    "wang2019convergence": "A first-order measure (FOSC) of how well the maximisation "
    "is solved, and convergence of the training in terms of it.",
    "gao2019convergence": "Adversarial training of very wide networks converges, "
    "whatever heuristic does the maximisation.",
    "zhang2020over": "The same with a width polynomial in the dimension, for ReLU.",
    "polyak2001convexity": "The image of a small ball under a smooth map is convex: "
    "what makes an ascent on a small enough ball have a single maximum (Prop. 5).",
    "rump2006verification": "Positive definiteness proved by one floating "
    "factorisation: what verdicts here rest on.",
    "croce2020reliable": "Step sizes that need no tuning, and an ensemble of attacks "
    "(AutoAttack) to judge robustness by.",
    "liu2020loss": "How the size of the perturbation shapes the landscape over the "
    "weights; the paper's is over the input.",
    "bubeck2021single": "On random two-layer networks one gradient step is enough to "
    "change the sign of the output.",
    "pintor2022indicators": "Signs by which a failed attack is recognised.",
    "tsiligkaridis2022understanding": "Frank-Wolfe steps in adversarial training, and "
    "what their distortion says of the landscape.",
    "doldo2025stop": "Projected gradient descent that has come back to a point will "
    "cycle: it can stop early without changing the result.",
}
