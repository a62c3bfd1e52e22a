"""Problems whose maximisers are known: ground truth for every adversary and verdict.

Each record carries one example, its global maximisers and what `local_optimality` must
say at chosen points. Adding a problem is one function, and one line in `PROBLEMS`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from scipy.optimize import brentq
from torch import Tensor

from summiteer.networks import TwoLayerNetwork
from summiteer.objectives import Quadratic
from summiteer.optimality.verdict import Verdict
from summiteer.problem import Problem
from summiteer.regions import Box, L1Ball, L2Ball, LinfBall, Region, Sphere

_MAXIMUM = Verdict.STRICT_LOCAL_MAXIMUM


@dataclass(frozen=True)
class Output:
    """The objective "the model's own output": what is ascended is f itself."""

    def __call__(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return the outputs `[rows]`."""
        return outputs


@dataclass(frozen=True, eq=False)
class Form:
    """f(x) = ½δᵀAδ + bᵀδ - ¼Σ q_i δ_i⁴ + c with δ = x - origin, in the dtype of x.

    Attributes:
        origin: `[d]`.
        linear: b `[d]`.
        matrix: A `[d, d]`.
        quartic: q `[d]`.
        constant: c.
    """

    origin: Tensor
    linear: Tensor
    matrix: Tensor
    quartic: Tensor
    constant: float = 0.0

    def __call__(self, inputs: Tensor) -> Tensor:
        """Return f `[rows]` at `inputs` `[rows, d]`."""
        moved = inputs - self.origin.to(inputs)
        bent = 0.5 * (moved @ self.matrix.to(inputs)) + self.linear.to(inputs)
        wells = 0.25 * moved.square().square() @ self.quartic.to(inputs)
        return (moved * bent).sum(1) - wells + self.constant


@dataclass(frozen=True, eq=False)
class Known:
    """A point and what it is.

    Attributes:
        point: `[d]` perturbation.
        verdict: that `local_optimality` must give there.
    """

    point: Tensor
    verdict: Verdict


@dataclass(frozen=True, eq=False)
class KnownProblem:
    """A problem of one example with its answer, in float64.

    Attributes:
        name: of the problem.
        problem: what is to be maximised.
        maximisers: `[k, d]` every global maximiser (one of them if all points are).
        value: the objective there.
        others: further critical points, local maxima among them.
        constant: whether every point is a maximiser.
    """

    name: str
    problem: Problem
    maximisers: Tensor
    value: float
    others: tuple[Known, ...] = ()
    constant: bool = False

    @property
    def points(self) -> tuple[Known, ...]:
        """Every point whose verdict is known, maximisers first."""
        verdict = Verdict.FLAT if self.constant else _MAXIMUM
        return (*(Known(point, verdict) for point in self.maximisers), *self.others)

    @property
    def local_maximisers(self) -> Tensor:
        """`[k, d]` global and other local maximisers."""
        maxima = [known.point for known in self.points if known.verdict.is_maximum]
        return torch.stack(maxima) if maxima else self.maximisers

    def cast(self, dtype: torch.dtype) -> Problem:
        """Return the problem in another dtype (weights of modules are shared)."""
        model = self.problem.model
        if isinstance(model, torch.nn.Module):
            weights = {k: v.detach().to(dtype) for k, v in model.named_parameters()}
            activation = model.activation
            assert not isinstance(activation, Tensor | torch.nn.Module)
            model = TwoLayerNetwork(**weights, activation=activation)
        return replace(self.problem, model=model, inputs=self.problem.inputs.to(dtype))


def _vector(*entries: float) -> Tensor:
    return torch.tensor(entries, dtype=torch.float64)


#: A direction without symmetries, and an input strictly inside [0, 1].
_SLOPE = _vector(0.9, -0.5, 0.3, -0.7, 0.2)
_INPUT = _vector(0.5, 0.4, 0.6, 0.7, 0.3)


def _form(
    region: Region,
    linear: Tensor | None = None,
    diagonal: Sequence[float] | None = None,
    quartic: Tensor | None = None,
    constant: float = 0.0,
    box: tuple[float, float] | None = None,
    mask: Tensor | None = None,
) -> Problem:
    """A `Form` on a region, around an input of the right length."""
    given = [torch.as_tensor(v) for v in (linear, diagonal, quartic) if v is not None]
    dim = len(given[0]) if given else len(_INPUT)
    zero = torch.zeros(dim, dtype=torch.float64)
    matrix = zero if diagonal is None else _vector(*diagonal)
    form = Form(
        _INPUT[:dim],
        zero if linear is None else linear,
        torch.diag(matrix),
        zero if quartic is None else quartic,
        constant,
    )
    target = torch.zeros(1, dtype=torch.float64)
    return Problem(form, _INPUT[None, :dim], target, Output(), region, box, mask)


def linear_on_l2() -> KnownProblem:
    """B'δ on a ball: ε·b/‖b‖, value ε‖b‖ + c."""
    norm = float(_SLOPE.norm())
    problem = _form(L2Ball(0.5), _SLOPE, constant=2.0)
    low = Known(-0.5 * _SLOPE / norm, Verdict.NOT_STATIONARY)
    return KnownProblem(
        "linear on L2", problem, 0.5 * _SLOPE[None] / norm, 0.5 * norm + 2.0, (low,)
    )


def linear_on_sphere() -> KnownProblem:
    """The same on the sphere, where the minimum is a critical point too."""
    norm = float(_SLOPE.norm())
    problem = _form(Sphere(0.5), _SLOPE)
    low = Known(-0.5 * _SLOPE / norm, Verdict.SADDLE)
    return KnownProblem(
        "linear on sphere", problem, 0.5 * _SLOPE[None] / norm, 0.5 * norm, (low,)
    )


def linear_on_l1() -> KnownProblem:
    """B'δ on an L1 ball: the vertex ±ε·e_k of the largest |b_k|, value ε·max|b|."""
    problem = _form(L1Ball(0.5), _SLOPE)
    vertex, second = _vector(0.5, 0, 0, 0, 0), _vector(0, 0, 0, -0.5, 0)
    edge = 0.5 * (vertex + second)
    others = tuple(
        Known(point, Verdict.NOT_STATIONARY) for point in (second, edge, -vertex)
    )
    return KnownProblem("linear on L1", problem, vertex[None], 0.45, others)


def linear_on_l1_and_box() -> KnownProblem:
    """B'δ on L1 ball ∩ box: filled by falling |b_k|, each up to its limit.

    The input box [0, 1] stops the first coordinate at 0.5, the fourth takes the rest.
    """
    problem = _form(L1Ball(0.8), _SLOPE, box=(0.0, 1.0))
    vertex = _vector(0.5, 0, 0, -(0.8 - 0.5), 0)
    other = Known(_vector(0.5, -(0.8 - 0.5), 0, 0, 0), Verdict.NOT_STATIONARY)
    return KnownProblem(
        "linear on L1 ∩ box", problem, vertex[None], float(_SLOPE @ vertex), (other,)
    )


def concave_on_l1() -> KnownProblem:
    """C'δ - ½‖δ‖² on an L1 ball: the projection of c, inside one of its edges."""
    centre, maximiser = _vector(0.5, -0.3, 0.1), _vector(0.35, -0.15, 0.0)
    problem = _form(L1Ball(0.5), centre, (-1.0, -1.0, -1.0))
    value = float(centre @ maximiser - maximiser @ maximiser / 2)
    others = (
        Known(_vector(0.5, 0.0, 0.0), Verdict.NOT_STATIONARY),
        Known(-maximiser, Verdict.NOT_STATIONARY),
    )
    return KnownProblem("concave on L1", problem, maximiser[None], value, others)


def linear_on_linf() -> KnownProblem:
    """B'δ on an L∞ ball: the vertex ε·sign(b), value ε‖b‖₁."""
    problem, vertex = _form(LinfBall(0.1), _SLOPE), 0.1 * _SLOPE.sign()
    edge = vertex * _vector(1, 1, 1, 1, -1)
    return KnownProblem(
        "linear on L∞",
        problem,
        vertex[None],
        0.1 * float(_SLOPE.abs().sum()),
        (Known(edge, Verdict.NOT_STATIONARY),),
    )


def linear_on_box() -> KnownProblem:
    """B'δ on [-0.2, 0.4]^d: the upper limit where b > 0, else the lower."""
    problem = _form(Box(-0.2, 0.4), _SLOPE)
    vertex = torch.where(_SLOPE > 0, _vector(0.4), _vector(-0.2))
    return KnownProblem("linear on box", problem, vertex[None], float(_SLOPE @ vertex))


def linear_on_ball_and_box() -> KnownProblem:
    """B'δ on ball ∩ box: clip(t·b, l, h), t chosen, the radius its norm.

    One coordinate is held by the input box [0, 1], the others by the ball.
    """
    point = (0.6 * _SLOPE).clamp(0.0 - _INPUT, 1.0 - _INPUT)
    problem = _form(L2Ball(float(point.norm())), _SLOPE, box=(0.0, 1.0))
    return KnownProblem(
        "linear on ball ∩ box", problem, point[None], float(_SLOPE @ point)
    )


def linear_masked() -> KnownProblem:
    """B'δ on a ball where two coordinates may not move."""
    mask = torch.tensor([True, False, True, True, False])
    free = _SLOPE * mask
    problem = _form(L2Ball(0.5), _SLOPE, mask=mask)
    norm = float(free.norm())
    return KnownProblem("linear masked", problem, 0.5 * free[None] / norm, 0.5 * norm)


def concave_at_centre() -> KnownProblem:
    """-½Σ a_i δ_i², a > 0: an interior maximum at the centre."""
    problem = _form(L2Ball(0.5), diagonal=(-1.0, -2.0, -0.5, -4.0, -1.5))
    return KnownProblem("concave, centre", problem, torch.zeros(1, 5).double(), 0.0)


def _off_centre(region: Region, name: str) -> KnownProblem:
    point = _vector(0.1, -0.05, 0.08, 0.02, -0.06)
    curvature = _vector(1.0, 2.0, 0.5, 4.0, 1.5)
    problem = _form(region, curvature * point, (-curvature).tolist())
    value = 0.5 * float(curvature @ point.square())
    return KnownProblem(name, problem, point[None], value)


def concave_off_centre() -> KnownProblem:
    """-½Σ a_i (δ_i - p_i)²: an interior maximum elsewhere."""
    return _off_centre(L2Ball(0.5), "concave, off centre")


def concave_in_linf() -> KnownProblem:
    """The same inside an L∞ ball: no coordinate is held."""
    return _off_centre(LinfBall(0.3), "concave in L∞")


def trust_region() -> KnownProblem:
    """½δᵀAδ + bᵀδ on a ball with every critical point on the sphere.

    Those are δ(μ) = (μI - A)⁻¹b with ‖δ(μ)‖ = ε (the secular equation). The largest μ
    is the global maximum; of the two roots between the two largest eigenvalues the
    larger one is the only local maximum that is not global (Martínez 1994,
    `martinez1994local`), the smaller one a saddle; the smallest μ < 0 the minimum.
    """
    radius, linear = 0.5, _vector(0.05, 0.3, -0.2)
    diagonal = _vector(4.0, 0.5, -2.0)

    def point(multiplier: float) -> Tensor:
        found: Tensor = linear / (multiplier - diagonal)
        return found

    def excess(multiplier: float) -> float:
        return float(point(multiplier).norm()) - radius

    def root(low: float, high: float) -> Tensor:
        # xtol: as near as brentq's least relative tolerance of 4 units allows.
        multiplier: float = brentq(excess, low, high, xtol=1e-15, rtol=1e-15)
        found = point(multiplier)
        return found.mul(radius / float(found.norm()))

    top, middle, bottom = diagonal.tolist()
    near, between, far = 1e-6, 2.0, 100.0  # brackets: excess changes sign between them
    best = root(top + near, top + far)
    others = (
        Known(root(between, top - near), _MAXIMUM),
        Known(root(middle + near, between), Verdict.SADDLE),
        Known(root(bottom - far, bottom - near), Verdict.NOT_STATIONARY),
    )
    problem = _form(L2Ball(radius), linear, diagonal.tolist())
    value = float(0.5 * best.square() @ diagonal + linear @ best)
    return KnownProblem("trust region", problem, best[None], value, others)


def planted_saddle() -> KnownProblem:
    """½(2δ₁² - δ₂² - 3δ₃²): a saddle at 0, two maxima ±ε·e₁ on the sphere."""
    maximisers = torch.stack([_vector(0.5, 0.0, 0.0), _vector(-0.5, 0.0, 0.0)])
    others = (Known(_vector(0.0, 0.0, 0.0), Verdict.SADDLE),)
    problem = _form(L2Ball(0.5), diagonal=(2.0, -1.0, -3.0))
    return KnownProblem("planted saddle", problem, maximisers, 0.25, others)


def convex_bowl() -> KnownProblem:
    """½Σ a_i δ_i², a₁ > a₂ > a₃ > 0: a minimum at 0, saddles and maxima at ±ε·e_i."""
    maximisers = torch.stack([_vector(0.5, 0.0, 0.0), _vector(-0.5, 0.0, 0.0)])
    others = (
        Known(_vector(0.0, 0.0, 0.0), Verdict.SADDLE),
        Known(_vector(0.0, 0.5, 0.0), Verdict.SADDLE),
        Known(_vector(0.0, 0.0, -0.5), Verdict.SADDLE),
    )
    problem = _form(L2Ball(0.5), diagonal=(3.0, 2.0, 1.0))
    return KnownProblem("convex bowl", problem, maximisers, 0.375, others)


def flat() -> KnownProblem:
    """A constant: every point is a maximiser, and none is told from another."""
    problem = _form(L2Ball(0.5), constant=3.0)
    others = (Known(0.3 * _SLOPE / _SLOPE.norm(), Verdict.FLAT),)
    zero = torch.zeros(1, 5, dtype=torch.float64)
    return KnownProblem("flat", problem, zero, 3.0, others, constant=True)


def double_well() -> KnownProblem:
    """½(w²δ₁² - δ₂² - 2δ₃²) - ¼δ₁⁴: two interior maxima at δ₁ = ±w, a saddle at 0."""
    well = 0.3
    maximisers = torch.stack([_vector(well, 0.0, 0.0), _vector(-well, 0.0, 0.0)])
    others = (Known(_vector(0.0, 0.0, 0.0), Verdict.SADDLE),)
    problem = _form(
        L2Ball(0.5), diagonal=(well**2, -1.0, -2.0), quartic=_vector(1.0, 0.0, 0.0)
    )
    return KnownProblem("double well", problem, maximisers, well**4 / 4, others)


def one_neuron() -> KnownProblem:
    """½(softplus(wᵀx) - y)²: one maximum on either side of f = y, a valley between.

    f depends on wᵀδ alone and rises with it, so the maxima are ±ε·w/‖w‖.
    """
    weights, inputs, radius = _vector(1.2, -0.8, 0.5), _vector(0.2, 0.1, 0.3), 0.7
    network = TwoLayerNetwork(weights[None], _vector(1.0), activation="softplus")
    normal, reach = weights / weights.norm(), radius * float(weights.norm())
    middle = float(weights @ inputs)

    def output(preactivation: float) -> float:
        value = torch.nn.functional.softplus(_vector(preactivation))
        return float(value)

    level = 0.4 * output(middle + reach) + 0.6 * output(middle - reach)
    high = 0.5 * (output(middle + reach) - level) ** 2
    # f = y where wᵀx = log(exp(y) - 1).
    valley = float(torch.log(torch.expm1(_vector(level)))) - middle
    others = (
        Known(-radius * normal, _MAXIMUM),
        Known(valley / reach * radius * normal, Verdict.SADDLE),
    )
    problem = Problem(
        network, inputs[None], _vector(level), Quadratic(), L2Ball(radius)
    )
    return KnownProblem("one neuron", problem, radius * normal[None], high, others)


_ALL: tuple[Callable[[], KnownProblem], ...] = (
    linear_on_l2,
    linear_on_sphere,
    linear_on_l1,
    linear_on_l1_and_box,
    linear_on_linf,
    linear_on_box,
    linear_on_ball_and_box,
    linear_masked,
    concave_at_centre,
    concave_off_centre,
    concave_in_linf,
    concave_on_l1,
    trust_region,
    planted_saddle,
    convex_bowl,
    flat,
    double_well,
    one_neuron,
)
#: Every problem of this module.
PROBLEMS: tuple[KnownProblem, ...] = tuple(make() for make in _ALL)
