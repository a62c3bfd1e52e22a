"""Forms of ONNX operators that are not known: refused by name, in one sentence."""

import numpy as np
import pytest

from summiteer.data import load_model
from summiteer.errors import UserError

pytest.importorskip("onnx")
from onnx import helper

from graphs import IMAGE, KERNEL, RNG, B, W, node, save

REFUSED = {
    "Gemm transA": (node("Gemm", "w", transA=1), {"w": W}, ("n", 4), "mix examples"),
    "Gemm of two inputs": (node("Gemm", "x"), {}, ("n", 4), "constants"),
    "MatMul left": (
        helper.make_node("MatMul", ["w", "x"], ["y"], name="it"),
        {"w": W},
        (4, 4),
        "all but its first input",
    ),
    "MatMul of another width": (node("MatMul", "w"), {"w": W}, ("n", 4), "4.*6|6.*4"),
    "Conv pads": (
        node("Conv", "w", pads=[0, 0, 1, 1]),
        {"w": KERNEL},
        IMAGE,
        "equal pads",
    ),
    "Conv same": (
        node("Conv", "w", auto_pad="SAME_UPPER"),
        {"w": KERNEL},
        IMAGE,
        "explicit pads",
    ),
    "Conv in one dimension": (
        node("Conv", "w"),
        {"w": RNG.normal(size=(2, 3, 2))},
        ("n", 3, 7),
        "in 4 dimensions",
    ),
    "Conv channels": (node("Conv", "w"), {"w": KERNEL[:, :2]}, IMAGE, "channels"),
    "Conv bias": (
        node("Conv", "w", "b"),
        {"w": KERNEL, "b": B},
        IMAGE,
        r"bias has the shape \[6\] where \[4\]",
    ),
    "MaxPool ceil": (
        node("MaxPool", kernel_shape=[2, 2], ceil_mode=1),
        {},
        IMAGE,
        "ceil_mode",
    ),
    "MaxPool 1-d": (node("MaxPool", kernel_shape=[2]), {}, ("n", 3, 7), "channels"),
    "Flatten all": (node("Flatten", axis=0), {}, IMAGE, "mix examples"),
    "Flatten late": (node("Flatten", axis=2), {}, IMAGE, "mix examples"),
    "Reshape the batch": (
        node("Reshape", "i"),
        {"i": np.array([-1, 21])},
        IMAGE,
        "126 numbers",
    ),
    "Reshape to a vector": (
        node("Reshape", "i"),
        {"i": np.array([-1])},
        IMAGE,
        "126 numbers",
    ),
    "Add a constant": (node("Add", "b"), {"b": B[:3]}, ("n", 4), "fits one example"),
    "Sub per example": (node("Sub", "b"), {"b": B[:3, None]}, (3, 4), "fits one"),
    "Div by zero": (node("Div", "b"), {"b": 0 * B[:4]}, ("n", 4), "by zero"),
    "Div by the input": (
        helper.make_node("Div", ["b", "x"], ["y"], name="it"),
        {"b": B[:4]},
        ("n", 4),
        "all but its first",
    ),
    "Transpose the batch": (node("Transpose"), {}, ("n", 4), "batch to stay"),
    "Softmax of channels": (node("Softmax", axis=1), {}, IMAGE, "last axis"),
    "Pad the batch": (
        node("Pad", "i"),
        {"i": np.array([1, 0, 0, 0])},
        ("n", 4),
        "each axis but the batch",
    ),
    "Pad without end": (
        node("Pad", "i"),
        {"i": np.array([0, 0, 0, 2**40])},
        ("n", 4),
        "more than",
    ),
    "Pad mirrored": (
        node("Pad", "i", mode="reflect"),
        {"i": np.array([0, 1, 0, 1])},
        ("n", 4),
        "mode = constant",
    ),
    "Squeeze what is wide": (
        node("Squeeze", "i"),
        {"i": np.array([1])},
        ("n", 4, 2),
        "not of size 1",
    ),
    "Add with broadcasting": (
        helper.make_node("Add", ["x", "x"], ["y"], name="it"),
        {},
        ("n",),
        "fixed sizes",
    ),
    "free size": (node("Relu"), {}, ("n", 3, "h", 4), "fixed sizes after the first"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_forms_that_are_not_known_are_refused_with_one_sentence(case, tmp_path):
    made, weights, shape, text = REFUSED[case]
    path = save(tmp_path / "m.onnx", [made], weights, shape)
    with pytest.raises(UserError, match=text) as caught:
        load_model(str(path))
    assert "m.onnx" in str(caught.value)
    assert "\n" not in str(caught.value)
