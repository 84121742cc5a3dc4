"""The commands that talk to a cluster: submit, schedule, runs.

Imports are made inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import datetime
import pathlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from estimator_lib.core.config import RunConfiguration
    from pipelines.cluster.client import Connection, Run
    from pipelines.specification import Specification

_LISTED = 20
_FINGERPRINT = "data_fingerprint"


def add_commands(commands: Any) -> None:
    """Adds `submit`, `schedule` and `runs` to the command line.

    Args:
        commands: What `ArgumentParser.add_subparsers` returned.
    """
    _add_submit(commands)
    schedule = commands.add_parser("schedule", help="run a pipeline on a cluster by the clock")
    actions = schedule.add_subparsers(required=True, metavar="ACTION")
    apply = actions.add_parser(
        "apply",
        help="make the cluster's schedule what the configuration says",
        description="Create the schedule of a configuration, or replace it if it differs. "
        "Applying the same again changes nothing.",
    )
    apply.add_argument("config", type=pathlib.Path, metavar="CONFIG", help="run configuration")
    _add_set(apply)
    _finish(apply, _schedule_apply)
    _finish(actions.add_parser("list", help="list schedules"), _schedule_list)
    for verb, help_, command in (
        ("pause", "start no more runs until resumed", _schedule_pause),
        ("resume", "start runs again", _schedule_resume),
        ("delete", "delete a schedule; its runs stay", _schedule_delete),
    ):
        action = actions.add_parser(verb, help=help_)
        action.add_argument("name", metavar="NAME", help="the schedule")
        _finish(action, command)

    runs = commands.add_parser("runs", help="look at runs on a cluster")
    actions = runs.add_subparsers(required=True, metavar="ACTION")
    listing = actions.add_parser("list", help="list runs, newest first")
    listing.add_argument(
        "--limit", type=_count, default=_LISTED, metavar="N", help=f"how many (default {_LISTED})"
    )
    listing.add_argument("--name", help="only runs of exactly this name")
    _finish(listing, _runs_list)
    show = actions.add_parser("show", help="show a run's steps, and why it failed")
    show.add_argument("run", metavar="RUN", help="id or name of a run")
    _finish(show, _runs_show)
    logs = actions.add_parser("logs", help="print what a step has written")
    logs.add_argument("run", metavar="RUN", help="id or name of a run")
    logs.add_argument(
        "step",
        nargs="*",
        metavar="STEP",
        help="as `runs show` calls it; by default the one that failed, else the last",
    )
    _finish(logs, _runs_logs)


def _add_submit(commands: Any) -> None:
    submit = commands.add_parser(
        "submit",
        help="start a run on a cluster",
        description="Start a run of a configuration, which is compiled first, or of a compiled "
        "pipeline. Parameters are checked before anything is sent.",
    )
    submit.add_argument(
        "target",
        type=pathlib.Path,
        metavar="CONFIG|SPEC",
        help="configuration or compiled pipeline",
    )
    _add_set(submit)
    submit.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a pipeline parameter (may be repeated)",
    )
    submit.add_argument("--name", help="of the run (default: the pipeline and the time)")
    submit.add_argument(
        "--once",
        metavar="KEY",
        help="start nothing if a run with this key, such as 2026-11, and the same pipeline and "
        "parameters goes on or has succeeded",
    )
    submit.add_argument("--experiment", help="group of runs (default: the pipeline)")
    submit.add_argument("--service-account", help="Kubernetes account that runs the steps")
    submit.add_argument("--pipeline-root", metavar="URI", help="where artifacts go")
    submit.add_argument(
        "--cache",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="take unchanged steps from the cache (default: where data_fingerprint is given; the "
        "cluster itself does not see that files on a volume have changed); steps that publish, or "
        "read the newest served model, run always",
    )
    submit.add_argument(
        "--wait",
        action="store_true",
        help="follow the run to its end; exit code 0 if it succeeded, 2 if it failed, 75 if it may "
        "succeed when tried again",
    )
    submit.add_argument("--dry-run", action="store_true", help="check everything, send nothing")
    _finish(submit, _submit)


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting of the configuration, such as cluster.steps.train.memory=8Gi",
    )


def _finish(parser: argparse.ArgumentParser, command: Any) -> None:
    server = parser.add_argument_group(
        "server",
        "A token is read from the file that ESTIMATOR_PIPELINES_TOKEN_FILE names, or from "
        "ESTIMATOR_PIPELINES_TOKEN.",
    )
    server.add_argument("--host", metavar="URL", help="default: KF_PIPELINES_ENDPOINT")
    server.add_argument("--namespace", default="", help="profile, on servers of many users")
    server.add_argument("--token-file", metavar="FILE", help="file with the token")
    server.add_argument("--ca-file", metavar="FILE", help="certificates to trust")
    parser.set_defaults(command=command)


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError
    return value


def _connect(parsed: argparse.Namespace) -> Connection:
    from pipelines.cluster import client

    where = client.address(
        parsed.host,
        namespace=parsed.namespace,
        token_file=parsed.token_file,
        certificate=parsed.ca_file,
    )
    return client.Connection(where)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)


def _compiled(path: pathlib.Path, settings: list[str]) -> tuple[RunConfiguration, Specification]:
    from estimator_lib.core import config as configuration
    from pipelines import compiling, specification

    config = configuration.load(path, settings)
    return config, specification.check(compiling.compile_text(config), config.name)


def _target(parsed: argparse.Namespace) -> tuple[Specification, str | None]:
    """Returns the pipeline to run, and the service account that its configuration names."""
    from estimator_lib.core.errors import ConfigError, Reason
    from pipelines import specification

    if specification.is_compiled(parsed.target):
        if parsed.set:
            raise ConfigError(
                f"{parsed.target} is compiled already, so --set cannot change it. Submit the "
                "configuration, or use --param.",
                reason=Reason.CONFLICT,
            )
        return specification.read(parsed.target), None
    config, spec = _compiled(parsed.target, parsed.set)
    return spec, config.cluster.service_account


def _submit(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import arguments

    spec, account = _target(parsed)
    parameters = arguments.check(spec, arguments.parse(spec, parsed.param))
    if parsed.dry_run:
        _say(f"pipeline {spec.name} and its parameters are valid; nothing was sent")
        return 0
    server = _connect(parsed)
    submission = server.submit(
        spec,
        parameters,
        name=parsed.name,
        once=parsed.once,
        experiment=parsed.experiment,
        service_account=parsed.service_account or account,
        pipeline_root=parsed.pipeline_root,
        caching=_caching(parsed.cache, spec, parameters),
    )
    run = submission.run
    how = "started" if submission.new else f"nothing to do, {run.state.lower()} already:"
    _say(f"{how} {run.name}\nid    {run.id}\npage  {submission.link}")
    return _wait(server, run) if parsed.wait else 0


def _wait(server: Connection, run: Run) -> int:
    from pipelines.cluster import runs, waiting

    try:
        ended = waiting.follow(server, run.id, _say)
    except KeyboardInterrupt:
        _say(f"\nThe run goes on; look at it with `runs show {run.id}`.")
        return 130
    code = waiting.exit_code(ended)
    said = runs.sentence(ended)
    if code:
        said = said or f"run {run.name} {runs.state(ended.run)}"
        sys.stderr.write("\n".join(filter(None, (f"error: {said}", ended.missing))) + "\n")
    elif said:
        _say(said)
    return code


def _caching(asked: bool | None, spec: Specification, parameters: dict[str, Any]) -> bool | None:
    """Whether steps may come from the cache; None leaves it to a pipeline that is not ours."""
    if asked is None and _FINGERPRINT in spec.parameters:
        return bool(parameters.get(_FINGERPRINT, spec.parameters[_FINGERPRINT].default))
    return asked


def _schedule_apply(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import schedules

    want = schedules.wanted(*_compiled(parsed.config, parsed.set))
    done = schedules.apply(_connect(parsed), want)
    state = "active" if done.enabled else "paused"
    hint = ""
    if not done.enabled and want.declared.enabled:
        hint = f"; `schedule resume {want.name}` makes it active"
    _say(f"schedule {want.name}: {done.change}, {state}{hint}")
    return 0


def _schedule_list(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import runs, schedules

    _say(runs.schedules(schedules.listing(_connect(parsed)), _now()))
    return 0


def _schedule_pause(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import schedules

    changed = schedules.pause(_connect(parsed), parsed.name)
    _say(f"schedule {parsed.name}: {'paused' if changed else 'was paused already'}")
    return 0


def _schedule_resume(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import schedules

    changed = schedules.resume(_connect(parsed), parsed.name)
    _say(f"schedule {parsed.name}: {'active' if changed else 'was active already'}")
    return 0


def _schedule_delete(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import schedules

    server = _connect(parsed)
    for one in schedules.named(server, parsed.name):
        schedules.delete(server, one)
    _say(f"schedule {parsed.name}: deleted")
    return 0


def _runs_list(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import runs

    found = _connect(parsed).runs(limit=parsed.limit, name=parsed.name)
    _say(runs.listing(found, _now()))
    return 0


def _runs_show(parsed: argparse.Namespace) -> int:
    from pipelines.cluster import inspection, runs

    server = _connect(parsed)
    _say(runs.show(inspection.inspect(server, server.run(parsed.run)), _now()))
    return 0


def _runs_logs(parsed: argparse.Namespace) -> int:
    from estimator_lib.core.errors import PipelineError
    from pipelines.cluster import inspection

    server = _connect(parsed)
    run = server.run(parsed.run)
    workflow = server.workflow(run.id)
    step = inspection.choose(run, workflow, " ".join(parsed.step) or None)
    try:
        sys.stdout.write(server.log(run.id, step))
    except PipelineError as error:
        if error.retryable:
            raise
        command = inspection.kubectl(workflow, step)
        raise PipelineError(
            f"{error.message} While its pod is there, this shows it: {command}", reason=error.reason
        ) from error
    return 0
