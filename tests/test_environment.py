"""What is recorded of the process and the package that computed something."""

import subprocess

import pytest
import torch

from summiteer import environment as module
from summiteer._version import __version__
from summiteer.environment import environment


def git(folder, *arguments):
    who = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    done = subprocess.run(
        ["git", "-C", str(folder), *who, *arguments],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


@pytest.fixture
def package(tmp_path):
    """A package in a checkout of its own, and the commit."""
    folder = tmp_path / "src" / "thing"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text("")
    try:
        git(tmp_path, "init", "-q")
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("git is not here")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "first")
    return folder, git(tmp_path, "rev-parse", "HEAD")


def test_commit_and_whether_the_package_differs_from_it(package):
    folder, commit = package
    assert module._checkout(folder) == (commit, False)
    (folder.parents[1] / "notes.txt").write_text("beside the package")
    assert module._checkout(folder) == (commit, False)
    (folder / "new.py").write_text("x = 1\n")
    assert module._checkout(folder) == (commit, True)
    git(folder, "add", ".")
    assert module._checkout(folder) == (commit, True)
    git(folder, "commit", "-q", "-m", "second")
    found = module._checkout(folder)
    assert (found[0] != commit, found[1]) == (True, False)


def test_an_installed_package_has_no_commit_though_others_lie_around_it(package):
    folder, _ = package
    installed = folder.parents[1] / "lib" / "site-packages" / "thing"
    installed.mkdir(parents=True)
    assert module._checkout(installed) == (None, None)


def test_without_git_there_is_no_commit(package, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert module._checkout(package[0]) == (None, None)


def test_what_is_recorded():
    found = environment()
    assert found["version"] == __version__
    assert found["torch"] == str(torch.__version__)
    assert found["threads"] == torch.get_num_threads() == 1
    for name in ("python", "numpy", "blas", "machine", "host", "cpu", "platform"):
        assert found[name], name


def test_the_number_of_threads_is_that_of_the_moment():
    torch.set_num_threads(2)
    try:
        assert environment()["threads"] == 2
    finally:
        torch.set_num_threads(1)


@pytest.mark.parametrize(
    ("build", "name"),
    [
        (
            "  - Intel(R) oneAPI Math Kernel Library Version 2024.2-Product Build 2\n"
            "  - Build settings: BLAS_INFO=mkl, BUILD_TYPE=Release",
            "mkl 2024.2-Product",
        ),
        ("BLAS_INFO=open, CUDA", "open"),
        ("nothing", "unknown"),
    ],
)
def test_the_name_of_the_linear_algebra(build, name):
    assert module._blas(build) == name
