"""What is learned from the rows: counts, moments, quantiles, vocabularies, per split and field.

An `Analysis` is mergeable and its result is a function of the rows alone (see `sketches`), so
shards, bundles and workers may come in any order. `AnalysisFn` is the Beam CombineFn.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import config, labels, storage, stores
from estimator_lib.core.errors import DataError, EstimatorLibError, Failure, Reason, raise_first
from estimator_lib.core.places import Place
from estimator_lib.core.values import Logical, logical_of
from transforms.learning.bounded_tokens import BoundedTokenCounts
from transforms.learning.sketches import ExactSums, NumberCounts, TokenCounts
from transforms.reading import labels as label_fields
from transforms.reading import values as physical
from transforms.reading.lists import Lists
from transforms.reading.marks import Marks
from transforms.reading.problems import Problem, Problems
from transforms.reading.records import Chunk, Source, SplitRows
from transforms.reading.rows import TEXTS

Array = np.ndarray[Any, Any]


class FieldAnalysis:
    """One field in one split.

    Attributes:
        type: "string", "int" or "float".
        several: Whether a row has any number of values.
        rows: How many rows there were.
        missing: How many of them have no value.
        elements: How many values there are.
        lengths: Counts of how many values a row has, missing ones between others included, of
            rows with several.
        sums: Weights of texts, in units of `WEIGHT_UNIT`, by the field of the weights.
        by_class: Counts of texts by the class of the label; of values that several rows or
            one row has, one for each row.
        numbers: Sums, of a numeric field.
        values: Counts of numbers, of a numeric field.
        tokens: Counts of texts, of a string field; exact if `every_token` was asked for.
        kinds: What these texts are, numbers by the marks of the files; see `values.kinds`.
        marked: Whether one of these texts is a number that Python writes otherwise.
        low: Smallest number; infinity without any.
        high: Largest number; minus infinity without any.
    """

    def __init__(
        self,
        kind: str,
        *,
        several: bool = False,
        every_token: bool = True,
        marks: Marks = Marks(),  # noqa: B008 - it is frozen
    ) -> None:
        self.type = kind
        self._marks = marks
        self.several = several
        self.rows = 0
        self.missing = 0
        self.elements = 0
        self.lengths = NumberCounts()
        self.sums: dict[str, TokenCounts] = {}
        self.by_class: dict[int, TokenCounts] = {}
        self.numbers = ExactSums()
        self.values = NumberCounts()
        self.tokens: TokenCounts | BoundedTokenCounts = (
            TokenCounts() if every_token or kind != "string" else BoundedTokenCounts()
        )
        self.kinds: frozenset[Logical] = frozenset()
        self.marked = False
        self.low = float("inf")
        self.high = float("-inf")

    @property
    def present(self) -> int:
        """How many rows have a value."""
        return self.rows - self.missing

    @property
    def zeros(self) -> int:
        """How many values are 0."""
        values, counts = self.values.values()
        if not self.values.exact:
            inside = np.abs(values) < np.finfo(np.float64).tiny
            return int(counts[inside].sum())
        return int(counts[values == 0].sum())

    def add(self, column: pa.Array) -> None:
        """Adds the values of a batch, null = missing."""
        self.rows += len(column)
        if self.several:
            lists = Lists.of(column)
            lengths, times = np.unique(lists.lengths[lists.lengths > 0], return_counts=True)
            self.missing += len(column) - int(times.sum())
            self.lengths.add(lengths.astype(np.float64), times)
            column = lists.values
        else:
            self.missing += column.null_count
        self.elements += len(column) - column.null_count
        if column.null_count == len(column):
            return
        if self.type == "string":
            distinct, counts = _counted(column)
            self.tokens.add(distinct, counts)
            if self._open:
                plain = self._marks.plain(distinct)
                self.marked |= plain is not distinct and not plain.equals(distinct)
                self._add_kinds(physical.kinds(plain))
            return
        counted = pc.value_counts(column.drop_null() if column.null_count else column)
        distinct, counts = counted.field("values"), counted.field("counts")
        numbers = distinct.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
        times = counts.to_numpy(zero_copy_only=False)
        self.low = min(self.low, float(numbers.min()))
        self.high = max(self.high, float(numbers.max()))
        self.numbers.add(numbers, times)
        self.values.add(numbers, times)

    @property
    def _open(self) -> bool:
        """Whether further texts may change what kinds there are."""
        return Logical.TEXT not in self.kinds

    def _add_kinds(self, kinds: frozenset[Logical]) -> None:
        """Adds kinds; `TEXT` alone is left once it is among them, for it decides."""
        found = self.kinds | kinds
        self.kinds = frozenset({Logical.TEXT}) if Logical.TEXT in found else found

    def write_as(self, logical: Logical) -> None:
        """Counts the texts in the canonical form of a type, as if they had been read so."""
        if logical is Logical.TEXT:
            return
        for counts in (self.tokens, *self.sums.values(), *self.by_class.values()):
            counts.rewrite(lambda texts: physical.canonical(texts, logical))

    def add_weights(self, name: str, column: pa.Array, weights: pa.Array) -> None:
        """Adds texts with their weights: one for each, or one for each row."""
        flat, parents = _flat(column)
        at: Any = parents
        if pa.types.is_list(weights.type):
            # Either list may be shorter, for missing values at its end are dropped.
            lists = Lists.of(weights)
            place = np.arange(len(flat)) - Lists.of(column).splits[parents]
            weights = lists.values
            at = np.where(place < lists.lengths[parents], lists.splits[parents] + place, -1)
        chosen = weights.cast(pa.float64()).take(pa.array(at, mask=at < 0))
        units = np.rint(pc.fill_null(chosen, 0).to_numpy() / WEIGHT_UNIT)
        encoded = flat.dictionary_encode()
        valid = flat.is_valid().to_numpy(zero_copy_only=False)
        codes = encoded.indices.fill_null(0).to_numpy()[valid]
        sums = np.bincount(codes, weights=units[valid], minlength=len(encoded.dictionary))
        mine = self.sums.setdefault(name, TokenCounts())
        mine.add(encoded.dictionary, pa.array(sums.astype(np.int64)))

    def add_classes(self, column: pa.Array, classes: pa.Array) -> None:
        """Adds texts by the class of their row; a text counts once in a row."""
        flat, parents = _flat(column)
        table = pa.table({"token": flat, "row": parents, "label": classes.take(pa.array(parents))})
        table = table.filter(table["token"].is_valid())
        if self.several:
            table = table.group_by(["row", "token", "label"]).aggregate([])
        for label in pc.unique(table["label"]).to_pylist():
            chosen = table["token"].filter(pc.equal(table["label"], label))
            counted = pc.value_counts(chosen)
            mine = self.by_class.setdefault(label, TokenCounts())
            mine.add(counted.field("values"), counted.field("counts"))

    def class_totals(self, label: config.Label) -> Mapping[int, int]:
        """Returns how many rows each class has, by its id; those without any are left out."""
        if label.class_names is None:
            values, times = self.values.values()
            return {int(value): int(count) for value, count in zip(values, times, strict=True)}
        table = self.tokens.to_table()
        ids = labels.class_ids(table["token"].to_pylist(), label.class_names)
        found: dict[int, int] = {}
        for at, count in zip(ids, table["count"].to_pylist(), strict=True):
            found[at] = found.get(at, 0) + int(count)
        return dict(sorted(found.items()))

    def merge(self, other: FieldAnalysis) -> None:
        """Adds what the other has seen."""
        for name, sums in other.sums.items():
            self.sums.setdefault(name, TokenCounts()).merge(sums)
        for label, counts in other.by_class.items():
            self.by_class.setdefault(label, TokenCounts()).merge(counts)
        self.rows += other.rows
        self.missing += other.missing
        self.elements += other.elements
        self.lengths.merge(other.lengths)
        self.low = min(self.low, other.low)
        self.high = max(self.high, other.high)
        self.numbers.merge(other.numbers)
        self.values.merge(other.values)
        self.tokens.merge(other.tokens)  # type: ignore[arg-type]
        self.marked |= other.marked
        self._add_kinds(other.kinds)

    @property
    def every_token(self) -> bool:
        """Whether every distinct text is counted, however many there are."""
        return isinstance(self.tokens, TokenCounts)


@dataclasses.dataclass(kw_only=True)
class SplitAnalysis:
    """One split: rows read and skipped, and its fields."""

    read: int = 0
    skipped: int = 0
    fields: dict[str, FieldAnalysis] = dataclasses.field(default_factory=dict)

    @property
    def kept(self) -> int:
        """Rows that go into the examples."""
        return self.read - self.skipped

    def without(self, names: Collection[str]) -> SplitAnalysis:
        """The split without some fields."""
        fields = {name: field for name, field in self.fields.items() if name not in names}
        return dataclasses.replace(self, fields=fields)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FileAnalysis:
    """One file: its digest and how many rows each split kept of it."""

    sha256: str
    size_bytes: int
    kept: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ranking:
    """What is counted so that vocabularies can be ranked otherwise than by counts.

    Attributes:
        weighted: String field -> fields of weights.
        by_class: String fields to count by the class of the label.
        label: Whose classes these are, or None.
    """

    weighted: Mapping[str, tuple[str, ...]]
    by_class: Collection[str]
    label: config.Label | None

    @classmethod
    def of(cls, source: Source) -> Ranking | None:
        """What a job's columns ask for; None if nothing."""
        if not (source.weighted or source.by_class):
            return None
        return cls(weighted=source.weighted, by_class=source.by_class, label=source.class_label)

    def count(self, split: SplitAnalysis, batch: pa.RecordBatch) -> None:
        """Adds a batch to the fields of its split."""
        for name, weights in self.weighted.items():
            for weight in weights:
                split.fields[name].add_weights(weight, batch.column(name), batch.column(weight))
        if self.label is not None and self.by_class:
            classes = pa.array(label_fields.class_ids(self.label, batch))
            for name in self.by_class:
                split.fields[name].add_classes(batch.column(name), classes)


class Analysis:
    """Everything learned in one pass.

    Attributes:
        splits: By name of the split.
        files: By name of the file.
        problems: Faults in records.
        failures: Errors that ended the reading of a file.
        logical: Of string fields, once they are settled.
        misread: Those that are then numbers, and were read without the marks they have.

    Args:
        every_token: String fields whose distinct texts are all counted; the others are counted
            in bounded memory. None counts all of all.
        ranking: What vocabularies are ranked by besides counts.
        slices: Fields whose every value gets a split of its own; see `slice_name`.
        marks: How the files write numbers in texts.
    """

    def __init__(
        self,
        every_token: Collection[str] | None = None,
        ranking: Ranking | None = None,
        slices: Sequence[str] = (),
        marks: Marks = Marks(),  # noqa: B008 - it is frozen
    ) -> None:
        self._every_token = every_token
        self._slices = tuple(slices)
        self._ranking = ranking
        self._marks = marks
        self.splits: dict[str, SplitAnalysis] = {}
        self.files: dict[str, FileAnalysis] = {}
        self.problems = Problems()
        self.failures: list[Failure] = []
        self.logical: dict[str, Logical] = {}
        self.misread: dict[str, Logical] = {}

    def add(self, chunk: Chunk) -> None:
        """Adds the rows of a chunk."""
        if chunk.problems.total:
            self.problems += chunk.problems
        for name, rows in chunk.by_split.items():
            split = self.splits.setdefault(name, SplitAnalysis())
            split.read += rows.read
            split.skipped += rows.skipped
            self._add_rows(split, rows.batch)
            if self._ranking is not None:
                self._ranking.count(split, rows.batch)
            for field in self._slices:
                self._add_slices(name, field, rows)

    def _add_rows(self, split: SplitAnalysis, batch: pa.RecordBatch) -> None:
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if field.name not in split.fields:
                every = self._every_token is None or field.name in self._every_token
                several = pa.types.is_list(field.type)
                kind = _KINDS[field.type.value_type if several else field.type]
                split.fields[field.name] = FieldAnalysis(
                    kind, several=several, every_token=every, marks=self._marks
                )
            split.fields[field.name].add(column)

    def _add_slices(self, name: str, field: str, rows: SplitRows) -> None:
        """Adds the rows of each value of a field to a split of their own."""
        texts = physical.canonical(rows.texts[field], None)
        for value in pc.unique(texts).to_pylist():
            chosen = rows.batch.filter(pc.equal(texts, value))
            split = self.splits.setdefault(slice_name(name, field, value), SplitAnalysis())
            split.read += chosen.num_rows
            self._add_rows(split, chosen)
        if len(self.splits) > MAX_SLICES:
            raise DataError(
                f"Statistics by {field!r} have too many slices: expected at most "
                f"{MAX_SLICES:,}, got more. Choose a field with few values.",
                reason=Reason.TOO_MANY_VALUES,
            )

    def seal(self) -> None:
        """Ends a file; see `bounded_tokens`."""
        for split in self.splits.values():
            for field in split.fields.values():
                if isinstance(field.tokens, BoundedTokenCounts):
                    field.tokens.seal()

    def fail(self, error: EstimatorLibError) -> None:
        """Remembers an error that ended the reading of a file."""
        self.failures.append(Failure.of(error))

    def merge(self, other: Analysis) -> None:
        """Adds what the other has seen."""
        for name, theirs in other.splits.items():
            mine = self.splits.setdefault(name, SplitAnalysis())
            mine.read += theirs.read
            mine.skipped += theirs.skipped
            for field, analysis in theirs.fields.items():
                if field not in mine.fields:
                    mine.fields[field] = FieldAnalysis(
                        analysis.type, several=analysis.several, every_token=analysis.every_token
                    )
                mine.fields[field].merge(analysis)
        self.files.update(other.files)
        self.problems += other.problems
        self.failures += other.failures

    def settle(self, known: Mapping[str, Logical]) -> None:
        """Finds the logical type of every string field over all splits, and counts by it.

        Args:
            known: The types of fields whose texts have been read by them already.
        """
        kinds: dict[str, set[Logical]] = {}
        for split in self.splits.values():
            for name, field in split.fields.items():
                if field.type == "string":
                    kinds.setdefault(name, set()).update(field.kinds)
        found = {name: logical_of(kinds[name]) for name in sorted(kinds.keys() - known.keys())}
        for split in self.splits.values():
            for name in found.keys() & split.fields.keys():
                split.fields[name].write_as(found[name])
                if split.fields[name].marked and found[name] is not Logical.TEXT:
                    self.misread[name] = found[name]
        self.logical = {**found, **{name: known[name] for name in known.keys() & kinds.keys()}}

    def raise_if_faulty(self) -> None:
        """Raises the first failure, or one error for all faults in records.

        Raises:
            DataError: a file or a value is bad.
            SchemaError: a file lacks a field.
        """
        raise_first(self.failures)
        self.problems.raise_if_any()

    @property
    def fingerprint(self) -> str:
        """SHA-256 over the names and contents of all files, in hexadecimal."""
        content = {name: file.sha256 for name, file in self.files.items()}
        return hashlib.sha256(storage.canonical_json(content).encode()).hexdigest()

    def write(self, path: str, *, ordered: bool = False) -> None:
        """Writes what `to_bytes` gives to a file, or a URI."""
        stores.write(path, self.to_bytes(ordered=ordered))

    def to_bytes(self, *, ordered: bool = False) -> bytes:
        """Returns the analysis as an Arrow file with its scalars as JSON in the metadata.

        Args:
            ordered: Whether tokens are put in order, so that equal analyses give equal bytes.
        """
        tables: list[pa.Table] = []
        entries: list[dict[str, Any]] = []
        for split_name, split in sorted(self.splits.items()):
            for name, field in sorted(split.fields.items()):
                level, keys, counts = field.values.to_arrays()
                tokens = field.tokens.to_table(ordered=ordered)
                tables.append(_rows(len(entries), keys=keys, counts=counts, tokens=tokens))
                entries.append(
                    {
                        "split": split_name,
                        "field": name,
                        "type": field.type,
                        "rows": field.rows,
                        "missing": field.missing,
                        "elements": field.elements,
                        "lengths": _listed(field.lengths) if field.several else None,
                        "numbers": field.numbers.to_json(),
                        "level": level,
                        "low": field.low.hex(),
                        "high": field.high.hex(),
                        "kinds": sorted(field.kinds),
                        "marked": field.marked,
                        "bounded": field.tokens.to_json()
                        if isinstance(field.tokens, BoundedTokenCounts)
                        else None,
                    }
                )
                more: list[tuple[list[Any], TokenCounts]] = []
                more += [(["sums", n], c) for n, c in sorted(field.sums.items())]
                more += [(["by_class", n], c) for n, c in sorted(field.by_class.items())]
                for place, ranked in more:
                    tokens = ranked.to_table(ordered=ordered)
                    tables.append(_rows(len(entries), keys=[], counts=[], tokens=tokens))
                    entries.append({"split": split_name, "field": name, "of": place})
        content = {
            "entries": entries,
            "splits": {n: [s.read, s.skipped] for n, s in self.splits.items()},
            "files": {n: dataclasses.asdict(f) for n, f in self.files.items()},
            "problems": [
                self.problems.total,
                [dataclasses.asdict(p) for p in self.problems.first],
                self.problems.kept,
            ],
            "failures": self.failures,
        }
        table = pa.concat_tables(tables) if tables else _ROWS.empty_table()
        table = table.replace_schema_metadata({"analysis": storage.canonical_json(content)})
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table)
        return sink.getvalue().to_pybytes()  # type: ignore[no-any-return, unused-ignore]

    @classmethod
    def read(cls, path: str) -> Analysis:
        """Reads what `write` wrote.

        Raises:
            DataError: the file is not such an analysis.
        """
        try:
            with _opened(path) as stored:
                table = pa.ipc.open_file(stored).read_all()
                content = json.loads(table.schema.metadata[b"analysis"])
                analysis = cls._from_content(content, table)
        except EstimatorLibError:
            raise
        except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"Analysis {path} cannot be read: {error}. Delete it and run again.",
                reason=Reason.CORRUPT_FILE,
            ) from error
        return analysis

    @classmethod
    def _from_content(cls, content: Mapping[str, Any], table: pa.Table) -> Analysis:
        analysis = cls()
        for name, (read, skipped) in content["splits"].items():
            analysis.splits[name] = SplitAnalysis(read=read, skipped=skipped)
        ends = np.searchsorted(table["entry"].to_numpy(), np.arange(len(content["entries"]) + 1))
        for i, entry in enumerate(content["entries"]):
            if "of" in entry:
                of, key = entry["of"]
                table_of = table.slice(int(ends[i]), int(ends[i + 1] - ends[i]))
                counts_of = TokenCounts.from_table(table_of.select(["token", "count"]))
                field = analysis.splits[entry["split"]].fields[entry["field"]]
                getattr(field, of)[key] = counts_of
                continue
            field = FieldAnalysis(entry["type"], several=entry["lengths"] is not None)
            field.rows, field.missing = entry["rows"], entry["missing"]
            field.elements = entry["elements"]
            if field.several:
                level, keys, counts = entry["lengths"]
                field.lengths = NumberCounts.from_arrays(
                    level, np.array(keys, np.int64), np.array(counts, np.int64)
                )
            field.numbers = ExactSums.from_json(entry["numbers"])
            field.low, field.high = float.fromhex(entry["low"]), float.fromhex(entry["high"])
            field.kinds = frozenset(Logical(kind) for kind in entry["kinds"])
            field.marked = entry["marked"]
            rows = table.slice(int(ends[i]), int(ends[i + 1] - ends[i]))
            if entry["type"] == "string" and entry["bounded"] is not None:
                field.tokens = BoundedTokenCounts.from_table(
                    rows.select(["token", "count", "key"]).rename_columns(
                        ["token", "count", "kind"]
                    ),
                    entry["bounded"],
                )
            elif entry["type"] == "string":
                field.tokens = TokenCounts.from_table(rows.select(["token", "count"]))
            else:
                field.values = NumberCounts.from_arrays(
                    entry["level"], rows["key"].to_numpy(), rows["count"].to_numpy()
                )
            analysis.splits[entry["split"]].fields[entry["field"]] = field
        analysis.files = {n: FileAnalysis(**f) for n, f in content["files"].items()}
        total, first, kept = content["problems"]
        analysis.problems = Problems.of(
            [Problem(**{**p, "reason": Reason(p["reason"])}) for p in first],
            total=total,
            kept=kept,
        )
        analysis.failures = [Failure(*failure) for failure in content["failures"]]
        return analysis


def _opened(path: str) -> Any:
    if Place.parse(path).is_local:
        return pa.memory_map(path)
    return pa.BufferReader(stores.read(path))


MAX_SLICES = 1000
"""Splits and slices that are told apart at most."""


def slice_name(split: str, field: str, value: str) -> str:
    """What `Analysis.splits` calls the rows of a split with one value of a field."""
    return f"{split}/{field}={value}"


WEIGHT_UNIT = 2.0**-20
"""Weights are added up as integers of this unit, so that their order does not matter."""


def _counted(column: pa.Array) -> tuple[pa.Array, pa.Array]:
    """The different texts of a column, and how often each is there."""
    encoded = column.dictionary_encode()
    times = np.bincount(encoded.indices.drop_null(), minlength=len(encoded.dictionary))
    if times.all():
        return encoded.dictionary, pa.array(times)
    return encoded.dictionary.filter(pa.array(times > 0)), pa.array(times[times > 0])


def _flat(column: pa.Array) -> tuple[pa.Array, Any]:
    """The values of a column and the row of each."""
    if not pa.types.is_list(column.type):
        return column.cast(pa.string()), np.arange(len(column))
    lists = Lists.of(column)
    return lists.values, lists.parents


_KINDS = {pa.string(): "string", TEXTS: "string", pa.int64(): "int", pa.float64(): "float"}
_ROWS = pa.schema(
    [
        ("entry", pa.int32()),
        ("token", pa.large_string()),
        ("key", pa.int64()),
        ("count", pa.int64()),
    ]
)


def _listed(counts: NumberCounts) -> list[Any]:
    level, keys, times = counts.to_arrays()
    return [level, keys.tolist(), times.tolist()]


def _rows(
    entry: int, *, keys: Sequence[int] | Array, counts: Sequence[int] | Array, tokens: pa.Table
) -> pa.Table:
    if tokens.num_rows:
        columns = {
            "token": tokens["token"],
            "key": tokens["kind"]
            if "kind" in tokens.column_names
            else pa.nulls(tokens.num_rows, pa.int64()),
            "count": tokens["count"],
        }
    else:
        columns = {"token": pa.nulls(len(keys), pa.large_string()), "key": keys, "count": counts}
    number = len(columns["key"])
    return pa.table({"entry": np.full(number, entry, np.int32), **columns}, schema=_ROWS)


class AnalysisFn(beam.CombineFn):  # type: ignore[misc, unused-ignore]
    """Combines chunks of rows, and analyses of other rows, into one Analysis."""

    def create_accumulator(self) -> Analysis:
        return Analysis()

    def add_input(self, accumulator: Analysis, element: Chunk | Analysis) -> Analysis:
        if isinstance(element, Analysis):
            accumulator.merge(element)
        else:
            accumulator.add(element)
        return accumulator

    def merge_accumulators(self, accumulators: Iterable[Analysis]) -> Analysis:
        merged = Analysis()
        for accumulator in accumulators:
            merged.merge(accumulator)
        return merged

    def extract_output(self, accumulator: Analysis) -> Analysis:
        return accumulator
