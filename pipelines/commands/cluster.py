"""`submit`, `upload`, `schedule` and `runs`: what talks to a cluster."""

from __future__ import annotations

import datetime
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

import click

from estimator_lib.core.errors import ConfigError, PipelineError, Reason
from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import PLACE, config_argument, say, set_option

with defer_imports(__name__):
    from estimator_lib.core import config as configuration
    from estimator_lib.core import cron
    from pipelines import compiling, specification
    from pipelines.cluster import (
        arguments,
        client,
        inspection,
        schedules,
        terminal,
        uploads,
        waiting,
    )
    from pipelines.cluster import backfill as backfilling

_FINGERPRINT = "data_fingerprint"
_Command = TypeVar("_Command", bound=Callable[..., Any])


class _Server(TypedDict):
    host: str | None
    namespace: str
    token_file: str | None
    ca_file: str | None


def _server_options(function: _Command) -> _Command:
    """Adds where the server is and how to be let in, as `_connect` takes it."""
    for add in (
        click.option("--ca-file", metavar="FILE", help="certificates to trust"),
        click.option(
            "--token-file",
            metavar="FILE",
            help="file with the token (default: the one that ESTIMATOR_PIPELINES_TOKEN_FILE "
            "names, else ESTIMATOR_PIPELINES_TOKEN is the token, else the one that Kubeflow gives "
            "its pods)",
        ),
        click.option(
            "--namespace",
            default="",
            help="profile, on servers of many users (default: cluster.namespace)",
        ),
        click.option("--host", metavar="URL", help="default: KF_PIPELINES_ENDPOINT"),
    ):
        function = add(function)
    return function


def _connect(
    cluster: configuration.Cluster | None = None, **server: Unpack[_Server]
) -> client.Connection:
    """Connects to the server that options, variables and the configuration name."""
    where = client.address(
        server["host"],
        namespace=server["namespace"] or (cluster and cluster.namespace) or "",
        token_file=server["token_file"],
        certificate=server["ca_file"],
    )
    return client.Connection(where)


@click.command()
@click.argument("target", type=PLACE, metavar="CONFIG|SPEC")
@set_option("cluster.steps.train.memory=8Gi")
@click.option(
    "--param", multiple=True, metavar="NAME=VALUE", help="a pipeline parameter (may be repeated)"
)
@click.option("--name", help="of the run (default: the pipeline and the time)")
@click.option(
    "--once",
    metavar="KEY",
    help="start nothing if a run with this key, such as 2026-11, and the same pipeline and "
    "parameters goes on or has succeeded",
)
@click.option("--experiment", help="group of runs (default: the pipeline)")
@click.option("--service-account", help="Kubernetes account that runs the steps")
@click.option("--pipeline-root", metavar="URI", help="where artifacts go")
@click.option(
    "--cache/--no-cache",
    default=None,
    help="take unchanged steps from the cache (default: where data_fingerprint is given; the "
    "cluster itself does not see that files on a volume have changed); steps that publish, or "
    "read the newest served model, run always",
)
@click.option(
    "--wait",
    is_flag=True,
    help="follow the run to its end; exit code 0 if it succeeded, 3 if its model was refused (and "
    "the log of the step that judged it is there to say so), 2 if it failed, 75 if it may succeed "
    "when tried again",
)
@click.option("--dry-run", is_flag=True, help="check everything, send nothing")
@_server_options
def submit(
    target: Place,
    settings: Sequence[str],
    param: Sequence[str],
    name: str | None,
    once: str | None,
    experiment: str | None,
    service_account: str | None,
    pipeline_root: str | None,
    cache: bool | None,
    wait: bool,
    dry_run: bool,
    **server: Unpack[_Server],
) -> int:
    """Start a run of a configuration, which is compiled first, or of a compiled pipeline.

    Parameters are checked before anything is sent.
    """
    spec, cluster = _read_target(target, settings)
    parameters = arguments.check(spec, arguments.parse(spec, param))
    if dry_run:
        say(f"pipeline {spec.name} and its parameters are valid; nothing was sent")
        return 0
    connection = _connect(cluster, **server)
    submission = connection.submit(
        spec,
        parameters,
        name=name,
        once=once,
        experiment=experiment,
        service_account=service_account or cluster.service_account,
        pipeline_root=pipeline_root,
        caching=_caching(cache, spec, parameters),
    )
    run = submission.run
    how = "started" if submission.new else f"nothing to do, {run.state.lower()} already:"
    say(f"{how} {run.name}\nid    {run.id}\npage  {submission.link}")
    return _wait(connection, run) if wait else 0


@click.command()
@click.argument("target", type=PLACE, metavar="CONFIG|SPEC")
@set_option("cluster.steps.train.memory=8Gi")
@_server_options
def upload(target: Place, settings: Sequence[str], **server: Unpack[_Server]) -> None:
    """Upload a pipeline, for runs that are started in Kubeflow's UI.

    What has changed is a new version of the pipeline of that name; the same again is none.
    """
    spec, cluster = _read_target(target, settings)
    done = uploads.upload(_connect(cluster, **server), spec)
    how = "uploaded as" if done.new else "nothing to do, is there already:"
    say(f"pipeline {spec.name}: {how} version {done.name}\npage  {done.link}")


def _read_target(
    path: Place, settings: Sequence[str]
) -> tuple[specification.Specification, configuration.Cluster]:
    """Returns the pipeline to run, and what its configuration says of the cluster."""
    if path.is_local and specification.is_compiled(path.path):
        if settings:
            raise ConfigError(
                f"{path} is compiled already, so --set cannot change it. Submit the "
                "configuration, or use --param.",
                reason=Reason.CONFLICT,
            )
        return specification.read(path.path), configuration.Cluster()
    config, spec = _compile(path, settings)
    return spec, config.cluster


def _compile(
    path: Place, settings: Sequence[str]
) -> tuple[configuration.RunConfiguration, specification.Specification]:
    config = configuration.load(path, settings)
    return config, specification.check(compiling.compile_text(config), config.name)


def _wait(connection: client.Connection, run: client.Run) -> int:
    try:
        ended = waiting.follow(connection, run.id, say)
    except KeyboardInterrupt:
        say(f"\nThe run goes on; look at it with `runs show {run.id}`.")
        return 130
    code = waiting.exit_code(ended)
    said = terminal.sentence(ended)
    if ended.run.state == waiting.SUCCEEDED:
        for text in filter(None, (said, ended.missing)):
            say(text)
        return code
    said = said or f"run {run.name} {terminal.state(ended.run)}"
    sys.stderr.write("\n".join(filter(None, (f"error: {said}", ended.missing))) + "\n")
    return code


def _caching(
    wanted: bool | None, spec: specification.Specification, parameters: Mapping[str, Any]
) -> bool | None:
    """Whether steps may come from the cache; None leaves it to a pipeline that is not ours."""
    if wanted is None and _FINGERPRINT in spec.parameters:
        return bool(parameters.get(_FINGERPRINT, spec.parameters[_FINGERPRINT].default))
    return wanted


@click.group()
def schedule() -> None:
    """Run a pipeline on a cluster by the clock."""


@schedule.command()
@config_argument
@set_option("cluster.steps.train.memory=8Gi")
@_server_options
def apply(path: Place, settings: Sequence[str], **server: Unpack[_Server]) -> None:
    """Create the schedule of a configuration, or replace it if it differs.

    Applying the same again changes nothing.
    """
    config, spec = _compile(path, settings)
    want = schedules.declare(config, spec)
    done = schedules.apply(_connect(config.cluster, **server), want)
    state = "active" if done.enabled else "paused"
    hint = ""
    if not done.enabled and want.declared.enabled:
        hint = f"; `schedule resume {want.name}` makes it active"
    say(f"schedule {want.name}: {done.change}, {state}{hint}")


@schedule.command()
@config_argument
@set_option("cluster.steps.train.memory=8Gi")
@click.option("--from", "first", required=True, metavar="TIME", help="2026-01-31, or with a time")
@click.option("--to", "end", required=True, metavar="TIME", help="up to, but not including")
@click.option(
    "--at-once",
    type=click.IntRange(min=1),
    metavar="N",
    help="how many runs may go on at a time (default: schedule.max_concurrency)",
)
@click.option("--dry-run", is_flag=True, help="list the runs, start none")
@_server_options
def backfill(
    path: Place,
    settings: Sequence[str],
    first: str,
    end: str,
    at_once: int | None,
    dry_run: bool,
    **server: Unpack[_Server],
) -> int:
    """Start the runs that a schedule would have started from one time to another, and wait.

    Each gets its scheduled time where schedule.parameters have [[ScheduledTime]]. What has
    succeeded is not run again. Exit code 2 if a run failed.
    """
    config, spec = _compile(path, settings)
    want = schedules.declare(config, spec)
    starts = backfilling.plan(want, cron.moment(first), cron.moment(end))
    if dry_run:
        for start in starts:
            say(f"{start.time:%Y-%m-%d %H:%M:%S} UTC")
        say(f"{len(starts):,} runs; nothing was sent")
        return 0
    limit = at_once or want.declared.max_concurrency
    connection = _connect(config.cluster, **server)
    failed = backfilling.run(connection, want, starts, say, at_once=limit)
    say(f"{len(starts) - failed:,} of {len(starts):,} runs succeeded")
    return 2 if failed else 0


@schedule.command("list")
@_server_options
def list_schedules(**server: Unpack[_Server]) -> None:
    """List schedules."""
    say(terminal.schedules(schedules.listing(_connect(**server)), _now()))


@schedule.command()
@click.argument("name")
@_server_options
def pause(name: str, **server: Unpack[_Server]) -> None:
    """Start no more runs until resumed."""
    changed = schedules.pause(_connect(**server), name)
    say(f"schedule {name}: {'paused' if changed else 'was paused already'}")


@schedule.command()
@click.argument("name")
@_server_options
def resume(name: str, **server: Unpack[_Server]) -> None:
    """Start runs again."""
    changed = schedules.resume(_connect(**server), name)
    say(f"schedule {name}: {'active' if changed else 'was active already'}")


@schedule.command()
@click.argument("name")
@_server_options
def delete(name: str, **server: Unpack[_Server]) -> None:
    """Delete a schedule; its runs stay."""
    connection = _connect(**server)
    for one in schedules.require(connection, name):
        schedules.delete(connection, one)
    say(f"schedule {name}: deleted")


@click.group()
def runs() -> None:
    """Look at runs on a cluster. RUN is the id or the name of one."""


@runs.command("list")
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="how many",
)
@click.option("--name", help="only runs of exactly this name")
@_server_options
def list_runs(limit: int, name: str | None, **server: Unpack[_Server]) -> None:
    """List runs, newest first."""
    say(terminal.listing(_connect(**server).runs(limit=limit, name=name), _now()))


@runs.command()
@click.argument("run")
@_server_options
def show(run: str, **server: Unpack[_Server]) -> None:
    """Show a run's steps, and why it failed."""
    connection = _connect(**server)
    say(terminal.show(inspection.inspect(connection, connection.run(run)), _now()))


@runs.command()
@click.argument("run")
@click.argument("step", nargs=-1)
@_server_options
def logs(run: str, step: Sequence[str], **server: Unpack[_Server]) -> None:
    """Print what a step has written.

    STEP is its name as `runs show` has it; by default the step that failed, else the last.
    """
    connection = _connect(**server)
    found = connection.run(run)
    workflow = connection.workflow(found.id)
    chosen = inspection.choose(found, workflow, " ".join(step) or None)
    try:
        sys.stdout.write(connection.log(found.id, chosen))
    except PipelineError as error:
        if error.retryable:
            raise
        command = inspection.kubectl(workflow, chosen)
        raise PipelineError(
            f"{error.message} While its pod is there, this shows it: {command}", reason=error.reason
        ) from error


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
