import os
import pickle
import sys

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

from summiteer.data import BUNDLED, load_data, load_model
from summiteer.errors import UserError


@pytest.mark.parametrize("name", sorted(BUNDLED))
def test_bundled_data_are_finite_and_aligned(name):
    data = load_data(name)
    assert len(data.inputs) == len(data.targets) > 100
    assert bool(data.inputs.isfinite().all())


def test_digits_lie_in_the_unit_box_and_have_ten_classes():
    data = load_data("digits")
    assert data.inputs.shape == (1797, 64)
    assert float(data.inputs.min()) == 0.0
    assert float(data.inputs.max()) == 1.0
    assert sorted(data.targets.unique().tolist()) == list(range(10))


@pytest.mark.parametrize("key", ["targets", "labels"])
def test_npz_and_safetensors_are_read(tmp_path, key):
    inputs, labels = np.random.default_rng(0).random((5, 3)), np.arange(5)
    np.savez(tmp_path / "x.npz", **{"inputs": inputs, key: labels})
    safetensors.torch.save_file(
        {"inputs": torch.tensor(inputs), key: torch.tensor(labels)},
        tmp_path / "x.safetensors",
    )
    for file in ("x.npz", "x.safetensors"):
        data = load_data(str(tmp_path / file))
        assert np.array_equal(data.inputs.numpy(), inputs)
        assert np.array_equal(data.targets.numpy(), labels)


def test_bad_data_files_are_refused_with_one_sentence(tmp_path):
    np.savez(tmp_path / "half.npz", inputs=np.zeros((2, 2)))
    np.savez(tmp_path / "objects.npz", inputs=np.array([{}]), targets=np.zeros(1))
    np.savez(tmp_path / "named.npz", images=np.zeros((2, 2)), labels=np.zeros(2))
    names = np.array(["1", "2"])
    np.savez(tmp_path / "names.npz", inputs=np.zeros((2, 2)), targets=names)
    (tmp_path / "nothing.npz").write_bytes(b"")
    (tmp_path / "text.npz").write_text("not a zip")
    (tmp_path / "text.safetensors").write_text("not safetensors")
    (tmp_path / "data.csv").write_text("1,2")
    cases = {
        "half.npz": r"lacks targets \(or labels\); it has inputs: save them",
        "named.npz": "lacks inputs; it has images, labels: save them",
        "names.npz": r"`targets` in .* is text \(<U1\); save numbers",
        "nothing.npz": "it is empty",
        "mnist": "a folder of MNIST's idx files",
        "objects.npz": "something other than plain arrays",
        "text.npz": "not a readable .npz file: it is truncated, or another format",
        "text.safetensors": "not a readable .safetensors",
        "data.csv": "must be .npz, .safetensors or .pt",
        "missing.npz": "does not exist",
        "": "is a directory",
    }
    for file, text in cases.items():
        with pytest.raises(UserError, match=text):
            load_data(str(tmp_path / file))


def test_models_come_from_files_and_packages(model_file):
    before = list(sys.path)
    model = load_model(f"{model_file}:classifier")
    assert isinstance(model, nn.Module)
    assert isinstance(load_model("torch.nn:Identity"), nn.Identity)
    assert sys.path == before


def test_unusable_models_are_refused_with_one_sentence(model_file, tmp_path):
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_that_name")
    cases = {
        "model.py": "expected file.py:factory",
        f"{tmp_path}/absent.py:build": "does not exist",
        f"{broken}:build": "ModuleNotFoundError",
        f"{model_file}:absent": "has no 'absent'; it defines .*classifier",
        f"{model_file}:number": "not callable",
        f"{model_file}:fails": "RuntimeError: no such weights",
        "no_such_package:build": "importing no_such_package failed",
    }
    for source, text in cases.items():
        with pytest.raises(UserError, match=text):
            load_model(source)


def test_weights_are_loaded_without_unpickling(model_file, tmp_path):
    state = load_model(f"{model_file}:classifier").state_dict()
    wanted = {name: value + 1 for name, value in state.items()}
    torch.save(wanted, tmp_path / "w.pt")
    safetensors.torch.save_file(wanted, tmp_path / "w.safetensors")
    for file in ("w.pt", "w.safetensors"):
        model = load_model(f"{model_file}:classifier", str(tmp_path / file))
        assert torch.equal(model.state_dict()["0.bias"], wanted["0.bias"])


class _Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["SUMMITEER_EVIL"],)


def test_a_checkpoint_that_needs_code_is_refused_and_not_run(
    model_file, tmp_path, monkeypatch
):
    monkeypatch.setenv("SUMMITEER_EVIL", str(tmp_path / "evil"))
    torch.save({"a": _Evil()}, tmp_path / "evil.pt")
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(_Evil()))
    torch.save([1, 2], tmp_path / "list.pt")
    torch.save({"0.weight": torch.zeros(1)}, tmp_path / "wrong.pt")
    (tmp_path / "truncated.pt").write_bytes((tmp_path / "list.pt").read_bytes()[:100])
    cases = {
        "evil.pt": "needs pickled code",
        "plain.pt": "needs pickled code",
        "list.pt": "no state dict",
        "wrong.pt": "does not fit the model",
        "truncated.pt": "not a readable file|needs pickled code",
        "absent.pt": "does not exist",
    }
    for file, text in cases.items():
        with pytest.raises(UserError, match=text):
            load_model(f"{model_file}:classifier", str(tmp_path / file))
    assert not (tmp_path / "evil").exists()
