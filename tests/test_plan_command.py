"""`summiteer attack --plan`: what it prints, and that its command line does it."""

import json
import os
import shlex
import subprocess
import sys

import numpy as np
import pytest
from sklearn.datasets import load_digits

from summiteer.cli.planning import Pilot
from summiteer.planning import Setting
from summiteer.store import Store

#: Random features and ridge regression on the digits: right on nine images of ten.
#: (Not by torch.linalg.lstsq, whose solution differs from call to call.)
MODEL = """
import torch
from sklearn.datasets import load_digits
from torch import nn


def build():
    pixels, labels = load_digits(return_X_y=True)
    inputs = torch.tensor(pixels / 16).double()
    hidden, last = nn.Linear(64, 48).double(), nn.Linear(48, 10, bias=False).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in hidden.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator).double() / 4)
        features = hidden(inputs).relu()
        wanted = 8 * nn.functional.one_hot(torch.tensor(labels)).double()
        gram = features.T @ features + torch.eye(48).double()
        last.weight.copy_(torch.linalg.solve(gram, features.T @ wanted).T)
    return nn.Sequential(hidden, nn.ReLU(), last).float().eval()
"""
FEW = ("--plan-examples", "12", "--steps", "20", "--restarts", "3")


@pytest.fixture
def model(tmp_path):
    path = tmp_path / "my model.py"  # a name that needs quotes
    path.write_text(MODEL)
    return f"{path}:build"


@pytest.fixture
def planned(run_cli, model):
    """Run `attack --plan`: (stdout, stderr)."""

    def run(*options, data="digits", network=model):
        arguments = ("attack", network, data, "--radius", "8/255", "--plan", *options)
        code, text, error = run_cli(*arguments)
        assert code == 0, error
        return text, error

    return run


def attacked(words, place):
    """Run the printed command in a process of its own: the arrays of its run."""
    assert words[0] == "summiteer"
    done = subprocess.run(
        [sys.executable, "-m", *words, "--no-screen", "--out", str(place)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    with Store.read(place) as store:
        (name,) = (r.name for r in store.finished().values() if r.kind == "attack")
        return store.arrays(name)


@pytest.mark.parametrize("share", [0.9, 0.999])
def test_the_command_line_reaches_the_share(planned, tmp_path, share):
    options = ("--norm", "linf", "--limit", "24", "--seed", "3", *FEW)
    text, error = planned(*options, "--plan-share", share, "--json")
    plan = json.loads(text)
    assert "box 0,1" in error
    words = shlex.split(plan["command_line"])
    assert words[words.index("--radius") + 1] == "8/255"
    assert tuple(words[words.index("--seed") :][:2]) == ("--seed", "3")
    assert not {"--plan", "--plan-share", "--plan-examples"} & set(words)
    arrays = attacked(words, tmp_path / "run")
    ids = arrays["ids"].tolist()
    places = [ids.index(example) for example in plan["sample"]["ids"]]
    clean, best = (np.array(plan["loss"][key]) for key in ("clean", "best_known"))
    assert np.allclose(arrays["clean_losses"][places], clean, rtol=1e-5)
    gains = (arrays["losses"][places].numpy() - clean) / (best - clean)
    gain = float(np.clip(gains, 0, 1).mean())
    # Its block holds other examples too, whose neighbours may help a search.
    assert gain >= plan["checked"]["gain"] - 1e-3
    assert plan["reached"] == (plan["checked"]["gain"] >= share)
    assert not plan["reached"] or gain >= share - 1e-3
    right = float(arrays["survived"][places].double().mean())
    assert right == pytest.approx(plan["checked"]["robust_accuracy"], abs=1 / 12)


def test_what_is_printed_fits_and_is_what_is_written(planned, tmp_path):
    text, _ = planned("--limit", "24", *FEW, "--out", tmp_path / "plan")
    *lines, command = text.strip().splitlines()
    assert all(len(line) <= 80 for line in lines), max(lines, key=len)
    assert command.startswith("summiteer attack '")
    assert "\x1b" not in text
    written = json.loads((tmp_path / "plan" / "plan.json").read_text())
    assert written["command_line"] == command
    assert [file.name for file in (tmp_path / "plan").iterdir()] == ["plan.json"]
    assert "lower bound of the maximum" in text
    assert f"{100 * written['checked']['robust_accuracy']:.1f}"[:4] in text
    assert set(written["methods"]) == {"apgd", "pga", "pgd", "standard", "thorough"}


def test_what_is_not_reached_is_told(planned):
    text, _ = planned(
        *("--limit", "24", "--plan-examples", "12", "--plan-share", "0.9999"),
        *("--adversary", "mi-fgsm", "--steps", "2", "--restarts", "0"),
    )
    assert "NOT REACHED: nothing that was tried reaches 99.99 % of the gain" in text
    assert "mi-fgsm (never)" in text
    assert "--adversary mi-fgsm --steps 2 --restarts 0" in text


def test_regression_has_no_accuracy(planned, model_file):
    text, _ = planned(*FEW, data="diabetes", network=f"{model_file}:regression")
    assert "robust accuracy" not in text
    assert "12 examples, of 96 looked at," in text


def test_neighbours_are_a_search_s(planned, tmp_path):
    shown = tmp_path / "shown.npz"
    pixels, labels = load_digits(return_X_y=True)
    np.savez(shown, inputs=pixels / 16, targets=labels)
    options = ("--neighbours", shown, "--limit", "24", "--plan-share", "0.5", *FEW)
    text, _ = planned(*options, "--norm", "linf", "--json")
    plan = json.loads(text)
    words = shlex.split(plan["command_line"])
    # Half of the gain takes no search.
    assert "--adversary" in words
    assert "--neighbours" not in words
    assert len(attacked(words, tmp_path / "run")["ids"]) == 24
    searches = Setting(1.0, 1.0, 0.5, 300.0, 1.0, "standard", None, None)
    words = Pilot(0.99, 64, None, None, None, ("m", "d"), "x.npz").command_line(
        searches
    )
    assert words == "summiteer attack m d --neighbours x.npz --effort standard"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--plan", "--until", "misclassified"), "--until: a plan measures how high"),
        (("--plan", "--effort", "thorough"), "--effort: a plan tries both"),
        (("--plan", "--rivals", "2"), "--rivals: a plan tries the search"),
        (("--plan", "--require", "proved=1"), "--require: a plan certifies nothing"),
        (("--plan", "--explain", "3"), "--explain: a plan certifies nothing"),
        (("--plan", "--property", "x.vnnlib"), "--property: a property is one example"),
        (("--plan", "--plan-share", "1"), "--plan-share: expected a number between"),
        (("--plan", "--plan-examples", "1"), "--plan-examples: expected an integer ≥"),
        (("--plan", "--steps", "0"), "--steps: expected an integer ≥ 1"),
        (
            ("--plan", "--adversary", "pgd", "--step-size", "0.1"),
            "--step-size: a plan tries the usual one",
        ),
        (("--plan-share", "0.9"), "--plan-share: says what --plan does; add --plan"),
    ],
)
def test_what_a_plan_cannot_take_is_refused(run_cli, model, tmp_path, options, said):
    out = tmp_path / "run"
    data = () if "--property" in options else ("digits", "--radius", "0.1")
    code, text, error = run_cli("attack", model, *data, *options, "--out", out)
    assert (code, text) == (1, "")
    assert error.startswith(f"error: {said}")
    assert len(error.strip().splitlines()) == 1
    assert not out.exists()
