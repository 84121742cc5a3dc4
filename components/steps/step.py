"""What all steps share: errors become one message and an exit code."""

from __future__ import annotations

import contextlib
import importlib
import logging
import sys
from collections.abc import Iterator, Mapping
from typing import Any

from components.quiet import startup_lines_hidden
from estimator_lib.core.errors import EstimatorLibError

ERROR_MARK = "error: "
"""Begins the lines on standard output that say why a step failed."""
FAILURE = "RUN_FAILURE"
"""Environment variable that tells the exit handler why the run failed, where the runner knows."""


def run(name: str, inputs: Mapping[str, Any]) -> Any:
    """Runs a step with what its component was given, as `step` says.

    Args:
        name: Of its module here, whose `run` takes the inputs.
        inputs: By name.
    """
    with startup_lines_hidden():
        module = importlib.import_module(f"components.steps.{name}")
    with step():
        return module.run(**inputs)


@contextlib.contextmanager
def step() -> Iterator[None]:
    """Runs a step's body; a known error is printed and ends the process with its exit code.

    2 is final (the same input fails again), 75 asks for a retry, 130 was interrupted. Anything
    unknown stays an exception with its stack trace: that is a fault of this project.
    """
    logging.getLogger().setLevel(logging.WARNING)
    try:
        yield
    except EstimatorLibError as error:
        sys.stdout.writelines(f"{ERROR_MARK}{line}\n" for line in error.message.split("\n"))
        sys.stdout.flush()
        raise SystemExit(error.exit_code) from error
    except KeyboardInterrupt as error:
        raise SystemExit(130) from error
