"""What makes two trainings the same one, and what to say when they are not."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from summiteer._version import __version__
from summiteer.cells import JSON, as_json, digest_arrays
from summiteer.errors import UserError
from summiteer.population import Population
from summiteer.store import begun_spec
from summiteer.training.checkpoint import has_checkpoint
from summiteer.training.recipe import Recipe, named
from summiteer.training.state import encoded

#: Of a value in a message.
_SHOWN = 60


def spec_of(
    recipe: Recipe,
    model: nn.Module,
    examples: Population,
    held_out: Population | None,
    optimizer: Any,
    schedule: Any,
) -> dict[str, JSON]:
    """Everything that determines the weights, but for the number of epochs.

    Args:
        recipe: how it is trained.
        model: at the weights that it begins with.
        examples: trained on.
        held_out: or None.
        optimizer: before its first step.
        schedule: before its first step, or None.
    """
    head = examples.head
    state = {k: v for k, v in model.state_dict().items() if isinstance(v, Tensor)}
    radius = torch.as_tensor(head.region.size, dtype=torch.float64)
    flat = torch.unique(radius)
    spec: dict[str, JSON] = {
        "command": "train",
        "version": __version__,
        "torch": str(torch.__version__),
        "layers": named(model),
        "weights": digest_arrays(state),
        "trained": [n for n, w in model.named_parameters() if w.requires_grad],
        **{f"data_{name}": text for name, text in examples.digests.items()},
        "held_out_digest": None if held_out is None else dict(held_out.digests),
        "norm": head.region.norm,
        "radius": float(flat) if len(flat) == 1 else digest_arrays({"": radius}),
        "box": None if head.box is None else list(head.box),
        "objective": named(head.objective),
        "optimizer": _settings(optimizer),
        "schedule": None if schedule is None else _settings(schedule),
        **recipe.as_json(),
        "device": head.inputs.device.type,
    }
    return as_json(spec)  # type: ignore[return-value]


def _settings(part: Any) -> str:
    """Kind and numbers of an optimiser or schedule before its first step."""
    if not (hasattr(part, "state_dict") and hasattr(part, "load_state_dict")):
        raise UserError(
            f"checkpoint: {type(part).__name__} has no state_dict and load_state_dict, "
            "so it cannot be gone on with; train without checkpoint."
        )
    tensors: dict[str, Tensor] = {}
    state = encoded(part.state_dict(), tensors, "state of the optimizer or schedule")
    held = {name: value.tolist() for name, value in tensors.items()}
    return f"{type(part).__name__} {json.dumps([state, held], sort_keys=True)}"


def refuse_other(directory: Path, spec: dict[str, JSON], resume: bool) -> None:
    """Refuse a directory that holds another training, and say what differs.

    Args:
        directory: of the checkpoints.
        spec: of this training.
        resume: whether one that was begun may be gone on with.

    Raises:
        UserError: the settings differ, or there is something and `resume` is False.
    """
    there = begun_spec(directory)
    if not there:
        return  # the store says what is the matter with it
    if there.get("command") == "train":
        differ = [
            f"{name} {_short(there.get(name))} there, {_short(spec.get(name))} here"
            for name in sorted({*there, *spec})
            if there.get(name) != spec.get(name)
        ]
        if differ:
            raise UserError(
                f"checkpoint: {directory} holds a training with other settings "
                f"({'; '.join(differ)}); give the same settings to go on with it, or "
                "choose another directory."
            )
    if not resume and has_checkpoint(directory):
        raise UserError(
            f"checkpoint: {directory} holds a training that was begun; leave resume at "
            "True to go on with it, or choose another directory."
        )


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
