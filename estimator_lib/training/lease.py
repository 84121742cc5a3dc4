"""One trainer per model directory: a lease that lives as long as its owner.

Layer 3. The file `.trainer` names host, process and a token. A living lease refuses a second
trainer; one whose owner is gone is taken over with a new token, and the old owner, should it
come back, finds that its token is no longer there and may not commit.
"""

from __future__ import annotations

import contextlib
import pathlib

from estimator_lib.core import leases, storage
from estimator_lib.core.errors import CheckpointError, Reason, StorageError


class Lease:
    """A held lease; use it as a context manager.

    Args:
        directory: The model directory.
        name: Of its file.

    Raises:
        CheckpointError: another trainer holds it (`retryable`).
    """

    def __init__(self, directory: str, name: str = storage.TRAINER_LEASE) -> None:
        self._directory = pathlib.Path(directory)
        self._lease = leases.Lease(self._directory / name)

    @property
    def token(self) -> str:
        """What tells this lease from all others."""
        return self._lease.owner.token

    def __enter__(self) -> Lease:
        storage.make_directory(self._directory)
        with storage.storage_errors("write", self._lease.path):
            holder = self._lease.take()
        if holder is not None:
            error = CheckpointError(
                f"Model directory {self._directory} is in use by another trainer: {holder}. "
                "Wait for it, end it, or use another model_dir.",
                reason=Reason.LEASED,
            )
            error.retryable = True
            raise error
        return self

    def __exit__(self, *exc: object) -> None:
        # Not at the start: a first save that was killed half-way is known by what it left.
        with contextlib.suppress(StorageError):
            storage.sweep_staging(self._directory)
        with storage.storage_errors("delete", self._lease.path):
            self._lease.release()

    def check(self) -> None:
        """Refuses to go on when another trainer has taken over.

        Raises:
            CheckpointError: the token is another's.
        """
        with storage.storage_errors("read", self._lease.path):
            held = self._lease.is_held()
        if not held:
            raise CheckpointError(
                f"Model directory {self._directory} was taken over by "
                f"{leases.read(self._lease.path) or 'another process'} while this one was silent. "
                "Nothing was written.",
                reason=Reason.LEASED,
            )
