"""What each number of a certificate claims, compared with truth.

`check(bench)` runs every check on the PROVED examples.
"""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import summiteer as sm
from soundness.climb import Found, climb, formed, newton, on_sphere
from soundness.draw import Case, Random
from soundness.field import LONG, Field, Surface, length
from soundness.sigma import ULP
from soundness.tally import Tally

Array = NDArray[Any]
MAXIMA = ("GLOBAL_MAXIMUM", "STRICT_LOCAL_MAXIMUM")
NUMBERS = (
    "distance_bound",
    "loss_gap_bound",
    "best_radius",
    "uniqueness_radius",
    "rate",
    "upper_bound",
    "guaranteed_gain",
    "tangential",
    "margin",
    "curvature",
    "lipschitz",
    "majorant",
    "least_multiplier",
)
#: Random points and starts for each example.
SAMPLES, STARTS = 96, 10


class Bench:
    """The proved examples of one case, with their claims and their truth.

    Args:
        case: what was asked.
        certificate: what was answered.
        rng: random numbers.
        tally: where to count.
        mask: `[batch]` the examples instead.
    """

    def __init__(
        self,
        case: Case,
        certificate: Any,
        rng: Random,
        tally: Tally,
        mask: Array | None = None,
    ) -> None:
        proved = [e is sm.Evidence.PROVED for e in certificate.evidence]
        rows = np.flatnonzero(proved if mask is None else mask)
        self.rng, self.tally, self.rows = rng, tally, rows
        self.verdicts = np.array([certificate.verdict[i].name for i in rows])
        if mask is None:
            for verdict, evidence in zip(
                certificate.verdict, certificate.evidence, strict=True
            ):
                name = f"{evidence.name} {verdict.name}"
                tally.verdicts[name] = tally.verdicts.get(name, 0) + 1
        self.field: Field = case.field.take(rows)
        self.zone = self.field.zone
        self.given = case.points[rows].astype(LONG)
        self.claims = {
            name: getattr(certificate, name).detach().numpy()[rows] for name in NUMBERS
        }
        self.certified = certificate.certified_point.detach().numpy()[rows]
        self.direction = certificate.direction.detach().numpy()[rows]
        half = (self.zone.upper - self.zone.lower).max(-1) / 2
        size = self.zone.radius if self.zone.round else half
        self.reach = case.within * size
        self.reasons = [certificate.reason[i] for i in rows]
        self.propositions = np.array([certificate.proposition[i] for i in rows])
        self._certificate = certificate

    def only(self, mask: Array) -> "Bench":
        """The examples of `mask`."""
        other = object.__new__(Bench)
        other.__dict__.update(self.__dict__)
        index = np.flatnonzero(mask)
        for name in ("verdicts", "given", "certified", "direction", "reach", "rows"):
            setattr(other, name, getattr(self, name)[index])
        other.propositions = self.propositions[index]
        other.reasons = [self.reasons[i] for i in index]
        other.claims = {k: v[index] for k, v in self.claims.items()}
        other.field = self.field.take(index)
        other.zone = other.field.zone
        return other

    def __len__(self) -> int:
        return len(self.given)

    def rate_of(self, steps: Array) -> Array:
        """What the certificate says of these constant steps."""
        every = np.full(len(self._certificate), np.nan)
        every[self.rows] = steps
        rates: Array = self._certificate.rate_of(torch.from_numpy(every)).numpy()
        return rates[self.rows]

    def around(self, centre: Array, radius: Array, count: int) -> tuple[Array, Array]:
        """(points of the region, whether they lie within `radius` of `centre`).

        At scales from 1e-12 of the radius to all of it, and on its rim.
        """
        batch, d = centre.shape
        way = self.rng.normal(size=(batch, count, d))
        single = self.rng.random((batch, count, 1)) < 0.2
        axis = np.eye(d)[self.rng.integers(0, d, (batch, count))]
        way = np.where(single, axis * np.sign(way), way)
        way = way / np.maximum(np.linalg.norm(way, axis=-1, keepdims=True), 1e-300)
        share = 10 ** self.rng.uniform(-12, 0, (batch, count, 1))
        share = np.where(self.rng.random((batch, count, 1)) < 0.4, 1.0, share)
        step = np.minimum(radius, 3 * self.zone.width)[:, None, None]
        points = self.zone.project(centre[:, None] + step * share * way.astype(LONG))
        gap = length(points - centre[:, None])
        return points, gap <= radius[:, None] * (1 - 4 * ULP)

    def over(self, count: int) -> Array:
        """Points all over the region: inside, on the rim, and at corners."""
        batch, d = self.given.shape
        way = self.rng.normal(size=(batch, count, d)) * self.zone.width[:, None, None]
        share = self.rng.random((batch, count, 1)) ** (1 / d)
        far = self.rng.random((batch, count, 1)) < 0.5
        return self.zone.project((np.where(far, 4.0, share) * way).astype(LONG))


def check(bench: Bench) -> None:
    """Compare every claim of a certificate with truth."""
    if not len(bench):
        return
    best = bench.only(np.isin(bench.verdicts, MAXIMA))
    if len(best):
        surface = best.field.lead(best.certified)
        truth = newton(surface, best.certified[:, None].astype(LONG))
        _at_maxima(best, surface, truth)
        _values(best, truth)
        _constants(best, surface, truth)
        _others(best, surface, truth)
    none = bench.only(~np.isin(bench.verdicts, MAXIMA))
    if len(none):
        _no_maximum(none)
        _gains(none)


def _at_maxima(bench: Bench, surface: Surface, truth: Found) -> None:
    """A maximiser lies within `distance_bound`, and gains at most `loss_gap_bound`."""
    claims, tally = bench.claims, bench.tally
    here, sure = truth.points[:, 0], truth.maximum[:, 0]
    tally.unresolved += int((~sure).sum())
    gap = np.where(sure, length(here - bench.given), np.nan)
    tally.compare("distance_bound", gap, claims["distance_bound"], truth.error[:, 0])
    tally.compare("within the search distance", claims["distance_bound"], bench.reach)
    value, doubt = bench.field.objective(here[:, None])
    given, off = bench.field.objective(bench.given[:, None])
    risen = np.where(sure[:, None], value - given, np.nan)
    tally.compare("loss_gap_bound", risen, claims["loss_gap_bound"], doubt + off)
    # No claimed maximiser may turn out to be a saddle.
    tally.refuse(
        "maximum is no saddle",
        truth.saddle[:, 0] & bench.zone.inside(here[:, None])[:, 0],
    )
    # Prop. 3's inequality itself: F ≤ F(p) + γD - ½ωD² at the certified point.
    p = real_point(bench)[:, None]
    centre = surface.look(p)[0]
    for points in (
        bench.over(SAMPLES),
        bench.around(p[:, 0], bench.zone.width, SAMPLES)[0],
    ):
        f, error = surface.look(points)[0], surface.doubt(points)[0]
        apart = length(points - p)
        slope, margin = claims["tangential"][:, None], claims["margin"][:, None]
        bent = f - centre + margin * apart**2 / 2 - slope * apart
        third = np.char.startswith(bench.propositions, "Prop. 3")[:, None]
        room = 2 * error + 32 * ULP * np.abs(margin) * apart**2
        room = room + 64 * ULP * length(surface.look(p)[1]) * bench.zone.width[:, None]
        # In parts it is claimed only where F is at least F(p) (`best_everywhere`).
        parts = (bench.propositions == "Prop. 3 in parts")[:, None]
        claimed = third & ~(parts & (f < centre))
        bound = np.where(claimed, bent, np.nan)
        tally.compare("Prop. 3 inequality", bound, np.zeros(len(bench)), room)


def real_point(bench: Bench) -> Array:
    """The certified point, put on the sphere but for 80-bit rounding (§10.4)."""
    zone, p = bench.zone, bench.certified.astype(LONG)
    held = (p == zone.lower) | (p == zone.upper)
    curved = np.abs(length(p) - zone.radius) <= 1e-9 * zone.radius
    return on_sphere(zone, p[:, None], held[:, None], curved[:, None])[:, 0]


def _values(bench: Bench, truth: Found) -> None:
    """Nothing exceeds `upper_bound`, nor what best_radius and the gap allow."""
    claims, tally, field = bench.claims, bench.tally, bench.field
    given, off = field.objective(bench.given[:, None])
    gap = claims["loss_gap_bound"]
    whole = bench.verdicts == "GLOBAL_MAXIMUM"
    top = np.where(whole, gap, np.nan)
    climbed = climbed_from(bench, bench.over(STARTS))
    for points in (bench.over(SAMPLES), climbed.points):
        value, doubt = field.objective(points)
        inside = bench.zone.inside(points)
        slack = doubt + edge(bench, points)
        value = np.where(inside, value, np.nan)
        tally.compare("upper_bound", value, claims["upper_bound"], slack)
        tally.compare("nothing is better", value - given, top, slack + off)
    # Another maximum may tie, but not be higher and further away.
    value, doubt = field.objective(climbed.points)
    best, mine = field.objective(truth.points)
    far = (
        length(climbed.points - bench.given[:, None])
        > claims["distance_bound"][:, None]
    )
    higher = value - doubt > best + mine + edge(bench, climbed.points)
    sure = truth.maximum[:, :1] & whole[:, None]
    tally.refuse("no higher maximum", (higher & far & climbed.maximum & sure)[whole])
    near, close = bench.around(bench.given, claims["best_radius"], 2 * SAMPLES)
    value, doubt = field.objective(near)
    value = np.where(close, value - given, np.nan)
    gap = np.where(np.isnan(claims["best_radius"]), np.nan, gap)
    tally.compare("best_radius", value, gap, doubt + off + edge(bench, near))


def edge(bench: Bench, points: Array) -> Array:
    """What 80-bit rounding of the region's edge may add to the objective."""
    surface = bench.field.lead(points[:, 0].astype(float))
    slope = length(surface.look(points)[1]).max(1, keepdims=True)
    value, _ = bench.field.objective(points)
    rise = 1 + np.sqrt(2 * np.abs(value)) if bench.field.loss == "quadratic" else 1
    return np.asarray(64 * ULP * slope * bench.zone.width[:, None] * rise)


def climbed_from(bench: Bench, points: Array, steps: int = 60) -> Found:
    """Ascent and Newton's method on the F that leads at a random start."""
    surface = bench.field.lead(points[:, 0].astype(float))
    return newton(surface, climb(surface, points, steps))


def _leads(bench: Bench, surface: Surface, found: Found) -> Array:
    """Whether F is the largest at the found points, beyond doubt."""
    rows = []
    for k in range(found.points.shape[1]):
        here = bench.field.lead(found.points[:, k].astype(float))
        same = (here.output == surface.output).all(1) & (here.shift == surface.shift)
        rows.append(same)
    return np.stack(rows, 1)


def _constants(bench: Bench, surface: Surface, truth: Found) -> None:
    """L, λ⁺(M), μ* and the rate."""
    claims, tally = bench.claims, bench.tally
    points = bench.over(6)
    matrix = surface.hessian(points).astype(float)
    size = np.abs(matrix).max((-1, -2), keepdims=True) + 1e-290
    values = np.linalg.eigvalsh(matrix / size) * size[..., 0]
    noise = 1e-13 * size[..., 0, 0] + 64 * ULP * formed(surface, points)
    tally.compare("majorant", values[..., -1], claims["majorant"], noise)
    tally.compare("lipschitz", np.abs(values).max(-1), claims["lipschitz"], noise)
    sure = truth.maximum[:, 0]
    mu = np.where(sure, -truth.multiplier[:, 0], np.nan)
    drift = truth.error[:, 0] * claims["lipschitz"] * 4 / bench.zone.width
    tally.compare(
        "least_multiplier",
        mu,
        -claims["least_multiplier"],
        drift + ULP * 64 * np.abs(mu),
    )
    rate = claims["rate"]
    known = np.isfinite(rate) & sure
    if known.any():
        _rates(
            bench.only(known), surface.take(np.flatnonzero(known)), truth.points[known]
        )


def _rates(bench: Bench, surface: Surface, goal: Array) -> None:
    """Projected gradient steps with constant step contract from every start.

    From random starts, and from next to the antipode of the maximum, where a short
    step on a nearly linear F gains no more than what is proved.
    """
    step, width = 2 / bench.claims["lipschitz"], bench.zone.width
    small = 10 ** bench.rng.uniform(-3, 0) / bench.claims["least_multiplier"]
    for eta in (step, bench.rng.uniform(0.05, 0.95) * step, np.minimum(small, step)):
        rate = bench.rate_of(eta) if eta is not step else bench.claims["rate"]
        off = 10 ** bench.rng.uniform(-6, 0, (len(bench), 3, 1))
        noise = bench.rng.normal(size=(len(bench), 3, goal.shape[-1])) * off
        opposite = bench.zone.project(noise * width[:, None, None] - goal)
        now = np.concatenate([bench.over(6), opposite], 1)
        for _ in range(4):
            gradient = surface.look(now)[1]
            after = bench.zone.project(now + eta[:, None, None] * gradient)
            before, left = length(now - goal), length(after - goal)
            room = 1e-16 * width[:, None]
            ratio = np.where(before > 1e4 * room, left / before, np.nan)
            bench.tally.compare("rate", ratio, rate * (1 + 1e-15), room / before)
            now = after


def _others(bench: Bench, surface: Surface, truth: Found) -> None:
    """No other maximum within `uniqueness_radius`, and no other KKT point of F."""
    radius = bench.claims["uniqueness_radius"]
    known = np.isfinite(radius) & (radius > 0) & truth.maximum[:, 0]
    if not known.any():
        return
    rows = np.flatnonzero(known)
    bench, radius, mine = bench.only(known), radius[rows], truth.points[rows]
    surface, doubt = surface.take(rows), truth.error[rows]
    starts, _ = bench.around(bench.given, radius, STARTS)
    wide, _ = bench.around(bench.given, np.minimum(radius, bench.zone.width), STARTS)
    found = [newton(surface, starts), newton(surface, climb(surface, wide, 40))]
    for each in found:
        apart = length(each.points - mine)
        other = apart > 4 * (each.error + doubt) + 1e-14 * bench.zone.width[:, None]
        near = length(each.points - bench.given[:, None])
        near = near + each.error <= radius[:, None]
        leads = _leads(bench, surface, each)
        bad = each.maximum & other & near & leads
        bench.tally.refuse("uniqueness_radius", bad)
        only = np.array(["only KKT" in reason for reason in bench.reasons])
        kkt = (each.maximum | each.saddle) & other
        bench.tally.refuse("only KKT point", (kkt & only[:, None])[only])
        with np.errstate(invalid="ignore"):
            ratio = np.where(
                (each.maximum | each.saddle) & other & leads,
                radius[:, None] / (length(each.points - bench.given[:, None])),
                np.nan,
            )
        bench.tally.compare(
            "uniqueness_radius: the nearest other",
            ratio,
            np.ones(len(radius)),
            np.where(each.maximum, each.error, np.inf),
        )


def _no_maximum(bench: Bench) -> None:
    """No local maximiser of the objective within the search distance."""
    starts, _ = bench.around(bench.given, bench.reach, STARTS)
    for k in range(2):
        lead = bench.field.lead(starts[:, k].astype(float))
        points = np.concatenate([starts, climb(lead, starts, 40)], 1)
        found = newton(lead, points)
        gap = length(found.points - bench.given[:, None]) + found.error
        leads = _leads(bench, lead, found)
        bad = found.maximum & leads & (gap < bench.reach[:, None])
        for name in ("NOT_STATIONARY", "SADDLE"):
            mask = bench.verdicts == name
            bench.tally.refuse(f"{name}: no maximum near", bad[mask])


def _gains(bench: Bench) -> None:
    """`guaranteed_gain` is really gained along `direction`, one way or the other."""
    field, zone = bench.field, bench.zone
    gain = bench.claims["guaranteed_gain"]
    known = np.isfinite(gain)
    base = bench.given
    size = length(base)
    apart = np.abs(size - zone.radius)
    on = np.isfinite(zone.radius) & (zone.sphere | ~(zone.radius - size > bench.reach))
    unit = base / np.maximum(size, 1e-300)[:, None]
    base = np.where(on[:, None], unit * zone.radius[:, None], base)
    if zone.boxed:
        base = zone.project(base[:, None])[:, 0]
    way = bench.direction.astype(LONG)
    normal = np.where(on[:, None], unit, 0)
    way = way - (way * normal).sum(-1, keepdims=True) * normal
    way = way / np.maximum(length(way), 1e-300)[:, None]
    chord = np.minimum(bench.reach + apart, 2 * zone.radius) * on
    radius = np.where(on, zone.radius, 1.0)
    arc = np.where(on, 2 * radius * np.arcsin(chord / radius / 2), bench.reach)
    share = np.concatenate([10 ** np.linspace(-12, 0, 100), np.linspace(0.02, 1, 50)])
    far = arc[:, None] * np.concatenate([share, -share]) * (1 + 1e-9)
    far = np.concatenate([far, _summit(field, base, way, normal, radius, arc)], 1)
    theta = far / radius[:, None]
    turn = np.cos(theta)[..., None] * base[:, None] + (
        np.sin(theta)[..., None] * radius[:, None, None] * way[:, None]
    )
    line = base[:, None] + far[..., None] * way[:, None]
    points = np.where(on[:, None, None], turn, line)
    value, doubt = field.objective(points)
    start, off = field.objective(base[:, None])
    best = np.where(known, (value - start).max(1), np.nan)
    room = doubt.max(1) + off[:, 0] + edge(bench, points)[:, 0]
    bench.tally.compare("guaranteed_gain", gain + 0 * best, best, room)


def _summit(
    field: Field, base: Array, way: Array, normal: Array, radius: Array, arc: Array
) -> Array:
    """Where F's second-order model along the way is highest `[batch, 2]`."""
    surface = field.lead(base.astype(float))
    _, gradient, _ = surface.look(base[:, None])
    slope = (gradient[:, 0] * way).sum(-1)
    bent = np.einsum("bi,bij,bj->b", way, surface.hessian(base[:, None])[:, 0], way)
    bent = bent - (gradient[:, 0] * normal).sum(-1) / radius
    top = np.where(bent < 0, -slope / np.where(bent < 0, bent, 1), 0)
    top = np.clip(top, -arc, arc)
    return np.stack([top, top * (1 - 1e-6)], 1)
