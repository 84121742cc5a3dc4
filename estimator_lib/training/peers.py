"""The processes that train one model in step with each other, and what they agree on.

Layer 3. Between two calls of the training function every process says what it wants (`Vote`), all
hear all votes, and each draws the same conclusion (`Turn`). So all take the same number of steps
per call, save at the same steps and end together, whoever of them was asked to. Nobody waits for
ever: a wait beyond its deadline, and a peer that is gone, end in an error that asks to run again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import zlib
from collections.abc import Iterator, Sequence

import tensorflow as tf

from estimator_lib import tensorflow_internals
from estimator_lib.core.errors import ConfigError, Reason, TrainingError
from estimator_lib.inputs import datasets
from estimator_lib.training.run_config import RunConfig

_LOST = (
    tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.CancelledError,
    tf.errors.DeadlineExceededError, tf.errors.FailedPreconditionError, tf.errors.InternalError,
)  # fmt: skip
"""What an operation over several processes fails with when one of them is gone."""


@dataclasses.dataclass(frozen=True)
class Vote:
    """What one process wants to be done next.

    Attributes:
        steps: The most steps that the next call may take.
        save: Whether a checkpoint is due.
        unsaved: Whether there is something that no checkpoint holds.
        end: Whether training is to end.
        signal: The number of the signal that asked this process to end; 0 for none.
    """

    steps: int
    save: bool = False
    unsaved: bool = False
    end: bool = False
    signal: int = 0


@dataclasses.dataclass(frozen=True)
class Turn:
    """What all do next: save, else leave by a signal, else end, else take `steps` steps.

    Attributes:
        steps: How many.
        save: Whether a checkpoint is written.
        end: Whether training ends.
        signal: The signal that one of them was asked to end by; 0 for none.
        asked: The number of the process that it was.
    """

    steps: int
    save: bool
    end: bool
    signal: int
    asked: int


def conclude(votes: Sequence[Vote]) -> Turn:
    """Returns what follows from the votes of all processes, the chief's first."""
    asked = next((i for i, vote in enumerate(votes) if vote.signal), 0)
    end, signal = any(vote.end for vote in votes), votes[asked].signal
    due = any(vote.save for vote in votes)
    return Turn(
        steps=min(vote.steps for vote in votes),
        save=due or (bool(end or signal) and any(vote.unsaved for vote in votes)),
        end=end,
        signal=signal,
        asked=asked,
    )


class Peers:
    """The processes of one training; this one may be all of them.

    Args:
        strategy: What trains.
        config: The run's.

    Attributes:
        several: Whether there is more than one.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None, config: RunConfig) -> None:
        self._gathered = None
        if strategy is not None and tensorflow_internals.spans_processes(strategy):
            self._gathered = _gathering(strategy)
        self.several = self._gathered is not None
        self._config = config
        self._overdue: str | None = None

    def turn(self, vote: Vote) -> Turn:
        """Returns what all do next, given what this process wants.

        Raises:
            TrainingError: another process is gone, or silent for too long (`retryable`).
        """
        rows = self._gather(dataclasses.astuple(vote))
        return conclude(
            [Vote(s, bool(save), bool(un), bool(end), sig) for s, save, un, end, sig in rows]
        )

    def agree_on_start(self, step: int, first_batch: int, fingerprint: str | None) -> None:
        """Compares where the processes begin.

        Args:
            step: The global step.
            first_batch: Of the input.
            fingerprint: Of the input's rows and their order; None if it has none.

        Raises:
            TrainingError: one begins at another step or batch (`retryable`).
            ConfigError: one reads other rows.
        """
        digest = zlib.crc32((fingerprint or "").encode())
        rows = self._gather([step, first_batch, digest])
        for number, (its_step, its_batch, its_digest) in enumerate(rows):
            if (its_step, its_batch) != tuple(rows[0][:2]):
                error = TrainingError(
                    f"{self.name(number)} begins at step {its_step} and batch {its_batch}, the "
                    f"chief at step {rows[0][0]} and batch {rows[0][1]}: expected the same "
                    "checkpoint. Give all one model_dir, on storage that they share.",
                    reason=Reason.CONFLICT,
                )
                error.retryable = True
                raise error
            if its_digest != rows[0][2]:
                raise ConfigError(
                    f"{self.name(number)} reads other rows than the chief, or in another order: "
                    "expected the same input in every process, of which each takes its share. "
                    "Give all the same data, seed and batch_size.",
                    reason=Reason.CONFLICT,
                )

    def name(self, number: int) -> str:
        """Returns what messages call a process, such as "Worker 1"; the chief's number is 0."""
        if not self.several:
            return "Training"
        return "The chief" if number == 0 else f"Worker {number - 1}"

    @contextlib.contextmanager
    def starting(self) -> Iterator[None]:
        """Lets the block wait for the others as long as a start may take."""
        with self._deadline(self._config.session_creation_timeout_secs, "was not ready to train"):
            yield

    @contextlib.contextmanager
    def working(self) -> Iterator[None]:
        """Lets the block, which works together with the others, wait for them for a while."""
        with self._deadline(self._config.peer_timeout_secs, "was silent"):
            yield

    @contextlib.contextmanager
    def errors(self) -> Iterator[None]:
        """Tells errors of the block that come from a lost process as what they are.

        Raises:
            TrainingError: another process is gone, or silent for too long (`retryable`).
        """
        if not self.several:
            yield
            return
        try:
            yield
        except _LOST as cause:
            found = datasets.essence(cause)[:200]
            what = self._overdue or f"Another process of the cluster was lost: {found}"
            error = TrainingError(
                f"{what.rstrip('.')}. Run all of them again: training goes on from the last "
                "checkpoint.",
                reason=Reason.UNREACHABLE,
            )
            error.retryable = True
            raise error from cause

    @contextlib.contextmanager
    def _deadline(self, seconds: float, what: str) -> Iterator[None]:
        if not self.several:
            yield
            return

        def end() -> None:
            self._overdue = f"Another process of the cluster {what} for {seconds:g} s"
            tensorflow_internals.abort_collectives(self._overdue)

        timer = threading.Timer(seconds, end)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def _gather(self, row: Sequence[int]) -> list[list[int]]:
        """Returns the rows of all processes, the chief's first."""
        if self._gathered is None:
            return [[int(value) for value in row]]
        with self.working():
            found = self._gathered(tf.constant([[int(value) for value in row]], tf.int64)).numpy()
        replicas = len(found) // self._config.num_worker_replicas
        return [[int(value) for value in row] for row in found[::replicas]]


def _gathering(strategy: tf.distribute.Strategy) -> tf.types.experimental.PolymorphicFunction:
    """Returns a function from a row int64 `[1, n]` to those of all replicas, `[replicas, n]`."""

    def of_replica(row: tf.Tensor) -> tf.Tensor:
        here = tf.distribute.get_replica_context()
        mine = tf.one_hot(here.replica_id_in_sync_group, here.num_replicas_in_sync, dtype=tf.int64)
        return here.all_reduce(tf.distribute.ReduceOp.SUM, mine[:, tf.newaxis] * row)

    def of_all(row: tf.Tensor) -> tf.Tensor:
        found = strategy.run(of_replica, args=(row,))
        return strategy.experimental_local_results(found)[0]

    return tensorflow_internals.without_warnings(tf.function(of_all, autograph=False))
