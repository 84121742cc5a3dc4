"""What the processes of an asynchronous training find on the parameter servers besides variables.

Layer 3. Each server says which run it serves and whether that has ended; the first one also keeps
the step counter, the chief's order, and what every client is doing. All of it is variables that
have fixed names, so that nobody needs to hear of anything but the servers' addresses.
"""

from __future__ import annotations

import contextlib
import enum
import logging
import pathlib
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from estimator_lib import tensorflow_internals, variables
from estimator_lib.core import leases, storage
from estimator_lib.core.errors import Reason, TrainingError
from estimator_lib.training import attempts
from estimator_lib.training.run_config import RunConfig

_log = logging.getLogger(__name__)
_RUN, _ENDED = "estimator/run", "estimator/ended"
_CONNECTED = ".connected"
"""The file in which the chief says that it is connected: the token of its lease."""
_POLL_S = 0.2
_BEAT_S = 1.0
NO_LAST_STEP = 2**62


class Order(enum.IntEnum):
    """What the chief says."""

    TRAIN = 0
    PAUSE = 1
    FINISHED = 2
    FAILED = 3


class Doing(enum.IntEnum):
    """What a client does."""

    NOTHING = 0
    """It has not begun, or has ended."""
    BETWEEN_CALLS = 1
    TRAINING = 2


def devices_of(addresses: Sequence[str]) -> tuple[str, ...]:
    """Returns the devices of servers."""
    return tuple(f"/job:ps/replica:0/task:{n}/device:CPU:0" for n in range(len(addresses)))


def connect(addresses: Sequence[str], own: str, timeout_s: float) -> None:
    """Makes this process a client of parameter servers.

    Args:
        addresses: Theirs, `host:port`.
        own: That of this process: the servers fetch tensors from it.
        timeout_s: How long to wait for servers that are not there yet.

    Raises:
        TrainingError: a server is not there (`retryable`).
    """
    deadline = time.monotonic() + timeout_s
    for address in addresses:
        while not _listens(address):
            if time.monotonic() > deadline:
                raise _retryable(
                    f"Parameter server {address} cannot be reached: expected it within "
                    f"{timeout_s:g} s. Start it, or correct TF_CONFIG.",
                    Reason.UNREACHABLE,
                )
            time.sleep(_POLL_S)
    tensorflow_internals.connect_to_servers({"ps": list(addresses)}, own)


def wait_for_chief(directory: str, timeout_s: float) -> None:
    """Waits until the chief that is at work has connected to all servers.

    Servers of TensorFlow 2.21 crash where the first of their clients come at the same time.

    Raises:
        TrainingError: there is no chief in time (`retryable`).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        chief = leases.living(pathlib.Path(directory) / storage.TRAINER_LEASE)
        with contextlib.suppress(OSError):
            connected = (pathlib.Path(directory) / _CONNECTED).read_text()
            if chief is not None and connected == chief.token:
                return
        if time.monotonic() > deadline:
            raise _no_chief(directory, timeout_s)
        time.sleep(_POLL_S)


def let_workers_connect(directory: str, token: str) -> None:
    """Says that the chief whose lease has this token has connected to all servers."""
    storage.write_text(pathlib.Path(directory) / _CONNECTED, token)


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=1.0):
            return True
    except OSError:
        return False


def serve(config: RunConfig) -> None:
    """Is a parameter server until the chief's attempt has ended, however it did.

    Args:
        config: The run's, with the model_dir of the chief.

    Raises:
        TrainingError: training failed, or there is no chief for too long (`retryable`).
    """
    addresses, index = config.cluster["cluster"]["ps"], config.task_id
    watching = attempts.Watching(str(config.model_dir))
    server = tf.distribute.Server(
        {"ps": addresses}, job_name="ps", task_index=index, protocol=config.protocol
    )
    _log.info("parameter server %d of %d serves at %s", index, len(addresses), addresses[index])
    patience_s, heard = config.session_creation_timeout_secs, time.monotonic()
    while True:
        ending = watching.ending()
        if ending is not None and not ending.retryable:
            break
        if ending is not None:
            watching.skip(ending)
        if watching.is_running():
            patience_s, heard = config.peer_timeout_secs, time.monotonic()
        if time.monotonic() - heard > patience_s:
            raise _no_chief(str(config.model_dir), patience_s)
        time.sleep(_POLL_S)
    del server
    if ending.failure is not None:
        raise TrainingError(f"Training failed: {ending.failure}")


class Board:
    """What clients of one run read and write on its servers.

    Args:
        devices: Of the servers.
        run: Tells this run from others.
        clients: How many there are, the chief first.
    """

    def __init__(self, devices: Sequence[str], run: str, clients: int) -> None:
        def first(name: str, shape: Sequence[int] = ()) -> tf.Variable:
            full = f"{run}/control/{name}"
            return variables.RemoteVariable(
                name=name, shared_name=full, device=devices[0], shape=shape, dtype=tf.int64
            )

        self.run = run
        self.steps = first("steps")
        self._order = first("order")
        self._doing, self._beats = first("doing", [clients]), first("beats", [clients])
        self._runs, self._ended = _texts(devices, _RUN), _texts(devices, _ENDED)

    def prepare(self) -> None:
        """Makes what is read and written here, before anything else; the chief's."""
        for counts in (self._doing, self._beats, self.steps, self._order):
            counts.assign(tf.zeros(counts.shape, tf.int64))

    def open(self, step: int) -> None:
        """Lets workers begin: all variables have their values now."""
        self.steps.assign(step)
        for server in self._runs:
            server.assign(self.run)

    def close(self, outcome: Order) -> None:
        """Says that the run has ended, for those that come later."""
        for server in self._ended:
            server.assign(f"{self.run} {outcome.name}")

    def is_served(self) -> bool:
        """Whether all servers are there and serve this run, or one that is not open yet."""
        try:
            return bool(self.steps.is_initialized()) and all(
                _text(server) in ("", self.run) for server in self._runs
            )
        except tf.errors.OpError:
            return False

    def order(self, order: Order) -> None:
        """Says what all are to do; the chief's."""
        self._order.assign(int(order))

    def ordered(self) -> Order:
        """Returns what the chief has said last."""
        return Order(int(self._order.numpy()))

    def note(self, client: int, doing: Doing) -> None:
        """Says what a client does now."""
        self._doing.scatter_update(
            tf.IndexedSlices(tf.constant([int(doing)], tf.int64), tf.constant([client]))
        )

    def wait(self, doing: Sequence[Doing], timeout_s: float, silent_s: float) -> None:
        """Waits while workers do one of `doing`, but not for those that are gone.

        Args:
            doing: What is waited for to end.
            timeout_s: How long to wait for workers that are there.
            silent_s: After so many seconds without a sign of life a worker is gone.
        """
        deadline = time.monotonic() + timeout_s
        watch = Watch(self._beats, silent_s)
        while True:
            now = self._doing.numpy()
            busy = [n for n in range(1, len(now)) if now[n] in doing]
            gone = [n for n in watch.silent() if n in busy]
            for worker in gone:
                _log.warning("worker %d has been silent for %g s: it is gone", worker - 1, silent_s)
                self.note(worker, Doing.NOTHING)
            if not set(busy) - set(gone):
                return
            if time.monotonic() > deadline:
                _log.warning(
                    "workers %s did not pause in %g s: going on without them",
                    [n - 1 for n in busy], timeout_s,
                )  # fmt: skip
                return
            time.sleep(0.02)

    def watch(self, silent_s: float) -> Watch:
        """Returns a watch over the signs of life of all clients."""
        return Watch(self._beats, silent_s)

    @contextlib.contextmanager
    def living(self, client: int) -> Iterator[None]:
        """Gives signs of life of a client in the block."""
        ended = threading.Event()
        one = tf.IndexedSlices(tf.constant([1], tf.int64), tf.constant([client]))

        def beat() -> None:
            # Whoever trains finds out by itself that a server is lost.
            with contextlib.suppress(tf.errors.OpError):
                while not ended.wait(_BEAT_S):
                    self._beats.scatter_add(one)

        thread = threading.Thread(target=beat, name="signs of life", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


class Watch:
    """Tells which clients are gone, by their signs of life since it was made."""

    def __init__(
        self,
        beats: tf.Variable,
        silent_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._beats = beats
        self._silent_s = silent_s
        self._clock = clock
        self._seen: dict[int, tuple[int, float]] = {}

    def silent(self) -> list[int]:
        """Returns the clients that have given no sign of life for too long."""
        now = self._clock()
        for client, beats in enumerate(self._beats.numpy().tolist()):
            if self._seen.get(client, (None,))[0] != beats:
                self._seen[client] = (beats, now)
        return [c for c, (_, when) in self._seen.items() if now - when > self._silent_s]


def served(devices: Sequence[str]) -> tuple[str, Order | None]:
    """Returns the run that all servers serve ("" if there is none) and how it has ended."""
    runs = {_text(server) for server in _texts(devices, _RUN)}
    if len(runs) != 1:
        return "", None
    (run,) = runs
    ends = [_text(server) for server in _texts(devices, _ENDED)]
    found = [end.removeprefix(f"{run} ") for end in ends if run and end.startswith(f"{run} ")]
    return run, Order[found[0]] if found else None


def wait_for_run(devices: Sequence[str], timeout_s: float) -> tuple[str, Order | None]:
    """Waits for the chief to open a run; returns it and how it has ended.

    Raises:
        TrainingError: there is no run in time (`retryable`).
    """
    deadline = time.monotonic() + timeout_s
    while True:
        run, ended = served(devices)
        if run:
            return run, ended
        if time.monotonic() > deadline:
            raise _retryable(
                f"The chief has not begun to train: expected it within {timeout_s:g} s "
                "(session_creation_timeout_secs). Look at the chief.",
                Reason.UNREACHABLE,
            )
        time.sleep(_POLL_S)


def lost() -> TrainingError:
    """The error of a client whose servers are gone, or serve another run."""
    return _retryable(
        "A parameter server was lost, and its variables with it. Start all tasks again: training "
        "goes on from the newest checkpoint.",
        Reason.INTERRUPTED,
    )


def _no_chief(directory: str, seconds: float) -> TrainingError:
    return _retryable(
        f"There has been no chief in {directory} for {seconds:g} s. Start it, with the same "
        "model_dir in all tasks.",
        Reason.UNREACHABLE,
    )


def _retryable(message: str, reason: Reason) -> TrainingError:
    error = TrainingError(message, reason=reason)
    error.retryable = True
    return error


def _texts(devices: Sequence[str], name: str) -> list[tf.Variable]:
    return [
        variables.RemoteVariable(
            name=name, shared_name=name, device=device, shape=(), dtype=tf.string
        )
        for device in devices
    ]


def _text(server: tf.Variable) -> str:
    return server.numpy().decode() if bool(server.is_initialized()) else ""
