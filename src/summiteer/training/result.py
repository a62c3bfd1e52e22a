"""What a training came to."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from summiteer.training.monitor import as_curve
from summiteer.training.record import INNER, OUTER, Epoch


@dataclass(frozen=True, eq=False, repr=False)
class TrainingResult:
    """What a training came to.

    Attributes:
        model: trained, in eval mode; a copy of the caller's.
        optimizer: as the last step left it.
        records: one `Epoch` per epoch.
        stopped: why it ended before its time, or "".
        messages: what happened on the way that a reader should know.
        run: id of the training, the digest of its settings; "" without a directory.
        directory: of the checkpoints, or None.
    """

    model: nn.Module
    optimizer: Any
    records: tuple[Epoch, ...]
    stopped: str = ""
    messages: Sequence[str] = ()
    run: str = ""
    directory: Path | None = None

    @property
    def curves(self) -> dict[str, np.ndarray]:
        """Name -> `[epochs]` float64, NaN where nothing was measured.

        The numbers of `Epoch` by their names, those of `InnerProblem` as `inner_…`.
        """
        curves = {
            name: as_curve([getattr(record, name) for record in self.records])
            for name in OUTER
        }
        for name in INNER:
            inner = [getattr(record.inner, name, None) for record in self.records]
            curves[f"inner_{name}"] = as_curve(inner)
        return curves

    @property
    def alarms(self) -> tuple[str, ...]:
        """All that the monitor was alarmed about."""
        looks = (record.inner for record in self.records)
        return tuple(look.alarm for look in looks if look is not None and look.alarm)

    def __repr__(self) -> str:
        """The last epoch in words."""
        count = len(self.records)
        text = f"TrainingResult of {count} epoch{'s' * (count != 1)}"
        if self.records:
            last = self.records[-1]
            told = {
                "train": (last.train_robust_accuracy, last.train_robust_loss),
                "held out": (last.held_out_robust_accuracy, last.held_out_robust_loss),
            }
            for name, (accuracy, loss) in told.items():
                if accuracy is not None:
                    text += f"; {name} robust accuracy {accuracy:.1%}"
                elif loss is not None:
                    text += f"; {name} robust loss {loss:.4g}"
        for alarm in self.alarms[:1]:
            text += f"; ALARM: {alarm}"
        return text + (f"; stopped: {self.stopped}" if self.stopped else "")
