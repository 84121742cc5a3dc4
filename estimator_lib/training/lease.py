"""One trainer per model directory: a lease that lives as long as its owner.

Layer 3. The file `.trainer` names host, process and a token. A living lease refuses a second
trainer; one whose owner is gone is taken over with a new token, and the old owner, should it
come back, finds that its token is no longer there and may not commit.
"""

from __future__ import annotations

import json
import os
import pathlib
import socket
import threading
import time
import uuid
from typing import Any

from estimator_lib.core import storage
from estimator_lib.core.errors import CheckpointError, Reason

_NAME = ".trainer"
_BEAT_S = 10.0
_STALE_S = 60.0


class Lease:
    """A held lease; use it as a context manager.

    Args:
        directory: The model directory.

    Raises:
        CheckpointError: another trainer holds it (`retryable`).
    """

    def __init__(self, directory: str) -> None:
        self._path = pathlib.Path(directory) / _NAME
        self._token = uuid.uuid4().hex
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Lease:
        storage.make_directory(self._path.parent)
        self._take()
        self._thread = threading.Thread(target=self._beat, name="trainer-lease", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        if self._holder().get("token") == self._token:
            storage.remove(self._path)

    def _take(self) -> None:
        content = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": _started(os.getpid()),
            "token": self._token,
        }
        if not self._create(content):
            holder = self._holder()
            if self._alive(holder):
                error = CheckpointError(
                    f"Model directory {self._path.parent} is in use by another trainer: process "
                    f"{holder.get('pid')} on {holder.get('host')}. Wait for it, end it, or use "
                    "another model_dir.",
                    reason=Reason.LEASED,
                )
                error.retryable = True
                raise error
            storage.write_json(self._path, content)
        if self._holder().get("token") != self._token:
            self._take()

    def _create(self, content: dict[str, Any]) -> bool:
        with storage.storage_errors("write", self._path):
            try:
                descriptor = os.open(self._path, os.O_CREAT | os.O_EXCL | os.O_WRONLY)
            except FileExistsError:
                return False
            with os.fdopen(descriptor, "w") as sink:
                sink.write(storage.canonical_json(content))
        return True

    def _holder(self) -> dict[str, Any]:
        try:
            content = json.loads(self._path.read_text())
        except (OSError, ValueError):
            return {}
        return content if isinstance(content, dict) else {}

    def _alive(self, holder: dict[str, Any]) -> bool:
        try:
            age = time.time() - self._path.stat().st_mtime
        except OSError:
            return False
        if holder.get("host") == socket.gethostname():
            pid = holder.get("pid")
            return isinstance(pid, int) and _started(pid) == holder.get("started") is not None
        return age < _STALE_S

    def _beat(self) -> None:
        while not self._stop.wait(_BEAT_S):
            if self._holder().get("token") == self._token:
                os.utime(self._path)

    def check(self) -> None:
        """Refuses to go on when another trainer has taken over.

        Raises:
            CheckpointError: the token is another's.
        """
        holder = self._holder()
        if holder.get("token") != self._token:
            raise CheckpointError(
                f"Model directory {self._path.parent} was taken over by process "
                f"{holder.get('pid')} on {holder.get('host')} while this one was silent. "
                "Nothing was written.",
                reason=Reason.LEASED,
            )


def _started(pid: int) -> str | None:
    """When a process of this host began, as the kernel counts; None if there is no such one."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text.rpartition(")")[2].split()[19]
