"""Where the raw rows are, how they are divided, and what is predicted."""

from __future__ import annotations

import codecs
import datetime
import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core import labels
from estimator_lib.core.config._csv import CsvDialect
from estimator_lib.core.errors import ConfigError, Reason, did_you_mean, quote
from estimator_lib.core.section import Section
from estimator_lib.core.units import Unit

FieldType = Literal["string", "int", "float"]
DeclaredType = Literal["string", "int", "float", "text"]


class ListField(Section):
    """A field with several values per record, in their order."""

    kind: DeclaredType = "string"
    """The type of a value, as under `types`."""
    separator: Annotated[str, Field(min_length=1)] | None = None
    """What stands between the values where they are one text, as in CSV."""


class HashSplit(Section):
    """Rows go to the eval split by a keyed hash: the same key always goes the same way."""

    key: Annotated[list[str], Field(min_length=1)]
    """Fields whose values identify a row (or a group that must stay together)."""
    eval_fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the keys that goes to the eval split."""


class ColumnSplit(Section):
    """Rows go to the split that lists their value of one field."""

    field: str
    """The field to look at."""
    eval: Annotated[list[str], Field(min_length=1)]
    """Values (as text) of the eval split."""
    validation: list[str] = []
    """Values of an optional validation split; all others are train."""

    @pydantic.model_validator(mode="after")
    def _apart(self) -> Self:
        listed = [*self.eval, *self.validation]
        twice = sorted({value for value in listed if listed.count(value) > 1})
        if twice:
            raise ValueError(f"{quote(twice[0])} is listed twice; expected each value in one split")
        return self


_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def moment(text: str) -> tuple[str, float]:
    """Returns what a text is, "date" or "number", and where it stands among others.

    Dates and times are in ISO 8601, in UTC unless they say otherwise; they stand at their second.

    Raises:
        ValueError: it is neither.
    """
    trimmed = text.strip()
    if _NUMBER.fullmatch(trimmed):
        number = float(trimmed)
        if not math.isfinite(number):
            raise ValueError(f"{text!r} is not finite")
        return "number", number
    try:
        time = datetime.datetime.fromisoformat(trimmed)
    except ValueError as error:
        raise ValueError(
            f"expected a date, a time or a number, got {quote(text)} ({error})"
        ) from error
    zone = time.tzinfo or datetime.UTC
    return "date", time.replace(tzinfo=zone).timestamp()


def _as_moment(value: object) -> object:
    """A moment as text; YAML knows dates and numbers."""
    text = str(value) if isinstance(value, datetime.date | int | float) else value
    if isinstance(text, str):
        moment(text)
    return text


Moment = Annotated[str, pydantic.BeforeValidator(_as_moment)]


class TimeSplit(Section):
    """Rows from a moment on are the eval split: learn from before, judge by what came after."""

    field: str
    """A field with dates or times, such as 2026-01-31 or 2026-01-31 12:00:00, or with numbers."""
    eval_from: Moment
    """The first moment of the eval split; a time without a zone is UTC."""
    validation_from: Moment | None = None
    """The first moment of an optional validation split, before `eval_from`."""

    @pydantic.model_validator(mode="after")
    def _in_order(self) -> Self:
        bounds = [moment(m) for m in (self.validation_from, self.eval_from) if m is not None]
        if bounds != sorted(set(bounds)) or len({kind for kind, _ in bounds}) > 1:
            raise ValueError("validation_from must be a moment before eval_from, written alike")
        return self


class FileSplit(Section):
    """Each split has files of its own."""

    train: Annotated[list[str], Field(min_length=1)]
    """File patterns of the train split."""
    eval: Annotated[list[str], Field(min_length=1)]
    """File patterns of the eval split."""
    validation: list[str] = []
    """File patterns of an optional split for early stopping; else the eval split is used."""


class Split(Section):
    """How rows are divided into train and eval (and validation): exactly one way."""

    files: FileSplit | None = None
    """By file."""
    hash: HashSplit | None = None
    """By a keyed hash of one or more fields."""
    column: ColumnSplit | None = None
    """By the value of a field."""
    time: TimeSplit | None = None
    """By a date or time: before and after."""

    @pydantic.model_validator(mode="after")
    def _one_way(self) -> Self:
        given = [n for n in Split.model_fields if getattr(self, n) is not None]
        if len(given) != 1:
            ways = ", ".join(Split.model_fields)
            raise ValueError(f"give exactly one of {ways}; got {given or 'none'}")
        return self

    @property
    def fields(self) -> list[str]:
        """The fields that decide where a row goes."""
        if self.hash is not None:
            return list(self.hash.key)
        by_value = self.column or self.time
        return [by_value.field] if by_value is not None else []


class BigQuery(Section):
    """What is read of BigQuery: exactly one of table and query."""

    table: Annotated[str, Field(pattern=r"^[\w.:-]+[.:]\w+\.[\w$-]+$")] | None = None
    """A table as project.dataset.table; only the fields that are needed are read."""
    query: Annotated[str, Field(min_length=1)] | None = None
    """A query in GoogleSQL; its columns are the fields."""

    @pydantic.model_validator(mode="after")
    def _one(self) -> Self:
        if (self.table is None) == (self.query is None):
            raise ValueError("give exactly one of table and query")
        return self

    @property
    def title(self) -> str:
        """What messages call it."""
        return self.table or "query"


class Data(CsvDialect):
    """Where the raw rows are and how to read them."""

    format: Literal["csv", "parquet", "tfrecord", "bigquery"] = "csv"
    """File format; tfrecord holds tf.Examples. Gzip is recognised by its content."""
    bigquery: BigQuery | None = None
    """For format bigquery, what is read instead of files."""
    beam: list[str] | None = None
    """Options of the Beam jobs that read the data, such as --runner=DataflowRunner; without a
    runner they work within the step."""
    files: list[str] = []
    """File patterns, relative to this configuration file; for splits by hash, column or time."""
    split: Split
    """How rows are divided."""
    missing: list[str] = [""]
    """Texts that stand for a missing value. "NA" is a value unless it is listed."""
    types: dict[str, DeclaredType] = {}
    """Field types; those not given follow from the columns, else from the first rows. A string
    that is a number, date or time in every row is written in its one form (1.0 is 1); text leaves
    it as it is, for codes such as the version 1.10."""
    units: dict[str, Annotated[str, Field(min_length=1, max_length=16)]] | None = None
    """Numbers that are written with a unit: the field and its sign, which stands before the number
    or behind it, as in $1,234.50, 5 kg or 12.5%; "%" divides by 100. Another unit is refused."""
    encoding: str = "utf-8"
    """Of CSV: utf-8, utf-16, latin-1 or any other of Python's text encodings."""
    on_bad_rows: Literal["fail", "quarantine"] = "fail"
    """What a record does that cannot be read, or has no label or weight: end the step, or be
    left out and listed in quarantine.csv beside the statistics."""
    max_bad_fraction: Annotated[float, Field(gt=0, le=1)] = 0.01
    """The share of records that may be in quarantine; more end the step."""
    fields: dict[str, ListField] = {}
    """Fields with several values per record; Parquet has them as lists, tf.Examples as such."""
    examples: Literal["parquet", "tfrecord"] = "parquet"
    """What the transformed examples are written as; tfrecord is tf.Examples, compressed by gzip."""

    @pydantic.field_validator("encoding")
    @classmethod
    def _known_encoding(cls, name: str) -> str:
        try:
            "".encode(name)  # refuses what is no text encoding, too
            return codecs.lookup(name).name
        except (LookupError, UnicodeError) as error:
            hint = did_you_mean(name, ("utf-8", "utf-16", "latin-1", "cp1252", "shift_jis"))
            raise ValueError(f"{name!r} is no text encoding.{hint}".removesuffix(".")) from error

    @pydantic.model_validator(mode="after")
    def _list_fields(self) -> Self:
        if self.encoding != "utf-8" and self.format != "csv":
            raise ValueError(f"encoding is for csv; texts of {self.format} are UTF-8")
        if self.format != "csv" and not (self._is_plain or (self.units and self._has_marks_only)):
            raise ValueError(
                f"quote, escape, decimal and thousands are for csv, not {self.format}; decimal and "
                "thousands for fields with units too"
            )
        for name, sign in (self.units or {}).items():
            if name in self.fields:
                raise ValueError(f"{name!r} is in units and in fields; a unit is for one number")
            if self.types.get(name, "float") != "float":
                raise ValueError(
                    f"{name!r} is in units and a {self.types[name]} in types; keep units"
                )
            self.unit(sign)
        for name, field in self.fields.items():
            if self.format == "csv" and field.separator is None:
                raise ValueError(f"fields.{name}.separator is missing; the values are one text")
            if name in self.types:
                raise ValueError(f"{name!r} is in fields and in types; keep fields")
        for name in self.split.fields:
            if name in self.fields:
                raise ValueError(f"{name!r} decides the split and has several values")
        return self

    @pydantic.model_validator(mode="after")
    def _files_where_needed(self) -> Self:
        if (self.format == "bigquery") != (self.bigquery is not None):
            raise ValueError("format bigquery and a section bigquery belong together; give both")
        if self.bigquery is not None:
            if self.split.files is not None or self.files:
                raise ValueError("bigquery has no files; split it by hash, column or time")
            return self
        if self.split.files is None and not self.files:
            raise ValueError("files is missing; a split by hash, column or time needs it")
        if self.split.files is not None and self.files:
            raise ValueError("files and split.files are both given; keep split.files")
        return self

    @property
    def kinds(self) -> dict[str, FieldType]:
        """Declared types of fields, of one value where a field has several."""
        return {name: "string" if kind == "text" else kind for name, kind in self._declared.items()}

    @property
    def written_with(self) -> dict[str, Unit]:
        """How the numbers of fields with a unit are written."""
        return {name: self.unit(sign) for name, sign in (self.units or {}).items()}

    @property
    def as_written(self) -> list[str]:
        """Fields whose texts stay as they are written."""
        return [name for name, kind in self._declared.items() if kind == "text"]

    @property
    def _declared(self) -> dict[str, DeclaredType]:
        several = {name: field.kind for name, field in self.fields.items()}
        return {**self.types, **several, **dict.fromkeys(self.units or {}, "float")}

    def patterns(self) -> dict[str, list[str]]:
        """File patterns per split; the split is "" where rows decide. None of BigQuery."""
        if self.bigquery is not None:
            return {}
        if self.split.files is None:
            return {"": list(self.files)}
        by_split = {name: list(getattr(self.split.files, name)) for name in SPLITS}
        return {name: patterns for name, patterns in by_split.items() if patterns}


SPLITS = ("train", "validation", "eval")


class UserFunction(Section):
    """A function of your own between the raw fields and the columns."""

    function: Annotated[str, Field(pattern=r"^[A-Za-z_][\w.]*:[A-Za-z_]\w*$")]
    """The function as module:function, a preprocessing_fn of tensorflow-transform. It takes a
    SparseTensor per field; what it returns are fields for the columns, or features."""
    fields: Annotated[list[str], Field(min_length=1)]
    """The raw fields it takes, each declared in data.types or data.fields."""


def _class_names(given: object) -> object:
    """Names of classes as texts; YAML has truth values and numbers too."""
    if not isinstance(given, list):
        return given
    names = []
    for name in given:
        if not isinstance(name, str | bool | int | float) or name == "":
            raise ValueError(f"expected the name of a class, got {quote(name)}")
        names.append(labels.canonical(str(name)))
    return names


Classes = Annotated[
    Annotated[int, Field(ge=2, le=1_000_000)] | Annotated[list[str], Field(min_length=2)],
    pydantic.BeforeValidator(_class_names),
]


class Label(Section):
    """What the model learns to predict."""

    field: str | None = None
    """The raw field."""
    kind: Literal["class", "number", "multilabel"] = "class"
    """One of several classes, any finite number, or any number of classes at once."""
    classes: Classes = 2
    """Of kind class: the names of the classes in the order of their ids, such as [stayed, churned];
    of two, the last is the positive one. Or how many there are: then their values are 0, 1 and so
    on, or as many others, which are learned and put in order."""
    missing: Literal["refuse", "skip"] = "refuse"
    """What to do with a row without label; skipped rows are counted and reported. Of several
    labels, a row goes along only if it has all."""
    fields: Annotated[list[str], Field(min_length=2)] | None = None
    """Of kind multilabel: a field of 0 and 1 for each class, or"""
    values: Annotated[list[Annotated[str, Field(min_length=1)]], Field(min_length=2)] | None = None
    """the classes, which are values of a field that has several (`data.fields`); a row without
    value has none of them."""

    @pydantic.model_validator(mode="after")
    def _one_form(self) -> Self:
        multilabel = self.kind == "multilabel"
        if not multilabel and (self.fields is not None or self.values is not None):
            raise ValueError("fields and values are for kind multilabel")
        if not multilabel and self.field is None:
            raise ValueError("field is missing")
        if multilabel and {self.field is None, self.values is None} != {self.fields is not None}:
            raise ValueError("kind multilabel takes fields, or field and values")
        names = self.names or self.class_names or ()
        if len(set(names)) < len(names):
            raise ValueError(f"a class is listed twice in {list(names)}")
        if self.kind != "class" and self.classes != 2:
            raise ValueError("classes is for kind class")
        if self.values is not None and self.missing == "skip":
            raise ValueError("missing: skip is not for values; a row without has no class")
        return self

    @property
    def raw_fields(self) -> list[str]:
        """The raw fields that it is read from."""
        return list(self.fields or [str(self.field)])

    @property
    def names(self) -> tuple[str, ...]:
        """The classes of a multi-label label, else nothing."""
        return tuple(self.fields or self.values or ())

    @property
    def class_names(self) -> tuple[str, ...] | None:
        """The classes by id, where they are given by name."""
        return tuple(self.classes) if isinstance(self.classes, list) else None

    @property
    def columns(self) -> list[str]:
        """The columns of the examples that it has."""
        if self.values is None:
            return self.raw_fields
        return [f"{self.field}={value}" for value in self.values]

    def described(self) -> labels.OneLabel:
        """The label as `core.labels` has it; classes that are not learned yet have no names."""
        if self.kind == "multilabel":
            return labels.MultiLabel(fields=tuple(self.columns), classes=self.names)
        if self.kind == "number":
            return labels.NumberLabel(field=str(self.field))
        given = self.classes
        names = labels.digits(given) if isinstance(given, int) else tuple(given)
        return labels.ClassLabel(field=str(self.field), classes=names)


HeadName = Annotated[str, Field(pattern=r"^[A-Za-z_][\w.-]*$")]
Labels = Annotated[dict[HeadName, Label], Field(min_length=2)]


def by_head(label: Label | None, several: Mapping[str, Label] | None) -> dict[str, Label]:
    """Returns the labels by head; one that is alone has the name "".

    Raises:
        ConfigError: there is none, or both forms are given.
    """
    if label is not None and several is not None:
        raise ConfigError(
            "label and labels are both given. Keep label for one, labels for several.",
            reason=Reason.CONFLICT,
        )
    if label is None and several is None:
        raise ConfigError(
            "label: missing. Say which field to predict, such as label: {field: late}, or several "
            "under labels.",
            reason=Reason.MISSING_VALUE,
        )
    return dict(several) if label is None else {"": label}  # type: ignore[arg-type]


def described(by_head: Mapping[str, Label]) -> labels.Label:
    """Returns labels by head as `core.labels` has them."""
    if "" in by_head:
        return by_head[""].described()
    return labels.SeveralLabels(heads={name: own.described() for name, own in by_head.items()})


class DataSchema(Section):
    """What the data must be like: a schema edited by a person, and what to do about faults."""

    path: str
    """The schema as text (schema.pbtxt), relative to this configuration file."""
    on_anomaly: Literal["fail", "warn", "quarantine"] = "fail"
    """What an anomaly of severity ERROR does: end the step before it writes, or warn; or leave out
    the records with values that the schema does not allow, and fail for what is left. Quarantine
    takes data.on_bad_rows: quarantine, and its cap."""
    previous: str | None = None
    """Statistics of the span before (a directory or .pb file), to measure drift of train."""
    serving: str | None = None
    """Statistics of serving data (a directory or .pb file), to measure skew of train."""
    max_drift: Annotated[float, Field(ge=0, le=1)] | None = None
    """Largest distance from `previous`, for fields whose schema has no threshold."""
    max_skew: Annotated[float, Field(ge=0, le=1)] | None = None
    """Largest distance from `serving`, for fields whose schema has no threshold."""
