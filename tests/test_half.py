"""Models in half precision: attacked in their own dtype, examined in float64."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import summiteer as sm
from summiteer import tolerances
from summiteer._attack import _strongest
from summiteer.objectives import misclassified

HALVES = (torch.bfloat16, torch.float16)
INPUTS = torch.rand(5, 1, 4, 4, generator=torch.Generator().manual_seed(0))


def network(kind, dtype):
    layers = {
        "mlp": (nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3)),
        "conv": (
            *(nn.Conv2d(1, 3, 3, padding=1), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(48, 3)),
        ),
    }
    model = nn.Sequential(*layers[kind])
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(0.5 * torch.randn(weight.shape, generator=generator))
    return model.to(dtype).eval()


def labels(model, dtype):
    with torch.no_grad():
        return model(INPUTS.to(dtype)).argmax(1)


@pytest.mark.filterwarnings("ignore::summiteer.errors.SummiteerWarning")
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(
    ("kind", "region"),
    [("mlp", sm.LinfBall(0.25)), ("conv", sm.L2Ball(0.5)), ("mlp", sm.L1Ball(1.0))],
)
def test_attack_and_audit_to_the_end(kind, region, dtype):
    model = network(kind, dtype)
    inputs, targets = INPUTS.to(dtype), labels(model, dtype)
    found = sm.attack(model, inputs, targets, region=region)
    assert found.perturbations.dtype == torch.float64
    points = found.perturbations.to(dtype)
    # Computed in the model's own dtype: nothing is lost on the way back.
    assert torch.equal(points.double(), found.perturbations)
    assert all(weight.dtype == dtype for weight in model.parameters())
    with torch.no_grad():
        wrong = misclassified(model(inputs + points), targets)
    assert not bool((wrong & found.arrays["survived"]).any())
    audit = sm.audit(model, inputs, targets, inputs + points, region=region)
    # The attack's own points are inside, and break no fewer.
    assert bool((audit.arrays["ulps"] <= 2).all())
    assert audit.corrected_robust_accuracy <= float((~wrong).double().mean())
    # The residual is that of the float64 network with the same weights.
    problem = sm.Problem(
        network(kind, dtype).double(),
        inputs.double(),
        targets,
        sm.CrossEntropy(),
        region,
        box=(0.0, 1.0),
    )
    exact = sm.local_optimality(problem, found.perturbations)
    assert torch.allclose(found.arrays["residuals"], exact.residual, equal_nan=True)


@pytest.mark.parametrize("dtype", HALVES)
def test_a_proof_about_half_weights_is_one_about_their_exact_values(dtype):
    """What is proved of the half model is proved of its weights' exact network."""
    model, region = network("mlp", dtype), sm.LinfBall(0.25)
    inputs, targets = INPUTS.to(dtype), labels(model, dtype)
    half = sm.Problem(model, inputs, targets, sm.CrossEntropy(), region, box=(0.0, 1.0))
    exact = sm.Problem(
        network("mlp", dtype).double(),
        inputs.double(),
        targets,
        sm.CrossEntropy(),
        region,
        box=(0.0, 1.0),
    )
    points = sm.ascend(exact, max_steps=100).best
    certificates = [
        sm.local_optimality(p, points.to(p.inputs.dtype)) for p in (half, exact)
    ]
    agree = [
        a == b
        for a, b, evidence in zip(
            *(c.verdict for c in certificates), certificates[0].evidence, strict=True
        )
        if evidence is sm.Evidence.PROVED
    ]
    assert agree
    assert all(agree)


class Casting(nn.Module):
    """A float32 model that computes in half precision inside."""

    def __init__(self):
        super().__init__()
        self.inner = network("mlp", torch.float32)

    def forward(self, inputs):
        hidden = self.inner[:2](inputs).bfloat16().float()
        return self.inner[2:](hidden)


def test_nothing_is_proved_of_a_forward_pass_that_casts_down():
    model = Casting().eval()
    targets = labels(model, torch.float32)
    found = sm.attack(model, INPUTS, targets, region=sm.LinfBall(0.1), screened=False)
    assert {e for v in found.result["verdicts"].values() for e in v} == {"NUMERICAL"}
    assert found.result["proved_robust_accuracy"] is None


@pytest.mark.parametrize("dtype", HALVES)
def test_two_losses_are_the_same_within_a_hundredth_at_most(dtype):
    assert tolerances.same_loss(dtype) == 1e-2
    assert tolerances.same_loss(torch.float32) == 256 * 2.0**-23


def test_the_strongest_point_is_no_weaker_end():
    """256 units of bfloat16 are twice the loss: they would excuse any end point."""
    model = network("mlp", torch.bfloat16)
    inputs, targets = INPUTS.bfloat16(), labels(model, torch.bfloat16)
    problem = sm.Problem(model, inputs, targets, sm.CrossEntropy(), sm.LinfBall(0.25))
    run = sm.ascend(problem, max_steps=20)
    centre = problem.rows().value(torch.zeros_like(inputs)).loss
    higher = run.best_loss > 1.05 * centre
    assert bool((higher & (run.best_loss < 3 * centre)).any())
    ended = replace(
        run,
        final=torch.zeros_like(run.final),
        losses=centre.expand_as(run.losses),
        misclassified=None,
    )
    points = _strongest(problem, ended)
    assert torch.equal(points[higher], run.best[higher])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_command_line_takes_half_models_and_their_checkpoints(
    dtype, tmp_path, run_cli
):
    kind = getattr(torch, dtype)
    file = tmp_path / "half.py"
    file.write_text(
        "from torch import nn\nimport torch\n\n\ndef build():\n"
        "    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), "
        f"nn.Linear(12, 3)).to(torch.{dtype})\n"
    )
    model = network("mlp", kind)
    save_file(model.state_dict(), tmp_path / "w.safetensors")
    np.savez(
        tmp_path / "x.npz", inputs=INPUTS.numpy(), targets=labels(model, kind).numpy()
    )
    code, out, error = run_cli(
        *("attack", f"{file}:build", tmp_path / "x.npz", "--norm", "linf"),
        *("--radius", 0.1, "--weights", tmp_path / "w.safetensors"),
        *("--out", tmp_path / "run"),
    )
    assert code == 0, error
    assert "robust accuracy" in out
    assert f"inputs float32 are given to the model as {dtype}" in out
