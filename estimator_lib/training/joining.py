"""How a process joins the others of its cluster before TensorFlow waits for them.

Layer 3. TensorFlow waits for an hour, holds Python's lock meanwhile and cannot be interrupted. So
each process first waits here until it has reached all others, and only then lets TensorFlow do it.
"""

from __future__ import annotations

import contextlib
import math
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

from estimator_lib.core.errors import ConfigError, Reason, TrainingError, quote

_PAUSE_S = 0.2
_BACKLOG = 1024


def join(
    cluster: Mapping[str, Sequence[str]], kind: str, index: int, timeout_s: float
) -> tf.distribute.Strategy:
    """Returns the strategy of all processes that train, once all of them are there.

    Args:
        cluster: The addresses of the chief and the workers.
        kind: Which of them this process is: chief or worker, and
        index: its number.
        timeout_s: The longest wait for the others.

    Raises:
        ConfigError: TensorFlow has computed something already.
        TrainingError: another process was not there in time (`retryable`).
    """
    own = cluster[kind][index]
    until = time.monotonic() + timeout_s
    await_all(own, [a for all_of in cluster.values() for a in all_of if a != own], timeout_s)
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec(cluster), task_type=kind, task_id=index, rpc_layer="grpc"
    )
    try:
        with _killed_after(max(10.0, until - time.monotonic())):
            return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except RuntimeError as error:
        raise ConfigError(
            'RunConfig.train_distribute is "sync", but TensorFlow has computed something already: '
            "expected to join the cluster first. Make the Estimator at the program's start.",
            reason=Reason.CONFLICT,
        ) from error
    except tf.errors.OpError as error:
        raise _lost("cannot be joined", timeout_s) from error


def await_all(own: str, others: Sequence[str], timeout_s: float) -> None:
    """Waits until every other process has answered at its address, and answers at the own one.

    Args:
        own: host:port of this process.
        others: Those of the others.
        timeout_s: The longest wait.

    Raises:
        ConfigError: an address is no host:port.
        TrainingError: one did not answer in time (`retryable`).
    """
    until, missing = time.monotonic() + timeout_s, list(others)
    with socket.socket() as here:
        # Whoever comes later meets TensorFlow's own server at this address.
        here.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            here.bind(("", _host_and_port(own)[1]))
            here.listen(_BACKLOG)
        while True:
            missing = [address for address in missing if not _answers(address)]
            if not missing:
                return
            if time.monotonic() >= until:
                raise _lost(f"did not answer: {', '.join(missing[:3])}", timeout_s)
            time.sleep(_PAUSE_S)


def _answers(address: str) -> bool:
    try:
        socket.create_connection(_host_and_port(address), timeout=2.0).close()
    except OSError:
        return False
    return True


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(
            f"TF_CONFIG cluster has an invalid address: expected host:port, got {quote(address)}."
        )
    return host.strip("[]"), int(port)


@contextlib.contextmanager
def _killed_after(seconds: float) -> Iterator[None]:
    """Lets the kernel end this process, for nobody else can, when the block takes too long."""
    free = signal.getsignal(signal.SIGALRM) is signal.SIG_DFL
    if threading.current_thread() is not threading.main_thread() or not free:
        yield
        return
    signal.alarm(math.ceil(seconds))
    try:
        yield
    finally:
        signal.alarm(0)


def _lost(how: str, timeout_s: float) -> TrainingError:
    error = TrainingError(
        f"Processes of the cluster {how}, within {timeout_s:g} s "
        "(RunConfig.session_creation_timeout_secs). Run all of them again.",
        reason=Reason.UNREACHABLE,
    )
    error.retryable = True
    return error
