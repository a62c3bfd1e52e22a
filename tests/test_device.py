"""Models and data on another device: nothing meets the CPU where it must not.

A GPU is not at hand everywhere, so the rule itself is tested with tensors that say they
are elsewhere (`fake_device`): an operation on two devices fails there as on a GPU.
"""

import pytest
import torch
from torch import nn

import summiteer as sm
from fake_device import DEVICE, Elsewhere, somewhere_else
from summiteer import examination

INPUTS = torch.rand(3, 6, generator=torch.Generator().manual_seed(0))
REGIONS = {"linf": sm.LinfBall(0.1), "l2": sm.L2Ball(0.2), "l1": sm.L1Ball(0.3)}


def network(*layers):
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    return model.eval()


def relu():
    return network(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def opaque():
    return network(nn.Linear(6, 8), nn.Softsign(), nn.Linear(8, 3))


def labels(model):
    with torch.no_grad():
        return model(INPUTS).argmax(1)


@pytest.fixture
def away():
    with somewhere_else() as device:
        yield device


# The device that is not there.


def test_the_device_refuses_what_a_gpu_refuses(away):
    there = INPUTS.to(away)
    assert isinstance(there, Elsewhere)
    assert torch.equal((2 * there + 1).cpu(), 2 * INPUTS + 1)
    assert torch.zeros(2, device=away).device == away
    assert torch.equal(there[torch.tensor([1, 2])].cpu(), INPUTS[1:3])
    for refused in (
        lambda: there + INPUTS,
        lambda: there.index_select(0, torch.tensor([0])),
        lambda: INPUTS[torch.tensor([0], device=away)],
        lambda: torch.where(INPUTS > 0, there, 0.0),
        lambda: torch.cat([there, INPUTS]),
    ):
        with pytest.raises(RuntimeError, match="same device"):
            refused()
    with pytest.raises(RuntimeError, match="numpy"):
        there.numpy()


# Certificates.


def test_proofs_are_made_here(away):
    model = relu()
    problem = sm.Problem(
        relu().to(away),
        INPUTS.to(away),
        labels(model).to(away),
        sm.CrossEntropy(),
        REGIONS["linf"],
        mask=torch.ones(6, dtype=torch.bool),
    )
    here = examination.on_cpu(problem)
    assert here.inputs.device.type == "cpu"
    assert torch.equal(here.model(here.inputs), model(INPUTS))
    assert problem.inputs.device == DEVICE
    assert examination.on_cpu(here) is here


def test_what_proofs_do_not_know_is_still_asked_there(away):
    model = opaque().to(away)
    problem = sm.Problem(
        model, INPUTS.to(away), labels(opaque()).to(away), sm.Margin(), REGIONS["l2"]
    )
    here = examination.on_cpu(problem)
    assert torch.equal(here.model(INPUTS), opaque()(INPUTS))
    exact = here.model(INPUTS.double())
    assert exact.dtype == torch.float64
    assert torch.equal(exact, opaque().double()(INPUTS.double()))
    assert next(model.parameters()).dtype == torch.float32


# With a GPU.


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("norm", REGIONS)
def test_an_attack_on_a_gpu_finds_what_the_cpu_finds(norm):
    model = relu()
    targets = labels(model)
    here, there = (
        sm.attack(
            relu().to(device),
            INPUTS.to(device),
            targets.to(device),
            region=REGIONS[norm],
            screened=True,
        )
        for device in ("cpu", "cuda")
    )
    assert there.result["verdicts"] == here.result["verdicts"]
    # Ten steps agree to rounding; losses at maxima do too.
    assert torch.allclose(there.arrays["losses"], here.arrays["losses"], rtol=1e-4)
