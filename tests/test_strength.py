"""The benchmark of strength: what it counts, judges and writes, without any peer."""

from dataclasses import replace

import pytest
import torch
from benchmarks import strength, strength_accuracy, strength_peers, strength_settings
from benchmarks.auto_attack import Counted, Part
from benchmarks.mnist_networks import RECIPES
from benchmarks.page import STRENGTH
from benchmarks.peers import Case
from benchmarks.strength_accuracy import Attacked, Compared, missed
from benchmarks.strength_loss import Line
from benchmarks.strength_pages import accuracy_failures, accuracy_page, loss_means
from benchmarks.strength_peers import ATTACKS, Reached, judged, step_size
from benchmarks.strength_settings import Setting, settings
from torch import Tensor, nn

import summiteer as sm

SETTING = Setting(RECIPES[1], "linf", 0.1, 6)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Setting:
    """A setting with a small network on random images, made on the spot."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(784, 8), nn.ReLU(), nn.Linear(8, 10))
    model.requires_grad_(False).eval()
    inputs = torch.rand(SETTING.examples, 1, 28, 28)
    labels = model(inputs).argmax(1)
    monkeypatch.setattr(strength_settings, "network", lambda recipe: model)
    monkeypatch.setattr(
        strength_settings, "images", lambda count: (inputs[:count], labels[:count])
    )
    return SETTING


def compared(robust: list[bool], theirs: list[bool], gradients: int = 10) -> Compared:
    """A comparison in which the other has spent 100 gradients and 100 seconds."""
    parts = [Part(name, theirs, 25, 25, 25.0) for name in ("a", "b", "c", "d")]
    return Compared(SETTING, parts, Attacked(robust, gradients, 5, 10.0))


def test_every_network_meets_every_ball() -> None:
    found = list(settings(("mlp", "conv"), 7))
    assert len(set(found)) == len(found) == 16
    assert {each.examples for each in found} == {7}
    assert not list(settings((), 7))


def test_rows_are_counted_by_whether_they_have_a_gradient() -> None:
    model = Counted(nn.Linear(2, 2))
    rows = torch.zeros(3, 2)
    model(rows)
    with torch.no_grad():
        model(rows.clone().requires_grad_())
    assert (model.gradients, model.forwards) == (0, 6)
    model(rows.clone().requires_grad_())
    assert (model.gradients, model.forwards) == (3, 6)


def test_a_search_is_counted_at_the_model(small: Setting) -> None:
    made, found = strength_accuracy.searched(small, "standard", budget=30)
    assert made.gradients >= found.gradient_evaluations > 0
    assert made.forwards is not None
    assert made.forwards > 0
    assert found.misclassified is not None
    # What it calls broken is broken when the model is asked again.
    assert made.robust == (~found.misclassified).tolist()


def test_points_are_judged_in_the_region(small: Setting) -> None:
    inputs = small.inputs.double()
    expected = nn.functional.cross_entropy(
        small.model.double()(inputs), small.labels, reduction="none"
    )
    small.model.float()
    assert judged(small, inputs) == pytest.approx(expected.tolist(), rel=1e-9)
    with pytest.raises(ValueError, match="outside"):
        judged(small, inputs + 0.2)


def test_float_noise_is_projected(small: Setting) -> None:
    moved = (small.inputs.double() + 0.1).clamp(max=1.0)
    outside = torch.where(moved < 1, moved + 1e-8, moved)
    assert judged(small, outside) == pytest.approx(judged(small, moved), rel=1e-9)


def test_steps_are_those_of_madry() -> None:
    assert step_size(SETTING, 10) == pytest.approx(0.025)
    assert step_size(SETTING, 1) == 0.1


def test_peers_results_are_kept(
    small: Setting, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    calls = []

    def attack(case: Case) -> Tensor:
        calls.append((case.steps, case.random))
        return case.inputs + (0.01 if case.random else 0.0) * (case.inputs < 0.9)

    monkeypatch.setattr(strength_peers, "KEPT", tmp_path)
    monkeypatch.setitem(strength_peers.ATTACKS, "foolbox", attack)
    monkeypatch.setattr(strength_peers, "version", lambda name: "1")
    assert strength_peers.best_start("foolbox", small, 5, compute=False) is None
    first = strength_peers.best_start("foolbox", small, 5, compute=True)
    assert first is not None
    assert calls == [(5, True), (5, False)]
    assert strength_peers.best_start("foolbox", small, 5, compute=False) == first
    assert len(calls) == 2
    both = [
        strength_peers.reached("foolbox", s, small, 5, False)
        for s in ("random", "centre")
    ]
    assert first[1].mean == max(made.mean for made in both if made is not None)
    # Another budget or ball is another result.
    other = replace(small, radius=0.2)
    assert strength_peers.best_start("foolbox", small, 6, compute=False) is None
    assert strength_peers.best_start("foolbox", other, 5, compute=False) is None


def test_images_that_one_alone_breaks() -> None:
    assert missed([True, True, False], [True, False, False]) == [1]
    assert missed([True, False, False], [True, True, False]) == []


@pytest.mark.parametrize(
    ("robust", "gradients", "said"),
    [
        ([True, False, False], 10, []),
        ([True, True, False], 10, ["In the sum of all settings, 1"]),
        ([True, True, True], 10, ["2 images more", "In the sum"]),
        ([True, False, False], 21, ["0.21 of its gradients"]),
    ],
)
def test_what_is_not_reached_is_said(
    robust: list[bool], gradients: int, said: list[str]
) -> None:
    made = compared(robust, [True, False, False], gradients)
    failures = accuracy_failures([(SETTING, made)], 0.2, 1)
    assert len(failures) == len(said)
    assert all(text in failure for text, failure in zip(said, failures, strict=True))


def test_one_image_more_may_be_made_up_for_elsewhere() -> None:
    worse = compared([True, True], [True, False])
    better = compared([True, False], [True, True])
    both = [(SETTING, worse), (SETTING, better)]
    assert not accuracy_failures(both, 0.2, 1)
    assert len(accuracy_failures(both, 0.2, 0)) == 1


def test_an_attack_that_breaks_fewer_than_its_search_is_told() -> None:
    made = compared([False, True], [False, True])
    whole = replace(made.ours, robust=[True])
    told = accuracy_failures([(SETTING, replace(made, whole=whole))], 0.2, 1)
    assert told == [f"{SETTING}: `sm.attack` breaks 1 fewer."]


def test_what_is_not_measured_is_not_invented() -> None:
    assert "not measured" in accuracy_page([(SETTING, None)])
    told = accuracy_failures([(SETTING, None)], 0.2, 1)
    assert told == [f"Not measured: {SETTING}."]


def line(ours: float, theirs: float | None) -> Line:
    """One setting, in which all peers reach the same, or are not measured."""
    made = None if theirs is None else ("random", Reached([theirs], 1, 1.0))
    one = Reached([ours], 1, 1.0)
    return Line(SETTING, 10, one, one, dict.fromkeys(ATTACKS, made))


def test_means_are_over_settings_that_all_were_measured_in() -> None:
    rows, failures = loss_means([line(3.0, 1.0), line(1.0, 2.0), line(9.0, None)])
    assert rows[0][1:] == ["2.0000", "2.0000", *["1.5000"] * 4]
    assert not failures
    _, failures = loss_means([line(1.0, 1.5)])
    assert len(failures) == len(ATTACKS)


def test_a_part_made_anew_replaces_the_old_one() -> None:
    heading = {name: text.partition("\n")[0] for name, text in strength.TEXTS.items()}
    page = f"# Before\n\ntext\n\n{STRENGTH}\n\nold head\n\n{heading['loss']}\n\nold\n"
    made = {"accuracy": f"{heading['accuracy']}\n\nnew\n"}
    text = strength.merged(page, f"{STRENGTH}\n\nhead\n", made)
    places = [text.index(x) for x in ("# Before", "\nhead", "new", "\nold\n")]
    assert places == sorted(places)
    assert "old head" not in text
    assert strength.merged(text, f"{STRENGTH}\n\nhead\n", made) == text


def test_texts_need_nothing_but_what_a_section_gives(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plan = strength.Plan(False, True, ("mlp",))
    for name in strength.PARTS:
        monkeypatch.setitem(strength.PARTS, name, lambda plan: "table")
        assert strength.section(name, plan).endswith("\n\ntable\n")


def test_brackets_hold_what_was_found() -> None:
    from benchmarks.strength_bracket import bracketed, exact

    found = bracketed("ReLU", sm.L2Ball(0.25), 4)
    assert found.found <= found.proved
    assert found.certain is not None
    assert found.certain <= found.robust
    programs = exact(sm.LinfBall(0.02), 3)
    assert programs.open == 0
    # Up to the solver's own tolerances, nothing exceeds the maximum.
    assert programs.broken <= programs.breakable
    assert programs.short >= -1e-5
