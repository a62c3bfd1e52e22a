"""Regions of every kind, and oracles for them that share no code with the package."""

import numpy as np
import torch
from scipy import optimize

from summiteer import _rows
from summiteer.regions import (
    Box,
    Intersection,
    L1Ball,
    L1Intersection,
    L2Ball,
    LinfBall,
    Sphere,
    intersect,
)

CONVEX = ["l1", "l2", "linf", "box", "l1box", "l2box", "linfbox"]
LIMITS = ["loose", "tight", "one-sided", "partly fixed", "fixed"]
DTYPES = [torch.float64, torch.float32]
EPS = {dtype: torch.finfo(dtype).eps for dtype in DTYPES}


def normal(*shape, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)


def box(like, radius, limits="tight", seed=5):
    """A bound box; `tight` limits cut a ball of `radius` in most coordinates."""
    room = radius / like[0].numel() ** 0.5
    lower, upper = (normal(*like.shape, seed=seed + k).abs() * room for k in (0, 1))
    if limits == "loose":
        lower, upper = lower + 3 * radius, upper + 3 * radius
    if limits == "one-sided":
        side = normal(*like.shape, seed=seed + 2)
        lower = torch.where(side > 0.3, 0.0, lower)
        upper = torch.where(side < -0.3, 0.0, 4 * upper)
    if limits in ("partly fixed", "fixed"):
        moving = (normal(*like.shape, seed=seed + 3) > 0) & (limits != "fixed")
        lower, upper = lower * moving * 3, upper * moving * 3
    return Box(-lower, upper).bind(like)


def make(kind, like, radius=1.0, limits="tight"):
    """A region bound to `like`; radius a number or per row."""
    if kind == "sphere":
        return Sphere(radius).bind(like)
    within = box(like, float(torch.as_tensor(radius).max()), limits)
    if kind == "box":
        return within
    balls = {"l1": L1Ball, "l2": L2Ball, "linf": LinfBall}
    ball = balls[kind.removesuffix("box")](radius).bind(like)
    return intersect(ball, within) if kind.endswith("box") else ball


def points_for(region, like, radius, seed=1):
    """Points deep inside, near, and far outside, the zero vector among them."""
    factor = torch.logspace(-3, 3, len(like), dtype=torch.float64)
    factor[0] = 0
    vectors = normal(*like.shape, seed=seed) * radius / like[0].numel() ** 0.5
    return (vectors * _rows.expand(factor, vectors)).to(like)


def limits_of(region, row, d):
    """(ε, l, h) of one row in numpy; ε = inf where there is no ball."""
    inner = region.take(torch.tensor([row]))
    radius = np.inf
    if isinstance(region, L1Ball | L2Ball | Intersection | L1Intersection):
        radius = float(inner.size)
    if isinstance(region, L1Ball | L2Ball):
        return radius, np.full(d, -np.inf), np.full(d, np.inf)
    cut = inner.box if isinstance(region, Intersection | L1Intersection) else inner
    one = torch.zeros(1, d, dtype=torch.float64)
    return (radius, *(x.expand(1, d)[0].numpy() for x in cut.limits(one)))


def nearest(region, row, point):
    """The projection by bisection on the ball's multiplier λ: clip(v/(1 + λ))."""
    radius, low, high = limits_of(region, row, len(point))
    if region.norm == "l1":
        soft = lambda t: np.maximum(abs(point) - t, 0) * np.sign(point)  # noqa: E731
        excess = lambda t: abs(np.clip(soft(t), low, high)).sum() - radius  # noqa: E731
        if excess(0.0) <= 0:
            return np.clip(point, low, high)
        top = abs(point).max()
        root = optimize.brentq(excess, 0, top, xtol=1e-16 * top, maxiter=500)
        return np.clip(soft(root), low, high)
    at = lambda log: np.clip(point * np.exp(-log), low, high)  # noqa: E731
    if np.linalg.norm(at(0.0)) <= radius:
        return at(0.0)
    excess = lambda log: np.linalg.norm(at(log)) - radius  # noqa: E731
    return at(optimize.brentq(excess, 0, 200, xtol=1e-15, rtol=1e-15, maxiter=500))


def plain_gap(region, row, point, gradient):
    """max gᵀv - gᵀδ by linear programming, δ = v⁺ - v⁻; in closed form on L2."""
    radius, low, high = limits_of(region, row, len(point))
    if region.norm == "l2":
        one = region.take(torch.tensor([row]))
        reach = one.linear_maximiser(torch.tensor(gradient[None]))[0].numpy()
        if isinstance(region, L2Ball):
            reach = radius * gradient / max(np.linalg.norm(gradient), 1e-300)
        return gradient @ (reach - point)
    bounds = [(0, limit) for limit in np.r_[high, -low]]
    ball = {}
    if radius < np.inf:
        ball = {"A_ub": np.ones((1, len(bounds))), "b_ub": [radius]}
    solved = optimize.linprog(np.r_[-gradient, gradient], bounds=bounds, **ball)
    return -solved.fun - gradient @ point
