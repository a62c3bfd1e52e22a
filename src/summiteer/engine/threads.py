"""Cells on one thread: the same bits everywhere, and no threads that fight."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits


@contextmanager
def one_thread() -> Iterator[None]:
    """Let this process compute on one thread; before and after, as the caller has it.

    What a study measures must not depend on how many cores there are, and for small
    matrices several threads are slower than one: many times, where cores are busy.
    """
    before = torch.get_num_threads()
    with threadpool_limits(1):
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(before)
