"""A cluster of processes on this machine: the roles of TF_CONFIG, on loopback.

Layer 4. What runs on many machines by TF_CONFIG runs here as it is. The processes are forked from
one that has imported TensorFlow and used none of it; one that is lost, or asks for it, is started
again, with all those that cannot go on without it.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import json
import logging
import os
import pathlib
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import connection

from estimator_lib import tensorflow_internals
from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason, TrainingError
from estimator_lib.core.processes import Child, Ended

_log = logging.getLogger(__name__)
GRACE_S = 30.0
"""How long processes that were asked to end may take; then they are killed."""
MEANWHILE_S = 5.0
"""Seconds between two calls of `meanwhile`."""


@dataclasses.dataclass(frozen=True)
class Task:
    """One process of a cluster.

    Attributes:
        role: chief, worker, ps or evaluator.
        index: Its number within the role.
    """

    role: str
    index: int

    def __str__(self) -> str:
        return self.role if self.role in ("chief", "evaluator") else f"{self.role} {self.index}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """How many processes a cluster has.

    Attributes:
        workers: Processes that train, the chief counted.
        parameter_servers: Processes that hold variables; with them, workers train
            asynchronously, else in step.
        evaluator: Whether a process evaluates checkpoints.
    """

    workers: int
    parameter_servers: int = 0
    evaluator: bool = False

    def __post_init__(self) -> None:
        for name, value, least in (
            ("workers", self.workers, 1),
            ("parameter_servers", self.parameter_servers, 0),
        ):
            if value < least:
                raise ConfigError(
                    f"Local cluster argument {name} is invalid: expected {least} or more, got "
                    f"{value}."
                )

    def tasks(self) -> list[Task]:
        """Returns the processes, servers first: others wait for them."""
        return [
            *(Task("ps", i) for i in range(self.parameter_servers)),
            Task("chief", 0),
            *(Task("worker", i) for i in range(self.workers - 1)),
            *(Task("evaluator", 0) for _ in range(self.evaluator)),
        ]

    def needed_with(self, task: Task) -> list[Task]:
        """Returns the processes that start again when `task` does."""
        if task.role == "evaluator" or (self.parameter_servers and task.role != "ps"):
            return [task]
        return [other for other in self.tasks() if other.role != "evaluator"]


class Verdict(enum.Enum):
    """What the end of a process means for the cluster."""

    GOES_ON = enum.auto()
    DONE = enum.auto()
    RESTART = enum.auto()
    FAILED = enum.auto()


def judge(task: Task, ended: Ended) -> Verdict:
    """Returns what the end of a process means; that of the chief decides."""
    if ended.failure is None:
        return Verdict.DONE if task.role == "chief" else Verdict.GOES_ON
    killed = ended.code is not None and ended.code < 0
    return Verdict.RESTART if killed or ended.failure.retryable else Verdict.FAILED


def _gravity(task: Task, ended: Ended) -> int:
    """How likely the end of a process is the cause of that of others, which only noticed it."""
    final = judge(task, ended) is Verdict.FAILED
    return 2 if final else int(ended.code is not None)


def run_local_cluster(
    body: Callable[[], object],
    *,
    workers: int,
    parameter_servers: int = 0,
    evaluator: bool = False,
    restarts: int = 3,
    logs: str | os.PathLike[str] | None = None,
    meanwhile: Callable[[], None] | None = None,
) -> None:
    """Runs a program in the processes of a cluster on this machine, until its chief has finished.

    Each process calls `body` with a TF_CONFIG of its own. What the chief prints is shown; the
    others write to files. A process that was killed, or ended with an error that asks to run
    again, is started again; without parameter servers all that train are, for they train in step
    and go on from the last checkpoint. Ctrl-C and SIGTERM ask all of them to end, and a process
    of the cluster never outlives this call.

    Args:
        body: Makes an Estimator and calls `train_and_evaluate`, as on many machines.
        workers: Processes that train; the first is the chief.
        parameter_servers: Processes that hold variables.
        evaluator: Whether one more process evaluates checkpoints.
        restarts: How often processes are started again in all.
        logs: Directory for `<role>-<index>.log`; by default a temporary one, which stays only if
            the cluster failed.
        meanwhile: Called in this process every few seconds while the others work.

    Raises:
        ConfigError: a number is out of range, or TensorFlow has computed something already.
        EstimatorLibError: what a process failed with.
        TrainingError: it was asked to end by SIGTERM (`retryable`).
    """
    if tensorflow_internals.runtime_started():
        raise ConfigError(
            "A local cluster cannot be started: expected a process in which TensorFlow has "
            "computed nothing yet, for its threads do not survive a fork. Call run_local_cluster "
            "first, or in a process of its own.",
            reason=Reason.CONFLICT,
        )
    layout = Layout(workers=workers, parameter_servers=parameter_servers, evaluator=evaluator)
    folder = pathlib.Path(tempfile.mkdtemp(prefix="cluster-") if logs is None else logs)
    storage.make_directory(folder)
    with _ended_by_sigterm(), contextlib.ExitStack() as ports:
        cluster = _Cluster(layout, body, folder, ports)
        try:
            cluster.run(restarts, meanwhile)
        finally:
            cluster.stop(cluster.living())
    if logs is None:
        shutil.rmtree(folder, ignore_errors=True)


class _Cluster:
    """The processes, while they run."""

    def __init__(
        self,
        layout: Layout,
        body: Callable[[], object],
        folder: pathlib.Path,
        ports: contextlib.ExitStack,
    ) -> None:
        self._layout = layout
        self._body = body
        self._folder = folder
        self._ports = ports
        self._children: dict[Task, Child] = {}
        self._addresses: Mapping[str, Sequence[str]] = {}

    def living(self) -> list[Task]:
        """Returns the processes that have not ended."""
        return list(self._children)

    def run(self, restarts: int, meanwhile: Callable[[], None] | None) -> None:
        """Runs until the chief has finished; see `run_local_cluster`.

        Raises:
            EstimatorLibError: what a process failed with.
        """
        self._start(self._layout.tasks())
        while True:
            heard = self._heard(None if meanwhile is None else MEANWHILE_S)
            if meanwhile is not None:
                meanwhile()
            for task, ended in heard:
                verdict = judge(task, ended)
                if verdict is Verdict.DONE:
                    # The others learn of it by themselves; servers have nobody to serve.
                    self.stop([t for t in self._children if t.role == "ps"])
                    for other, how in self._await(self.living(), GRACE_S):
                        if how.failure is not None and other.role != "ps":
                            _log.warning("%s", self._failure(other, how).message)
                    return
                if verdict is Verdict.FAILED:
                    raise self._failure(task, ended)
                if verdict is Verdict.RESTART:
                    self._end_with(task, ended, last=not restarts)
                    self._start(self._layout.needed_with(task))
                    restarts -= 1
                    break

    def _end_with(self, task: Task, ended: Ended, *, last: bool) -> None:
        """Ends the processes that cannot go on without one that has ended.

        Args:
            task: It.
            ended: How.
            last: Whether they are not started again.

        Raises:
            EstimatorLibError: what one of them failed with for good, or what they ended by.
        """
        affected = self._layout.needed_with(task)
        others = [other for other in affected if other in self._children]
        # They find out by themselves that one is gone; one of them may be the cause.
        every = [(task, ended), *self._await(others, GRACE_S)]
        task, ended = max(every, key=lambda one: _gravity(*one))
        if last or judge(task, ended) is Verdict.FAILED:
            raise self._failure(task, ended)
        self.stop([other for other in others if other in self._children])
        _log.warning(
            "%s ended: %s Starting %s again.",
            str(task).capitalize(),
            ended.failure.message if ended.failure else "",
            "it" if affected == [task] else "all that train",
        )

    def _start(self, tasks: Sequence[Task]) -> None:
        if len(tasks) > 1 or not self._addresses:
            # New ports: what may be left of the processes before cannot join.
            self._addresses = _addresses(self._layout, self._ports)
        for task in tasks:
            environment = json.dumps(
                {
                    "cluster": self._addresses,
                    "task": {"type": task.role, "index": task.index},
                }
            )
            self._children[task] = self._child(task, environment)

    def _child(self, task: Task, tf_config: str) -> Child:
        def body(_parent: object) -> None:
            os.environ["TF_CONFIG"] = tf_config
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            self._body()

        name = f"{task.role}-{task.index}"
        if task.role == "chief":
            sys.stdout.flush()
            return Child(str(task), body, output=_own_output(), session=True)
        with (self._folder / f"{name}.log").open("ab") as log:
            return Child(str(task), body, output=log.fileno(), session=True)

    def _heard(self, timeout_s: float | None) -> list[tuple[Task, Ended]]:
        """Waits for processes that end."""
        waiting = {child.fileno(): (task, child) for task, child in self._children.items()}
        ready = connection.wait([*waiting], timeout_s)
        found = []
        for task, child in [waiting[number] for number in waiting if number in ready]:
            found.append((task, child.wait()))
            del self._children[task]
        return found

    def _await(self, tasks: Sequence[Task], timeout_s: float) -> list[tuple[Task, Ended]]:
        """Waits for the end of some processes; returns those that have ended."""
        until, found = time.monotonic() + timeout_s, []
        while any(task in self._children for task in tasks):
            left = until - time.monotonic()
            if left <= 0:
                break
            found += self._heard(left)
        return found

    def stop(self, tasks: Sequence[Task]) -> None:
        """Asks processes to end, and ends those that do not."""
        try:
            for task in tasks:
                self._children[task].ask_to_end()
            self._await(tasks, GRACE_S)
        finally:
            for task in tasks:
                if task in self._children:
                    self._children.pop(task).kill()

    def _failure(self, task: Task, ended: Ended) -> EstimatorLibError:
        failure = ended.failure or TrainingError(f"The {task} ended too early.")
        name = str(task).capitalize()
        if ended.code is None and not failure.message.startswith(name):
            failure.message = f"{name}: {failure.message}"
        failure.retryable = failure.retryable or (ended.code or 0) < 0
        log = self._folder / f"{task.role}-{task.index}.log"
        if log.is_file():
            failure.message += f" Its log is {log}."
        failure.args = (failure.message,)
        return failure


def _own_output() -> int:
    try:
        return sys.stdout.fileno()
    except (OSError, ValueError):  # a test or a notebook has put another object there
        return 1


def _addresses(layout: Layout, ports: contextlib.ExitStack) -> dict[str, list[str]]:
    """Returns addresses by role, whose ports stay reserved until `ports` is closed."""
    found: dict[str, list[str]] = {}
    for task in layout.tasks():
        # Bound and never listened to: nobody else gets the port, but a server may have it.
        held = ports.enter_context(socket.socket())
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        found.setdefault(task.role, []).append(f"127.0.0.1:{held.getsockname()[1]}")
    return found


@contextlib.contextmanager
def _ended_by_sigterm() -> Iterator[None]:
    """Makes SIGTERM an error, unless somebody has made it one already."""
    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return

    def leave(*_: object) -> None:
        error = TrainingError(
            "The local cluster was asked to end by SIGTERM. Run it again to go on.",
            reason=Reason.INTERRUPTED,
        )
        error.retryable = True
        raise error

    signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
