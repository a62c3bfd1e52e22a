"""VNN-LIB properties: exact boxes, exact violations, and one-sentence refusals."""

import gzip
import json
import os
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from summiteer.data import load_property
from summiteer.errors import UserError
from summiteer.store import Store
from summiteer.violation import property_margins, property_problem

SHARED = Path(
    os.environ.get("SUMMITEER_DATA", Path(__file__).parents[2] / "shared" / "data")
)
FC = SHARED / "vnncomp2021_mnistfc"


def text_of(bounds, output="(assert (>= Y_1 Y_0))", outputs=2):
    lines = [f"(declare-const X_{i} Real)" for i in range(len(bounds))]
    lines += [f"(declare-const Y_{i} Real)" for i in range(outputs)]
    for i, (low, high) in enumerate(bounds):
        lines += [f"(assert (<= X_{i} {high}))", f"(assert (>= X_{i} {low}))"]
    return "\n".join([*lines, output])


@pytest.fixture
def read(tmp_path):
    def load(text):
        (tmp_path / "p.vnnlib").write_text(text)
        return load_property(str(tmp_path / "p.vnnlib"))

    return load


BOX = [("0", "0.5"), ("-1e-1", "0.25")]


def test_a_property_is_read_plain_and_packed(tmp_path, read):
    either = "(assert (or (and (>= Y_0 Y_2)) ; a comment\n (<= Y_2 Y_1)))"
    text = "; Mnist property with label: 2.\n" + text_of(BOX, either, 3)
    claim = read(text)
    assert (claim.label, claim.rivals, claim.outputs) == (2, (0, 1), 3)
    assert claim.upper.tolist() == [0.5, 0.25]
    # 0.1 lies below the float64 nearest to it, so the bound -0.1 above -that.
    assert claim.lower.tolist() == [0.0, -0.09999999999999999]
    packed = tmp_path / "p.vnnlib.gz"
    packed.write_bytes(gzip.compress(text.encode()))
    again = load_property(str(packed))
    assert torch.equal(again.lower, claim.lower)
    assert again.name == str(packed)


@pytest.mark.parametrize(
    ("output", "label", "rivals"),
    [
        ("(assert (>= Y_1 Y_0))", 0, (1,)),
        ("(assert (<= Y_1 Y_0))", 1, (0,)),
        ("(assert (or (>= Y_1 Y_0)))", 0, (1,)),
        ("(assert (and (>= Y_1 Y_0)))", 0, (1,)),
        ("(assert (or (or (>= Y_2 Y_0)) (<= Y_0 Y_1)))", 0, (1, 2)),
    ],
)
def test_forms_of_a_violation(output, label, rivals, read):
    claim = read(text_of(BOX, output, 3))
    assert (claim.label, claim.rivals) == (label, rivals)


def test_bounds_may_be_joined_turned_and_repeated(read):
    text = (
        "(declare-const X_0 Real)(declare-const Y_0 Real)(declare-const Y_1 Real)"
        "(assert (and (<= 0.25 X_0) (and (<= X_0 0.75) (>= 0.5 X_0))))"
        "(assert (>= X_0 -3.))(assert (>= Y_0 Y_1))"
    )
    claim = read(text)
    assert (claim.lower.tolist(), claim.upper.tolist()) == ([0.25], [0.5])


DECIMALS = st.decimals(-4, 4, places=20) | st.decimals(-4, 4, places=3)
TINY = st.builds(lambda m, e: f"{m}e{e}", st.integers(-999, 999), st.integers(-60, 2))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(DECIMALS | TINY, DECIMALS | TINY), min_size=1, max_size=6),
    st.sampled_from([torch.float32, torch.float64]),
    st.integers(0, 2**32 - 1),
)
def test_no_perturbation_leaves_the_decimal_box_even_after_rounding(
    tmp_path_factory, pairs, dtype, seed
):
    exact = [sorted(map(Fraction, map(str, pair))) for pair in pairs]
    words = [sorted(map(str, pair), key=Fraction) for pair in pairs]
    file = tmp_path_factory.mktemp("v") / "p.vnnlib"
    file.write_text(text_of(words))
    claim = load_property(str(file))
    for bound, wanted, side in (
        (claim.lower, [low for low, _ in exact], 1),
        (claim.upper, [high for _, high in exact], -1),
    ):
        for got, want in zip(bound.tolist(), wanted, strict=True):
            beyond = float(np.nextafter(got, -side * np.inf))
            assert side * (Fraction(got) - want) >= 0
            assert side * (Fraction(beyond) - want) < 0
    try:
        centre, lower, upper = claim.around(dtype)
    except UserError:
        kind = np.float32 if dtype == torch.float32 else np.float64
        # Then some interval really holds no number: none beside its middle.
        kind = np.float32 if dtype == torch.float32 else np.float64
        assert any(
            all(
                not low <= Fraction(float(near)) <= high
                for middle in [kind(float((low + high) / 2))]
                for near in [middle, *(np.nextafter(middle, kind(s)) for s in (-9, 9))]
            )
            for low, high in exact
        )
        return
    assert centre.dtype == lower.dtype == upper.dtype == dtype
    generator = torch.Generator().manual_seed(seed)
    share = torch.rand(len(pairs), generator=generator, dtype=dtype)
    for delta in (lower, upper, lower + (upper - lower) * share, 0 * lower):
        delta = delta.clamp(lower, upper)
        moved = (centre + delta, (centre.double() + delta.double()))
        for i, (low, high) in enumerate(exact):
            points = [Fraction(float(centre[i])) + Fraction(float(delta[i]))]
            points += [Fraction(float(values[i])) for values in moved]
            assert all(low <= point <= high for point in points)
    # And the box is not made smaller than that: one step on leaves the dtype's box.
    low, high = claim.limits(dtype)
    for i in range(len(pairs)):
        before = float(torch.nextafter(lower[i], lower[i] - 1))
        after = float(torch.nextafter(upper[i], upper[i] + 1))
        assert Fraction(float(centre[i])) + Fraction(before) < Fraction(float(low[i]))
        assert Fraction(float(centre[i])) + Fraction(after) > Fraction(float(high[i]))


GOOD = text_of(BOX)
REFUSED = {
    "(assert (>= Y_1 Y_0))\n(assert (>= Y_1 Y_0))": "this is another",
    "(assert (and (>= Y_1 Y_0) (>= Y_2 Y_0)))": "(and (>= Y_1 Y_0) (>= Y_2 Y_0))",
    "(assert (or (>= Y_1 Y_0) (>= Y_0 Y_1)))": "same Y_label",
    "(assert (>= Y_1 Y_1))": "(>= Y_1 Y_1)",
    "(assert (>= Y_1 0.5))": "(>= Y_1 0.5)",
    "(assert (> Y_1 Y_0))": "(> Y_1 Y_0)",
    "(assert (>= Y_1 X_0))": "(>= Y_1 X_0)",
    "(assert (>= Y_1 Y_7))": "Y_7 is not declared",
    "(assert (>= (+ Y_1 Y_2) Y_0))": "(+ Y_1 Y_2)",
    "(assert (or))": "(or)",
    "(assert (or (and (<= X_0 1)) (>= Y_1 Y_0)))": "not understood",
    "(assert (<= X_0 one))(assert (>= Y_1 Y_0))": "decimal number",
    "(assert (<= X_0 1e999))(assert (>= Y_1 Y_0))": "moderate size",
    "(assert (<= X_0 X_1))(assert (>= Y_1 Y_0))": "(<= X_0 X_1)",
    "(assert (not (<= X_0 1)))(assert (>= Y_1 Y_0))": "(not (<= X_0 1))",
    "(assert (<= X_0 -1))(assert (>= Y_1 Y_0))": "the box is empty",
    "(declare-const X_9 Real)(assert (>= Y_1 Y_0))": "without gaps",
    "(declare-const X_2 Real)(assert (>= Y_1 Y_0))": "X_2 no lower bound",
    "(declare-const X_a Real)": "X_a",
    "(declare-const X_2 Int)": "(declare-const X_2 Int)",
    "(set-logic QF_LRA)": "(set-logic QF_LRA)",
    "stray": "stray",
    "": "nothing about outputs",
    "(assert (>= Y_1 Y_0)": "ends before its brackets",
    "(assert (>= Y_1 Y_0)))": ") too many",
    "(" * 50_000 + ")" * 50_000: "((((((",
}


@pytest.mark.parametrize("output", REFUSED, ids=lambda text: text[:40])
def test_what_is_not_understood_is_quoted(output, read):
    with pytest.raises(UserError, match=re.escape(REFUSED[output])) as caught:
        read(text_of(BOX, output, 3))
    assert "p.vnnlib" in str(caught.value)
    assert len(str(caught.value)) < 400


def test_files_that_are_no_text_are_refused(tmp_path):
    (tmp_path / "p.vnnlib").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "p.vnnlib.gz").write_bytes(b"plain")
    for name, text in (
        ("p.vnnlib", "not a text file"),
        ("p.vnnlib.gz", "cannot be read"),
        ("absent.vnnlib", "does not exist"),
    ):
        with pytest.raises(UserError, match=text):
            load_property(str(tmp_path / name))


def test_an_interval_without_a_number_of_the_dtype_is_named(read):
    claim = read(text_of([("0", "1"), ("0.1", "0.10000000001")]))
    with pytest.raises(UserError, match=r"no torch.float32 number .* of X_1"):
        claim.around(torch.float32)
    claim.around(torch.float64)


def linear(weight):
    layer = nn.Linear(len(weight[0]), len(weight), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
    return layer


def test_only_the_named_rivals_count(read):
    model = linear([[0.0, 0.0], [-1.0, -1.0], [9.0, 9.0]])
    bounds = [("0.25", "0.5")] * 2
    narrow = read(text_of(bounds, "(assert (>= Y_1 Y_0))", 3))
    problem = property_problem(model, narrow)
    assert problem.inputs.dtype == torch.float64
    value = problem.rows().value(torch.zeros_like(problem.inputs))
    assert float(value.loss) == pytest.approx(-0.75)  # Y_2, the largest, is no rival
    assert not bool(value.wrong)
    assert not property_margins(model, narrow, problem.inputs).violated
    wide = read(text_of(bounds, "(assert (or (>= Y_1 Y_0) (>= Y_2 Y_0)))", 3))
    assert property_margins(model, wide, problem.inputs).rival == 2
    assert bool(property_problem(model, wide).rows().value(0 * problem.inputs).wrong)


def test_a_tie_violates_and_a_point_outside_does_not(read):
    claim = read(text_of([("0", "1")]))
    model = linear([[1.0], [1.0]])
    at = property_margins(model, claim, torch.tensor([[0.5]], dtype=torch.float64))
    assert (at.margin, at.own, at.violated) == (0.0, 0.0, True)
    outside = torch.tensor([[1.0 + 2.0**-52]], dtype=torch.float64)
    assert not property_margins(model, claim, outside).violated


def test_a_violation_in_float32_alone_is_none(read):
    # 1 + 2⁻³⁰ is 1 in float32, so the outputs tie there and only there.
    class Sums(nn.Module):
        def __init__(self):
            super().__init__()
            self.tiny = nn.Parameter(torch.tensor(2.0**-30))

        def forward(self, inputs):
            one = torch.ones_like(inputs)
            return torch.cat([one + self.tiny, one], 1)

    claim = read(text_of([("0", "1")]))
    at = property_margins(Sums(), claim, torch.tensor([[0.5]], dtype=torch.float64))
    assert (at.margin, at.own, at.violated) == (-(2.0**-30), 0.0, False)


def test_a_property_of_another_size_is_refused(read):
    claim = read(text_of(BOX))
    with pytest.raises(
        UserError, match=r"declares 2 inputs, but the model takes \[3\]"
    ):
        property_problem(linear([[1.0] * 3] * 2), claim, (3,))
    with pytest.raises(UserError, match="declares 2 outputs"):
        property_problem(linear([[1.0] * 2] * 3), claim)
    point = read(text_of([("0.5", "0.5")]))
    with pytest.raises(UserError, match="one point"):
        property_problem(linear([[1.0]] * 2), point)


@pytest.fixture
def saved(tmp_path):
    """An .onnx file: Y_0 = 1, Y_1 = X_0 + X_1, input [1, 2, 1]."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    weight = np.array([[0, 0], [1, 1]], np.float32)
    arrays = {"w": weight, "b": np.array([1, 0], np.float32)}
    graph = helper.make_graph(
        [
            helper.make_node("Flatten", ["x"], ["f"]),
            helper.make_node("Gemm", ["f", "w", "b"], ["y"], transB=1),
        ],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 2, 1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 2])],
        [numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    path = tmp_path / "m.onnx"
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), path)
    return path


def test_the_command_finds_a_violation_and_writes_it_down(tmp_path, saved, run_cli):
    file, out = tmp_path / "p.vnnlib", tmp_path / "run"
    # X_0 + X_1 reaches 1 at the one corner only: a tie, which counts.
    file.write_text(text_of([("0", "0.5"), ("0.25", "0.5")]))
    arguments = ("attack", saved, "--property", file, "--out", out)
    code, printed, error = run_cli(*arguments)
    assert code == 0, error
    assert "violated: Y_1 >= Y_0 by 0 (float64; 0 in the model's own" in printed
    result = json.loads((out / "result.json").read_text())
    assert result["robust_accuracy"] == 0.0
    assert result["property"]["violated"] is True
    assert result["region"] == {"norm": "box", "radius": 0.25, "box": None}
    witness = (out / "counterexample.txt").read_text()
    assert witness == "((X_0 0.5)\n (X_1 0.5)\n (Y_0 1.0)\n (Y_1 1.0))\n"
    again, document, _ = run_cli(*arguments, "--json")
    assert (again, json.loads(document)) == (0, result)


def test_the_command_claims_no_proof_where_it_finds_nothing(tmp_path, saved, run_cli):
    file, out = tmp_path / "p.vnnlib", tmp_path / "run"
    # The largest float64 at most 0.49999999999999999999 is one unit below 1/2.
    below = "0.49999999999999999999"
    file.write_text(text_of([("0", below), ("0.25", below)]))
    code, printed, _ = run_cli("attack", saved, "--property", file, "--out", out)
    assert code == 0
    assert "no violation found (this is no proof); nearest: Y_1 = Y_0 - " in printed
    result = json.loads((out / "result.json").read_text())
    assert result["robust_accuracy"] == 1.0
    assert -1e-15 < result["property"]["margin"] < 0
    assert not (out / "counterexample.txt").exists()
    other = text_of([("0", "0.4"), ("0.25", "0.5")])
    file.write_text(other)
    # The same file name with another box is another run.
    code, _, error = run_cli("attack", saved, "--property", file, "--out", out)
    assert (code, "another" in error) == (1, True)


def test_data_or_property_and_never_both(tmp_path, saved, run_cli):
    file = tmp_path / "p.vnnlib"
    file.write_text(text_of(BOX))
    for extra in (["digits"], ["--radius", "1"], ["--norm", "linf"], ["--box", "0,1"]):
        code, _, error = run_cli("attack", saved, *extra, "--property", file)
        assert code == 1
        assert "give one of the two" in error
    assert run_cli("attack", saved)[0] == 2
    assert run_cli("attack", saved, "digits")[0] == 2


def test_inputs_take_the_shape_that_the_file_declares(tmp_path, saved, run_cli):
    np.savez(tmp_path / "d.npz", inputs=np.full((3, 1, 1, 2), 0.25), targets=[0] * 3)
    code, printed, error = run_cli(
        *("attack", saved, tmp_path / "d.npz", "--radius", 0.5, "--norm", "linf"),
        *("--out", tmp_path / "run"),
    )
    assert code == 0, error
    assert "inputs [1, 1, 2] are given to the model as [2, 1]" in printed
    assert "robust accuracy  0.0 %" in printed


@pytest.mark.parametrize("name", ["prop_7_0.03", "prop_0_0.03"])
def test_the_competitions_properties_are_the_networks_own(name, tmp_path, run_cli):
    """Y_label is the largest output at the centre; the box's radius is in the name."""
    file, model = FC / f"{name}.vnnlib.gz", FC / "mnist-net_256x2.onnx"
    if not (file.is_file() and model.is_file()):
        pytest.skip(f"{file} or {model.name} is absent")
    pytest.importorskip("onnx")
    claim = load_property(str(file))
    assert claim.lower.shape == (784,)
    assert claim.rivals == tuple(k for k in range(10) if k != claim.label)
    width = float((claim.upper - claim.lower).max())
    assert width / 2 == pytest.approx(0.03, rel=1e-6)
    arguments = ("attack", model, "--property", file, "--until", "misclassified")
    code, document, _ = run_cli(*arguments, "--out", tmp_path / "r", "--json")
    result = json.loads(document)
    assert (code, result["clean_accuracy"]) == (0, 1.0)
    # What the verifiers of VNN-COMP 2021 agree on.
    assert result["property"]["violated"] is (name == "prop_7_0.03")
    with Store.read(tmp_path / "r") as store:
        (cell,) = (r.name for r in store.finished().values() if r.kind == "attack")
        moved = store.arrays(cell)
    point = moved["inputs"] + moved["perturbations"]
    assert bool(claim.contains(point))
