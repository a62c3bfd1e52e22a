"""What happened on the way: optional, and bounded in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from summiteer.errors import UserError

#: What is recorded unless something else is asked for.
FIELDS = ("loss", "residual", "norm", "step_size", "displacement")
#: What can be recorded.
KNOWN = (
    *FIELDS,
    "gap",
    "rise",
    "gradient_norm",
    "gradient_change",
    "point",
)


@dataclass(frozen=True)
class Recorder:
    """Which steps to record.

    Args:
        every: record steps 0, every, 2·every, …
        max_bytes: `every` is doubled until the whole trajectory fits.
        fields: which numbers, as `Trajectory` names them; others are not even computed.
            "residual" and "gap" cost arithmetic on the points at each recorded step,
            "point" the memory of a point.

    Raises:
        UserError: a number below 1, no field or an unknown one.
    """

    every: int = 1
    max_bytes: int = 64 * 2**20
    fields: Sequence[str] = FIELDS

    def __post_init__(self) -> None:
        given = self.fields
        named = not isinstance(given, str) and len(given) > 0
        if not (named and set(given) <= set(KNOWN)):
            raise UserError(
                f"recorder: expected fields out of {list(KNOWN)}, at least one, got "
                f"{given!r}."
            )
        if self.every < 1 or self.max_bytes < 1:
            raise UserError(
                "recorder: expected every ≥ 1 and max_bytes ≥ 1, got "
                f"every={self.every}, max_bytes={self.max_bytes}."
            )

    @property
    def measures(self) -> bool:
        """Whether the residual is asked for."""
        return "residual" in self.fields

    def stride(self, max_steps: int, rows: int, size: int = 1) -> int:
        """Return the distance between recorded steps that keeps within max_bytes.

        Args:
            max_steps: of the longest run.
            rows: runs of all examples.
            size: numbers of a point.
        """
        every, fields = self.every, set(self.fields)
        cost = rows * (4 * len(fields - {"point"}) + 8 * size * ("point" in fields))
        while cost * (max_steps // every + 1) > self.max_bytes and every <= max_steps:
            every *= 2
        return every


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Recorded numbers of all runs; NaN after a run has stopped.

    Numbers are float32, points of the run's own dtype.

    Fields that the recorder was not asked for are None.

    Attributes:
        step: `[records]` which steps were recorded.
        loss: `[records, restarts, batch]`.
        residual: first-order residual (mathematics.md §3), same shape.
        norm: ‖δ‖₂ in units of inputs, same shape.
        step_size: of the step that led here; 0 at the start.
        displacement: ‖δ_t - δ_(t-1)‖₂; 0 at the start.
        gap: Frank-Wolfe gap max over v in the region of gᵀ(v - δ).
        rise: of the objective in the last step, ℓ(δ_t) - ℓ(δ_(t-1)), subtracted in
            the run's own precision; 0 at the start.
        gradient_norm: ‖∇ℓ(δ_t)‖₂.
        gradient_change: ‖∇ℓ(δ_t) - ∇ℓ(δ_(t-1))‖₂; 0 at the start.
        point: δ_t `[records, restarts, batch, *input]`.
    """

    step: Tensor
    loss: Tensor | None = None
    residual: Tensor | None = None
    norm: Tensor | None = None
    step_size: Tensor | None = None
    displacement: Tensor | None = None
    gap: Tensor | None = None
    rise: Tensor | None = None
    gradient_norm: Tensor | None = None
    gradient_change: Tensor | None = None
    point: Tensor | None = None

    def with_examples(self, index: Tensor, other: "Trajectory") -> "Trajectory":
        """Return the trajectory with the examples `index` taken from another one.

        Args:
            index: `[examples]`.
            other: of these examples, recorded at the same steps as far as it goes.
        """
        index = index.cpu()
        parts = {}
        for name in KNOWN:
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine is None or theirs is None:
                continue
            records = max(len(mine), len(theirs))
            joined = mine.new_full((records, *mine.shape[1:]), torch.nan)
            joined[: len(mine)] = mine
            joined[:, :, index] = torch.nan
            joined[: len(theirs), :, index] = theirs
            parts[name] = joined
        return Trajectory(max(self.step, other.step, key=len), **parts)


class Tape:
    """The trajectory while it is being written.

    Args:
        recorder: what to record.
        max_steps: the longest run.
        points: `[restarts, batch, *input]`, where the runs begin.
    """

    def __init__(self, recorder: Recorder, max_steps: int, points: Tensor) -> None:
        shape = points.shape
        self._shape = tuple(shape[:2])
        rows, point = shape[:2].numel(), tuple(shape[2:])
        self._every = recorder.stride(max_steps, rows, shape[2:].numel())
        records = max_steps // self._every + 1
        self._data = {
            name: torch.full(
                (records, rows, *(point if name == "point" else ())),
                torch.nan,
                dtype=points.dtype if name == "point" else torch.float32,
            )
            for name in recorder.fields
        }
        self._written = 0

    @property
    def fields(self) -> tuple[str, ...]:
        """What is asked for."""
        return tuple(self._data)

    def wants(self, step: int) -> bool:
        """Whether `step` is to be recorded."""
        return step % self._every == 0

    def write(self, step: int, rows: Tensor, **values: Tensor) -> None:
        """Record `values` `[rows]` of the runs numbered `rows`."""
        record = step // self._every
        for name, value in values.items():
            kept = self._data[name]
            kept[record, rows.cpu()] = value.detach().to(kept.dtype).cpu()
        self._written = record + 1

    def trajectory(self) -> Trajectory:
        """Return what was recorded."""
        parts = {
            name: values[: self._written].reshape(-1, *self._shape, *values.shape[2:])
            for name, values in self._data.items()
        }
        return Trajectory(torch.arange(self._written) * self._every, **parts)
