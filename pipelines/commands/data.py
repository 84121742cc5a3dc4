"""`statistics`, `validate` and `preprocess`: raw data without a pipeline."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypedDict, TypeVar, Unpack

import click

from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import Pair, config_argument, csv_options, say, set_option

with defer_imports(__name__):
    from components.steps import raw_files
    from estimator_lib.core import config as configuration
    from pipelines import definitions

ANOMALOUS = 2
"""Exit code of `validate` when there is an error, that of any other bad data."""
_Command = TypeVar("_Command", bound=Callable[..., Any])
_beam = click.option(
    "--beam",
    "runner_options",
    multiple=True,
    metavar="OPTION",
    help="an option for Beam, such as --beam=--runner=DataflowRunner (may be repeated)",
)


def _file_options(function: _Command) -> _Command:
    """Adds FILES and how they are read."""
    for add in (
        _beam,
        click.option(
            "--type",
            "types",
            multiple=True,
            type=Pair("FIELD=TYPE"),
            metavar="FIELD=TYPE",
            help="string, int or float, where the first rows do not tell (may be repeated)",
        ),
        click.option(
            "--list",
            "lists",
            multiple=True,
            type=Pair("FIELD=SEPARATOR", empty=True),
            metavar="FIELD=SEPARATOR",
            help="a field with several values, and what stands between them (may be repeated)",
        ),
        click.option(
            "--unit",
            "units",
            multiple=True,
            type=Pair("FIELD=SIGN"),
            metavar="FIELD=SIGN",
            help="numbers written with a sign, such as --unit off=% (may be repeated)",
        ),
        click.option(
            "--missing",
            multiple=True,
            metavar="TEXT",
            help="a text that means missing, beside the empty one (may be repeated)",
        ),
        csv_options,
        click.argument("patterns", nargs=-1, required=True, metavar="FILES..."),
    ):
        function = add(function)
    return function


@click.command()
@_file_options
@click.option(
    "--slice",
    "slices",
    multiple=True,
    metavar="FIELD",
    help="statistics of every value of a field, beside the whole (may be repeated)",
)
@click.option("-o", "--output", required=True, metavar="DIR")
def statistics(output: str, slices: Sequence[str], **files: Unpack[_Given]) -> None:
    """Write statistics of raw files, as protos and as a page, and the schema that they suggest.

    FILES are files or file patterns.
    """
    seen, place = raw_files.statistics(_files(files, slices), output)
    say(f"{_describe(seen)}; open {place}/statistics.html")


@click.command()
@_file_options
@click.option("--schema", required=True, metavar="PBTXT", help="the schema as text")
@click.option("--environment", metavar="NAME", help="such as SERVING")
@click.option("--previous", metavar="STATISTICS", help="statistics of the span before")
@click.option("--serving", metavar="STATISTICS", help="statistics of serving data")
@click.option("-o", "--output", metavar="DIR", help="keep statistics and anomalies")
def validate(
    schema: str,
    environment: str | None,
    previous: str | None,
    serving: str | None,
    output: str | None,
    **files: Unpack[_Given],
) -> int:
    """Compare raw files with a schema; with statistics of other data, measure drift or skew too.

    FILES are files or file patterns. The exit code is 2 if there is an error.
    """
    seen, lines, bad = raw_files.validate(
        _files(files),
        schema,
        environment=environment,
        previous=previous,
        serving=serving,
        output=output,
    )
    for line in lines:
        say(line)
    judgement = "as the schema says" if not lines else f"{len(lines)} anomalies"
    say(f"{_describe(seen)}: {judgement}")
    return ANOMALOUS if bad else 0


@click.command()
@config_argument
@set_option("data.on_bad_rows=quarantine")
@click.option(
    "-o", "--output", required=True, metavar="DIR", help="a directory, or a URI such as gs://"
)
@click.option(
    "--cache",
    metavar="DIR",
    help="keep what was learned of each file; the next run learns from new files only",
)
@_beam
def preprocess(
    path: Place,
    settings: Sequence[str],
    output: str,
    cache: str | None,
    runner_options: Sequence[str],
) -> None:
    """Read the raw files of a configuration; write examples, transform and statistics."""
    config = configuration.load(path, settings)
    summary = raw_files.preprocess(
        config.preprocess_part(),
        base_dir=definitions.base_dir(path),
        output=output,
        runner_options=runner_options,
        analysis_cache=cache,
    )
    counts = ", ".join(f"{split.kept:,} {name}" for name, split in summary.splits.items())
    say(f"{counts} rows, {summary.features} features in {summary.seconds:.1f} s:")
    for place in summary.places:
        say(place)


class _Given(TypedDict):
    patterns: Sequence[str]
    file_format: str | None
    missing: Sequence[str]
    delimiter: str
    csv: Sequence[tuple[str, str]]
    types: Sequence[tuple[str, str]]
    encoding: str
    lists: Sequence[tuple[str, str]]
    units: Sequence[tuple[str, str]]
    runner_options: Sequence[str]


def _files(given: _Given, slices: Sequence[str] = ()) -> raw_files.Files:
    return raw_files.Files(
        patterns=given["patterns"],
        format=given["file_format"],
        missing=("", *given["missing"]),
        csv={**dict(given["csv"]), "delimiter": given["delimiter"]},
        types=dict(given["types"]),
        encoding=given["encoding"],
        lists=dict(given["lists"]),
        units=dict(given["units"]),
        slices=slices,
        runner_options=given["runner_options"],
    )


def _describe(seen: raw_files.Looked) -> str:
    return f"{seen.rows:,} rows of {seen.fields} fields in {seen.files:,} files"
