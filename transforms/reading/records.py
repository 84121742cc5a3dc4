"""The rows of a job: what both passes read of a file, split, labelled and checked alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from estimator_lib.core import columns as fc
from estimator_lib.core import config
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.units import Unit
from estimator_lib.core.values import Logical
from transforms.reading import labels as label_fields
from transforms.reading import readers, splits
from transforms.reading import values as physical
from transforms.reading.files import InputFile
from transforms.reading.problems import Problem, Problems
from transforms.reading.rows import Field, Layout, ReadSummary, Rows, extended


class Derived(Protocol):
    """A user's learned function; see `user_function.Derived`."""

    @property
    def directory(self) -> str: ...
    @property
    def inputs(self) -> Mapping[str, str]: ...
    @property
    def outputs(self) -> Mapping[str, str]: ...
    @property
    def digest(self) -> str: ...
    @property
    def logical(self) -> Mapping[str, Logical]: ...

    def apply(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """Returns the outputs for the rows."""
        ...


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """How the files of a job are read.

    Attributes:
        layout: Fields, their types and limits.
        split: Which rows go where.
        labels: Fields and policy by head, as a run configuration has them; none for rows
            without label.
        weight: Field, or None.
        features: Raw field that a column reads -> type its transform takes; "string[]", "int[]"
            or "float[]" where a record has several values.
        keep: Fields that go along as text.
        keep_raw: Whether the eval rows are also kept as they were.
        every_token: Fields of which a vocabulary is learned, so that all texts are counted.
        weighted: Such a field -> the fields whose sums rank its values.
        by_class: Such fields whose values are counted for each class of the label.
        derived: A user's learned function, whose outputs are fields too.
        outputs: These fields, with their limits.
        along: Those of them that no column reads, and are features as they are -> type.
        slices: Fields whose every value is analysed by itself too.
        ages: Columns of ages that learn of them, by the name of the field made for it.
    """

    layout: Layout
    split: config.Split
    labels: Mapping[str, config.Label]
    weight: str | None
    features: Mapping[str, str]
    keep: tuple[str, ...]
    keep_raw: bool = False
    every_token: frozenset[str] = frozenset()
    weighted: Mapping[str, tuple[str, ...]] = dataclasses.field(default_factory=dict)
    by_class: frozenset[str] = frozenset()
    derived: Derived | None = None
    outputs: Layout = dataclasses.field(default_factory=Layout)
    along: Mapping[str, str] = dataclasses.field(default_factory=dict)
    slices: tuple[str, ...] = ()
    ages: Mapping[str, fc.AgeColumn] = dataclasses.field(default_factory=dict)

    @property
    def logical(self) -> dict[str, Logical]:
        """The logical types of string fields, as far as they are known."""
        return {f.name: f.logical for f in self.layout.fields if f.logical is not None}

    def resolved(self, logical: Mapping[str, Logical]) -> Source:
        """Returns the source with texts read as what they are."""
        return dataclasses.replace(self, layout=self.layout.resolved(logical))

    @property
    def class_label(self) -> config.Label | None:
        """The label whose classes may rank vocabularies: the only one with classes."""
        found = [label for label in self.labels.values() if label.kind == "class"]
        return found[0] if len(found) == 1 else None

    @property
    def raw_fields(self) -> dict[str, str]:
        """What a request must give: the fields of the files that a column or function reads."""
        given = self.derived.outputs if self.derived is not None else {}
        read = {name: kind for name, kind in self.features.items() if name not in given}
        read |= self.derived.inputs if self.derived is not None else {}
        return {name: "string" if name in self.units else kind for name, kind in read.items()}

    @property
    def units(self) -> dict[str, Unit]:
        """How the fields with a unit are written: a request may give texts of them."""
        return self.layout.units


@dataclasses.dataclass(frozen=True, kw_only=True)
class SplitRows:
    """Rows of one split: typed columns, texts, and how many were left out for want of a label."""

    batch: pa.RecordBatch
    texts: Mapping[str, pa.Array]
    read: int
    skipped: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chunk:
    """Some rows of a file, by split, and the faults among them."""

    by_split: Mapping[str, SplitRows]
    problems: Problems


def feature_types(
    columns: Iterable[fc.Column],
    declared: Mapping[str, str],
    inferred: Mapping[str, str],
    lists: Container[str] = (),
) -> dict[str, str]:
    """Returns the raw fields that columns read with the type their transform takes.

    A field that only a missing indicator reads takes its declared type, else the inferred one.

    Args:
        columns: All columns.
        declared: Field -> type.
        inferred: The same, for fields that nothing declares.
        lists: Fields with several values per record.

    Raises:
        ConfigError: a field is declared as text and read as a number, or has several values
            and is read as one.
    """
    columns = list(columns)
    fc.check_list_fields(columns, lists)
    read = fc.raw_fields(columns)
    for name in indicator_only(columns):
        read[name] = declared.get(name, inferred.get(name, "string"))
    for name, kind in read.items():
        if declared.get(name) == "string" and kind != "string":
            raise ConfigError(
                f"Field {name!r} is declared as string under data.types and read as {kind} by a "
                "column. Correct the type or the column.",
                reason=Reason.CONFLICT,
            )
    return {name: f"{kind}[]" if name in lists else kind for name, kind in read.items()}


def indicator_only(columns: Iterable[fc.Column]) -> list[str]:
    """Returns the fields that nothing but missing indicators reads."""
    return fc.fields_of_any_type(columns)


def source(
    part: config.PreprocessPart,
    columns: Mapping[str, fc.Column],
    inferred: Mapping[str, str],
    derived: Derived | None = None,
) -> Source:
    """Returns how the files of a preprocess step are read.

    Args:
        part: The step's configuration.
        columns: Its columns.
        inferred: Types of fields that nothing declares.
        derived: The user's function, once it has learned.
    """
    given = derived.outputs if derived is not None else {}
    features = _features(part, columns, inferred, given)
    vocabularies = _vocabularies(columns.values())
    weights = {v.weight for _, v in vocabularies if v.weight}
    fields = _fields(part, columns, features, given)
    _hold_weights(fields, weights - given.keys())
    layout = _layout(part, columns, fields, vocabularies)
    classes = [str(label.field) for label in part.heads.values() if label.class_names]
    found = Source(
        layout=layout,
        split=part.data.split,
        labels=part.heads,
        weight=part.weight,
        features=features,
        keep=tuple(part.keep),
        keep_raw=part.keep_raw,
        every_token=frozenset([*(key for key, _ in vocabularies), *classes]),
        weighted={
            name: tuple(sorted({v.weight for key, v in vocabularies if key == name and v.weight}))
            for name in sorted({key for key, v in vocabularies if v.weight})
        },
        by_class=frozenset(key for key, v in vocabularies if v.informative),
        derived=derived,
        outputs=_outputs(given, layout, columns, weights),
        along=_along(features, given),
        ages=_learned_ages(columns.values(), fields),
    )
    if found.by_class and found.class_label is None:
        kinds = ", ".join(repr(label.kind) for label in part.heads.values())
        raise ConfigError(
            "A vocabulary is ranked by mutual information, which needs one label of kind 'class', "
            f"got {kinds}. Rank it by count.",
            reason=Reason.CONFLICT,
        )
    return found


def _features(
    part: config.PreprocessPart,
    columns: Mapping[str, fc.Column],
    inferred: Mapping[str, str],
    given: Mapping[str, str],
) -> dict[str, str]:
    """The fields that columns read, those that the user's function gives among them."""
    known = {**part.data.kinds, **{name: kind.removesuffix("[]") for name, kind in given.items()}}
    several = {
        *part.data.fields,
        *(name for name, kind in given.items() if kind.endswith("[]")),
    }
    features = feature_types(columns.values(), known, inferred, several)
    _check_given(features, given)
    return features


def _fields(
    part: config.PreprocessPart,
    columns: Mapping[str, fc.Column],
    features: Mapping[str, str],
    given: Mapping[str, str],
) -> dict[str, Field]:
    """The fields to read of the files, by name; a later use of a field limits it further."""
    fields = {
        name: _feature_field(name, kind, part, columns)
        for name, kind in features.items()
        if name not in given
    }
    for name in [*part.keep, *part.data.split.fields]:
        fields.setdefault(name, Field(name=name, type="string"))
    for name, kind in part.data.kinds.items():
        if name not in features:
            fields[name] = Field(name=name, type=kind)
    classes = [str(label.field) for label in part.heads.values() if label.values is not None]
    for name in {*part.data.as_written, *classes} & fields.keys():
        named = name in classes
        fields[name] = dataclasses.replace(fields[name], logical=Logical.TEXT, classes=named)
    for name, declared in part.data.fields.items():
        separator = declared.separator or ""
        fields[name] = dataclasses.replace(fields[name], several=True, separator=separator)
    for label in part.heads.values():
        fields |= label_fields.fields(label)
    if part.weight is not None:
        fields[part.weight] = Field(
            name=part.weight,
            type="float",
            low=0,
            reason=Reason.WEIGHT_OUT_OF_RANGE,
            role="Weight",
        )
    for name, unit in part.data.written_with.items():
        if features.get(name) == "string":
            raise ConfigError(
                f"Field {name!r} has a unit under data.units and is read as text by a column. "
                "Remove one of them.",
                reason=Reason.CONFLICT,
            )
        if name in fields and fields[name].type != "string":
            fields[name] = dataclasses.replace(fields[name], type="float", unit=unit)
    return fields


def _hold_weights(fields: dict[str, Field], weights: Iterable[str]) -> None:
    """Holds the fields whose sums rank vocabularies to numbers that are not negative."""
    for weight in sorted(weights):
        amount = fields.setdefault(weight, Field(name=weight, type="float"))
        if amount.type == "string":
            raise ConfigError(
                f"Field {weight!r} ranks a vocabulary and is read as text: expected a number. "
                "Correct its type.",
                reason=Reason.CONFLICT,
            )
        fields[weight] = dataclasses.replace(amount, low=max(amount.low or 0, 0))


def _layout(
    part: config.PreprocessPart,
    columns: Mapping[str, fc.Column],
    fields: Mapping[str, Field],
    vocabularies: Sequence[tuple[str, fc.Vocabulary]],
) -> Layout:
    lists = part.data.fields
    ranked = {(key, v.weight) for key, v in vocabularies if v.weight in lists}
    return Layout(
        format=part.data.format,
        **part.data.dialect,
        missing=tuple(part.data.missing),
        encoding=part.data.encoding,
        quarantine=part.data.on_bad_rows == "quarantine",
        fields=tuple(fields.values()),
        texts=tuple(dict.fromkeys([*part.keep, *part.data.split.fields])),
        pairs=tuple(sorted({*_pairs(columns.values(), lists), *ranked})),
    )


def _vocabularies(columns: Iterable[fc.Column]) -> list[tuple[str, fc.Vocabulary]]:
    """The vocabularies to learn, each with the field that it is learned of."""
    return [
        (key, part)
        for column in fc.walk(columns)
        for key, part in fc.open_parts(column)
        if isinstance(part, fc.Vocabulary)
    ]


def _along(features: Mapping[str, str], given: Mapping[str, str]) -> dict[str, str]:
    """What the user's function gives and no column reads: features as they are."""
    along = {name: kind for name, kind in given.items() if name not in features}
    texts = [name for name, kind in along.items() if kind.startswith("string")]
    if texts:
        raise ConfigError(
            f"preprocess.function gives the text {texts[0]!r}, which no column reads: a model is "
            "fed numbers only. Add a column, or do not return it.",
            reason=Reason.CONFLICT,
        )
    return along


def _learned_ages(columns: Iterable[fc.Column], fields: Container[str]) -> dict[str, fc.AgeColumn]:
    """The columns of ages that learn of them, by the name of the field that is made for it."""
    found = {
        c.name: c for c in fc.walk(columns) if isinstance(c, fc.AgeColumn) and fc.open_parts(c)
    }
    for name, column in found.items():
        if name in fields:
            raise ConfigError(
                f"Column {name!r} learns of the ages of {column.key!r} under that name, which a "
                "field of the data has too. Rename the field.",
                reason=Reason.DUPLICATE,
            )
    return found


def _outputs(
    given: Mapping[str, str],
    layout: Layout,
    columns: Mapping[str, fc.Column],
    weights: Container[str | None],
) -> Layout:
    """The fields that a function gives, held to what columns can take of them."""
    fields, dates = [], date_fields(columns.values())
    for name, kind in given.items():
        ids = _identity(name, columns)
        fields.append(
            Field(
                name=name,
                type=kind.removesuffix("[]"),
                several=kind.endswith("[]"),
                low=-1 if ids is not None else 0 if name in weights else None,
                high=ids.buckets - 1 if ids is not None else None,
                role="Output of preprocess.function",
                action="Correct the function, or the column that reads it.",
                logical=Logical.TEXT,
                dates=name in dates,
            )
        )
    return Layout(missing=(), fields=tuple(fields), quarantine=layout.quarantine)


def _check_given(features: Mapping[str, str], given: Mapping[str, str]) -> None:
    """Refuses a column that reads a number where the function gives a text, or the reverse."""
    for name in sorted(features.keys() & given.keys()):
        read, got = features[name].removesuffix("[]"), given[name].removesuffix("[]")
        if read != got and (read, got) != ("float", "int"):
            raise ConfigError(
                f"preprocess.function gives {name!r} as {got} and a column reads it as {read}. "
                "Correct the column or the function.",
                reason=Reason.TYPE_MISMATCH,
            )


def _pairs(columns: Iterable[fc.Column], lists: Container[str]) -> set[tuple[str, str]]:
    """Fields with several values, each beside the field with their weights."""
    return {
        (name, column.weight_feature_key)
        for column in fc.walk(columns)
        if isinstance(column, fc.WeightedColumn)
        for name in fc.raw_fields([column.categorical_column])
        if name in lists
    }


def _feature_field(
    name: str, kind: str, part: config.PreprocessPart, columns: Mapping[str, fc.Column]
) -> Field:
    kind = kind.removesuffix("[]")
    reading = "int" if kind == "float" and part.data.kinds.get(name) == "int" else kind
    if (ids := _identity(name, columns)) is not None:
        return Field(name=name, type="int", low=-1, high=ids.buckets - 1)
    return Field(name=name, type=reading, dates=name in date_fields(columns.values()))


def date_fields(columns: Iterable[fc.Column]) -> list[str]:
    """Returns the fields that columns of dates read, in order."""
    dates = [c for c in fc.walk(columns) if isinstance(c, fc.DateColumn)]
    return sorted({field for column in dates for field in column.reads})


def _identity(name: str, columns: Mapping[str, fc.Column]) -> fc.IdentityColumn | None:
    """The column that takes a field as ids and nothing else, if there is one."""
    for column in fc.walk(columns.values()):
        if isinstance(column, fc.IdentityColumn) and column.key == name:
            return column if column.default_value is None else None
    return None


def read(file: InputFile, source: Source, summary: ReadSummary | None = None) -> Iterator[Chunk]:
    """Yields the rows of a file in its order; see `rows.Reader` for what it raises."""
    for rows in readers.reader(source.layout.format).read_rows(
        file, source.layout, summary=summary
    ):
        if source.derived is not None:
            rows = extended(file, source.outputs, rows, source.derived.apply(rows.batch))
        for name, column in source.ages.items():
            batch = rows.batch.append_column(name, _ages(rows.batch, column))
            rows = dataclasses.replace(rows, batch=batch)
        checked = judge(file, source, rows)
        skip, bad, problems = checked.skip, checked.bad, checked.problems
        by_split = {}
        assigned = splits.assign(source.split, rows.texts, file.split)
        unplaced = assigned.pop(splits.UNPLACED, None)
        if unplaced is not None and unplaced.any():
            problems += _unplaced(file, source, unplaced, rows)
            bad |= unplaced
        for name, mask in assigned.items():
            chosen = ~bad if mask is None else mask & ~bad
            count = int(chosen.sum())
            if count:
                by_split[name] = _chosen(rows, chosen & ~skip, count)
        yield Chunk(by_split=by_split, problems=problems)


def _ages(batch: pa.RecordBatch, column: fc.AgeColumn) -> pa.Array:
    """The ages of rows, float64 in the column's unit; null where one is missing."""

    def moments(field: str) -> np.ndarray[Any, Any]:
        encoded = batch.column(field).dictionary_encode()
        known = np.append(physical.seconds(encoded.dictionary), np.nan)
        return known[encoded.indices.fill_null(len(known) - 1).to_numpy()]

    if column.until_field is not None:
        until: Any = moments(column.until_field)
    else:
        until = physical.seconds(pa.array([column.until]))[0]
    ages = (until - moments(column.key)) / column.unit_seconds
    return pa.array(ages, mask=np.isnan(ages))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """Which rows have what they must have.

    Attributes:
        skip: Rows left out for want of a label, `[rows]`.
        bad: Rows at fault, `[rows]`.
        problems: The faults, those of reading included.
    """

    skip: np.ndarray[Any, Any]
    bad: np.ndarray[Any, Any]
    problems: Problems


def judge(file: InputFile, source: Source, rows: Rows) -> Judged:
    """Returns which rows lack a label or weight, or have a label that is no class."""
    batch, problems = rows.batch, rows.problems
    skip, bad = np.zeros(batch.num_rows, bool), np.zeros(batch.num_rows, bool)
    needed = []
    for head, label in source.labels.items():
        place = f"labels.{head}" if head else "label"
        for field, absent in label_fields.absent(label, batch).items():
            if label.missing == "skip":
                skip |= absent
            else:
                advice = f"Correct the row, or set {place}.missing to skip."
                needed.append(("Label", field, absent, advice))
    if source.weight is not None:
        absent = batch.column(source.weight).is_null().to_numpy(zero_copy_only=False)
        needed.append(
            ("Weight", source.weight, absent, "Correct the row, or leave the weight away.")
        )
    for role, field, absent, advice in needed:
        text = f"{role} {field!r} is missing: expected a value, got none"
        texts = dict.fromkeys(np.flatnonzero(absent & ~skip).tolist(), text)
        problems += _faults(file, source, rows, field, texts, advice, Reason.MISSING_VALUE)
        bad[list(texts)] = True
    for label in source.labels.values():
        place = "values" if label.values is not None else "classes"
        listed = quote(list(label.values or label.class_names or ()), 60)
        texts = {
            row: f"Label {label.field!r} has an unknown class: expected one of {listed}, got "
            f"{quote(value)}"
            for row, value in label_fields.unlisted(label, batch).items()
            if not skip[row]
        }
        advice = f"Correct the value, or list it under the label's {place}."
        problems += _faults(
            file, source, rows, str(label.field), texts, advice, Reason.LABEL_OUT_OF_RANGE
        )
        bad[list(texts)] = True
    return Judged(skip=skip, bad=bad, problems=problems)


def _chosen(rows: Rows, keep: np.ndarray[Any, Any], read: int) -> SplitRows:
    kept = int(keep.sum())
    if kept == rows.batch.num_rows:
        return SplitRows(batch=rows.batch, texts=rows.texts, read=read, skipped=0)
    mask = pa.array(keep)
    return SplitRows(
        batch=rows.batch.filter(mask),
        texts={name: text.filter(mask) for name, text in rows.texts.items()},
        read=read,
        skipped=read - kept,
    )


def _unplaced(
    file: InputFile, source: Source, rows_of: np.ndarray[Any, Any], rows: Rows
) -> Problems:
    (field,) = source.split.fields
    assert source.split.time is not None, "only times cannot be read"  # noqa: S101
    found = [
        Problem(
            file=file.name,
            line=rows.line_of(int(row)),
            field=field,
            text=f"Field {field!r} decides the split: expected a moment as "
            f"{source.split.time.eval_from!r} is written, got "
            f"{quote(rows.texts[field][int(row)].as_py())}",
            action="Correct the row, or data.split.time.",
            reason=Reason.VALUE_UNPARSABLE,
            where=rows.where(int(row)),
        )
        for row in np.flatnonzero(rows_of)[: source.layout.listed]
    ]
    return Problems.of(found, total=int(rows_of.sum()), kept=source.layout.listed)


def _faults(
    file: InputFile,
    source: Source,
    rows: Rows,
    field: str,
    texts: Mapping[int, str],
    advice: str,
    reason: Reason,
) -> Problems:
    """What is wrong with a field, in words by row."""
    found = [
        Problem(
            file=file.name,
            line=rows.line_of(row),
            field=field,
            text=texts[row],
            action=advice,
            reason=reason,
            where=rows.where(row),
        )
        for row in sorted(texts)[: source.layout.listed]
    ]
    return Problems.of(found, total=len(texts), kept=source.layout.listed)


def raw_numpy(kind: str, values: pa.Array) -> np.ndarray[Any, Any]:
    """Returns a raw field as a transform takes it.

    Strings as objects with "" for missing, int64 with MISSING_INT, float32 with NaN; `[rows]`.
    """
    if kind == "string":
        return pc.fill_null(values.cast(pa.string()), "").to_numpy(zero_copy_only=False)
    if kind == "int":
        return pc.fill_null(values, fc.MISSING_INT).to_numpy(zero_copy_only=False)
    numbers = values.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return numbers.astype(np.float32)
