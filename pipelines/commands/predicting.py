"""`predict`: files of raw rows scored with a published model."""

from __future__ import annotations

from collections.abc import Sequence

import click

from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import PLACE, SpreadingCommand, csv_options, say

with defer_imports(__name__):
    from components.steps import predict_job


@click.command(cls=SpreadingCommand)
@click.argument("model", type=PLACE)
@click.argument("patterns", nargs=-1, required=True, metavar="INPUT...")
@click.option(
    "-o",
    "--output",
    type=PLACE,
    required=True,
    help="one file (.csv, .parquet), or a directory that gets a Parquet file per input file",
)
@csv_options
@click.option("--skip-bad-rows", is_flag=True, help="leave out rows that cannot be read")
@click.option(
    "--keep", multiple=True, metavar="FIELD...", help="input fields to copy to the output"
)
@click.option(
    "--missing", multiple=True, default=[""], metavar="TEXT...", help="texts that mean missing"
)
def predict(
    model: Place,
    patterns: Sequence[str],
    output: Place,
    file_format: str | None,
    delimiter: str,
    csv: Sequence[tuple[str, str]],
    encoding: str,
    skip_bad_rows: bool,
    keep: Sequence[str],
    missing: Sequence[str],
) -> None:
    """Score raw rows, on Beam, and write one row of predictions for each.

    MODEL is a version's directory, or the serving directory of the versions; INPUT are CSV,
    Parquet or TFRecord files, or patterns of files. Each may be a path or URI.
    """
    scored = predict_job.score_files(
        patterns,
        file_format=file_format,
        csv={**dict(csv), "delimiter": delimiter},
        encoding=encoding,
        model=model,
        output=output,
        keep=keep,
        missing=missing,
        skip_bad_rows=skip_bad_rows,
    )
    for fault in scored.faults:
        say(f"left out: {fault}")
    left_out = f", {scored.left_out:,} left out" if scored.left_out else ""
    say(f"scored {scored.rows:,} rows{left_out} into {output}")
