"""Examples read from disk some at a time: the same numbers, in little memory."""

import gzip
import json
import os
import struct
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from summiteer.auditing import given
from summiteer.cells import digest_arrays
from summiteer.data import Held, column, examples, found_box, load_data, open_data
from summiteer.data.tables import open_tensors
from summiteer.errors import UserError
from summiteer.examination import gather, numbers_of, problem_of
from summiteer.population import population_of
from summiteer.problem import Problem
from summiteer.regions import LinfBall
from summiteer.screen import drawn
from summiteer.settings import Settings

RNG = np.random.default_rng(0)
ROWS = RNG.random((37, 3, 5)).astype(np.float32)
LABELS = RNG.integers(0, 10, 37)
SETTINGS = Settings(region=LinfBall(0.1), box=(0.0, 1.0))


def saved(folder, kind, rows=ROWS, labels=LABELS):
    """The same examples in a file of each kind."""
    arrays = {"inputs": rows, "targets": labels}
    path = folder / f"{kind.replace(' ', '_')}.npz"
    if kind == "stored":
        np.savez(path, **arrays)
    elif kind == "packed":
        np.savez_compressed(path, **arrays)
    elif kind == "turned":
        np.savez(path, inputs=np.asfortranarray(rows), targets=labels)
    elif kind == "big end first":
        np.savez(path, inputs=rows.astype(">f4"), targets=labels.astype(">i8"))
    elif kind == "pt":
        path = folder / "x.pt"
        torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, path)
    else:
        path = folder / "x.safetensors"
        save_file({k: torch.from_numpy(v) for k, v in arrays.items()}, path)
    return path


KINDS = ("stored", "packed", "turned", "big end first", "pt", "safetensors")


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_from_every_file(kind, tmp_path):
    data = open_data(str(saved(tmp_path, kind)))
    inputs = data.inputs
    assert (len(inputs), inputs.row, inputs.dtype) == (37, (3, 5), torch.float32)
    # Onwards, backwards, with gaps, none, all: files are read by seeking.
    for first, last in ((0, 4), (4, 30), (2, 9), (36, 37), (5, 5), (0, 37)):
        assert np.array_equal(inputs.read(first, last).numpy(), ROWS[first:last])
    places = torch.tensor([0, 1, 2, 7, 9, 10, 36])
    assert np.array_equal(inputs.take(places).numpy(), ROWS[places])
    twice = inputs.chosen(places).seen_as(torch.float64, (15,))
    assert np.array_equal(twice.read(2, 6).numpy(), ROWS[places[2:6]].reshape(4, 15))
    assert np.array_equal(data.targets.whole().numpy(), LABELS)
    assert inputs.digest("x") == digest_arrays({"x": ROWS})


@pytest.mark.parametrize("packed", [False, True])
def test_images_of_idx_files_are_read_some_at_a_time(packed, tmp_path):
    pixels = RNG.integers(0, 256, (20, 4, 6)).astype(np.uint8)
    for name, array in (("images-idx3", pixels), ("labels-idx1", LABELS[:20])):
        head = bytes([0, 0, 8, array.ndim]) + struct.pack(
            f">{array.ndim}I", *array.shape
        )
        content = head + array.astype(np.uint8).tobytes()
        file = tmp_path / f"t10k-{name}-ubyte{'.gz' * packed}"
        file.write_bytes(gzip.compress(content) if packed else content)
    data = open_data(str(tmp_path))
    wanted = pixels[:, None].astype(np.float32) / np.float32(255)
    for first, last in ((0, 3), (10, 20), (1, 2), (0, 20)):
        assert np.array_equal(data.inputs.read(first, last).numpy(), wanted[first:last])


def test_numbers_of_sixteen_bits_are_read_as_stored(tmp_path):
    rows = torch.from_numpy(ROWS).bfloat16()
    save_file({"inputs": rows, "targets": torch.from_numpy(LABELS)}, tmp_path / "x.st")
    (tmp_path / "x.st").rename(tmp_path / "x.safetensors")
    assert torch.equal(load_data(str(tmp_path / "x.safetensors")).inputs, rows)


@pytest.mark.parametrize("kind", ["stored", "packed"])
def test_a_damaged_archive_is_noticed_when_it_is_looked_at(kind, tmp_path):
    path = saved(tmp_path, kind)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1  # in the middle of the inputs
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"npz (is not a readable|cannot be read)"):
        examples(open_data(str(path)), torch.float32)


def test_a_file_that_changes_while_it_is_used_is_refused(tmp_path):
    path = saved(tmp_path, "stored")
    data = open_data(str(path))
    data.inputs.read(0, 2)
    saved(tmp_path, "stored", ROWS + 1)
    os.utime(path, (time.time() + 9, time.time() + 9))
    with pytest.raises(UserError, match=r"stored\.npz was changed while it was read"):
        data.inputs.read(2, 4)


@pytest.fixture
def small_blocks(monkeypatch):
    """Four rows of 15 numbers at once, so that few rows are many blocks."""
    monkeypatch.setattr(column, "_AT_ONCE", 60)


def test_one_look_says_what_all_of_memory_would(small_blocks, tmp_path):
    rows = ROWS.copy()
    rows[5, 0, 1], rows[30, 2, 2] = np.nan, np.inf
    data = open_data(str(saved(tmp_path, "stored", rows)))
    found = examples(data, torch.float32)
    assert found.bad == [5, 30]
    found = examples(data, torch.float32, skip_bad=True)
    kept = np.delete(np.arange(37), [5, 30])
    assert found.ids.tolist() == kept.tolist()
    assert found.notes == ["skipped 2 examples with NaN or Inf: [5, 30]"]
    assert (found.low, found.high) == (ROWS[kept].min(), ROWS[kept].max())
    arrays = {"inputs": ROWS[kept], "targets": LABELS[kept], "ids": kept}
    assert found.digest == digest_arrays(arrays)
    few = examples(data, torch.float64, limit=5, shape=(15,), box=(0.1, 0.9))
    wide = ROWS[:5].reshape(5, 15).astype(float)
    arrays = {"inputs": wide, "targets": LABELS[:5], "ids": np.arange(5)}
    assert few.digest == digest_arrays(arrays)
    assert few.outside == ((wide < 0.1) | (wide > 0.9)).any(1).nonzero()[0].tolist()
    assert found_box(found.low, found.high)[0] == (0.0, 1.0)
    assert found_box(-0.1, 1.0)[0] is None
    assert "pixels 0..255" in found_box(0.0, 255.0)[1]


def test_a_part_is_the_problem_of_these_examples(small_blocks, tmp_path):
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(15, 10))
    path = saved(tmp_path, "packed")
    moves = RNG.random((37, 3, 5)) > 0.2
    np.save(tmp_path / "mask.npy", moves)
    (mask,) = open_tensors("--mask", tmp_path / "mask.npy").values()
    found = examples(open_data(str(path)), torch.float32, limit=30)
    cut = mask.chosen(found.ids)
    streamed = population_of(model, found, SETTINGS, cut)
    whole = problem_of(
        model,
        torch.from_numpy(ROWS[:30]),
        torch.from_numpy(LABELS[:30]),
        replace(SETTINGS, mask=torch.from_numpy(moves[:30])),
    )
    for index in (torch.arange(8, 16), torch.tensor([0, 3, 29])):
        part, other = streamed.part(index), whole.take(index)
        for name in ("inputs", "targets", "ids", "mask"):
            assert torch.equal(getattr(part, name), getattr(other, name)), name
        points = 0.2 * torch.randn(part.inputs.shape)
        project = other.feasible.project(points)
        assert torch.equal(part.feasible.project(points), project)
        assert type(part.objective) is type(whole.objective)
    assert streamed.digests["digest"] == digest_arrays(
        {"inputs": whole.inputs, "targets": whole.targets, "ids": whole.ids}
    )
    assert streamed.digests["mask"] == digest_arrays({"": moves[:30]})


def test_labels_beyond_the_first_examples_are_checked_before_the_start(tmp_path):
    labels = np.zeros(400, np.int64)
    labels[[300, 399]] = 10, -1
    rows = RNG.random((400, 15)).astype(np.float32)
    found = examples(
        open_data(str(saved(tmp_path, "stored", rows, labels))), torch.float32
    )
    with pytest.raises(UserError, match=r"0 … 9 .* not so at indices \[300, 399\]"):
        population_of(torch.nn.Linear(15, 10), found, SETTINGS, None)
    # ±1 as far as a head of 256 goes, but regression as a whole.
    targets = np.where(np.arange(400) < 300, 1.0, 0.5).astype(np.float32)
    path = saved(tmp_path, "stored", rows, targets)
    found = examples(open_data(str(path)), torch.float32)
    population = population_of(torch.nn.Linear(15, 1), found, SETTINGS, None)
    assert type(population.head.objective).__name__ == "Quadratic"
    assert not population.labelled


def test_the_sample_of_a_part_drawn_is_that_of_all():
    ids = torch.arange(9000)[torch.rand(9000) > 0.1]
    part = drawn(ids, 3, 1000)
    for size in (32, 256):
        assert torch.equal(
            ids[part][drawn(ids[part], 3, size)], ids[drawn(ids, 3, size)]
        )


def test_few_numbers_per_example_are_kept():
    blocks = [
        {
            "ids": torch.arange(first, first + n),
            "inputs": torch.rand(n, 7).half(),
            "perturbations": torch.rand(n, 7),
            "norms": torch.rand(n, 3),
            "survived": torch.rand(n) > 0.5,
            "gradient_evaluations": torch.tensor([first]),
            **({"only_here": torch.zeros(n)} if n == 4 else {}),
        }
        for first, n in ((0, 4), (4, 4), (8, 1))
    ]
    kept = numbers_of(iter(blocks), 9)
    assert "only_here" not in kept
    whole = gather([{k: v for k, v in b.items() if k != "only_here"} for b in blocks])
    for name in ("ids", "norms", "survived"):
        assert torch.equal(kept[name], whole[name])
    assert kept["inputs"].shape == (0, 7)
    assert kept["inputs"].dtype == torch.float16
    assert len(kept["perturbations"]) == 0
    assert kept["gradient_evaluations"].tolist() == [12]


def adversarial(case):
    """What a tool may have left, float32 `[37, 15]`."""
    clean = ROWS.reshape(37, 15)
    moved = (clean + 0.1 * np.sign(RNG.standard_normal(clean.shape))).clip(0, 1)
    moved = moved.astype(np.float32)
    return {
        "plain": moved,
        "double": moved + 1e-12,
        "grid": (moved * 255).round() / np.float32(255),
        "pixels": (moved * 255).round().astype(np.uint8),
        "units": moved * np.float32(255),
        "permuted": moved[::-1].copy(),
        "broken": np.where(np.arange(15) == 3, np.nan, moved),
    }[case]


@pytest.mark.parametrize(
    "case", ["plain", "double", "grid", "pixels", "units", "permuted", "broken"]
)
def test_a_file_of_a_tool_looks_the_same_in_blocks(case, monkeypatch):
    clean, rows = torch.from_numpy(ROWS.reshape(37, 15)), adversarial(case)
    model = torch.nn.Linear(15, 10)
    problem = Problem(
        model,
        clean,
        torch.from_numpy(LABELS),
        torch.nn.CrossEntropyLoss(reduction="none"),
        LinfBall(0.1),
        box=(0.0, 1.0),
    )
    whole = given.given_of(problem, torch.from_numpy(rows))
    monkeypatch.setattr(column, "_AT_ONCE", 60)
    monkeypatch.setattr(given, "_FAR_ROWS", 5)
    look = given.looked_at(
        problem,
        problem.take,
        Held.of(torch.from_numpy(rows)),
        (float(clean.min()), float(clean.max())),
        torch.arange(37),
    )
    for index in torch.arange(37).split(8):
        part = vars(look.given(problem.take(index), index))
        for name, values in vars(whole[index]).items():
            same = torch.equal(part[name].nan_to_num(7.0), values.nan_to_num(7.0))
            assert same, name
    shows = {
        "grid": whole.levels[0] == 255,
        "pixels": whole.levels[0] == 255,
        "units": whole.factor[0] == 255.0,
        "permuted": int((whole.fits >= 0).sum()) > 30,
        "broken": bool(whole.inputs.isnan().any()),
    }
    assert shows.get(case, int(whole.levels[0]) == 0)


def test_every_kind_of_file_gives_the_same_run(tmp_path, model_file, run_cli):
    rows = RNG.random((20, 64)).astype(np.float32)
    seen = {}
    for kind in ("stored", "packed", "safetensors"):
        path = saved(tmp_path, kind, rows, LABELS[:20])
        out = tmp_path / f"run_{kind}"
        arguments = ("attack", f"{model_file}:narrow", path, "--radius", 0.1)
        arguments += ("--adversary", "mi-fgsm", "--steps", 2, "--restarts", 0)
        arguments += ("--no-screen", "--block-size", 8, "--out", out)
        assert run_cli(*arguments)[0] == 1  # labels of ten classes, a model of three
        assert not out.exists()
        saved(tmp_path, kind, rows, LABELS[:20] % 3)
        code, _, error = run_cli(*arguments)
        assert code == 0, error
        result = json.loads((out / "result.json").read_text())
        del result["run"], result["seconds"]
        arrays = [file.read_bytes() for file in sorted(out.glob("arrays/*"))]
        spec = json.loads((out / "run.json").read_text())["spec"]
        seen[kind] = result, arrays, spec["digest"]
    assert seen["stored"] == seen["packed"] == seen["safetensors"]
    assert len(seen["stored"][1]) == 3


#: The command without certificates and with two further steps of each run, not fifty:
#: what that leaves out takes more time than this test has and holds
#: no more than a block's; the last line is the largest memory of the process in KiB.
QUICK = """
import torch
from dataclasses import replace
from types import SimpleNamespace
from summiteer import examination
from summiteer.cli import main
from summiteer.optimality import Evidence, Verdict
from summiteer.searching.effort import PLAIN

def nothing(problem, points, within):
    return SimpleNamespace(
        residual=torch.ones(len(points)),
        verdict=[Verdict.UNDECIDED] * len(points),
        evidence=[Evidence.NUMERICAL] * len(points),
        maximum=torch.zeros(len(points), dtype=torch.bool),
        distance_bound=torch.full((len(points),), torch.nan),
        loss_gap_bound=torch.full((len(points),), torch.nan),
        upper_bound=torch.full((len(points),), torch.nan),
    )

examination.local_optimality = nothing
examination.proved_robust = lambda problem: None
PLAIN["standard"] = replace(PLAIN["standard"], more_steps=2)
try:
    main()
finally:
    # Not ru_maxrss, which begins at the size of the process that started this one.
    text = open("/proc/self/status").read()
    print(text.split("VmHWM:")[1].split()[0])
"""
#: Of inputs and perturbations of 600 numbers, 12 bytes each, the larger run has 130
#: MiB more; of the inputs alone 43. What is kept per example comes to 1 MiB, with what
#: is made of it at the end 11 to 15 were seen. Two runs of one command differ by up to
#: 5 MiB, as the allocator will have it.
MORE_MEMORY = 24 * 1024
FEW, MANY = 1000, 20000


def test_memory_does_not_grow_with_the_examples(tmp_path):
    (tmp_path / "model.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Linear(600, 2).eval()\n"
    )
    peaks = {}
    for count in (FEW, MANY):
        rows = RNG.random((count, 600), dtype=np.float32)
        path = saved(tmp_path, "stored", rows, np.arange(count) % 2)
        arguments = ["attack", f"{tmp_path / 'model.py'}:build", str(path), "--radius"]
        arguments += ["0.01", "--adversary", "mi-fgsm", "--steps", "1", "--no-screen"]
        arguments += ["--restarts", "0", "--block-size", "250"]
        done = subprocess.run(
            [sys.executable, "-c", QUICK, *arguments],
            capture_output=True,
            text=True,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert "attacked" in done.stdout or "robust accuracy" in done.stdout
        peaks[count] = int(done.stdout.split()[-1])
    assert peaks[MANY] - peaks[FEW] < MORE_MEMORY, peaks
