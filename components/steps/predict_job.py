"""Scoring files of raw rows with a published model: what the command and the component share.

This module is light, so that mistakes answer before TensorFlow and Beam are loaded; the job itself
is in `transforms.scoring`.
"""

from __future__ import annotations

import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from components.steps.quiet import startup_lines_hidden
from estimator_lib.core import files, manifest, storage, stores
from estimator_lib.core.config import PredictPart
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.places import Place
from estimator_lib.export import retention

if TYPE_CHECKING:
    from transforms.scoring import Scored


def newest_version(model: stores.Where) -> pathlib.Path:
    """Returns `model` if it is a SavedModel, else its highest numbered version, on this machine.

    Args:
        model: A path or URI.

    Raises:
        DataError: it is damaged.
        ConfigError: it is neither a SavedModel nor a directory of numbered ones.
    """
    found = retention.newest(model)
    if found is None:
        raise ConfigError(
            f"Model {model} is neither a SavedModel nor a directory of numbered versions. Give "
            "the serving directory of a run, such as runs/flights/serving.",
            reason=Reason.FILE_NOT_FOUND,
        )
    return retention.fetch(found)


def score(
    part: PredictPart,
    *,
    model: stores.Where,
    base_dir: str | pathlib.Path,
    output: stores.Where,
    runner_options: Sequence[str] = (),
) -> Scored:
    """Scores files on Beam into an artifact: a shard per file, in the order of its rows.

    Args:
        part: What to read and to write.
        model: A SavedModel, or the directory of its versions, of which the newest is taken; a path
            or URI.
        base_dir: Directory that relative file patterns start from and stay below.
        output: Gets the shards; see `transforms.scoring.run`. Kind "predictions". A path or URI.
        runner_options: Beam options; without `--runner` the job runs in this process.

    Raises:
        ConfigError: there is no model.
        DataError: a file is missing or damaged, has no rows, or a value is bad.
        SchemaError: a file lacks a field.
        StorageError: the output cannot be written.
    """
    target = Place.parse(output)
    if not target.is_local:
        stores.of(target)  # refused before any work
    version = newest_version(model)
    local = [pattern for pattern in part.files if Place.parse(pattern).is_local]
    files.expand(local, base_dir)
    with startup_lines_hidden():
        from estimator_lib.export.saved_model import load_model
        from transforms import scoring

        scoring.model(load_model, str(version))
    if target.is_local:
        return scoring.run(part, version, load_model, str(base_dir), target.path, runner_options)
    with storage.temporary_directory("predictions-") as folder:
        directory = pathlib.Path(folder) / "predictions"
        scored = scoring.run(part, version, load_model, str(base_dir), directory, runner_options)
        _carry(directory, target)
    return scored


def _carry(directory: pathlib.Path, target: Place) -> None:
    """Commits an artifact of this machine as one of a store."""
    found = manifest.read(directory)
    with manifest.committed_artifact(str(target)) as writer:
        writer.kind, writer.metadata = found.kind, dict(found.metadata)
        writer.rows = {n: e.rows for n, e in found.files.items() if e.rows is not None}
        for name in found.files:
            os.rename(directory / name, writer.directory / name)


def score_files(
    patterns: Sequence[str],
    *,
    model: stores.Where,
    output: stores.Where,
    file_format: str | None = None,
    missing: Sequence[str] = ("",),
    csv: Mapping[str, str] | None = None,
    keep: Sequence[str] = (),
    encoding: str = "utf-8",
    skip_bad_rows: bool = False,
) -> Scored:
    """Scores files as a command line names them, into one file or a directory of shards.

    Args:
        patterns: Files or file patterns, paths or URIs; relative ones start from the working
            directory.
        model: A SavedModel, or the directory of its versions; a path or URI.
        output: A file whose name ends in .csv or .parquet, or a new directory; a path or URI.
        file_format: "csv", "parquet" or "tfrecord"; None goes by the name of the first file.
        missing: Texts that stand for a missing value.
        csv: How CSV is written: delimiter, quote, escape, decimal, thousands.
        keep: Input fields that go along.
        encoding: Of CSV, a text encoding of Python's.
        skip_bad_rows: Whether rows that cannot be read are left out; else they are refused.

    Raises:
        EstimatorLibError: as `score`; nothing is written then.
    """
    # A command line names files wherever they are, so each is taken as an absolute path.
    absolute = [str(Place.parse(p).absolute()) for p in patterns]
    target = Place.parse(output)
    single = {".csv": "csv", ".parquet": "parquet"}.get(
        pathlib.PurePath(target.name.lower()).suffix
    )
    part = PredictPart.from_json(
        json.dumps(
            {
                "files": absolute,
                "format": file_format or format_of(absolute[0]),
                "missing": list(missing),
                **(csv or {}),
                "keep": list(keep),
                "output": single or "parquet",
                "encoding": encoding,
                "on_bad_rows": "skip" if skip_bad_rows else "fail",
            }
        )
    )
    here = pathlib.Path.cwd()
    if single is None:
        return score(part, model=model, base_dir=here, output=target)
    if not target.is_local:
        stores.of(target)  # refused before any work
    with storage.temporary_directory() as folder:
        directory = pathlib.Path(folder) / "shards"
        scored = score(part, model=model, base_dir=here, output=directory)
        from transforms import scoring

        stores.write(target, scoring.join(directory, single))
    return scored


def format_of(name: str) -> str:
    """Returns the format that a file's name ends in; of a name without one, csv."""
    base = name.lower().removesuffix(".gz").removesuffix(".zst")
    found = {".parquet": "parquet", ".tfrecord": "tfrecord", ".tfrecords": "tfrecord"}
    return found.get(pathlib.PurePath(base).suffix, "csv")
