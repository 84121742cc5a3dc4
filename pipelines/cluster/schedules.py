"""Schedules on a server brought in line with the run configuration: declared, not clicked.

Kubeflow has no way to change a recurring run, so one that differs is replaced. What was applied
is known by a digest in its description; applying the same again changes nothing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import enum
import re
from collections.abc import Mapping, Sequence
from typing import Any

from estimator_lib.core import config as configuration
from estimator_lib.core import cron
from estimator_lib.core.errors import (
    ConfigError,
    EstimatorLibError,
    PipelineError,
    Reason,
    did_you_mean,
)
from pipelines.cluster import arguments, client
from pipelines.specification import Specification

_LOOKED = 100
"""Newest runs that are looked at for when schedules had them to start."""
_MARK = "applied by estimator-pipelines, digest "
_DIGEST = re.compile(re.escape(_MARK) + r"([0-9a-f]{64})")


class Change(enum.StrEnum):
    """What applying a schedule did."""

    CREATED = "created"
    REPLACED = "replaced"
    PAUSED = "paused"
    UNCHANGED = "unchanged"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Wanted:
    """A schedule as the configuration declares it.

    Attributes:
        name: Unique on the server by our doing.
        declared: The configuration's section.
        specification: The compiled pipeline.
        parameters: Of every run, checked.
        experiment: The group its runs go to.
        service_account: That runs the pods, or None.
        pipeline_root: Where artifacts go, or None.
    """

    name: str
    declared: configuration.Schedule
    specification: Specification
    parameters: Mapping[str, Any]
    experiment: str
    service_account: str | None = None
    pipeline_root: str | None = None

    @property
    def digest(self) -> str:
        """Of everything but whether it is active, which needs no replacement."""
        # What is not given is left out, as before there was a start and an end.
        bounds = {name for name in ("start", "end") if getattr(self.declared, name) is None}
        declared = self.declared.model_dump(exclude={"enabled", "parameters", "name", *bounds})
        placed = [self.experiment, self.service_account, self.pipeline_root]
        return client.fingerprint(self.specification, self.parameters, declared, placed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Existing:
    """A schedule on the server.

    Attributes:
        id: The server's.
        trigger: Cron expression, or the seconds between starts.
        digest: Of what was applied; None if made by other means.
        start: Nothing is started before.
        end: Nothing is started after.
        zone: What the server adds to UTC where it reads cron, as its last run tells.
    """

    id: str
    name: str
    enabled: bool
    trigger: str | int
    catchup: bool
    max_concurrency: int
    digest: str | None
    created: datetime.datetime | None = None
    start: datetime.datetime | None = None
    end: datetime.datetime | None = None
    zone: datetime.timedelta = datetime.timedelta()

    def next_start(self, now: datetime.datetime) -> datetime.datetime | None:
        """When it starts next; None while it is paused or where only the server knows."""
        if not self.enabled or not isinstance(self.trigger, str):
            return None
        try:
            after = max(
                [now, *([self.start - datetime.timedelta(seconds=1)] if self.start else [])]
            )
            start = next(cron.parse(self.trigger).times(after + self.zone), None)
        except ConfigError:
            return None
        if start is None:
            return None
        start -= self.zone
        return None if self.end and start > self.end else start


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What has to be done, decided before anything is.

    Attributes:
        change: In one word.
        keep: The schedule that stays, if any.
        remove: Those that go.
        enabled: Whether the one that remains is active.
    """

    change: Change
    keep: Existing | None
    remove: tuple[Existing, ...]
    enabled: bool


def declare(config: configuration.RunConfiguration, specification: Specification) -> Wanted:
    """Returns the schedule that a configuration declares.

    Raises:
        ConfigError: it declares none, or its parameters do not fit the pipeline.
    """
    if config.schedule is None:
        raise ConfigError(
            "The configuration has no schedule. Add a section such as "
            'schedule: {cron: "0 0 3 * * *"}.',
            reason=Reason.MISSING_VALUE,
        )
    return Wanted(
        name=config.schedule.name or specification.name,
        declared=config.schedule,
        specification=specification,
        parameters=arguments.check(specification, config.schedule.parameters),
        experiment=config.name,
        service_account=config.cluster.service_account,
    )


def plan(want: Wanted, existing: Sequence[Existing]) -> Plan:
    """Decides how `existing`, all of the wanted name, become the one that is wanted.

    One that was paused by hand stays paused, also when it is replaced.
    """
    same = [one for one in existing if one.digest == want.digest]
    keep = min(same, key=lambda one: (not one.enabled, one.id)) if same else None
    remove = tuple(one for one in existing if one is not keep)
    active = [keep] if keep else list(existing)
    paused = bool(active) and not any(one.enabled for one in active)
    enabled = want.declared.enabled and not paused
    if keep is None:
        change = Change.REPLACED if existing else Change.CREATED
    elif remove:
        change = Change.REPLACED
    elif keep.enabled and not enabled:
        change = Change.PAUSED
    else:
        change = Change.UNCHANGED
    return Plan(change=change, keep=keep, remove=remove, enabled=enabled)


def apply(server: client.Connection, want: Wanted) -> Plan:
    """Makes the server's schedule the wanted one and returns what was done.

    The old one is paused before the new one is made and removed after it, so that two never
    start runs side by side, and a server that refuses the new one leaves the old one as it was.
    A process killed in between leaves it paused at worst, which the next one says.
    """
    todo = plan(want, find(server, want.name))
    if todo.change is Change.UNCHANGED:
        return todo
    experiment = server.experiment(want.experiment) if todo.keep is None else ""
    with contextlib.ExitStack() as undo:
        for old in todo.remove:
            if old.enabled:
                _switch(server, old, on=False)
                undo.callback(_restore, server, old)
        if todo.keep is None:
            _create(server, want, experiment, enabled=todo.enabled)
        undo.pop_all()
    for old in todo.remove:
        delete(server, old)
    if todo.keep is not None and todo.keep.enabled and not todo.enabled:
        _switch(server, todo.keep, on=False)
    return todo


def _restore(server: client.Connection, old: Existing) -> None:
    # The error that led here matters more than one on the way back.
    with contextlib.suppress(EstimatorLibError):
        _switch(server, old, on=True)


def _create(server: client.Connection, want: Wanted, experiment: str, *, enabled: bool) -> None:
    sent = client.package(want.specification, want.parameters, want.declared.caching)
    with server.errors(f"create schedule {want.name}"), sent as path:
        server.client.create_recurring_run(
            experiment_id=experiment,
            job_name=want.name,
            description=f"{want.specification.name}, {_MARK}{want.digest}",
            cron_expression=want.declared.cron,
            interval_second=want.declared.interval_s,
            start_time=_sent(want.declared.start),
            end_time=_sent(want.declared.end),
            max_concurrency=want.declared.max_concurrency,
            no_catchup=not want.declared.catchup,
            params=dict(want.parameters),
            pipeline_package_path=path,
            pipeline_root=want.pipeline_root,
            service_account=want.service_account,
            enabled=enabled,
        )


def _sent(moment: str | None) -> str | None:
    return f"{cron.moment(moment):%Y-%m-%dT%H:%M:%SZ}" if moment else None


def listing(server: client.Connection) -> list[Existing]:
    """Returns every schedule of the server, by name."""
    found = sorted(_all(server, None), key=lambda one: (one.name, one.id))
    if not any(isinstance(one.trigger, str) for one in found):
        return found
    due: dict[str, datetime.datetime] = {}
    for run in server.runs(limit=_LOOKED):
        if run.due is not None:
            due.setdefault(run.schedule, run.due)
    return [
        dataclasses.replace(one, zone=zone(one.trigger, due[one.id])) if one.id in due else one
        for one in found
    ]


def zone(trigger: str | int, due: datetime.datetime) -> datetime.timedelta:
    """Returns what a server adds to UTC where it reads cron: the least that explains a start.

    Args:
        trigger: Cron expression, or the seconds between starts.
        due: When a run was to start.
    """
    none = datetime.timedelta()
    if not isinstance(trigger, str):
        return none
    quarters = sorted(range(-12 * 4, 14 * 4 + 1), key=abs)
    with contextlib.suppress(ConfigError):
        times = cron.parse(trigger)
        for offset in (datetime.timedelta(minutes=15 * quarter) for quarter in quarters):
            local = due.astimezone(datetime.UTC).replace(microsecond=0) + offset
            if next(times.times(local - datetime.timedelta(seconds=1)), None) == local:
                return offset
    return none


def find(server: client.Connection, name: str) -> list[Existing]:
    """Returns the schedules of one name: usually one, or none."""
    return [one for one in _all(server, name) if one.name == name]


def require(server: client.Connection, name: str) -> list[Existing]:
    """Returns the schedules of one name, at least one.

    Raises:
        PipelineError: there is none; the nearest name is given.
    """
    found = find(server, name)
    if not found:
        known = {one.name for one in listing(server)}
        raise PipelineError(
            f"Schedule {name!r} does not exist on {server.where.host}.{did_you_mean(name, known)}",
            reason=Reason.UNKNOWN_NAME,
        )
    return found


def pause(server: client.Connection, name: str) -> int:
    """Pauses a schedule; returns how many were active. Runs that go on are left alone."""
    return _switch_all(server, name, on=False)


def resume(server: client.Connection, name: str) -> int:
    """Makes a schedule active again; returns how many were paused."""
    return _switch_all(server, name, on=True)


def delete(server: client.Connection, schedule: Existing) -> None:
    """Deletes one schedule; runs that it started stay."""
    with server.errors(f"delete schedule {schedule.name}"):
        server.client.delete_recurring_run(schedule.id)


def _switch_all(server: client.Connection, name: str, *, on: bool) -> int:
    changed = [one for one in require(server, name) if one.enabled != on]
    for one in changed:
        _switch(server, one, on=on)
    return len(changed)


def _switch(server: client.Connection, schedule: Existing, *, on: bool) -> None:
    client = server.client
    with server.errors(f"{'resume' if on else 'pause'} schedule {schedule.name}"):
        (client.enable_recurring_run if on else client.disable_recurring_run)(schedule.id)


def _all(server: client.Connection, name: str | None) -> list[Existing]:
    with server.errors("list schedules"):
        found = client.pages(
            server.client.list_recurring_runs,
            "recurring_runs",
            namespace=server.where.namespace or None,
            filter=client.by_name(name),
        )
    return [_read_schedule(item) for item in found]


def _read_schedule(answer: Any) -> Existing:
    trigger = answer.trigger
    by_cron = trigger and trigger.cron_schedule and trigger.cron_schedule.cron
    periodic = trigger and trigger.periodic_schedule
    every = int(periodic.interval_second or 0) if periodic else 0
    bounded = trigger and (trigger.cron_schedule or periodic)
    digest = _DIGEST.search(answer.description or "")
    return Existing(
        id=answer.recurring_run_id,
        name=answer.display_name or "",
        enabled=answer.status == "ENABLED" or (not answer.status and answer.mode == "ENABLE"),
        trigger=by_cron or every,
        catchup=not answer.no_catchup,
        max_concurrency=int(answer.max_concurrency or 1),
        digest=digest.group(1) if digest else None,
        created=answer.created_at,
        start=bounded.start_time if bounded else None,
        end=bounded.end_time if bounded else None,
    )
