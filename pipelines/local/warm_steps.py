"""The client of the step server: starts it, sends it steps, shows what they print."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Self

from estimator_lib.core import processes
from estimator_lib.core.errors import PipelineError

PRELOAD = (
    "kfp.dsl.executor",
    "tensorflow",
    "apache_beam",
    "transforms.preprocess",
    "estimator_lib.canned.wide_deep",
    "estimator_lib.report.model",
)
"""What steps import; named here as text, for this process imports none of it."""
_QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "GRPC_VERBOSITY": "ERROR"}
"""Start-up lines of TensorFlow and gRPC say nothing to a user; errors still come as exceptions."""
_START_TIMEOUT_S = 180.0
_CONNECT_ATTEMPTS = 100


class WarmSteps:
    """A running step server; use as a context manager.

    Args:
        log: File for what the server itself says.
        modules: What it imports before the first step.
        path: Directories that steps find modules in which are installed nowhere.
    """

    def __init__(
        self,
        log: pathlib.Path,
        *,
        modules: Sequence[str] = PRELOAD,
        path: Sequence[str] = (),
    ) -> None:
        self._log = log
        self._folder = tempfile.mkdtemp(prefix="steps-")
        self._address = os.path.join(self._folder, "socket")
        environment = {**_QUIET, **os.environ}
        request = json.dumps({"address": self._address, "modules": [*modules], "path": [*path]})
        with open(log, "ab") as sink:
            self._process = processes.interpreter(
                "pipelines.local.step_server",
                request,
                stdin=subprocess.PIPE,
                stdout=sink,
                stderr=sink,
                environment=environment,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.stdin:
            self._process.stdin.close()
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def run(
        self,
        *,
        source: str,
        function: str,
        executor_input: str,
        environment: Mapping[str, str],
        log: pathlib.Path,
        show: Callable[[str], None],
    ) -> int:
        """Runs one step and returns its exit code (negative: the signal that killed it).

        Args:
            source: The component's Python source, as KFP embeds it.
            function: The component's function.
            executor_input: KFP's JSON for it.
            environment: Variables to set.
            log: File that receives the step's standard error.
            show: Called with each line of its standard output.
        """
        self.wait(show)
        request = json.dumps(
            {
                "source": source,
                "function": function,
                "executor_input": executor_input,
                "environment": dict(environment),
            }
        ).encode()
        with self._connect() as connection, open(log, "ab") as errors:
            reader, writer = os.pipe()
            connection.sendall(len(request).to_bytes(8, "big"))
            socket.send_fds(connection, [b"\0"], [writer, errors.fileno()])
            connection.sendall(request)
            os.close(writer)
            with open(reader, encoding="utf-8", errors="replace") as lines:
                try:
                    for line in lines:
                        show(line.rstrip("\n"))
                except KeyboardInterrupt:
                    # Has the server stop the step, and stays until it has cleaned up (at most
                    # GRACE_S); a second interrupt leaves at once.
                    connection.shutdown(socket.SHUT_WR)
                    for line in lines:
                        show(line.rstrip("\n"))
                    raise
            reply = connection.recv(4096)
        if not reply:
            raise PipelineError(f"Step {function} ended without a reply. See {log}.")
        return int(json.loads(reply)["code"])

    def wait(self, show: Callable[[str], None]) -> None:
        """Returns when steps can be started, and says so if that takes a while.

        Raises:
            PipelineError: the server ended or did not start in time.
        """
        if os.path.exists(self._address):
            return
        show("starting TensorFlow and Beam, once for all steps")
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not os.path.exists(self._address):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise PipelineError(
                    f"The process that runs the steps did not start. See {self._log}.",
                )
            time.sleep(0.02)

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        for _ in range(_CONNECT_ATTEMPTS):
            with contextlib.suppress(OSError):
                connection.connect(self._address)
                return connection
            time.sleep(0.05)  # between bind and listen
        raise PipelineError(
            f"The process that runs the steps does not answer. See {self._log}.",
        )
