"""`compile`, `katib` and `jobset`: what a cluster is given, as files."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import click

from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import LOCAL_PATH, config_argument, say, set_option

with defer_imports(__name__):
    from estimator_lib.core import config as configuration
    from pipelines import compiling, definitions, placement
    from pipelines import jobset as training
    from pipelines import katib as experiment


@click.command()
@config_argument
@set_option("pipeline=tuned_training")
@click.option("-o", "--output", type=LOCAL_PATH, required=True, metavar="SPEC")
@click.option("--check", is_flag=True, help="write nothing; fail if SPEC is not up to date")
def compile(path: Place, settings: Sequence[str], output: pathlib.Path, check: bool) -> None:
    """Write the pipeline of a configuration as KFP IR YAML."""
    config = configuration.load(path, settings)
    _write(compiling.compile_text(config), output, check)
    for line in placement.hardware(config, definitions.steps(config)):
        say(f"  {line}")


@click.command()
@config_argument
@set_option("tune.trials=20")
@click.option("-o", "--output", type=LOCAL_PATH, required=True, metavar="MANIFEST")
@click.option(
    "--prepared", metavar="DIR", help="there, as pods see it (default: MOUNT_PATH/prepared)"
)
@click.option("--check", is_flag=True, help="write nothing; fail if MANIFEST is not up to date")
def katib(
    path: Place,
    settings: Sequence[str],
    output: pathlib.Path,
    prepared: str | None,
    check: bool,
) -> None:
    """Write the configuration's search for arguments as a manifest for Katib.

    Its trials read what `preprocess CONFIG -o DIR` wrote to the shared volume.
    """
    config = configuration.load(path, settings)
    _write(experiment.manifest(config, prepared), output, check)


@click.command()
@config_argument
@set_option("train.batch_size=1024")
@click.option("-o", "--output", type=LOCAL_PATH, required=True, metavar="MANIFEST")
@click.option(
    "--prepared", metavar="DIR", help="there, as pods see it (default: MOUNT_PATH/prepared)"
)
@click.option(
    "--directory",
    metavar="DIR",
    help="checkpoints and the model, as pods see it (default: MOUNT_PATH/NAME-train)",
)
@click.option("--queue", metavar="NAME", help="Kueue's queue that admits it")
@click.option("--check", is_flag=True, help="write nothing; fail if MANIFEST is not up to date")
def jobset(
    path: Place,
    settings: Sequence[str],
    output: pathlib.Path,
    prepared: str | None,
    directory: str | None,
    queue: str | None,
    check: bool,
) -> None:
    """Write the training by the processes of train.cluster as a JobSet, a pod for each.

    It trains on what `preprocess CONFIG -o DIR` wrote to the shared volume.
    """
    config = configuration.load(path, settings)
    text = training.manifest(config, prepared=prepared, directory=directory, queue=queue)
    _write(text, output, check)


def _write(text: str, path: pathlib.Path, check: bool) -> None:
    """Writes a specification, or only compares it with the file."""
    if check:
        compiling.check(text, path)
        say(f"{path} is up to date")
    else:
        compiling.write(text, path)
        say(f"wrote {path}")
