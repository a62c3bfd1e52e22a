"""Ctrl-C that no library can swallow.

An exception raised by a signal while C or Rust calls Python back may be dropped there,
or come out as another error; what was computed around it is then not to be trusted.
Here it is noted as well as raised, and asked about before anything is recorded.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_met = threading.Event()


def interrupted() -> bool:
    """Whether Ctrl-C was met inside `watched`."""
    return _met.is_set()


def check() -> None:
    """Raise KeyboardInterrupt, perhaps once more, if Ctrl-C was met."""
    if _met.is_set():
        raise KeyboardInterrupt


@contextmanager
def watched() -> Iterator[None]:
    """Note Ctrl-C, besides raising it as Python does; the handler is put back.

    Where Python does not raise it (another handler, another thread), nothing changes.
    """
    _met.clear()  # of an earlier command in the same process
    mine = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if mine else None
    if before is not signal.default_int_handler:
        yield
        return
    signal.signal(signal.SIGINT, _note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _note(number: int, frame: FrameType | None) -> None:
    _met.set()
    raise KeyboardInterrupt
