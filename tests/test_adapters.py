import json
import pickle
import zipfile

import numpy as np
import pytest
import torch

import summiteer as sm
from summiteer.data import Held, aligned, load_adversarial
from summiteer.networks.reference import digits_mlp

POINTS = torch.arange(12.0).reshape(4, 3) / 12
LABELS = torch.tensor([0, 1, 2, 3])
LOADER = [(POINTS[:3], LABELS[:3]), (POINTS[3:], LABELS[3:])]


class Wrapped:
    """As EagerPy wraps a tensor."""

    raw = POINTS


@pytest.mark.parametrize(
    ("adapter", "output"),
    [
        ("from_foolbox", (POINTS + 1, POINTS, LABELS > 1)),
        ("from_foolbox", Wrapped()),
        ("from_torchattacks", POINTS),
        ("from_torchattacks", {"adv_inputs": POINTS, "labels": LABELS}),
        ("from_art", POINTS.numpy()),
        ("from_autoattack", POINTS),
        ("from_autoattack", (POINTS, LABELS)),
        ("from_autoattack", (POINTS, LABELS > 1, LABELS, POINTS + 1)),
        ("from_advlib", POINTS),
        ("from_secmlt", LOADER),
    ],
)
def test_each_output_becomes_the_tensor(adapter, output):
    adapt = getattr(sm.adapters, adapter)
    tensor = adapt(output, POINTS)
    assert torch.equal(tensor, POINTS)
    tensor += 1  # a copy: what the tool holds is left alone
    assert float(POINTS[0, 0]) == 0
    assert "failed examples" in adapt.__doc__
    with pytest.raises(sm.UserError, match="inputs' shape"):
        adapt(output, POINTS[:2])
    with pytest.raises(sm.UserError):
        adapt("nonsense")


def test_the_raw_points_of_foolbox_can_be_asked_for():
    output = (POINTS + 1, POINTS, None)
    assert torch.equal(sm.adapters.from_foolbox(output, which="raw"), POINTS + 1)
    with pytest.raises(sm.UserError, match="which: expected"):
        sm.adapters.from_foolbox(output, which="best")


def test_a_shuffled_loader_is_refused():
    assert torch.equal(sm.adapters.from_secmlt(LOADER, targets=LABELS), POINTS)
    with pytest.raises(sm.UserError, match="shuffle=False"):
        sm.adapters.from_secmlt(LOADER[::-1], targets=LABELS)


def test_files_of_every_format(tmp_path):
    from safetensors.torch import save_file

    np.savez(tmp_path / "a.npz", x_adv=POINTS.numpy(), labels=LABELS.numpy())
    np.save(tmp_path / "a.npy", POINTS.numpy())
    save_file({"anything": POINTS}, tmp_path / "a.safetensors")
    torch.save(POINTS, tmp_path / "a.pt")
    torch.save(
        {"adv_inputs": POINTS, "labels": LABELS, "save_type": "float"},
        tmp_path / "torchattacks.pt",
    )
    for file in sorted(tmp_path.iterdir()):
        assert torch.equal(load_adversarial(str(file)), POINTS), file
    np.savez(tmp_path / "b.npz", first=POINTS.numpy(), second=LABELS.numpy())
    chosen = load_adversarial(f"{tmp_path / 'b.npz'}:first")
    assert torch.equal(chosen, POINTS)
    with pytest.raises(sm.UserError, match="holds first, second; say which"):
        load_adversarial(str(tmp_path / "b.npz"))
    with pytest.raises(sm.UserError, match="has no 'third'"):
        load_adversarial(f"{tmp_path / 'b.npz'}:third")


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, path) -> None:
        self.path = path

    def __reduce__(self):
        return open, (str(self.path), "w")


def test_hostile_files_are_one_sentence_and_nothing_runs(tmp_path):
    mark = tmp_path / "mark"
    with (tmp_path / "pickle.pt").open("wb") as file:
        pickle.dump(Hostile(mark), file)
    torch.save({"adv": Hostile(mark)}, tmp_path / "zip.pt")
    np.savez(tmp_path / "object.npz", adv=np.array([Hostile(mark)], dtype=object))
    np.save(tmp_path / "object.npy", np.array([Hostile(mark)], dtype=object))
    np.save(tmp_path / "good.npy", POINTS.numpy())
    content = (tmp_path / "good.npy").read_bytes()
    (tmp_path / "truncated.npy").write_bytes(content[:-5])
    huge = content.replace(b"(4, 3)", b"(4, 3" + b"0" * 9 + b")")
    (tmp_path / "huge.npy").write_bytes(huge[: len(content)])
    length = (10**15).to_bytes(8, "little")
    (tmp_path / "huge.safetensors").write_bytes(length + b"{}")
    with zipfile.ZipFile(tmp_path / "text.npz", "w") as archive:
        archive.writestr("adv.npy", "no array")
    (tmp_path / "good.npy").unlink()
    for file in sorted(tmp_path.iterdir()):
        with pytest.raises(sm.UserError) as refused:
            load_adversarial(str(file))
        assert "ADVERSARIAL" in str(refused.value)
        assert len(str(refused.value).splitlines()) == 1
    assert not mark.exists()


def test_rows_are_those_of_the_chosen_examples():
    ids = torch.tensor([0, 2])
    assert torch.equal(aligned(Held.of(POINTS), ids, 4, (3,)).whole(), POINTS[[0, 2]])
    assert torch.equal(aligned(Held.of(POINTS[:2]), ids, 4, (3,)).whole(), POINTS[:2])
    assert aligned(Held.of(POINTS), torch.arange(4), 4, (1, 3, 1)).shape == (4, 1, 3, 1)
    with pytest.raises(sm.UserError, match="3 rows, expected one for each of the 4"):
        aligned(Held.of(POINTS[:3]), ids, 4, (3,))
    with pytest.raises(sm.UserError, match="expected \\[4\\] as in DATA"):
        aligned(Held.of(POINTS), ids, 4, (4,))
    with pytest.raises(sm.UserError, match="axes are in another order"):
        aligned(Held.of(torch.zeros(4, 5, 6, 3)), ids, 4, (3, 5, 6))


def test_the_command_line_audits_a_file(tmp_path, run_cli):
    from summiteer.data import load_data

    inputs = load_data("digits").inputs[:12].float()
    file = tmp_path / "examples.py"
    file.write_text(
        "from summiteer.networks.reference import digits_mlp\n\n\n"
        "def build():\n    return digits_mlp()\n"
    )
    torch.save(inputs, tmp_path / "adv.pt")
    options = ("--norm", "linf", "--radius", "0.1", "--limit", 12)
    command = ("audit", f"{file}:build", "digits", tmp_path / "adv.pt", *options)
    command += ("--out", tmp_path / "run")
    code, page, error = run_cli(*command, "--explain", 3)
    assert code == 0, error
    assert "robust accuracy, claimed" in page
    assert "the clean input itself" in page
    assert "example 3: the clean input" in page
    targets = load_data("digits").targets[:12]
    with pytest.warns(sm.SummiteerWarning):
        audit = sm.audit(digits_mlp(), inputs, targets, inputs, region=sm.LinfBall(0.1))
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    for key in ("claimed_robust_accuracy", "corrected_robust_accuracy", "kinds"):
        assert result[key] == audit.result[key]
    torch.save(inputs[:7], tmp_path / "adv.pt")
    code, _, error = run_cli(*command)
    assert code == 1
    assert "7 rows, expected one for each of the 1797" in error
