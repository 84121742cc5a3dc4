"""Numbered versions of a model below one directory: which are there, which comes next.

Layer 3. A version becomes visible by one rename and is never overwritten. Deleting never
touches the newest version.
"""

from __future__ import annotations

import os
import pathlib
import shutil
from collections.abc import Callable, Collection

from estimator_lib.core import manifest, places, storage
from estimator_lib.core.errors import ExportError, Reason, StorageError

_ATTEMPTS = 10


def versions(directory: str | os.PathLike[str]) -> list[int]:
    """Returns the numbers of the versions below `directory`, oldest first.

    Raises:
        ConfigError: it is a URI.
    """
    places.require_local("serving_dir", os.fspath(directory))
    folder = pathlib.Path(directory)
    if not folder.is_dir():
        return []
    found = [p for p in folder.iterdir() if p.name.isdigit() and (p / "saved_model.pb").exists()]
    return sorted(int(p.name) for p in found)


def newest(directory: str | os.PathLike[str]) -> str | None:
    """Returns the newest version below a serving directory, or the directory if it is one.

    None if nothing is there: no model is serving yet. An empty name stands for no directory.

    Raises:
        ConfigError: it is a URI, where nothing is looked up yet.
    """
    name = os.fspath(directory)
    places.require_local("champion", name)
    root = pathlib.Path(name)
    if not name or (root / "saved_model.pb").is_file():
        return name or None
    found = versions(root)
    return str(root / str(found[-1])) if found else None


def _taken(directory: pathlib.Path) -> list[int]:
    """Every numeric name, whole or not: none may be used again."""
    if not directory.is_dir():
        return []
    return [int(p.name) for p in directory.iterdir() if p.name.isdigit()]


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
    storage.sweep_staging(parent)
    for attempt in range(_ATTEMPTS):
        target = parent / str(next_version(parent, at_least))
        try:
            with storage.staged_directory(target) as staged:
                fill(staged)
            return target
        except StorageError:
            # Another process took this number in the meantime.
            if not target.exists() or attempt == _ATTEMPTS - 1:
                raise
    raise AssertionError  # the loop returns or raises


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
        ExportError: `staged_dir` is no SavedModel.
        ConfigError: `serving_dir` is a URI.
    """
    source = pathlib.Path(staged_dir)
    if not (source / "saved_model.pb").exists():
        raise ExportError(
            f"Directory {source} is not a SavedModel: it has no saved_model.pb. Export again.",
            reason=Reason.FILE_NOT_FOUND,
        )

    def fill(target: pathlib.Path) -> None:
        ignore = shutil.ignore_patterns(manifest.NAME)
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignore)
        manifest.write(target, kind="model")

    target = commit(serving_dir, fill)
    clean(serving_dir, keep)
    return str(target)


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
        protect: Never deleted: the best, the one being served. The newest never is either.
        whatever: Whether every directory of a numeric name counts, a whole SavedModel or not.
    """
    if not keep:
        return []
    found = sorted(_taken(pathlib.Path(directory))) if whatever else versions(directory)
    safe = {*protect, *found[-1:]}
    spare = len(found) - max(keep, len([v for v in found if v in safe]))
    removed: list[int] = []
    for version in found:
        if len(removed) >= spare:
            break
        if version not in safe:
            storage.remove(pathlib.Path(directory) / str(version))
            removed.append(version)
    return removed
