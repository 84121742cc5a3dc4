"""Files of an object store as files of this machine: fetched once, verified, kept by content.

Layer 1. TensorFlow and pyarrow get paths. What was fetched is kept in a directory of this user
(`XDG_CACHE_HOME`, else `~/.cache`; where neither can be written, with the temporary files), below a
name that follows from its content, and checked against the manifest each time it is used. What was
not used for a day goes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pathlib
import tempfile
from collections.abc import Mapping

from estimator_lib.core import leases, manifest, storage, stores
from estimator_lib.core.errors import DataError, EstimatorLibError, Reason, StorageError
from estimator_lib.core.places import Place
from estimator_lib.core.stores import Entry


def root() -> pathlib.Path:
    """Returns the directory of this user for what can be had again."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for base in (pathlib.Path(home), pathlib.Path(tempfile.gettempdir())):
        folder = base / "estimator-pipelines"
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            continue
        if os.access(folder, os.W_OK | os.X_OK):
            return folder
    return storage.make_directory(folder)


def fetch(place: Place) -> pathlib.Path:
    """Returns a directory of this machine with the files of a directory in a store.

    It is called as that one is. Of an artifact it has what the manifest lists, verified; of
    anything else all files.

    Raises:
        DataError: nothing is there, or a file is not what the manifest lists.
        StorageError: the store cannot be reached, or there is no space.
    """
    store, name = stores.of(place), place.name
    known = manifest.finished(str(place))
    if known is not None and known.directory:
        place = place / known.directory
    listed = store.listed(place)
    if known is not None:
        fault = missing(place, known, listed)
        if fault is not None:
            raise DataError(fault, reason=Reason.CORRUPT_FILE)
        identity, names = known.digest, [*known.files, manifest.NAME]
    else:
        if not listed:
            raise DataError(f"There is nothing at {place}.", reason=Reason.FILE_NOT_FOUND)
        told = [[file, entry.size, entry.version] for file, entry in listed.items()]
        identity, names = storage.canonical_json([str(place), told]), list(listed)
    key = hashlib.sha256(identity.encode()).hexdigest()[:16]
    kept = root() / "fetched"
    target = kept / key / name
    if not _is_whole(target, verified=known is not None):
        storage.remove(target)
        with storage.staging(target.parent, target.name) as staged:
            for file in names:
                path = storage.safe_join(staged.path, file)
                storage.make_directory(path.parent)
                store.download(place / file, path)
            if known is not None:
                manifest.verify(staged.path, deep=True)
            staged.commit(target)
    storage.touch(target.parent)
    _sweep(kept)
    return target


def missing(place: Place, known: manifest.Manifest, listed: Mapping[str, Entry]) -> str | None:
    """Returns what is not there of an artifact as its manifest lists it, or None."""
    for name, entry in known.files.items():
        size = listed[name].size if name in listed else None
        if size != entry.size:
            found = "no file" if size is None else f"{size} bytes"
            return (
                f"Artifact file {place / name} is not what its manifest lists: expected "
                f"{entry.size} bytes, got {found}."
            )
    return None


def _sweep(kept: pathlib.Path) -> None:
    for folder in kept.iterdir():
        with contextlib.suppress(StorageError):  # it is in nobody's way
            if storage.is_key(folder.name) and leases.silent_s(folder) > storage.DEAD_S:
                storage.remove(folder)


def _is_whole(target: pathlib.Path, *, verified: bool) -> bool:
    if not target.is_dir():
        return False
    try:
        return not verified or manifest.verify(target, deep=True) is not None
    except EstimatorLibError:
        return False
