"""The only module that writes, renames or deletes files on purpose.

Layer 0. Three promises hold for everything written through it:

* a name becomes visible only when its content is complete (staged, fsynced, renamed);
* a directory is committed once, by renaming a staging directory beside it;
* nothing outside the directory it was given is touched (`safe_join`);
* nothing that another process may be writing is deleted: staging and working directories have
  an owner (`leases`), and only what is proved dead is swept.

Third-party writers (SavedModel, checkpoints, Beam sinks) write into a staging directory that
this module hands out and commits. Object stores, which rename nothing, are `stores`' business.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import pathlib
import re
import shutil
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from typing import IO, Any

from estimator_lib.core import leases
from estimator_lib.core.errors import EstimatorLibError, Reason, SecurityError, StorageError, quote

STAGING_MARK = ".attempt-"
DEAD_S = 86_400.0
"""What has no owner, and did not change for so long, is dead."""
_FINAL = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENAMETOOLONG, errno.ENOTDIR)
"""Errors that come again when the same is tried again."""
_REFUSALS = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO,
    errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EMFILE, errno.ENFILE,
)  # fmt: skip
_TOLD = re.compile(rf"(\S*); ({'|'.join(re.escape(os.strerror(code)) for code in _REFUSALS)})")
_OWNER = ".owner"
_DEAD = f"{STAGING_MARK}dead-"
_SILENT_S = 3600.0
"""An owner on another machine is dead after this; who comes back sooner finds its work."""
WORK_LEASE, TRAINER_LEASE = ".step", ".trainer"
"""Names of the leases in a working directory: of the step it belongs to, of what trains there."""
_COMMITS = 100
_POLL_S = 0.05


@contextlib.contextmanager
def storage_errors(action: str, path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns an OSError inside the block into a StorageError that names `action` and `path`.

    It is `retryable` unless the same must fail again: no permission, a read-only file system.
    """
    try:
        yield
    except OSError as error:
        raise storage_error(action, path, error) from error


@contextlib.contextmanager
def errors_of_libraries() -> Iterator[None]:
    """Turns what the file system refused to a library inside the block into a StorageError.

    Libraries write too, such as temporary files on a disk that is full. For the ends of a program:
    `storage_errors` says more where it is known what is being done.
    """
    try:
        yield
    except EstimatorLibError:
        raise
    except Exception as error:
        refusal = refused(error)
        if refusal is None:
            raise
        raise storage_error("use", refusal.filename or "a file", refusal) from error


def refused(error: BaseException | None) -> OSError | None:
    """Returns what the file system refused, wherever it was met; None for any other error.

    Libraries wrap what they meet, and TensorFlow tells it as a text, "PATH; Disk quota exceeded".
    An error of a program that asked for what is not there is none.
    """
    while error is not None:
        if isinstance(error, OSError):
            return error if error.errno in _REFUSALS else None
        told = _TOLD.search(str(getattr(error, "message", "")))
        if told is not None:
            code = next(code for code in _REFUSALS if os.strerror(code) == told[2])
            return OSError(code, told[2], told[1])
        error = error.__cause__
    return None


def may_pass(error: OSError) -> bool:
    """Whether the file system refused, and may not refuse again: no space, a volume away."""
    return error.errno in _REFUSALS and error.errno not in _FINAL


def storage_error(action: str, path: str | os.PathLike[str], error: OSError) -> StorageError:
    """Returns the StorageError for an OSError."""
    cause, advice, reason = error.strerror or str(error), "", Reason.IO
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            reason, advice = Reason.NO_SPACE, " Free some space and run again."
        case errno.EACCES | errno.EPERM:
            reason = Reason.PERMISSION
            advice = f" User {os.getuid()}, group {os.getgid()} must be allowed to."
        case errno.EROFS:
            reason, advice = Reason.PERMISSION, " Mount it writable, or give another directory."
        case errno.ESTALE | errno.ENOTCONN | errno.ENODEV:
            advice = " Its volume is away; run again when it is mounted."
    found = StorageError(f"Cannot {action} {os.fspath(path)}: {cause}.{advice}", reason=reason)
    found.retryable = error.errno not in _FINAL
    return found


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


@contextlib.contextmanager
def temporary_directory(prefix: str = "", parent: str | None = None) -> Iterator[str]:
    """Yields an empty directory, of the system's unless in `parent`, gone after the block.

    What cannot be deleted stays: no result is lost for that, and no other error hidden.
    """
    with storage_errors("create a directory in", parent or tempfile.gettempdir()):
        folder = tempfile.mkdtemp(prefix=prefix, dir=parent)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


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
    """Deletes a file or a directory tree; a missing one is fine.

    A directory loses its name first, so that no half of it is ever found under it.
    """
    target = pathlib.Path(path)
    with storage_errors("delete", target), contextlib.suppress(FileNotFoundError):
        if not target.is_dir() or target.is_symlink():
            target.unlink()
            return
        _delete_tree(_put_aside(target))


def _put_aside(path: pathlib.Path) -> pathlib.Path:
    """Renames a directory to a name that says that anyone may delete it."""
    aside = path.with_name(f".{path.name.lstrip('.')}{_DEAD}{uuid.uuid4().hex}")
    os.rename(path, aside)
    return aside


def _delete_tree(path: pathlib.Path) -> None:
    """Deletes a directory that several processes may be deleting."""

    def missing_is_fine(_: Any, __: Any, info: Any) -> None:
        if not isinstance(info[1], FileNotFoundError):
            raise info[1]

    shutil.rmtree(path, onerror=missing_is_fine)


class Staged:
    """A staging directory: fill `path`, then `commit` it under a name beside it."""

    def __init__(self, path: pathlib.Path, lease: leases.Lease) -> None:
        self.path = path
        self._lease = lease
        self._identity = _identity(path)

    def commit(self, target: pathlib.Path, *, replace: bool = False) -> bool:
        """Gives the directory its name; returns False if something else has it.

        Args:
            target: Beside the staging directory.
            replace: Whether what has the name is removed.

        Raises:
            StorageError: the file system refused, or another process took this one for dead.
        """
        with storage_errors("commit", target):
            sync_tree(self.path)
            for _ in range(_COMMITS):
                # A directory of this name that another process made anew is not ours.
                if not self._lease.is_held() or _identity(self.path) != self._identity:
                    raise StorageError(
                        f"Cannot commit {target}: its staging directory was taken for left over, "
                        "for this process was silent for too long. Run again.",
                        reason=Reason.LEASED,
                    )
                if not replace and os.path.lexists(target):
                    return False
                try:
                    os.rename(self.path, target)
                except OSError as error:
                    if error.errno not in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                        raise
                    if not replace:
                        return False
                    remove(target)
                    continue
                _sync_directory(target.parent)
                return True
        raise StorageError(
            f"Cannot commit {target}: other processes write it again and again. Run again.",
            reason=Reason.LEASED,
        )


def _identity(path: pathlib.Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


@contextlib.contextmanager
def staging(parent: str | os.PathLike[str], name: str) -> Iterator[Staged]:
    """Yields an empty staging directory below `parent`, gone after the block if not committed.

    It has an owner, so that `sweep_staging` finds what a killed process left and nothing else; it
    is called first.

    Args:
        parent: Where it will be committed; made if missing.
        name: What it is, for people who find it.
    """
    folder = make_directory(parent)
    with contextlib.suppress(StorageError):  # another user's, say: it is in nobody's way
        sweep_staging(folder)
    path = folder / f".{name.lstrip('.')}{STAGING_MARK}{uuid.uuid4().hex}"
    lease = leases.Lease(f"{path}{_OWNER}")
    with storage_errors("create directory", path):
        lease.take()
        try:
            path.mkdir()
        except OSError:
            lease.release()
            raise
    try:
        yield Staged(path, lease)
    finally:
        with contextlib.suppress(OSError):
            _delete_tree(path)
        with contextlib.suppress(OSError):  # what is left is swept, for its owner is no more
            lease.release(leave=path.exists())


@contextlib.contextmanager
def staged_directory(
    target: str | os.PathLike[str], *, replace: bool = False
) -> Iterator[pathlib.Path]:
    """Yields an empty directory that becomes `target` in one rename when the block ends.

    An exception inside the block removes the staging directory and leaves `target` as it was.

    Args:
        target: The directory to publish.
        replace: Whether an existing `target` is replaced; else it is refused at commit.

    Raises:
        StorageError: the file system refused, or `target` exists and `replace` is False.
    """
    final = pathlib.Path(target)
    with staging(final.parent, final.name) as staged:
        yield staged.path
        if not staged.commit(final, replace=replace):
            raise StorageError(f"Cannot commit {final}: it exists already.")


def sweep_staging(parent: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Removes what dead processes left directly below `parent`; returns what it removed.

    What has no owner, such as the files of an older release, is dead after a day.
    """
    folder = pathlib.Path(parent)
    found = sorted(folder.glob(f".*{STAGING_MARK}*")) if folder.is_dir() else []
    removed = []
    for path in found:
        if path.name.endswith(_OWNER):
            staged = path.with_name(path.name.removesuffix(_OWNER))
            if staged.exists() or leases.living(path, _SILENT_S) is not None:
                continue
        elif _DEAD not in path.name and not _left(path):
            continue
        with storage_errors("delete", path), contextlib.suppress(FileNotFoundError):
            if path.is_dir() and not path.is_symlink():
                # Its name goes first: from here on the owner, should it live, cannot commit.
                _delete_tree(path if _DEAD in path.name else _put_aside(path))
            else:
                path.unlink()
            pathlib.Path(f"{path}{_OWNER}").unlink(missing_ok=True)
            removed.append(path)
    return removed


def _left(path: pathlib.Path) -> bool:
    """Whether a staging directory or file belongs to nobody who lives."""
    owner = pathlib.Path(f"{path}{_OWNER}")
    if owner.exists():
        return leases.living(owner, _SILENT_S) is None
    return leases.silent_s(path) > DEAD_S


@contextlib.contextmanager
def leased(
    directory: str | os.PathLike[str], name: str, *, what: str, wait_s: float = 0.0
) -> Iterator[leases.Lease]:
    """Holds a directory for this process during the block; it is made if missing.

    Args:
        directory: The directory.
        name: Of the lease's file there.
        what: How messages call the directory, such as "Serving directory".
        wait_s: How long to wait for another process.

    Raises:
        StorageError: another process holds it (`retryable`), or the file system refused.
    """
    lease = leases.Lease(pathlib.Path(directory) / name)

    def take() -> leases.Owner | None:
        while True:
            make_directory(directory)
            # Whoever clears up may remove the directory in between.
            with storage_errors("write", lease.path), contextlib.suppress(FileNotFoundError):
                return lease.take()
            time.sleep(_POLL_S)

    wait_for(take, what=f"{what} {directory}", wait_s=wait_s)
    try:
        yield lease
    finally:
        with contextlib.suppress(OSError):  # it is taken over when this process has ended
            lease.release()


def wait_for(
    take: Callable[[], leases.Owner | None], *, what: str, wait_s: float, poll_s: float = _POLL_S
) -> None:
    """Takes a lease as soon as its holder gives it up.

    Args:
        take: Tries to; returns the holder if there is one.
        what: What is held, for messages.
        wait_s: How long to wait for the holder.
        poll_s: How long to wait before the next try.

    Raises:
        StorageError: it holds the lease for longer (`retryable`).
    """
    deadline = time.monotonic() + wait_s
    while (holder := take()) is not None:
        if time.monotonic() > deadline:
            raise StorageError(
                f"{what} is in use by {holder}. Try again when it has ended.",
                reason=Reason.LEASED,
            )
        time.sleep(poll_s)


def copy(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Copies a file's content into a staged place."""
    with storage_errors("copy to", target):
        shutil.copyfile(source, target)


def write_stream(path: str | os.PathLike[str], source: IO[bytes]) -> None:
    """Writes what a stream gives to a file in a staged place."""
    with storage_errors("write", path), open(path, "wb") as sink:
        shutil.copyfileobj(source, sink, 1 << 20)


def keep_newest(parent: str | os.PathLike[str], *, keep: int) -> None:
    """Removes all but the `keep` newest working directories below `parent` that nobody uses."""
    for path in working_directories(parent)[keep:]:
        remove_unused(path)


def working_directories(parent: str | os.PathLike[str]) -> list[pathlib.Path]:
    """Returns the directories below `parent` that are named by a key (`is_key`), newest first."""
    folders = []
    for path in pathlib.Path(parent).iterdir():
        with contextlib.suppress(FileNotFoundError):
            if is_key(path.name) and path.is_dir() and not path.is_symlink():
                folders.append((path.stat().st_mtime_ns, path))
    return [path for _, path in sorted(folders, reverse=True)]


def remove_unused(path: pathlib.Path) -> bool:
    """Deletes a working directory unless a living process uses it; returns whether it did."""
    try:
        # Held while it goes, so that nobody begins there in between.
        with leased(path, WORK_LEASE, what="Working directory"):
            if is_used(path, but=WORK_LEASE):
                return False
            remove(path)
    except StorageError as error:
        if error.reason is not Reason.LEASED:
            raise
        return False
    return True


def is_used(folder: pathlib.Path, *, but: str = "") -> bool:
    """Whether a living process holds a working directory, or one below it.

    Args:
        folder: The directory.
        but: Name of a lease there that does not count.
    """
    found = {path for name in (WORK_LEASE, TRAINER_LEASE) for path in folder.rglob(name)}
    return any(leases.living(path, _SILENT_S) is not None for path in found - {folder / but})


def is_key(name: str) -> bool:
    """Whether a name is such as steps give their working directories."""
    return len(name) == 16 and set(name) <= set("0123456789abcdef")


def touch(path: str | os.PathLike[str]) -> None:
    """Marks a file or directory as used now."""
    with storage_errors("touch", path):
        os.utime(path)
