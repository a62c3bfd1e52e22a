"""Where something was computed: versions and machine, beside every record."""

import hashlib
import os
import platform
import re
import subprocess
from functools import cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch

from summiteer._version import __version__

#: Seconds after which git is not waited for.
_GIT = 10
_PACKAGE = Path(__file__).parent


def environment() -> MappingProxyType[str, str | int | bool | None]:
    """Versions of this package and of what it computes with; machine and threads.

    "code" is a digest of the package's own source. "commit" and "dirty" (whether the
    package differs from it) are None where it does not lie in its own git checkout.
    The first call of a process asks git: to be made before a lock is taken, which that
    child could outlive us with.
    """
    return MappingProxyType({**_fixed(), "threads": torch.get_num_threads()})


@cache
def _fixed() -> MappingProxyType[str, str | bool | None]:
    """What stays the same while a process lives."""
    # Not platform.platform(): it starts a process, too.
    system, host, release, _, kind = os.uname()
    commit, dirty = _checkout(_PACKAGE)
    return MappingProxyType(
        {
            "version": __version__,
            "code": _code(_PACKAGE),
            "commit": commit,
            "dirty": dirty,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "numpy": np.__version__,
            "blas": _blas(torch.__config__.show()),
            "machine": kind,
            "host": host,
            "cpu": _cpu(),
            "platform": f"{system}-{release}-{kind}",
        }
    )


def _code(package: Path) -> str:
    """Digest of all Python files of the package, by their names and contents."""
    state = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        content = path.read_bytes()
        name = path.relative_to(package).as_posix()
        state.update(f"{name} {len(content)}\n".encode() + content)
    return state.hexdigest()[:16]


def _checkout(package: Path) -> tuple[str | None, bool | None]:
    """Commit, and whether the package differs from it; None for what is not known.

    Args:
        package: its folder; of a checkout only if that has it as src/NAME.
    """
    root = package.parents[1]
    if package.parent.name != "src" or not (root / ".git").exists():
        return None, None
    commit = _git(root, "rev-parse", "HEAD")
    status = _git(root, "--no-optional-locks", "status", "--porcelain", str(package))
    return commit or None, None if status is None else bool(status)


def _git(root: Path, *arguments: str) -> str | None:
    """What git prints about a checkout; None where it does not."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            capture_output=True,
            text=True,
            check=True,
            timeout=_GIT,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _blas(build: str) -> str:
    """Name and version of torch's linear algebra.

    Args:
        build: torch's description of how it was built.
    """
    name = re.search(r"BLAS_INFO=(\w+)", build)
    version = re.search(r"Math Kernel Library Version (\S+)", build)
    return " ".join(found[1] for found in (name, version) if found) or "unknown"


def _cpu() -> str:
    """The processor's name, as far as the system says it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2] for line in lines if line.startswith("model name"))
    return next(names, "").strip() or platform.processor() or "unknown"
