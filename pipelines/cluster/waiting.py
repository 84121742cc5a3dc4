"""Follows a run to its end: tells what changes, waits for a server that is away for a while."""

from __future__ import annotations

import time
from collections.abc import Callable

from estimator_lib.core.errors import PipelineError
from pipelines.cluster import inspection, terminal
from pipelines.cluster.client import Connection
from pipelines.cluster.inspection import Inspection

EVERY_S = 10.0
"""Seconds between two looks."""
PATIENCE = 30
"""How often in a row the server may fail to answer: five minutes."""
RETRY = 75
"""Exit code with which a step asks to be tried again."""
REFUSED = 3
"""Exit code of a run that went well and whose model did not meet its bounds."""
SUCCEEDED = "SUCCEEDED"
_ENDED = frozenset((SUCCEEDED, "FAILED", "CANCELED", "SKIPPED"))


def follow(server: Connection, run_id: str, show: Callable[[str], None]) -> Inspection:
    """Returns what is known about a run when it has ended.

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
            found = inspection.inspect(server, server.run(run_id))
            away = 0
        except PipelineError as error:
            away += 1
            if not error.retryable or away > PATIENCE:
                raise
            time.sleep(EVERY_S)
            continue
        for line in _changes(found, told):
            show(line)
        if found.run.state in _ENDED:
            return found
        time.sleep(EVERY_S)


def exit_code(found: Inspection) -> int:
    """Returns how a command ends that has waited for a run.

    0 if it succeeded, 3 if it succeeded and refused its model, 75 if its step asked for a retry,
    else 2. Only the log of the step that judged the model says that it was refused: where that log
    is gone, or the step was taken from the cache, a refused model ends with 0 like one that could
    not be judged.
    """
    if found.run.state == SUCCEEDED:
        return REFUSED if found.conclusion.refused else 0
    return RETRY if found.conclusion.exit_code == RETRY else 2


def _changes(found: Inspection, told: dict[str, str]) -> list[str]:
    """Returns a line for each state that is not in `told` yet, and puts it there."""
    run, lines = found.run, []
    steps = found.workflow.steps if found.workflow else ()
    states = [(one.name, str(one.state), one.started, one.ended) for one in steps]
    for name, state, started, ended in [
        *states,
        (f"run {run.name}", terminal.state(run), run.created, run.finished),
    ]:
        if told.get(name) != state:
            told[name] = state
            took = terminal.duration((ended - started).total_seconds()) if started and ended else ""
            lines.append(f"{name}: {state}{f' after {took}' if took else ''}")
    return lines
