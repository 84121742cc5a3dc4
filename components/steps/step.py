"""What all steps share: errors become one message and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import Any

from components.steps.quiet import startup_lines_hidden
from estimator_lib.core import environment, logs, places, processes, storage
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason

ERROR_MARK = logs.ERROR_MARK
"""Begins the lines on standard output that say why a step failed."""
VERDICT_MARK = "verdict: "
"""Begins the line on standard output that says what an evaluation decided, and why."""
FAILURE = "RUN_FAILURE"
"""Environment variable that tells the exit handler why the run failed, where the runner knows."""
PAUSE_S = 10.0
"""Seconds before the second attempt; three times as long before each next one."""
_FACTOR = 3.0


def run(name: str, inputs: Mapping[str, Any]) -> Any:
    """Runs a step with what its component was given, as `step` says.

    It is run again after an error that may pass, as often as the environment says (STEP_RETRIES):
    nobody else does it where Argo retries lost pods only. A step that was asked to end does not
    go on; a new pod does. In train a later attempt goes on from the last checkpoint.

    Args:
        name: Of the step's module here, whose `run` takes the inputs.
        inputs: Parameters and artifacts by name; what is no place that the step can use is refused.
    """
    with startup_lines_hidden():
        body = importlib.import_module(f"components.steps.{name}").run
    with logs.of_step(name) as lines, step():
        for given, value in inputs.items():
            places.require(given, value)
        _require_code()
        retries = int(os.environ.get(environment.RETRIES, "0"))
        for attempt in range(retries):
            try:
                with storage.errors_of_libraries():
                    return body(**inputs)
            except EstimatorLibError as error:
                if not error.retryable or error.reason is Reason.INTERRUPTED:
                    raise
                pause = PAUSE_S * _FACTOR**attempt
                sys.stdout.write(
                    f"{error.message} Trying again in {pause:g} s ({attempt + 1} of {retries}).\n"
                )
                sys.stdout.flush()
            time.sleep(pause)
            if lines is not None:
                lines.known["attempt"] = attempt + 2
        return body(**inputs)


@contextlib.contextmanager
def step() -> Iterator[None]:
    """Runs a step's body; a known error is printed and ends the process with its exit code.

    2 is final (the same input fails again), 75 asks for a retry, 130 was interrupted. Anything
    unknown stays an exception with its stack trace: that is a fault of this project.
    """
    logging.getLogger().setLevel(logging.WARNING)
    try:
        with processes.ending_on_sigterm("step"), storage.errors_of_libraries():
            _use_scratch()
            yield
    except EstimatorLibError as error:
        sys.stdout.writelines(f"{ERROR_MARK}{line}\n" for line in error.message.split("\n"))
        sys.stdout.flush()
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt as error:
        raise SystemExit(130) from error


def _require_code() -> None:
    """Refuses an image that lacks a module of the user's own.

    Raises:
        ConfigError: naming it.
    """
    for module in filter(None, os.environ.get(environment.CODE, "").split(",")):
        try:
            found = importlib.util.find_spec(module)
        except ImportError:  # what it is in is no package, or is not there
            found = None
        if found is None:
            raise ConfigError(
                f"Module {module} of cluster.code is not in the image of this step. Copy it into "
                "an image that is made FROM this one, and name that as cluster.image.",
                reason=Reason.FILE_NOT_FOUND,
            )


def _use_scratch() -> None:
    """Puts temporary files on the volume made for them.

    Raises:
        ConfigError: the step may not write there.
    """
    scratch = os.environ.get(environment.SCRATCH)
    if scratch is None:
        return
    if not os.access(scratch, os.W_OK | os.X_OK):
        raise ConfigError(
            f"The scratch volume {scratch} cannot be written to by user {os.getuid()}, group "
            f"{os.getgid()}: a volume of a storage class belongs to root. Have a policy of the "
            "namespace set fsGroup, or remove disk.storage_class, which uses the node's disk.",
            reason=Reason.PERMISSION,
        )
    os.environ["TMPDIR"] = scratch
    tempfile.tempdir = None  # looked up anew
