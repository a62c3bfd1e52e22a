"""The .onnx reader against onnx's own reference evaluator, operator by operator."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

from summiteer.data import load_model, load_onnx
from summiteer.errors import UserError
from summiteer.networks import PiecewiseLinear, recognise

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402
from onnx.reference import ReferenceEvaluator  # noqa: E402

from graphs import IMAGE, KERNEL, NORM, RNG, B, W, agree, node, save  # noqa: E402

SHARED = Path(
    os.environ.get("SUMMITEER_DATA", Path(__file__).parents[2] / "shared" / "data")
)
FC = SHARED / "vnncomp2021_mnistfc"

#: operator -> (attributes, weights by name in the operator's order, input shape)
FORMS = {
    "Gemm": ({"transB": 1}, {"w": W, "b": B}, ("n", 4)),
    "Gemm plain": ({}, {"w": W.T, "b": B}, ("n", 4)),
    "Gemm without bias": ({"transB": 1}, {"w": W}, ("n", 4)),
    "Gemm scaled": (
        {"transB": 1, "alpha": 0.5, "beta": -2.0},
        {"w": W, "b": B[None]},
        ("n", 4),
    ),
    "Gemm one bias": ({"transB": 1}, {"w": W, "b": B[:1]}, ("n", 4)),
    "MatMul": ({}, {"w": W.T}, ("n", 4)),
    "MatMul on the last of three": ({}, {"w": W.T}, ("n", 5, 4)),
    "Conv": ({}, {"w": KERNEL, "b": B[:4]}, IMAGE),
    "Conv without bias": ({}, {"w": KERNEL}, IMAGE),
    "Conv strides pads dilations": (
        {"strides": [2, 1], "pads": [1, 2, 1, 2], "dilations": [2, 1]},
        {"w": KERNEL, "b": B[:4]},
        IMAGE,
    ),
    "Conv groups": ({"group": 3}, {"w": RNG.normal(size=(6, 1, 2, 2))}, IMAGE),
    "Conv valid": ({"auto_pad": "VALID"}, {"w": KERNEL}, IMAGE),
    "Relu": ({}, {}, IMAGE),
    "LeakyRelu": ({"alpha": 0.25}, {}, IMAGE),
    "LeakyRelu usual": ({}, {}, IMAGE),
    "MaxPool": ({"kernel_shape": [2, 3], "strides": [2, 1]}, {}, IMAGE),
    "MaxPool padded": (
        {"kernel_shape": [3, 2], "pads": [1, 1, 1, 1], "dilations": [1, 2]},
        {},
        IMAGE,
    ),
    "AveragePool": ({"kernel_shape": [2, 3], "strides": [1, 2]}, {}, IMAGE),
    "AveragePool padded": ({"kernel_shape": [2, 2], "pads": [1, 1, 1, 1]}, {}, IMAGE),
    "AveragePool padding counted": (
        {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "count_include_pad": 1},
        {},
        IMAGE,
    ),
    "GlobalAveragePool": ({}, {}, IMAGE),
    "BatchNormalization": ({"epsilon": 0.25}, NORM, IMAGE),
    "BatchNormalization of rows": ({}, NORM, ("n", 3)),
    "Flatten": ({"axis": 1}, {}, IMAGE),
    "Flatten from behind": ({"axis": -3}, {}, IMAGE),
    "Flatten past a one": ({"axis": 2}, {}, ("n", 1, 5)),
    "Reshape flat": ({}, {"i": np.array([0, -1])}, IMAGE),
    "Reshape by its size": ({}, {"i": np.array([-1, 126])}, IMAGE),
    "Reshape to an image": ({}, {"i": np.array([-1, 6, 7, 3])}, IMAGE),
    "Reshape in part": ({}, {"i": np.array([0, 0, -1])}, IMAGE),
    "Identity then Relu": ({}, {}, IMAGE),
    "Sub": ({}, {"c": RNG.normal(size=(1, 3, 1, 1))}, IMAGE),
    "Mul": ({}, {"c": RNG.normal(size=(3, 1, 1))}, IMAGE),
    "Div": ({}, {"c": RNG.random(size=(1, 3, 1, 1)) + 0.5}, IMAGE),
    "Div by one number": ({}, {"c": np.array(0.25)}, IMAGE),
    "Add a constant": ({}, {"c": B[:4]}, ("n", 4)),
    "Sigmoid": ({}, {}, IMAGE),
    "Tanh": ({}, {}, IMAGE),
    "Softplus": ({}, {}, IMAGE),
    "Elu": ({"alpha": 0.5}, {}, IMAGE),
    "Selu": ({}, {}, IMAGE),
    "HardSigmoid": ({"alpha": 0.25, "beta": 0.375}, {}, IMAGE),
    "HardSwish": ({}, {}, IMAGE),
    "Clip": ({}, {"lo": np.array(0.0), "hi": np.array(0.5)}, IMAGE),
    "PRelu": ({}, {"c": RNG.normal(size=(3, 1, 1))}, IMAGE),
    "Softmax": ({"axis": -1}, {}, ("n", 4)),
    "LogSoftmax": ({"axis": 1}, {}, ("n", 4)),
    "GlobalMaxPool": ({}, {}, IMAGE),
    "Pad": ({}, {"i": np.array([0, 1, 0, 2, 0, 0, 3, 1])}, IMAGE),
    "Pad filled": (
        {},
        {"i": np.array([0, 0, 1, 0, 0, 2]), "c": np.array(0.5)},
        ("n", 3, 4),
    ),
    "Transpose": ({"perm": [0, 2, 3, 1]}, {}, IMAGE),
    "Squeeze": ({}, {"i": np.array([1, -1])}, ("n", 1, 5, 1)),
    "Unsqueeze": ({}, {"i": np.array([1, -1])}, ("n", 5, 3)),
    "Concat": ({"axis": -1}, {}, IMAGE),
}
#: What proofs know: the module's docstring says so.
PROOFS = {
    *("Add", "AveragePool", "BatchNormalization", "Conv", "Div", "Flatten", "Gemm"),
    *("GlobalAveragePool", "GlobalMaxPool", "Identity", "LeakyRelu", "MatMul"),
    *("MaxPool", "Mul", "Relu", "Reshape", "Squeeze", "Sub", "Unsqueeze"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_every_operator_agrees_with_the_reference(form, tmp_path):
    attributes, weights, shape = FORMS[form]
    nodes = [node(form.split()[0], *weights, **attributes)]
    if form == "Concat":
        nodes = [helper.make_node("Concat", ["x", "x"], ["y"], **attributes)]
    if form == "Identity then Relu":
        nodes.append(helper.make_node("Relu", ["y"], ["z"]))
    path = save(tmp_path / "m.onnx", nodes, weights, shape)
    # Attributes are float32 numbers; the weights and all arithmetic are float64.
    module = agree(path, shape)
    assert isinstance(module, nn.Sequential) == (form != "Concat")
    found = recognise(module, tuple(shape[1:]))
    exact = isinstance(found, PiecewiseLinear)
    known = form.split()[0] in PROOFS and form != "AveragePool padded"
    assert exact == known, getattr(found, "reason", "")
    single = save(tmp_path / "s.onnx", nodes, weights, shape, dtype=np.float32)
    agree(single, shape, np.float32, tolerance=2e-5)


def test_random_convolutional_chains_agree_with_the_reference(tmp_path):
    for seed in range(5):
        rng = np.random.default_rng(seed)
        c = int(rng.integers(1, 5))
        weights = {
            "k": rng.normal(size=(2 * c, 3, 3, 3)),
            "a": rng.normal(size=(2 * c)),
            "k2": rng.normal(size=(4, 2 * c, 2, 2)),
            "c": rng.normal(size=(1, 4, 1, 1)),
            "shape": np.array([1, -1]),
            "w": rng.normal(size=(4 * 4 * 4, 5)),
            "b": rng.normal(size=5),
        }
        make = helper.make_node
        nodes = [
            make("Conv", ["x", "k", "a"], ["1"], pads=[1, 1, 1, 1]),
            make("LeakyRelu", ["1"], ["2"], alpha=0.125),
            make("MaxPool", ["2"], ["3"], kernel_shape=[2, 2], strides=[2, 2]),
            make("Conv", ["3", "k2"], ["4"]),
            make("Add", ["c", "4"], ["5"]),
            make("Dropout", ["5"], ["6"]),
            make("Relu", ["6"], ["7"]),
            make("Reshape", ["7", "shape"], ["8"]),
            make("MatMul", ["8", "w"], ["9"]),
            make("Add", ["9", "b"], ["10"]),
        ]
        path = save(tmp_path / "m.onnx", nodes, weights, (1, 3, 10, 10))
        module = agree(path, (1, 3, 10, 10), rows=1)
        kinds = [type(layer).__name__ for layer in module]
        assert kinds[-2:] == ["Flatten", "Linear"]
        assert module[-1].bias is not None
        # A file with a batch of one is a network for any number of rows.
        rows = torch.randn(4, 3, 10, 10, dtype=torch.float64)
        together = module(rows)
        assert torch.allclose(together, torch.cat([module(r[None]) for r in rows]))


def residual(tmp_path, **options):
    rng = np.random.default_rng(3)
    weights = {
        "k": rng.normal(size=(3, 3, 3, 3)),
        "k2": rng.normal(size=(3, 3, 1, 1)),
        "w": rng.normal(size=(2, 75)),
    }
    make = helper.make_node
    nodes = [
        make("Conv", ["x", "k"], ["1"], pads=[1, 1, 1, 1]),
        make("Relu", ["1"], ["2"]),
        make("Conv", ["2", "k2"], ["3"]),
        make("Add", ["x", "3"], ["4"]),
        make("Add", ["4", "2"], ["5"]),
        make("Relu", ["5"], ["6"]),
        make("Erf", ["6"], ["unused"])
        if options.get("bad")
        else make("Relu", ["6"], ["unused"]),
        make("Flatten", ["6"], ["7"]),
        make("Gemm", ["7", "w"], ["8"], transB=1),
    ]
    return save(tmp_path / "r.onnx", nodes, weights, ("n", 3, 5, 5))


def test_residual_additions_agree_and_can_be_traced_and_copied(tmp_path):
    import copy

    module = agree(residual(tmp_path), ("n", 3, 5, 5))
    traced = fx.symbolic_trace(module)
    names = [n.target.__name__ for n in traced.graph.nodes if n.op == "call_function"]
    assert names == ["add", "add"]
    inputs = torch.randn(2, 3, 5, 5, dtype=torch.float64)
    assert torch.equal(traced(inputs), module(inputs))
    assert torch.equal(copy.deepcopy(module).double()(inputs), module(inputs))


def test_unknown_operators_are_named_with_what_is_known(tmp_path):
    path = save(tmp_path / "m.onnx", [node("Erf")], {}, ("n", 4))
    with pytest.raises(UserError, match=r"Erf \(node 'it'\).*known are Add,.*Relu"):
        load_model(str(path))
    residual_path = residual(tmp_path, bad=True)
    with pytest.raises(UserError, match="Erf"):
        load_model(str(residual_path))


def test_a_bias_is_not_added_where_others_read_the_value_without_it(tmp_path):
    make = helper.make_node
    nodes = [
        make("MatMul", ["x", "w"], ["1"]),
        make("Add", ["1", "b"], ["2"]),
        make("Add", ["1", "2"], ["3"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {"w": W.T, "b": B}, ("n", 4))
    agree(path, ("n", 4))


def test_constants_on_the_left_and_values_side_by_side(tmp_path):
    make = helper.make_node
    nodes = [
        make("Sub", ["b", "x"], ["1"]),
        make("Mul", ["c", "1"], ["2"]),
        make("Relu", ["2"], ["3"]),
        make("Concat", ["3", "x", "1"], ["4"], axis=1),
        make("MatMul", ["4", "w"], ["5"]),
    ]
    weights = {"b": B[:4], "c": W[0], "w": RNG.normal(size=(12, 3))}
    module = agree(save(tmp_path / "m.onnx", nodes, weights, ("n", 4)), ("n", 4))
    assert not isinstance(recognise(module, (4,)), PiecewiseLinear)


def test_older_operator_sets_have_attributes_for_inputs(tmp_path):
    make = helper.make_node
    nodes = [
        make("Clip", ["x"], ["1"], min=-0.5, max=0.25),
        make("Unsqueeze", ["1"], ["2"], axes=[1]),
        make("Pad", ["2"], ["3"], pads=[0, 1, 0, 0, 0, 1], value=0.5),
        make("Flatten", ["3"], ["4"]),
        make("Softmax", ["4"], ["5"]),
    ]
    path = save(tmp_path / "m.onnx", nodes, {}, ("n", 4), opset=10)
    read = load_onnx(str(path)).module
    inputs = torch.randn(3, 4, dtype=torch.float64)
    wide = torch.nn.functional.pad(
        inputs.clamp(-0.5, 0.25)[:, None], (0, 1, 1, 0), value=0.5
    )
    assert torch.allclose(read(inputs), wide.flatten(1).softmax(1), rtol=0, atol=1e-15)


def test_gelu_agrees_in_both_forms(tmp_path):
    for kind in ("none", "tanh"):
        made = [node("Gelu", approximate=kind)]
        path = save(tmp_path / "m.onnx", made, {}, ("n", 4), opset=20)
        # The reference has its constants in float32.
        agree(path, ("n", 4), tolerance=1e-7)


def test_a_classifier_with_its_normalisation_is_proved_about(tmp_path):
    make = helper.make_node
    nodes = [
        make("Sub", ["x", "m"], ["1"]),
        make("Div", ["1", "s"], ["2"]),
        make("Conv", ["2", "k"], ["3"]),
        make("Relu", ["3"], ["4"]),
        make("GlobalAveragePool", ["4"], ["5"]),
        make("Flatten", ["5"], ["6"]),
    ]
    weights = {"m": RNG.random((1, 3, 1, 1)), "s": RNG.random((1, 3, 1, 1)) + 0.1}
    weights["k"] = KERNEL
    path = save(tmp_path / "m.onnx", nodes, weights, IMAGE)
    module = agree(path, IMAGE)
    assert isinstance(recognise(module, (3, 7, 6)), PiecewiseLinear)


def test_constants_may_be_nodes(tmp_path):
    make = helper.make_node
    weight = numpy_helper.from_array(W.T, "w")
    nodes = [
        make("Constant", [], ["w"], value=weight),
        make("Identity", ["w"], ["same"]),
        make("Constant", [], ["i"], value_ints=[0, 4]),
        make("Reshape", ["x", "i"], ["flat"]),
        make("MatMul", ["flat", "same"], ["y"]),
    ]
    agree(save(tmp_path / "m.onnx", nodes, {}, ("n", 2, 2)), ("n", 2, 2))


def external(path, location):
    """Store the weights of a saved model elsewhere."""
    model = onnx.load(path)
    tensor = model.graph.initializer[0]
    raw = numpy_helper.to_array(tensor).tobytes()
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    entry = tensor.external_data.add()
    entry.key, entry.value = "location", location
    path.write_bytes(model.SerializeToString())
    return raw


def test_external_data_come_from_the_files_own_folder_only(tmp_path):
    home = tmp_path / "home"
    home.mkdir()
    nodes = [node("MatMul", "w")]
    path = save(home / "m.onnx", nodes, {"w": W.T}, ("n", 4))
    raw = external(path, "w.bin")
    (home / "w.bin").write_bytes(raw)
    read = load_onnx(str(path)).module
    assert np.array_equal(read[0].weight.detach().numpy(), W)
    (tmp_path / "outside.bin").write_bytes(raw)
    (home / "link.bin").symlink_to(tmp_path / "outside.bin")
    outside = ("../outside.bin", str(tmp_path / "outside.bin"), "link.bin", "no.bin")
    for location in outside:
        save(path, nodes, {"w": W.T}, ("n", 4))
        external(path, location)
        with pytest.raises(UserError, match=r"own folder|not a valid model"):
            load_onnx(str(path))


def test_what_is_no_onnx_file_is_refused(tmp_path):
    whole = residual(tmp_path).read_bytes()
    file = tmp_path / "m.onnx"
    for content in (b"", b"not onnx at all", whole[:200], whole[: len(whole) // 2]):
        file.write_bytes(content)
        with pytest.raises(UserError, match=r"m\.onnx"):
            load_model(str(file))
    with pytest.raises(UserError, match="does not exist"):
        load_model(str(tmp_path / "absent.onnx"))
    with pytest.raises(UserError, match="--weights"):
        load_model(str(tmp_path / "r.onnx"), "w.pt")


def test_without_the_package_the_extra_is_named(tmp_path):
    file = tmp_path / "m.onnx"
    file.write_bytes(b"")
    code = (
        "import sys; sys.modules['onnx'] = None\n"
        "from summiteer.data import load_data, load_model\n"
        "try: load_model(sys.argv[1])\n"
        "except Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(file)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("UserError ")
    assert "summiteer[onnx]" in done.stdout


@pytest.mark.parametrize("depth", [2, 4, 6])
def test_the_mnistfc_networks_agree_with_the_reference(depth):
    path = FC / f"mnist-net_256x{depth}.onnx"
    if not path.is_file():
        pytest.skip(f"{path} is absent")
    read = load_onnx(str(path))
    assert read.input_shape == (784, 1)
    kinds = ["Flatten", *["Linear", "ReLU"] * depth, "Linear"]
    assert [type(layer).__name__ for layer in read.module] == kinds
    evaluator = ReferenceEvaluator(str(path))
    name = evaluator.input_names[0]
    inputs = np.random.default_rng(0).random((20, 784, 1)).astype(np.float32)
    wanted = np.concatenate([evaluator.run(None, {name: x[None]})[0] for x in inputs])
    with torch.no_grad():
        got = read.module(torch.from_numpy(inputs)).numpy()
        size = torch.from_numpy(inputs).double().flatten(1)
        for layer in read.module.double():
            if isinstance(layer, nn.Linear):
                size = size @ layer.weight.abs().T + layer.bias.abs()
    assert wanted.dtype == got.dtype == np.float32
    # Two float32 evaluations of one network, each with running error at most
    # γ_n Σ|W||…||W||x| with n the number of roundings along a path.
    terms = 785 + 257 * depth + 1
    bound = 2 * terms * 2.0**-24 * size.numpy()
    assert (np.abs(got - wanted) <= bound).all()
    # The bound is a worst case; the usual error is far below one part in 10⁵.
    assert np.abs(got - wanted).max() <= 1e-5 * np.abs(wanted).max()
