"""Calls of other libraries' PGD and APGD, all on the same kind of case."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Case:
    """What every contestant is given.

    Attributes:
        norm: "l2" or "linf".
        radius: of the ball.
        steps: of each run.
        step: length of each (APGD has its own).
        model: `[batch, *input]` -> `[batch, K]`, in eval mode.
        inputs: `[batch, *input]` in [0, 1].
        labels: `[batch]`.
        random: whether runs start at random points, or at the inputs.
    """

    norm: str
    radius: float
    steps: int
    step: float
    model: nn.Module
    inputs: Tensor
    labels: Tensor
    random: bool = False

    @property
    def batch(self) -> int:
        """How many inputs."""
        return len(self.inputs)


#: case -> adversarial inputs `[batch, *input]`.
Attack = Callable[[Case], Tensor]


def foolbox(case: Case) -> Tensor:
    """Its PGD, which returns the last iterate."""
    import foolbox as fb

    kind = (
        fb.attacks.L2ProjectedGradientDescentAttack
        if case.norm == "l2"
        else fb.attacks.LinfProjectedGradientDescentAttack
    )
    attack = kind(abs_stepsize=case.step, steps=case.steps, random_start=case.random)
    model = fb.PyTorchModel(case.model, bounds=(0.0, 1.0))
    criterion = fb.criteria.Misclassification(case.labels)
    points: Tensor = attack.run(model, case.inputs, criterion, epsilon=case.radius)
    return points


def torchattacks(case: Case) -> Tensor:
    """Its PGD and PGDL2, which return the last iterate."""
    import torchattacks as ta

    kind = ta.PGDL2 if case.norm == "l2" else ta.PGD
    attack = kind(
        case.model,
        eps=case.radius,
        alpha=case.step,
        steps=case.steps,
        random_start=case.random,
    )
    points: Tensor = attack(case.inputs, case.labels)
    return points


def art(case: Case) -> Tensor:
    """Its PGD for PyTorch, which returns the last iterate."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    classifier = PyTorchClassifier(
        case.model,
        loss=nn.CrossEntropyLoss(reduction="sum"),
        input_shape=tuple(case.inputs.shape[1:]),
        nb_classes=10,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    attack = ProjectedGradientDescentPyTorch(
        classifier,
        norm=2 if case.norm == "l2" else float("inf"),
        eps=case.radius,
        eps_step=case.step,
        max_iter=case.steps,
        num_random_init=int(case.random),
        batch_size=case.batch,
        verbose=False,
    )
    labels = functional.one_hot(case.labels, 10).numpy()
    return torch.from_numpy(attack.generate(case.inputs.numpy(), y=labels))


def apgd(case: Case) -> Tensor:
    """AutoAttack's APGD on cross-entropy; the iterate of highest loss.

    It makes one evaluation more than it makes steps.
    """
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        case.model,
        n_iter=case.steps,
        norm={"l2": "L2", "linf": "Linf"}[case.norm],
        eps=case.radius,
        loss="ce",
        device="cpu",
    )
    attack.init_hyperparam(case.inputs)
    start = None if case.random else case.inputs.clone()
    best: Tensor = attack.attack_single_run(case.inputs, case.labels, x_init=start)[0]
    return best
