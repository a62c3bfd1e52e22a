"""What C1 to C4 have in common: the cells that several of them rest on."""

from summiteer.studies.claims.claim import Extent
from summiteer.studies.inputs import mnist_digest
from summiteer.studies.study import Study

#: In C1 and C4 PGA ends where its residual is 1e-6, or after 1000 steps.
LIMIT: dict[str, float] = {"tolerance": 1e-6, "max_steps": 1000}
#: Networks on which one run each that succeeds leaves 95 % below the interval.
NETWORKS = 72
#: At c = 10, where some runs of softplus networks succeed and some do not: so many that
#: the interval's half-width is 3 points.
ROUGH = {"softplus": 150, "tanh": NETWORKS}
#: Networks of curves against the scale.
FEW, QUICK = 8, 5
SCALES = [0.1, 0.3, 1.0, 3.0, 10.0]
MNIST_SCALES = [0.1, 1.0, 10.0]
SMOOTH = ["softplus", "tanh"]
#: Methods of `climb`, as the verdicts call them.
STEP_RULES = {
    "paper": "the paper's constant step",
    "normalised": "normalised steps of ε/10",
    "backtracking": "backtracking",
}
BLOCK = 250


def paper_studies(extent: Extent) -> tuple[Study, ...]:
    """The paper's step from one random start per image, on many networks.

    Args:
        extent: how much.
    """
    quick = extent == "quick"
    fixed = {"method": "paper", **LIMIT}
    regular = Study(
        name="paper-step",
        experiment="climb",
        fixed={**fixed, "examples": 2 if quick else 8},
        grid={
            "activation": ["softplus"] if quick else SMOOTH,
            "scale": [0.1, 1.0],
        },
        seeds=list(range(NETWORKS)),
    )
    rough = (
        Study(
            name=f"paper-step-rough-{activation}",
            experiment="climb",
            fixed={
                **fixed,
                "examples": 2 if quick else 4,
                "scale": 10.0,
                "activation": activation,
            },
            seeds=list(range(QUICK if quick else count)),
        )
        for activation, count in ROUGH.items()
        if activation == "softplus" or not quick
    )
    return regular, *rough


def regular_study(extent: Extent) -> Study:
    """Maxima from several random starts per image, by backtracking.

    Args:
        extent: how much.
    """
    quick = extent == "quick"
    return Study(
        name="maxima",
        experiment="climb",
        fixed=several_starts(extent, LIMIT["tolerance"]),
        grid={"activation": SMOOTH, "scale": MNIST_SCALES if quick else SCALES},
        seeds=list(range(QUICK if quick else FEW)),
    )


def several_starts(extent: Extent, tolerance: float) -> dict[str, object]:
    """Parameters with which several maxima of an image can be met.

    Args:
        extent: how much.
        tolerance: residual at which runs end.
    """
    quick = extent == "quick"
    return {
        "method": "backtracking",
        "restarts": 4 if quick else 10,
        "examples": 2 if quick else 8,
        "tolerance": tolerance,
    }


def mnist_studies(extent: Extent) -> tuple[Study, ...]:
    """Two softplus networks on MNIST by the paper's step; nothing without MNIST.

    Args:
        extent: 2 000 images in full, all ten thousand in full-mnist.
    """
    digest = None if extent == "quick" else mnist_digest()
    if digest is None:
        return ()
    images = 10_000 if extent == "full-mnist" else 2_000
    return (
        Study(
            name="mnist",
            experiment="climb",
            fixed={"data": "mnist", "digest": digest, "examples": BLOCK, **LIMIT},
            grid={"scale": MNIST_SCALES, "first": list(range(0, images, BLOCK))},
            seeds=[0, 1],
        ),
    )
