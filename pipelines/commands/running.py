"""`run`: a pipeline on this machine."""

from __future__ import annotations

from collections.abc import Sequence

import click

from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import PLACE, config_argument, say, set_option

with defer_imports(__name__):
    from estimator_lib.core import config as configuration
    from pipelines import definitions
    from pipelines.local import output as outputs
    from pipelines.local import run as local
    from pipelines.local import summary

REFUSED = 3
"""Exit code of a run that went well and whose model did not meet its bounds."""


@click.command()
@config_argument
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
def run(path: Place, settings: Sequence[str], output: Place | None, resume: bool) -> int:
    """Run the pipeline of a configuration on this machine, without a cluster.

    The exit code is 0, 3 if the model was refused, 2 for a mistake, 75 to try again.
    """
    local.interruptible()
    config = configuration.load(path, settings)
    output = output or Place("runs") / config.name
    if resume and not outputs.has_begun(output):
        raise ConfigError(
            f"There is no run to resume in {output}: expected the output directory of one. Give "
            "its --output, or leave --resume away.",
            reason=Reason.FILE_NOT_FOUND,
        )
    result = local.run(
        config, base_dir=definitions.base_dir(path), output=output, show=local.terminal
    )
    say(summary.render(result))
    return REFUSED if result.get("evaluation", {}).get("verdict") == "refused" else 0
