"""Loops that make the same steps: ours, one written by hand, those of other libraries.

Beside them the floor: forward and backward passes alone, at the same point over and
over, with no step and no projection.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

import summiteer as sm
from benchmarks.page import version
from benchmarks.peers import Attack, Case, art, foolbox, torchattacks

#: Inputs lie so far from 0 and 1 that no iterate meets the box that some insist on.
_LOW, _HIGH = 0.3, 0.7
#: End points of two loops may differ by so much.
AGREE = 1e-5
PEERS = ("foolbox", "torchattacks", "ART")


def mlp() -> nn.Module:
    """784-256-10, ReLU."""
    return nn.Sequential(
        nn.Flatten(), nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10)
    )


def conv() -> nn.Module:
    """Two convolutions and two linear layers on 1×28×28."""
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU()),
        *(nn.Flatten(), nn.Linear(32 * 49, 100), nn.ReLU(), nn.Linear(100, 10)),
    )


class Block(nn.Module):
    """Two convolutions beside a shortcut."""

    def __init__(self, given: int, width: int, stride: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            nn.Conv2d(given, width, 3, stride=stride, padding=1, bias=False),
            *(nn.BatchNorm2d(width), nn.ReLU()),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.BatchNorm2d(width),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1:
            self.shortcut = nn.Conv2d(given, width, 1, stride=stride, bias=False)

    def forward(self, inputs: Tensor) -> Tensor:
        return torch.relu(self.branch(inputs) + self.shortcut(inputs))


def resnet() -> nn.Module:
    """Three residual blocks of 16, 32, 64 channels on 3×32×32."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()),
        *(Block(16, 16, 1), Block(16, 32, 2), Block(32, 64, 2)),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)),
    )


#: name -> (the model, the shape of one input).
MODELS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "MLP 784-256-10": (mlp, (1, 28, 28)),
    "conv 16-32, 100-10": (conv, (1, 28, 28)),
    "ResNet-8, 3×32×32": (resnet, (3, 32, 32)),
}


def usual(
    norm: str, steps: int, model: nn.Module, inputs: Tensor, labels: Tensor
) -> Case:
    """A case with the radius of peers' usual demonstrations, from the centre.

    Steps are 2.5 · radius / steps long (Madry et al. 2018).
    """
    radius = 1.0 if norm == "l2" else 0.05
    return Case(norm, radius, steps, 2.5 * radius / steps, model, inputs, labels)


def make_case(
    name: str, norm: str, batch: int, steps: int, device: str = "cpu"
) -> Case:
    """An untrained network of `MODELS` and random inputs, float32."""
    make, shape = MODELS[name]
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make().eval().requires_grad_(False)
        inputs = _LOW + (_HIGH - _LOW) * torch.rand(batch, *shape)
    labels = model(inputs).argmax(1)
    return usual(norm, steps, model.to(device), inputs.to(device), labels.to(device))


def passes(case: Case, count: int) -> None:
    """The floor: `count` forward and backward passes."""
    for _ in range(count):
        moved = case.inputs.detach().requires_grad_()
        loss = functional.cross_entropy(case.model(moved), case.labels, reduction="sum")
        torch.autograd.grad(loss, moved)


def bare(case: Case) -> Tensor:
    """The loop one would write by hand for speed, and nothing that it does not need."""
    delta = torch.zeros_like(case.inputs)
    per_row = (-1, *[1] * (delta.ndim - 1))
    for _ in range(case.steps):
        moved = (case.inputs + delta).requires_grad_()
        loss = functional.cross_entropy(case.model(moved), case.labels, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, moved)
        if case.norm == "l2":
            norms = torch.linalg.vector_norm(gradient.flatten(1), dim=1).view(per_row)
            delta.addcmul_(gradient, case.step / norms)
            norms = torch.linalg.vector_norm(delta.flatten(1), dim=1).view(per_row)
            delta.mul_((case.radius / norms).clamp_(max=1.0))
        else:
            delta.add_(gradient.sign_(), alpha=case.step)
            delta.clamp_(-case.radius, case.radius)
    return case.inputs + delta


def problem(case: Case) -> sm.Problem:
    """The case as a problem."""
    region = (sm.L2Ball if case.norm == "l2" else sm.LinfBall)(case.radius)
    return sm.Problem(case.model, case.inputs, case.labels, sm.CrossEntropy(), region)


def ascended(case: Case, same_work: bool) -> sm.Ascent:
    """Our loop: all steps whatever happens, or as a user gets it."""
    direction = sm.Normalised() if case.norm == "l2" else sm.Sign()
    adversary = sm.ProjectedAscent(direction, sm.ConstantStep(case.step))
    start = sm.CentreStart()
    if not same_work:
        return sm.ascend(problem(case), adversary, start, case.steps)
    return sm.ascend(
        problem(case),
        adversary,
        start,
        case.steps,
        tolerance=None,
        after_cycle="continue",
        rescue=False,
    )


def same_work(case: Case) -> Tensor:
    """Where our loop ends after all steps."""
    return case.inputs + ascended(case, True).final[0]


def stopping(case: Case) -> Tensor:
    """Where it ends if it may stop."""
    return case.inputs + ascended(case, False).final[0]


BARE, SAME, STOPPING = "bare loop", "`ascend`, same work", "`ascend`, default"
CONTESTANTS: dict[str, Attack] = {
    BARE: bare,
    SAME: same_work,
    STOPPING: stopping,
    "foolbox": foolbox,
    "torchattacks": torchattacks,
    "ART": art,
}


def contestants(peers: bool = True) -> dict[str, Attack]:
    """Ours, the bare loop, and the libraries that are installed."""
    return {
        name: attack
        for name, attack in CONTESTANTS.items()
        if name not in PEERS or (peers and version(name))
    }


def evaluations(name: str, case: Case) -> int:
    """Gradient evaluations of rows, all together."""
    if name in (SAME, STOPPING):
        return ascended(case, name == SAME).gradient_evaluations
    return case.steps * case.batch


def check_agreement(case: Case, attacks: dict[str, Attack]) -> None:
    """End points must be the bare loop's up to rounding; this warms up, too.

    One row in ten may differ: where an iterate grazes a kink of a ReLU, or a
    gradient entry is nearly 0, the last bit decides where the step goes.

    Raises:
        ValueError: they are not.
    """
    expected = bare(case)
    for name, attack in attacks.items():
        apart = (attack(case).detach() - expected).abs().flatten(1).amax(1) > AGREE
        if int(apart.sum()) > max(1, case.batch // 10):
            raise ValueError(
                f"{name}, {case.norm}, batch {case.batch}: {int(apart.sum())} end "
                "points are not the bare loop's; times would not compare."
            )
