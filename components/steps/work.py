"""Directories that steps work in and that outlive a killed attempt: on a volume, or by URI.

TensorFlow and Optuna write to paths. Below a URI the files are therefore copies: what changed is
carried there at each save, and the next attempt begins with what arrived. The file that says which
checkpoint is the newest goes last, and what it no longer names is removed after it, so that
whenever the carrying ends, what lies there is the last save or the one before.
"""

from __future__ import annotations

import contextlib
import pathlib
import re
from collections.abc import Iterator

from estimator_lib.core import storage, store_leases, stores
from estimator_lib.core.errors import Reason, StorageError
from estimator_lib.core.places import Place
from estimator_lib.training.checkpoints import STATE_FILE

_WHAT = "Working directory"
_Stamp = tuple[int, int]
_CHECKPOINT = re.compile(r"(model\.ckpt-\d+)\.")


class Work:
    """A directory to work in: `path`, on this machine."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path

    def carry(self) -> None:
        """Puts what was written where the next attempt finds it.

        Raises:
            StorageError: it cannot be written, or another attempt has taken over.
        """

    def clear(self) -> None:
        """Removes it, for nobody goes on there."""
        storage.remove(self.path)


class _Carried(Work):
    """One whose files are carried to a store."""

    def __init__(self, path: pathlib.Path, place: Place, lease: store_leases.StoreLease) -> None:
        super().__init__(path)
        self._place = place
        self._store = stores.of(place)
        self._lease = lease
        self._states: dict[str, str] = {}
        self._there: dict[str, _Stamp | None] = {}
        self._fetch()

    def _fetch(self) -> None:
        """Brings what an earlier attempt carried, without parts of saves that did not arrive."""
        listed = self._store.listed(self._place)
        names = [name for name in listed if not _hidden(name)]
        for name in names:
            path = storage.safe_join(self.path, name)
            storage.make_directory(path.parent)
            self._store.download(self._place / name, path)
        for path in list(self.path.rglob("*")):
            part = _CHECKPOINT.match(path.name)
            state = path.parent / STATE_FILE
            named = state.read_text() if state.is_file() else ""
            if part is not None and f'"{part[1]}"' not in named:
                storage.remove(path)
        self._states = {name: listed[name].version for name in names if _is_state(name)}
        self._there = dict.fromkeys(names) | self._stamps()

    def carry(self) -> None:
        stamps = self._stamps()
        changed = [name for name, stamp in stamps.items() if self._there.get(name) != stamp]
        for name in sorted(changed, key=lambda name: (_is_state(name), name)):
            path = self.path / name
            try:
                if _is_state(name):
                    self._replace(name, path.read_bytes())
                else:
                    self._store.upload(path, self._place / name)
            except (StorageError, FileNotFoundError):
                if path.exists():
                    raise
                continue  # its trial has ended
            self._there[name] = stamps[name]
        gone = sorted(set(self._there) - set(stamps))
        if gone:
            self._require_lease()
        for name in gone:
            self._store.remove(self._place / name)
            del self._there[name]

    def clear(self) -> None:
        super().clear()
        storage.make_directory(self.path)
        self.carry()

    def _replace(self, name: str, data: bytes) -> None:
        """Writes a state file, unless another attempt did since this one has."""
        self._require_lease()
        place, known = self._place / name, self._states.get(name)
        if known is None:
            written = self._store.create(place, data)
        else:
            written = self._store.replace_if(place, data, known)
        # A server that died after it wrote may have forgotten who did.
        written = written or self._store.read(place) == data
        found = self._store.look(place)
        if not written or found is None:
            raise self._taken_over()
        self._states[name] = found.version

    def _require_lease(self) -> None:
        if not self._lease.is_held():
            raise self._taken_over()

    def _taken_over(self) -> StorageError:
        return StorageError(
            f"{_WHAT} {self._place} was taken over by another attempt while this one was silent. "
            "Its newest checkpoint is intact.",
            reason=Reason.LEASED,
        )

    def _stamps(self) -> dict[str, _Stamp]:
        """What tells the content of each file from that which was carried."""
        found = {}
        for path in self.path.rglob("*"):
            name = path.relative_to(self.path).as_posix()
            with contextlib.suppress(FileNotFoundError):  # a trial that has ended
                if not _hidden(name) and path.is_file():
                    stat = path.stat()
                    found[name] = (stat.st_size, stat.st_mtime_ns)
        return found


def _hidden(name: str) -> bool:
    """Whether a file is of this machine only: a lease, or something that is being written."""
    return any(part.startswith(".") for part in name.split("/"))


def _is_state(name: str) -> bool:
    return name.rpartition("/")[2] == STATE_FILE


def below(root: str, name: str) -> str:
    """Returns the path or URI of a directory below `root`; "" stays "", which is none."""
    return str(Place.parse(root) / name) if root else ""


@contextlib.contextmanager
def directory(root: str, key: str, *, keep: int) -> Iterator[Work]:
    """Holds the working directory `key` during the block; others of `root` go when it ends well.

    Args:
        root: A path or URI that outlives a killed attempt, or "": then nothing does.
        key: What tells one piece of work from all others (`storage.is_key`).
        keep: How many working directories stay below `root`, newest first.

    Raises:
        StorageError: another attempt is working there (`retryable`), or it cannot be written.
    """
    place = Place.parse(root) if root else None
    if place is not None and place.is_local:
        path = place.path / key
        with storage.leased(path, storage.WORK_LEASE, what=_WHAT):
            yield Work(path)
        storage.keep_newest(place.path, keep=keep)
        return
    with storage.temporary_directory("work-") as folder:
        path = storage.make_directory(pathlib.Path(folder) / key)
        if place is None:
            yield Work(path)
            return
        there = place / key
        with store_leases.leased(there / storage.WORK_LEASE, what=_WHAT) as held:
            work = _Carried(path, there, held)
            yield work
            work.carry()
        _keep_newest(place, keep)


def _keep_newest(root: Place, keep: int) -> None:
    """Removes all but the newest working directories below a URI that nobody uses."""
    changed: dict[str, float] = {}
    for name, entry in stores.of(root).listed(root).items():
        key, slash, _ = name.partition("/")
        if slash and storage.is_key(key):
            changed[key] = max(changed.get(key, 0.0), entry.changed)
    for key in sorted(changed, key=lambda key: -changed[key])[keep:]:
        lease = store_leases.StoreLease(root / key / storage.WORK_LEASE)
        if lease.take() is None:
            try:
                stores.of(root).remove(root / key)
            finally:
                lease.release()
