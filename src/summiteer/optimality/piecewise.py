"""The prover of piecewise-linear networks of any depth (mathematics.md §9).

The given points are snapped to the maximiser of their own affine piece as long as that
raises F and stays near; what is then proved speaks of the point reached, and of the
distance back to the given one. Where no maximum can be proved within the search
distance, a way uphill from everywhere near is looked for.
"""

from dataclasses import replace

import torch
from torch import Tensor

from summiteer.networks import PiecewiseLinear, as_piecewise_linear
from summiteer.networks.affine import Reshape
from summiteer.networks.piecewise_linear import Maximum, Rectifier, Step
from summiteer.optimality.claims import Claims
from summiteer.optimality.local_form import LocalForm
from summiteer.optimality.local_maximum import Summit, certified
from summiteer.optimality.premises import OTHER_MODEL, on_cpu
from summiteer.optimality.readout import readout
from summiteer.optimality.relaxation import relaxed_summit
from summiteer.optimality.ridge_ascent import MOST_TIES, ridge_ascent
from summiteer.optimality.rounding import (
    Enclosure,
    arithmetic_fault,
    down,
    up,
)
from summiteer.optimality.stand import Limits, Stand, faces, limits_of, stand
from summiteer.optimality.ties import ridges_near, ties_of
from summiteer.optimality.uphill import curving, least_way, pinned, uphill
from summiteer.optimality.verdict import Evidence, Verdict
from summiteer.precision import DoubleModel
from summiteer.problem import Problem

#: Radii of the neighbourhoods that are tried, in search distances: the first holds the
#: maximiser nearly always, and few kinks.
_RADII = (1e-6, 1e-3, 0.5)
#: Steps from the maximiser of one affine piece to that of the next.
_SNAPS = 100
#: A snap shorter than this, in search distances, is none.
_STILL = 1e-11
#: A limit holds a coordinate that is nearer than this, in search distances.
_SNAP = 1e-3
#: Points examined at once: each holds enclosures of every layer, in float64.
_PART = 64
#: The first trust radius of a climb, in radii.
_CLIMB = 1e-3
_KINKED_STEPS = (Rectifier, Maximum)
_ALONE = "every gradient near presses against the region's boundary"
_CURVING = "the objective curves upwards along a coordinate that may move both ways"
_LEVEL = "the objective is constant around"
_KINKED = "on each side of its kinks the objective falls, by multipliers for them"


def prove(problem: Problem, points: Tensor, within: float, budget: int = 0) -> Claims:
    """Prove what can be proved of the points.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64 perturbations.
        within: search distance in radii.
        budget: of branch and bound; not used.

    Returns:
        Claims; UNDECIDED with the reason where nothing was proved.
    """
    del budget
    with torch.no_grad(), on_cpu():
        form = local_form(problem, points)
        if isinstance(form, str):
            return Claims.undecided(len(points), form)
        reach = down(within * problem.size.to(torch.float64), 2)
        claims = Claims.undecided(len(points))
        for index in torch.split(torch.arange(len(points)), _PART):
            some = problem.take(index), form.take(index), points[index].flatten(1)
            found = _Prover(*some, reach[index]).claims(points[index].shape)
            claims = claims.filled(index, found)
        return claims


def climbed(problem: Problem, points: Tensor) -> Tensor | None:
    """Points climbed along their kinks, in floats; None if the network is not known.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64.
    """
    with torch.no_grad(), on_cpu():
        form = local_form(problem, points)
        if isinstance(form, str):
            return None
        reach = _CLIMB * problem.size.to(torch.float64)
        flat = ridge_ascent(form, problem.feasible, points.flatten(1), reach)
        return flat.reshape(points.shape)


def local_form(problem: Problem, points: Tensor) -> LocalForm | str:
    """The problem as it is near the points, or why nothing can be proved.

    Args:
        problem: in float64.
        points: `[batch, *input]` float64.
    """
    known = _premises(problem)
    if isinstance(known, str):
        return known
    network, limits = known
    outputs = network.evaluate(problem.inputs + points).flatten(1)
    form = readout(problem, outputs)
    if isinstance(form, str):
        return form
    return LocalForm(network, problem.inputs, form, limits)


def reproduced(problem: Problem, form: LocalForm, points: Tensor) -> Tensor:
    """Whether the model computes what the network says, within four bounds `[rows]`.

    Args:
        problem: in float64.
        form: near the points.
        points: `[rows, d]`.
    """
    seen = form.around(points, points.new_zeros(len(points)))
    moved = problem.inputs + points.reshape(problem.inputs.shape)
    outputs = problem.model(moved).reshape(len(moved), -1)
    room = up(4 * seen.outputs.radius + 1e-14 * (1 + outputs.abs()))
    return ((outputs - seen.outputs.middle).abs() <= room).all(1)


def _premises(problem: Problem) -> tuple[PiecewiseLinear, Limits] | str:
    """The network and the region's parts, or why nothing can be proved."""
    fault = arithmetic_fault()
    if fault:
        return f"arithmetic: {fault}"
    inputs = problem.inputs
    if inputs.device.type != "cpu" or inputs.dtype != torch.float64:
        return "proofs need float64 on the CPU"
    model = problem.model
    if type(model) is DoubleModel:
        model = model.module  # whose weights are the ones copied
    network = as_piecewise_linear(model, tuple(inputs.shape[1:]))
    if not isinstance(network, PiecewiseLinear):
        return network.reason
    if any(
        s.shape == () and isinstance(s.operation, _KINKED_STEPS) for s in network.steps
    ):
        return "a kink of a value without dimensions is not known"
    if network.steps[-1].shape == ():
        column = Step(Reshape((), (1,)), (network.last,), (1,))
        network = replace(network, steps=(*network.steps, column))
    with torch.no_grad():
        limits = limits_of(problem.feasible, inputs)
    kind = type(problem.feasible).__name__
    return (
        f"{kind} is not a region that proofs know"
        if limits is None
        else (network, limits)
    )


class _Prover:
    """The proofs of one batch, and what they came to.

    Args:
        problem: in float64.
        form: of the problem near the points.
        points: given `[rows, d]`.
        reach: the search distance.
    """

    def __init__(
        self, problem: Problem, form: LocalForm, points: Tensor, reach: Tensor
    ) -> None:
        self.problem, self.form = problem, form
        self.points, self.reach = points, reach
        rows = len(points)
        self.open = reproduced(problem, form, points)
        self.reason = [
            "no inequality of Props. 10 and 11 holds here" if same else OTHER_MODEL
            for same in self.open.tolist()
        ]
        self.verdict = [Verdict.UNDECIDED] * rows
        self.proposition = [""] * rows
        self.numbers: dict[str, Tensor] = {}
        self.found = points.clone()
        self.direction = torch.full_like(points, torch.nan)

    def claims(self, shape: torch.Size) -> Claims:
        """Maxima of one piece first, then ways uphill, then maxima on kinks."""
        for look in (self._maxima, self._uphill, self._curving, self._kinked):
            index = self.open.nonzero().flatten()
            if len(index):
                look(index)
        evidence = [
            Evidence.NUMERICAL if v is Verdict.UNDECIDED else Evidence.PROVED
            for v in self.verdict
        ]
        return Claims(
            self.verdict,
            evidence,
            self.reason,
            self.proposition,
            self.numbers,
            self.found.reshape(shape),
            self.direction.reshape(shape),
        )

    def _stand(self, form: LocalForm, points: Tensor, index: Tensor) -> Stand:
        """The face that points nearly stationary lie on."""
        patch = form.around(points, torch.zeros(len(points), dtype=torch.float64))
        gradient = patch.whole.gradient.middle
        snap = _SNAP * self.reach[index]
        flat = torch.zeros_like(points)
        free, curved = faces(form.limits, points, gradient, flat, snap)
        # Where nothing presses outwards a point that sticks out by rounding is not on
        # the ball.
        size = points.norm(dim=1)
        shorter = (form.limits.radius / size.clamp(min=1e-300)).clamp(max=1.0)
        shorter = torch.where(curved | (shorter == 1), 1.0, shorter * (1 - 1e-14))
        points = torch.where(free, points * shorter[:, None], points)
        return stand(form.limits, points, free, curved)

    def _maxima(self, index: Tensor) -> None:
        """Maxima of one affine piece, or with ties that all gradients agree on."""
        form = self.form.take(index)
        points = self._snapped(form, index)
        standing = self._stand(form, points, index)
        part = torch.arange(len(index))
        for share in _RADII:
            some = standing.take(part)
            radius = up(share * self.reach[index[part]] + some.slack)
            patch = form.take(part).around(some.points, radius)
            held = certified(patch, some)
            self._record(index[part], some, held, _ALONE)
            # More kinks are not better; what does not press on a small N does not on
            # a larger one.
            part = part[~held.proved & (held.margin > 0)]
            if not len(part):
                break

    def _snapped(self, form: LocalForm, index: Tensor) -> Tensor:
        """The given points, or the maxima of affine pieces next to them."""
        given, reach = self.points[index], self.reach[index]
        region = self.problem.feasible.take(index)
        shape = (len(index), *self.problem.inputs.shape[1:])
        zero = torch.zeros_like(reach)
        points = region.project(given.reshape(shape)).flatten(1)
        value = form.around(points, zero).value.middle
        rows = torch.arange(len(index))
        for _ in range(_SNAPS):
            some = form.take(rows)
            slope = some.around(points[rows], zero[rows]).whole.gradient.middle
            slope = slope.reshape(len(rows), *shape[1:])
            end = region.take(rows).linear_maximiser(slope).flatten(1)
            there = some.around(end, zero[rows]).value.middle
            near = (end - given[rows]).norm(dim=1) <= reach[rows]
            hop = (end - points[rows]).norm(dim=1) > _STILL * reach[rows]
            better = near & hop & (there >= value[rows])
            rows = rows[better]
            if not len(rows):
                break
            points[rows], value[rows] = end[better], there[better]
        return points

    def _kinked(self, index: Tensor) -> None:
        """Ways uphill by sides, then maxima on kinks, then ways along them."""
        self._sided(index)
        index = index[self.open[index]]
        if not len(index):
            return
        form, given = self.form.take(index), self.points[index]
        patch = form.around(given, self.reach[index])
        count = ridges_near(patch, form.around(given, torch.zeros_like(patch.radius)))
        index = index[(patch.tied > 0) & (count <= MOST_TIES)]
        if not len(index):
            return
        points, limits = self.points[index], self.form.limits.take(index)
        ball = points.norm(dim=1) >= limits.radius - self.reach[index]
        standing, best, way = relaxed_summit(
            self.form.take(index), points, self.reach[index], ball
        )
        self._record(index, standing, best, _KINKED)
        still = self.open[index]
        if bool(still.any()):
            self._uphill(index[still], way[still])

    def _sided(self, index: Tensor) -> None:
        """Ways uphill whatever side of its kinks a point is on."""
        form, given = self.form.take(index), self.points[index]
        patch = form.around(given, self.reach[index])
        few = (patch.tied > 0) & (patch.tied <= MOST_TIES)
        index, part = index[few], few.nonzero().flatten()
        if not len(index):
            return
        some = form.take(part)
        here = some.around(given[part], torch.zeros_like(patch.radius[part]))
        ties = ties_of(patch.take(part), here, valleys=True)
        way = least_way(ties, some.limits, given[part], self.reach[index])
        self._uphill(index, way)

    def _record(self, index: Tensor, standing: Stand, best: Summit, text: str) -> None:
        """Write maxima within the search distance of the given points."""
        apart = (Enclosure.exact(standing.points) - self.points[index]).norm().upper
        moved = up(apart + standing.slack)
        distance = up(moved + best.distance)
        sound = best.proved & (distance <= self.reach[index])
        rows = index[sound]
        if not len(rows):
            return
        link = self.form.readout.link
        form = self.form.take(index)
        # All of the slack: the certified point is a real one.
        near = form.around(standing.points, standing.slack)
        there = form.readout.value(near.everywhere)
        given = form.around(self.points[index], torch.zeros_like(distance))
        low = torch.where(given.holds, given.value.lower, torch.nan)
        rise = link.rise(low, up(there.upper + best.gain))
        numbers = {
            "distance_bound": distance,
            "loss_gap_bound": rise,
            "best_radius": torch.where(
                best.radius > moved, down(best.radius - moved), 0.0
            ),
            "margin": best.margin,
            "tangential": best.tangential,
        }
        for name, value in numbers.items():
            self._note(name, rows, value[sound])
        self.found[rows] = standing.points[sound]
        flat = ~self._alive(standing, index)
        for place in sound.nonzero().flatten().tolist():
            row = int(index[place])
            strict = bool(best.strict[place])
            self.verdict[row] = (
                Verdict.FLAT
                if bool(flat[place])
                else Verdict.STRICT_LOCAL_MAXIMUM
                if strict
                else Verdict.LOCAL_MAXIMUM
            )
            self.reason[row] = _LEVEL if bool(flat[place]) else text
            self.proposition[row] = (
                "Prop. 11" if self.form.readout.curved else "Prop. 10"
            )
        self.open[rows] = False

    def _alive(self, standing: Stand, index: Tensor) -> Tensor:
        """Whether F depends on anything at all next to the points `[rows]`."""
        form = self.form.take(index)
        radius = up(_RADII[0] * self.reach[index] + standing.slack)
        return form.around(standing.points, radius).alive.any(1)

    def _uphill(self, index: Tensor, way: Tensor | None = None) -> None:
        """No maximum within the search distance."""
        form = self.form.take(index)
        patch = form.around(self.points[index], up(self.reach[index], 4))
        found = uphill(patch, way)
        if not bool(found.proved.all()) and not self.form.limits.round:
            # What all gradients hold at a limit need not be moved.
            found = found.better(uphill(pinned(pinned(patch)), way, patch))
        rows = index[found.proved]
        gain = self.form.readout.link.climb(found.low, found.gain)
        self._note("guaranteed_gain", rows, gain[found.proved])
        self.direction[rows] = found.direction[found.proved]
        for row in rows.tolist():
            self.verdict[row] = Verdict.NOT_STATIONARY
            self.reason[row] = "every gradient near leads uphill along one way"
            self.proposition[row] = "Prop. 10"
        self.open[rows] = False
        ties = patch.tied.tolist()
        for place, row in enumerate(index.tolist()):
            if self.open[row] and ties[place]:
                self.reason[row] = (
                    f"{ties[place]} units have their kinks within the search distance, "
                    "and no test decides"
                )

    def _curving(self, index: Tensor) -> None:
        """Cross-entropies that curve upwards all over the search distance."""
        if not self.form.readout.curved:
            return
        patch = self.form.take(index).around(
            self.points[index], up(self.reach[index], 4)
        )
        found = curving(pinned(pinned(patch)), patch)
        rows = index[found.proved]
        gain = self.form.readout.link.climb(found.low, found.gain)
        self._note("guaranteed_gain", rows, gain[found.proved])
        self.direction[rows] = found.direction[found.proved]
        for row in rows.tolist():
            self.verdict[row] = Verdict.SADDLE
            self.reason[row] = _CURVING
            self.proposition[row] = "Prop. 11"
        self.open[rows] = False

    def _note(self, name: str, rows: Tensor, values: Tensor) -> None:
        nothing = torch.full((len(self.points),), torch.nan, dtype=torch.float64)
        self.numbers.setdefault(name, nothing)[rows] = values
