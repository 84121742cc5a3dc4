"""The command line `estimator-pipelines`.

Imports are made inside the commands, so that `--help` and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, EstimatorLibError, Reason
from pipelines import data_commands, models, reports
from pipelines.cluster import commands as cluster_commands
from pipelines.local_path import local_path

INTERRUPTED = 130
REFUSED = 3
"""Exit code of a run that went well and whose model did not meet its bounds."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code: 0, 2 for a user's mistake, 3, 75, 130."""
    parsed = _parser().parse_args(arguments)
    try:
        with storage.library_errors():
            return int(parsed.command(parsed) or 0)
    except EstimatorLibError as error:
        sys.stderr.write(f"error: {error.message}\n")
        return error.exit_code
    except KeyboardInterrupt:
        sys.stderr.write("\nInterrupted; nothing is broken. The same command goes on from here.\n")
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="estimator-pipelines",
        description="From a table of raw records to a served model: preprocess, train, evaluate, "
        "export.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    run = commands.add_parser(
        "run",
        help="run a pipeline on this machine",
        description="Run a pipeline, no cluster. "
        "The exit code is 0, 3 if the model was refused, 2 for a mistake, 75 to try again.",
    )
    _add_config(run)
    run.add_argument(
        "--output",
        type=local_path,
        metavar="DIR",
        help="where everything goes (default: runs/NAME)",
    )
    run.add_argument(
        "--resume",
        action="store_true",
        help="refuse to begin a run: go on with one that failed or was killed (which the same "
        "command does without this, too)",
    )
    run.set_defaults(command=_run)

    compile_ = commands.add_parser(
        "compile",
        help="compile a pipeline for Kubernetes",
        description="Write the pipeline as KFP IR YAML.",
    )
    _add_config(compile_)
    compile_.add_argument("-o", "--output", type=local_path, required=True, metavar="SPEC")
    compile_.add_argument(
        "--check", action="store_true", help="write nothing; fail if SPEC is not up to date"
    )
    compile_.set_defaults(command=_compile)

    katib = commands.add_parser(
        "katib",
        help="write the search for arguments as a Katib Experiment",
        description="Write the configuration's search as a manifest for Katib. Its trials read "
        "what `preprocess CONFIG -o DIR` wrote to the shared volume.",
    )
    _add_config(katib)
    katib.add_argument("-o", "--output", type=local_path, required=True, metavar="MANIFEST")
    katib.add_argument(
        "--prepared", metavar="DIR", help="there, as pods see it (default: MOUNT_PATH/prepared)"
    )
    katib.add_argument(
        "--check", action="store_true", help="write nothing; fail if MANIFEST is not up to date"
    )
    katib.set_defaults(command=_katib)

    predict = commands.add_parser(
        "predict",
        help="score files of raw rows with a published model",
        description="Score raw rows, on Beam, and write one row of predictions for each.",
    )
    predict.add_argument(
        "model", type=local_path, help="a version directory, or the serving directory of them"
    )
    predict.add_argument("input", nargs="+", help="CSV, Parquet or TFRecord files, or patterns")
    predict.add_argument(
        "-o",
        "--output",
        type=local_path,
        required=True,
        help="one file (.csv, .parquet), or a directory that gets a Parquet file per input file",
    )
    predict.add_argument(
        "--format", choices=("csv", "parquet", "tfrecord"), help="default: by the first file's name"
    )
    predict.add_argument(
        "--delimiter", default=",", metavar="CHARACTER", help="between the fields of CSV"
    )
    predict.add_argument(
        "--csv",
        action="append",
        default=[],
        type=data_commands.pair,
        metavar="NAME=CHARACTER",
        help="quote, escape, decimal or thousands of CSV (may be repeated)",
    )
    predict.add_argument("--encoding", default="utf-8", metavar="NAME", help="of CSV")
    predict.add_argument(
        "--skip-bad-rows", action="store_true", help="leave out rows that cannot be read"
    )
    predict.add_argument(
        "--keep", nargs="+", default=[], metavar="FIELD", help="input fields to copy to the output"
    )
    predict.add_argument(
        "--missing", nargs="+", default=[""], metavar="TEXT", help="texts that mean missing"
    )
    predict.set_defaults(command=_predict)

    config = commands.add_parser("config", help="check a configuration, or print its JSON Schema")
    actions = config.add_subparsers(required=True, metavar="ACTION")
    check = actions.add_parser("check", help="validate a configuration and its files")
    _add_config(check)
    check.set_defaults(command=_check)
    schema = actions.add_parser("schema", help="print the JSON Schema, for editors")
    schema.set_defaults(command=_schema)

    models.add_commands(commands)
    data_commands.add_commands(commands)
    cluster_commands.add_commands(commands)
    reports.add_command(commands)
    return parser


def _add_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=local_path, metavar="CONFIG", help="run configuration")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override one setting, such as train.epochs=3 (may be repeated)",
    )


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _run(parsed: argparse.Namespace) -> int:
    from estimator_lib.core import config as configuration
    from pipelines.local import run, summary

    run.interruptible()
    config = configuration.load(parsed.config, parsed.set)
    output = parsed.output or pathlib.Path("runs") / config.name
    if parsed.resume and not (output / "logs").is_dir():
        raise ConfigError(
            f"There is no run to resume in {output}: expected the output directory of one. Give "
            "its --output, or leave --resume away.",
            reason=Reason.FILE_NOT_FOUND,
        )
    result = run.run(config, base_dir=parsed.config.parent, output=output, show=run.terminal)
    _say(summary.render(result))
    return REFUSED if result.get("evaluation", {}).get("verdict") == "refused" else 0


def _compile(parsed: argparse.Namespace) -> int:
    from estimator_lib.core import config as configuration
    from pipelines import compiling, definitions, placement

    config = configuration.load(parsed.config, parsed.set)
    written = _written(compiling.compile_text(config), parsed)
    for line in placement.hardware(config, definitions.steps(config)):
        _say(f"  {line}")
    return written


def _katib(parsed: argparse.Namespace) -> int:
    from estimator_lib.core import config as configuration
    from pipelines import katib

    config = configuration.load(parsed.config, parsed.set)
    return _written(katib.manifest(config, parsed.prepared), parsed)


def _written(text: str, parsed: argparse.Namespace) -> int:
    """Writes a specification, or with --check compares it with the file."""
    from pipelines import compiling

    if parsed.check:
        compiling.check(text, parsed.output)
        _say(f"{parsed.output} is up to date")
    else:
        compiling.write(text, parsed.output)
        _say(f"wrote {parsed.output}")
    return 0


def _predict(parsed: argparse.Namespace) -> int:
    from components import predict_job

    scored = predict_job.score_files(
        parsed.input,
        file_format=parsed.format,
        csv={**dict(parsed.csv), "delimiter": parsed.delimiter},
        encoding=parsed.encoding,
        model=parsed.model,
        output=parsed.output,
        keep=parsed.keep,
        missing=parsed.missing,
        skip_bad_rows=parsed.skip_bad_rows,
    )
    for fault in scored.faults:
        _say(f"left out: {fault}")
    left_out = f", {scored.left_out:,} left out" if scored.left_out else ""
    _say(f"scored {scored.rows:,} rows{left_out} into {parsed.output}")
    return 0


def _check(parsed: argparse.Namespace) -> int:
    from components import data
    from estimator_lib.core import config as configuration
    from estimator_lib.core import files
    from estimator_lib.evaluation.configured import check_metric_names
    from pipelines import code_version, definitions
    from pipelines.local import run

    config = configuration.load(parsed.config, parsed.set)
    check_metric_names(config)
    run.schema_files(config, parsed.config.parent)
    base = parsed.config.parent
    found = files.expand_splits(definitions.local_patterns(config), base)
    code_version.code_version(definitions.functions(config), (base, pathlib.Path.cwd()))
    learns = config.pipeline != "batch_prediction"  # which reads no training data
    seen = data.look(config.preprocess_part(), base) if learns else 0
    counts = ", ".join(f"{len(f)} {split} files".replace("  ", " ") for split, f in found.items())
    if definitions.reads_elsewhere(config):
        counts = f"{counts or 'no files'} here, rows elsewhere not looked at"
    looked = f", first {seen:,} rows looked at" if seen else ""
    _say(f"{parsed.config} is valid: {len(config.columns)} columns, {counts}{looked}")
    return 0


def _schema(_: Any) -> int:
    import json

    from estimator_lib.core import config as configuration

    _say(json.dumps(configuration.json_schema(), indent=1))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
