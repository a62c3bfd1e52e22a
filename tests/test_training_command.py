"""`summiteer train` as its users meet it."""

import json
import re
import runpy
import shlex
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "examples" / "model.py"
BUILD = f"{MODEL}:build_untrained"
FEW = ("--limit", 200, "--attack-steps", 2, "--batch-size", 64)
BALL = ("--norm", "linf", "--radius", 0.1)


@pytest.fixture
def trained(run_cli, tmp_path):
    """Train a few epochs in a directory: what `run_cli` returns."""

    def run(*more, model=BUILD, data="digits"):
        out = tmp_path / "out"
        return run_cli("train", model, data, *BALL, *FEW, "--out", out, *more)

    return run


def test_weights_and_curves_and_what_to_do_next(run_cli, trained, tmp_path):
    code, said, errors = trained("--epochs", 3, "--hold-out-share", 0.2)
    assert (code, errors) == (0, "")
    lines = said.splitlines()
    assert lines[0] == "box 0,1 (the data lie there)"
    assert [line.split()[0] for line in lines[3:6]] == ["1", "2", "3"]
    assert all(len(line) <= 80 for line in lines[:6])
    result = json.loads((tmp_path / "out" / "result.json").read_text())
    assert (result["examples"], result["held_out_examples"]) == (160, 40)
    accuracy = result["epochs"][-1]["held_out_robust_accuracy"]
    assert f"{100 * accuracy:.1f} %" in lines[5]
    # The weights are those that attack takes; its search is at least as strong.
    weights = tmp_path / "out" / "weights.safetensors"
    assert str(weights) in lines[-1]
    assert set(load_file(weights)) == {"0.weight", "0.bias", "2.weight", "2.bias"}
    attacked = ("attack", BUILD, "digits", *BALL, "--limit", 20, "--weights", weights)
    assert run_cli(*attacked, "--out", tmp_path / "attack")[0] == 0


def test_the_same_command_goes_on(run_cli, trained, tmp_path):
    trained("--epochs", 2)
    code, said, _ = trained("--epochs", 4)
    assert code == 0
    assert "2 epochs are done" in said
    out = tmp_path / "other"
    run_cli("train", BUILD, "digits", *BALL, *FEW, "--epochs", 4, "--out", out)
    one, other = (
        load_file(folder / "weights.safetensors") for folder in (tmp_path / "out", out)
    )
    assert all((one[name] == other[name]).all() for name in one)


def test_other_settings_are_refused(trained):
    trained("--epochs", 1)
    code, _, errors = trained("--epochs", 1, "--lr", 0.2)
    assert code == 1
    assert "holds a training with other settings (optimizer" in errors


def test_json_is_all_of_stdout(trained):
    code, said, errors = trained("--epochs", 2, "--json", "--watch", 50)
    assert code == 0
    result = json.loads(said)
    assert result["command"] == "train"
    assert [record["epoch"] for record in result["epochs"]] == [1, 2]
    assert result["epochs"][1]["inner"]["examined"] == 64
    assert "box 0,1" in errors


def test_normalisation_stays_outside_of_the_weights(trained, tmp_path):
    code, *_ = trained("--epochs", 1, "--mean", 0.3, "--std", 0.4)
    assert code == 0
    assert "0.weight" in load_file(tmp_path / "out" / "weights.safetensors")


def test_a_factory_that_draws_its_weights_goes_on(trained, tmp_path):
    path = tmp_path / "drawn.py"
    path.write_text(
        "from torch import nn\n\ndef build():\n    return nn.Linear(64, 10)\n"
    )
    for epochs in (1, 2):
        code, _, errors = trained("--epochs", epochs, model=f"{path}:build")
        assert (code, errors) == (0, "")


def test_regression_shows_losses(run_cli, tmp_path):
    out, model = tmp_path / "out", tmp_path / "net.py"
    model.write_text(
        "from summiteer import TwoLayerNetwork\n\ndef build():\n"
        "    return TwoLayerNetwork.random(10, 16, 'tanh')\n"
    )
    code, said, _ = run_cli(
        *("train", f"{model}:build", "diabetes", "--radius", 0.02, "--watch", 100),
        *("--epochs", 2, "--lr", 0.01, "--hold-out-share", 0.2, "--out", out),
    )
    assert code == 0
    assert "train mean loss" in said
    assert "%" not in said.splitlines()[3].split("  ")[2]
    ratio = json.loads((out / "result.json").read_text())["epochs"][-1]["inner"]
    assert ratio["curvature_ratio"] is not None


def test_data_held_out_are_named_by_their_file(trained, tmp_path):
    path = tmp_path / "aside.npz"
    rng = np.random.default_rng(0)
    np.savez(path, inputs=rng.random((30, 64)), targets=rng.integers(0, 10, 30))
    code, said, _ = trained("--epochs", 1, "--held-out", path)
    assert code == 0
    assert f" {path} --norm linf" in said
    np.savez(path, inputs=rng.random((30, 7)), targets=rng.integers(0, 10, 30))
    code, _, errors = trained("--epochs", 1, "--held-out", path)
    assert code == 1
    assert errors.startswith("error: --held-out:")


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--epochs", 0), 1, "--epochs: expected an integer ≥ 1"),
        (("--lr", 0), 1, "--lr: expected a positive"),
        (("--optimizer", "adma"), 1, "did you mean adam?"),
        (("--schedule", "linear"), 1, "--schedule: expected one of"),
        (("--hold-out-share", 1.5), 1, "--hold-out-share: expected a number between"),
        (("--hold-out-share", 0.5, "--held-out", "digits"), 1, "give one of the two"),
        (("--hold-out-share", 0.001), 1, "no example is left on one side"),
        (("--watch", -1), 1, "--watch: expected a number ≥ 0"),
        (("--step-size", 0.1, "--adversary", "apgd"), 1, "--step-size: apgd chooses"),
        (("--held-out", "nowhere.npz"), 1, "error: --held-out: nowhere.npz"),
        (("--momentum", -1), 1, "--momentum: expected a number ≥ 0"),
        (("--epochs", "many"), 2, "--epochs"),
    ],
)
def test_mistakes_are_said_in_a_sentence(trained, options, code, said):
    found, _, errors = trained(*options)
    assert found == code
    assert said in errors
    assert "Traceback" not in errors


def test_frozen_or_absent_parameters_are_refused(trained, model_file):
    code, _, errors = trained(model=f"{model_file}:function")
    assert code == 1
    assert "expected an nn.Module to train" in errors


def test_the_example_runs(monkeypatch, tmp_path, capsys):
    weights = tmp_path / "my_weights.safetensors"
    monkeypatch.syspath_prepend(MODEL.parent)
    monkeypatch.setattr(sys, "argv", ["train.py", "2", str(weights)])
    monkeypatch.delitem(sys.modules, "model", raising=False)
    with torch.random.fork_rng(devices=[]):
        runpy.run_path(str(MODEL.parent / "train.py"), run_name="__main__")
    monkeypatch.delitem(sys.modules, "model", raising=False)
    assert capsys.readouterr().out.startswith("InnerProblem of epoch 1: learning rate")
    assert "0.weight" in load_file(weights)


def test_the_blocks_of_the_page_run(capsys):
    page = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    ours = [block for block in blocks if "lightning" not in block]
    assert len(ours) == 2
    with torch.random.fork_rng(devices=[]):
        for block in ours:
            exec(compile(block, "training.md", "exec"), {})
    assert "TrainingResult of 4 epochs" in capsys.readouterr().out


def test_the_attack_that_is_advised_is_on_the_same_problem(run_cli, trained, tmp_path):
    own = ("--mean", 0.3, "--std", 0.5, "--box", "none", "--objective", "margin")
    _, said, _ = trained("--epochs", 1, *own)
    words = shlex.split(said.splitlines()[-1])
    assert words[:2] == ["summiteer", "attack"]
    code, _, errors = run_cli(*words[1:], "--limit", 5, "--out", tmp_path / "attack")
    assert (code, errors) == (0, "")
    one, other = (
        json.loads((tmp_path / name / "result.json").read_text())
        for name in ("out", "attack")
    )
    assert one["region"] == other["region"]
    assert words[words.index("--mean") + 1] == "0.3"
    assert words[words.index("--std") + 1] == "0.5"


def test_the_attack_that_is_advised_is_in_the_same_box(run_cli, trained, tmp_path):
    """Training data beyond [0, 1], held-out data within: no box for either."""
    pixels = np.random.default_rng(0).random((20, 64), dtype=np.float32)
    labels = np.arange(20) % 10
    wide, narrow = tmp_path / "wide.npz", tmp_path / "narrow.npz"
    np.savez(wide, inputs=3 * pixels - 1, labels=labels)
    pixels[3, 5] = np.nan
    np.savez(narrow, inputs=pixels, labels=labels)
    more = ("--epochs", 1, "--held-out", narrow, "--skip-bad")
    code, said, errors = trained(*more, data=wide)
    assert code == 0, errors
    words = shlex.split(said.splitlines()[-1])
    code, _, errors = run_cli(*words[1:], "--limit", 5, "--out", tmp_path / "attack")
    assert code == 0, errors
    one, other = (
        json.loads((tmp_path / name / "result.json").read_text())
        for name in ("out", "attack")
    )
    assert one["region"] == other["region"]
