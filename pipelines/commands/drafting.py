"""`init`: a configuration drafted from a table."""

from __future__ import annotations

import glob
import os
import pathlib
from collections.abc import Callable, Sequence

import click

from estimator_lib.core import storage
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.places import Place
from pipelines.commands.imports import defer_imports
from pipelines.commands.options import LOCAL_PATH, say

with defer_imports(__name__):
    from pipelines import drafting
    from transforms.validating import table as tables


@click.command()
@click.argument("patterns", nargs=-1, required=True, metavar="TABLE...")
@click.option("--label", required=True, metavar="FIELD", help="the field to predict")
@click.option("--out", type=LOCAL_PATH, metavar="FILE", help="default: the table's name, .yaml")
@click.option(
    "--delimiter", default="", metavar="CHARACTER", help="between the fields of CSV (found out)"
)
@click.option("--encoding", default="", metavar="NAME", help="of CSV (found out)")
def init(
    patterns: Sequence[str], label: str, out: pathlib.Path | None, delimiter: str, encoding: str
) -> None:
    """Draft a configuration that runs, and say what was decided and what to look at.

    TABLE are files of CSV, Parquet or TFRecord, or file patterns. The model is boosted trees where
    LightGBM is installed, else a network.
    """
    path = draft(patterns, label, out, delimiter=delimiter, encoding=encoding, show=say)
    say(f"wrote     {path}; read it, then: estimator-pipelines run {path}")


def draft(
    patterns: Sequence[str],
    label: str,
    out: pathlib.Path | None,
    *,
    delimiter: str = "",
    encoding: str = "",
    show: Callable[[str], None],
) -> pathlib.Path:
    """Writes the configuration that learns a field of a table, and returns where it is.

    Args:
        patterns: The table's files.
        label: The field.
        out: Where to write; None is beside the working directory's files, by the table's name.
        delimiter: Of CSV; "" finds out.
        encoding: Of CSV; "" finds out.
        show: Called with each line for the user.

    Raises:
        ConfigError: the file is there already and says something else, or a name is unknown.
        DataError: see `transforms.validating.table.look` and `pipelines.drafting.draft`.
    """
    seen = tables.look(patterns, delimiter, encoding)
    source = drafting.name_of(patterns[0])
    path = out or pathlib.Path(f"{source}.yaml")
    named = [_from(pattern, path.parent) for pattern in patterns]
    made = drafting.draft(seen, label, named, source)
    for topic, sentence in made.said:
        show(f"{topic:<10}{sentence}")
    for at, sentence in enumerate(made.look_at):
        show(f"{'' if at else 'look at':<10}{sentence}")
    if path.exists() and path.read_text(encoding="utf-8") != made.text:
        raise ConfigError(
            f"{path} is there already, and the draft is another: expected a file that is not. Run "
            f"that one, `estimator-pipelines run {path}`, or delete it.",
            reason=Reason.ALREADY_EXISTS,
        )
    storage.write_bytes(path, made.text.encode())
    return path


def _from(pattern: str, folder: pathlib.Path) -> str:
    """A pattern as a configuration in a folder names it: relative if it is below."""
    if not Place.parse(pattern).is_local:
        return pattern
    whole = os.path.abspath(pattern)
    if os.path.exists(whole):
        whole = glob.escape(whole)
    base = os.path.abspath(folder)
    return os.path.relpath(whole, base) if whole.startswith(f"{base}{os.sep}") else whole
