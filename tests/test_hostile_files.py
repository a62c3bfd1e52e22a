"""Files that lie, are broken or carry code: refused, nothing run, little memory."""

import gzip
import io
import os
import pickle
import resource
import struct
import zipfile

import numpy as np
import pytest
import torch
from torch import nn

from summiteer.data import load_adversarial, load_data, load_model, load_onnx, open_mask
from summiteer.errors import SummiteerWarning, UserError

#: Room for a few bytes, not for what the headers claim.
ROOM = 2**29


@pytest.fixture(autouse=True)
def little_memory():
    """Whatever a file claims, half a gigabyte more than now must be enough."""
    with open("/proc/self/statm", encoding="ascii") as file:
        now = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def npy(shape, content=b"", dtype="'<f8'"):
    """A .npy file whose header says what it likes."""
    text = f"{{'descr': {dtype}, 'fortran_order': False, 'shape': {shape}, }}"
    text = text.ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode() + content


def npz(**members):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(f"{name}.npy", content)
    return made.getvalue()


def plain(**arrays):
    made = io.BytesIO()
    np.savez(made, **arrays)
    return made.getvalue()


def saved(value):
    made = io.BytesIO()
    torch.save(value, made)
    return made.getvalue()


def bomb():
    """2 GiB of zeros in 2 MiB, made piece by piece."""
    made = io.BytesIO()
    with (
        zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("inputs.npy", "w", force_zip64=True) as file,
    ):
        file.write(npy((2**28,)))
        for _ in range(2**11):
            file.write(bytes(2**20))
    return made.getvalue()


GOOD = plain(inputs=np.ones((3, 2)), targets=np.arange(3))
TENSORS = saved({"inputs": torch.ones(3, 2), "targets": torch.arange(3)})
HUGE = torch.ones(1).as_strided((2**40,), (0,))
DATA = {
    "huge.npz": (
        npz(inputs=npy((2**20, 2**30)), targets=npy((3,))),
        "claims the shape",
    ),
    "negative.npz": (npz(inputs=npy((-1, 4))), "claims the shape"),
    "code.npz": (npz(inputs=npy("(1,).__class__")), "NumPy's format"),
    "text.npz": (npz(inputs=npy((1,), b"abcd", "'<U1'")), "`inputs` in .* is text"),
    "object.npz": (
        npz(inputs=npy((1,), pickle.dumps(1), "'|O'")),
        "plain arrays of numbers",
    ),
    "bomb.npz": (bomb(), "unpacks to"),
    "cut.npz": (GOOD[: len(GOOD) // 2], "not a readable .npz"),
    "flipped.npz": (GOOD.replace(np.ones(6).tobytes(), bytes(48)), "CRC"),
    "empty.npz": (b"", "not a readable file: it is empty"),
    "names.npz": (plain(x=np.ones(3)), "lacks inputs and targets .*; it has x"),
    "long.safetensors": (struct.pack("<Q", 2**60) + b"{}", "not a readable .safetens"),
    "false.safetensors": (
        struct.pack("<Q", 70)
        + b'{"inputs":{"dtype":"F64","shape":[1099511627776],"data_offsets":[0,8]}}'
        + bytes(8),
        "not a readable .safetens",
    ),
    "cut.safetensors": (struct.pack("<Q", 64) + b"{", "not a readable .safetens"),
    "evil.pt": (saved({"inputs": Evil()}), "pickled code"),
    "bare.pt": (pickle.dumps(Evil()), "pickled code"),
    "cut.pt": (TENSORS[: len(TENSORS) // 2], "not a readable|pickled code"),
    "claims.pt": (saved({"inputs": HUGE, "targets": HUGE}), "claims the shape"),
    "sparse.pt": (saved({"inputs": torch.eye(3).to_sparse()}), "a dense one"),
    "list.pt": (saved([1, 2]), "does not hold tensors"),
    "noise.pt": (bytes(range(256)) * 8, "not a readable|pickled code"),
}


@pytest.mark.parametrize("name", DATA)
def test_data_that_lie_are_refused_with_one_sentence(name, tmp_path, monkeypatch):
    content, text = DATA[name]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    for read in (load_data, load_adversarial):
        if name == "names.npz" and read is load_adversarial:
            continue  # one array is enough there
        with pytest.raises(UserError, match=text) as caught:
            read(str(tmp_path / name))
        assert name in str(caught.value)
        assert len(str(caught.value)) < 500
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "evil").exists()


def test_good_files_are_read_under_the_same_limit(tmp_path):
    (tmp_path / "x.npz").write_bytes(GOOD)
    (tmp_path / "x.pt").write_bytes(TENSORS)
    for name in ("x.npz", "x.pt"):
        data = load_data(str(tmp_path / name))
        assert data.inputs.tolist() == [[1, 1]] * 3
        assert data.targets.tolist() == [0, 1, 2]
    np.savez(
        tmp_path / "order.npz",
        inputs=np.asfortranarray(np.arange(6.0).reshape(3, 2)).astype(">f8"),
        targets=np.arange(3, dtype=np.uint8),
    )
    data = load_data(str(tmp_path / "order.npz"))
    assert data.inputs.tolist() == [[0, 1], [2, 3], [4, 5]]


def test_gzip_bombs_and_false_idx_headers_take_no_memory(tmp_path):
    header = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2**31 - 1, 1, 1)
    (tmp_path / "t10k-images-idx3-ubyte").write_bytes(header + bytes(10))
    with pytest.raises(UserError, match="truncated"):
        load_data(str(tmp_path))
    (tmp_path / "t10k-images-idx3-ubyte").unlink()
    with gzip.open(tmp_path / "t10k-images-idx3-ubyte.gz", "wb", 1) as file:
        file.write(header)
        for _ in range(300):
            file.write(bytes(2**20))
    with pytest.raises(UserError, match=r"unpacks to|cannot be read"):
        load_data(str(tmp_path))


def checkpoint(state):
    return {
        "plain": state,
        "nested": {"state_dict": state, "epoch": 3, "optimizer": {"lr": 0.1}},
        "model": {"model": state},
        "parallel": {f"module.{name}": value for name, value in state.items()},
        "compiled": {f"_orig_mod.{name}": value for name, value in state.items()},
    }


@pytest.mark.parametrize("kind", ["plain", "nested", "model", "parallel", "compiled"])
def test_checkpoints_as_training_leaves_them_are_read(kind, tmp_path, model_file):
    state = load_model(f"{model_file}:classifier").state_dict()
    wanted = {name: value + 1 for name, value in state.items()}
    torch.save(checkpoint(wanted)[kind], tmp_path / "w.pth")
    source = (f"{model_file}:classifier", str(tmp_path / "w.pth"))
    if kind in ("parallel", "compiled"):
        with pytest.warns(SummiteerWarning, match="prefix"):
            model = load_model(*source)
    else:
        model = load_model(*source)
    assert all(torch.equal(v, wanted[k]) for k, v in model.state_dict().items())


def test_mismatches_are_named_and_few(tmp_path, model_file):
    state = load_model(f"{model_file}:classifier").state_dict()
    state["0.weight"] = torch.zeros(16, 65)
    del state["2.bias"]
    state |= {f"extra{i}": torch.zeros(1) for i in range(50)}
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError) as caught:
        load_model(f"{model_file}:classifier", str(tmp_path / "w.pt"))
    text = str(caught.value)
    assert "lacks 2.bias" in text
    assert "0.weight [16, 65] where the model has [16, 64]" in text
    assert "and 46 more" in text
    assert len(text) < 600


def test_weights_that_are_nan_are_said(tmp_path, model_file):
    state = load_model(f"{model_file}:classifier").state_dict()
    state["2.bias"][3] = float("nan")
    torch.save(state, tmp_path / "w.pt")
    with pytest.warns(SummiteerWarning, match=r"NaN or infinite numbers in 2\.bias"):
        load_model(f"{model_file}:classifier", str(tmp_path / "w.pt"))


def test_masks_are_of_the_inputs_shape(tmp_path):
    ids = torch.tensor([0, 2, 5])
    each = np.random.default_rng(0).random((6, 2, 4)) > 0.5
    np.save(tmp_path / "each.npy", each)
    np.savez(tmp_path / "one.npz", mask=each[0], other=each)
    np.save(tmp_path / "floats.npy", each.astype(float))
    np.save(tmp_path / "short.npy", each[:4])
    np.save(tmp_path / "none.npy", np.zeros((2, 4), bool))
    got = open_mask(str(tmp_path / "each.npy"), (2, 4), ids)
    assert np.array_equal(got.whole().numpy(), each[[0, 2, 5]])
    got = open_mask(str(tmp_path / "one.npz"), (2, 4), ids)
    assert np.array_equal(got.numpy(), each[0])
    texts = {"floats": "bools", "short": "shape", "none": "no coordinate move"}
    for name, text in texts.items():
        with pytest.raises(UserError, match=text):
            open_mask(str(tmp_path / f"{name}.npy"), (2, 4), ids)


def graph(tmp_path, nodes, shape, weights=(), last="y"):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info(last, TensorProto.FLOAT, ["any"])],
        list(weights),
    )
    model = helper.make_model(
        made, opset_imports=[helper.make_opsetid("", 15)], ir_version=8
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    assert onnx.__version__
    return str(path)


def test_onnx_files_that_claim_terabytes_are_refused(tmp_path):
    pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    relu = helper.make_node("Relu", ["x"], ["y"])
    with pytest.raises(UserError, match="numbers"):
        load_onnx(graph(tmp_path, [relu], (1, 2**20, 2**20)))
    weight = TensorProto(
        dims=[2**20, 2**20], data_type=TensorProto.FLOAT, name="w", raw_data=bytes(16)
    )
    matmul = helper.make_node("MatMul", ["x", "w"], ["y"])
    with pytest.raises(UserError, match=r"not a valid model|cannot be read"):
        load_onnx(graph(tmp_path, [matmul], (1, 4), [weight]))
    doubling = [
        helper.make_node("Concat", [f"{i}"] * 2, [f"{i + 1}"], axis=1)
        for i in range(40)
    ]
    start = helper.make_node("Relu", ["x"], ["0"])
    with pytest.raises(UserError, match="numbers"):
        load_onnx(graph(tmp_path, [start, *doubling], (1, 4), last="40"))


def test_the_command_line_says_one_sentence(run_cli, tmp_path, model_file):
    bomb = tmp_path / "bomb.npz"
    bomb.write_bytes(DATA["huge.npz"][0])
    code, out, error = run_cli("attack", f"{model_file}:classifier", bomb, "--eps", 1)
    assert (code, out) == (1, "")
    assert error.startswith("error: DATA: ")
    assert len(error.strip().splitlines()) == 1


def test_the_limit_is_felt():
    """Else none of the above would say anything about memory."""
    with pytest.raises(RuntimeError, match="memory"):
        nn.Linear(2**15, 2**14)
