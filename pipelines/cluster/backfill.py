"""Runs of a schedule for an interval of the past: each scheduled time once, a few at a time.

What is to be done is planned first. A run's name follows from the pipeline, the scheduled time and
the parameters, so that doing the same again starts only what has failed or was never started.
"""

from __future__ import annotations

import collections
import dataclasses
import datetime
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from estimator_lib.core import config as configuration
from estimator_lib.core import cron
from estimator_lib.core.errors import ConfigError, Reason, quote
from pipelines.cluster import terminal, waiting
from pipelines.cluster.client import Connection
from pipelines.cluster.inspection import Inspection
from pipelines.cluster.schedules import Wanted

MOST = 1000
"""More runs than this are taken for a mistake."""
_MACRO = re.compile(r"\[\[([A-Za-z]+)(?:\.([^\]]*))?\]\]")
_USUAL = "20060102150405"
_GO = {"2006": "%Y", "01": "%m", "02": "%d", "15": "%H", "04": "%M", "05": "%S"}
_LAYOUT = re.compile("|".join(_GO) + r"|[-_:/T.Z ]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Start:
    """One run that a schedule would have started.

    Attributes:
        time: The scheduled time.
        parameters: The run's, with that time in them.
    """

    time: datetime.datetime
    parameters: Mapping[str, Any]

    @property
    def key(self) -> str:
        """What tells it from the others."""
        return f"{self.time:%Y-%m-%dT%H-%M-%SZ}"


def plan(want: Wanted, first: datetime.datetime, end: datetime.datetime) -> list[Start]:
    """Returns the runs of a schedule from `first` to before `end`, within its start and end.

    Raises:
        ConfigError: there are none, or too many, or the runs would all be the same.
    """
    if not any(_MACRO.search(text) for text in _texts(want.parameters)):
        raise ConfigError(
            "The runs of a backfill would all be the same: none of schedule.parameters holds "
            '"[[ScheduledTime]]", which is the time of the run.',
            reason=Reason.MISSING_VALUE,
        )
    times = list(itertools.islice(_times(want.declared, first, end), MOST + 1))
    if not times:
        raise ConfigError(
            f"Schedule {want.name} starts nothing from {first:%Y-%m-%d %H:%M} to "
            f"{end:%Y-%m-%d %H:%M} UTC.",
            reason=Reason.EMPTY_INPUT,
        )
    if len(times) > MOST:
        raise ConfigError(
            f"Schedule {want.name} starts more than {MOST:,} runs in this interval. Give a shorter "
            "one.",
            reason=Reason.TOO_MANY_VALUES,
        )
    return [Start(time=time, parameters=write_time(want.parameters, time)) for time in times]


def _times(
    declared: configuration.Schedule, first: datetime.datetime, end: datetime.datetime
) -> Iterator[datetime.datetime]:
    first = max([first, *([cron.moment(declared.start)] if declared.start else [])])
    last = cron.moment(declared.end) if declared.end else end
    if declared.cron is not None:
        times = cron.parse(declared.cron).times(first - datetime.timedelta(seconds=1))
    else:
        step = datetime.timedelta(seconds=declared.interval_s or 0)
        times = (first + step * number for number in itertools.count())
    return itertools.takewhile(lambda time: time < end and time <= last, times)


def write_time(value: Any, time: datetime.datetime) -> Any:
    """Returns parameters as the server writes a scheduled time into them.

    Args:
        value: Parameters: texts, and lists and mappings of them.
        time: Written for [[ScheduledTime]] and, in Go's layouts, [[ScheduledTime.2006-01-02]].

    Raises:
        ConfigError: a layout has something else than years to seconds, or another macro is there.
    """
    if isinstance(value, str):
        return _MACRO.sub(lambda found: _written(found, time), value)
    if isinstance(value, Mapping):
        return {key: write_time(inner, time) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [write_time(inner, time) for inner in value]
    return value


def _written(found: re.Match[str], time: datetime.datetime) -> str:
    name, layout = found[1], _USUAL if found[2] is None else found[2]
    if name != "ScheduledTime":
        raise ConfigError(
            f"{found[0]} has no meaning in a backfill: expected [[ScheduledTime]] only.",
            reason=Reason.UNSUPPORTED,
        )
    if not layout or _LAYOUT.sub("", layout):
        raise ConfigError(
            f"{found[0]} is not understood: expected a layout of {', '.join(_GO)}, such as "
            f"[[ScheduledTime.2006-01-02]], got {quote(layout)}.",
        )
    return _LAYOUT.sub(lambda part: f"{time:{_GO[part[0]]}}" if part[0] in _GO else part[0], layout)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(inner)


def run(
    server: Connection,
    want: Wanted,
    starts: Sequence[Start],
    show: Callable[[str], None],
    *,
    at_once: int,
) -> int:
    """Starts the runs in order and waits for all of them; returns how many did not succeed.

    Args:
        server: Where they run.
        want: The schedule.
        starts: What `plan` gave.
        show: Called with a line for each run that was started, was there, or has ended.
        at_once: How many may go on at a time.

    Raises:
        PipelineError: the server refuses, or stays away (`retryable`); what was started goes on.
    """
    failed = 0
    waited: collections.deque[str] = collections.deque()

    def finish(most: int) -> int:
        count = 0
        while len(waited) > most:
            ended = waiting.follow(server, waited.popleft(), _silent)
            count += ended.run.state != waiting.SUCCEEDED
            show(_ended(ended))
        return count

    for start in starts:
        failed += finish(at_once - 1)
        submission = server.submit(
            want.specification,
            start.parameters,
            once=start.key,
            experiment=want.experiment,
            service_account=want.service_account,
            pipeline_root=want.pipeline_root,
            caching=want.declared.caching,
        )
        state = submission.run.state
        if not submission.new and state == waiting.SUCCEEDED:
            show(f"{start.key}: has succeeded already")
            continue
        show(f"{start.key}: {'started' if submission.new else 'goes on'}, {submission.link}")
        waited.append(submission.run.id)
    return failed + finish(0)


def _ended(found: Inspection) -> str:
    said = terminal.sentence(found)
    return f"{found.run.name}: {terminal.state(found.run)}{f'. {said}' if said else ''}"


def _silent(line: str) -> None:
    del line
