"""Who owns what lies on disk: a file that names its owner and is kept fresh while it lives.

Layer 0. Nothing is deleted or taken over unless its owner is proved dead. On the owner's machine
the kernel knows: a process id with the time it was started is one process. From another machine
only the file's age speaks; it is compared with the clock of the file system, not with ours.

A process that was silent for too long may still come back. So every lease has a token, and its
owner looks whether it is still there (`is_held`) before it commits.

This module raises OSError; `storage` and the lease of a trainer turn it into their own errors.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import json
import os
import pathlib
import socket
import threading
import time
import uuid

BEAT_S = 10.0
STALE_S = 60.0
"""An owner on another machine that did not touch its lease for so long is dead."""
_TAKING = ".taking-"
_held: set[str] = set()
"""Tokens of the leases that this process holds; one of another token it could not give up."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Owner:
    """The process that holds a lease.

    Attributes:
        host: Name of its machine.
        space: What its process ids belong to: this boot of the machine, this container.
        pid: Its process id.
        started: When it was started, as the kernel counts.
        token: Differs for every lease.
    """

    host: str = ""
    space: str = ""
    pid: int = 0
    started: str = ""
    token: str = ""

    def content(self) -> bytes:
        """Returns it as a lease's content."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True).encode()

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}" if self.host else "a process"


def started(pid: int) -> str | None:
    """When a process of this machine began, as the kernel counts; None if there is no such one."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    state, *fields = text.rpartition(")")[2].split()
    return None if state in "ZX" else fields[18]


@functools.lru_cache(maxsize=1)
def _space() -> str:
    try:
        boot = pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def this_process() -> Owner:
    """Returns this process as the owner of a new lease."""
    return Owner(
        host=socket.gethostname(),
        space=_space(),
        pid=os.getpid(),
        started=started(os.getpid()) or "",
        token=uuid.uuid4().hex,
    )


def hold(owner: Owner) -> None:
    """Notes that this process has, or is about to take, a lease."""
    _held.add(owner.token)


def give_up(owner: Owner) -> None:
    """Notes that this process has a lease no more."""
    _held.discard(owner.token)


class Lease:
    """A lease; `take` it, `release` it. Its file is touched while this process lives.

    Args:
        path: Its file, in a directory that is there.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = pathlib.Path(path)
        self.owner = this_process()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, stale_s: float = STALE_S) -> Owner | None:
        """Takes the lease, from a dead owner too; returns the one that has it if that lives."""
        hold(self.owner)  # first: other threads may look as soon as the file is there
        try:
            holder = self._take(stale_s)
        except BaseException:
            give_up(self.owner)
            raise
        if holder is not None:
            give_up(self.owner)
            return holder
        # What those left who were killed while they did this; nobody needs it any more.
        for left in self.path.parent.glob(f"{glob.escape(self.path.name)}{_TAKING}*"):
            with contextlib.suppress(OSError):
                left.unlink(missing_ok=True)
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()
        return None

    def _take(self, stale_s: float) -> Owner | None:
        while not self._create():
            holder = read(self.path)
            if holder is None:
                continue  # it was released just now
            if _is_alive(holder, self.path, stale_s):
                return holder
            self._put_aside(holder)
        return None

    def _create(self) -> bool:
        """Makes the file, whole, if there is none."""
        content = self.owner.content()
        written = self.path.with_name(f"{self.path.name}{_TAKING}{uuid.uuid4().hex}")
        try:
            _write_new(written, content)
            try:
                os.link(written, self.path)
            except (FileExistsError, FileNotFoundError):
                return False
            except OSError:  # a file system without links: whoever looks in between has to wait
                return _write_new(self.path, content)
            return True
        finally:
            with contextlib.suppress(OSError):
                written.unlink(missing_ok=True)

    def _put_aside(self, dead: Owner) -> None:
        """Removes a dead owner's lease; of several that do so one succeeds."""
        aside = self.path.with_name(f"{self.path.name}{_TAKING}{self.owner.token}")
        try:
            os.rename(self.path, aside)
        except FileNotFoundError:
            return
        found = read(aside)
        if found is not None and found.token != dead.token and not self.path.exists():
            # Another one was faster, and this is its lease.
            with contextlib.suppress(FileNotFoundError):
                os.rename(aside, self.path)
        aside.unlink(missing_ok=True)

    def _beat(self) -> None:
        while not self._stop.wait(BEAT_S):
            try:
                if self.is_held():
                    os.utime(self.path)
            except OSError:
                continue  # the next one may succeed

    def is_held(self) -> bool:
        """Whether nobody took it over."""
        return (read(self.path) or Owner()).token == self.owner.token

    def release(self, *, leave: bool = False) -> None:
        """Gives the lease up; one that was taken over, or is a parent process's, stays.

        Args:
            leave: Whether its file stays, as that of a dead owner, for those who sweep.
        """
        self._stop.set()
        if os.getpid() != self.owner.pid:
            return
        give_up(self.owner)  # first: the file may refuse to go
        if self._thread is not None:
            self._thread.join()
        if not leave and self.is_held():
            self.path.unlink(missing_ok=True)


def _write_new(path: pathlib.Path, content: bytes) -> bool:
    """Writes a file if there is none."""
    try:
        descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
    except FileExistsError:
        return False
    with os.fdopen(descriptor, "wb") as sink:
        sink.write(content)
    return True


def read(path: str | os.PathLike[str]) -> Owner | None:
    """Returns who holds a lease, None if nobody does.

    One that cannot be read has an owner without a name, whom only its age can prove dead.
    """
    try:
        return parse(pathlib.Path(path).read_bytes())
    except FileNotFoundError:
        return None


def parse(content: bytes) -> Owner:
    """Returns the owner that a lease's content names; see `read`."""
    try:
        told = json.loads(content)
        known = {field.name for field in dataclasses.fields(Owner)}
        owner = Owner(**{name: value for name, value in told.items() if name in known})
    except (ValueError, AttributeError, TypeError):
        return Owner()
    return owner if isinstance(owner.pid, int) and isinstance(owner.token, str) else Owner()


def living(path: str | os.PathLike[str], stale_s: float = STALE_S) -> Owner | None:
    """Returns who holds a lease and may still work; None if nobody does, or is dead."""
    owner = read(path)
    return owner if owner is not None and _is_alive(owner, path, stale_s) else None


def _is_alive(owner: Owner, path: str | os.PathLike[str], stale_s: float) -> bool:
    known = lives_here(owner)
    return silent_s(path) < stale_s if known is None else known


def lives_here(owner: Owner) -> bool | None:
    """Returns whether an owner of this machine lives; None for one of another machine."""
    if owner.host != socket.gethostname() or owner.space != _space():
        return None
    if owner.pid == os.getpid():
        return owner.token in _held
    return owner.pid > 0 and started(owner.pid) == owner.started


def silent_s(path: str | os.PathLike[str]) -> float:
    """Returns for how many seconds a file or directory did not change, at least 0.

    By the clock that stamps files there, which may be a server's.
    """
    file = pathlib.Path(path)
    try:
        changed = file.lstat().st_mtime
    except FileNotFoundError:
        return 0.0
    probe = file.with_name(f"{file.name}{_TAKING}{uuid.uuid4().hex}")
    try:
        os.close(os.open(probe, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        now = probe.stat().st_mtime
        probe.unlink()
    except OSError:
        now = time.time()
    return max(0.0, now - changed)
