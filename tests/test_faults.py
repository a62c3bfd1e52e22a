"""A few rounds of every fault of `make chaos`, and that broken promises are noticed."""

import random

import pytest
from chaos import site as site_module
from chaos.driver import drive
from chaos.faults import FAULTS
from chaos.site import BrokenPromiseError, Site

from summiteer.store import Store

#: Fault -> (rounds, cells); those with processes of their own need seconds each.
ROUNDS = {
    "drivers killed": (2, 12),
    "workers killed": (3, 30),
    "interrupted": (1, 10),
    "disk full": (6, 24),
    "disk really full": (3, 90),
    "arrays damaged": (6, 8),
    "database locked": (2, 8),
    "database corrupted": (8, 8),
    "clock backwards": (4, 12),
}


def test_every_fault_is_here():
    assert ROUNDS.keys() == FAULTS.keys()


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost_or_counted_twice(tmp_path, name):
    rounds, count = ROUNDS[name]
    told = FAULTS[name][0](Site(tmp_path, count), rounds, random.Random(name))
    if told.startswith("left out"):
        pytest.skip(told)


def test_a_lost_cell_is_noticed(tmp_path):
    site = Site(tmp_path, 3)
    drive(site.out, site.log, 3, 1)
    site.look()
    with Store.open(site.out, {"command": "chaos"}) as store:
        store._connection.execute("DELETE FROM cells WHERE name = ?", [min(site.known)])
        store._connection.commit()
    with pytest.raises(BrokenPromiseError, match=r"finished cell \w+ stays"):
        site.look()


def test_a_cell_done_twice_is_noticed(tmp_path):
    site = Site(tmp_path, 3)
    drive(site.out, site.log, 3, 1)
    site.look()
    path = site.out / "arrays" / "00001.safetensors"
    whole = path.read_bytes()
    path.with_name("copy").write_bytes(whole)
    path.with_name("copy").replace(path)
    with pytest.raises(BrokenPromiseError, match=r"finished cell \w+ stays"):
        site.look()


def test_another_result_is_noticed(tmp_path, monkeypatch):
    site = Site(tmp_path, 3)
    drive(site.out, site.log, 3, 1)
    (site.out / "stray").write_text("left behind")
    with pytest.raises(BrokenPromiseError, match="those of the undisturbed run"):
        site.check()


def test_what_never_happens_is_not_waited_for_forever(monkeypatch):
    monkeypatch.setattr(site_module, "PATIENCE", 0.01)
    with pytest.raises(BrokenPromiseError, match="it rains"):
        site_module.until(lambda: False, "it rains")
