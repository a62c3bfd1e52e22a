"""Where something was computed: versions and machine, beside every record."""

import os
import platform
from functools import cache
from types import MappingProxyType

import torch

from summiteer._version import __version__


@cache
def environment() -> MappingProxyType[str, str]:
    """Versions of this package, Python and torch; platform and machine."""
    # Not platform.platform(): it starts a process that could outlive us, and our lock.
    system, machine, release, _, kind = os.uname()
    return MappingProxyType(
        {
            "version": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "machine": machine,
            "platform": f"{system}-{release}-{kind}",
        }
    )
