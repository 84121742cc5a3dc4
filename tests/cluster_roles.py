"""The tasks of a cluster as real processes on loopback, each with its own TF_CONFIG.

They are forked from one process that has imported TensorFlow and computed nothing, which takes a
tenth of the time of starting each anew.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import logging
import multiprocessing
import os
import pathlib
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from multiprocessing.context import ForkServerProcess
from typing import Any

Role = tuple[str, int]
Program = Callable[..., Any]

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.cluster_programs"])


def free_ports(count: int) -> list[int]:
    """Returns ports that nobody listens on."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


@dataclasses.dataclass
class Cluster:
    """Tasks that run one program.

    Attributes:
        logs: Where each task's output goes.
        tasks: How many of each type; the evaluator is outside of the cluster.
        program: A function of `tests.cluster_programs`.
        arguments: Its arguments.
    """

    logs: pathlib.Path
    tasks: Mapping[str, int]
    program: Program
    arguments: Mapping[str, Any]

    def __post_init__(self) -> None:
        self.logs.mkdir(parents=True, exist_ok=True)
        inside = {kind: count for kind, count in self.tasks.items() if kind != "evaluator"}
        ports = iter(free_ports(sum(inside.values())))
        self.addresses = {
            kind: [f"127.0.0.1:{next(ports)}" for _ in range(count)]
            for kind, count in inside.items()
        }
        self.processes: dict[Role, ForkServerProcess] = {}

    def start(self, *roles: Role) -> None:
        """Starts tasks: those given, or all."""
        every = [(kind, n) for kind, count in self.tasks.items() for n in range(count)]
        for kind, index in roles or every:
            task = {"cluster": self.addresses, "task": {"type": kind, "index": index}}
            process = _FORKS.Process(
                target=_play,
                args=(str(self.log(kind, index)), task, self.program, dict(self.arguments)),
                daemon=True,
            )
            process.start()
            self.processes[kind, index] = process

    def log(self, kind: str, index: int = 0) -> pathlib.Path:
        """Returns the file with a task's output."""
        return self.logs / f"{kind}{index}.log"

    def said(self, kind: str, index: int, text: str, timeout_s: float = 90) -> None:
        """Waits until a task's output has `text`."""
        deadline = time.monotonic() + timeout_s
        while text not in _read(self.log(kind, index)):
            process = self.processes[kind, index]
            assert process.is_alive() or text in _read(self.log(kind, index)), self.told()
            assert time.monotonic() < deadline, self.told()
            time.sleep(0.05)

    def kill(self, kind: str, index: int = 0) -> None:
        """Ends a task as a lost machine does."""
        self.processes[kind, index].kill()
        self.processes[kind, index].join()

    def ends(self, *roles: Role, timeout_s: float = 90) -> dict[Role, int | None]:
        """Waits until tasks (all by default) have ended; returns their exit codes."""
        deadline = time.monotonic() + timeout_s
        for role in roles or self.processes:
            self.processes[role].join(max(0.0, deadline - time.monotonic()))
        found = {role: self.processes[role].exitcode for role in roles or self.processes}
        assert None not in found.values(), self.told()
        return found

    def told(self) -> str:
        """Returns the ends of all outputs."""
        return "\n".join(
            f"--- {path.name}\n{_read(path)[-3000:]}" for path in sorted(self.logs.iterdir())
        )

    def stop(self) -> None:
        """Ends what is left."""
        for process in self.processes.values():
            process.kill()


@contextlib.contextmanager
def cluster(
    logs: pathlib.Path, tasks: Mapping[str, int], program: Program, **arguments: Any
) -> Iterator[Cluster]:
    """Starts a cluster, and leaves none of its tasks behind."""
    made = Cluster(logs, tasks, program, arguments)
    try:
        made.start()
        yield made
    finally:
        made.stop()


def _read(path: pathlib.Path) -> str:
    return path.read_text(errors="replace") if path.exists() else ""


def _play(
    log: str, task: Mapping[str, Any], program: Program, arguments: Mapping[str, Any]
) -> None:
    with open(log, "a") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    os.environ["TF_CONFIG"] = json.dumps(task)
    logging.basicConfig(level=logging.INFO, force=True)
    from estimator_lib.core.errors import EstimatorLibError

    try:
        result = program(**arguments)
    except EstimatorLibError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        sys.exit(75 if error.retryable else 2)
    print(f"RESULT {result}", flush=True)
