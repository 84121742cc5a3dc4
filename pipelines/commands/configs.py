"""`config`: what a run configuration may hold, and whether one is right."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence

import click

from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import config_argument, say, set_option

with defer_imports(__name__):
    from estimator_lib.core import config as configuration
    from estimator_lib.core import files
    from estimator_lib.evaluation import configured
    from pipelines import code_version, definitions
    from pipelines.local import run as local
    from transforms.validating import first_look


@click.group()
def config() -> None:
    """Check a configuration, or print its JSON Schema."""


@config.command()
@config_argument
@set_option("train.epochs=3")
def check(path: Place, settings: Sequence[str]) -> None:
    """Validate a configuration and its files, without TensorFlow and Beam."""
    config = configuration.load(path, settings)
    configured.check_metric_names(config)
    base = definitions.base_dir(path)
    local.schema_files(config, base)
    found = files.expand_splits(definitions.local_patterns(config), base)
    code_version.code_version(definitions.functions(config), (base, pathlib.Path.cwd()))
    learns = config.pipeline != "batch_prediction"  # which reads no training data
    seen = first_look.check(config.preprocess_part(), str(base)) if learns else 0
    counts = ", ".join(f"{len(f)} {split} files".replace("  ", " ") for split, f in found.items())
    if definitions.reads_elsewhere(config):
        counts = f"{counts or 'no files'} here, rows elsewhere not looked at"
    looked = f", first {seen:,} rows looked at" if seen else ""
    say(f"{path} is valid: {len(config.columns)} columns, {counts}{looked}")


@config.command()
def schema() -> None:
    """Print the JSON Schema, for editors."""
    say(json.dumps(configuration.json_schema(), indent=1))
