"""A small run of every command that makes one, with names that are HTML."""

import json
from collections.abc import Mapping
from contextlib import chdir, redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np

from summiteer.cli import app

#: What a page must show as text, wherever a user may name things.
HOSTILE = "<img src=x onerror=alert(1)>&"
_MODEL = f"{HOSTILE}.py"
_MODELS = """
import torch
from torch import nn
import summiteer as sm


def classifier():
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 8), nn.Softplus(), nn.Linear(8, 10))
    for weight in model.parameters():
        with torch.no_grad():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return model.eval()


def tanh():
    return sm.TwoLayerNetwork.random(input_dim=4, width=8, activation="tanh", seed=1)
"""
_STUDY = f"""
name = "toy"
experiment = "toy.py:TOY"
seeds = [0, 1]
[fixed]
kind = "{HOSTILE}"
[grid]
number = [1.0, 2.0]
"""
_NETWORK = f"{_MODEL}:classifier"
_BALL = ("--norm", "l2", "--radius", "0.5", "--limit", "12")
_DATA = f"{HOSTILE}.npz"
_FEW = ("--epochs", "2", "--batch-size", "8", "--attack-steps", "2")
#: Command -> its arguments, all but --out.
ARGUMENTS: Mapping[str, tuple[str, ...]] = {
    "attack": ("attack", _NETWORK, "digits", *_BALL, "--restarts", "1"),
    "audit": ("audit", _NETWORK, "digits", "adversarial.npy", *_BALL),
    "landscape": (
        *("landscape", f"{_MODEL}:tanh", _DATA, "--norm", "l2", "--radius", "0.8"),
        *("--box", "none", "--restarts", "6", "--objective", "quadratic"),
        *("--resolution", "5", "--example", "3", "--example", "1"),
    ),
    "train": ("train", _NETWORK, "digits", *_BALL, *_FEW, "--hold-out-share", "0.3"),
    "study": ("study", "run", "study.toml"),
}


def prepare(folder: Path) -> None:
    """Write the files that the arguments name."""
    (folder / _MODEL).write_text(_MODELS)
    (folder / "study.toml").write_text(_STUDY)
    toy = Path(__file__).with_name("toy.py")
    (folder / "toy.py").write_text(toy.read_text())
    drawn = np.random.default_rng(0)
    inputs = drawn.normal(size=(5, 4)).astype("float32")
    np.savez(folder / _DATA, inputs=inputs, targets=inputs[:, 0])
    np.save(folder / "adversarial.npy", _given(drawn))


def _given(drawn: np.random.Generator) -> np.ndarray:
    from sklearn.datasets import load_digits

    clean = load_digits().data[:12] / 16
    step = drawn.normal(size=clean.shape)
    step *= 0.3 / np.linalg.norm(step, axis=1, keepdims=True)
    return (clean + step).clip(0, 1).astype("float32")


def small_run(command: str, folder: Path, *more: str) -> str:
    """Run a command in a prepared folder, into run-COMMAND; what it printed."""
    with chdir(folder), redirect_stdout(StringIO()) as printed:
        arguments = [*ARGUMENTS[command], "--out", f"run-{command}", *more]
        app(arguments, standalone_mode=False)
    return printed.getvalue()


def finished_run(command: str, folder: Path) -> Path:
    """The directory of a command's run in a prepared folder; planted if it is long."""
    if command == "reproduce":
        return _reproduced(folder / "run-reproduce")
    small_run(command, folder, "--no-report")
    return folder / f"run-{command}"


def _reproduced(directory: Path) -> Path:
    """What `reproduce` leaves behind, as far as its page reads it."""
    judgement = {
        "protocol": "PGA, the paper's constant step",
        "regime": "softplus, c = 1, digits",
        "standing": "supported",
        "sentence": "100.0 % [95.0, 100.0] of 144 runs end in a proved local maximum",
        "effect": 1.0,
        "low": 0.95,
        "high": 1.0,
        "half_width": 0.025,
        "numbers": {"runs": 144},
    }
    claim = {
        "key": "C1",
        "title": "PGA finds a local maximum",
        "statement": "Projected gradient ascent finds a local maximum.",
        "rule": "The share of runs.",
        "judgements": [judgement],
    }
    scales = {"scales": [0.1, 1.0, 10.0], "global": [0.05, 0.3, 3.0]}
    shares = {"distinct": [1.0, 1.0, 3.5], "kappa": [0.01, 0.2, None]}
    seen = judgement | {"protocol": "backtracking", "numbers": scales | shares}
    result = {
        "schema": 1,
        "command": "reproduce",
        "version": "0.2.0",
        "run": "0123456789abcdef",
        "extent": "quick",
        "seed": 0,
        "cells": {"done": 3, "failed": 0},
        "errors": [],
        "decided": 1.0,
        "claims": [
            claim,
            claim | {"key": "C3", "title": "Indices", "judgements": [seen]},
        ],
        "files": ["run.json", "store.sqlite", "seconds.json"],
    }
    spec = {"command": "reproduce", "extent": "quick", "seed": 0, "torch": "2.6"}
    spec |= {"version": "0.2.0", "studies": {"C1": [], "C3": []}}
    head = {"schema": 1, "run": result["run"], "spec": spec, "version": "0.2.0"}
    directory.mkdir()
    for name, content in (("run.json", head), ("result.json", result)):
        (directory / name).write_text(json.dumps(content))
    return directory
