"""AutoAttack's `standard` version (pyautoattack), its work counted, its results kept.

A result is named by the digest of model, data, settings and the library's version, and
is kept under out/, so that it is computed once.
"""

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks import page
from summiteer.cells import digest, digest_arrays

KEPT = Path(__file__).parent.parent / "out" / "auto_attack"
#: The parts of `standard`, in the order in which it runs them on what is left.
PARTS = ("apgd-ce", "apgd-t", "fab-t", "square")
_NORMS = {"l2": "L2", "linf": "Linf"}
_BATCH = 250
#: Whose kept results are read where the library is not installed.
_VERSION = "0.2.0"


class Counted(nn.Module):
    """A model that counts the rows it is asked about.

    Attributes:
        gradients: rows with a gradient by the input.
        forwards: rows without.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.gradients = self.forwards = 0

    def forward(self, inputs: Tensor) -> Tensor:
        """The model's outputs."""
        if torch.is_grad_enabled() and inputs.requires_grad:
            self.gradients += len(inputs)
        else:
            self.forwards += len(inputs)
        outputs: Tensor = self.model(inputs)
        return outputs


@dataclass(frozen=True)
class Part:
    """One attack of the four, run on what the ones before have left.

    Attributes:
        name: of `PARTS`.
        robust: `[n]` which examples are still classified rightly after it.
        gradients: rows evaluated with gradient.
        forwards: rows evaluated without.
        seconds: of processor time.
    """

    name: str
    robust: list[bool]
    gradients: int
    forwards: int
    seconds: float


def auto_attack(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    norm: str,
    radius: float,
    names: Sequence[str] = PARTS,
    seed: int = 0,
) -> list[Part]:
    """Run the parts one after the other, or read what an earlier run has kept.

    Args:
        model: `[n, *input]` -> `[n, K]`, in eval mode.
        inputs: `[n, *input]` float32 in [0, 1], images.
        labels: `[n]` int64.
        norm: "l2" or "linf".
        radius: of the ball.
        names: which parts.
        seed: of the random starts.
    """
    said, file = _named(model, inputs, labels, norm, radius, names, seed)
    if file.exists():
        return _read(file)
    parts = _run(model, inputs, labels, norm, radius, names, seed)
    _keep(file, said, parts)
    return parts


def version() -> str:
    """The library's; of the kept results where it is not installed."""
    return page.version("pyautoattack") or _VERSION


def kept(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    norm: str,
    radius: float,
    names: Sequence[str] = PARTS,
    seed: int = 0,
) -> list[Part] | None:
    """What an earlier run has kept; None where there is none. See `auto_attack`."""
    _, file = _named(model, inputs, labels, norm, radius, names, seed)
    return _read(file) if file.exists() else None


def _named(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    norm: str,
    radius: float,
    names: Sequence[str],
    seed: int,
) -> tuple[dict[str, object], Path]:
    """What names a result, and the file that keeps it."""
    said: dict[str, object] = {
        "weights": digest_arrays(model.state_dict()),
        "layers": repr(model),
        "data": digest_arrays({"inputs": inputs, "labels": labels}),
        "settings": [norm, radius, list(names), seed, _BATCH, version()],
    }
    return said, KEPT / f"{digest(said)}.json"


def _read(file: Path) -> list[Part]:
    return [Part(**part) for part in json.loads(file.read_text())["parts"]]


def _run(
    model: nn.Module,
    inputs: Tensor,
    labels: Tensor,
    norm: str,
    radius: float,
    names: Sequence[str],
    seed: int,
) -> list[Part]:
    from pyautoattack import AutoAttack  # type: ignore[import-not-found]

    logging.getLogger("auto-attack").setLevel(logging.ERROR)
    counted = Counted(model)
    with torch.no_grad():
        robust = model(inputs).argmax(1) == labels
    parts = []
    for name in names:
        index = robust.nonzero().flatten()
        before = counted.gradients, counted.forwards
        began = time.process_time()
        if len(index):
            whole = AutoAttack(
                counted, norm=_NORMS[norm], eps=radius, seed=seed, version="standard"
            )
            whole.attacks_to_run = [name]
            points, _ = whole.run_standard_evaluation(
                inputs[index], labels[index], batch_size=_BATCH
            )
            with torch.no_grad():
                robust[index] = model(points).argmax(1) == labels[index]
        seconds = time.process_time() - began
        parts.append(
            Part(
                name,
                robust.tolist(),
                counted.gradients - before[0],
                counted.forwards - before[1],
                seconds,
            )
        )
    return parts


def _keep(file: Path, said: Mapping[str, object], parts: Sequence[Part]) -> None:
    """Write the parts, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_suffix(".part")
    part.write_text(json.dumps({"of": said, "parts": [asdict(p) for p in parts]}))
    part.rename(file)
