"""`monitor`: requests of a served model compared with what it was trained on."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence

import click

from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import LOCAL_PATH, PLACE, Pair, say

with defer_imports(__name__):
    from components.steps import monitor_job, notify

DIFFERS = 3
"""Exit code where requests differ from training, as of a model that is refused."""
_SHOWN = 10


@click.command()
@click.argument("model", type=PLACE)
@click.argument("patterns", nargs=-1, required=True, metavar="REQUESTS...")
@click.option(
    "--statistics",
    metavar="DIR",
    help="of the training data (default: those that the model keeps)",
)
@click.option("--schema", metavar="PBTXT", help="default: schema.pbtxt beside the statistics")
@click.option(
    "--max-skew",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="DISTANCE",
    help="the largest distance from training, for fields without a threshold in the schema",
)
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["jsonl", "tfrecord", "csv", "parquet"]),
    help="logs of requests as JSON lines or as PredictionLogs, or raw rows; by default, as the "
    "first file's name says",
)
@click.option("--delimiter", default=",", metavar="CHARACTER", help="between the fields of CSV")
@click.option(
    "--csv",
    multiple=True,
    type=Pair("NAME=CHARACTER"),
    metavar="NAME=CHARACTER",
    help="quote, escape, decimal or thousands of CSV (may be repeated)",
)
@click.option("--encoding", default="utf-8", metavar="NAME", help="of CSV")
@click.option("-o", "--output", type=LOCAL_PATH, required=True, metavar="DIR")
def monitor(
    model: Place,
    patterns: Sequence[str],
    statistics: str | None,
    schema: str | None,
    max_skew: float,
    file_format: str | None,
    delimiter: str,
    csv: Sequence[tuple[str, str]],
    encoding: str,
    output: pathlib.Path,
) -> int:
    """Compare logged requests of a served model with its training data.

    REQUESTS are files or file patterns. Exit code 3 says that they differ; NOTIFY_WEBHOOK, if it is
    set, is told then.
    """
    found = monitor_job.monitor(
        monitor_job.Requests(
            patterns=[str(pathlib.Path(pattern).absolute()) for pattern in patterns],
            format=file_format,
            csv={**dict(csv), "delimiter": delimiter},
            encoding=encoding,
        ),
        model=model,
        statistics=statistics,
        schema=schema,
        max_skew=max_skew,
        output=output,
    )
    for one in found.distances[:_SHOWN]:
        mark = f"  over {one.limit:g}" if one.is_over else ""
        say(f"{one.field:<24} {one.measure:<15} {one.value:.4f}{mark}")
    for line in (*found.anomalies, *(f"left out: {fault}" for fault in found.faults[:_SHOWN])):
        say(line)
    said = f", {found.left_out:,} requests left out" if found.left_out else ""
    say(f"{found.sentence.rstrip('.')}{said}; open {found.page}")
    if not found.errors:
        return 0
    address = os.environ.get(notify.WEBHOOK)
    if address:
        problem = notify.post(address, _message(found))
        if problem:
            say(problem)
    return DIFFERS


def _message(found: monitor_job.Monitored) -> dict[str, str]:
    """What `notify` would say of a run, of this comparison."""
    return {
        "text": f"{found.model}: {found.sentence}",
        "model": found.model,
        "state": "DIFFERS",
        "reason": found.errors[0],
    }
