"""Files that no run configuration describes: their fields, statistics and anomalies."""

from __future__ import annotations

import codecs
import dataclasses
import os
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from tensorflow_metadata.proto.v0 import schema_pb2, statistics_pb2

from estimator_lib.core import config, manifest, storage
from estimator_lib.core.errors import ConfigError, DataError, Reason, did_you_mean
from transforms.learning import first_pass, statistics
from transforms.reading import csv_reader, files, readers, records, values
from transforms.reading.problems import Problems
from transforms.reading.rows import Field, Layout
from transforms.validating import anomalies, schema_policy, statistics_page

_SUFFIXES = {
    ".csv": "csv",
    ".parquet": "parquet",
    ".tfrecord": "tfrecord",
    ".tfrecords": "tfrecord",
}
_WIDTHS = ("int", "float", "string")
NAME = "data"
"""What the statistics call the files, which are not split."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Dataset:
    """Some files, and how they are read.

    Attributes:
        inputs: The files.
        layout: Their fields.
        slices: Fields whose every value gets statistics of its own.
    """

    inputs: tuple[files.InputFile, ...]
    layout: Layout
    slices: tuple[str, ...] = ()

    @property
    def source(self) -> records.Source:
        """As `records.read` takes it: every row, no label."""
        unused = ["*"]  # files carry their split with them
        split = config.Split(files=config.FileSplit(train=unused, eval=unused))
        return records.Source(
            layout=self.layout,
            split=split,
            labels={},
            weight=None,
            features={},
            keep=(),
            slices=self.slices,
        )


def find(
    patterns: Sequence[str],
    *,
    base_dir: str = ".",
    file_format: str | None = None,
    missing: Sequence[str] = ("",),
    csv: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
    types: Mapping[str, str] | None = None,
    lists: Mapping[str, str] | None = None,
    units: Mapping[str, str] | None = None,
    slices: Sequence[str] = (),
    schema: str | None = None,
) -> Dataset:
    """Returns the files of patterns with all their fields.

    Args:
        patterns: As in a run configuration.
        base_dir: Directory that relative patterns start from and stay below.
        file_format: "csv", "parquet" or "tfrecord"; None goes by the name of the first file.
        missing: Texts that stand for a missing value.
        csv: How CSV is written: delimiter, quote, escape, decimal, thousands, as in a run
            configuration.
        encoding: Of CSV, a text encoding of Python's.
        types: Field -> "string", "int" or "float"; others are the narrowest that fit all rows.
        lists: Field with several values per record -> what stands between them in a text, or
            "". Lists of Parquet, and those among the first tf.Examples, need not be named.
        units: Field of numbers -> the sign that they are written with, such as "%".
        slices: Fields of one value each; every value gets statistics of its own.
        schema: Path of a Schema; fields that are texts there are read as such, in the form that
            the data had which it was made of.

    Raises:
        ConfigError: the format or a type is not known, or there is no such field.
        DataError: no file matches, or one cannot be read.
        SchemaError: a file lacks a field that the first one has.
    """
    encoding = _known(encoding)
    inputs = files.find({NAME: patterns}, base_dir)
    name = file_format or _format_of(inputs[0].name)
    marks = config.csv_dialect(csv or {})
    dialect = marks.dialect
    layout = Layout(format=name, missing=tuple(missing), encoding=encoding, **dialect)
    reader = readers.reader(name)
    names = reader.read_header(inputs[0], layout)
    given = {**(types or {}), **dict.fromkeys(units or {}, "float")}
    texts = {} if schema is None else statistics.text_fields(schema_policy.read_schema(schema))
    texts = {n: kind for n, kind in texts.items() if n in names and n not in given}
    given |= dict.fromkeys(texts, "string")
    separators = dict(lists or {})
    _check_types({**dict.fromkeys(separators, "string"), **given}, names, inputs[0].name)
    if name == "csv":
        inferred = _narrowest_types(inputs, [n for n in names if n not in given], layout)
        inferred |= dict.fromkeys([n for n in separators if n not in given], "string")
    else:
        inferred = reader.infer_types(inputs[0], names, layout)
    fields = tuple(
        Field(
            name=n,
            type=given.get(n) or inferred[n].removesuffix("[]"),
            several=n in separators or inferred.get(n, "").endswith("[]"),
            separator=separators.get(n, ""),
            unit=marks.unit(units[n]) if units and n in units else None,
            logical=texts.get(n),
        )
        for n in names
    )
    _check_slices(slices, {field.name: field.several for field in fields})
    layout = dataclasses.replace(layout, fields=fields, texts=tuple(slices))
    Problems.of(
        problem
        for file in inputs[1:]
        for problem in readers.check_header(
            name, file, reader.read_header(file, layout), layout.names
        )
    ).raise_if_any()
    return Dataset(inputs=tuple(inputs), layout=layout, slices=tuple(slices))


def field_names(
    patterns: Sequence[str],
    *,
    base_dir: str = ".",
    file_format: str | None = None,
    csv: Mapping[str, str] | None = None,
    encoding: str = "utf-8",
) -> list[str]:
    """Returns the fields of the first file; the arguments are those of `find`.

    Raises:
        ConfigError: the format is not known.
        DataError: no file matches, or it cannot be read.
    """
    first = files.find({NAME: patterns}, base_dir)[0]
    known = file_format or _format_of(first.name)
    dialect = config.csv_dialect(csv or {}).dialect
    layout = Layout(format=known, missing=("",), encoding=_known(encoding), **dialect)
    return list(readers.reader(known).read_header(first, layout))


def _check_types(given: Mapping[str, str], names: Sequence[str], file: str) -> None:
    """Raises ConfigError for a type that is none, or of no field of the file."""
    for field, kind in given.items():
        if field not in names or kind not in ("string", "int", "float"):
            raise ConfigError(
                f"Type {kind!r} of field {field!r} cannot be used: expected a field of "
                f"{file} and string, int or float.{did_you_mean(field, names)}",
                reason=Reason.UNKNOWN_NAME,
            )


def _known(encoding: str) -> str:
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except (LookupError, UnicodeError) as error:
        raise ConfigError(
            f"Encoding {encoding!r} is no text encoding. Give one of Python's, such as latin-1.",
            reason=Reason.UNKNOWN_NAME,
        ) from error


def _check_slices(slices: Sequence[str], fields: Mapping[str, bool]) -> None:
    for name in slices:
        if fields.get(name, True):
            found = "one with several values" if name in fields else "none of that name"
            raise ConfigError(
                f"Statistics cannot be divided by {name!r}: expected a field of one value, got "
                f"{found}.{did_you_mean(name, fields)}",
                reason=Reason.UNKNOWN_NAME,
            )


def _narrowest_types(
    inputs: Sequence[files.InputFile], names: Sequence[str], layout: Layout
) -> dict[str, str]:
    """Returns the narrowest type that fits every value of all files; without values, string.

    The first rows are not enough: rainfall is 0 for days and then 0.01.
    """
    as_text = dataclasses.replace(layout, fields=tuple(Field(name=n, type="string") for n in names))
    found: dict[str, int] = {}
    for file in inputs:
        for rows in csv_reader.read_rows(file, as_text):
            for name in names:
                texts = pc.unique(rows.batch.column(name).drop_null()).cast(pa.string())
                if len(texts) and found.get(name) != len(_WIDTHS) - 1:
                    width = _WIDTHS.index(
                        values.narrowest(layout.marks.plain(pc.utf8_trim(texts, " \t")))
                    )
                    found[name] = max(found.get(name, 0), width)
    return {name: _WIDTHS[found[name]] if name in found else "string" for name in names}


def _format_of(name: str) -> str:
    base = name.removesuffix(".gz").removesuffix(".zst")
    found = _SUFFIXES.get(pathlib.PurePath(base).suffix.lower())
    if found is None:
        raise ConfigError(
            f"Format of {name} is not known: expected a name that ends in "
            f"{', '.join(_SUFFIXES)}. Say which format it has.",
            reason=Reason.UNKNOWN_NAME,
        )
    return found


def compute(dataset: Dataset, runner_options: Sequence[str] = ()) -> tuple[Any, Any]:
    """Returns the statistics of a dataset and the schema they suggest.

    Statistics of slices follow those of the whole, largest first, named `field=value`.

    Args:
        dataset: What `find` returned.
        runner_options: Beam options; without `--runner` the job runs in this process.

    Returns:
        DatasetFeatureStatisticsList and Schema.

    Raises:
        DataError: a value is bad; up to twenty places are named.
    """
    parts = [part for file in dataset.inputs for part in readers.divide(file, dataset.layout)]
    analysis = first_pass.analyse(parts, dataset.source, runner_options)
    analysis.raise_if_faulty()
    if NAME not in analysis.splits:
        raise DataError(
            f"The {len(dataset.inputs)} files have no rows. Correct the pattern or the files.",
            reason=Reason.EMPTY_INPUT,
        )
    split = analysis.splits[NAME]
    computed = statistics.dataset_statistics(NAME, split)
    prefix = f"{NAME}/"
    slices = [(n.removeprefix(prefix), s) for n, s in analysis.splits.items() if n != NAME]
    for name, part in sorted(slices, key=lambda item: (-item[1].kept, item[0])):
        computed.MergeFrom(statistics.dataset_statistics(name, part))
    return computed, statistics.infer_schema(
        split, dataset.source.resolved(analysis.logical).logical
    )


def write(
    output: str | os.PathLike[str],
    computed: statistics_pb2.DatasetFeatureStatisticsList,
    schema: schema_pb2.Schema,
    found: Any | None = None,
) -> str:
    """Writes statistics, their page, the schema and, if there are any, anomalies.

    With slices, `slices.html` shows the two largest beside the whole.

    Returns:
        Where they are; of a URI, the directory below it.

    Raises:
        StorageError: the directory holds something else or cannot be written.
    """
    target = os.fspath(output).rstrip("/")  # in an object store, another "/" is another name
    with manifest.committed_artifact(target) as writer:
        judged = {} if found is None else {NAME: found}
        statistics_page.write_statistics(writer, {NAME: computed}, schema, judged)
        if len(computed.datasets) > 1:
            shown = {
                d.name: statistics_pb2.DatasetFeatureStatisticsList(datasets=[d])
                for d in computed.datasets[:3]
            }
            page = statistics_page.render(shown, title="Statistics by slice")
            storage.write_text(writer.directory / "slices.html", page)
    return str(manifest.locate(target))


def judge(
    computed: statistics_pb2.DatasetFeatureStatisticsList,
    schema_path: str | os.PathLike[str],
    *,
    environment: str | None = None,
    previous: str | os.PathLike[str] | None = None,
    serving: str | os.PathLike[str] | None = None,
) -> Any:
    """Returns the Anomalies of statistics against a schema file; see `anomalies.validate`.

    Args:
        computed: DatasetFeatureStatisticsList.
        schema_path: A Schema as text.
        environment: Of the schema, such as "SERVING".
        previous: Statistics of the span before, for drift; a directory or .pb file.
        serving: Statistics of serving data, for skew.

    Raises:
        DataError: a file cannot be read.
        SchemaError: the schema cannot be read.
    """
    before, served = (
        None if path is None else schema_policy.read_statistics(path)
        for path in (previous, serving)
    )
    return anomalies.validate(
        computed,
        schema_policy.read_schema(schema_path),
        environment=environment,
        previous=before,
        serving=served,
    )
