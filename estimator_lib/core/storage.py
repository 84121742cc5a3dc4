"""The only module that writes, renames or deletes files on purpose.

Layer 0. Three promises hold for everything written through it:

* a name becomes visible only when its content is complete (staged, fsynced, renamed);
* a directory is committed once, by renaming a staging directory beside it;
* nothing outside the directory it was given is touched (`safe_join`).

Third-party writers (SavedModel, checkpoints, Beam sinks) write into a staging directory that
this module hands out and commits. Object stores, which rename nothing, are reached through an
`ObjectStore` that the caller gives; `manifest` commits to them.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import shutil
import uuid
from collections.abc import Iterator, Mapping
from typing import IO, Any, Protocol

from estimator_lib.core.errors import Reason, SecurityError, StorageError, quote

STAGING_MARK = ".attempt-"


def is_uri(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a URI, such as of an object store, instead of one of this machine."""
    return "://" in os.fspath(path)


class ObjectStore(Protocol):
    """Files by URI, where nothing is renamed; every method may raise StorageError."""

    def read(self, uri: str) -> bytes | None:
        """Returns a file's content, or None if there is no such file."""
        ...

    def write(self, uri: str, data: bytes) -> None:
        """Writes a file; where the store allows, readers see it whole or not at all."""
        ...

    def upload(self, path: pathlib.Path, uri: str) -> None:
        """Writes a file with the content of one of this machine, and checks its size."""
        ...

    def changed(self, folder: str) -> Mapping[str, float]:
        """Returns the files below `folder` with when they changed (Unix time, 0: not known)."""
        ...

    def remove(self, folder: str) -> None:
        """Deletes every file below `folder`; none is fine."""
        ...


@contextlib.contextmanager
def storage_errors(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError inside the block into a StorageError that names `action` and `path`."""
    try:
        yield
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StorageError(
            f"Cannot {action} {os.fspath(path)}: {error.strerror or error}."
            + (" Free some space and run again." if full else ""),
            reason=Reason.NO_SPACE if full else Reason.IO,
        ) from error


def safe_join(root: str | os.PathLike[str], *parts: str) -> pathlib.Path:
    """Returns `root/parts` and refuses a result outside `root`, symbolic links resolved.

    Raises:
        SecurityError: a part is absolute, climbs out with `..`, or a link leads outside.
    """
    base = pathlib.Path(root).resolve()
    path = base.joinpath(*parts)
    resolved = path.resolve()
    if "\0" in "".join(parts) or (resolved != base and base not in resolved.parents):
        raise SecurityError(
            f"Path {quote('/'.join(parts))} leaves its root {base}. Use a path below it.",
            reason=Reason.PATH_ESCAPES,
        )
    return resolved


def sha256_file(path: str | os.PathLike[str]) -> str:
    """Returns the SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def _sync_directory(path: pathlib.Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(root: pathlib.Path) -> None:
    """Flushes every file and directory below `root` to the disk."""
    for folder, _, names in os.walk(root):
        for name in names:
            descriptor = os.open(os.path.join(folder, name), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        _sync_directory(pathlib.Path(folder))


def make_directory(path: str | os.PathLike[str]) -> pathlib.Path:
    """Creates a directory and its parents where missing, and returns it."""
    with storage_errors("create directory", path):
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    return pathlib.Path(path)


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file atomically: readers see the old bytes or the new ones."""
    target = pathlib.Path(path)
    make_directory(target.parent)
    staged = target.with_name(f".{target.name}{STAGING_MARK}{uuid.uuid4().hex}")
    with storage_errors("write", target):
        try:
            with open(staged, "wb") as sink:
                sink.write(data)
                sink.flush()
                os.fsync(sink.fileno())
            os.replace(staged, target)
        finally:
            staged.unlink(missing_ok=True)
        _sync_directory(target.parent)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Writes UTF-8 text atomically."""
    write_bytes(path, text.encode())


def canonical_json(value: Any) -> str:
    """Returns strict JSON with sorted keys and no spaces; NaN and infinity are refused."""
    return json.dumps(
        value, sort_keys=True, separators=(",", ":"), allow_nan=False, ensure_ascii=False
    )


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Writes strict, sorted, indented JSON atomically; NaN and infinity raise ValueError."""
    text = json.dumps(value, sort_keys=True, indent=1, allow_nan=False, ensure_ascii=False)
    write_text(path, text + "\n")


def remove(path: str | os.PathLike[str]) -> None:
    """Deletes a file or a directory tree; a missing one is fine."""
    target = pathlib.Path(path)
    with storage_errors("delete", target):
        if target.is_dir() and not target.is_symlink():
            shutil.rmtree(target)
        else:
            target.unlink(missing_ok=True)


@contextlib.contextmanager
def staged_directory(
    target: str | os.PathLike[str], *, replace: bool = False
) -> Iterator[pathlib.Path]:
    """Yields an empty directory that becomes `target` in one rename when the block ends.

    An exception inside the block removes the staging directory and leaves `target` as it was.
    Staging directories left by killed processes are removed by `sweep_staging`.

    Args:
        target: The directory to publish.
        replace: Whether an existing `target` is replaced; else it is refused at commit.

    Raises:
        StorageError: the file system refused, or `target` exists and `replace` is False.
    """
    final = pathlib.Path(target)
    make_directory(final.parent)
    staged = final.with_name(f".{final.name}{STAGING_MARK}{uuid.uuid4().hex}")
    with storage_errors("create directory", staged):
        staged.mkdir()
    try:
        yield staged
        with storage_errors("commit", final):
            sync_tree(staged)
            if final.exists():
                if not replace:
                    raise FileExistsError(errno.EEXIST, "it exists already", str(final))
                old = final.with_name(f".{final.name}{STAGING_MARK}old-{uuid.uuid4().hex}")
                os.rename(final, old)
                os.rename(staged, final)
                shutil.rmtree(old)
            else:
                os.rename(staged, final)
            _sync_directory(final.parent)
    finally:
        if staged.exists():
            shutil.rmtree(staged, ignore_errors=True)


def sweep_staging(parent: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Removes what killed attempts left directly below `parent`; returns what it removed."""
    folder = pathlib.Path(parent)
    left = list(folder.glob(f".*{STAGING_MARK}*")) if folder.is_dir() else []
    for path in left:
        remove(path)
    return left


def copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copies a file's content into a staged place."""
    with storage_errors("copy to", target):
        shutil.copyfile(source, target)


def write_stream(path: str | os.PathLike[str], source: IO[bytes]) -> None:
    """Writes what a stream gives to a file in a staged place."""
    with storage_errors("write", path), open(path, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def keep_newest(parent: str | os.PathLike[str], *, keep: int) -> None:
    """Removes all but the `keep` most recently changed directories below `parent`."""
    folders = [path for path in pathlib.Path(parent).iterdir() if path.is_dir()]
    folders.sort(key=lambda path: path.stat().st_mtime_ns, reverse=True)
    for path in folders[keep:]:
        remove(path)


def touch(path: str | os.PathLike[str]) -> None:
    """Marks a file or directory as used now."""
    with storage_errors("touch", path):
        os.utime(path)
