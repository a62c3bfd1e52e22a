"""The block size: measured, fitted to memory, chosen once and then kept."""

import json
import os

import pytest
import torch
from torch import nn

import summiteer as sm
from summiteer import examination, memory
from summiteer.cli.running import placed
from summiteer.searching import EFFORTS
from summiteer.settings import Settings

REGION = sm.LinfBall(0.1)


def problem_of(*layers, width=12, dtype=torch.float32, rows=6):
    model = nn.Sequential(*layers).to(dtype).eval()
    inputs = torch.rand(rows, width, generator=torch.Generator().manual_seed(0))
    targets = torch.zeros(rows, dtype=torch.int64)
    return sm.Problem(model, inputs.to(dtype), targets, sm.CrossEntropy(), REGION)


# What a row costs.


def test_what_a_row_costs_is_what_autograd_keeps():
    # Tanh keeps its outputs, the two linear layers their inputs: of those the first is
    # the point itself. 7 numbers from tanh, 3 outputs; the largest twice more.
    problem = problem_of(nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))
    assert memory.row_bytes(problem) == 4 * (12 + 7 + 3 + 2 * 12 + memory.COPIES * 12)


def test_weights_cost_no_row_anything():
    small = problem_of(nn.Linear(12, 3))
    wide = problem_of(nn.Linear(12, 3000), nn.Linear(3000, 3))
    # 3000 hidden numbers are kept once and counted twice more, 36000 weights never.
    assert memory.row_bytes(wide) - memory.row_bytes(small) <= 4 * 3 * 3000
    assert memory.row_bytes(wide) - memory.row_bytes(small) > 4 * 2 * 3000


@pytest.mark.parametrize(
    ("dtype", "share"), [(torch.float64, 2.0), (torch.bfloat16, 0.5)]
)
def test_a_row_costs_by_the_width_of_its_numbers(dtype, share):
    layers = (nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))
    single = memory.row_bytes(problem_of(*layers))
    assert memory.row_bytes(problem_of(*layers, dtype=dtype)) == share * single


def test_measuring_frees_what_it_kept_and_leaves_the_model_alone():
    problem = problem_of(nn.Linear(12, 7), nn.Dropout(0.5), nn.Linear(7, 3))
    problem.model.train()
    before = torch.random.get_rng_state()
    counts = {memory.row_bytes(problem) for _ in range(3)}
    assert len(counts) == 1
    assert problem.model.training
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(p.grad is None for p in problem.model.parameters())


# What there is.


def test_free_memory_is_no_more_than_the_machine_has():
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    assert 0 < memory.free_bytes(torch.device("cpu")) <= pages * page


@pytest.mark.parametrize(
    ("names", "limit", "left"),
    [
        (("memory.max", "memory.current", "inactive_file"), "1000", [500]),
        (("memory.max", "memory.current", "inactive_file"), "max", []),
        (("memory.max", "memory.current", "inactive_file"), "100", [0]),
        (
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
            "1000",
            [500],
        ),
    ],
)
def test_limits_of_control_groups_count(tmp_path, names, limit, left):
    for name, text in zip(names, (limit, "700", "anon 400\n{} 200\n"), strict=True):
        file = "memory.stat" if "{}" in text else name
        (tmp_path / file).write_text(text.format(names[2]))
    assert memory.group_bytes(tmp_path) == left


# The size.


def sized(monkeypatch, free, restarts=1, **settings):
    monkeypatch.setattr(memory, "free_bytes", lambda device: free)
    problem = problem_of(nn.Linear(12, 7), nn.Tanh(), nn.Linear(7, 3))
    effort = EFFORTS["standard"].with_runs(restarts, None, None)
    settings = Settings(region=REGION, effort=effort, **settings)
    return examination.block_size_of(problem, settings, None)


def test_the_size_is_a_power_of_two_that_fits(monkeypatch):
    sizes = [sized(monkeypatch, free) for free in (0, 10**5, 10**6, 10**7, 10**12)]
    assert sizes == sorted(sizes)
    assert (sizes[0], sizes[-1]) == (1, 256)
    assert all(size & (size - 1) == 0 for size in sizes)
    assert len(set(sizes)) > 2
    # More runs of an example at once, fewer examples.
    assert sized(monkeypatch, 10**7, restarts=63) < sized(monkeypatch, 10**7)


def test_a_size_of_ones_own_is_kept_and_none_below_one():
    problem = problem_of(nn.Linear(12, 3))
    settings = Settings(region=REGION)
    assert examination.block_size_of(problem, settings, 7) == 7
    with pytest.raises(sm.UserError, match=r"block_size: expected an integer ≥ 1"):
        examination.block_size_of(problem, settings, 0)


# Once chosen, kept.

SPEC = {"command": "attack", "radius": 0.5, "box": (0, 1)}


def head(directory, spec):
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "run.json").write_text(json.dumps({"spec": spec}))


def test_the_same_command_finds_its_run_whatever_memory_there_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    directory, spec = placed(SPEC, None, None, lambda: 256)
    assert spec == {**SPEC, "block_size": 256}
    head(directory, spec)
    assert placed(SPEC, None, None, lambda: 16)[0] == directory
    assert placed(SPEC, None, None, lambda: 16)[1]["block_size"] == 256
    # A directory of the user's own knows it too.
    head(tmp_path / "out", {**SPEC, "block_size": 32})
    assert placed(SPEC, None, tmp_path / "out", lambda: 16)[1]["block_size"] == 32


def test_another_run_in_the_directory_says_nothing(tmp_path):
    head(tmp_path, {**SPEC, "radius": 1.0, "block_size": 32})
    assert placed(SPEC, None, tmp_path, lambda: 16)[1]["block_size"] == 16
    (tmp_path / "run.json").write_text("{")
    assert placed(SPEC, None, tmp_path, lambda: 16)[1]["block_size"] == 16


def test_a_size_of_ones_own_is_another_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    automatic, _ = placed(SPEC, None, None, lambda: 16)
    places = [placed(SPEC, size, None, lambda: 16) for size in (16, 32)]
    assert len({automatic, *(directory for directory, _ in places)}) == 3
    assert [spec["block_size"] for _, spec in places] == [16, 32]


def test_a_command_goes_on_with_its_size(tmp_path, model_file, run_cli, monkeypatch):
    arguments = ("attack", f"{model_file}:classifier", "digits", "--radius", 0.1)
    arguments += ("--norm", "linf", "--limit", 6, "--steps", 3, "--no-screen")
    monkeypatch.chdir(tmp_path)
    results = []
    for free in (10**12, 0):
        monkeypatch.setattr(memory, "free_bytes", lambda device, free=free: free)
        code, _, error = run_cli(*arguments)
        assert code == 0, error
        (directory,) = (tmp_path / "runs").iterdir()
        results.append((directory / "result.json").read_bytes())
    assert results[0] == results[1]
    assert len(list((directory / "arrays").iterdir())) == 1


# Too much all the same.


@pytest.mark.parametrize(
    ("examples", "remedy"), [(8, "give --block-size 4 or less"), (1, "one example")]
)
@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to"),
    ],
)
def test_memory_that_runs_out_is_one_sentence(examples, remedy, error):
    with (
        pytest.raises(sm.UserError, match=remedy) as caught,
        memory.enough(examples),
    ):
        raise error
    assert "\n" not in str(caught.value)


def test_other_errors_are_left_as_they_are():
    with pytest.raises(RuntimeError, match="shapes"), memory.enough(8):
        raise RuntimeError("shapes do not fit")


def test_what_the_cpu_says_is_understood():
    with pytest.raises(sm.UserError, match="does not fit"), memory.enough(8):
        torch.empty(1 << 60, dtype=torch.uint8)


class Greedy(nn.Module):
    """Asks for more memory than there is where it is given many rows."""

    def forward(self, inputs):
        if len(inputs) > 8:
            torch.empty(1 << 60, dtype=torch.uint8)
        return inputs[:, :3]


def test_a_model_that_asks_for_too_much_is_told_of():
    inputs, targets = torch.rand(16, 12), torch.zeros(16, dtype=torch.int64)
    with pytest.raises(sm.UserError, match="--block-size 8 or less"):
        sm.attack(
            Greedy(), inputs, targets, region=REGION, block_size=16, screened=False
        )
