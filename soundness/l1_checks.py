"""What is claimed on L1 balls and their parts in boxes, compared with all vertices."""

from dataclasses import replace

import numpy as np

from soundness.diamond import Diamond
from soundness.field import LONG, Array, length
from soundness.kinked import climb
from soundness.kinked_checks import MAXIMA, Trial, around, edge, maxima
from soundness.sigma import ULP


def check_l1(trial: Trial) -> None:
    """Compare every claim with what is found."""
    best = trial.only(np.isin(trial.verdicts, MAXIMA))
    if len(best):
        maxima(best)
        vertices(best)
        steepness(best)
        alone(best)
    none = trial.only(trial.verdicts == "NOT_STATIONARY")
    if len(none):
        uphill(none)
        gained(none)


def corners_of(trial: Trial) -> Array:
    """The vertices of the region."""
    zone = trial.kinked.zone
    assert isinstance(zone, Diamond)
    return zone.corners()


def vertices(trial: Trial) -> None:
    """The certified point is a vertex, near the given one; no other is higher."""
    kinked, claims, zone = trial.kinked, trial.claims, trial.kinked.zone
    corners = corners_of(trial)
    apart = length(corners - trial.certified[:, None].astype(LONG))
    trial.compare("L1: the vertex", apart.min(1), 1e-15 * zone.radius)
    one = corners[np.arange(len(trial)), apart.argmin(1)]
    away = length(one - trial.given)
    trial.compare("distance_bound", away, claims["distance_bound"], 4 * ULP * away)
    value, doubt = kinked.objective(corners)
    given, off = kinked.objective(trial.given[:, None])
    near = length(corners - trial.given[:, None]) < claims["best_radius"][:, None]
    near |= (trial.verdicts == "GLOBAL_MAXIMUM")[:, None]
    risen = np.where(near, value - given, np.nan)
    room = doubt + off + edge(kinked, corners)
    trial.compare("L1: higher vertices", risen, claims["loss_gap_bound"], room)
    # What the bound is of: the rise to the very vertex.
    top, top_doubt = kinked.objective(one[:, None])
    rise = top - given
    trial.compare("loss_gap_bound", rise, claims["loss_gap_bound"], top_doubt + off)


def steepness(trial: Trial) -> None:
    """F(q) ≤ F(p) - margin·|q - p|_∞ on the region next to the vertex p."""
    trial = trial.only(np.isfinite(trial.claims["margin"]))
    if not len(trial) or trial.kinked.loss != "margin":
        return
    kinked = trial.kinked
    corners = corners_of(trial)
    apart = length(corners - trial.certified[:, None].astype(LONG))
    vertex = corners[np.arange(len(trial)), apart.argmin(1)]
    # The package looks at 1e-6 of the search distance.
    points = around(replace_given(trial, vertex), 0.99e-6 * trial.reach)
    value, doubt = kinked.objective(points)
    base, off = kinked.objective(vertex[:, None])
    away = points - vertex[:, None]
    fall = trial.claims["margin"][:, None] * np.abs(away).max(-1)
    fair = length(away) <= 0.999e-6 * trial.reach[:, None]
    seen = np.where(fair & kinked.zone.inside(points), value - base + fall, np.nan)
    room = doubt + off + edge(kinked, points)
    trial.compare("L1: margin", seen, np.zeros(len(trial)), room)


def replace_given(trial: Trial, points: Array) -> Trial:
    """The trial around other points."""
    return replace(trial, given=points)


def gaps(trial: Trial, points: Array) -> tuple[Array, Array]:
    """(max gᵀ(v - q) over the vertices v, bound of its rounding) at points q."""
    _, gradient, _ = trial.kinked.slopes(points, LONG)
    most = np.full(points.shape[:2], -np.inf, LONG)
    here = (gradient * points).sum(-1)
    corners = corners_of(trial)
    for k in range(corners.shape[1]):
        most = np.maximum(most, (gradient * corners[:, k : k + 1]).sum(-1))
    width = trial.kinked.zone.width[:, None]
    return most - here, 8 * ULP * length(gradient) * width


def alone(trial: Trial) -> None:
    """Every other point within `uniqueness_radius` can be left uphill."""
    radius = trial.claims["uniqueness_radius"]
    trial = trial.only(np.isfinite(radius) & (radius > 0))
    if not len(trial):
        return
    width = trial.kinked.zone.width
    radius = np.minimum(trial.claims["uniqueness_radius"], 3 * width)
    points = np.concatenate([around(trial, radius)[:, ::2], corners_of(trial)], 1)
    gap, _ = gaps(trial, points)
    near = length(points - trial.given[:, None]) < 0.999 * radius[:, None]
    away = length(points - trial.certified[:, None].astype(LONG))
    other = (away > 1e-9 * width[:, None]) & trial.kinked.zone.inside(points)
    _, gradient, _ = trial.kinked.slopes(points, LONG)
    back = trial.certified[:, None].astype(LONG) - points
    # The certified point is the vertex but for float64 rounding.
    room = 1e-15 * length(gradient) * width[:, None]
    down = (gradient * back).sum(-1) < -room
    trial.refuse("uniqueness_radius", near & other & down)
    # At another vertex that is best of its piece the gap is 0 exactly.
    exact = np.zeros(points.shape[1], bool)
    exact[-corners_of(trial).shape[1] :] = True
    trial.refuse("L1: one vertex", near & other & exact & (gap <= 0))


def uphill(trial: Trial) -> None:
    """No point of the region within the search distance is a local maximiser."""
    kinked, reach = trial.kinked, trial.reach
    laid = around(trial, reach)[:, ::2]
    ends = climb(kinked, laid[:, ::8], 24, trial.given, reach)
    corners = corners_of(trial)
    points = np.concatenate([laid, ends, corners], 1)
    gap, doubt = gaps(trial, points)
    apart = length(points - trial.given[:, None])
    near = (apart < 0.999 * reach[:, None]) & kinked.zone.inside(points)
    trial.refuse("L1: uphill from everywhere", near & (gap <= doubt))
    exact = np.arange(points.shape[1]) >= points.shape[1] - corners.shape[1]
    trial.refuse("NOT_STATIONARY: no maximum near", near & exact & (gap <= 0))


def gained(trial: Trial) -> None:
    """`guaranteed_gain` is gained along `direction`, inside where the point is."""
    trial = trial.only(np.isfinite(trial.claims["guaranteed_gain"]))
    if not len(trial):
        return
    kinked, zone, way = trial.kinked, trial.kinked.zone, trial.direction.astype(LONG)
    share = np.concatenate([10 ** np.linspace(-9, 0, 40), np.linspace(0.02, 1, 50)])
    far = trial.reach[:, None] * share
    points = trial.given[:, None] + far[..., None] * way[:, None]
    value, doubt = kinked.objective(points)
    within = zone.inside(trial.given[:, None])
    # The direction is rounded to float64.
    off = length(points - zone.project(points))
    fine = ~within | (off <= 1e-12 * zone.width[:, None])
    start, error = kinked.objective(trial.given[:, None])
    best = np.where(fine, value - start, -np.inf).max(1)
    gain = trial.claims["guaranteed_gain"] + 0 * best
    # Lengths between those that are tried, and the rounding of the direction's.
    room = doubt.max(1) + error[:, 0] + 1e-12 * np.abs(best)
    trial.compare("guaranteed_gain", gain, best, room)
