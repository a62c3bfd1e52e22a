"""Every option of the command line does what it says, or is refused by its name."""

import json
import re

import numpy as np
import pytest
import torch

from summiteer.adversaries import named
from summiteer.cli.options import (
    ADVERSARIES,
    EFFORT_HELP,
    RESTARTS_HELP,
    RIVALS_HELP,
    SIZED,
    STEPS_HELP,
)
from summiteer.searching.effort import EFFORTS, PLAIN
from summiteer.store import Store

SMALL = ("digits", "--radius", "0.3", "--limit", "4", "--steps", "3", "--restarts", "1")


@pytest.fixture
def attack(run_cli, model_file, tmp_path):
    """Run `attack` on few examples: result.json and the directory."""

    def run(*options, data=SMALL, factory="classifier", out="run"):
        place = tmp_path / out
        arguments = ("attack", f"{model_file}:{factory}", *data, *options)
        code, text, error = run_cli(*arguments, "--json", "--out", place)
        assert code == 0, error
        return json.loads(text), place

    return run


@pytest.fixture
def refused(run_cli, model_file, tmp_path):
    """Run `attack` with a mistake: its one sentence."""

    def run(*options, data=SMALL, factory="classifier"):
        arguments = ("attack", f"{model_file}:{factory}", *data, *options)
        code, text, error = run_cli(*arguments, "--out", tmp_path / "run")
        assert (code, text) == (1, "")
        assert len(error.strip().splitlines()) == 1
        assert not (tmp_path / "run").exists()
        return error

    return run


def arrays(place):
    with Store.read(place) as store:
        (name,) = (r.name for r in store.finished().values() if r.kind == "attack")
        return store.arrays(name)


def spec(place):
    return json.loads((place / "run.json").read_text())["spec"]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("apgd", "AutoPGD(steps=3"),
        ("pga", "ProjectedAscent("),
        ("pgd", "ProjectedAscent(direction=Sign(), step_rule=ConstantStep(size=0.25"),
        ("mi-fgsm", "MomentumAscent(step_rule=ConstantStep(size=0."),
        ("frank-wolfe", "FrankWolfe("),
    ],
)
def test_adversaries_are_named(attack, name, kind):
    made, place = attack("--adversary", name, "--norm", "linf", "--no-screen")
    assert made["examples"] == 4
    assert kind in spec(place)["adversary"]


def test_names_and_steps_of_one_size(attack):
    assert (set(ADVERSARIES), SIZED) == (set(named.NAMED), named.SIZED)
    for name in SIZED:
        _, place = attack(
            *("--adversary", name, "--step-size", "1/8", "--no-screen"), out=name
        )
        assert "ConstantStep(size=0.125)" in spec(place)["adversary"]


def test_norms_are_named(attack):
    for norm in ("l1", "l2", "linf"):
        made, place = attack("--norm", norm, "--no-screen", out=norm)
        assert made["region"]["norm"] == norm
        moved = arrays(place)["perturbations"].flatten(1)
        order = {"l1": 1.0, "l2": 2.0, "linf": torch.inf}[norm]
        # Float32 points, so the radius is kept to its rounding.
        assert float(torch.linalg.vector_norm(moved, order, 1).max()) <= 0.3 * (
            1 + 1e-5
        )


def test_a_mask_holds_coordinates(attack, tmp_path):
    mask = np.zeros((1797, 64), bool)
    mask[:, :20] = True
    mask[2] = False
    mask[2, 30] = True
    np.save(tmp_path / "mask.npy", mask)
    _, place = attack("--mask", tmp_path / "mask.npy", "--norm", "linf", "--no-screen")
    moved = arrays(place)["perturbations"] != 0
    assert not bool(moved[~torch.from_numpy(mask[:4])].any())
    assert bool(moved.any(1).all())


def test_rivals_are_attacked_too(attack):
    alone, own = attack("--rivals", 0, "--no-screen", out="alone")
    towards, place = attack("--rivals", 3, "--no-screen", out="towards")
    assert spec(place)["effort"]["rivals"] == 3
    assert towards["robust_accuracy"] <= alone["robust_accuracy"]
    assert spec(own)["effort"]["rivals"] == 0
    assert "rivals" not in alone["search"]["found_by"]


def test_the_screen_can_be_left_out(attack):
    _, place = attack("--no-screen")
    with Store.read(place) as store:
        assert {r.kind for r in store.finished().values()} == {"attack"}
    assert spec(place)["screened"] is False


def test_mean_and_std_are_the_model_s_and_change_the_run(attack):
    plain, _ = attack("--no-screen", out="plain")
    moved, place = attack("--mean", "0.5", "--std", "1/4", "--no-screen", out="moved")
    again, _ = attack("--mean", "0.5", "--std", "0.2", "--no-screen", out="again")
    assert len({made["run"] for made in (plain, moved, again)}) == 3
    assert "Standardise(mean=0.5, std=0.25)" in spec(place)["layers"]
    assert moved["region"]["box"] == [0, 1]
    assert arrays(place)["inputs"].max() <= 1


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--mean", "1/2"), "--mean without --std: the model is given (x - 1/2)/1"),
        (("--std", "0.5"), "--std without --mean: the model is given (x - 0)/0.5"),
        (("--mean", "0.5", "--std", "0.5"), None),
    ],
    ids=str,
)
def test_what_half_a_normalisation_does_is_said(
    options, text, run_cli, model_file, tmp_path
):
    arguments = ("attack", f"{model_file}:classifier", *SMALL, "--no-screen", *options)
    code, out, error = run_cli(*arguments, "--out", tmp_path / "run")
    assert code == 0, error
    assert ("without --" in out) == (text is not None)
    assert text is None or text in out


def test_explanations_of_single_examples(run_cli, model_file, tmp_path):
    arguments = ("attack", f"{model_file}:classifier", *SMALL, "--no-screen")
    arguments += ("--out", tmp_path / "run", "--explain", 3, "--explain", 0)
    code, out, error = run_cli(*arguments)
    assert code == 0, error
    place = arrays(tmp_path / "run")
    assert out.index("example 3: ") < out.index("example 0: ")
    assert "search distance" in out
    assert "docs/certificates.md" in out
    assert len(place["ids"]) == 4
    # From the finished run, with the document alone on stdout.
    code, out, error = run_cli(*arguments, "--json")
    assert json.loads(out)["examples"] == 4
    assert "example 3: " in error


def test_until_within_effort_and_block_size_are_in_the_specification(attack):
    options = ("--until", "misclassified", "--within", 0.01, "--block-size", 3)
    _, place = attack(*options, "--seed", 7, "--no-screen", "--objective", "margin")
    told = spec(place)
    assert told["until"] == "Misclassified()"
    assert (told["within"], told["block_size"], told["seed"]) == (0.01, 3, 7)
    effort = told["effort"]
    assert (effort["max_steps"], effort["restarts"]) == (3, 1)
    assert told["objective"] == "Margin"


REFUSED = [
    (("--adversary", "cw"), "--adversary: expected one of apgd, pga"),
    (("--adversary", "autopgd"), "got 'autopgd'; did you mean apgd?"),
    (("--adversary", "apgd", "--step-size", "0.1"), "--step-size: apgd chooses its"),
    (("--step-size", "0.1"), "--step-size: the search chooses its own"),
    (("--adversary", "pgd", "--step-size", "0"), "--step-size: expected a positive"),
    (("--mask", "nowhere.npy"), "--mask: nowhere.npy does not exist"),
    (("--neighbours", "nowhere.npz"), "--neighbours: nowhere.npz does not exist"),
    (("--neighbours", "diabetes"), "--neighbours: expected inputs [n, *input] and one"),
    (("--neighbours", "breast-cancer"), "--neighbours: expected at least one input of"),
    (("--steps", "0"), "--steps: expected an integer ≥ 1"),
    (("--rivals", "-1"), "--rivals: expected an integer ≥ 0"),
    (("--rivals", "10"), "--rivals: expected at most 9"),
    (("--restarts", "-2"), "--restarts: expected an integer ≥ 0"),
    (("--block-size", "0"), "--block-size: expected an integer ≥ 1"),
    (("--limit", "0"), "--limit: expected an integer ≥ 1"),
    (("--explain", "4"), "--explain: example 4 is not part of the run"),
    (("--mean", "x"), "--mean: expected a number"),
    (("--mean", "nan"), "--mean: expected a number"),
    (("--std", "0"), "--std: expected numbers > 0"),
    (("--mean", "1,2,3"), "--mean: 3 numbers for inputs [64] of DATA"),
    (("--tolerance", "1"), "--tolerance: only for regression"),
    (("--tolerance", "nan"), "--tolerance: expected a finite number"),
    (("--box", "1,0"), "--box: expected LO,HI with LO < HI"),
    (("--objective", "hinge"), "--objective: expected one of"),
    (("--weights", "nowhere.pt"), "--weights: nowhere.pt does not exist"),
    (("--require", "wisdom=1"), "--require: expected KEY=SHARE"),
]


@pytest.mark.parametrize(("options", "text"), REFUSED, ids=str)
def test_what_makes_no_sense_is_refused_by_its_name(options, text, refused):
    assert text in refused(*options)


#: What needs neither model nor data to be seen.
EARLY = ("--adversary", "--restarts", "--block-size", "--limit", "--mean", "--std")


@pytest.mark.parametrize(
    "options", [o for o, _ in REFUSED if o[0] in EARLY and "," not in o[1]], ids=str
)
def test_options_are_looked_at_before_the_model(options, run_cli):
    code, _, error = run_cli("attack", "nowhere.py:build", *SMALL, *options)
    assert code == 1
    assert any(word in error for word in options if word.startswith("--"))


def test_an_adversary_of_no_steps_is_where_it_begins(attack):
    steps = ("--steps", "0", "--restarts", "0", "--no-screen")
    _, place = attack("--adversary", "pga", *steps)
    assert not bool(arrays(place)["perturbations"].any())


def test_help_tells_the_numbers_of_the_efforts():
    search, plain = (
        [table[name] for name in ("standard", "thorough")] for table in (EFFORTS, PLAIN)
    )
    budgets = [effort.budget for effort in search]
    assert numbers_in(EFFORT_HELP) == budgets
    assert [*numbers_in(RIVALS_HELP), None] == [effort.rivals for effort in search]
    steps = [effort.max_steps for effort in search + plain]
    assert numbers_in(STEPS_HELP) == steps
    restarts = [effort.restarts for effort in search + plain]
    assert numbers_in(RESTARTS_HELP) == restarts


def numbers_in(text):
    return [int(number) for number in re.findall(r"\d+", text)]


def test_two_classes_of_one_output_need_no_neighbours(run_cli, tmp_path):
    (tmp_path / "one.py").write_text(
        "from torch import nn\n\n\ndef build():\n    return nn.Linear(6, 1)\n"
    )
    inputs = np.random.default_rng(0).random((4, 6), dtype=np.float32)
    signs = np.array([1, -1, 1, -1], np.float32)
    np.savez(tmp_path / "two.npz", inputs=inputs, targets=signs)
    words = (f"{tmp_path / 'one.py'}:build", tmp_path / "two.npz", "--radius", "0.1")
    place = ("--no-screen", "--json", "--out", tmp_path / "run")
    code, text, error = run_cli("attack", *words, *place)
    assert code == 0, error
    assert json.loads(text)["clean_accuracy"] is not None


def test_neighbours_of_other_classes_are_refused(refused, tmp_path):
    pixels = np.random.default_rng(0).random((5, 64))
    np.savez(tmp_path / "far.npz", inputs=pixels, targets=np.arange(90, 95))
    error = refused("--neighbours", tmp_path / "far.npz")
    assert "--neighbours: 5 of 5 examples left out, whose labels" in error


def test_regression_has_no_rivals_and_callables_no_normalisation(refused):
    regression = ("diabetes", "--radius", "0.1", "--limit", "4")
    error = refused("--rivals", 2, data=regression, factory="regression")
    assert "--rivals: only for classification" in error
    error = refused("--mean", 0.5, factory="function")
    assert "--mean, --std: MODEL must be an nn.Module" in error
