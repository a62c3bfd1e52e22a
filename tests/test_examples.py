"""What examples/ says works as written, with fewer examples."""

import json
import runpy
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[1] / "examples"
MODEL = f"{EXAMPLES / 'model.py'}:build"
SMALL = ("--norm", "linf", "--radius", 0.1, "--limit", 12, "--steps", 20)


@pytest.fixture
def script(monkeypatch):
    """Run a script as `python examples/NAME` would, in this process."""

    def run(name, *arguments):
        monkeypatch.syspath_prepend(EXAMPLES)
        monkeypatch.setattr(sys, "argv", [name, *map(str, arguments)])
        monkeypatch.delitem(sys.modules, "model", raising=False)
        with torch.random.fork_rng():
            runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        monkeypatch.delitem(sys.modules, "model", raising=False)

    return run


@pytest.fixture
def result(run_cli, tmp_path):
    def run(*arguments):
        code, out, error = run_cli(*arguments, "--json", "--out", tmp_path / "run")
        assert code == 0, error
        return json.loads(out)

    return run


def test_the_first_command(run_cli, tmp_path):
    arguments = ("attack", MODEL, "digits", *SMALL, "--out", tmp_path / "run")
    code, out, error = run_cli(*arguments)
    assert (code, error) == (0, "")
    assert "robust accuracy" in out
    assert max(map(len, out.splitlines())) < 200


def test_data_of_three_lines(script, result, tmp_path):
    script("data.py", tmp_path / "my.npz")
    made = result("attack", MODEL, tmp_path / "my.npz", *SMALL)
    assert made["clean_accuracy"] > 0.8
    assert made["region"]["box"] == [0, 1]


def test_weights_and_normalisation_of_ones_own(script, result, tmp_path):
    script("checkpoint.py", tmp_path / "my.safetensors")
    arguments = ("attack", f"{EXAMPLES / 'model.py'}:build_untrained", "digits", *SMALL)
    arguments += ("--weights", tmp_path / "my.safetensors")
    made = result(*arguments, "--mean", 0.3, "--std", 0.4)
    assert made["clean_accuracy"] == 1
    assert made["robust_accuracy"] < 1


def test_an_attack_by_hand_is_audited(script, result, tmp_path):
    script("audit.py", tmp_path / "my.npy", 12)
    arguments = ("audit", MODEL, "digits", tmp_path / "my.npy")
    made = result(*arguments, "--norm", "linf", "--radius", 0.1, "--limit", 12)
    # Seven of twelve withstand ten steps, each inside the region.
    assert made["excess"]["outside"] == 0
    claimed = made["claimed_robust_accuracy"]
    assert made["corrected_robust_accuracy"] <= claimed < made["clean_accuracy"]
