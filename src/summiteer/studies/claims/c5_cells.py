"""The networks, tasks and protocols that C5 is measured with, fixed beforehand."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from summiteer.studies.claims.claim import Extent
from summiteer.studies.inputs import mnist_digest
from summiteer.studies.study import Study

SCALES = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
#: Multiples of 1/λ1 of the tangent kernel, and Adam's rates, to choose from.
MULTIPLES = (0.25, 0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8, 4.0, 5.6, 8.0, 11.0)
ADAM_RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
#: Ranges of the scale in which a slope is taken.
RANGES: Mapping[str, tuple[float, float]] = {
    "mid": (0.3, 3.0),
    "low": (0.03, 0.3),
    "high": (1.0, 10.0),
}


@dataclass(frozen=True)
class Setting:
    """A network on a task.

    Attributes:
        number: of the cell in the protocol, which the documentation names it by.
        words: for readers.
        parameters: of the experiment.
        primary: whether the claim is judged by it.
        scales: c.
    """

    number: int
    words: str
    parameters: Mapping[str, Any]
    primary: bool = False
    scales: tuple[float, ...] = SCALES

    @property
    def mnist(self) -> bool:
        """Whether it needs MNIST."""
        return "MNIST" in self.parameters.get("task", "")


_DEFAULT_NETWORK = {
    "task": "MNIST 3v7 28×28",
    "examples": 64,
    "network": "default",
    "trained": "all",
    "activation": "relu",
    "optimiser": "adam",
    "unit": "plain",
    "steps": 40,
}
SETTINGS: tuple[Setting, ...] = (
    Setting(1, "softplus, digits 0v1", {"activation": "softplus"}, True),
    Setting(2, "tanh, digits 0v1", {"activation": "tanh"}, True),
    Setting(3, "ReLU, digits 0v1", {"activation": "relu"}, True),
    Setting(
        4,
        "softplus, digits 0v1, f ≡ 0 at first",
        {"activation": "softplus", "doubled": True},
    ),
    Setting(
        5, "tanh, digits 0v1, f ≡ 0 at first", {"activation": "tanh", "doubled": True}
    ),
    Setting(
        6,
        "ReLU, digits 0v1, biases trained too",
        {"activation": "relu", "trained": "W+b"},
    ),
    Setting(
        7,
        "tanh, digits ≥5",
        {"activation": "tanh", "task": "digits ≥5", "steps": 100},
    ),
    Setting(
        8, "softplus, MNIST 3v7", {"activation": "softplus", "task": "MNIST 3v7"}, True
    ),
    Setting(9, "tanh, MNIST 3v7", {"activation": "tanh", "task": "MNIST 3v7"}, True),
    Setting(
        10,
        "tanh, MNIST parity, ratio 0.05",
        {"activation": "tanh", "task": "MNIST parity", "ratio": 0.05},
        True,
    ),
    Setting(
        11,
        "torch's own 784-256-256-1 ReLU network, MNIST 3v7",
        _DEFAULT_NETWORK,
        scales=(*SCALES, 30.0, 100.0),
    ),
)


@dataclass(frozen=True)
class Protocol:
    """How the learning rate goes with the scale.

    Attributes:
        key: P1 to P4, with what tells it from others of its kind.
        words: for readers.
        parameters: of the experiment.
        settings: numbers of those it is measured with.
    """

    key: str
    words: str
    parameters: Mapping[str, Any]
    settings: tuple[int, ...]


def _one_rate(rate: float) -> Protocol:
    words = f"one rate for all scales, η = {rate:g}"
    return Protocol(f"P1-{rate:g}", words, {"unit": "plain", "rates": [rate]}, (1, 2))


def _adam(rate: float) -> Protocol:
    parameters = {"optimiser": "adam", "unit": "plain", "rates": [rate]}
    words = f"Adam, one rate for all scales, {rate:g}"
    return Protocol(f"P4-{rate:g}", words, parameters, (1, 2))


PROTOCOLS: tuple[Protocol, ...] = (
    Protocol(
        "P2",
        "the best rate at each scale",
        {"rates": list(MULTIPLES)},
        tuple(range(1, 11)),
    ),
    _one_rate(0.3),
    _one_rate(3.0),
    _one_rate(30.0),
    Protocol(
        "P3",
        "rate 3/c²",
        {"unit": "inverse square", "rates": [3.0]},
        (1,),
    ),
    Protocol(
        "P4",
        "Adam, the best rate at each scale",
        {"optimiser": "adam", "unit": "plain", "rates": list(ADAM_RATES)},
        (1, 2, 11),
    ),
    _adam(0.01),
    _adam(0.1),
)
#: What `--quick` shows: one rate, few networks, a weaker strong adversary.
QUICK = Protocol(
    "shown",
    "rate 0.7/λ1, three networks",
    {
        "rates": [0.7],
        "steps": 20,
        "evaluation_seeds": 3,
        "strong_starts": 2,
        "strong_steps": 20,
        "looked_into": 1,
    },
    (1, 4),
)


@dataclass(frozen=True)
class Planned:
    """One protocol with one setting: a study, one cell per scale.

    Attributes:
        setting: network and task.
        protocol: learning rates.
        study: what is measured.
    """

    setting: Setting
    protocol: Protocol
    study: Study


def planned(extent: Extent) -> list[Planned]:
    """All studies of the claim, those it is judged by first.

    Args:
        extent: how much is measured. Without MNIST its settings are left out.
    """
    protocols = (QUICK,) if extent == "quick" else PROTOCOLS
    digest = None if extent == "quick" else mnist_digest()
    return [
        Planned(setting, protocol, _study(setting, protocol, digest))
        for protocol in protocols
        for setting in SETTINGS
        if setting.number in protocol.settings and (digest or not setting.mnist)
    ]


def _study(setting: Setting, protocol: Protocol, digest: str | None) -> Study:
    source = {"digest": digest} if setting.mnist else {}
    return Study(
        name=f"C5-{setting.number}-{protocol.key}",
        experiment="scaled-training",
        fixed={**setting.parameters, **protocol.parameters, **source},
        grid={"scale": list(setting.scales)},
    )
