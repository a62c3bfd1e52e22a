import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from functools import partial

import numpy as np
import pytest

import summiteer
from summiteer.interruption import check, interrupted, watched
from summiteer.store import Store

DIGITS = ("digits", "--norm", "l2", "--radius", "0.3", "--limit", "20")


def shell(*arguments, **options):
    """The real command in a process of its own."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **options.pop("env", {})}
    return subprocess.run(
        [sys.executable, "-m", "summiteer", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        env=environment,
        check=False,
        **options,
    )


def test_help_and_version():
    done = shell("--version")
    assert (done.returncode, done.stdout) == (0, f"summiteer {summiteer.__version__}\n")
    assert "attack" in shell("--help").stdout
    page = shell("attack", "--help").stdout
    assert "Exit codes: 0 done, 1 " in page
    assert "proved_maximum" in page
    assert shell("attack").returncode == 2  # usage
    assert "or --property FILE" in shell("attack", "m", "d").stderr
    # `audit` has no --property to give.
    audit = shell("audit", "m", "d", "a")
    assert (audit.returncode, "give --radius R." in audit.stderr) == (2, True)
    assert shell("no-such-command").returncode == 2


def test_help_does_not_import_torch():
    code = "import sys, summiteer.cli; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_attack_in_a_pipe_prints_plain_text_and_writes_the_run(tmp_path, model_file):
    out = tmp_path / "run"
    done = shell("attack", f"{model_file}:classifier", *DIGITS, "--out", out)
    assert done.returncode == 0, done.stderr
    assert "\x1b" not in done.stdout
    assert "robust accuracy" in done.stdout
    assert "more steps flip" in done.stdout
    assert str(out) in done.stdout
    result = json.loads((out / "result.json").read_text())
    assert result["examples"] == 20
    again = shell("attack", f"{model_file}:classifier", *DIGITS, "--out", out)
    assert "taking up the run in" in again.stdout
    with Store.read(out) as store:
        assert store.run == result["run"]


def test_json_is_one_document_and_the_same_when_resumed(tmp_path, model_file, run_cli):
    arguments = ("attack", f"{model_file}:classifier", *DIGITS, "--block-size", 8)
    arguments += ("--out", tmp_path / "run", "--json")
    code, first, _ = run_cli(*arguments)
    assert code == 0
    result = json.loads(first)
    for key in ("schema", "run", "region", "survivors", "more_steps", "findings"):
        assert key in result
    code, again, _ = run_cli(*arguments)
    # Equal seconds too: nothing was computed again.
    assert (code, again) == (0, first)
    with Store.read(tmp_path / "run") as store:
        kinds = sorted(record.kind for record in store.finished().values())
        assert kinds == ["attack", "attack", "attack", "screen"]


def test_another_run_in_the_same_directory_is_refused(tmp_path, model_file, run_cli):
    arguments = ("attack", f"{model_file}:classifier", *DIGITS, "--out", tmp_path / "r")
    assert run_cli(*arguments)[0] == 0
    code, _, error = run_cli(*arguments, "--seed", 1)
    assert code == 1
    assert "another" in error


def test_a_model_that_gives_nan_is_not_accurate(tmp_path, model_file, run_cli):
    arguments = ("attack", f"{model_file}:Nan", *DIGITS, "--out", tmp_path / "run")
    code, out, _ = run_cli(*arguments, "--json")
    result = json.loads(out)
    assert code == 0
    assert result["clean_accuracy"] == result["robust_accuracy"] == 0
    assert [finding["code"] for finding in result["findings"]] == ["NON_FINITE"]


def test_a_masked_model_is_not_stationary(tmp_path, model_file, run_cli):
    arguments = ("attack", f"{model_file}:Disconnected", *DIGITS)
    code, _, error = run_cli(
        *arguments, "--out", tmp_path / "run", "--require", "stationary=0.1"
    )
    assert code == 3
    assert "stationary is 0, required 0.1" in error


def test_fractions_are_radii_and_pixels_are_noticed(
    tmp_path, model_file, data_file, run_cli
):
    data = data_file(inputs=np.random.default_rng(0).integers(0, 256, (6, 64)))
    arguments = ("attack", f"{model_file}:classifier", data, "--norm", "Linf")
    code, out, error = run_cli(*arguments, "--radius", "8/255", "--out", tmp_path / "r")
    assert code == 0, error
    assert "linf radius 0.0313725" in out
    assert "pixels 0..255" in out


def test_an_interrupted_run_says_what_is_kept(tmp_path, model_file):
    command = [sys.executable, "-m", "summiteer", "attack", f"{model_file}:classifier"]
    command += ["digits", "--radius", "0.3", "--block-size", "4", "--out", "run"]
    process = subprocess.Popen(
        command,
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        # A shell's background jobs inherit that Ctrl-C is ignored.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and process.poll() is None:
        if len(list(tmp_path.glob("run/arrays/*.safetensors"))) >= 2:
            process.send_signal(signal.SIGINT)
            break
        time.sleep(0.005)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "what is finished is kept" in error
    with Store.read(tmp_path / "run") as store:
        assert store.finished()  # of two files one at least had its record


def test_require_decides_the_exit_code(tmp_path, model_file, run_cli):
    arguments = ("attack", f"{model_file}:classifier", *DIGITS, "--out", tmp_path / "r")
    assert run_cli(*arguments, "--require", "undecided=0")[0] == 0
    # Its forward pass is no network that a proof could speak of.
    masked = ("attack", f"{model_file}:Disconnected", *DIGITS, "--out", tmp_path / "m")
    code, _, error = run_cli(*masked, "--require", "proved=0.95")
    assert code == 3
    assert "proved is 0, required 0.95" in error
    code, _, error = run_cli(*arguments, "--require", "wisdom=1")
    assert code == 1
    assert "--require: expected KEY=SHARE" in error


@pytest.fixture
def data_file(tmp_path):
    def write(name="data.npz", **changes):
        rng = np.random.default_rng(0)
        arrays = {"inputs": rng.random((6, 64)), "targets": np.arange(6)} | changes
        np.savez(tmp_path / name, **arrays)
        return tmp_path / name

    return write


def test_bad_examples_are_listed_or_skipped(tmp_path, model_file, data_file, run_cli):
    inputs = np.random.default_rng(0).random((6, 64))
    inputs[1, 3], inputs[4, 0] = np.nan, np.inf
    data = data_file(inputs=inputs)
    arguments = ("attack", f"{model_file}:classifier", data, "--radius", 0.1)
    arguments += ("--out", tmp_path / "run")
    code, _, error = run_cli(*arguments)
    assert code == 1
    assert "[1, 4]" in error
    assert "--skip-bad" in error
    assert not (tmp_path / "run").exists()
    code, out, _ = run_cli(*arguments, "--skip-bad")
    assert code == 0
    assert "skipped 2 examples" in out


BAD = [
    (("classifier", "digits", "--radius", "0"), "--radius: expected a positive"),
    (("classifier", "digits", "--radius", "-1"), "--radius: expected a positive"),
    (("classifier", "digits", "--radius", "inf"), "--radius: expected a positive"),
    (("classifier", "digits", "--radius", "nan"), "--radius: expected a positive"),
    (("classifier", "digits", "--radius", "1", "--norm", "l3"), "one of l2, linf"),
    (("classifier", "digits", "--radius", "1", "--box", "1,0"), "LO < HI"),
    (("classifier", "digits", "--radius", "1", "--box", "x"), "LO,HI or none"),
    (
        ("classifier", "digits", "--radius", "1", "--box", "0,0.5"),
        "examples [0, 1, 2, …] (1797 in all) lie outside the box",
    ),
    (("classifier", "digits", "--radius", "1", "--box", "0,0.5"), "--box none"),
    (("classifier", "digits", "--radius", "1", "--steps", "-1"), "--steps"),
    (("classifier", "digits", "--radius", "1", "--seed", "-1"), "seed"),
    (("classifier", "digits", "--radius", "1", "--within", "2"), "within"),
    (("classifier", "digits", "--radius", "1", "--effort", "max"), "standard"),
    (("classifier", "digits", "--radius", "1", "--until", "bored"), "misclassified"),
    (("classifier", "digits", "--radius", "1", "--objective", "hinge"), "margin"),
    (("classifier", "nowhere.npz", "--radius", "1"), "does not exist"),
    (
        ("wrong_width", "digits", "--radius", "1"),
        "DATA, MODEL: the forward pass on inputs of shape [64] failed: mat1",
    ),
    (("narrow", "digits", "--radius", "1"), "labels must lie in 0 … 2"),
    (("classifier", "diabetes", "--radius", "1"), "shape [10] failed: mat1"),
    (("fails", "digits", "--radius", "1"), "no such weights"),
    (
        ("classifier", "digits", "--radius", "1", "--objective", "logistic"),
        "one output",
    ),
    (("classifier", "digits", "--radius", "1", "--objective", "quadratic"), "float"),
]


@pytest.mark.parametrize(("arguments", "text"), BAD, ids=lambda value: str(value)[:60])
def test_bad_input_is_one_sentence_and_nothing_is_written(
    arguments, text, tmp_path, model_file, run_cli
):
    factory, *rest = arguments
    out = tmp_path / "run"
    code, printed, error = run_cli(
        "attack", f"{model_file}:{factory}", *rest, "--out", out
    )
    assert code == 1
    assert text in error
    assert error.startswith("error: ")
    assert "Traceback" not in error
    assert len(error.strip().splitlines()) == 1
    assert printed == ""
    assert not (out / "result.json").exists()
    assert not (out / "arrays").exists()


def test_shapes_that_are_no_batch_are_explained(
    tmp_path, model_file, data_file, run_cli
):
    arguments = ("attack", f"{model_file}:classifier")
    shapes = {
        "one.npz": ({"inputs": np.zeros(64), "targets": np.array(3)}, "[n, *input]"),
        "hot.npz": ({"targets": np.eye(10)[:6]}, "targets.argmax(1)"),
        "column.npz": ({"targets": np.zeros((6, 1), int)}, "targets.squeeze()"),
        "float.npz": ({"targets": np.arange(6.0)}, "use int64"),
        "last.npz": (
            {"inputs": np.zeros((6, 8, 8, 3))},
            "(the first dimension, the last here: permute the axes)",
        ),
        "short.npz": ({"targets": np.zeros(5, int)}, "6 inputs but 5 targets"),
        "none.npz": (
            {"inputs": np.zeros((0, 64)), "targets": np.zeros(0, int)},
            "at least one example",
        ),
    }
    for name, (changes, text) in shapes.items():
        data = data_file(name, **changes)
        options = ("--mean", "0.3,0.2,0.1", "--std", 1) if name == "last.npz" else ()
        code, _, error = run_cli(
            *arguments, data, "--radius", 1, "--out", tmp_path / "r", *options
        )
        assert (code, text in error) == (1, True), error
        assert len(error.strip().splitlines()) == 1
    assert not (tmp_path / "r").exists()


def test_out_of_range_and_unwritable_places(tmp_path, model_file, data_file, run_cli):
    model = f"{model_file}:classifier"
    code, _, error = run_cli(
        "attack",
        model,
        data_file(targets=np.array([0, 1, 99, 3, -1, 5])),
        "--radius",
        1,
    )
    assert code == 1
    assert "[2, 4]" in error
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "thesis.tex").write_text("precious")
    code, _, error = run_cli("attack", model, *DIGITS, "--out", foreign)
    assert code == 1
    assert [path.name for path in foreign.iterdir()] == ["thesis.tex"]
    file = tmp_path / "file"
    file.write_text("x")
    code, _, error = run_cli("attack", model, *DIGITS, "--out", file)
    assert code == 1
    assert "is a file" in error


@pytest.mark.parametrize(
    ("factory", "text"),
    [
        ("dropping", "train mode and has Dropout"),
        ("Random", "forward passes on the same inputs differ"),
        ("Masked", "gradient masking"),
        ("Disconnected", "gradient masking"),
        ("Broken", "NaN or infinite"),
    ],
)
def test_suspicious_models_run_with_a_word(
    factory, text, tmp_path, model_file, run_cli
):
    code, out, error = run_cli(
        "attack", f"{model_file}:{factory}", *DIGITS, "--out", tmp_path / "run"
    )
    assert code == 0, error
    assert text in " ".join((out + error).split())


def test_regression_and_tolerance(tmp_path, model_file, run_cli):
    arguments = ("attack", f"{model_file}:regression", "diabetes", "--radius", 0.05)
    arguments += ("--limit", 30, "--tolerance", 1.0, "--out", tmp_path / "run")
    code, out, error = run_cli(*arguments)
    assert code == 0, error
    assert "robust accuracy" not in out
    assert "within 1:" in out


def test_ctrl_c_that_a_library_drops_is_met_before_anything_is_recorded():
    before = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with watched():
            check()  # nothing yet
            with suppress(KeyboardInterrupt):  # as a callback from C may
                signal.raise_signal(signal.SIGINT)
            assert interrupted()
            with pytest.raises(KeyboardInterrupt):
                check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        with watched():  # another command in the same process
            check()
    finally:
        signal.signal(signal.SIGINT, before)
