"""ONNX graphs for tests, and onnx's own reference evaluator to hold them to."""

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from summiteer.data import load_onnx

TYPES = {np.float32: TensorProto.FLOAT, np.float64: TensorProto.DOUBLE}


def save(path, nodes, weights, shape, output=None, opset=15, dtype=np.float64):
    """A model whose input is x; weights are float arrays in `dtype`, or int64.

    The reference's BatchNormalization of the operator sets 9 to 13 trains: hence 15.
    """
    stored = [
        numpy_helper.from_array(w if w.dtype == np.int64 else w.astype(dtype), name)
        for name, w in weights.items()
    ]
    kind = TYPES[dtype]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", kind, shape)],
        [helper.make_tensor_value_info(output or nodes[-1].output[0], kind, ["any"])],
        stored,
    )
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8
    )
    onnx.save(model, path)
    return path


def agree(path, shape, dtype=np.float64, rows=3, tolerance=1e-12):
    """The module that was read, held to the reference evaluator at random inputs."""
    read = load_onnx(str(path))
    assert read.input_shape == tuple(shape[1:])
    assert not read.module.training
    inputs = np.random.default_rng(1).normal(size=(rows, *shape[1:])).astype(dtype)
    wanted = ReferenceEvaluator(str(path)).run(None, {"x": inputs})[0]
    with torch.no_grad():
        got = read.module(torch.from_numpy(inputs)).numpy()
    assert got.dtype == wanted.dtype == dtype
    assert got.shape == wanted.shape
    assert np.abs(got - wanted).max() <= tolerance * max(1.0, np.abs(wanted).max())
    assert np.abs(wanted).max() > 0
    return read.module


def node(kind, *inputs, out="y", **attributes):
    return helper.make_node(kind, ["x", *inputs], [out], name="it", **attributes)


RNG = np.random.default_rng(0)
W, B = RNG.normal(size=(6, 4)), RNG.normal(size=6)
KERNEL = RNG.normal(size=(4, 3, 3, 2))
IMAGE = ("n", 3, 7, 6)
NORM = {"s": RNG.normal(size=3), "o": RNG.normal(size=3), "m": RNG.normal(size=3)}
NORM["v"] = RNG.random(3) + 0.1
