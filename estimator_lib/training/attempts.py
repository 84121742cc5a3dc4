"""What the chief and the evaluator tell each other, by files in the model directory.

Layer 3. An attempt is one call of `train_and_evaluate` by the chief; the token of its lease names
it. What an earlier attempt left behind therefore says nothing about the one that runs now.

    .attempt                  lease of the chief, as long as the call takes
    training_finished.json    how the attempt ended: the chief's last word
    .evaluator                lease of the evaluator, while it follows
    evaluation_finished.json  which attempt's end has been evaluated: the evaluator's last word
"""

from __future__ import annotations

import dataclasses
import json
import logging
import pathlib
import time
from collections.abc import Callable
from types import TracebackType

from estimator_lib.core import leases, storage
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.training.lease import Lease

_log = logging.getLogger(__name__)
_ATTEMPT, _EVALUATOR = ".attempt", ".evaluator"
_TRAINED, _EVALUATED = "training_finished.json", "evaluation_finished.json"
_POLL_S = 0.5
LAST_EVALUATION_S = 3600.0
"""How long the chief waits for a living evaluator to evaluate the end of training."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ending:
    """How an attempt ended.

    Attributes:
        attempt: Its token.
        step: The global step; -1 if it failed.
        failure: Why it failed; None if it did not.
        retryable: Whether another attempt may follow a failure.
    """

    attempt: str
    step: int
    failure: str | None = None
    retryable: bool = False


class Attempt:
    """The chief's attempt, a context manager: however the block ends, the evaluator learns it.

    Args:
        directory: The model directory.

    Raises:
        CheckpointError: another trainer is at work there (`retryable`).
    """

    def __init__(self, directory: str) -> None:
        self._directory = pathlib.Path(directory)
        self._lease = Lease(directory, _ATTEMPT)
        self._finished = False

    def __enter__(self) -> Attempt:
        self._lease.__enter__()
        storage.remove(self._directory / _TRAINED)
        return self

    def finish(self, step: int) -> None:
        """Says that training has finished at a global step."""
        self._finished = True
        self._write(Ending(attempt=self._lease.token, step=step))

    def await_evaluator(
        self,
        *,
        expected: bool,
        silence_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Waits until the evaluator has evaluated the end of training, if there is one.

        Args:
            expected: Whether there should be one, though none may be there yet.
            silence_s: The longest wait for one that is not there.
            clock: Monotonic seconds.
            sleep: Waits for so many seconds.
        """
        began = heard = clock()
        while True:
            word = _read(self._directory / _EVALUATED)
            if word.get("attempt") == self._lease.token:
                if word.get("failure"):
                    _log.warning("The evaluator failed: %s", word["failure"])
                return
            now = clock()
            if leases.living(self._directory / _EVALUATOR) is not None:
                heard, expected = now, True
            if not expected:
                return
            if now - heard >= silence_s or now - began >= LAST_EVALUATION_S:
                _log.warning(
                    "The evaluator has not evaluated the end of training within %.0f s: it is "
                    "waited for no longer.",
                    now - began,
                )
                return
            sleep(_POLL_S)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if error is not None and not self._finished:
                passes = isinstance(error, EstimatorLibError) and error.retryable
                final = isinstance(error, Exception) and not passes
                text = f"{type(error).__name__}: {error}".splitlines()[0]
                self._write(
                    Ending(attempt=self._lease.token, step=-1, failure=text, retryable=not final)
                )
        finally:
            self._lease.__exit__(kind, error, traceback)

    def _write(self, ending: Ending) -> None:
        storage.write_json(self._directory / _TRAINED, dataclasses.asdict(ending))


class Watching:
    """What others can see of the attempts in a model directory.

    Args:
        directory: The model directory.
    """

    def __init__(self, directory: str) -> None:
        self._directory = pathlib.Path(directory)
        self._stale: Ending | None = None
        self._attempt: str | None = None
        self._skip_old()

    def _skip_old(self) -> None:
        """What lies here now is an earlier attempt's, unless that one still runs."""
        found = self._ending()
        if found is not None and found.attempt != self.running():
            self._stale = found

    def skip(self, ending: Ending) -> None:
        """Says that another attempt is to follow the one that has ended so."""
        self._stale = ending

    def is_running(self) -> bool:
        """Whether a living process trains here, as an attempt or by a call of `train` alone."""
        trainer = leases.living(self._directory / storage.TRAINER_LEASE)
        return self.running() is not None or trainer is not None

    def running(self) -> str | None:
        """Returns the attempt that a living chief makes, or None."""
        owner = leases.living(self._directory / _ATTEMPT)
        if owner is None:
            return None
        self._attempt = owner.token
        return owner.token

    def ending(self) -> Ending | None:
        """Returns how the attempt has ended, or None."""
        found = self._ending()
        return None if found == self._stale else found

    @property
    def left(self) -> Ending | None:
        """How the attempt before all that were followed has ended; None if nothing says so."""
        return self._stale

    def _ending(self) -> Ending | None:
        word = _read(self._directory / _TRAINED)
        try:
            return Ending(
                attempt=str(word.get("attempt", "")),
                step=int(str(word["step"])),
                failure=None if word.get("failure") is None else str(word["failure"]),
                retryable=word.get("retryable") is True,
            )
        except (KeyError, ValueError):
            return None


class Following(Watching):
    """The evaluator's side of the attempts in a model directory, a context manager.

    Args:
        directory: The model directory.
    """

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self._lease = leases.Lease(self._directory / _EVALUATOR)

    def __enter__(self) -> Following:
        storage.make_directory(self._directory)
        with storage.storage_errors("write", self._lease.path):
            holder = self._lease.take()
        if holder is not None:
            _log.warning("Another evaluator follows %s as well: %s.", self._directory, holder)
        self._skip_old()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        ending = self.ending()
        attempt = ending.attempt if ending is not None else self.running() or self._attempt
        failure = None if error is None else f"{kind.__name__ if kind else ''}: {error}"
        try:
            if attempt is not None:
                content = {"attempt": attempt, "failure": failure}
                storage.write_json(self._directory / _EVALUATED, content)
        finally:
            with storage.storage_errors("delete", self._lease.path):
                self._lease.release()


def _read(path: pathlib.Path) -> dict[str, object]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
