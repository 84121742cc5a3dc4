"""Runs and schedules of a cluster as lines for a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from estimator_lib.core.errors import PipelineError, Reason, did_you_mean
from pipelines.cluster.client import Run, Task
from pipelines.cluster.schedules import Existing

_INTERNAL = ("root", "executor")
_ENDED_BADLY = ("FAILED", "SYSTEM_ERROR", "CANCELED")


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Returns aligned columns under a header."""
    lines = [tuple(header), *(tuple(row) for row in rows)]
    widths = [max(len(line[index]) for line in lines) for index in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def duration(seconds: float) -> str:
    """Returns a duration as people say it, such as "3 min 05 s"."""
    whole = max(0, round(seconds))
    hours, rest = divmod(whole, 3600)
    minutes, seconds = divmod(rest, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"


def listing(runs: Sequence[Run], now: datetime.datetime) -> str:
    """Returns the table of runs."""
    if not runs:
        return "no runs"
    rows = [
        (run.name, run.state.lower(), _when(run.created), _took(run.created, run.finished, now),
         "schedule" if run.schedule else "", run.id)
        for run in runs
    ]  # fmt: skip
    return table(("NAME", "STATE", "STARTED (UTC)", "TOOK", "BY", "ID"), rows)


def steps(run: Run) -> list[Task]:
    """Returns the tasks that people declared, by start; Kubeflow's own are left out.

    Kubeflow lists a driver beside each task and an executor below it; they are shown only where
    one failed and no declared task did.
    """
    ordered = sorted(run.tasks, key=lambda t: (t.started is None, t.started or t.name, t.name))
    declared = [t for t in ordered if not _internal(t)]
    if not any(t.state in _ENDED_BADLY for t in declared):
        declared += [t for t in ordered if _internal(t) and t.state in _ENDED_BADLY]
    return declared


def failed(run: Run) -> Task | None:
    """Returns the task that made a run fail: the first failed one with none below it."""
    bad = [task for task in steps(run) if task.state in _ENDED_BADLY]
    pods = {task.pod for task in bad}
    leaves = [task for task in bad if not pods & set(task.children)]
    return next(iter(leaves or bad), None)


def pod(run: Run, task: Task) -> str:
    """Returns the pod that did a task's work: its executor's, if it has one, else its own."""
    by_pod = {one.pod: one for one in run.tasks}
    queue, seen = [task], set()
    while queue:
        one = queue.pop(0)
        if one.name == "executor":
            return one.pod
        seen.add(one.pod)
        queue += [by_pod[c] for c in one.children if c in by_pod and c not in seen]
    return task.pod


def choose(run: Run, name: str | None) -> Task:
    """Returns the task of that name; by default the failed one, else the last that started.

    Raises:
        PipelineError: there is no such task, or none has started.
    """
    found = steps(run)
    if name is None:
        task = failed(run) or next((t for t in reversed(found) if t.started), None)
        if task is None:
            raise PipelineError(
                f"Run {run.name!r} has started no step yet. Try again later.",
                reason=Reason.EMPTY_INPUT,
            )
        return task
    for task in (*found, *run.tasks):
        if task.name == name:
            return task
    raise PipelineError(
        f"Run {run.name!r} has no step {name!r}.{did_you_mean(name, {t.name for t in found})}",
        reason=Reason.UNKNOWN_NAME,
    )


def show(run: Run, now: datetime.datetime, said: str | None = None) -> str:
    """Returns everything about one run.

    Args:
        run: The run with its tasks.
        now: The time, in UTC.
        said: What the failed step itself said went wrong, from its log, if known.
    """
    lines = [
        f"run       {run.name}",
        f"id        {run.id}",
        f"state     {run.state.lower()}",
        f"started   {_when(run.created)} UTC",
        f"took      {_took(run.created, run.finished, now)}",
    ]
    found = steps(run)
    if found:
        rows = [(t.name, t.state.lower(), _took(t.started, t.ended, now)) for t in found]
        lines += ["", table(("STEP", "STATE", "TOOK"), rows)]
    bad = failed(run)
    if bad is not None:
        lines += ["", f"{bad.name} failed: {said or bad.error or run.error or 'no reason given'}"]
    elif run.error:
        lines += ["", f"error: {run.error}"]
    return "\n".join(lines)


def schedules(found: Sequence[Existing], now: datetime.datetime) -> str:
    """Returns the table of schedules."""
    if not found:
        return "no schedules"
    rows = []
    for one in found:
        start = one.next_start(now)
        trigger = one.trigger if isinstance(one.trigger, str) else f"every {one.trigger} s"
        rows.append(
            (one.name, trigger, "active" if one.enabled else "paused", _when(start),
             str(one.max_concurrency), "yes" if one.catchup else "no",
             "configuration" if one.digest else "other means")
        )  # fmt: skip
    header = ("NAME", "TRIGGER", "STATE", "NEXT (UTC)", "AT ONCE", "CATCH-UP", "MADE BY")
    return table(header, rows)


def _internal(task: Task) -> bool:
    return task.name in _INTERNAL or task.name.endswith("-driver")


def _when(time: datetime.datetime | None) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M}" if time else "-"


def _took(
    start: datetime.datetime | None, end: datetime.datetime | None, now: datetime.datetime
) -> str:
    return duration(((end or now) - start).total_seconds()) if start else "-"
