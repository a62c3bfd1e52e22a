"""Checkpoints: model, optimiser, schedule and curve in one file, written as a whole.

Two files take turns, so that the older one is whole whatever becomes of the newer.
"""

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from summiteer.cells import as_tensor, digest, digest_arrays
from summiteer.disk import explained, replaced
from summiteer.errors import UserError
from summiteer.training.record import Epoch
from summiteer.training.state import decoded, encoded

#: To be raised when the content changes.
SCHEMA = 1
_NAMES = ("checkpoint-0.safetensors", "checkpoint-1.safetensors")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a training stands after an epoch.

    Attributes:
        epoch: number of epochs done.
        records: one per epoch.
        model: its state dict.
        optimizer: its state dict.
        schedule: its state dict, or None.
    """

    epoch: int
    records: tuple[Epoch, ...]
    model: dict[str, Tensor]
    optimizer: Any
    schedule: Any

    @classmethod
    def of(
        cls, model: nn.Module, optimizer: Any, schedule: Any, records: Sequence[Epoch]
    ) -> "Checkpoint":
        """The present state.

        Args:
            model: what is trained.
            optimizer: of torch, or what behaves like one.
            schedule: or None.
            records: of the epochs done.

        Raises:
            UserError: the model's state is not made of tensors alone.
        """
        state = model.state_dict()
        odd = [name for name, value in state.items() if not isinstance(value, Tensor)]
        if odd:
            raise UserError(
                f"checkpoint: the model's state has {odd[0]!r}, which is no tensor and "
                "is not written without pickles; train without checkpoint."
            )
        return cls(
            len(records),
            tuple(records),
            state,
            optimizer.state_dict(),
            None if schedule is None else schedule.state_dict(),
        )

    def restore(self, model: nn.Module, optimizer: Any, schedule: Any) -> None:
        """Put model, optimiser and schedule into this state.

        Args:
            model: of the same architecture.
            optimizer: of the same kind.
            schedule: of the same kind, or None.
        """
        model.load_state_dict(self.model)
        optimizer.load_state_dict(self.optimizer)
        if schedule is not None:
            schedule.load_state_dict(self.schedule)

    def as_bytes(self, run: str) -> bytes:
        """A safetensors file, with all but the tensors in its metadata.

        Args:
            run: id of the training.
        """
        tensors: dict[str, Tensor] = {}
        note = {
            "schema": SCHEMA,
            "run": run,
            "epoch": self.epoch,
            "records": [record.as_json() for record in self.records],
            "model": encoded(dict(self.model), tensors, "model"),
            "optimizer": encoded(self.optimizer, tensors, "optimizer"),
            "schedule": encoded(self.schedule, tensors, "schedule"),
        }
        # Clones, for tied weights share memory.
        copies = {name: as_tensor(value).clone() for name, value in tensors.items()}
        text = json.dumps(note)
        known = _digest(text, copies)
        return bytes(
            safetensors.torch.save(copies, {"note": json.dumps([text, known])})
        )

    @classmethod
    def read(cls, content: bytes, run: str) -> "Checkpoint":
        """What `as_bytes` wrote.

        Args:
            content: of the file.
            run: id that it must have.

        Raises:
            ValueError: it is truncated, altered, or of another run or schema.
        """
        try:
            size = int.from_bytes(content[:8], "little")
            header = json.loads(content[8 : 8 + size])
            text, known = json.loads(header["__metadata__"]["note"])
            tensors = safetensors.torch.load(content)
        except (ValueError, KeyError, TypeError, SafetensorError) as error:
            raise ValueError("it is truncated, or no checkpoint") from error
        if _digest(text, tensors) != known:
            raise ValueError("its content is not what was written")
        note = json.loads(text)
        if note["schema"] != SCHEMA:
            raise ValueError(f"it has schema {note['schema']}, not {SCHEMA}")
        if note["run"] != run:
            raise ValueError("it belongs to another training")
        return cls(
            note["epoch"],
            tuple(Epoch.of(record) for record in note["records"]),
            decoded(note["model"], tensors),
            decoded(note["optimizer"], tensors),
            decoded(note["schedule"], tensors),
        )


def write_checkpoint(directory: Path, checkpoint: Checkpoint, run: str) -> None:
    """Replace the older of the two files.

    Args:
        directory: of the training.
        checkpoint: the present state.
        run: id of the training.
    """
    path = directory / _NAMES[checkpoint.epoch % 2]
    content = checkpoint.as_bytes(run)
    with explained(path):
        replaced(path, content)


def latest_checkpoint(
    directory: Path, run: str, say: Callable[[str], None]
) -> Checkpoint | None:
    """The newer of the two that are whole; None where there is none yet.

    Args:
        directory: of the training.
        run: id of the training.
        say: is told of a file that cannot be used.

    Raises:
        UserError: files are there, and none can be used.
    """
    found: list[Checkpoint] = []
    damaged: list[str] = []
    for path in (directory / name for name in _NAMES):
        with explained(path):
            content = path.read_bytes() if path.exists() else None
        if content is None:
            continue
        try:
            found.append(Checkpoint.read(content, run))
        except ValueError as error:
            damaged.append(f"{path}: {error}")
    if not found and damaged:
        raise UserError(
            f"checkpoint: none can be used ({'; '.join(damaged)}); put them back from "
            "a copy, or choose another directory to begin anew."
        )
    best = max(found, key=lambda each: each.epoch, default=None)
    for text in damaged:
        epoch = best.epoch if best else 0
        say(f"{text}; going on from the other checkpoint, after epoch {epoch}.")
    return best


def _digest(text: str, tensors: dict[str, Tensor]) -> str:
    """Of the note and of every tensor's name, shape and bytes."""
    return digest([text, digest_arrays(tensors)])


def has_checkpoint(directory: Path) -> bool:
    """Whether there is any, whole or not.

    Args:
        directory: of a training.
    """
    return any((directory / name).exists() for name in _NAMES)


def epochs_done(directory: Path, run: str) -> int:
    """How many epochs of a training are done; 0 where no checkpoint of it is whole.

    Args:
        directory: of the training, which need not exist.
        run: its id.
    """
    epochs = [0]
    for path in (directory / name for name in _NAMES):
        with suppress(OSError, ValueError):
            epochs.append(Checkpoint.read(path.read_bytes(), run).epoch)
    return max(epochs)
