"""`clean`: deletes what runs left and nobody needs any more."""

from __future__ import annotations

import contextlib
import pathlib
import time

import click

from pipelines.commands.imports import defer_imports
from pipelines.commands.options import LOCAL_PATH, say

with defer_imports(__name__):
    from pipelines import cleaning

_DAY_S = 86_400.0


@click.command()
@click.argument("place", type=LOCAL_PATH, metavar="OUTPUT")
@click.option(
    "--keep", type=click.IntRange(min=1), metavar="N", help="of each kind, the newest N stay"
)
@click.option(
    "--older-than",
    type=click.FloatRange(min=0),
    metavar="DAYS",
    help="what was used in the last DAYS stays",
)
@click.option("--dry-run", is_flag=True, help="tell what would go, and delete nothing")
def clean(place: pathlib.Path, keep: int | None, older_than: float | None, dry_run: bool) -> None:
    """Delete old runs, cached steps, checkpoints, searches and analyses below OUTPUT.

    OUTPUT is the --output of runs, or a volume's directory with the same names in it. With both
    --keep and --older-than only that goes which both let go. Served models are never touched, nor
    what a process is using, nor what a run that stays took from the cache.
    """
    policy = cleaning.Policy(
        keep=keep, older_than_s=None if older_than is None else older_than * _DAY_S
    )
    with contextlib.nullcontext() if dry_run else cleaning.held(place):
        found = cleaning.find(place, policy, time.time())
        gone = [one for one in found if dry_run or cleaning.delete(one)]
    for one in gone:
        say(str(one))
    total = cleaning.size(sum(one.bytes for one in gone))
    say(f"{len(gone)} {'would be ' if dry_run else ''}deleted, {total}")
