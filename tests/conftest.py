"""Every test runs on one torch thread and leaves the global random state alone."""

import os
import sys

# Where Python is told to write no bytecode, and an installer wrote none, each of the
# hundreds of processes of these tests would compile torch anew: three seconds.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

import pytest  # noqa: E402
import torch  # noqa: E402

torch.set_num_threads(1)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """Keep the groups of xdist 3.8: it names them where pytest 9.2 no longer looks."""
    for item in items:
        grouped = vars(item).get("_nodeid")
        if grouped is not None and hasattr(item, "_id"):
            item._id = type(item._id).parse(grouped)


@pytest.fixture
def arb_precision():
    """300 bits: what Arb says is exact beside float64."""
    from flint import ctx

    ctx.prec, before = 300, ctx.prec
    yield
    ctx.prec = before


@pytest.fixture
def run_cli(monkeypatch, capsys):
    """Run the command line in this process: (exit code, stdout, stderr)."""
    import sys

    from summiteer import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["summiteer", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        code = stop.value.code
        captured = capsys.readouterr()
        return int(code or 0), captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def digits():
    """The bundled network with a few inputs and labels."""
    from audits import COUNT
    from summiteer.data import load_data
    from summiteer.networks.reference import digits_mlp

    data = load_data("digits")
    return digits_mlp(), data.inputs[:COUNT].float(), data.targets[:COUNT]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Where everything is that small runs need."""
    from small_runs import prepare

    prepare(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def model_file(tmp_path):
    """A file with model factories of every kind that the tests need."""
    path = tmp_path / "models.py"
    path.write_text(MODELS)
    return path


MODELS = """
import torch
from torch import nn


def _seeded(*layers):
    generator = torch.Generator().manual_seed(0)
    model = nn.Sequential(*layers)
    for weight in model.parameters():
        with torch.no_grad():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=generator))
    return model


def classifier():
    return _seeded(nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10)).eval()


def narrow():
    return _seeded(nn.Linear(64, 3)).eval()


def wrong_width():
    return _seeded(nn.Linear(32, 10)).eval()


def regression():
    return _seeded(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1)).eval()


def dropping():
    return _seeded(nn.Linear(64, 10), nn.Dropout(0.5)).train()


class Random(nn.Module):
    def forward(self, inputs):
        return inputs[:, :10] + torch.rand(len(inputs), 10)


class Masked(nn.Module):
    def forward(self, inputs):
        return torch.round(inputs[:, :10]) + 0 * inputs.sum()


class Disconnected(nn.Module):
    def forward(self, inputs):
        return inputs.detach()[:, :10]


class Nan(nn.Module):
    def forward(self, inputs):
        return inputs[:, :10] * float("nan")


class Broken(nn.Module):
    def forward(self, inputs):
        return torch.sqrt(inputs[:, :10] - 0.5)


def fails():
    raise RuntimeError("no such weights")


def function():
    return lambda inputs: inputs[:, :10]


number = 3
"""
