"""The settings in which attacks are compared: networks on MNIST, balls, test images."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor, nn

import summiteer as sm
from benchmarks.mnist_networks import DATA, RECIPES, Recipe, trained
from summiteer.cells import digest_arrays

EXAMPLES = 1000
RADII = (("linf", 0.1), ("linf", 0.3), ("l2", 1.0), ("l2", 2.0))


@dataclass(frozen=True)
class Setting:
    """One network and one ball.

    Attributes:
        recipe: how the network was trained.
        norm: "l2" or "linf".
        radius: of the ball.
        examples: the first so many test images.
    """

    recipe: Recipe
    norm: str
    radius: float
    examples: int = EXAMPLES

    def __str__(self) -> str:
        name = {"linf": "L∞", "l2": "L2"}[self.norm]
        return f"{self.recipe.name}, {name} {self.radius:g}"

    @property
    def model(self) -> nn.Module:
        """The network, in eval mode."""
        return network(self.recipe)

    @property
    def region(self) -> sm.Region:
        """The ball."""
        return sm.L2Ball(self.radius) if self.norm == "l2" else sm.LinfBall(self.radius)

    @property
    def inputs(self) -> Tensor:
        """`[examples, 1, 28, 28]` float32."""
        return images(self.examples)[0]

    @property
    def labels(self) -> Tensor:
        """`[examples]` int64."""
        return images(self.examples)[1]

    def problem(self, double: bool = False) -> sm.Problem:
        """Maximise cross-entropy, in float32 or in float64."""
        given = sm.Problem(
            self.model,
            self.inputs,
            self.labels,
            sm.CrossEntropy(),
            self.region,
            box=(0.0, 1.0),
        )
        return given.in_double() if double else given

    def said(self) -> dict[str, object]:
        """What names it: the model's weights and layers, the data, the ball."""
        model = self.model
        return {
            "weights": digest_arrays(model.state_dict()),
            "layers": repr(model),
            "data": digest_arrays({"inputs": self.inputs, "labels": self.labels}),
            "ball": [self.norm, self.radius],
        }


@cache
def network(recipe: Recipe) -> nn.Module:
    """The trained network, whose weights need no gradient."""
    return trained(recipe).requires_grad_(False)


@cache
def images(count: int) -> tuple[Tensor, Tensor]:
    """The first test images `[count, 1, 28, 28]` and their labels `[count]`."""
    data = sm.load_data(str(DATA / "mnist"))
    return data.inputs[:count].float().reshape(-1, 1, 28, 28), data.targets[:count]


def settings(architectures: tuple[str, ...], examples: int) -> Iterator[Setting]:
    """Those of each network, the trained-against ones first."""
    for recipe in sorted(RECIPES, key=lambda each: -each.radius):
        if recipe.architecture not in architectures:
            continue
        for norm, radius in RADII:
            yield Setting(recipe, norm, radius, examples)


def wrong(setting: Setting, perturbations: Tensor) -> Tensor:
    """`[examples]` bool, what the model gets wrong; ties as errors."""
    problem = setting.problem()
    with torch.no_grad():
        return problem.rows().value(perturbations.to(problem.inputs)).wrong
