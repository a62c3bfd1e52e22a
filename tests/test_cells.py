"""Canonical JSON, digests, cells and the serial engine."""

import copy
import hashlib
import json
import pickle
from enum import StrEnum
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from summiteer.cells import Cell, canonical_json, digest, digest_arrays
from summiteer.engine import Measurement, Serial

DOCUMENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=12,
)


class Norm(StrEnum):
    L2 = "l2"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"b": 1, "a": [True, None]}, '{"a":[true,null],"b":1}'),
        ((1, (2, ((3,),))), "[1,[2,[[3]]]]"),
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1, "1"),
        (1.0, "1.0"),
        (True, "true"),
        (0.1 + 0.2, "0.30000000000000004"),
        (5e-324, "5e-324"),
        (2**200, str(2**200)),
        (np.float64(0.1), "0.1"),
        (np.float32(0.1), "0.10000000149011612"),
        (np.int64(-3), "-3"),
        (np.bool_(True), "true"),
        (np.str_("x"), '"x"'),
        (Norm.L2, '"l2"'),
        ("λ\ud800", '"\\u03bb\\ud800"'),
    ],
)
def test_canonical_json_writes_one_text_per_value(value, text):
    assert canonical_json(value) == text


@settings(max_examples=50, deadline=None)
@given(DOCUMENTS)
def test_canonical_json_is_read_back_and_is_stable(document):
    text = canonical_json(document)
    assert json.loads(text) == document
    assert canonical_json(json.loads(text)) == text


@pytest.mark.parametrize("number", [float("nan"), float("inf"), np.float32("-inf")])
def test_canonical_json_refuses_what_is_not_finite(number):
    with pytest.raises(ValueError, match=r"value\['loss'\]\[1\] is -?(nan|inf)"):
        canonical_json({"loss": [1.0, number]})


@pytest.mark.parametrize(
    "foreign",
    [{1, 2}, b"x", Path("x"), 1j, object(), np.zeros(2), torch.tensor(1.0)],
)
def test_canonical_json_names_where_a_foreign_type_is(foreign):
    kind = type(foreign).__name__
    with pytest.raises(TypeError, match=rf"value\['a'\]\[0\]\['b'\] is a {kind}"):
        canonical_json({"a": [{"b": foreign}]})


@pytest.mark.parametrize("number", [np.longdouble(1), np.timedelta64(1, "s")])
def test_canonical_json_refuses_numpy_scalars_that_json_cannot_hold(number):
    with pytest.raises(TypeError, match="value is a"):
        canonical_json(number)


def test_canonical_json_refuses_keys_that_are_not_strings():
    with pytest.raises(TypeError, match=r"value\['a'\] has the key 1"):
        canonical_json({"a": {1: "x"}})


def test_digest_is_the_head_of_the_sha256():
    whole = hashlib.sha256(b'{"a":[1,2.5]}').hexdigest()
    assert digest({"a": (1, 2.5)}) == whole[:16]


def test_digest_arrays_sees_content_only():
    values = np.arange(6, dtype=np.float32).reshape(2, 3)
    first = digest_arrays({"x": values, "y": np.array(1)})
    strided = np.repeat(values, 2, axis=1)[:, ::2]
    assert not strided.flags.c_contiguous
    readonly = values.copy()
    readonly.setflags(write=False)
    for same in (
        torch.from_numpy(values.copy()).requires_grad_(),
        torch.from_numpy(values.T.copy()).T,
        strided,
        values[::-1].copy()[::-1],
        values.astype(">f4"),
        readonly,
    ):
        assert digest_arrays({"y": torch.tensor(1), "x": same}) == first


def test_digest_arrays_tells_names_dtypes_shapes_and_bits_apart():
    zeros = torch.zeros(2, 2)
    different = [
        {"x": zeros},
        {"y": zeros},
        {"x": zeros.reshape(4)},
        {"x": zeros.int()},
        {"x": -zeros},
        {"x": zeros.bfloat16()},
        {"x": zeros.half()},
        {"x": zeros[:0]},
        {"x": zeros[:0].T},
        {},
    ]
    assert len({digest_arrays(arrays) for arrays in different}) == len(different)


def test_digest_arrays_refuses_objects():
    with pytest.raises(TypeError):
        digest_arrays({"x": np.array([None, "a"])})


def make_cell():
    return Cell("attack", {"block": [0, 64], "start": {"seed": 0}})


def test_a_cell_is_named_by_kind_and_spec():
    cell = make_cell()
    assert cell.name == digest(["attack", {"block": [0, 64], "start": {"seed": 0}}])
    assert cell == Cell("attack", {"start": {"seed": 0}, "block": (0, 64)})
    assert len({cell, make_cell(), Cell("audit", cell.spec), Cell("a", {})}) == 3
    assert Cell("a", {"x": 1}) != Cell("a", {"x": 1.0})
    assert cell != cell.name


def test_a_cell_cannot_be_changed():
    spec = {"block": [0, 64], "start": {"seed": 0}}
    cell = Cell("attack", spec)
    spec["block"][0] = 1
    spec["start"]["seed"] = 1
    assert cell == make_cell()
    assert cell.spec["block"] == (0, 64)
    with pytest.raises(TypeError):
        cell.spec["start"]["seed"] = 1
    with pytest.raises(AttributeError):
        cell.kind = "audit"


def test_a_cell_can_be_pickled_and_copied():
    cell = make_cell()
    for twin in (pickle.loads(pickle.dumps(cell)), copy.deepcopy(cell)):
        assert twin == cell
        assert twin.kind == cell.kind
        assert twin.spec == cell.spec


def test_names_stay_the_same_from_version_to_version():
    assert Cell("a", {"b": [0.1, None], "λ": -0.0}).name == "fc0d121ef12798ec"
    assert digest_arrays({"x": np.arange(3.0)}) == "69b9245e5a79a0d8"


def test_the_engine_hands_out_every_cell_with_its_result():
    cells = [Cell("square", {"x": x}) for x in range(4)]
    done = Serial().map_cells(squared, cells)
    assert [(each.cell.spec["x"], each.measurement.record["y"]) for each in done] == [
        (0, 0),
        (1, 1),
        (2, 4),
        (3, 9),
    ]


def squared(cell):
    return Measurement({"y": cell.spec["x"] ** 2})


def test_the_engine_lets_an_interrupt_through_after_the_finished_cells():
    def stop_at_two(cell):
        if cell.spec["x"] == 2:
            raise KeyboardInterrupt
        return squared(cell)

    done = []

    def drive():
        cells = [Cell("a", {"x": x}) for x in range(4)]
        for each in Serial().map_cells(stop_at_two, cells):
            done.append(each.measurement.record["y"])

    with pytest.raises(KeyboardInterrupt):
        drive()
    assert done == [0, 1]
