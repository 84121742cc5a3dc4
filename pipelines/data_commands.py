"""The commands about raw data: statistics, validate, preprocess.

Imports are made inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from pipelines.local_path import local_path

if TYPE_CHECKING:
    from components.data import Files, Looked

ANOMALOUS = 2
"""Exit code of `validate` when there is an error, that of any other bad data."""


def add_commands(commands: Any) -> None:
    """Adds `statistics`, `validate` and `preprocess` to the command line.

    Args:
        commands: What `ArgumentParser.add_subparsers` returned.
    """
    statistics = commands.add_parser(
        "statistics",
        help="summarise raw files",
        description="Write statistics of raw files, as protos and as a page, and the schema that "
        "they suggest.",
    )
    _add_files(statistics)
    statistics.add_argument(
        "--slice",
        action="append",
        default=[],
        metavar="FIELD",
        help="statistics of every value of a field, beside the whole (may be repeated)",
    )
    statistics.add_argument("-o", "--output", required=True, metavar="DIR")
    statistics.set_defaults(command=_statistics)

    validate = commands.add_parser(
        "validate",
        help="judge raw files by a schema",
        description="Compare raw files with a schema; with statistics of other data, measure "
        "drift or skew too. The exit code is 2 if there is an error.",
    )
    _add_files(validate)
    validate.add_argument("--schema", required=True, metavar="PBTXT", help="the schema as text")
    validate.add_argument("--environment", metavar="NAME", help="such as SERVING")
    for option, what in (("--previous", "the span before"), ("--serving", "serving data")):
        validate.add_argument(option, metavar="STATISTICS", help=f"statistics of {what}")
    validate.add_argument("-o", "--output", metavar="DIR", help="keep statistics and anomalies")
    validate.set_defaults(command=_validate)

    preprocess = commands.add_parser(
        "preprocess",
        help="run the preprocess step alone",
        description="Read raw files and write examples, transform and statistics.",
    )
    preprocess.add_argument("config", type=local_path, metavar="CONFIG", help="run configuration")
    preprocess.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting, such as label.missing=skip (may be repeated)",
    )
    preprocess.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="a directory, or a URI such as gs://"
    )
    preprocess.add_argument(
        "--cache",
        metavar="DIR",
        help="keep what was learned of each file; the next run learns from new files only",
    )
    _add_beam(preprocess)
    preprocess.set_defaults(command=_preprocess)


def _add_files(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("files", nargs="+", metavar="FILES", help="files or file patterns")
    parser.add_argument(
        "--format",
        choices=("csv", "parquet", "tfrecord"),
        help="by default, as the first file's name says",
    )
    parser.add_argument(
        "--missing",
        action="append",
        metavar="TEXT",
        help="a text that means missing, beside the empty one (may be repeated)",
    )
    parser.add_argument("--delimiter", default=",", metavar="CHARACTER", help="of CSV")
    parser.add_argument(
        "--csv",
        action="append",
        default=[],
        type=pair,
        metavar="NAME=CHARACTER",
        help="quote, escape, decimal or thousands of CSV (may be repeated)",
    )
    parser.add_argument("--encoding", default="utf-8", metavar="NAME", help="of CSV")
    parser.add_argument(
        "--list",
        action="append",
        default=[],
        type=_list_field,
        metavar="FIELD=SEPARATOR",
        help="a field with several values, and what stands between them (may be repeated)",
    )
    parser.add_argument(
        "--type",
        action="append",
        default=[],
        type=pair,
        metavar="FIELD=TYPE",
        help="string, int or float, where the first rows do not tell (may be repeated)",
    )
    _add_beam(parser)


def _add_beam(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--beam",
        action="append",
        default=[],
        metavar="OPTION",
        help="an option for Beam, such as --beam=--runner=DataflowRunner (may be repeated)",
    )


def pair(text: str) -> tuple[str, str]:
    """Reads NAME=VALUE of a command line."""
    field, equals, kind = text.rpartition("=")
    if not (field and equals):
        raise argparse.ArgumentTypeError(f"expected NAME=VALUE, got {text!r}")
    return field, kind


def _list_field(text: str) -> tuple[str, str]:
    field, _, separator = text.partition("=")
    if not field:
        raise argparse.ArgumentTypeError(f"expected FIELD=SEPARATOR, got {text!r}")
    return field, separator


def _files(parsed: argparse.Namespace) -> Files:
    from components.data import Files

    return Files(
        patterns=parsed.files,
        format=parsed.format,
        missing=("", *(parsed.missing or ())),
        csv={**dict(parsed.csv), "delimiter": parsed.delimiter},
        types=dict(parsed.type),
        encoding=parsed.encoding,
        lists=dict(parsed.list),
        slices=getattr(parsed, "slice", ()),
        runner_options=parsed.beam,
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _seen(looked: Looked) -> str:
    return f"{looked.rows:,} rows of {looked.fields} fields in {looked.files:,} files"


def _statistics(parsed: argparse.Namespace) -> int:
    from components import data

    looked, place = data.statistics(_files(parsed), parsed.output)
    _say(f"{_seen(looked)}; open {place}/statistics.html")
    return 0


def _validate(parsed: argparse.Namespace) -> int:
    from components import data

    looked, lines, bad = data.validate(
        _files(parsed),
        parsed.schema,
        environment=parsed.environment,
        previous=parsed.previous,
        serving=parsed.serving,
        output=parsed.output,
    )
    for line in lines:
        _say(line)
    judgement = "as the schema says" if not lines else f"{len(lines)} anomalies"
    _say(f"{_seen(looked)}: {judgement}")
    return ANOMALOUS if bad else 0


def _preprocess(parsed: argparse.Namespace) -> int:
    from components import data
    from estimator_lib.core import config as configuration

    config = configuration.load(parsed.config, parsed.set)
    summary = data.preprocess(
        config.preprocess_part(),
        base_dir=parsed.config.parent,
        output=parsed.output,
        runner_options=parsed.beam,
        analysis_cache=parsed.cache,
    )
    counts = ", ".join(f"{split.kept:,} {name}" for name, split in summary.splits.items())
    _say(f"{counts} rows, {summary.features} features in {summary.seconds:.1f} s:")
    for place in summary.places:
        _say(place)
    return 0
