"""`explore`: many runs of one problem, and what they say about its landscape."""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from summiteer import tolerances
from summiteer._ascend import ascend
from summiteer._caller import undisturbed
from summiteer.adversaries import Adversary
from summiteer.ascent import Ascent
from summiteer.errors import UserError
from summiteer.landscape.grouping import grouped
from summiteer.landscape.landscape import Landscape
from summiteer.landscape.limit import number_of_maxima
from summiteer.landscape.maxima import Maxima, unseen_mass
from summiteer.landscape.peak import Peak
from summiteer.landscape.separation import Separation
from summiteer.landscape.ways import Ways, every_step
from summiteer.networks import recognise
from summiteer.objectives import ScalarLoss
from summiteer.optimality import (
    Certificate,
    Evidence,
    Verdict,
    local_optimality,
    polish,
)
from summiteer.problem import Problem
from summiteer.starts import GivenStart, UniformStart

#: Bytes that the record of all steps may take, if one example needs no more.
_RECORD = 2**26


def explore(
    problem: Problem,
    restarts: int = 64,
    seed: int = 0,
    adversary: Adversary | None = None,
    max_steps: int = 500,
    within: float = tolerances.WITHIN,
) -> Landscape:
    """Climb from many uniform starts and say which maxima there are.

    Everything is done in float64, for every differentiable model. Each run is an
    independent draw: start uniform on the region, adversary, and where its end is not
    found to be a maximum `polish`. So shares of runs estimate the volumes of basins *of
    this adversary*, and Good's estimate what was not seen (`unseen_mass`).

    For two-layer networks certificates prove which ends are maxima, and which of these
    are the same or different (`landscape.separation`): `at_least`, and `at_most` where
    Prop. 4 or 5 says how many there can be at all. What is not proved is counted by
    distance, and says so (`Peak.apart`, `Peak.joined`).

    Args:
        problem: what is maximised.
        restarts: runs per example.
        seed: of the starts, which are named by it, the example's id and the restart.
        adversary: a frozen method; `default_adversary` of the region if None.
        max_steps: of each run.
        within: search distance of verdicts, in radii.

    Returns:
        `Landscape`. Nothing of the caller's is changed.

    Raises:
        UserError: an argument cannot be used, or the model does not fit.
    """
    if not (isinstance(max_steps, int) and max_steps >= 1):
        raise UserError(f"max_steps: expected an integer ≥ 1, got {max_steps!r}.")
    if not 0 < within < 1:
        raise UserError(f"within: expected 0 < within < 1 (radii), got {within!r}.")
    if not len(problem):
        raise UserError("problem: expected at least one example, got none.")
    problem.examine()
    with undisturbed(problem.model):
        exact = problem.in_double()
        starts = UniformStart(restarts=restarts, seed=seed).points(exact)
        ascents, ways = [], []
        blocks = _blocks(exact, restarts, max_steps)
        for index in blocks:
            some, from_ = exact.take(index), starts[:, index]
            recorder = every_step(max_steps, from_.shape[:2].numel())
            ascent = ascend(some, adversary, GivenStart(from_), max_steps, recorder)
            ascents.append(ascent)
            ways.append(Ways.of(some, from_, ascent))
        runs = exact.take(torch.arange(len(exact)).repeat(restarts))
        ends = torch.cat([ascent.final for ascent in ascents], 1)
        arrived = local_optimality(runs, ends.flatten(0, 1), within=within)
        left = (~arrived.maximum).nonzero().flatten()
        certificate = arrived
        if len(left):
            flat = ends.flatten(0, 1)
            higher = polish(runs.take(left), flat[left]).to(flat)
            flat = flat.index_copy(0, left.to(flat.device), higher)
            ends = flat.reshape(ends.shape)
            certificate = local_optimality(runs, flat, within=within)
        return _landscape(
            exact, starts, ends, arrived, certificate, ascents, Ways.joined(ways)
        )


def _blocks(problem: Problem, restarts: int, max_steps: int) -> Iterator[Tensor]:
    """Indices of so many examples that the record of their steps fits."""
    each = every_step(max_steps, restarts).max_bytes
    yield from torch.split(torch.arange(len(problem)), max(1, _RECORD // each))


def _landscape(
    problem: Problem,
    starts: Tensor,
    ends: Tensor,
    arrived: Certificate,
    certificate: Certificate,
    ascents: list[Ascent],
    ways: Ways,
) -> Landscape:
    """Put the runs together."""
    shape = ends.shape[:2]
    losses, sign = _values(problem, ends)
    counted = certificate.maximum.reshape(shape)
    plateau = [v is Verdict.LOCAL_MAXIMUM for v in certificate.verdict]
    separation = Separation.of(ends, certificate)
    label = grouped(
        problem, ends, counted, torch.tensor(plateau).reshape(shape), separation
    )
    label = _by_height(label, losses)
    maxima = Maxima(label, label.amax(0) + 1, *unseen_mass(label, counted))
    peaks, a_priori = _peaks(
        problem, ends, losses, sign, label, certificate, separation
    )
    least = torch.tensor(separation.least())
    numbers = number_of_maxima(problem, certificate, sign, least)
    return Landscape(
        problem=problem,
        starts=starts,
        ends=ends,
        losses=losses,
        sign=sign,
        outcome=np.concatenate([ascent.outcome for ascent in ascents], 1),
        steps=torch.cat([ascent.steps for ascent in ascents], 1),
        arrived=arrived,
        certificate=certificate,
        maxima=maxima,
        peaks=peaks,
        at_least=numbers.least,
        at_most=numbers.most,
        a_priori=a_priori,
        ways=ways,
        gradient_evaluations=sum(a.gradient_evaluations for a in ascents),
    )


def _values(problem: Problem, ends: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, sign of its slope) at the ends `[restarts, batch]`, on the processor."""
    rows, losses, signs = problem.rows(), [], []
    scalar = isinstance(problem.objective, ScalarLoss)
    with torch.no_grad():
        for points in ends:
            outputs = problem.model(problem.inputs + points)
            losses.append(rows.objective(outputs, problem.targets).double().cpu())
            single = outputs.ndim == 1 or outputs.shape[1:].numel() == 1
            sign = torch.zeros(len(points))
            if scalar and single:
                assert isinstance(rows.objective, ScalarLoss)
                flat = outputs.reshape(len(points))
                sign = rows.objective.slope_sign(flat, problem.targets)
            signs.append(sign.reshape(len(points)).sign().to(torch.int8).cpu())
    return torch.stack(losses), torch.stack(signs)


def _by_height(label: Tensor, losses: Tensor) -> Tensor:
    """The same groups, numbered from the one with the highest end point."""
    again = label.clone()
    for example, own in enumerate(label.T):
        numbers = range(int(own.max()) + 1)
        tops = [float(losses[own == k, example].max()) for k in numbers]
        for rank, k in enumerate(sorted(numbers, key=lambda k: -tops[k])):
            again[own == k, example] = rank
    return again


def _peaks(
    problem: Problem,
    ends: Tensor,
    losses: Tensor,
    sign: Tensor,
    label: Tensor,
    certificate: Certificate,
    separation: Separation,
) -> tuple[tuple[tuple[Peak, ...], ...], Tensor]:
    """The maxima of each example, and q `[batch]`."""
    batch = len(problem)
    place = [
        (example, _standing(own, number, losses[:, example], separation, example))
        for example, own in enumerate(label.T)
        for number in range(int(own.max()) + 1)
    ]
    indices = _indices(problem, ends, place)
    peaks: list[list[Peak]] = [[] for _ in range(batch)]
    a_priori = torch.full((batch,), torch.nan, dtype=torch.float64)
    for row, (example, run) in enumerate(place):
        own, flat = label[:, example], run * batch + example
        members = own == own[run]
        peaks[example].append(
            Peak(
                point=ends[run, example].cpu(),
                loss=float(losses[run, example]),
                sign=int(sign[run, example]),
                runs=int(members.sum()),
                restarts=len(label),
                verdict=certificate.verdict[flat],
                evidence=certificate.evidence[flat],
                apart=_apart(separation, example, members, own),
                joined=_known(separation.same[example][run, members].all()),
                distance_bound=float(certificate.distance_bound[flat]),
                uniqueness_radius=float(certificate.uniqueness_radius[flat]),
                curvature_ratio=float(certificate.curvature_ratio[flat]),
                index_global=float(indices["global"][row]),
                index_unique=float(indices["unique"][row]),
            )
        )
        a_priori[example] = indices["a_priori"][row]
    return tuple(tuple(own) for own in peaks), a_priori


def _standing(
    own: Tensor, number: int, losses: Tensor, separation: Separation, example: int
) -> int:
    """The run that stands for a maximum: a proved one if there is one, the highest."""
    proved = separation.proved[:, example] & (own == number)
    among = proved if bool(proved.any()) else own == number
    return int(losses.masked_fill(~among, -torch.inf).argmax())


def _apart(
    separation: Separation, example: int, members: Tensor, own: Tensor
) -> Evidence:
    """PROVED if it is a maximum, and different from some point of each other one."""
    others = (own >= 0) & ~members
    different = separation.different[example] & members[:, None]
    apart = different.any(0) & others
    proved = bool(separation.proved[members, example].any())
    return _known(proved and set(own[apart].tolist()) == set(own[others].tolist()))


def _known(holds: bool | Tensor) -> Evidence:
    return Evidence.PROVED if bool(holds) else Evidence.NUMERICAL


def _indices(
    problem: Problem, ends: Tensor, place: list[tuple[int, int]]
) -> dict[str, Tensor]:
    """The regularity indices at the points that stand for maxima."""
    nothing = torch.full((len(place),), torch.nan, dtype=torch.float64)
    known = recognise(problem.model).scalar is not None
    if not place or not known or not problem.feasible.whole_ball:
        return dict.fromkeys(("global", "unique", "a_priori"), nothing)
    example, run = (torch.tensor(each) for each in zip(*place, strict=True))
    points = problem.take(example)
    return local_optimality(points, ends[run, example]).indices
