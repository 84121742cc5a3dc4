"""Leases in an object store: who works in a folder there.

Layer 1. The lease is one object that names its owner. It is created only if absent, kept fresh and
taken over by writes that succeed only if nobody has written in between, so that of several
processes one has it. An owner on this machine is proved dead by the kernel; one of another machine
by the age of the object, by the store's own clock.

A process that was silent for too long may come back: it looks whether it still has the lease
(`is_held`) before it writes what others read.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator

from estimator_lib.core import leases, storage, stores
from estimator_lib.core.errors import EstimatorLibError, StorageError
from estimator_lib.core.places import Place

_POLL_S = 0.2
_TAKING = ".taking-"


class StoreLease:
    """A lease; `take` it, `release` it. Its object is written anew while this process lives.

    Args:
        place: Its object.
    """

    def __init__(self, place: Place) -> None:
        self.place = place
        self.owner = leases.this_process()
        self._writing = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, stale_s: float = leases.STALE_S) -> leases.Owner | None:
        """Takes the lease, from a dead owner too; returns the one that has it if that lives.

        Raises:
            StorageError: the store cannot be reached.
        """
        leases.hold(self.owner)
        try:
            holder = self._take(stale_s)
        except BaseException:
            leases.give_up(self.owner)
            raise
        if holder is not None:
            leases.give_up(self.owner)
            return holder
        self._thread = threading.Thread(target=self._beat, name="store lease", daemon=True)
        self._thread.start()
        return None

    def _take(self, stale_s: float) -> leases.Owner | None:
        store, content = stores.of(self.place), self.owner.content()
        while not store.create(self.place, content):
            found, data = store.look(self.place), store.read(self.place)
            if found is None or data is None:
                continue  # it was released just now
            holder = leases.parse(data)
            alive = leases.lives_here(holder)
            if alive is None:
                alive = self._now() - found.changed < stale_s
            if alive:
                return holder
            if store.replace_if(self.place, content, found.version):
                return None
        return None

    def _now(self) -> float:
        """The store's time."""
        store = stores.of(self.place)
        probe = self.place.parent / f"{self.place.name}{_TAKING}{self.owner.token}"
        store.write(probe, b"")
        found = store.look(probe)
        store.remove(probe)
        return time.time() if found is None else found.changed

    def _beat(self) -> None:
        while not self._stop.wait(leases.BEAT_S):
            with contextlib.suppress(EstimatorLibError), self._writing:  # the next may succeed
                if self._stop.is_set():
                    return
                store = stores.of(self.place)
                found = store.look(self.place)
                if found is not None and self.is_held():
                    store.replace_if(self.place, self.owner.content(), found.version)

    def is_held(self) -> bool:
        """Whether nobody took it over.

        Raises:
            StorageError: the store cannot be reached.
        """
        data = stores.of(self.place).read(self.place)
        return data is not None and leases.parse(data).token == self.owner.token

    def release(self) -> None:
        """Gives the lease up; one that was taken over, or is a parent process's, stays.

        Raises:
            StorageError: the store cannot be reached; others take it over in time.
        """
        self._stop.set()
        if os.getpid() != self.owner.pid:
            return
        leases.give_up(self.owner)
        with self._writing:
            if self.is_held():
                stores.of(self.place).remove(self.place)


@contextlib.contextmanager
def leased(place: Place, *, what: str, wait_s: float = 0.0) -> Iterator[StoreLease]:
    """Holds a lease during the block.

    Args:
        place: Its object.
        what: How messages call the folder it is in, such as "Serving directory".
        wait_s: How long to wait for another process.

    Raises:
        StorageError: another process holds it (`retryable`), or the store cannot be reached.
    """
    lease = StoreLease(place)
    storage.wait_for(lease.take, what=f"{what} {place.parent}", wait_s=wait_s, poll_s=_POLL_S)
    try:
        yield lease
    finally:
        with contextlib.suppress(StorageError):  # it is taken over when this process has ended
            lease.release()
