"""Object stores: what reads and writes the places that are URIs.

Layer 0. An object store renames nothing, so that three promises take the place of `storage`'s:

* a file is whole or not there, whatever interrupts its writer;
* who creates a file, or replaces the version that it saw, is told whether it did: of several
  writers one wins (`create`, `replace_if`);
* an outage is survived until a deadline, and a refusal is final at once, whichever the store.

The clients (s3fs, gcsfs, adlfs) are imported when a URI of theirs is met. `read`, `find`, `write`,
`exists` and `remove` are for what may be a path or a URI.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import pathlib
import re
from collections.abc import Mapping
from typing import BinaryIO, Protocol

from estimator_lib.core import places, storage
from estimator_lib.core.errors import ConfigError, Reason, StorageError, quote
from estimator_lib.core.places import Place

Where = str | os.PathLike[str]
"""A path or URI, or a place."""
DEADLINE = "STORE_DEADLINE_S"
"""Environment variable: how many seconds a request is tried before it is given up, 60 if unset."""
_EXTRAS = {"s3": "s3", "gs": "gcs", "az": "azure", "abfs": "azure"}
"""Scheme -> extra of this package with its client."""
_registered: dict[str, ObjectStore] = {}
_made: dict[str, ObjectStore] = {}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """One file of a store.

    Attributes:
        size: In bytes.
        changed: When it was written, Unix time.
        version: Its ETag or generation: another one means that it was written again. Of S3 it
            follows from the content, so that the same content has the same version there.
    """

    size: int
    changed: float
    version: str


class ObjectStore(Protocol):
    """Files by URI.

    Every method may raise a StorageError. It is `retryable` where the store could not be reached
    until the deadline; no permission, no such bucket and the like are final. Its `reason` is
    UNREACHABLE, PERMISSION, FILE_NOT_FOUND (a bucket, or what `open` and `download` are asked
    for), or IO.
    """

    def read(self, place: Place) -> bytes | None:
        """Returns a file's content, or None if there is no such file."""
        ...

    def open(self, place: Place, version: str | None = None) -> BinaryIO:
        """Opens a file to read; it can be sought, and only what is asked for is fetched.

        A file that is replaced meanwhile, or has another version than is asked for, raises an
        error instead of giving parts of both.
        """
        ...

    def look(self, place: Place) -> Entry | None:
        """Returns what is known of a file, or None if there is no such file."""
        ...

    def listed(self, folder: Place) -> Mapping[str, Entry]:
        """Returns the files below `folder`, by their names below it, sorted."""
        ...

    def create(self, place: Place, data: bytes) -> bool:
        """Writes a file unless there is one; returns whether it wrote it."""
        ...

    def replace_if(self, place: Place, data: bytes, version: str) -> bool:
        """Writes a file if the one there has this version; returns whether it wrote it."""
        ...

    def write(self, place: Place, data: bytes) -> None:
        """Writes a file, whatever is there."""
        ...

    def upload(self, path: pathlib.Path, place: Place, *, only_if_absent: bool = False) -> bool:
        """Writes a file with the content of one of this machine; returns whether it wrote it."""
        ...

    def download(self, place: Place, path: pathlib.Path) -> None:
        """Writes a file of this machine, in a staged place, with the content of one there."""
        ...

    def remove(self, place: Place) -> None:
        """Deletes a file, and every one below it as a folder; none is fine."""
        ...


def of(place: Place) -> ObjectStore:
    """Returns what reads and writes a URI.

    Raises:
        ConfigError: its client is not installed or lacks its settings, it is a path of this
            machine, or raw data can be read there and nothing else.
    """
    scheme = place.scheme
    if scheme in _registered:
        return _registered[scheme]
    if scheme not in _EXTRAS:
        raise ConfigError(
            f"Place {quote(place.given)} is in no object store: expected a URI with one of the "
            f"schemes {', '.join(sorted(places.SCHEMES))}. Give one.",
            reason=Reason.UNSUPPORTED,
        )
    extra = _EXTRAS[scheme]
    if extra not in _made:
        try:
            driver = importlib.import_module(f"{__name__}._{extra}")
        except ImportError as error:
            raise ConfigError(
                f"Place {quote(place.given)} cannot be used: {error.name} is not installed. "
                f"Install estimator-pipelines[{extra}].",
                reason=Reason.UNSUPPORTED,
            ) from error
        from estimator_lib.core.stores import _remote

        _made[extra] = _remote.RemoteStore(driver.Driver)
    return _made[extra]


def register(scheme: str, store: ObjectStore) -> None:
    """Adds a store of a program's own, such as one in memory for its tests."""
    places.SCHEMES.add(scheme)
    _registered[scheme] = store


def read(given: Where) -> bytes:
    """Returns the content of a path or URI.

    Raises:
        StorageError: it cannot be read; FILE_NOT_FOUND where it is not in its store.
    """
    place = Place.parse(given)
    if place.is_local:
        with storage.storage_errors("read", place.given):
            return place.path.read_bytes()
    data = of(place).read(place)
    if data is None:
        raise missing(place)
    return data


def find(given: Where) -> bytes | None:
    """Returns the content of a path or URI, or None if there is no such file.

    Raises:
        StorageError: it cannot be read.
    """
    place = Place.parse(given)
    if not place.is_local:
        return of(place).read(place)
    with storage.storage_errors("read", place.given), contextlib.suppress(FileNotFoundError):
        return place.path.read_bytes()
    return None


def missing(place: Place) -> StorageError:
    """Returns the error for a file that is not in its store."""
    error = StorageError(
        f"Cannot read {place}: there is no such file.", reason=Reason.FILE_NOT_FOUND
    )
    error.retryable = False
    return error


def write(given: Where, data: bytes) -> None:
    """Writes a path or URI; readers see the old content or the new one.

    Raises:
        StorageError: it cannot be written.
    """
    place = Place.parse(given)
    if place.is_local:
        storage.write_bytes(place.path, data)
    else:
        of(place).write(place, data)


def exists(given: Where) -> bool:
    """Whether there is such a file.

    Raises:
        StorageError: nothing can be said.
    """
    place = Place.parse(given)
    return place.path.is_file() if place.is_local else of(place).look(place) is not None


def remove(given: Where) -> None:
    """Deletes a file or a folder; a missing one is fine.

    Raises:
        StorageError: it cannot be deleted.
    """
    place = Place.parse(given)
    if place.is_local:
        storage.remove(place.path)
    else:
        of(place).remove(place)


def matching(pattern: Place) -> dict[str, Entry]:
    """Returns the files of a store that match a pattern, by URI, sorted.

    Args:
        pattern: A URI with `*`, `[...]` and `**`, as file patterns of paths have them.

    Raises:
        StorageError: the store cannot be listed.
    """
    store = of(pattern)
    magic = re.search(r"[*\[]", pattern.given)
    if magic is None:
        found = store.look(pattern)
        return {} if found is None else {pattern.given: found}
    folder = Place(pattern.given[: magic.start()].rpartition("/")[0])
    wanted = re.compile(_regex(pattern.given))
    listed = {f"{folder}/{name}": entry for name, entry in store.listed(folder).items()}
    return {uri: entry for uri, entry in listed.items() if wanted.fullmatch(uri)}


_MAGIC = re.compile(r"\*\*/|\*\*|\*|\[!?\]?[^\]]*\]")


def _regex(pattern: str) -> str:
    """A pattern as a regular expression: "*" stops at "/", and "**/" may be nothing."""
    found, at = [], 0
    for magic in _MAGIC.finditer(pattern):
        found.append(re.escape(pattern[at : magic.start()]))
        found.append(_MEANING.get(magic[0]) or "[" + _charset(magic[0][1:-1]) + "]")
        at = magic.end()
    return "".join(found) + re.escape(pattern[at:])


_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*"}


def _charset(chosen: str) -> str:
    negated = chosen.startswith("!")
    plain = re.sub(r"([\\\]\[^&~|])", r"\\\1", chosen[negated:])
    return f"^/{plain}" if negated else plain


def _forget() -> None:
    """Forgets the clients: their connections belong to the process that made them."""
    _made.clear()


os.register_at_fork(after_in_child=_forget)
