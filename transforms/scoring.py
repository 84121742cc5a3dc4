"""The Beam job that scores files with a published model: one call per file, one shard each.

It knows of the model what `Model` says; whoever starts the job says how one is loaded.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import io
import json
import pathlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Protocol, TextIO

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from estimator_lib.core import labels, manifest, storage
from estimator_lib.core.config import PredictPart
from estimator_lib.core.errors import (
    ConfigError,
    DataError,
    EstimatorLibError,
    Failure,
    Reason,
    quote,
    raise_first,
)
from estimator_lib.core.progress import Progress
from estimator_lib.core.units import Unit
from estimator_lib.core.values import Logical
from transforms.applying import raw_rows
from transforms.beam import runners
from transforms.reading import files, readers
from transforms.reading.numbers import FLOAT
from transforms.reading.problems import SHOWN, Problems
from transforms.reading.rows import Field, Layout, Rows
from transforms.reading.units import written

KIND = "predictions"
BATCH_ROWS = 8192
Array = np.ndarray[Any, Any]
_TYPES = {"string": "string", "float32": "float", "float64": "float", "int64": "int"}
_CONSTANT = ("all_classes", "all_class_ids")
"""Predictions that are the same for every row."""
_REQUIRED = "Correct the record, or train with a default for the column."


class Model(Protocol):
    """A published model."""

    @property
    def inputs(self) -> Mapping[str, tuple[str, tuple[int | None, ...]]]:
        """The name of each input's dtype, and its shape."""
        ...

    def predict(self, rows: Mapping[str, Array], batch_size: int) -> Mapping[str, Array]:
        """Returns predictions by name, `[rows]` or `[rows, n]`."""
        ...


Load = Callable[[str], Model]
"""Loads the model of a directory; a function of a module, for workers are told its name."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """What a job did.

    Attributes:
        rows: Rows scored.
        left_out: Rows that could not be read and were left out.
        faults: The first faults, one sentence each.
        files: Input files.
        version: The model's directory.
    """

    rows: int
    left_out: int
    faults: Sequence[str]
    files: int
    version: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One file to score, and where its shard goes."""

    file: files.InputFile
    shard: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a task: rows scored and left out and the first faults, or an error."""

    shard: str
    rows: int = 0
    left_out: int = 0
    faults: Sequence[str] = ()
    error: Failure | None = None


def run(
    part: PredictPart,
    version: pathlib.Path,
    load: Load,
    base_dir: str,
    output: pathlib.Path,
    runner_options: Sequence[str],
) -> Scored:
    """Scores files into an artifact: a shard per file, in the order of its rows.

    Args:
        part: What to read and to write.
        version: The model's directory.
        load: Loads it; once per process.
        base_dir: Directory that relative file patterns start from and stay below.
        output: Gets `predictions-<number>-of-<number>.<format>`: the fields of `keep` as text,
            then one column per prediction; committed once.
        runner_options: Beam options; without `--runner` the job runs in this process.

    Raises:
        DataError: a file is missing or damaged, has no rows, or a value is bad.
        SchemaError: a file lacks a field.
        StorageError: the output cannot be written.
    """
    inputs = files.find({"": part.files}, base_dir)
    progress = Progress("predict")
    progress.line(f"predict  {len(inputs)} files with {version}")
    threads = runners.threads(runner_options)
    lineage = _lineage(version)
    layout = _layout(part, lineage, model(load, str(version)))
    with (
        storage.temporary_directory("predict-") as work,
        manifest.committed_artifact(output) as writer,
    ):
        tasks = [
            Task(
                file=file,
                shard=f"predictions-{number:05d}-of-{len(inputs):05d}.{part.output}",
            )
            for number, file in enumerate(inputs)
        ]
        path = pathlib.Path(work) / "done.json"
        score = ScoreFiles(
            part, layout, _units(lineage), _labels(lineage), str(version), load,
            str(writer.directory), threads,
        )  # fmt: skip
        portions = runners.portions(tasks, threads)

        def build(pipeline: beam.Pipeline) -> None:
            shards = (
                pipeline
                | "Files" >> beam.Create(portions, reshuffle=len(portions) > 1)
                | "Score" >> beam.ParDo(score)
            )
            gathered = shards | "Gather" >> beam.combiners.ToList()
            _ = gathered | "Write" >> beam.Map(_write, str(path))

        runners.run(build, runner_options)
        done = [Done(**shard) for shard in json.loads(path.read_text())]
        scored = _summary(done, part, inputs, version)
        writer.kind = KIND
        writer.rows = {shard.shard: shard.rows for shard in done if shard.rows}
        writer.metadata.update(
            rows=scored.rows,
            left_out=scored.left_out,
            faults=list(scored.faults),
            version=version.name,
            model=lineage.get("model"),
            keep=part.keep,
        )
    progress.line(f"predict  {scored.rows:,} rows scored, {scored.left_out:,} left out")
    return scored


@functools.lru_cache(maxsize=1)
def model(load: Load, version: str) -> Model:
    """Returns the model, loaded once per process."""
    return load(version)


class ScoreFiles(beam.DoFn):  # type: ignore[misc, unused-ignore]
    """Tasks -> what became of each; errors are values, for a runner would change them."""

    def __init__(
        self,
        part: PredictPart,
        layout: Layout,
        units: Mapping[str, Unit],
        found: Mapping[str, labels.OneLabel],
        version: str,
        load: Load,
        directory: str,
        threads: int,
    ) -> None:
        self._part = part
        self._layout = layout
        self._units = units
        self._labels = found
        self._version = version
        self._load = load
        self._directory = directory
        self._threads = threads

    def process(self, element: Sequence[Task]) -> Iterator[Done]:
        yield from runners.in_parallel(self._score, element, self._threads)

    def _score(self, task: Task) -> Done:
        try:
            return self._shard(task)
        except EstimatorLibError as error:
            failure = Failure.of(error)
            return Done(shard=task.shard, error=failure)

    def _shard(self, task: Task) -> Done:
        served = model(self._load, self._version)
        rows = left_out = 0
        problems = Problems()
        path = pathlib.Path(self._directory) / task.shard
        with _Shard(path, self._part.output) as shard:
            for chunk in readers.reader(self._part.format).read_rows(task.file, self._layout):
                problems += chunk.problems
                left_out += chunk.left_out
                if problems.total and (self._part.on_bad_rows == "fail" or _unread(chunk)):
                    problems.raise_if_any()
                if chunk.batch.num_rows:
                    table = written(pa.Table.from_batches([chunk.batch]), self._units)
                    inputs = raw_rows.arrays(table.select(sorted(served.inputs)))
                    shard.write(_columns(chunk, served.predict(inputs, BATCH_ROWS), self._labels))
                    rows += chunk.batch.num_rows
        faults = [problem.sentence for problem in problems.first[:SHOWN]]
        return Done(shard=task.shard, rows=rows, left_out=left_out, faults=faults)


class _Shard:
    """One file of predictions, written as rows come; not there if none came."""

    def __init__(self, path: pathlib.Path, output: str) -> None:
        self._path = path
        self._csv = output == "csv"
        self._parquet: pq.ParquetWriter | None = None
        self._text: TextIO | None = None

    def __enter__(self) -> _Shard:
        return self

    def __exit__(self, *_: object) -> None:
        for sink in (self._parquet, self._text):
            if sink is not None:
                sink.close()

    def write(self, table: pa.Table) -> None:
        with storage.storage_errors("write", self._path):
            if not self._csv:
                if self._parquet is None:
                    self._parquet = pq.ParquetWriter(self._path, table.schema)
                self._parquet.write_table(table)
                return
            if self._text is None:
                self._text = self._path.open("w", newline="", encoding="utf-8")
                self._text.write(_header(table.schema.names))
            cells = [_cells(table.column(name)) for name in table.schema.names]
            csv.writer(self._text, lineterminator="\n").writerows(zip(*cells, strict=True))


def neutral(cell: str) -> str:
    """Returns a text that no spreadsheet takes for a formula; numbers are none."""
    risky = cell[:1] in ("=", "+", "-", "@", "\t", "\r") and not FLOAT.fullmatch(cell)
    return f"'{cell}" if risky else cell


def join(directory: pathlib.Path, output: str) -> bytes:
    """Returns all shards of an artifact as the content of one file."""
    found = manifest.read(directory, kind=KIND)
    paths = [storage.safe_join(directory, name) for name in sorted(found.files)]
    if output == "parquet":
        sink = io.BytesIO()
        pq.write_table(pa.concat_tables(pq.read_table(path) for path in paths), sink)
        return sink.getvalue()
    first, *rest = [path.read_bytes() for path in paths]
    with paths[0].open(newline="", encoding="utf-8") as file:
        header = _header(next(csv.reader(file)))
    return first + b"".join(shard[len(header.encode()) :] for shard in rest)


def _summary(
    done: Sequence[Done],
    part: PredictPart,
    inputs: Sequence[files.InputFile],
    version: pathlib.Path,
) -> Scored:
    """What the tasks came to, or the first of their errors."""
    done = sorted(done, key=lambda shard: shard.shard)
    raise_first(Failure(*shard.error) for shard in done if shard.error is not None)
    faults = [fault for shard in done for fault in shard.faults]
    rows = sum(shard.rows for shard in done)
    if not rows:
        why = f"; the first fault: {faults[0]}" if faults else ""
        raise DataError(
            f"The {len(inputs)} files have no row to score: {', '.join(part.files)}{why}",
            reason=Reason.EMPTY_INPUT,
        )
    return Scored(
        rows=rows,
        left_out=sum(shard.left_out for shard in done),
        faults=faults[:SHOWN],
        files=len(inputs),
        version=str(version),
    )


def _layout(part: PredictPart, lineage: Mapping[str, Any], served: Model) -> Layout:
    units = _units(lineage)
    if (part.decimal, part.thousands) != (".", ""):  # said of these files, not of the model's
        units = {name: part.unit(unit.sign) for name, unit in units.items()}
    separators, types = lineage.get("separators", {}), lineage.get("types", {})
    fields = tuple(
        Field(
            name=name,
            type="float" if name in units else _TYPES[dtype],
            several=len(shape) > 1,
            separator=separators.get(name, ""),
            logical=Logical(types[name]) if name in types else None,
            required=name in lineage.get("required", ()),
            dates=name in lineage.get("dates", ()),
            unit=units.get(name),
            action=_REQUIRED if name in lineage.get("required", ()) else "",
        )
        for name, (dtype, shape) in sorted(served.inputs.items())
    )
    return Layout(
        format=part.format,
        **part.dialect,
        missing=tuple(part.missing),
        fields=fields,
        texts=tuple(part.keep),
        encoding=part.encoding,
        quarantine=part.on_bad_rows == "skip",
    )


def _units(lineage: Mapping[str, Any]) -> dict[str, Unit]:
    """How the model's requests write numbers with a unit."""
    return {name: Unit(**unit) for name, unit in lineage.get("units", {}).items()}


def _lineage(version: pathlib.Path) -> Mapping[str, Any]:
    """What the model was made from; empty where it does not say."""
    try:
        found: Mapping[str, Any] = json.loads((version / manifest.LINEAGE).read_text())
    except FileNotFoundError:
        return {}
    return found


def _labels(lineage: Mapping[str, Any]) -> dict[str, labels.OneLabel]:
    """The labels by what the names of their predictions begin with."""
    described = labels.from_json(lineage.get("label", {"kind": "heads", "heads": []}))
    return {f"{head}/" if head else "": own for head, own in labels.heads(described).items()}


def _unread(rows: Rows) -> bool:
    """Whether a stretch of the file, not single rows, could not be read."""
    return bool(rows.problems.total) and not rows.left_out


def _columns(
    rows: Rows, predictions: Mapping[str, Array], found: Mapping[str, labels.OneLabel]
) -> pa.Table:
    """Kept fields, then predictions; one of several numbers becomes several columns.

    Args:
        rows: What was scored.
        predictions: By name.
        found: Labels by what the names of their predictions begin with; columns of several
            classes are called by their names.
    """
    columns: dict[str, Any] = dict(rows.texts)
    for name, values in sorted(predictions.items()):
        head, slash, key = name.rpartition("/")
        label = found.get(f"{head}{slash}")
        if key in _CONSTANT or (key == "classes" and isinstance(label, labels.MultiLabel)):
            continue
        named = () if label is None or isinstance(label, labels.NumberLabel) else label.classes
        flat = values.reshape(len(values), -1)
        width = flat.shape[1]
        endings = named if len(named) == width else range(width)
        for column, ending in zip(flat.T, endings, strict=True):
            title = f"{name}_{ending}" if width > 1 else name
            if title in rows.texts:
                raise ConfigError(
                    f"Field {quote(title)} of predict.keep is called as a prediction of the "
                    "model. Leave it away, or rename it in the data.",
                    reason=Reason.DUPLICATE,
                )
            texts = column.dtype == object
            cells = [cell.decode(errors="replace") for cell in column] if texts else column
            columns[title] = pa.array(cells)
    return pa.table(columns)


def _header(names: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow([neutral(name) for name in names])
    return text.getvalue()


def _cells(column: pa.ChunkedArray) -> list[Any]:
    cells = column.to_pylist()
    return [neutral(cell) for cell in cells] if pa.types.is_string(column.type) else cells


def _write(shards: Sequence[Done], path: str) -> None:
    storage.write_json(path, [dataclasses.asdict(shard) for shard in shards])
