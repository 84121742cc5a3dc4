"""What all steps share: errors become one message and an exit code."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

from estimator_lib.core.errors import EstimatorLibError

ERROR_MARK = "error: "
"""Begins the lines on standard output that say why a step failed."""
FAILURE = "RUN_FAILURE"
"""Environment variable that tells the exit handler why the run failed, where the runner knows."""


T = TypeVar("T")


def run(body: Callable[..., T], inputs: Mapping[str, Any]) -> T:
    """Runs the body of a step with what its component was given, as `step` says."""
    with step():
        return body(**inputs)


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
