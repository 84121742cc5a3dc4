"""Raw files outside a pipeline: statistics, judgement by a schema, the preprocess step alone."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Mapping, Sequence

from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from components.steps.quiet import startup_lines_hidden
from estimator_lib.core import config
from estimator_lib.core.places import Place

with startup_lines_hidden():
    from transforms import dataset
    from transforms import preprocess as job
    from transforms.beam import runners
    from transforms.validating import anomalies


@dataclasses.dataclass(frozen=True, kw_only=True)
class Files:
    """Raw files as a command line gives them.

    Attributes:
        patterns: Files or file patterns; relative ones start from the working directory.
        format: "csv", "parquet" or "tfrecord"; None goes by the name of the first file.
        missing: Texts that stand for a missing value.
        csv: How CSV is written: delimiter, quote, escape, decimal, thousands.
        types: Field -> "string", "int" or "float".
        encoding: Of CSV.
        lists: Field with several values -> what stands between them, or "".
        units: Field of numbers -> the sign that they are written with, such as "%".
        slices: Fields whose every value gets statistics of its own.
        runner_options: Beam options.
    """

    patterns: Sequence[str]
    format: str | None = None
    missing: Sequence[str] = ("",)
    csv: Mapping[str, str] = dataclasses.field(default_factory=dict)
    types: Mapping[str, str] = dataclasses.field(default_factory=dict)
    encoding: str = "utf-8"
    lists: Mapping[str, str] = dataclasses.field(default_factory=dict)
    units: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slices: Sequence[str] = ()
    runner_options: Sequence[str] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Looked:
    """What was seen of raw files: how many there are, their rows and fields."""

    files: int
    rows: int
    fields: int


def statistics(files: Files, output: str) -> tuple[Looked, str]:
    """Writes statistics, their page and a schema of raw files.

    Returns:
        What was seen, and where they are; of a URI, the directory below it.

    Raises:
        EstimatorLibError: see `transforms.dataset.find` and `compute`.
    """
    computed, schema, looked = _compute(files)
    return looked, dataset.write(output, computed, schema)


def validate(
    files: Files,
    schema: str,
    *,
    environment: str | None = None,
    previous: str | None = None,
    serving: str | None = None,
    output: str | None = None,
) -> tuple[Looked, list[str], bool]:
    """Judges raw files by a schema.

    Returns:
        What was seen; a line per anomaly, errors first; whether there is an error.

    Raises:
        EstimatorLibError: a file cannot be read.
    """
    computed, inferred, looked = _compute(files, schema)
    found = dataset.judge(
        computed, schema, environment=environment, previous=previous, serving=serving
    )
    if output is not None:
        dataset.write(output, computed, inferred, found)
    lines = anomalies.describe(found)
    return looked, lines, any(line.startswith("error") for line in lines)


def preprocess(
    part: config.PreprocessPart,
    *,
    base_dir: pathlib.Path,
    output: str,
    runner_options: Sequence[str] = (),
    analysis_cache: str | None = None,
) -> job.PreprocessSummary:
    """Runs the preprocess step alone, into `output`/examples, /transform and /statistics.

    `output` and `analysis_cache` may be URIs.

    Raises:
        EstimatorLibError: see `transforms.preprocess.run`.
    """
    place = Place.parse(output)
    return job.run(
        part,
        base_dir=str(base_dir),
        examples_dir=str(place / "examples"),
        transform_dir=str(place / "transform"),
        statistics_dir=str(place / "statistics"),
        runner_options=runner_options,
        analysis_cache=analysis_cache,
    )


def _compute(
    files: Files, schema: str | None = None
) -> tuple[statistics_pb2.DatasetFeatureStatisticsList, schema_pb2.Schema, Looked]:
    runners.accept(files.runner_options)
    # A command line names files wherever they are, so each is taken as an absolute path.
    patterns = [str(Place.parse(p).absolute()) for p in files.patterns]
    found = dataset.find(
        patterns,
        file_format=files.format,
        missing=files.missing,
        csv=files.csv,
        types=files.types,
        encoding=files.encoding,
        lists=files.lists,
        units=files.units,
        slices=files.slices,
        schema=schema,
    )
    computed, inferred = dataset.compute(found, files.runner_options)
    first = computed.datasets[0]
    looked = Looked(
        files=len(found.inputs), rows=int(first.num_examples), fields=len(first.features)
    )
    return computed, inferred, looked
