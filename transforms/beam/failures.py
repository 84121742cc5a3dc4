"""What an engine says when a job fails: the cause in its text, and whether it may pass."""

from __future__ import annotations

import re
from collections.abc import Iterator

import grpc

_WHILE = re.compile(r" \[while running '[^']*'\]")
_FRAME = re.compile(r"^\s+at [\w$.<>/]+\(", re.MULTILINE)
_CAUSED = re.compile(r"^\s*Caused by: (.+)$", re.MULTILINE)
_PACKAGE = re.compile(r"^(?:[a-z][\w$]*\.)+(?=[A-Z])")
_TRACEBACK = "Traceback (most recent call last):"

_PASSING = re.compile(
    r"TaskManager .*(no longer reachable|timed out)|Heartbeat of TaskManager|"
    r"NoResourceAvailableException|Could not acquire the minimum required resources|"
    r"RemoteTransportException|Connection (unexpectedly closed|refused|reset)|"
    r"ExecutorLostFailure|Lost executor|All masters are unresponsive|"
    r"lost contact with the service|ZONE_RESOURCE_POOL_EXHAUSTED|"
    r"failed to connect to all addresses|StatusCode\.UNAVAILABLE|code = Unavailable|"
    r"worker .*(disconnected|terminated|died)|Timed out trying to connect",
    re.IGNORECASE,
)
_PASSING_CODES = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
_PASSING_NAMES = (
    "KilledWorker",
    "CommClosedError",
    "FutureCancelledError",
    "FuturesCancelledError",
    "SchedulerClosedError",
)
"""Errors of Dask's, which need not be installed."""


def cause(error: BaseException) -> str:
    """Returns the line of an error's text that says why, without a full stop.

    Of a Python stack trace that is its last line, of a Java one the last "Caused by"; a Python one
    within a Java one is what a worker raised.
    """
    text = _WHILE.sub("", str(error)).strip()
    lines = text.splitlines() or ["no message"]
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return f"{error.code().name}: {error.details()}".rstrip(".")
    if len(lines) == 1:
        told = _PACKAGE.sub("", lines[0])
        return f"{type(error).__name__}: {told}".rstrip(".") if told == lines[0] else told
    if not _FRAME.search(text):
        return lines[-1].rstrip(".")
    if _TRACEBACK in text:
        after = text.rpartition(_TRACEBACK)[2].splitlines()
        raised = next((line for line in after if line and not line[0].isspace()), None)
        if raised is not None:
            return raised.rstrip(".")
    found = _CAUSED.findall(text)
    return _PACKAGE.sub("", found[-1] if found else lines[0]).strip().rstrip(".")


def passes(error: BaseException) -> bool:
    """Whether the same job may succeed later: a worker was lost, or an engine was not there."""
    return any(_passes(one) for one in chain(error))


def _passes(error: BaseException) -> bool:
    if isinstance(error, grpc.RpcError) and isinstance(error, grpc.Call):
        return error.code() in _PASSING_CODES
    if isinstance(error, ConnectionError | TimeoutError | grpc.FutureTimeoutError):
        return True
    return type(error).__name__ in _PASSING_NAMES or bool(_PASSING.search(str(error)))


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and what led to it: Beam raises one for each that it met."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        yield error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
