"""Numbered versions of a model below one directory: which are there, which comes next.

Layer 3. A version becomes visible by one rename and is never overwritten. Deleting never
touches the newest version. Who publishes holds the directory, so that what is asked before (which
version is serving, is this model published already) is still so when the version appears.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re
import shutil
from collections.abc import Callable, Collection, Iterator

from estimator_lib.core import manifest, places, storage
from estimator_lib.core.errors import (
    DataError,
    EstimatorLibError,
    ExportError,
    Reason,
    StorageError,
)
from estimator_lib.export import version_labels

MODEL = "saved_model.pb"
_NUMBER = re.compile("0|[1-9][0-9]{0,17}")
"""As servers name versions; others, such as 007 or numbers in other scripts, are no versions."""
_COMMITS = 100
_PUBLISHER = ".publisher"
_WAIT_S = 60.0


def versions(directory: str | os.PathLike[str]) -> list[int]:
    """Returns the numbers of the versions below `directory`, oldest first.

    Raises:
        ConfigError: it is a URI.
    """
    places.require_local("serving_dir", os.fspath(directory))
    folder = pathlib.Path(directory)
    if not folder.is_dir():
        return []
    with storage.storage_errors("read", folder):
        found = [p.name for p in folder.iterdir() if _is_version(p)]
    return sorted(int(name) for name in found)


def _is_version(path: pathlib.Path) -> bool:
    """Whether a path is a version: a directory itself, for what a link shows may change."""
    named = _NUMBER.fullmatch(path.name) is not None
    return named and not path.is_symlink() and (path / MODEL).is_file()


def newest(directory: str | os.PathLike[str]) -> str | None:
    """Returns the newest version below a serving directory, or the directory if it is one.

    None if nothing is there: no model is serving yet. An empty name stands for no directory.

    Raises:
        ConfigError: it is a URI, where nothing is looked up yet.
    """
    name = os.fspath(directory)
    places.require_local("champion", name)
    root = pathlib.Path(name)
    if not name or (root / MODEL).is_file():
        return name or None
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
        directory: Parent of the versions.
        fill: Given the empty staging directory.
        at_least: The lowest number to use.

    Returns:
        The version's directory.

    Raises:
        ConfigError: `directory` is a URI.
    """
    places.require_local("serving_dir", os.fspath(directory))
    parent = storage.make_directory(directory)
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


@contextlib.contextmanager
def publisher(serving_dir: str | os.PathLike[str]) -> Iterator[None]:
    """Holds a serving directory during the block: nobody else publishes there or cleans up.

    Raises:
        StorageError: another process holds it for longer than a publication takes (`retryable`).
        ConfigError: `serving_dir` is a URI.
    """
    places.require_local("serving_dir", os.fspath(serving_dir))
    with storage.leased(serving_dir, _PUBLISHER, what="Serving directory", wait_s=_WAIT_S):
        yield


def publish(
    staged_dir: str | os.PathLike[str], serving_dir: str | os.PathLike[str], keep: int = 5
) -> str:
    """Publishes a SavedModel as the next version below a TF Serving directory.

    Args:
        staged_dir: A complete SavedModel; it is copied.
        serving_dir: Parent of the versions; the first one is 1.
        keep: Versions kept, the new one counted.

    Returns:
        The new version's directory.

    Raises:
        ExportError: `staged_dir` is no SavedModel, or holds links.
        StorageError: others publish there all the time, or the file system refused.
        ConfigError: `serving_dir` is a URI.
    """
    with publisher(serving_dir):
        return publish_held(staged_dir, serving_dir, keep)


def publish_held(
    staged_dir: str | os.PathLike[str], serving_dir: str | os.PathLike[str], keep: int = 5
) -> str:
    """Does what `publish` does, for a caller that is the directory's `publisher` already."""
    source = pathlib.Path(staged_dir)
    if not (source / MODEL).is_file():
        raise ExportError(
            f"Directory {source} is not a SavedModel: it has no {MODEL}. Export again.",
            reason=Reason.FILE_NOT_FOUND,
        )

    def fill(target: pathlib.Path) -> None:
        copy_tree(source, target)
        manifest.write(target, kind="model")

    target = commit(serving_dir, fill)
    clean(serving_dir, keep)
    return str(target)


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
    directory: str | os.PathLike[str],
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
        whatever: Whether every directory of a numeric name counts, a whole SavedModel or not.
    """
    if not keep:
        return []
    found = sorted(_taken(pathlib.Path(directory))) if whatever else versions(directory)
    safe = {*protect, *found[-1:], *version_labels.in_use(directory)}
    spare = len(found) - max(keep, len([v for v in found if v in safe]))
    removed: list[int] = []
    for version in found:
        if len(removed) >= spare:
            break
        if version not in safe:
            # Its name goes first, so that no server loads half of it.
            storage.remove(pathlib.Path(directory) / str(version))
            removed.append(version)
    return removed


def require_whole(version_dir: str | os.PathLike[str]) -> None:
    """Refuses a published version that is not what was published.

    Raises:
        DataError: naming it, and what is wrong.
    """
    fault = damage(version_dir)
    if fault is not None:
        raise DataError(
            f"Published model {os.fspath(version_dir)} is damaged: {fault} Publish a whole one: "
            "estimator-pipelines models rollback.",
            reason=Reason.CORRUPT_FILE,
        )


def damage(version_dir: str | os.PathLike[str], *, deep: bool = True) -> str | None:
    """Returns what is wrong with a published version, or None; one without a manifest passes.

    Exporters of `train_and_evaluate`, and other programs, publish without one.
    """
    version = pathlib.Path(version_dir)
    if not (version / manifest.NAME).is_file():
        return None
    try:
        manifest.verify(version, deep=deep)
    except EstimatorLibError as error:
        return error.message
    return None
