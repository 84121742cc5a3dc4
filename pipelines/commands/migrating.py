"""`migrate`: which lines of programs for tf.estimator need an edit."""

from __future__ import annotations

import pathlib
from collections.abc import Sequence

import click

from estimator_lib import migrate as programs
from pipelines.commands.options import say


@click.command()
@click.argument(
    "paths", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=pathlib.Path)
)
@click.option("--write", is_flag=True, help="make the edits that need no thought")
def migrate(paths: Sequence[pathlib.Path], write: bool) -> None:
    """Tell the edits that programs for tf.estimator 2.15 need.

    Python files, and all below directories, are read and not run. Without --write nothing is
    changed.
    """
    found = programs.read(paths)
    for program in found:
        for edit in program.edits:
            mark = "" if edit.replacement is None else "  [--write]"
            where = f"{program.path}:{edit.line}"
            say(f"{where}: {edit.found or 'import'}: {edit.advice}{mark}")
        if write and any(edit.replacement is not None for edit in program.edits):
            programs.write(program)
    edits = [edit for program in found for edit in program.edits]
    simple = sum(edit.replacement is not None for edit in edits)
    done = "made" if write else "that --write makes"
    say(
        f"{len(found):,} files read, {len(edits):,} edits in "
        f"{sum(bool(program.edits) for program in found):,}: {simple:,} {done}, "
        f"{len(edits) - simple:,} for you"
    )
