"""Follows a run to its end: tells what changes, waits for a server that is away for a while."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable

from estimator_lib.core.errors import PipelineError
from pipelines.cluster import runs
from pipelines.cluster.client import Connection, Run

EVERY_S = 10.0
"""Seconds between two looks."""
PATIENCE = 30
"""How often in a row the server may fail to answer: five minutes."""
RETRY = 75
_ENDED = frozenset(("SUCCEEDED", "FAILED", "CANCELED", "SKIPPED"))
_ASKS_FOR_RETRY = re.compile(rf"exit code:? {RETRY}\b", re.IGNORECASE)


def follow(server: Connection, run_id: str, show: Callable[[str], None]) -> Run:
    """Returns a run when it has ended.

    Args:
        server: Where it runs.
        run_id: Its id.
        show: Called with a line whenever a step, or the run, changes its state.

    Raises:
        PipelineError: the server stays away (`retryable`), or does not know the run.
    """
    told: dict[str, str] = {}
    away = 0
    while True:
        try:
            run = server.run(run_id)
            away = 0
        except PipelineError as error:
            away += 1
            if not error.retryable or away > PATIENCE:
                raise
            time.sleep(EVERY_S)
            continue
        for line in _news(run, told):
            show(line)
        if run.state in _ENDED:
            return run
        time.sleep(EVERY_S)


def exit_code(run: Run) -> int:
    """Returns 0 for a run that succeeded, 75 for one whose step asked for a retry, else 2."""
    if run.state == "SUCCEEDED":
        return 0
    bad = runs.failed(run)
    said = f"{bad.error if bad else ''} {run.error}"
    return RETRY if _ASKS_FOR_RETRY.search(said) else 2


def _news(run: Run, told: dict[str, str]) -> list[str]:
    """Returns a line for each state that is not in `told` yet, and puts it there."""
    now = datetime.datetime.now(datetime.UTC)
    lines = []
    states = [(task.name, task.state, task.started, task.ended) for task in runs.steps(run)]
    for name, state, started, ended in [*states, (run.name, run.state, run.created, run.finished)]:
        if told.get(name) != state:
            told[name] = state
            took = (
                f" after {runs.duration((ended - started).total_seconds())}"
                if (started and ended and ended <= now and state in _ENDED)
                else ""
            )
            lines.append(f"{name}: {state.lower()}{took}")
    return lines
