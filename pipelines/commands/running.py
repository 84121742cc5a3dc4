"""`run`: a pipeline on this machine."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import click

from estimator_lib.core import logs
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason
from estimator_lib.core.places import Place
from pipelines.commands import drafting
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import PLACE, say, set_option

with defer_imports(__name__):
    from components.steps import metrics
    from estimator_lib.core import config as configuration
    from pipelines import definitions
    from pipelines.local import output as outputs
    from pipelines.local import run as local
    from pipelines.local import summary

REFUSED = 3
"""Exit code of a run that went well and whose model did not meet its bounds."""
INTERRUPTED = 130
TABLES = (".csv", ".csv.gz", ".tsv", ".parquet", ".tfrecord")
"""How names of tables end that are no configurations."""


@click.command()
@click.argument("path", type=PLACE, metavar="CONFIG")
@click.option(
    "--label", metavar="FIELD", help="CONFIG is a table, of which this field is predicted"
)
@set_option("train.epochs=3")
@click.option(
    "--output",
    type=PLACE,
    metavar="DIR",
    help="where everything goes, a directory or URI (default: runs/NAME)",
)
@click.option(
    "--resume",
    is_flag=True,
    help="refuse to begin a run: go on with one that failed or was killed (which the same command "
    "does without this, too)",
)
def run(
    path: Place, label: str | None, settings: Sequence[str], output: Place | None, resume: bool
) -> int:
    """Run the pipeline of a configuration on this machine, without a cluster.

    With --label, CONFIG is a table: a configuration is drafted as `init` does, and run. The exit
    code is 0, 3 if the model was refused, 2 for a mistake, 75 to try again.
    """
    local.interruptible()
    path = _configuration(path, label)
    config = configuration.load(path, settings)
    output = output or Place("runs") / config.name
    if resume and not outputs.has_begun(output):
        raise ConfigError(
            f"There is no run to resume in {output}: expected the output directory of one. Give "
            "its --output, or leave --resume away.",
            reason=Reason.FILE_NOT_FOUND,
        )
    name = f"{config.name}-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    result: Mapping[str, Any] = {}
    code = 1  # of an error that nobody expected
    try:
        with logs.of_run(name, local.terminal) as show:
            base_dir = definitions.base_dir(path)
            result = local.run(config, base_dir=base_dir, output=output, show=show)
        with logs.of_run(name, say) as show:
            for line in summary.render(result).split("\n"):
                show(line)
        refused = result.get("evaluation", {}).get("verdict") == "refused"
        code = REFUSED if refused else 0
    except EstimatorLibError as error:
        code = error.exit_code
        raise
    except KeyboardInterrupt:
        code = INTERRUPTED
        raise
    finally:
        problem = metrics.tell(_measured(definitions.name(config), code, result))
        if problem:
            click.echo(problem, err=True)
    return code


def _configuration(path: Place, label: str | None) -> Place:
    """Returns the configuration's file, which is drafted if there is a table instead."""
    is_configuration = path.name.endswith((".yaml", ".yml"))
    if is_configuration and label is not None:
        raise ConfigError(
            f"{path} is a configuration, which names its label: expected a table beside --label. "
            "Leave --label away.",
            reason=Reason.CONFLICT,
        )
    if label is not None:
        return Place.parse(str(drafting.draft([str(path)], label, None, show=say)))
    if path.name.endswith(TABLES):
        raise ConfigError(
            f"{path} is a table: expected a configuration. Add --label and the field to predict.",
            reason=Reason.MISSING_VALUE,
        )
    return path


def _measured(pipeline: str, code: int, result: Mapping[str, Any]) -> metrics.RunMetrics:
    """What a run that ended tells Prometheus."""
    seconds = {step: s for step, s in result.get("seconds", {}).items() if step != "total"}
    scored = result.get("predictions")
    rows = {"scored": scored["rows"]} if scored else result.get("rows", {}).get("splits", {})
    return metrics.RunMetrics(
        pipeline=pipeline,
        ended=time.time(),
        exit_code=code,
        seconds=seconds,
        rows=rows,
        verdict=result.get("evaluation", {}).get("verdict", ""),
    )
