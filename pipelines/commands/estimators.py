"""`estimators`: the ready-made models, for `estimator.name` of a configuration."""

from __future__ import annotations

import click

from pipelines.commands.imports import defer_imports
from pipelines.commands.options import say

with defer_imports(__name__):
    from estimator_lib.core import constructors


@click.group()
def estimators() -> None:
    """List the ready-made Estimators, and show their arguments."""


@estimators.command("list")
def list_() -> None:
    """List the names that estimator.name takes."""
    names = sorted(constructors.signatures())
    width = max(map(len, names))
    for name in names:
        say(f"{name:<{width}}  {constructors.describe(name).about}")


@estimators.command()
@click.argument("name")
def show(name: str) -> None:
    """Show what estimator.args may hold for NAME, with defaults."""
    found = constructors.describe(name)
    say(f"{found.name}: {found.about}\n")
    for argument in found.arguments:
        default = "must be given" if argument.default is None else f"default {argument.default}"
        say(f"  {argument.name} ({default})")
        if argument.about:
            say(f"      {argument.about}")
