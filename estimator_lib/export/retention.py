"""Numbered versions of a model below one directory: which are there, which comes next.

Layer 3. On this machine a version becomes visible by one rename, below a URI by its last file
(`store_versions`); it is never overwritten. Deleting never touches the newest version. Who
publishes holds the directory, so that what is asked before (which version is serving, is this model
published already) is still so when the version appears.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Collection, Iterator

from estimator_lib.core import fetched, manifest, storage, stores
from estimator_lib.core.errors import (
    DataError,
    EstimatorLibError,
    ExportError,
    Reason,
    StorageError,
)
from estimator_lib.core.places import Place
from estimator_lib.core.stores import Where
from estimator_lib.export import store_versions, version_labels
from estimator_lib.export.store_versions import MODEL

_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
"""As servers name versions; others, such as 007 or numbers in other scripts, are no versions."""
_COMMITS = 100
_PUBLISHER = ".publisher"
_WAIT_S = 60.0


def versions(directory: Where) -> list[int]:
    """Returns the numbers of the versions below a path or URI, oldest first."""
    if (stored := _stored(directory)) is not None:
        return stored.numbers()
    folder = pathlib.Path(directory)
    if not folder.is_dir():
        return []
    with storage.storage_errors("read", folder):
        found = [p.name for p in folder.iterdir() if _is_version(p)]
    return sorted(int(name) for name in found)


def _stored(directory: Where) -> store_versions.Versions | None:
    """The versions below a URI; None for a path."""
    place = Place.parse(directory)
    return None if place.is_local else store_versions.Versions(place)


def _is_version(path: pathlib.Path) -> bool:
    """Whether a path is a version: a directory itself, for what a link shows may change."""
    named = _NUMBER.fullmatch(path.name) is not None
    return named and not path.is_symlink() and (path / MODEL).is_file()


def newest(directory: Where) -> str | None:
    """Returns the newest version below a serving directory, or the directory if it is one.

    None if nothing is there: no model is serving yet. An empty name stands for no directory.
    """
    name = str(directory)
    if not name:
        return None
    if (stored := _stored(name)) is not None:
        return stored.newest()
    root = pathlib.Path(name)
    if (root / MODEL).is_file():
        return name
    found = versions(root)
    return str(root / str(found[-1])) if found else None


def _taken(directory: pathlib.Path) -> list[int]:
    """Every numeric name, whole or not: none may be used again."""
    if not directory.is_dir():
        return []
    return [int(p.name) for p in directory.iterdir() if _NUMBER.fullmatch(p.name)]


def next_version(directory: str | os.PathLike[str], at_least: int = 1) -> int:
    """Returns a number above all that exist."""
    return max([at_least - 1, *_taken(pathlib.Path(directory))]) + 1


def commit(
    directory: str | os.PathLike[str],
    fill: Callable[[pathlib.Path], None],
    *,
    at_least: int = 1,
) -> pathlib.Path:
    """Writes a new version: `fill` writes into a staging directory, one rename publishes it.

    Args:
        directory: Parent of the versions, on this machine.
        fill: Given the empty staging directory.
        at_least: The lowest number to use.

    Returns:
        The version's directory.

    Raises:
        ConfigError: `directory` is a URI.
    """
    parent = storage.make_directory(Place.parse(directory).path)
    with storage.staging(parent, "version") as staged:
        fill(staged.path)
        return _number(staged, parent, at_least)


def _number(staged: storage.Staged, parent: pathlib.Path, at_least: int = 1) -> pathlib.Path:
    """Commits under the next number; others may take numbers in the meantime."""
    for _ in range(_COMMITS):
        target = parent / str(next_version(parent, at_least))
        if staged.commit(target):
            return target
    raise StorageError(
        f"No version could be published below {parent}: others take every number. Run again.",
        reason=Reason.LEASED,
    )


class Publisher:
    """The one that publishes below a serving directory while it holds that; see `publisher`."""

    def __init__(self, serving_dir: str, stored: store_versions.Publisher | None) -> None:
        self._directory = serving_dir
        self._stored = stored

    def publish(self, staged_dir: str | os.PathLike[str], keep: int = 5) -> str:
        """Publishes a SavedModel; see the function `publish`."""
        source = pathlib.Path(staged_dir)
        if not (source / MODEL).is_file():
            raise ExportError(
                f"Directory {source} is not a SavedModel: it has no {MODEL}. Export again.",
                reason=Reason.FILE_NOT_FOUND,
            )

        def fill(target: pathlib.Path) -> None:
            copy_tree(source, target)
            manifest.write(target, kind="model")

        if self._stored is not None:
            with storage.temporary_directory("version-") as folder:
                staged = storage.make_directory(pathlib.Path(folder) / "model")
                fill(staged)
                published = self._stored.publish(staged)
            with contextlib.suppress(StorageError):  # the next one that publishes does it
                clean(self._directory, keep)
            return published
        target = commit(self._directory, fill)
        clean(self._directory, keep)
        return str(target)


@contextlib.contextmanager
def publisher(serving_dir: Where) -> Iterator[Publisher]:
    """Holds a serving directory during the block: nobody else publishes there or cleans up.

    Args:
        serving_dir: A path or URI.

    Raises:
        StorageError: another process holds it for longer than a publication takes (`retryable`),
            or it cannot be written.
    """
    if (stored := _stored(serving_dir)) is not None:
        with stored.publisher(_WAIT_S) as held:
            yield Publisher(str(stored.root), held)
        return
    with storage.leased(str(serving_dir), _PUBLISHER, what="Serving directory", wait_s=_WAIT_S):
        yield Publisher(str(serving_dir), None)


def publish(staged_dir: str | os.PathLike[str], serving_dir: Where, keep: int = 5) -> str:
    """Publishes a SavedModel as the next version below a TF Serving directory.

    Args:
        staged_dir: A complete SavedModel; it is copied.
        serving_dir: Parent of the versions, a path or URI; the first one is 1.
        keep: Versions kept, the new one counted.

    Returns:
        The new version's directory.

    Raises:
        ExportError: `staged_dir` is no SavedModel, or holds links.
        StorageError: others publish there all the time, or it cannot be written.
    """
    with publisher(serving_dir) as held:
        return held.publish(staged_dir, keep)


def copy_tree(source: pathlib.Path, target: pathlib.Path) -> None:
    """Copies a model's files, without its manifest.

    Raises:
        ExportError: it holds a link or something that is no file: it is not ours to follow.
        StorageError: a file went away or the file system refused.
    """
    with storage.storage_errors("copy", source):
        for path in sorted(source.rglob("*")):
            name = path.relative_to(source)
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                raise ExportError(
                    f"Model {source} holds {name}, which is a link or no plain file. Put the file "
                    "itself there.",
                    reason=Reason.UNSUPPORTED,
                )
            if path.is_dir():
                storage.make_directory(target / name)
            elif str(name) != manifest.NAME:
                shutil.copyfile(path, storage.make_directory((target / name).parent) / name.name)


def clean(
    directory: Where,
    keep: int | None,
    protect: Collection[int] = (),
    *,
    whatever: bool = False,
) -> list[int]:
    """Deletes the oldest versions beyond `keep`; returns what was deleted.

    Args:
        directory: Parent of the versions.
        keep: How many to keep; None or 0 keeps all.
        protect: Never deleted: the best, the one being served. The newest never is either, nor
            one with a label or that a server is told to keep (`version_labels`).
        whatever: On this machine, whether every directory of a numeric name counts, a whole
            SavedModel or not.
    """
    safe = {*protect, *version_labels.in_use(directory)}
    if (stored := _stored(directory)) is not None:
        return stored.clean(keep, safe)
    found = sorted(_taken(pathlib.Path(directory))) if whatever else versions(directory)
    removed = store_versions.choose(found, keep, safe)
    for version in removed:
        # Its name goes first, so that no server loads half of it.
        storage.remove(pathlib.Path(directory) / str(version))
    return removed


def fetch(version_dir: Where) -> pathlib.Path:
    """Returns a directory of this machine with a published version's files, called as it is.

    Raises:
        DataError: it is not what was published; it and what is wrong are named.
        StorageError: it cannot be read.
    """
    place = Place.parse(version_dir)
    try:
        if not place.is_local:
            return fetched.fetch(place)
        if (place.path / manifest.NAME).is_file():
            manifest.verify(place.path, deep=True)
    except DataError as error:
        raise DataError(
            f"Published model {place} is damaged: {error.message} Publish a whole one: "
            "estimator-pipelines models rollback.",
            reason=Reason.CORRUPT_FILE,
        ) from error
    return place.path


def read(version_dir: Where, name: str) -> bytes | None:
    """Returns one file of a published version, or None where there is none.

    Raises:
        StorageError: it cannot be read.
    """
    place = Place.parse(version_dir)
    if not place.is_local:
        return stores.of(place).read(place / name)
    try:
        with storage.storage_errors("read", place.path / name):
            return (place.path / name).read_bytes()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            return None
        raise


def published_at(version_dir: Where) -> float:
    """Returns when a version was published, as Unix time.

    Raises:
        StorageError: it cannot be read, or is not there.
    """
    place = Place.parse(version_dir)
    if not place.is_local:
        found = stores.of(place).look(place / MODEL)
        if found is None:
            raise StorageError(f"Cannot read {place}: it was removed just now. Run again.")
        return found.changed
    with storage.storage_errors("read", place.path):
        return place.path.stat().st_mtime


def is_whole(version_dir: Where) -> bool:
    """Whether a version is there, and is what was published; below a URI, by the sizes of files."""
    place = Place.parse(version_dir)
    if place.is_local:
        return place.path.is_dir() and damage(place.path) is None
    there = stores.of(place).look(place / MODEL) is not None
    return there and damage(version_dir, deep=False) is None


def damage(version_dir: Where, *, deep: bool = True) -> str | None:
    """Returns what is wrong with a published version, or None; one without a manifest passes.

    Exporters of `train_and_evaluate`, and other programs, publish without one.
    """
    place = Place.parse(version_dir)
    if not place.is_local:
        return store_versions.damage(place, deep=deep)
    if not (place.path / manifest.NAME).is_file():
        return None
    try:
        manifest.verify(place.path, deep=deep)
    except EstimatorLibError as error:
        return error.message
    return None
