"""Models on the CPU are asked about few rows at once; nobody should notice."""

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer import passes


@pytest.fixture
def few(monkeypatch):
    """At most three rows of the network below at once."""
    monkeypatch.setattr(passes, "_AT_ONCE", 3 * 6 * 8 * 8)
    monkeypatch.setattr(passes, "_LEAST", 1)


class Watched(nn.Module):
    """A small convolutional network that knows how many rows it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(384, 3)
        )
        self.rows: list[int] = []

    def forward(self, inputs):
        self.rows.append(len(inputs))
        return self.layers(inputs)


def problem_of(count=10, objective=None):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = Watched().double().eval()
        inputs = torch.rand(count, 1, 8, 8, dtype=torch.float64)
    labels = torch.arange(count) % 3
    objective = objective or sm.CrossEntropy()
    return sm.Problem(model, inputs, labels, objective, sm.LinfBall(0.1))


@pytest.mark.parametrize(
    "objective", [sm.CrossEntropy(), sm.TargetedMargin((torch.arange(10) + 1) % 3)]
)
def test_parts_say_what_the_whole_says(few, objective):
    problem = problem_of(objective=objective)
    points = 0.1 * torch.rand_like(problem.inputs)
    whole, value = problem.rows().evaluate(points), problem.rows().value(points)
    problem.model.rows.clear()
    problem.examine()
    problem.model.rows.clear()
    rows = problem.rows()
    assert rows.width == 384
    parts = rows.evaluate(points)
    assert problem.model.rows == [2, 3, 2, 3]
    for name in ("loss", "gradient", "wrong"):
        mine, theirs = getattr(parts, name), getattr(whole, name)
        # The same sums in another order of blocks.
        assert torch.allclose(mine.double(), theirs.double(), rtol=1e-12, atol=1e-15)
    again = rows.value(points)
    assert torch.allclose(again.loss, value.loss, rtol=1e-12)
    assert torch.equal(again.wrong, value.wrong)
    assert again.gradient.numel() == 0


def test_an_ascent_never_asks_about_more(few):
    problem = problem_of()
    sm.ascend(problem, sm.AutoPGD(5), max_steps=5)
    # The probes have eight rows, runs three of the fifty at once.
    assert sorted(set(problem.model.rows)) == [2, 3, 8]


def test_every_row_is_in_one_pass():
    for rows in (0, 1, 63, 64, 65, 1000):
        for width in (0, 1, 2**14, 2**30):
            parts = passes.passes(rows, width)
            asked = [k for part in parts for k in range(part.start, part.stop)]
            assert asked == list(range(rows))
            assert len(parts) == 1 or all(
                part.stop - part.start >= passes._LEAST // 2 for part in parts
            )


def test_the_largest_layer_counts_and_no_weights():
    rows = torch.rand(8, 5)
    for model, width in (
        (nn.Linear(5, 4000), 4000),
        (nn.Sequential(nn.Linear(5, 300), nn.ReLU(), nn.Linear(300, 2)), 300),
        (lambda x: x, 0),
        (lambda x: (x.T @ x).sum() + x[:, :3].exp(), 3),
    ):
        with passes.Width(8) as seen, torch.no_grad():
            model(rows)
        assert seen.numbers == width
