"""A disk that refuses: each call of a process that changes files is counted, and one may fail.

Of Python's own calls each counts; of what TensorFlow and Arrow write a call of theirs does, which
then fails with the errors that they make of the kernel's. Processes that are forked later count on
together, so that a step and its helpers see one disk.
"""

import builtins
import contextlib
import dataclasses
import enum
import errno
import io
import json
import mmap
import os
import signal
import threading
import time

CALLS = ("open", "replace", "rename", "link", "fsync", "mkdir", "unlink", "rmdir", "sendfile")
CODES = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.ESTALE)
PASSING = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE}
"""Those after which trying again may help: exit code 75; 2 for a disk that nobody may write to."""
_WRITING = os.O_WRONLY | os.O_RDWR
_ELSEWHERE = ("/dev/", "/proc/", "/sys/")


class Act(enum.StrEnum):
    """What happens at a call."""

    NOTHING = "nothing"
    FAIL = "fail"
    KILL = "kill"
    TERM = "term"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What happens when.

    Attributes:
        act: What.
        call: The first call it happens at; 1 is the first.
        times: At how many calls; 0 for all from there on.
        path: Only calls count whose path has this text.
        code: The errno of calls that fail.
        log: File that gets a line for each call; none if empty.
    """

    act: Act = Act.NOTHING
    call: int = 0
    times: int = 0
    path: str = ""
    code: int = errno.ENOSPC
    log: str = ""

    def to_json(self) -> str:
        """Returns it as an environment variable holds it."""
        return json.dumps(dataclasses.asdict(self))


class Disk:
    """The disk as this process sees it from now on.

    Args:
        plan: What happens; it may be replaced, and `begin` counts anew.
        setattr_: Replaces functions: pytest's `monkeypatch.setattr` puts them back.
        here: Whether only calls of this thread count.
    """

    def __init__(self, plan=Plan(), setattr_=setattr, *, here=False):
        self.plan = plan
        self._count = mmap.mmap(-1, 8)  # shared with forked processes
        self._lock = threading.Lock()
        self._thread = threading.get_ident() if here else None
        self._log = os.open(plan.log, os.O_CREAT | os.O_APPEND | os.O_WRONLY) if plan.log else None
        self._sleep = time.sleep
        for name in CALLS:
            setattr_(os, name, self._counted(name, getattr(os, name)))
        opened = self._opened(io.open)
        for module in (builtins, io):
            setattr_(module, "open", opened)
        setattr_(time, "sleep", self._nap)
        self._count_libraries(setattr_)

    def begin(self, plan):
        """Counts from nothing with another plan."""
        self._count[:] = bytes(8)
        self.plan = plan

    @property
    def calls(self):
        """How many there were."""
        return int.from_bytes(self._count[:], "little")

    def _nap(self, seconds):
        """Nobody waits for a disk that fails."""
        self._sleep(min(seconds, 0.01) if self.plan.act is Act.FAIL else seconds)

    def _counts(self, path):
        if self._thread not in (None, threading.get_ident()):
            return False
        return not (isinstance(path, str) and path.startswith(_ELSEWHERE))

    def _call(self, name, path="", fails=OSError):
        if not self._counts(path) or self.plan.path not in path:
            return
        with self._lock:
            number = self.calls + 1
            self._count[:] = number.to_bytes(8, "little")
        if self._log is not None:
            os.write(self._log, f"{number} {name} {path}\n".encode())
        first, times = self.plan.call, self.plan.times
        if number < first or (times and number >= first + times):
            return
        match self.plan.act:
            case Act.FAIL:
                code = self.plan.code
                raise fails(code, os.strerror(code), path or None)
            case Act.KILL:
                os.kill(0, signal.SIGKILL)  # and its helpers, as a pod goes
            case Act.TERM:
                os.kill(os.getpgrp(), signal.SIGTERM)

    def _counted(self, name, function):
        def call(path, *args, **kwargs):
            named = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
            if name != "open" or (args[0] if args else kwargs["flags"]) & _WRITING:
                self._call(name, named)
            return function(path, *args, **kwargs)

        return call

    def _opened(self, function):
        """Of Python's files every write counts as well as the opening."""

        def call(file, mode="r", *args, **kwargs):
            named = isinstance(file, str | os.PathLike)
            writes = named and bool(set(mode) & set("wax+"))
            if writes:
                self._call("open", os.fspath(file))
            found = function(file, mode, *args, **kwargs)
            if writes or (set(mode) & set("wax+")):
                where, real = os.fspath(file) if named else "", found.write
                with contextlib.suppress(AttributeError):  # raw ones
                    found.write = lambda data: (self._call("write", where), real(data))[1]
            return found

        return call

    def _count_libraries(self, setattr_):
        import pyarrow.parquet as pq
        import tensorflow as tf

        for owner, name, fails in (
            (tf.train.Checkpoint, "write", _tensorflows),
            (tf.saved_model, "save", _tensorflows),
            (tf.io.TFRecordWriter, "write", _tensorflows),
            (pq.ParquetWriter, "write_table", OSError),
        ):
            setattr_(owner, name, self._librarys(name, getattr(owner, name), fails))

    def _librarys(self, name, function, fails):
        def call(*args, **kwargs):
            self._call(name, fails=fails)
            return function(*args, **kwargs)

        return call


def _tensorflows(code, text, path):
    """The error that TensorFlow makes of an errno."""
    import tensorflow as tf

    kind = {
        errno.ENOSPC: tf.errors.ResourceExhaustedError,
        errno.EDQUOT: tf.errors.ResourceExhaustedError,
        errno.EACCES: tf.errors.PermissionDeniedError,
        errno.EROFS: tf.errors.PermissionDeniedError,
        errno.ESTALE: tf.errors.AbortedError,
    }.get(code, tf.errors.UnknownError)
    return kind(None, None, f"{path or 'a file'}; {text}")
