"""The command line `estimator-pipelines`: which commands there are, and how they end."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

import click

from estimator_lib.core import storage
from estimator_lib.core.errors import EstimatorLibError
from estimator_lib.core.version import VERSION

INTERRUPTED = 130

_COMMANDS = {
    "init": ("drafting:init", "draft a configuration from a table"),
    "run": ("running:run", "run a pipeline on this machine"),
    "compile": ("compiling:compile", "compile a pipeline for Kubernetes"),
    "katib": ("compiling:katib", "write the search for arguments as a Katib Experiment"),
    "jobset": ("compiling:jobset", "write the training of many pods as a JobSet"),
    "predict": ("predicting:predict", "score files of raw rows with a published model"),
    "config": ("configs:config", "check a configuration, or print its JSON Schema"),
    "estimators": ("estimators:estimators", "list the ready-made models and their arguments"),
    "models": ("models:models", "list published models, go back to one, label and serve them"),
    "statistics": ("data:statistics", "summarise raw files"),
    "validate": ("data:validate", "judge raw files by a schema"),
    "preprocess": ("data:preprocess", "run the preprocess step alone"),
    "monitor": ("monitoring:monitor", "compare requests of a served model with its training"),
    "submit": ("cluster:submit", "start a run on a cluster"),
    "upload": ("cluster:upload", "put a pipeline on a cluster, as a version"),
    "schedule": ("cluster:schedule", "run a pipeline on a cluster by the clock"),
    "runs": ("cluster:runs", "look at runs on a cluster"),
    "clean": ("cleaning:clean", "delete what runs left and nobody needs"),
    "migrate": ("migrating:migrate", "tell the edits that a program for tf.estimator needs"),
    "report": ("reports:report", "show what a run's evaluation says, and where its page is"),
}
"""Of each command its module and name below `pipelines.commands`, and what it does."""


class _Commands(click.Group):
    """Imports a command's module when that command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            raise click.NoSuchCommand(cmd_name, possibilities=_COMMANDS, ctx=ctx)
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        found = getattr(importlib.import_module(f"pipelines.commands.{module}"), name)
        return found if isinstance(found, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, about) for name, (_, about) in _COMMANDS.items()])


@click.version_option(VERSION, message="%(version)s")
@click.group(
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    help="From a table of raw records to a served model: preprocess, train, evaluate, export.",
)
def commands() -> None:
    """The commands."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for a user's mistake, 3, 75, 130.

    Raises:
        SystemExit: with 2, the words are no command.
    """
    words = None if arguments is None else list(arguments)
    try:
        with storage.errors_of_libraries():
            code = commands.main(words, prog_name="estimator-pipelines", standalone_mode=False)
        return int(code or 0)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        raise SystemExit(error.exit_code) from error
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "estimator-pipelines"
        sys.stderr.write(f"error: {error.format_message()}\nSee `{command} --help`.\n")
        raise SystemExit(error.exit_code) from error
    except EstimatorLibError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    except click.Abort as error:  # what click makes of Ctrl-C, and of an EOFError
        if not isinstance(error.__cause__, KeyboardInterrupt):
            raise
        sys.stderr.write("Interrupted; nothing is broken. The same command goes on from here.\n")
        return INTERRUPTED


if __name__ == "__main__":
    raise SystemExit(main())
