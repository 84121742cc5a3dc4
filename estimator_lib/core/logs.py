"""Log lines as JSON objects, one on a line, for collectors that read standard output.

Layer 0. `ESTIMATOR_PIPELINES_LOG=json` asks for them; without it lines are texts for people. Each
has `time` (UTC), `level` and `message`, and `run`, `step` and `attempt` where they are known.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import logging
import os
import re
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import TextIO

from estimator_lib.core.errors import ConfigError, Reason, quote

FORMAT = "ESTIMATOR_PIPELINES_LOG"
"""Environment variable: "json", or "text", which is the default."""
RUN = "ESTIMATOR_PIPELINES_RUN"
"""Environment variable with a run's name, of the runner; on a cluster pods are named after it."""
ERROR_MARK = "error: "
"""Begins a line that says why a step failed."""
_POD = "KFP_POD_NAME"
_POD_ENDING = re.compile(r"-system-container-\w+-\d+$")
_SECRET = re.compile(
    r"TOKEN|SECRET|PASSWORD|PASSWD|WEBHOOK|CREDENTIAL|API_?KEY|ACCESS_KEY|ACCOUNT_KEY"
)
_NO_SECRET = re.compile(r"_(FILE|PATH|ID|DIR)$|^GOOGLE_APPLICATION_CREDENTIALS$|_OVER_HTTP$")
_SHORTEST_SECRET = 6


def wants_json() -> bool:
    """Whether log lines are to be JSON.

    Raises:
        ConfigError: the variable says something else.
    """
    asked = os.environ.get(FORMAT, "text")
    if asked not in ("json", "text"):
        raise ConfigError(
            f"Environment variable {FORMAT} must be json or text, got {quote(asked)}.",
            reason=Reason.INVALID_VALUE,
        )
    return asked == "json"


def record(message: str, known: Mapping[str, str | int], level: str = "info") -> str:
    """Returns a line's JSON, without what looks like the value of a secret.

    Args:
        message: What is said; one that begins with `ERROR_MARK` is of level "error".
        known: Further fields.
        level: "info", "warning" or "error".
    """
    if message.startswith(ERROR_MARK):
        message, level = message.removeprefix(ERROR_MARK), "error"
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    fields = {"time": now, "level": level, **known, "message": _without_secrets(message)}
    return json.dumps(fields, ensure_ascii=False)


def text(line: str) -> str:
    """Returns what a line says, with its mark, whether it is JSON or not."""
    if line.startswith("{"):
        with contextlib.suppress(ValueError, KeyError, TypeError):
            found = json.loads(line)
            mark = ERROR_MARK if found["level"] == "error" else ""
            return f"{mark}{found['message']}"
    return line


def _without_secrets(message: str) -> str:
    """Hides the values of environment variables that are named like secrets."""
    for name, value in os.environ.items():
        named = _SECRET.search(name.upper()) and not _NO_SECRET.search(name.upper())
        if named and len(value) >= _SHORTEST_SECRET:
            message = message.replace(value, "***")
    return message


class Lines:
    """Turns lines for people into records; a line that is a record already stays as it is.

    Args:
        write: Called with each line of JSON.
        known: Fields that all records have.
    """

    def __init__(self, write: Callable[[str], object], known: Mapping[str, str | int]) -> None:
        self.known = dict(known)
        self._write = write

    def __call__(self, line: str) -> None:
        """Writes one line, unless it is empty; one after an empty line heads those of a step."""
        said = line.strip()
        if line.startswith("\n"):
            self.known["step"] = said.partition("\n")[0]
        if said:
            self._write(said if said.startswith("{") else record(said, self.known))


class _Stream:
    """What stands for standard output: whole lines become records."""

    def __init__(self, lines: Lines) -> None:
        self._lines = lines
        self._open = ""
        self._lock = threading.Lock()

    def write(self, written: str) -> int:
        with self._lock:
            *whole, self._open = (self._open + written).split("\n")
            for line in whole:
                self._lines(line)
        return len(written)

    def writelines(self, several: list[str]) -> None:
        self.write("".join(several))

    def flush(self) -> None:
        """Nothing waits but a line that has not ended."""

    def close(self) -> None:
        with self._lock:
            self._lines(self._open)
            self._open = ""

    def __getattr__(self, name: str) -> object:
        return getattr(sys.__stdout__, name)


class _Handler(logging.Handler):
    """Makes a record of what libraries log."""

    def __init__(self, write: Callable[[str], object], known: Mapping[str, str | int]) -> None:
        super().__init__()
        self._send, self._known = write, known

    def emit(self, given: logging.LogRecord) -> None:
        level = "error" if given.levelno >= logging.ERROR else given.levelname.lower()
        self._send(record(given.getMessage(), {**self._known, "logger": given.name}, level))


@contextlib.contextmanager
def of_run(run: str, write: Callable[[str], None]) -> Iterator[Callable[[str], None]]:
    """Names a run for the steps that are begun in the block; yields what shows its lines.

    Args:
        run: The run's name.
        write: Shows one line.
    """
    before = os.environ.get(RUN)
    os.environ[RUN] = run
    try:
        yield Lines(write, {"run": run}) if wants_json() else write
    finally:
        if before is None:
            del os.environ[RUN]
        else:
            os.environ[RUN] = before


@contextlib.contextmanager
def of_step(step: str) -> Iterator[Lines | None]:
    """Has what a step says be records during the block, if JSON is asked for.

    Args:
        step: Its name.

    Yields:
        What writes them; its `known["attempt"]` may be counted up. None without JSON.
    """
    if not wants_json():
        yield None
        return
    out: TextIO = sys.stdout

    def write(line: str) -> None:
        out.write(f"{line}\n")
        out.flush()

    pod = os.environ.get(_POD, "")
    run = os.environ.get(RUN) or _POD_ENDING.sub("", pod)
    known = {"run": run, "step": step, "pod": pod}
    lines = Lines(write, {name: value for name, value in known.items() if value} | {"attempt": 1})
    stream, handler = _Stream(lines), _Handler(write, lines.known)
    logging.getLogger().addHandler(handler)
    try:
        with contextlib.redirect_stdout(stream):
            yield lines
    finally:
        logging.getLogger().removeHandler(handler)
        stream.close()
