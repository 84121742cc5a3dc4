"""Requests of a served model compared with what it was trained on: for the command and the step.

This module is light, so that mistakes answer before the heavy libraries are loaded.
"""

from __future__ import annotations

import dataclasses
import json
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from components.steps import training_data
from components.steps.predict_job import newest_version
from components.steps.quiet import startup_lines_hidden
from estimator_lib.core import description, files, manifest, storage, stores
from estimator_lib.core.errors import ConfigError, DataError, Reason

if TYPE_CHECKING:
    from components.steps.comparison import Distance

KIND = "monitoring"
MAX_SKEW = 0.1
"""The distance of a field from training that is too large, where the schema sets none."""
_LOGS = ("jsonl", "tfrecord")
_ENDINGS = {
    ".jsonl": "jsonl", ".ndjson": "jsonl", ".json": "jsonl", ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord", ".csv": "csv", ".parquet": "parquet",
}  # fmt: skip


@dataclasses.dataclass(frozen=True, kw_only=True)
class Requests:
    """Logged requests, and how they are read.

    Attributes:
        patterns: Files or file patterns.
        format: "jsonl" or "tfrecord" for logs, "csv" or "parquet" for raw rows; None goes by the
            name of the first file.
        csv: How CSV is written: delimiter, quote, escape, decimal, thousands.
        encoding: Of CSV.
        missing: Texts that stand for a missing value in CSV.
    """

    patterns: Sequence[str]
    format: str | None = None
    csv: Mapping[str, str] = dataclasses.field(default_factory=dict)
    encoding: str = "utf-8"
    missing: Sequence[str] = ("",)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Monitored:
    """What a comparison found.

    Attributes:
        model: The version's directory.
        rows: Rows of requests.
        left_out: Requests without rows of the model's inputs.
        faults: The first of these, one sentence each.
        distances: Of each field, largest first.
        anomalies: A line per anomaly, errors first.
        page: The page that shows both sides.
    """

    model: str
    rows: int
    left_out: int
    faults: Sequence[str]
    distances: Sequence[Distance]
    anomalies: Sequence[str]
    page: str

    @property
    def errors(self) -> list[str]:
        """The anomalies that are errors."""
        said = (line for line in self.anomalies if line.startswith("error"))
        return [line.removeprefix("error: ") for line in said]

    @property
    def sentence(self) -> str:
        """What was found, in one sentence."""
        if not self.errors:
            return f"{self.rows:,} rows of requests are as in training."
        more = f" (and {len(self.errors) - 1} more)" if len(self.errors) > 1 else ""
        return f"{self.rows:,} rows of requests differ from training: {self.errors[0]}{more}"


def monitor(
    requests: Requests,
    *,
    model: stores.Where,
    output: str | pathlib.Path,
    statistics: str | None = None,
    schema: str | None = None,
    max_skew: float = MAX_SKEW,
    base_dir: str | pathlib.Path = ".",
    runner_options: Sequence[str] = (),
) -> Monitored:
    """Compares requests with training: each field's distribution, and the schema.

    Args:
        requests: The requests.
        model: A published version, or the directory of versions, of which the newest is taken; a
            path or URI.
        output: Gets monitor.json, statistics.html, the statistics and the anomalies, as one
            artifact.
        statistics: Of training: a directory that preprocess or `statistics` wrote; by default
            those that the model keeps.
        schema: A Schema as text; by default the one beside the statistics.
        max_skew: The distance that is too large for a field without a threshold in the schema.
        base_dir: Directory that relative file patterns start from.
        runner_options: Beam options; without `--runner` the job runs in this process.

    Raises:
        ConfigError: there is no model, or the files' format is not known.
        DataError: a file is missing or damaged, or holds no rows.
        SchemaError: the schema cannot be read.
        StorageError: the output cannot be written.
    """
    version = newest_version(model)
    fields, lineage = _fields(version), _lineage(version)
    kind = requests.format or _format_of(requests.patterns[0])
    paths = files.expand(requests.patterns, base_dir)
    training = (
        training_data.of_model(version) if statistics is None else training_data.of_run(statistics)
    )
    if schema is not None:
        training = dataclasses.replace(training, schema=schema)
    with startup_lines_hidden():
        from components.steps import comparison
    with storage.temporary_directory("monitor-") as work:
        told: tuple[int, list[str]] = (0, [])
        rows = [str(path) for path in paths]
        if kind in _LOGS:
            from components.steps import request_log

            log = pathlib.Path(work) / "requests.parquet"
            converted = request_log.convert(paths, kind, fields, log)
            told, rows, kind = (converted.left_out, converted.faults), [str(log)], "parquet"
        found = comparison.compare(
            dataclasses.replace(requests, patterns=rows, format=kind),
            fields,
            lineage,
            statistics=training.statistics,
            schema=training.schema,
            max_skew=max_skew,
            runner_options=runner_options,
        )
    left_out, faults = told
    result = Monitored(
        model=str(version),
        rows=found.rows,
        left_out=left_out,
        faults=faults,
        distances=found.distances,
        anomalies=found.anomalies,
        page=os.path.join(output, "statistics.html"),
    )
    with manifest.committed_artifact(output) as writer:
        comparison.write(writer, found)
        storage.write_json(writer.directory / "monitor.json", _as_json(result))
        writer.kind = KIND
        writer.metadata.update(model=lineage.get("model"), version=version.name, rows=found.rows)
    return result


def _as_json(result: Monitored) -> dict[str, Any]:
    return {
        "verdict": "differs" if result.errors else "as_trained",
        **dataclasses.asdict(result),
        "distances": [{**dataclasses.asdict(d), "over": d.is_over} for d in result.distances],
        "page": "statistics.html",
    }


def _fields(version: pathlib.Path) -> dict[str, str]:
    """The model's inputs, as its `columns.json` says."""
    try:
        return dict(description.read(version / "assets.extra").raw_fields)
    except DataError as error:
        if error.reason is not Reason.FILE_NOT_FOUND:
            raise
        raise ConfigError(
            f"Model {version} does not say what its inputs are: expected columns.json below "
            "assets.extra, as the export step writes it. Give a model of a run.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error


def _lineage(version: pathlib.Path) -> Mapping[str, Any]:
    try:
        found: Mapping[str, Any] = json.loads((version / manifest.LINEAGE).read_text())
    except FileNotFoundError:
        return {}
    return found


def _format_of(name: str) -> str:
    base = pathlib.PurePath(name.lower().removesuffix(".gz").removesuffix(".zst"))
    found = _ENDINGS.get(base.suffix)
    if found is None:
        raise ConfigError(
            f"Format of {name} is not known: expected a name that ends in "
            f"{', '.join(_ENDINGS)}. Say it: --format jsonl.",
            reason=Reason.UNKNOWN_NAME,
        )
    return found
