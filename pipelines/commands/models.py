"""`models`: the published versions, and going back to one."""

from __future__ import annotations

import json

import click

from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import PLACE, say

with defer_imports(__name__):
    from pipelines import models as published

_serving = click.argument("serving", type=PLACE)
_version = click.option("--version", type=int, help="which version")


@click.group()
def models() -> None:
    """List published models, or go back to one. SERVING is the directory of the versions."""


@models.command("list")
@_serving
def list_(serving: Place) -> None:
    """List the versions, newest first."""
    say(published.table(published.read(serving)))


@models.command()
@_serving
@_version
def show(serving: Place, version: int | None) -> None:
    """Show what made a version, back to its first ancestor. By default the newest."""
    known = published.read(serving)
    chosen = published.choose(known, version)
    published.require_whole(chosen)
    found = {**chosen, "ancestors": published.ancestors(known, chosen)}
    say(json.dumps(found, indent=1))


@models.command()
@_serving
@_version
def rollback(serving: Place, version: int | None) -> None:
    """Publish an older version again. By default the one before the newest."""
    chosen, path = published.rollback(serving, version)
    say(f"version {chosen} is published again as {path}")
