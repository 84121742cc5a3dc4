"""An object store in memory, `mem://`, that fails when it is told to.

It keeps the contract of `stores.ObjectStore`, as `tests/stores` shows.
"""

import io
import pathlib
import threading
import time
import uuid

from estimator_lib.core import stores
from estimator_lib.core.errors import StorageError

FILES: dict[str, bytes] = {}
CHANGED: dict[str, float] = {}
WRITTEN: list[str] = []
"""The files in the order in which they became visible."""


class Outage:
    """Every call from a given one on fails; None: none does."""

    calls = 0
    first: int | None = None


def clear():
    FILES.clear()
    CHANGED.clear()
    WRITTEN.clear()
    _VERSIONS.clear()
    fail_from(None)


def fail_from(call):
    Outage.calls, Outage.first = 0, call


def called(action, place):
    Outage.calls += 1
    if Outage.first is not None and Outage.calls >= Outage.first:
        raise StorageError(f"Cannot {action} {place}: 503 Service Unavailable.")


def below(folder):
    return {name.removeprefix(f"{folder}/") for name in FILES if name.startswith(f"{folder}/")}


def download(folder: str, target: pathlib.Path) -> pathlib.Path:
    """What the store's own command line would copy."""
    for name in below(folder):
        path = target / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[f"{folder}/{name}"])
    return target


_VERSIONS: dict[str, str] = {}
_lock = threading.RLock()


class MemoryStore:
    def read(self, place):
        called("read", place)
        return FILES.get(_uri(place))

    def open(self, place, version=None):
        data = self.read(place)
        if data is not None and version not in (None, _entry(_uri(place)).version):
            raise StorageError(f"Cannot read {place}: it was replaced while it was used.")
        if data is None:
            raise stores.missing(place)
        return io.BytesIO(data)

    def look(self, place):
        called("read", place)
        return _entry(_uri(place)) if _uri(place) in FILES else None

    def listed(self, folder):
        called("list", folder)
        with _lock:
            return {name: _entry(f"{_uri(folder)}/{name}") for name in sorted(below(_uri(folder)))}

    def create(self, place, data):
        return self._put(place, data, lambda there: there is None)

    def replace_if(self, place, data, version):
        return self._put(place, data, lambda there: there == version)

    def write(self, place, data):
        self._put(place, data, lambda there: True)

    def upload(self, path, place, *, only_if_absent=False):
        data = path.read_bytes()
        return self._put(place, data, lambda there: not only_if_absent or there is None)

    def download(self, place, path):
        with self.open(place) as source:
            path.write_bytes(source.read())

    def remove(self, place):
        called("delete", place)
        with _lock:
            names = [*FILES]
        for name in names:
            if name == _uri(place) or name.startswith(f"{_uri(place)}/"):
                FILES.pop(name, None)

    def _put(self, place, data, holds):
        called("write", place)
        uri = _uri(place)
        with _lock:
            if not holds(_entry(uri).version if uri in FILES else None):
                return False
            FILES[uri] = bytes(data)
            CHANGED[uri] = time.time()
            _VERSIONS[uri] = uuid.uuid4().hex
            WRITTEN.append(uri)
            return True


def _uri(place):
    return place.given.rstrip("/")


def _entry(uri):
    """What a test put there by hand has a version, too."""
    version = _VERSIONS.setdefault(uri, uuid.uuid4().hex)
    return stores.Entry(
        size=len(FILES[uri]), changed=CHANGED.get(uri, time.time()), version=version
    )


stores.register("mem", MemoryStore())
