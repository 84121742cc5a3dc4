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
import ctypes
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
from typing import Any

GRACE_S = 20.0
"""How long a step may take to leave after its client went away, in seconds."""
_REQUEST_LIMIT = 16 * 1024 * 1024
_PR_SET_PDEATHSIG = 1


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
            if os.fork() == 0:
                listener.close()
                _monitor(connection)
            connection.close()


def _monitor(connection: socket.socket) -> None:
    """Runs one step in a child of this process and reports how it ended; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size = int.from_bytes(_receive(connection, 8), "big")
    if size > _REQUEST_LIMIT:
        os._exit(1)
    _, descriptors, _, _ = socket.recv_fds(connection, 1, 2)
    request = json.loads(_receive(connection, size))
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        connection.close()
        _run(request, descriptors, parent)
    for descriptor in descriptors:
        os.close(descriptor)
    handle = os.pidfd_open(child)
    ready, _, _ = select.select([handle, connection.fileno()], [], [])
    if handle not in ready:  # the client is gone
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGINT)
        if not select.select([handle], [], [], GRACE_S)[0]:
            os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    with contextlib.suppress(OSError):
        connection.sendall(json.dumps({"code": os.waitstatus_to_exitcode(status)}).encode())
    os._exit(0)


def _run(request: dict[str, Any], descriptors: list[int], parent: int) -> None:
    """Becomes the step: executes the component's source as KFP's own executor would."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    # Away from the terminal's group: Ctrl-C reaches the client, which has the step stopped once.
    os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    null = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((null, 0), (descriptors[0], 1), (descriptors[1], 2)):
        os.dup2(source, target)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - lives as long as the process
    os.environ.update(request["environment"])
    code = 1
    try:
        from kfp.dsl import executor, utils

        from components.steps.step import step
        from estimator_lib.core import storage

        # KFP writes too, what the step returned.
        with step(), storage.temporary_directory() as folder:
            name = "ephemeral_component"
            with open(os.path.join(folder, f"{name}.py"), "w", encoding="utf-8") as file:
                file.write(request["source"])
            module = utils.load_module(module_name=name, module_directory=folder)
            function = getattr(module, request["function"])
            executor.Executor(
                executor_input=json.loads(request["executor_input"]),
                function_to_execute=function,
            ).execute()
        code = 0
    except SystemExit as leave:
        code = leave.code if isinstance(leave.code, int) else int(leave.code is not None)
    except KeyboardInterrupt:
        code = 130
    except BaseException:  # noqa: BLE001 - the boundary of the process: report and leave
        sys.excepthook(*sys.exc_info())
    finally:
        with contextlib.suppress(OSError, ValueError):
            sys.stdout.flush()
            sys.stderr.flush()
        # Thread pools of TensorFlow and Beam would hold up a normal exit.
        os._exit(code)


def _receive(connection: socket.socket, size: int) -> bytes:
    parts = bytearray()
    while len(parts) < size:
        part = connection.recv(size - len(parts))
        if not part:
            os._exit(1)
        parts += part
    return bytes(parts)
