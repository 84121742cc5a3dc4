"""Where a run leaves everything: a directory, or a URI and the directory that the run works in.

KFP's local runner, TensorFlow and pyarrow write to paths. Of a run whose output is a URI the
artifacts of each finished step are carried there, then the cache's entry that names them; a run
elsewhere, or later, fetches them from there. The serving directory, checkpoints, searches and what
was learned of files are below the URI only: the steps know places.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import pathlib
from collections.abc import Iterable, Iterator

from estimator_lib.core import fetched, storage, store_leases, stores
from estimator_lib.core.errors import PipelineError, Reason, StorageError
from estimator_lib.core.places import Place

CACHE = "cache"
LOGS = "logs"
_LOCK = ".lock"


class Output:
    """Where a run leaves everything.

    Attributes:
        place: As the user gave it, absolute.
        folder: Directory of this machine for artifacts, cache and logs.
    """

    def __init__(self, place: Place, folder: pathlib.Path) -> None:
        self.place = place
        self.folder = folder

    def below(self, name: str) -> str:
        """Returns the path or URI of something below the output, as steps are given it."""
        return str(self.place / name)

    def carry(self, name: str) -> None:
        """Brings a file of the folder to the place."""

    def keep(self, entry: str, paths: Iterable[pathlib.Path]) -> None:
        """Keeps an entry of the cache, and before it what it names, for later runs."""

    def has(self, entry: str) -> bool:
        """Whether later runs find an entry of the cache."""
        del entry
        return True

    def bring(self, entry: str) -> None:
        """Brings an entry of the cache and what it names, where an earlier run kept it."""

    def keep_logs(self) -> None:
        """Keeps what the steps said."""


class _Stored(Output):
    """One below a URI."""

    def __init__(self, place: Place, folder: pathlib.Path) -> None:
        super().__init__(place, folder)
        self._entries = set(stores.of(place).listed(place / CACHE))

    def carry(self, name: str) -> None:
        stores.of(self.place).upload(self.folder / name, self.place / name)

    def keep(self, entry: str, paths: Iterable[pathlib.Path]) -> None:
        for path in paths:
            self._carry_tree(path)
        self._carry_tree(self.folder / CACHE / entry)
        self._entries.add(entry)

    def has(self, entry: str) -> bool:
        return entry in self._entries

    def _carry_tree(self, path: pathlib.Path) -> None:
        if not path.is_relative_to(self.folder):
            return
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                self.carry(file.relative_to(self.folder).as_posix())

    def bring(self, entry: str) -> None:
        described = self.folder / CACHE / entry
        if described.is_file() or entry not in self._entries:
            return
        data = stores.read(self.place / CACHE / entry)
        for name in _named(json.loads(data), self.folder):
            self._fetch(name)
        storage.write_bytes(described, data)

    def _fetch(self, name: str) -> None:
        target = storage.safe_join(self.folder, name)
        if target.exists():
            return
        store, there = stores.of(self.place), self.place / name
        with storage.staging(target.parent, target.name) as staged:
            below = store.listed(there)
            for file in below:
                path = storage.safe_join(staged.path, file)
                storage.make_directory(path.parent)
                store.download(there / file, path)
            if below:
                staged.commit(target)
                return
            data = store.read(there)
            if data is not None:
                storage.write_bytes(target, data)

    def keep_logs(self) -> None:
        with contextlib.suppress(StorageError):  # they are here, and what ended the run counts
            self._carry_tree(self.folder / LOGS)


def _named(entry: object, folder: pathlib.Path) -> Iterator[str]:
    """The paths below `folder` that an entry of KFP's cache has artifacts at."""
    if isinstance(entry, dict):
        uri = entry.get("uri")
        if isinstance(uri, str) and pathlib.Path(uri).is_relative_to(folder):
            yield pathlib.Path(uri).relative_to(folder).as_posix()
        for value in entry.values():
            yield from _named(value, folder)
    elif isinstance(entry, list):
        for value in entry:
            yield from _named(value, folder)


def has_begun(place: Place) -> bool:
    """Whether a run has left something at a place."""
    if (_folder(place) / LOGS).is_dir():
        return True
    return not place.is_local and bool(stores.of(place).listed(place))


def _folder(place: Place) -> pathlib.Path:
    """The directory that a run works in: for a URI always the same one of this user."""
    if place.is_local:
        return place.path.resolve()
    key = hashlib.sha256(str(place).rstrip("/").encode()).hexdigest()[:16]
    return fetched.root() / "runs" / key


@contextlib.contextmanager
def held(place: Place) -> Iterator[Output]:
    """Holds a place for one run.

    Raises:
        PipelineError: another run is using it (`retryable`).
        StorageError: the same of a URI, or it cannot be written.
    """
    folder = _folder(place)
    if place.is_local:
        with lease(folder):
            yield Output(Place(str(folder)), folder)
        return
    with store_leases.leased(place / _LOCK, what="Output of a run"), lease(folder):
        output = _Stored(place, folder)
        try:
            yield output
        finally:
            output.keep_logs()


@contextlib.contextmanager
def lease(folder: pathlib.Path) -> Iterator[None]:
    """Holds a directory for one run; the kernel gives it up when the process dies.

    Raises:
        PipelineError: another run is using it (`retryable`).
    """
    storage.make_directory(folder)
    path = folder / _LOCK
    with contextlib.ExitStack() as stack:
        with storage.storage_errors("lock", path):
            lock = stack.enter_context(open(path, "a", encoding="utf-8"))
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise PipelineError(
                    f"Another run is using {folder}. Wait for it, or give another --output.",
                    reason=Reason.LEASED,
                ) from error
        yield
