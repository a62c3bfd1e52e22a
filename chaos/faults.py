"""What is done to studies. Each fault disturbs one, and has it come to its end."""

import errno
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from unittest import mock

from chaos.cells import begun
from chaos.driver import drive
from chaos.site import Site, alive, instant, kill, require, until
from summiteer import disk, store
from summiteer.errors import SummiteerWarning, UserError


def drivers_killed(site: Site, rounds: int, rng: random.Random) -> str:
    """SIGKILL of the driver at random instants; its workers end by themselves."""
    kills = 0
    for _ in range(rounds):
        seen = len(begun(site.log))
        process = site.started()
        if site.more(process, rng.choice([0, 1, 2, 4])):
            time.sleep(instant(rng))
        kill(process.pid)
        code, _ = site.ended(process)
        kills += code == -signal.SIGKILL
        pids = {pid for _, pid in begun(site.log)[seen:]}
        until(lambda pids=pids: not any(map(alive, pids)), "orphaned workers end")
        again = {number for number, _ in begun(site.log)[seen:]} & site.done()
        require(not again, f"finished cells {again} are not begun again")
        site.look()
    require(kills, "some were killed at work")
    site.check()
    return f"{kills} drivers killed"


def workers_killed(site: Site, rounds: int, rng: random.Random) -> str:
    """SIGKILL of workers at random instants: the driver goes on and says so."""
    process, kills = site.started(), 0
    while kills < rounds and site.more(process, rng.choice([1, 1, 2, 3])):
        time.sleep(instant(rng))
        pids = [pid for pid in {pid for _, pid in begun(site.log)} if alive(pid)]
        if pids:
            kill(rng.choice(sorted(pids)))
            kills += 1
    code, said = site.ended(process)
    require(code == 0, f"the driver ends well: {said}")
    require(kills == rounds, f"{rounds} workers were killed before the end")
    require("lost while at work" in said, f"lost workers are told of: {said!r}")
    site.check()
    times = len(begun(site.log)) - site.count
    # What was on its way: while the other worker starts anew, all may be with one.
    most = 2 * site.workers * kills
    require(times <= most, f"{kills} lost workers cost {times} cells, at most {most}")
    return f"{kills} workers killed, {times} cells begun again"


def interrupted(site: Site, rounds: int, rng: random.Random) -> str:
    """Ctrl-C, sent to the driver and all its workers as a terminal does."""
    for _ in range(rounds):
        process = site.started()
        working = site.more(process, rng.choice([1, 2, 4]))
        time.sleep(instant(rng))
        pids = {pid for _, pid in begun(site.log) if alive(pid)}
        for pid in (process.pid, *pids):
            if alive(pid):
                os.kill(pid, signal.SIGINT)
        code, said = site.ended(process)
        require(code == (130 if working else 0) or code == 0, f"exit 130: {said}")
        require("Traceback" not in said, f"no traceback: {said}")
        until(lambda pids=pids: not any(map(alive, pids)), "workers end")
        site.look()
    site.check()
    return f"{rounds} interrupted"


def disk_full(site: Site, rounds: int, rng: random.Random) -> str:
    """Every so often the disk has no space left for the next file or record."""
    genuine, left = os.fsync, [0]

    def full(file: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        genuine(file)

    for _ in range(rounds):
        left[0] = rng.randrange(12)
        with mock.patch.object(os, "fsync", full):
            _refused(site, "No space left on device; free some space and start again")
        site.look()
    site.check()
    return f"{rounds} times full"


def disk_really_full(site: Site, rounds: int, rng: random.Random) -> str:
    """A small disk, filled; made larger, and the study goes on."""
    site.out.mkdir(parents=True)
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(site.out)]
    if os.geteuid() or not shutil.which("mount"):
        return "left out: only root can mount a small disk"
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        return "left out: this machine does not mount a small disk"
    try:
        size = 128
        for _ in range(rounds):
            _refused(site, "free some space and start again")
            site.look()
            size += rng.randrange(8, 64)
            larger = ["mount", "-o", f"remount,size={size}k", str(site.out)]
            subprocess.run(larger, check=True, capture_output=True)
        enough = ["mount", "-o", "remount,size=64m", str(site.out)]
        subprocess.run(enough, check=True, capture_output=True)
        site.check()
    finally:
        subprocess.run(["umount", str(site.out)], check=True)
    return f"{rounds} times really full"


def arrays_damaged(site: Site, rounds: int, rng: random.Random) -> str:
    """Arrays files are truncated, altered or removed: their cells are done again."""
    drive(site.out, site.log, site.count, 1)
    site.look()
    for _ in range(rounds):
        path = rng.choice(sorted(site.out.glob("arrays/*.safetensors")))
        whole, seen = path.read_bytes(), len(begun(site.log))
        place = rng.randrange(len(whole))
        damaged = whole[:place] + rng.choice([b"", bytes([whole[place] ^ 1])])
        path.write_bytes(damaged + whole[place + 1 :] * (len(damaged) > place))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            drive(site.out, site.log, site.count, 1)
        texts = [str(w.message) for w in caught if w.category is SummiteerWarning]
        require(
            len(texts) == 1
            and f"{path} is missing or not as it was written" in texts[0],
            f"the damage is told: {texts}",
        )
        again = [number for number, _ in begun(site.log)[seen:]]
        require(again == [int(path.stem)], "only the damaged cell is done again")
        site.known = {
            name: what
            for name, what in site.known.items()
            if _number(site, name) != path.name
        }
        site.look()
    site.check()
    return f"{rounds} files damaged"


def database_locked(site: Site, rounds: int, rng: random.Random) -> str:
    """Another process writes into the database, and does not end."""
    for _ in range(rounds):
        drive(site.out, site.log, rng.randrange(1, site.count), 1)
        site.look()
        with closing(sqlite3.connect(site.out / "store.sqlite")) as other:
            other.execute("BEGIN IMMEDIATE")
            with _impatient():
                _refused(site, "database is locked; let no other program")
        site.look()
        if len(site.known) >= site.count - 1:
            break
    site.check()
    return f"{rounds} times locked"


def database_corrupted(site: Site, rounds: int, rng: random.Random) -> str:
    """Bytes of the database are overwritten: refused; put back, it goes on."""
    drive(site.out, site.log, max(1, site.count - 2), 1)
    site.look()
    path = site.out / "store.sqlite"
    whole = path.read_bytes()
    for _ in range(rounds):
        if rng.random() < 0.5:
            damaged = whole[: rng.randrange(1, len(whole) - 4096)]
        else:
            start = 4096 * rng.randrange(len(whole) // 4096)
            damaged = whole[:start] + rng.randbytes(4096) + whole[start + 4096 :]
        path.write_bytes(damaged)
        files = sorted(site.out.glob("arrays/*"))
        _refused(site, "put it back from a copy, or delete the directory")
        require(sorted(site.out.glob("arrays/*")) == files, "arrays are left alone")
        path.write_bytes(whole)
        site.look()
    site.check()
    return f"{rounds} times corrupted"


def clock_backwards(site: Site, rounds: int, rng: random.Random) -> str:
    """The clock jumps back by hours between any two looks at it."""
    now = [datetime.now(UTC)]

    def earlier() -> str:
        now[0] -= timedelta(hours=rng.uniform(0.0, 9.0))
        return now[0].isoformat(timespec="seconds")

    def clock() -> float:
        return now[0].timestamp()

    step = max(1, site.count // (rounds + 1))
    with (
        mock.patch.object(store, "_now", earlier),
        mock.patch.object(time, "time", clock),
    ):
        for count in range(step, site.count, step):
            drive(site.out, site.log, count, 1)
            site.look()
    site.check()
    require(len(begun(site.log)) == site.count, "no cell is done twice")
    return f"{(site.count - 1) // step} times taken up, hours earlier"


#: Name -> (what is done, cells per round, its rounds in `make chaos`).
FAULTS: dict[str, tuple[Callable[[Site, int, random.Random], str], int, int]] = {
    "drivers killed": (drivers_killed, 6, 50),
    "workers killed": (workers_killed, 8, 50),
    "interrupted": (interrupted, 8, 10),
    "disk full": (disk_full, 4, 50),
    "disk really full": (disk_really_full, 30, 10),
    "arrays damaged": (arrays_damaged, 2, 50),
    "database locked": (database_locked, 4, 10),
    "database corrupted": (database_corrupted, 2, 50),
    "clock backwards": (clock_backwards, 4, 50),
}


def _refused(site: Site, text: str) -> None:
    """Drive, and be told why it does not go on."""
    try:
        drive(site.out, site.log, site.count, 1)
    except UserError as error:
        require(text in str(error), f"{text!r} is said, not {str(error)!r}")
    else:
        require(False, f"the driver is refused: {text}")


def _number(site: Site, name: str) -> object:
    with store.Store.read(site.out) as opened:
        return opened.record(name).arrays


@contextmanager
def _impatient() -> Iterator[None]:
    """SQLite waits five seconds for a lock: not here."""
    genuine = sqlite3.connect

    def connect(*arguments: object, **named: object) -> sqlite3.Connection:
        return genuine(*arguments, **named, timeout=0)  # type: ignore[call-overload,no-any-return]

    with mock.patch.object(disk.sqlite3, "connect", connect):
        yield
