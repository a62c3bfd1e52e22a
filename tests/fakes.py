"""Models and problems that several test files need."""

from itertools import pairwise

import torch
from torch import Tensor, nn

import summiteer as sm
from summiteer.analytic import Output
from summiteer.objectives import with_slopes
from summiteer.optimality import numerical
from summiteer.optimality.claims import Claims


class Counting:
    """Count the rows that go through a model with and without gradients."""

    def __init__(self, model) -> None:
        self.model = model
        self.with_gradient: list[int] = []
        self.without: list[int] = []

    def __call__(self, inputs: Tensor) -> Tensor:
        tally = self.with_gradient if torch.is_grad_enabled() else self.without
        tally.append(len(inputs))
        return self.model(inputs)


class Fragile:
    """wᵀx, but NaN (or infinite) beyond a level: a model that breaks on the way up."""

    def __init__(self, weights: Tensor, level: float, broken: float = torch.nan):
        self.weights, self.level, self.broken = weights, level, broken

    def __call__(self, inputs: Tensor) -> Tensor:
        outputs = inputs @ self.weights.to(inputs)
        return torch.where(outputs > self.level, self.broken, outputs)


class NanGradient(torch.autograd.Function):
    """The identity, whose derivative is NaN where the value exceeds a level."""

    @staticmethod
    def forward(ctx, values, level):
        ctx.save_for_backward(values)
        ctx.level = level
        return values.clone()

    @staticmethod
    def backward(ctx, gradients):
        (values,) = ctx.saved_tensors
        return torch.where(values > ctx.level, torch.nan, gradients), None


def seeded(*shape: int, seed: int = 0, dtype=torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def classifier(
    dims: tuple[int, ...] = (8, 12, 3), seed: int = 0, dtype=torch.float64
) -> nn.Sequential:
    """A random tanh network with several outputs; independent of torch's seed."""
    layers: list[nn.Module] = []
    for i, (inner, outer) in enumerate(pairwise(dims)):
        layer = nn.Linear(inner, outer, dtype=dtype)
        with torch.no_grad():
            layer.weight.copy_(seeded(outer, inner, seed=seed + i) / inner**0.5 * 2)
            layer.bias.copy_(0.1 * seeded(outer, seed=seed + i + 50))
        layers += [layer, nn.Tanh()]
    return nn.Sequential(*layers[:-1]).eval()


class CastsDown(nn.Module):
    """A float32 network that casts whatever comes to float32."""

    def __init__(self):
        super().__init__()
        self.net = classifier(dtype=torch.float32)

    def forward(self, inputs):
        return self.net(inputs.float())


def slopes(objective, outputs: Tensor, targets: Tensor) -> Tensor:
    """Gradients of an objective with respect to the outputs.

    By autograd, and as the ascent has them: both must be the same to rounding.
    """
    leaf = outputs.clone().requires_grad_()
    values = objective(leaf, targets)
    (gradient,) = torch.autograd.grad(values.sum(), leaf)
    given = outputs.clone()
    closed, slope = with_slopes(objective, outputs, targets)
    assert torch.equal(outputs.nan_to_num(), given.nan_to_num())
    assert not outputs.requires_grad
    # Shares of exp(80): a difference of outputs of 80 rounds to 80 units.
    close = 256 * torch.finfo(outputs.dtype).eps
    least = torch.finfo(outputs.dtype).tiny
    for one, other in ((values.detach(), closed), (gradient, slope)):
        assert one.dtype == other.dtype
        assert torch.allclose(one, other, close, least, equal_nan=True)
    return slope


def labelled_problem(
    batch: int = 6, seed: int = 0, dtype=torch.float64, region=None, **changes
) -> sm.Problem:
    """Random network, random inputs, the network's own labels."""
    model = changes.pop("model", None) or classifier(seed=seed, dtype=dtype)
    inputs = 0.5 * seeded(batch, 8, seed=seed + 100, dtype=dtype)
    with torch.no_grad():
        labels = classifier(seed=seed, dtype=dtype)(inputs).argmax(1)
    return sm.Problem(
        model,
        inputs,
        labels,
        changes.pop("objective", sm.CrossEntropy()),
        region or sm.L2Ball(0.5),
        **changes,
    )


def output_problem(model, inputs: Tensor, region, **changes) -> sm.Problem:
    """Ascend the model's own output."""
    targets = torch.zeros(len(inputs), dtype=inputs.dtype)
    return sm.Problem(model, inputs, targets, Output(), region, **changes)


def derivatives(function, point: Tensor) -> tuple[Tensor, Tensor]:
    """Gradient and Hessian of a scalar function, entry by entry.

    torch.func.hessian imports half of torch's compiler first: ten seconds.
    """
    point = point.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(function(point), point, create_graph=True)
    rows = [torch.autograd.grad(g, point, retain_graph=True)[0] for g in gradient]
    return gradient.detach(), torch.stack(rows)


def measured(problem: sm.Problem, points: Tensor, within: float = 1e-3) -> Claims:
    """What measurement says; it is heard only where nothing is proved."""
    return numerical.prove(problem.in_double(), points.double(), within)


def named(outcome) -> list[str]:
    """The names of an object array of enums, flat."""
    return [entry.name for entry in outcome.flatten()]
