"""Who works in a folder of a store: one at a time, and never one who was taken for dead."""

import dataclasses
import threading

import pytest

from estimator_lib.core import leases, store_leases, stores
from estimator_lib.core.errors import Reason, StorageError
from estimator_lib.core.places import Place
from tests import memory_store

LEASE = Place("mem://bucket/folder/.lease")


@pytest.fixture(autouse=True)
def empty():
    memory_store.clear()


def owned_elsewhere(age_s):
    """A lease of a process on another machine that was fresh `age_s` seconds ago."""
    owner = dataclasses.replace(leases.this_process(), host="another", pid=7)
    stores.write(LEASE, owner.content())
    memory_store.CHANGED[LEASE.given] -= age_s


def test_one_of_many_that_come_at_once_has_it():
    held, start = [], threading.Barrier(8)

    def come():
        lease = store_leases.StoreLease(LEASE)
        start.wait()
        if lease.take() is None:
            held.append(lease)

    threads = [threading.Thread(target=come) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [lease.is_held() for lease in held] == [True]
    held[0].release()
    assert memory_store.FILES == {}


def test_a_living_owner_elsewhere_is_named_and_waited_for():
    owned_elsewhere(5)
    with (
        pytest.raises(StorageError, match=r"mem://bucket/folder is in use by process 7") as error,
        store_leases.leased(LEASE, what="Folder"),
    ):
        pass
    assert error.value.reason is Reason.LEASED
    assert error.value.retryable


def test_a_silent_owner_is_succeeded_and_finds_that_it_was():
    owned_elsewhere(leases.STALE_S + 1)
    first = store_leases.StoreLease(LEASE)
    assert first.take() is None
    memory_store.CHANGED[LEASE.given] -= leases.STALE_S + 1
    owned_elsewhere(0)
    assert not first.is_held()
    first.release()
    assert list(memory_store.FILES) == [LEASE.given], "the successor's lease stays"


def test_a_process_of_this_machine_that_ended_is_succeeded_at_once():
    owner = dataclasses.replace(leases.this_process(), pid=2**22 + 1, started="1")
    stores.write(LEASE, owner.content())
    with store_leases.leased(LEASE, what="Folder") as lease:
        assert lease.is_held()
    assert memory_store.FILES == {}


def test_of_two_that_succeed_a_dead_owner_one_does(monkeypatch):
    owned_elsewhere(leases.STALE_S + 1)
    other, told = store_leases.StoreLease(LEASE), []
    real = memory_store.MemoryStore.read

    def faster(self, place):
        data = real(self, place)
        if place == LEASE and not told:
            told.append("")
            told[0] = other.take()  # right after this one has looked
        return data

    monkeypatch.setattr(memory_store.MemoryStore, "read", faster)
    slower = store_leases.StoreLease(LEASE)
    assert slower.take() == other.owner
    assert told == [None]
    assert other.is_held()
    other.release()
