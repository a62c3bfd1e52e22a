"""What examples/ says works as written, with fewer examples."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"
MODEL = f"{EXAMPLES / 'model.py'}:build"
SMALL = ("--norm", "linf", "--radius", 0.1, "--limit", 12, "--steps", 20)


def script(name, *arguments):
    subprocess.run(
        [sys.executable, EXAMPLES / name, *map(str, arguments)],
        check=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )


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


def test_data_of_three_lines(result, tmp_path):
    script("data.py", tmp_path / "my.npz")
    made = result("attack", MODEL, tmp_path / "my.npz", *SMALL)
    assert made["clean_accuracy"] > 0.8
    assert made["region"]["box"] == [0, 1]


def test_weights_and_normalisation_of_ones_own(result, tmp_path):
    script("checkpoint.py", tmp_path / "my.safetensors")
    arguments = ("attack", f"{EXAMPLES / 'model.py'}:build_untrained", "digits", *SMALL)
    arguments += ("--weights", tmp_path / "my.safetensors")
    made = result(*arguments, "--mean", 0.3, "--std", 0.4)
    assert made["clean_accuracy"] == 1
    assert made["robust_accuracy"] < 1


def test_an_attack_by_hand_is_audited(result, tmp_path):
    script("audit.py", tmp_path / "my.npy", 12)
    arguments = ("audit", MODEL, "digits", tmp_path / "my.npy")
    made = result(*arguments, "--norm", "linf", "--radius", 0.1, "--limit", 12)
    assert made["corrected_robust_accuracy"] <= made["claimed_robust_accuracy"]
