"""`summiteer landscape`: what it prints, writes, resumes and refuses."""

import json

import numpy as np
import pytest
import torch

import summiteer as sm
from summiteer.store import Store

NETS = """
import summiteer as sm


def tanh():
    return sm.TwoLayerNetwork.random(input_dim=4, width=12, activation="tanh", seed=1)
"""
OPTIONS = ("--norm", "l2", "--radius", "0.8", "--box", "none", "--restarts", "8")
QUICK = (*OPTIONS, "--objective", "quadratic", "--resolution", "5")


@pytest.fixture
def named(tmp_path):
    """MODEL and DATA of a regression."""
    model = tmp_path / "nets.py"
    model.write_text(NETS)
    data = tmp_path / "data.npz"
    generator = np.random.default_rng(0)
    inputs = generator.normal(size=(5, 4)).astype("float32")
    targets = generator.normal(size=5).astype("float32")
    np.savez(data, inputs=inputs, targets=targets)
    return f"{model}:tanh", data


def test_a_run_says_what_explore_says(named, tmp_path, run_cli):
    out = tmp_path / "run"
    code, printed, errors = run_cli(
        "landscape", *named, "--example", 3, "--example", 1, *QUICK, "--out", out
    )
    assert code == 0, errors
    assert "\x1b" not in printed
    assert "example 3, target" in printed
    result = json.loads((out / "result.json").read_text())
    assert result["examples"] == [3, 1]
    with np.load(named[1]) as file:
        data = dict(file)
    net = sm.TwoLayerNetwork.random(input_dim=4, width=12, activation="tanh", seed=1)
    inputs = torch.from_numpy(data["inputs"])
    problem = sm.Problem(
        net.float(),
        inputs,
        torch.from_numpy(data["targets"]),
        sm.Quadratic(),
        sm.L2Ball(0.8),
    ).take(torch.tensor([3, 1]))
    land = sm.explore(problem, restarts=8)
    with Store.read(out) as store:
        cells = {r.spec["example"]: r.name for r in store.finished().values()}
        for row, said in enumerate(result["landscapes"]):
            assert said["id"] == [3, 1][row]
            assert said["count"] == int(land.count[row])
            assert said["at_least"] == int(land.at_least[row])
            assert said["complete"] == bool(land.complete[row])
            assert [peak["runs"] for peak in said["maxima"]] == [
                peak.runs for peak in land.peaks[row]
            ]
            arrays = store.arrays(cells[said["id"]])
            maxima = torch.stack([peak.point for peak in land.peaks[row]])
            # Explored in another batch.
            assert torch.allclose(arrays["maxima"], maxima, atol=1e-6)
            assert arrays["plane.values"].shape == (5, 5)
            assert arrays["circle.values"].shape == (41,)
            assert set(said["slices"]) == {"line", "plane", "circle"}


def test_a_finished_run_is_not_done_again(named, tmp_path, run_cli, monkeypatch):
    command = ("landscape", *named, "--example", 2, *QUICK, "--out", tmp_path / "run")
    code, first, _ = run_cli(*command, "--json")
    assert code == 0
    from summiteer import exploring

    def never(*_):
        raise AssertionError("explored again")

    monkeypatch.setattr(exploring, "explore", never)
    code, second, _ = run_cli(*command, "--json")
    assert code == 0
    assert json.loads(second) == json.loads(first)
    code, _, errors = run_cli(*command, "--seed", 1)
    assert code == 1
    assert "another run" in errors or "holds" in errors


def test_slices_asked_for(named, tmp_path, run_cli):
    for number, (kinds, expected) in enumerate(
        [(("none",), set()), (("circle", "line"), {"circle", "line"})]
    ):
        chosen = [part for kind in kinds for part in ("--slice", kind)]
        out = tmp_path / str(number)
        command = ("landscape", *named, "--example", 0, *QUICK, *chosen, "--out", out)
        assert run_cli(*command)[0] == 0
        (said,) = json.loads((out / "result.json").read_text())["landscapes"]
        assert set(said["slices"]) == expected


def test_a_box_has_no_circle_and_says_so(named, tmp_path, run_cli):
    base = ("landscape", *named, "--example", 3, "--resolution", "3", "--box", "none")
    ball = ("--norm", "linf", "--radius", "0.2", "--restarts", "4")
    code, printed, errors = run_cli(*base, *ball, "--out", tmp_path / "a")
    assert code == 0, errors
    assert "(circle)" not in printed
    assert "no circle" not in printed
    asked = ("--slice", "circle", "--out", tmp_path / "b")
    code, printed, _ = run_cli(*base, *ball, *asked)
    assert code == 0
    assert "no circle: " in printed


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--example", "9"), "--example: 9 is not a row of DATA, which has 5, 0 … 4."),
        (("--example", "0", "--restarts", "0"), "--restarts: expected an integer ≥ 1"),
        (("--example", "0", "--slice", "cube"), "--slice: expected one of line, plane"),
        (("--example", "0", "--slice", "none", "--slice", "line"), "no other kind"),
        (("--example", "0", "--resolution", "1"), "--resolution: expected an integer"),
        (("--example", "0", "--within", "2"), "--within: expected a number between"),
        (("--example", "0", "--radius", "-1"), "--radius: expected a positive"),
    ],
)
def test_bad_input_is_one_sentence(named, tmp_path, run_cli, options, words):
    code, printed, errors = run_cli(
        "landscape", *named, *QUICK, *options, "--out", tmp_path / "run"
    )
    assert (code, printed) == (1, "")
    assert words in errors
    assert len(errors.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists()


def test_an_example_must_be_named(named, run_cli):
    code, _, errors = run_cli("landscape", *named, *QUICK)
    assert code == 2
    assert "give --example ID" in errors


def test_a_mask_is_told(named, run_cli, tmp_path):
    np.save(tmp_path / "mask.npy", np.array([True, True, False, False]))
    more = ("--slice", "none", "--mask", tmp_path / "mask.npy")
    code, printed, errors = run_cli(
        "landscape", *named, "--example", 3, *QUICK, *more, "--out", tmp_path / "run"
    )
    assert code == 0, errors
    assert "2 of 4 coordinates move" in printed
