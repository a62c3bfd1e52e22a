"""What a certificate says of a network with kinks, compared with brute force.

Every number is a statement about the neighbourhood of the given point, so points are
laid around it: at random at all scales, along coordinates, gradients, the normals of
kinks and what is orthogonal to them, just beyond the nearest kinks, and by ascent.
"""

import itertools
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import summiteer as sm
from soundness.field import LONG, length
from soundness.kinked import Kinked, climb, surely_maximal
from soundness.sigma import ULP
from soundness.tally import Tally

Array = NDArray[Any]
Random = np.random.Generator
NUMBERS = (
    "distance_bound",
    "loss_gap_bound",
    "best_radius",
    "uniqueness_radius",
    "upper_bound",
    "guaranteed_gain",
    "tangential",
    "margin",
)
#: Random points, directions of each kind, and ascents for each example.
SAMPLES, WAYS, CLIMBS = 24, 4, 3


@dataclass(frozen=True, eq=False)
class KinkedCase:
    """One batch that `local_optimality` is asked about.

    Attributes:
        kinked: truth.
        problem: what the package sees.
        points: `[batch, d]` given, float64.
        within: search distance in radii.
        dyadic: whether all numbers are multiples of 1/8 or so: no rounding at all.
    """

    kinked: Kinked
    problem: sm.Problem
    points: Array
    within: float
    dyadic: bool = False


@dataclass(eq=False)
class Trial:
    """Some examples of a case, with what was claimed of them.

    Attributes:
        kinked: truth of these examples.
        given: points, 80-bit.
        verdicts: their names.
        claims: name -> `[batch]`.
        certified: the certified points.
        direction: the ways uphill.
        reach: search distances.
        reasons: of the verdicts.
        rows: which examples of the case they are.
        rng: random numbers.
        tally: where to count.
    """

    kinked: Kinked
    given: Array
    verdicts: Array
    claims: dict[str, Array]
    certified: Array
    direction: Array
    reach: Array
    reasons: Array
    rows: Array
    rng: Random
    tally: Tally

    def compare(
        self, kind: str, seen: Array, claimed: Array, doubt: Array | float = 0.0
    ) -> None:
        """`Tally.compare` of these examples."""
        self.tally.rows = self.rows
        self.tally.compare(kind, seen, claimed, doubt)
        self.tally.rows = None

    def refuse(self, kind: str, bad: Array) -> None:
        """`Tally.refuse` of these examples."""
        self.tally.rows = self.rows
        self.tally.refuse(kind, bad)
        self.tally.rows = None

    def __len__(self) -> int:
        return len(self.given)

    def only(self, mask: Array) -> "Trial":
        """The examples of `mask`."""
        rows = np.flatnonzero(mask)
        names = ("given", "verdicts", "certified", "direction", "reach", "reasons",
                 "rows")  # fmt: skip
        return Trial(
            kinked=self.kinked.take(rows),
            claims={k: v[rows] for k, v in self.claims.items()},
            rng=self.rng,
            tally=self.tally,
            **{name: getattr(self, name)[rows] for name in names},
        )


def trial_of(
    case: KinkedCase, certificate: sm.Certificate, rng: Random, tally: Tally
) -> Trial:
    """All examples of a case."""
    for verdict, evidence in zip(
        certificate.verdict, certificate.evidence, strict=True
    ):
        name = f"{evidence.name} {verdict.name}"
        tally.verdicts[name] = tally.verdicts.get(name, 0) + 1
    zone = case.kinked.zone
    half = (zone.upper - zone.lower).max(-1) / 2
    proved = [e is sm.Evidence.PROVED for e in certificate.evidence]
    names = [
        v.name if p else "" for v, p in zip(certificate.verdict, proved, strict=True)
    ]
    shape = case.points.shape
    return Trial(
        kinked=case.kinked,
        given=case.points.astype(LONG),
        verdicts=np.array(names),
        claims={name: getattr(certificate, name).detach().numpy() for name in NUMBERS},
        certified=certificate.certified_point.detach().numpy().reshape(shape),
        direction=certificate.direction.detach().numpy().reshape(shape),
        reach=case.within * (zone.radius if zone.round else half),
        reasons=np.array(certificate.reason),
        rows=np.arange(len(names)),
        rng=rng,
        tally=tally,
    )


MAXIMA = ("GLOBAL_MAXIMUM", "STRICT_LOCAL_MAXIMUM", "LOCAL_MAXIMUM", "FLAT")
NOT = ("NOT_STATIONARY", "SADDLE")


def check_kinked(trial: Trial) -> None:
    """Compare every claim with what is found."""
    ceilings(trial)
    best = trial.only(np.isin(trial.verdicts, MAXIMA))
    if len(best):
        maxima(best)
        unique(best)
        inequality(best)
    none = trial.only(np.isin(trial.verdicts, NOT))
    if len(none):
        no_maximum(none)
        gains(none)


def dyadically(trial: Trial) -> None:
    """Around maxima of dyadic networks on boxes, where nothing is ever rounded.

    The pieces around a dyadic point are cones, so that its neighbours at 2⁻³⁰ show what
    the point is: none of them may be higher, nor as high where the maximum is strict.
    """
    zone = trial.kinked.zone
    dyadic = (np.round(64 * trial.given) == 64 * trial.given).all(-1)
    inside = zone.inside(trial.given[:, None])[:, 0]
    near = trial.claims["distance_bound"] < 2.0**-34
    maximal = np.isin(trial.verdicts, MAXIMA)
    trial = trial.only(maximal & dyadic & inside & near)
    if not len(trial):
        return
    d = trial.given.shape[1]
    steps = np.array(list(itertools.product((-1, 0, 1), repeat=d)), float)
    steps = steps[np.abs(steps).any(1)] * 2.0**-30
    points = trial.given[:, None] + steps
    value, _ = trial.kinked.objective(points)
    here, _ = trial.kinked.objective(trial.given[:, None])
    feasible = trial.kinked.zone.inside(points)
    trial.refuse("dyadic: no neighbour is higher", feasible & (value > here))
    strict = trial.verdicts == "STRICT_LOCAL_MAXIMUM"
    level = (feasible & (value >= here))[strict]
    trial.only(strict).refuse("dyadic: strict maxima", level)


def edge(kinked: Kinked, points: Array) -> Array:
    """What 80-bit rounding of the region's edge may add to the objective."""
    _, gradient, _ = kinked.slopes(points[:, :1])
    steep = length(gradient).max(1, keepdims=True).astype(float)
    return np.asarray(256 * ULP * (steep + 1e-30) * kinked.zone.width[:, None])


def over(trial: Trial, count: int) -> Array:
    """Points all over the region."""
    zone, (batch, d) = trial.kinked.zone, trial.given.shape
    way = trial.rng.normal(size=(batch, count, d)) * zone.width[:, None, None]
    share = trial.rng.random((batch, count, 1)) ** (1 / d)
    far = trial.rng.random((batch, count, 1)) < 0.5
    return zone.project((np.where(far, 4.0, share) * way).astype(LONG))


def around(trial: Trial, radius: Array) -> Array:
    """Points within `radius` of the given ones, and of the region `[batch, n, d]`."""
    rng, kinked = trial.rng, trial.kinked
    batch, d = trial.given.shape
    here = kinked.zone.project(trial.given[:, None])
    _, gradient, kinks = kinked.slopes(here)
    ways, gaps = [rng.normal(size=(batch, SAMPLES, d))], []
    axes = np.eye(d)[rng.integers(0, d, (batch, 2 * WAYS))]
    ways.append(axes * rng.choice([-1, 1], (batch, 2 * WAYS, 1)))
    ways.append(gradient * np.array([1.0, -1.0])[None, :, None])
    ways.append(trial.given[:, None] * np.array([1.0, -1.0])[None, :, None])
    normals, away = nearest(kinks)
    for k in range(normals.shape[1]):
        for sign in (1, -1):
            ways.append(sign * normals[:, k : k + 1])
            gaps.append(away[:, k])
        loose = rng.normal(size=(batch, WAYS, d))
        along = (loose * normals[:, k : k + 1]).sum(-1, keepdims=True)
        ways.append(loose - along * normals[:, k : k + 1])
    way = np.concatenate([w.astype(float) for w in ways], 1)
    way = way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-300)
    count = way.shape[1]
    share = 10 ** rng.uniform(-12, 0, (batch, count, 1))
    share = np.where(rng.random((batch, count, 1)) < 0.4, 1.0, share)
    step = np.minimum(radius, 3 * kinked.zone.width)[:, None, None]
    points = [trial.given[:, None] + step * share * way.astype(LONG)]
    for k, gap in enumerate(gaps):
        # Just beyond and just before the k-th nearest kink.
        for factor in (1.0, 1 + 10 ** rng.uniform(-9, 0)):
            normal = normals[:, k // 2][:, None] * (1 if k % 2 else -1)
            points.append(trial.given[:, None] + factor * gap[:, None, None] * normal)
    return np.asarray(kinked.zone.project(np.concatenate(points, 1)))


def nearest(kinks: list[Any], count: int = 4) -> tuple[Array, Array]:
    """(unit normals `[batch, k, d]`, distances) of the nearest kinks."""
    slope = np.concatenate([each.slope for each in kinks], 1)
    height = np.concatenate([each.height for each in kinks], 1).astype(float)
    height = np.nan_to_num(height, nan=1e300, posinf=1e300)
    steep = np.sqrt((slope**2).sum(-1))
    away = np.where(steep > 0, np.abs(height) / np.maximum(steep, 1e-300), 1e300)
    order = np.argsort(away, 1)[:, :count]
    rows = np.arange(len(order))[:, None]
    normal = slope[rows, order] * np.where(height >= 0, 1, -1)[rows, order][..., None]
    size = np.maximum(steep[rows, order], 1e-300)[..., None]
    distance = away[rows, order]
    return normal / size, np.where(distance < 1e299, distance, 0)


def ceilings(trial: Trial) -> None:
    """Nothing of the region exceeds `upper_bound`, whatever the verdict."""
    if not np.isfinite(trial.claims["upper_bound"]).any():
        return
    trial = trial.only(np.isfinite(trial.claims["upper_bound"]))
    climbed = climb(trial.kinked, over(trial, CLIMBS), 24)
    points = np.concatenate([over(trial, SAMPLES), climbed], 1)
    value, doubt = trial.kinked.objective(points)
    value = np.where(trial.kinked.zone.inside(points), value, np.nan)
    room = doubt + edge(trial.kinked, points)
    trial.compare("upper_bound", value, trial.claims["upper_bound"], room)


def maxima(trial: Trial) -> None:
    """Nothing within `best_radius` is higher by more than `loss_gap_bound`."""
    claims, kinked = trial.claims, trial.kinked
    trial.compare("within the search distance", claims["distance_bound"], trial.reach)
    given, off = kinked.objective(trial.given[:, None])
    whole = trial.verdicts == "GLOBAL_MAXIMUM"
    size = 2 * kinked.zone.width * (1 + 1e-9)
    radius = np.where(whole, size, claims["best_radius"])
    radius = np.minimum(np.nan_to_num(radius, nan=0.0), size)
    trial.tally.unresolved += int((~(radius > 0)).sum())
    laid = around(trial, radius)
    starts = np.concatenate([trial.given[:, None], laid[:, : CLIMBS - 1]], 1)
    climbed = climb(kinked, starts, 24, trial.given, radius)
    sets = [laid, climbed]
    if whole.any():
        sets += [over(trial, SAMPLES), climb(kinked, over(trial, CLIMBS), 24)]
    for points in sets:
        value, doubt = kinked.objective(points)
        apart = length(points - trial.given[:, None])
        near = whole[:, None] | (apart <= radius[:, None] * (1 - 8 * ULP))
        near &= kinked.zone.inside(points)
        risen = np.where(near, value - given, np.nan)
        room = doubt + off + edge(kinked, points)
        trial.compare("best_radius", risen, claims["loss_gap_bound"], room)
        flat = (trial.verdicts == "FLAT")[:, None] & near
        seen = np.where(flat, np.abs(value - given), np.nan)
        trial.compare("FLAT is flat", seen, claims["loss_gap_bound"], room)
    pinned(trial, climbed)


def pinned(trial: Trial, climbed: Array) -> None:
    """The claimed maximiser lies within `distance_bound`, where its place is known.

    Of one affine piece around the given point the region knows one maximiser: it is
    the claimed one, if both are nearer than the piece's edge.
    """
    kinked, claims = trial.kinked, trial.claims
    here = kinked.zone.project(trial.given[:, None])
    _, _, kinks = kinked.slopes(here)
    edge_of = np.full(len(trial), np.inf)
    for each in kinks:
        assert each.slope is not None
        steep = np.sqrt((each.slope**2).sum(-1))
        with np.errstate(divide="ignore", invalid="ignore"):
            away = (np.abs(each.height) - each.doubt).astype(float) / steep
        edge_of = np.fmin(edge_of, np.where(steep > 0, away, np.inf).min(1))
    sure, found = surely_maximal(kinked, climbed)
    apart = length(found - trial.given[:, None])
    same = apart < 0.9 * edge_of[:, None]
    same &= (claims["distance_bound"] < 0.9 * edge_of)[:, None]
    seen = np.where(sure & same, apart, np.nan)
    room = 1e-14 * kinked.zone.width[:, None] + 0 * seen
    trial.compare("distance_bound", seen, claims["distance_bound"], room)


def unique(trial: Trial) -> None:
    """No other local maximum within `uniqueness_radius`."""
    radius = trial.claims["uniqueness_radius"]
    trial = trial.only(np.isfinite(radius) & (radius > 0))
    if not len(trial):
        return
    radius = np.minimum(trial.claims["uniqueness_radius"], 2 * trial.kinked.zone.width)
    starts = around(trial, radius)[:, ::6]
    sure, ends = surely_maximal(trial.kinked, climb(trial.kinked, starts, 24))
    apart = length(ends - trial.given[:, None])
    other = apart > trial.claims["distance_bound"][:, None] + (
        1e-12 * trial.kinked.zone.width[:, None]
    )
    near = apart < radius[:, None] * (1 - 1e-12)
    bad = sure & other & near
    trial.refuse("uniqueness_radius", bad)


def inequality(trial: Trial) -> None:
    """F ≤ F(p) + Γ + γD - ½μD² on the ball, F ≤ F(p) + Γ - λ|q - p|_∞ at a vertex."""
    zone = trial.kinked.zone
    claims = trial.claims
    known = np.isfinite(claims["margin"]) & (claims["best_radius"] > 0)
    if zone.boxed:
        known &= trial.verdicts == "STRICT_LOCAL_MAXIMUM"
        held = (trial.certified == zone.lower) | (trial.certified == zone.upper)
        known &= held.all(-1)
    else:
        size = length(trial.certified)
        known &= np.abs(size - zone.radius) <= 1e-9 * zone.radius
    trial = trial.only(known & (trial.kinked.loss == "margin"))
    if not len(trial):
        return
    kinked, zone, claims = trial.kinked, trial.kinked.zone, trial.claims
    p = trial.certified.astype(LONG)
    if not zone.boxed:
        p = p * (zone.radius / length(p))[:, None]
    radius = claims["best_radius"]
    points = around(trial, radius)
    value, doubt = kinked.objective(points)
    base, off = kinked.objective(p[:, None])
    apart = length(points - p[:, None])
    inner = length(points - trial.given[:, None]) <= radius[:, None] * (1 - 8 * ULP)
    if zone.boxed:
        fall = claims["margin"][:, None] * np.abs(points - p[:, None]).max(-1)
    else:
        slack = np.nan_to_num(claims["tangential"])[:, None]
        fall = claims["margin"][:, None] * apart**2 / 2 - slack * apart
    seen = np.where(inner & zone.inside(points), value - base + fall, np.nan)
    room = doubt + off + edge(kinked, points) + 64 * ULP * np.abs(fall)
    trial.compare("the inequality", seen, claims["loss_gap_bound"], room)


def no_maximum(trial: Trial) -> None:
    """No local maximiser within the search distance; uphill along one way from all."""
    kinked, reach = trial.kinked, trial.reach
    laid = around(trial, reach)
    ends = np.concatenate(
        [climb(kinked, laid[:, ::8], 24), climb(kinked, laid[:, ::8], 24,
                                                trial.given, reach)], 1
    )  # fmt: skip
    sure, ends = surely_maximal(kinked, ends)
    apart = length(ends - trial.given[:, None])
    bad = sure & (apart < reach[:, None] * (1 - 1e-9))
    for name in NOT:
        mask = trial.verdicts == name
        trial.only(mask).refuse(f"{name}: no maximum near", bad[mask])
    one = np.char.find(trial.reasons.astype(str), "uphill along one way") >= 0
    some = trial.only(one)
    if not len(some):
        return
    laid, reach = laid[one], reach[one]
    step = (reach * 10 ** trial.rng.uniform(-4, -1.3))[:, None, None]
    ahead = laid + step * some.direction[:, None].astype(LONG)
    low, doubt = some.kinked.objective(laid)
    high, off = some.kinked.objective(ahead)
    apart = length(laid - some.given[:, None])
    fair = (apart <= 0.9 * reach[:, None]) & some.kinked.zone.inside(ahead)
    seen = np.where(fair & some.kinked.zone.inside(laid), low - high, np.nan)
    nothing = np.zeros(len(some))
    some.compare("uphill along one way", seen, nothing, doubt + off)


def gains(trial: Trial) -> None:
    """`guaranteed_gain` is gained along `direction` within the search distance."""
    kinked, gain = trial.kinked, trial.claims["guaranteed_gain"]
    trial = trial.only(np.isfinite(gain))
    if not len(trial):
        return
    kinked, gain, zone = (
        trial.kinked,
        trial.claims["guaranteed_gain"],
        trial.kinked.zone,
    )
    way = trial.direction.astype(LONG)
    room = np.where(way > 0, (zone.upper - trial.given) / way, np.inf)
    room = np.where(way < 0, (zone.lower - trial.given) / way, room)
    longest = np.minimum(trial.reach, np.clip(room.min(-1), 0, None))
    share = np.concatenate([10 ** np.linspace(-9, 0, 40), [0.3, 0.1, 0.01, 0.5]])
    far = longest[:, None] * share * (1 - 1e-9)
    points = trial.given[:, None] + far[..., None] * way[:, None]
    value, doubt = kinked.objective(points)
    value = np.where(zone.inside(points), value, -np.inf)
    start, off = kinked.objective(trial.given[:, None])
    best = (value - start).max(1)
    trial.compare("guaranteed_gain", gain + 0 * best, best, doubt.max(1) + off[:, 0])


def searched(case: KinkedCase, trial: Trial) -> None:
    """GLOBAL_MAXIMUM and upper bounds of a few examples against a MILP's points."""
    kinked = case.kinked
    if kinked.zone.round or not kinked.affine:
        return
    known = (trial.verdicts == "GLOBAL_MAXIMUM") | np.isfinite(
        trial.claims["upper_bound"]
    )
    rows = trial.rng.permutation(np.flatnonzero(known))[:2]
    if not len(rows):
        return
    mask = np.isin(np.arange(len(trial)), rows)
    some = trial.only(mask)
    problem = case.problem.take(torch.from_numpy(np.flatnonzero(mask)))
    found = sm.global_maximum(problem, time_limit=5.0)
    points = found.points.flatten(1).numpy()[:, None].astype(LONG)
    value, doubt = some.kinked.objective(points)
    given, off = some.kinked.objective(some.given[:, None])
    whole = (some.verdicts == "GLOBAL_MAXIMUM")[:, None]
    seen = np.where(whole, value - given, np.nan)
    gap = some.claims["loss_gap_bound"]
    some.compare("GLOBAL_MAXIMUM against MILP", seen, gap, doubt + off)
    some.compare("upper_bound against MILP", value, some.claims["upper_bound"], doubt)
