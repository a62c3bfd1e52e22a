"""An engine for as long as it is needed: this process, local workers, or a cluster."""

import logging
import multiprocessing
import os
import signal
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from summiteer.engine.cluster import Cluster
from summiteer.engine.serial import Engine, Serial
from summiteer.errors import UserError

#: Seconds in which a scheduler must answer.
_ANSWER = 10
#: Lost workers after which a cell is suspected, and run alone.
_FAILURES = 1
#: What the process that workers are forked from imports.
_PRELOAD = ["summiteer.engine.forked", "distributed", "summiteer.engine.worker"]
#: For libraries that ask the environment when they are imported.
_ONE_THREAD = {
    f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS", "VECLIB_MAXIMUM")
}
_MAIN = (
    "workers: each of them runs your script once more from its top; put what should "
    'run only once under `if __name__ == "__main__":`.'
)


def refuse_unguarded() -> None:
    """Say what to do in a script that starts workers outside its main guard.

    Raises:
        UserError: this process is a worker that reads the script once more.
    """
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise UserError(_MAIN)


@contextmanager
def opened(
    workers: int = 1,
    scheduler: str | None = None,
    resources: Mapping[str, float] | None = None,
) -> Iterator[Engine]:
    """Give the engine that a user asked for, and end its workers afterwards.

    Args:
        workers: processes of this machine, each with one torch thread; 1 for this one.
        scheduler: address of a Dask scheduler, such as tcp://10.0.0.1:8786, whose
            workers are used instead.
        resources: what a cell needs of a worker's resources, such as {"GPU": 1}; only
            with a scheduler.

    Yields:
        The engine.

    Raises:
        UserError: no such number, no such scheduler, or `distributed` is not installed.
    """
    if isinstance(workers, bool) or not isinstance(workers, int) or workers < 1:
        raise UserError(f"workers: expected an integer ≥ 1, got {workers!r}.")
    if scheduler is None and workers == 1:
        yield Serial()
        return
    if scheduler is not None and workers > 1:
        raise UserError(
            "workers, scheduler: a scheduler has its own workers; give one of the two."
        )
    refuse_unguarded()
    try:
        import distributed
    except ImportError as error:
        raise UserError(
            "workers: more than this process needs Dask; pip install "
            "'summiteer[cluster]'."
        ) from error
    if scheduler is None:
        with _local(distributed, workers) as client:
            yield Cluster(client)
    else:
        with _connected(distributed, scheduler) as client:
            yield Cluster(client, dict(resources or {}))


@contextmanager
def _local(distributed: Any, workers: int) -> Iterator[Any]:
    """Processes of this machine, which end with this one."""
    import dask

    settings = {
        # A worker may be silent for as long as a library holds Python's lock; that
        # its process has ended is noticed without.
        "distributed.scheduler.worker-ttl": None,
        "distributed.scheduler.allowed-failures": _FAILURES,
        # Workers are forked from a process that has imported what they all need.
        "distributed.worker.multiprocessing-method": "forkserver",
        # Neither looks at its own pulse fifty times a second, nor samples our stacks.
        "distributed.admin.tick.interval": "1s",
        "distributed.admin.tick.limit": "1h",
        "distributed.worker.profile.enabled": False,
        # Not Dask's own, which make malloc give every block back to the kernel as soon
        # as it is freed: fetching it again took as long as the arithmetic.
        "distributed.nanny.pre-spawn-environ": _ONE_THREAD,
        "distributed.worker.memory.terminate": False,
        "distributed.worker.memory.pause": False,
        "distributed.worker.memory.spill": False,
        "distributed.worker.memory.target": False,
    }
    with dask.config.set(settings), _own_environment():
        context = distributed.utils.get_mp_context()
        context.set_forkserver_preload(_PRELOAD)
        # Ctrl-C is the driver's alone: workers inherit what Dask's thread does, and
        # that inherits what is blocked here now.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            cluster = distributed.LocalCluster(
                n_workers=workers,
                threads_per_worker=1,
                processes=True,
                host="127.0.0.1",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
                memory_limit=0,
                env=_ONE_THREAD,
            )
        except Exception as error:
            why = str(error).rstrip(".")
            raise UserError(
                f"workers: {workers} could not be started: {why}; in a script of your "
                'own, start them under `if __name__ == "__main__":`.'
            ) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with cluster, distributed.Client(cluster, set_as_default=False) as client:
            yield client


@contextmanager
def _own_environment() -> Iterator[None]:
    """Take back what Dask adds to the environment of this process."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


@contextmanager
def _connected(distributed: Any, scheduler: str) -> Iterator[Any]:
    """The workers of a scheduler that somebody else has started, and ends."""
    try:
        # First a plain connection: a client that finds none is hard to get rid of.
        host, port = distributed.comm.get_address_host_port(scheduler, strict=True)
        socket.create_connection((host, port), timeout=_ANSWER).close()
        with warnings.catch_warnings():
            # Workers say themselves what they lack, see `engine.worker`.
            warnings.simplefilter("ignore", distributed.versions.VersionMismatchWarning)
            client = distributed.Client(
                scheduler, timeout=_ANSWER, set_as_default=False
            )
    except (OSError, ValueError, TypeError, NotImplementedError) as error:
        raise UserError(
            f"--scheduler: no Dask scheduler answers at {scheduler}; expected an "
            f"address such as tcp://10.0.0.1:8786 ({type(error).__name__}: {error})."
        ) from error
    with client:
        wide = [name for name, count in client.nthreads().items() if count > 1]
        if wide:
            raise UserError(
                f"--scheduler: the worker {wide[0]} has several threads, but cells "
                "need a process each; start workers with `dask worker --nthreads 1 "
                "--nworkers N`."
            )
        yield client
