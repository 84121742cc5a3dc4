"""Runs and schedules of a cluster as lines for a terminal."""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Sequence

from components.steps.workflow import Outcome, State, Step
from pipelines.cluster import inspection
from pipelines.cluster.client import Run
from pipelines.cluster.inspection import Inspection
from pipelines.cluster.schedules import Existing


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
        (run.name, state(run), _when(run.created), _took(run.created, run.finished, now),
         "schedule" if run.schedule else "", run.id)
        for run in runs
    ]  # fmt: skip
    return table(("NAME", "STATE", "STARTED (UTC)", "TOOK", "BY", "ID"), rows)


def show(found: Inspection, now: datetime.datetime) -> str:
    """Returns everything about one run, and what to type next.

    Args:
        found: What is known about it.
        now: The time, in UTC.
    """
    run = found.run
    lines = [
        f"run       {run.name}",
        f"id        {run.id}",
        f"state     {state(run)}",
        f"started   {_when(run.created)} UTC",
        f"took      {_took(run.created, run.finished, now)}",
    ]
    if found.workflow is not None and found.workflow.steps:
        rows = [
            (step.name, step.state, str(len(step.attempts) or ""), _step_time(step, now))
            for step in found.workflow.steps
        ]
        lines += ["", table(("STEP", "STATE", "ATTEMPTS", "TOOK"), rows)]
    said = [
        text
        for text in (sentence(found), _further_messages(found), found.missing, _advice(found))
        if text
    ]
    return "\n".join([*lines, *([""] if said else []), *said])


def state(run: Run) -> str:
    """Returns a run's state as people say it."""
    said = {"CANCELED": "terminated", "CANCELING": "being terminated"}
    return said.get(run.state, run.state.lower())


def sentence(found: Inspection) -> str:
    """Returns how a run ended, and why; "" where its state says it all."""
    if found.conclusion.outcome not in (Outcome.SUCCEEDED, Outcome.UNFINISHED):
        return found.conclusion.sentence
    told = found.run.error or found.conclusion.reason
    return f"run {found.run.name} {state(found.run)}: {told}" if told else ""


def _further_messages(found: Inspection) -> str:
    """What Kubeflow says about further steps that failed, or have not ended."""
    steps = found.workflow.steps if found.workflow else ()
    open_ = (State.FAILED, State.PENDING, State.RUNNING)
    told = [s for s in steps if s.state in open_ and s.message and s != found.conclusion.step]
    return "\n".join(f"{step.name}, {step.state}: {step.message}" for step in told)


def _advice(found: Inspection) -> str:
    """The one command that tells more."""
    workflow, step = found.workflow, found.conclusion.step
    if workflow is None:
        return ""
    if step is None:
        step = next((s for s in workflow.steps if s.state is State.RUNNING), None)
    if found.conclusion.outcome is Outcome.REFUSED:
        judges = [s for s in workflow.steps if s.attempts and not s.handler]
        step = judges[-1] if judges else None
    if step is None or not step.attempts or found.conclusion.outcome is Outcome.TERMINATED:
        return ""
    if found.missing or step.state is State.RUNNING:
        return f"next      {inspection.kubectl(workflow, step)}"
    return f"next      estimator-pipelines runs logs {found.run.id} {step.name}"


def _step_time(step: Step, now: datetime.datetime) -> str:
    return _took(step.started, step.ended, now) if step.attempts else ""


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
    zones = [
        f"{one.name}: the server reads cron in UTC{_signed(one.zone)}, as its last run shows"
        for one in found
        if one.zone
    ]
    return "\n".join([table(header, rows), *zones])


def _signed(offset: datetime.timedelta) -> str:
    minutes = round(offset.total_seconds() / 60)
    return f"{'-' if minutes < 0 else '+'}{abs(minutes) // 60:02d}:{abs(minutes) % 60:02d}"


def _when(time: datetime.datetime | None) -> str:
    return f"{time.astimezone(datetime.UTC):%Y-%m-%d %H:%M}" if time else "-"


def _took(
    start: datetime.datetime | None, end: datetime.datetime | None, now: datetime.datetime
) -> str:
    return duration(((end or now) - start).total_seconds()) if start else "-"
