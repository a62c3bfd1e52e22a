"""What the installed attack libraries return, audited: each with what it is known for.

`make peers` installs them; each test skips without its own.
"""

import contextlib
import importlib.machinery
import sys
import types

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import audits
import summiteer as sm
from audits import COUNT
from fakes import seeded
from summiteer.auditing.kinds import KIND_NAMES

pytestmark = [
    pytest.mark.peer,
    # Theirs, at import and in use: none of them is ours to mend.
    pytest.mark.filterwarnings("ignore"),
]
STEPS = 10
#: Small enough that the attacks fail on many examples: there they differ.
RADIUS = {"linf": 0.06, "l2": 0.4, "l1": 1.5}
BALLS = {"linf": sm.LinfBall, "l2": sm.L2Ball, "l1": sm.L1Ball}


def shims():
    """What adv-lib and secml-torch want beside a torch without CUDA.

    torchvision's registry build declares operators that such a torch lacks; visdom, of
    which adv-lib draws, does not build under a current setuptools.
    """
    for name in ("nms", "qnms", "roi_align"):
        arguments = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        if name == "roi_align":
            arguments = (
                "(Tensor input, Tensor rois, float spatial_scale, int pooled_height, "
                "int pooled_width, int sampling_ratio, bool aligned) -> Tensor"
            )
        # …or a whole torchvision is there
        with contextlib.suppress(RuntimeError):
            torch.library.define(f"torchvision::{name}", arguments)
    if "visdom" not in sys.modules:
        stub = types.ModuleType("visdom")
        stub.__spec__ = importlib.machinery.ModuleSpec("visdom", None)
        stub.Visdom = None
        sys.modules["visdom"] = stub


@pytest.fixture(autouse=True)
def _seed():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def audited(digits, given, norm):
    return audits.audited(digits, given, BALLS[norm](RADIUS[norm]))


def among_failures(audit):
    """Kinds of the points that the model withstood, of clean inputs it gets right."""
    kept = audit.arrays["claimed"] & audit.arrays["correct"]
    return [KIND_NAMES[code] for code in audit.arrays["kind"][kept].tolist()]


def check_honest(audit):
    """Inside, and no fewer wrong than claimed: what holds of every honest tool."""
    assert bool(audit.arrays["inside"].all())
    assert audit.corrected_robust_accuracy <= audit.claimed_robust_accuracy
    assert 0 < audit.claimed_robust_accuracy < audit.result["clean_accuracy"]


def foolbox_points(digits, norm, **options):
    fb = pytest.importorskip("foolbox")
    model, inputs, targets = digits
    peer = fb.PyTorchModel(model, bounds=(0, 1), device="cpu")
    name = {"linf": "LinfPGD", "l2": "L2PGD"}[norm]
    attack = getattr(fb.attacks, name)(steps=STEPS, **options)
    return attack(peer, inputs, targets, epsilons=RADIUS[norm])


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_foolbox_returns_its_last_iterate(digits, norm):
    size = RADIUS[norm] / 4
    output = foolbox_points(digits, norm, abs_stepsize=size, random_start=False)
    audit = audited(digits, sm.adapters.from_foolbox(output, digits[1]), norm)
    check_honest(audit)
    assert not {"CLEAN", "RANDOM_START"} & {*among_failures(audit)}
    raw = sm.adapters.from_foolbox(output, which="raw")
    assert torch.equal(raw, output[0])
    with pytest.raises(sm.UserError, match="2 radii"):
        sm.adapters.from_foolbox(([raw, raw], [raw, raw], None))


def test_the_last_iterate_of_a_long_step_is_not_its_best(digits):
    size = 1.5 * RADIUS["l2"]
    output = foolbox_points(digits, "l2", abs_stepsize=size, random_start=False)
    audit = audited(digits, sm.adapters.from_foolbox(output), "l2")
    assert "NOT_THE_BEST" in [finding.code for finding in audit.findings]
    assert audit.result["gains"]["examples"] >= COUNT // 4


@pytest.mark.parametrize(
    ("name", "norm"), [("PGD", "linf"), ("PGDL2", "l2"), ("APGD", "linf")]
)
def test_torchattacks(digits, name, norm):
    torchattacks = pytest.importorskip("torchattacks")
    model, inputs, targets = digits
    # PGDL2 takes images only.
    wrapped = nn.Sequential(nn.Flatten(), model).eval()
    images = inputs.reshape(-1, 1, 8, 8)
    options = {"alpha": RADIUS[norm] / 4, "random_start": False}
    if name == "APGD":
        options = {"norm": "Linf"}
    attack = getattr(torchattacks, name)(
        wrapped, eps=RADIUS[norm], steps=STEPS, **options
    )
    points = sm.adapters.from_torchattacks(attack(images, targets), images)
    audit = audited(digits, points.reshape(inputs.shape), norm)
    check_honest(audit)
    failures = among_failures(audit)
    if name == "APGD":
        # Its failures are the clean inputs: the claim says nothing about them.
        assert set(failures) == {"CLEAN"}
        assert "CLEAN_RETURNED" in [finding.code for finding in audit.findings]
    else:
        assert "CLEAN" not in failures


@pytest.mark.parametrize("name", ["PGD", "APGD"])
def test_art(digits, name):
    pytest.importorskip("art")
    from art.attacks.evasion import (
        AutoProjectedGradientDescent,
        ProjectedGradientDescentPyTorch,
    )
    from art.estimators.classification import PyTorchClassifier

    model, inputs, targets = digits
    radius = RADIUS["linf"]
    peer = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=(64,),
        nb_classes=10,
        clip_values=(0, 1),
        device_type="cpu",
    )
    shared = {"eps": radius, "eps_step": radius / 4, "max_iter": STEPS}
    if name == "PGD":
        attack = ProjectedGradientDescentPyTorch(peer, verbose=False, **shared)
    else:
        attack = AutoProjectedGradientDescent(
            peer, verbose=False, nb_random_init=1, **shared
        )
    output = attack.generate(x=inputs.numpy(), y=targets.numpy())
    audit = audited(digits, sm.adapters.from_art(output, inputs), "linf")
    check_honest(audit)
    failures = among_failures(audit)
    if name == "PGD":
        assert not {"CLEAN", "RANDOM_START"} & {*failures}
    else:
        # Its failures are random starts.
        assert failures.count("RANDOM_START") >= 0.8 * len(failures)
        codes = [finding.code for finding in audit.findings]
        assert "RANDOM_START_RETURNED" in codes


def autoattack(digits):
    pytest.importorskip("pyautoattack")
    from pyautoattack.autopgd_base import APGDAttack

    attack = APGDAttack(
        digits[0],
        n_iter=STEPS,
        norm="Linf",
        eps=RADIUS["linf"],
        seed=0,
        device=torch.device("cpu"),
    )
    attack.init_hyperparam(digits[1])
    return attack


def test_autoattack_returns_clean_inputs_or_its_best(digits):
    _, inputs, targets = digits
    plain = sm.adapters.from_autoattack(autoattack(digits).perturb(inputs, targets))
    best = autoattack(digits).perturb(inputs, targets, best_loss=True)
    plain, best = (
        audited(digits, sm.adapters.from_autoattack(points, inputs), "linf")
        for points in (plain, best)
    )
    check_honest(plain)
    assert set(among_failures(plain)) == {"CLEAN"}
    assert "CLEAN" not in among_failures(best)
    assert best.corrected_robust_accuracy <= plain.claimed_robust_accuracy
    run = autoattack(digits).attack_single_run(inputs, targets)
    assert torch.equal(sm.adapters.from_autoattack(run), run[0])
    with pytest.raises(sm.UserError, match="several attacks"):
        sm.adapters.from_autoattack({"apgd-ce": inputs, "fab": inputs})


def test_advlib_returns_clean_inputs(digits):
    shims()
    pytest.importorskip("adv_lib")
    from adv_lib.attacks.projected_gradient_descent import pgd_linf

    model, inputs, targets = digits
    size = RADIUS["linf"] / 4
    options = {"random_init": False, "absolute_step_size": size}
    output = pgd_linf(model, inputs, targets, RADIUS["linf"], steps=STEPS, **options)
    audit = audited(digits, sm.adapters.from_advlib(output, inputs), "linf")
    check_honest(audit)
    assert set(among_failures(audit)) == {"CLEAN"}


def secml(digits, norm, backend, shuffle=False):
    shims()
    pytest.importorskip("secmlt")
    from secmlt.adv.evasion.pgd import PGD
    from secmlt.models.pytorch.base_pytorch_nn import BasePyTorchClassifier

    model, inputs, targets = digits
    attack = PGD(
        perturbation_model=norm,
        epsilon=RADIUS[norm],
        num_steps=STEPS,
        step_size=RADIUS[norm] / 4,
        random_start=False,
        lb=0.0,
        ub=1.0,
        backend=backend,
    )
    loader = DataLoader(
        TensorDataset(inputs, targets), batch_size=COUNT, shuffle=shuffle
    )
    return attack(BasePyTorchClassifier(model), loader)


@pytest.mark.parametrize("backend", ["native", "foolbox"])
def test_secml_torch(digits, backend):
    _, inputs, targets = digits
    output = secml(digits, "linf", backend)
    points = sm.adapters.from_secmlt(output, inputs, targets)
    audit = audited(digits, points, "linf")
    check_honest(audit)
    assert "CLEAN" not in among_failures(audit)


def test_secml_torch_shuffled_is_refused(digits):
    output = secml(digits, "linf", "native", shuffle=True)
    with pytest.raises(sm.UserError, match="shuffled"):
        sm.adapters.from_secmlt(output, digits[1], digits[2])


def test_secml_torch_l1_moves_few_of_a_batch(digits):
    # The largest entry of the gradient is taken over the whole batch (field.md §2.2).
    points = sm.adapters.from_secmlt(secml(digits, "l1", "native"))
    still = (points - digits[1]).abs().flatten(1).amax(1) < 1e-6
    assert int(still.sum()) > COUNT / 2
    audit = audited(digits, points, "l1")
    clean = audit.arrays["kind"] == KIND_NAMES.index("CLEAN")
    assert torch.equal(clean, still)
    assert "CLEAN_RETURNED" in [finding.code for finding in audit.findings]


def test_a_ball_around_the_noised_start_is_caught(digits):
    # As DART's code does: clipped around start and not around x, so up to 2ε away.
    model, inputs, targets = digits
    radius = RADIUS["linf"]
    noise = seeded(*inputs.shape, dtype=torch.float32)
    start = inputs + radius * (2 * torch.special.ndtr(noise) - 1)
    points = start.clone()
    for _ in range(STEPS):
        points.requires_grad_()
        loss = nn.functional.cross_entropy(model(points), targets)
        (slope,) = torch.autograd.grad(loss, points)
        moved = points.detach() + radius / 4 * slope.sign() - start
        points = (start + moved.clamp(-radius, radius)).clamp(0, 1)
    audit = audited(digits, points, "linf")
    assert int((~audit.arrays["inside"]).sum()) == COUNT
    excess = audit.arrays["excess"]
    assert 0.5 * radius < float(excess.max()) <= radius + 1e-6  # float32
    assert "OUTSIDE" in [finding.code for finding in audit.findings]
    assert audit.corrected_robust_accuracy > audit.claimed_robust_accuracy
