"""A process that imports TensorFlow and Beam once and forks one process per pipeline step.

A KFP step is a program of its own; started from nothing, each would spend about ten seconds on
imports. This server pays them once per run, while the pipeline is being compiled, and each step
is forked from it: isolated as before (own memory, own TensorFlow runtime, own exit code), but
warm. `warm_steps` starts it; it ends when its standard input is closed.

One connection is one step. The client sends a JSON request with two file descriptors (standard
output, standard error) and receives one JSON reply when the step's process has ended. When the
client goes away, the step is stopped.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import json
import os
import pathlib
import select
import signal
import socket
import sys
from collections.abc import Mapping
from typing import Any

from estimator_lib.core import processes, storage

GRACE_S = 20.0
"""How long a step may take to leave after its client went away, in seconds."""
_REQUEST_LIMIT = 16 * 1024 * 1024


def main(request: str) -> None:
    """Imports what was asked for, then serves until standard input is closed.

    Args:
        request: JSON with the socket's `address`, the `modules` to import, and the `path` that
            modules are found in which are not installed; it never comes before those that are.
    """
    asked = json.loads(request)
    path, modules = asked["address"], asked["modules"]
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the steps get it and decide
    for module in modules:
        importlib.import_module(module)
    sys.path.extend(asked["path"])
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(path)
    listener.listen()
    gc.collect()
    gc.freeze()  # keeps the imported pages shared with the forked steps
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the monitors
    stdin = sys.stdin.fileno()
    while True:
        ready, _, _ = select.select([listener.fileno(), stdin], [], [])
        if stdin in ready and not os.read(stdin, 1):
            return
        if listener.fileno() in ready:
            connection, _ = listener.accept()
            processes.fork(functools.partial(_monitor, listener, connection), outlive=True)
            connection.close()


def _monitor(listener: socket.socket, connection: socket.socket) -> None:
    """Runs one step in a child of this process and reports how it ended."""
    listener.close()
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size = int.from_bytes(_receive(connection, 8), "big")
    if size > _REQUEST_LIMIT:
        raise SystemExit(1)
    _, (output, errors), _, _ = socket.recv_fds(connection, 1, 2)
    request = json.loads(_receive(connection, size))

    def step() -> None:
        connection.close()
        _run(request)

    # Away from the terminal's group: Ctrl-C reaches the client, which has the step stopped once.
    child = processes.fork(step, session=True, streams={1: output, 2: errors})
    os.close(output)
    os.close(errors)
    code = processes.wait_or_stop(child, connection.fileno(), grace_s=GRACE_S)
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps({"code": code}).encode())


def _run(request: Mapping[str, Any]) -> None:
    """Executes a component's source as KFP's own executor would."""
    from kfp.dsl import executor, utils

    from components.steps.step import step

    os.environ.update(request["environment"])
    # KFP writes too, what the step returned.
    with step(), storage.temporary_directory() as folder:
        name = "ephemeral_component"
        path = pathlib.Path(folder) / f"{name}.py"
        path.write_text(request["source"], encoding="utf-8")
        module = utils.load_module(module_name=name, module_directory=folder)
        executor.Executor(
            executor_input=json.loads(request["executor_input"]),
            function_to_execute=getattr(module, request["function"]),
        ).execute()


def _receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            raise SystemExit(1)
        parts += part
    return bytes(parts)
