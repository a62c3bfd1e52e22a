"""Which method rests on which work, in which module it is, and what uses it."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """What one module makes of the works that it cites.

    Attributes:
        name: for readers.
        module: where it is, below `summiteer.`.
        works: keys that the module cites.
        used: commands that use it.
    """

    name: str
    module: str
    works: tuple[str, ...]
    used: tuple[str, ...]


_ATTACKS = ("attack", "train")
_JUDGES = ("attack", "audit", "landscape", "reproduce")
_EVERY = ("attack", "audit", "landscape", "train", "reproduce")

METHODS: tuple[Method, ...] = (
    Method(
        "projected gradient ascent, FGSM, BIM, PGD",
        "adversaries.projected_ascent",
        (
            "deng2020towards",
            "goodfellow2015explaining",
            "kurakin2017adversarial",
            "madry2018towards",
        ),
        ("attack", "landscape", "train", "reproduce"),
    ),
    Method(
        "momentum (MI-FGSM)",
        "adversaries.momentum_ascent",
        ("dong2018boosting",),
        _ATTACKS,
    ),
    Method(
        "adversaries by name",
        "adversaries.named",
        ("dong2018boosting", "madry2018towards"),
        _ATTACKS,
    ),
    Method(
        "Auto-PGD",
        "adversaries.auto_pgd",
        ("croce2020reliable", "croce2021mind"),
        _ATTACKS,
    ),
    Method("sparse PGD on L1", "adversaries.sparse_pgd", ("croce2021mind",), _ATTACKS),
    Method(
        "Frank-Wolfe, its steps, its gap (FOSC)",
        "adversaries.frank_wolfe",
        (
            "frank1956algorithm",
            "freund2016new",
            "lacostejulien2016convergence",
            "pedregosa2020linearly",
            "wang2019convergence",
        ),
        _ATTACKS,
    ),
    Method(
        "backtracking steps",
        "adversaries.step_rule",
        ("bertsekas1976goldstein", "hager2005conjugate"),
        ("attack", "landscape", "reproduce"),
    ),
    Method(
        "one ascent per rival class",
        "multi_target",
        ("croce2020reliable", "gowal2019alternative"),
        ("attack",),
    ),
    Method(
        "difference of logits ratio",
        "objectives.ratio",
        ("croce2020reliable",),
        _ATTACKS,
    ),
    Method(
        "the same, targeted", "objectives.targeted", ("croce2020reliable",), ("attack",)
    ),
    Method(
        "gradients through closed gates",
        "searching.gates",
        ("guo2020backpropagating",),
        ("attack",),
    ),
    Method(
        "L1 projection and best vertex in a box",
        "regions.knapsack",
        ("bitran1981disaggregation", "dantzig1957discrete", "michelot1986finite"),
        ("attack", "audit"),
    ),
    Method(
        "cycles of iterates",
        "recurrence",
        ("brent1980improved", "doldo2025stop"),
        ("attack",),
    ),
    Method(
        "constants of a network on a ball",
        "_constants",
        ("polyak2001convexity",),
        ("landscape", "train", "reproduce"),
    ),
    Method("named random numbers", "draws", ("salmon2011parallel",), _EVERY),
    Method(
        "proved largest eigenvalues",
        "optimality.definite",
        ("rump2006verification",),
        _JUDGES,
    ),
    Method(
        "enclosures of rounding",
        "optimality.rounding",
        ("higham2002accuracy",),
        _JUDGES,
    ),
    Method(
        "largest curvature by Lanczos",
        "optimality.curvature",
        ("kuczynski1992estimating",),
        _JUDGES,
    ),
    Method(
        "concave ridges by active sets",
        "optimality.ridge",
        ("hintermuller2002primal",),
        _JUDGES,
    ),
    Method("problems with known maxima", "analytic", ("martinez1994local",), ()),
    Method(
        "distinct maxima, unseen mass",
        "landscape.maxima",
        ("clopper1934use", "good1953population", "maree2018real"),
        ("landscape", "reproduce"),
    ),
    Method("shares of basins", "landscape.peak", ("clopper1934use",), ("landscape",)),
    Method(
        "variation of gradients on the way",
        "landscape.ways",
        ("santurkar2018does",),
        ("landscape",),
    ),
    Method("limits of chances", "confidence", ("clopper1934use",), _EVERY),
    Method(
        "limits of means of few examples",
        "planning.interval",
        ("clopper1934use", "learned2019new"),
        ("attack",),
    ),
    Method(
        "bootstrap intervals",
        "studies.statistics",
        ("hesterberg2015teachers",),
        ("reproduce",),
    ),
    Method(
        "screen: no gradient",
        "screen.gradients",
        ("pintor2022indicators",),
        ("attack",),
    ),
    Method(
        "screen: unstable loss",
        "screen.stability",
        ("pintor2022indicators",),
        ("attack",),
    ),
    Method(
        "screen: silent success",
        "screen.recorded",
        ("pintor2022indicators",),
        ("attack",),
    ),
    Method(
        "screen: incomplete ascent",
        "screen.loss_path",
        ("pintor2022indicators",),
        ("attack",),
    ),
    Method(
        "screen: unbounded attack",
        "screen.unconstrained",
        ("pintor2022indicators",),
        ("attack",),
    ),
    Method(
        "screen: random or stateful models",
        "screen.behaviour",
        ("croce2020reliable",),
        ("attack", "audit"),
    ),
    Method(
        "screen: outputs that are probabilities",
        "screen.outputs",
        ("croce2020reliable",),
        ("attack", "audit"),
    ),
    Method(
        "adversarial training",
        "training._training",
        ("madry2018towards", "wong2020fast"),
        ("train",),
    ),
    Method("its usual attack", "training.recipe", ("madry2018towards",), ("train",)),
    Method(
        "alarm of catastrophic overfitting",
        "training.alarm",
        ("tsiligkaridis2022understanding", "wong2020fast"),
        ("train",),
    ),
    Method(
        "the inner problem watched",
        "training.inner_problem",
        ("tsiligkaridis2022understanding",),
        ("train",),
    ),
    Method(
        "what is recorded of it",
        "training.record",
        ("tsiligkaridis2022understanding", "wang2019convergence"),
        ("train",),
    ),
    Method("digits", "data.dataset", ("alpaydin1998optical",), _EVERY),
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
