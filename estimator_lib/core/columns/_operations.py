"""What others ask of a set of columns. Layer 0."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import Any, TypeVar, cast

from estimator_lib.core.columns._checks import invalid
from estimator_lib.core.columns._constructors import (
    categorical_column_with_identity,
    numeric_column,
)
from estimator_lib.core.columns._kinds import (
    BucketIdsColumn,
    BucketizedColumn,
    CategoricalColumn,
    Column,
    CrossedColumn,
    EmbeddingColumn,
    HashedColumn,
    IdentityColumn,
    IndicatorColumn,
    Mean,
    MissingIndicatorColumn,
    Moments,
    NumericColumn,
    PeriodicColumn,
    PiecewiseLinearColumn,
    Quantiles,
    SequenceCategoricalColumn,
    SequenceNumericColumn,
    Vocabulary,
    VocabularyColumn,
    WeightedColumn,
)
from estimator_lib.core.errors import ConfigError, Reason

ColumnT = TypeVar("ColumnT", bound=Column)


def walk(columns: Iterable[Column]) -> Iterator[Column]:
    """Yields every column and, before it, the columns it is made of; each once."""
    seen: set[int] = set()
    stack: list[Column] = []

    def visit(column: Column) -> Iterator[Column]:
        for parent in column.parents:
            yield from visit(parent)
        if id(column) not in seen:
            seen.add(id(column))
            stack.append(column)  # keeps the object alive, so that its id stays its own
            yield column

    for column in columns:
        yield from visit(column)


def required_fields(columns: Mapping[str, Column]) -> dict[str, str]:
    """Returns the fields that every row must have, each with the name of a column that says so.

    A number without a default has none: a model would make NaN of it, or a constant.

    Args:
        columns: By the names they are declared under.
    """
    return {
        column.key: name
        for name, column in columns.items()
        if isinstance(column, NumericColumn) and column.default_value is None
    }


def raw_fields(columns: Iterable[Column]) -> dict[str, str]:
    """Returns the raw fields that `columns` read, each with its type: string, int or float.

    Raises:
        ConfigError: two columns read one field as different types.
    """
    found: dict[str, tuple[str, str]] = {}

    def add(field: str, kind: str, column: Column) -> None:
        known, by = found.setdefault(field, (kind, column.name))
        if known == "any":
            found[field] = (kind, column.name)
        elif kind not in (known, "any"):
            raise ConfigError(
                f"Field {field!r} is read as {known} by column {by!r} and as {kind} by column "
                f"{column.name!r}. Make the columns agree.",
                reason=Reason.CONFLICT,
            )

    for column in walk(columns):
        match column:
            case NumericColumn() | SequenceNumericColumn():
                add(column.key, "float", column)
            case MissingIndicatorColumn():
                add(column.key, "any", column)
            case VocabularyColumn() | HashedColumn():
                add(column.key, "string" if column.dtype == "string" else "int", column)
            case IdentityColumn():
                add(column.key, "int", column)
            case CrossedColumn():
                for part in column.keys:
                    if isinstance(part, str):
                        add(part, "string", column)
    return {field: "float" if kind == "any" else kind for field, (kind, _) in found.items()}


def check_list_fields(columns: Iterable[Column], lists: Container[str]) -> None:
    """Refuses columns that read one value of a field with several, or half a pair of lists.

    Args:
        columns: Any columns.
        lists: Fields with several values per record.

    Raises:
        ConfigError: naming column and field.
    """
    stack = list(columns)
    while stack:
        column = stack.pop()
        if isinstance(column, NumericColumn) and column.key in lists:
            raise ConfigError(
                f"Column {column.name!r} reads one number, but field {column.key!r} has several "
                "per record. Use a sequence_numeric column, or the field as weights.",
                reason=Reason.CONFLICT,
            )
        if isinstance(column, WeightedColumn):
            fields = [*raw_fields([column.categorical_column]), column.weight_feature_key]
            if len({field in lists for field in fields}) > 1:
                raise ConfigError(
                    f"Column {column.name!r} pairs values with weights: expected the fields "
                    f"{', '.join(map(repr, fields))} to have several values each, or one. "
                    "Declare all of them under data.fields.",
                    reason=Reason.CONFLICT,
                )
            stack.append(column.categorical_column)
            continue
        stack.extend(column.parents)


def feature_sources(columns: Iterable[Column]) -> dict[str, Column]:
    """Returns the transformed features that `columns` need, by name, in a stable order.

    Only columns that read raw fields directly give a feature: an embedding of a vocabulary
    column needs the vocabulary column's ids and nothing else. An embedding of a number is a
    feature of its own, the number under the embedding's name, so that the field may be read
    by another numeric column as well.

    Raises:
        ConfigError: two different columns have one name.
    """
    needed: dict[str, Column] = {}
    stack = list(columns)
    while stack:
        source = stack.pop()
        if isinstance(
            source, IndicatorColumn | EmbeddingColumn | WeightedColumn | SequenceCategoricalColumn
        ):
            stack.extend(source.parents)
            continue
        known = needed.setdefault(source.name, source)
        if known != source:
            raise ConfigError(
                f"Two different columns are named {source.name!r}: a {known.kind} and a "
                f"{source.kind} column. Read one of them from a renamed field.",
                reason=Reason.DUPLICATE,
            )
    return dict(sorted(needed.items()))


def transformed(column: Column) -> Column:
    """Returns the column that reads `column`'s transformed feature instead of raw fields."""
    match column:
        case NumericColumn():
            return numeric_column(column.key, column.shape)
        case MissingIndicatorColumn():
            return numeric_column(column.name)
        case SequenceNumericColumn():
            return dataclasses.replace(column, dtype="float32", normalizer=None)
        case PiecewiseLinearColumn() | PeriodicColumn():
            number = numeric_column(column.name)
            return dataclasses.replace(column, source_column=number, label=column.name)
        case IndicatorColumn() | EmbeddingColumn() | WeightedColumn() | SequenceCategoricalColumn():
            return dataclasses.replace(column, categorical_column=_ids(column.categorical_column))
        case BucketizedColumn() | BucketIdsColumn():
            width = 1
            if isinstance(column, BucketizedColumn):
                width = math.prod(column.source_column.shape)
            return BucketIdsColumn(key=column.name, buckets=column.num_buckets * width)
        case CategoricalColumn():
            return _ids(column)
    raise invalid("transformed", "column", "a feature column", column)


def _ids(column: CategoricalColumn) -> CategoricalColumn:
    if isinstance(column, WeightedColumn | SequenceCategoricalColumn):
        return dataclasses.replace(column, categorical_column=_ids(column.categorical_column))
    return categorical_column_with_identity(column.name, column.num_buckets)


def open_parts(column: Column) -> list[tuple[str, Vocabulary | Moments | Quantiles | Mean]]:
    """Returns what must still be learned for `column` itself, as (field, what) pairs."""
    match column:
        case VocabularyColumn(vocabulary=Vocabulary() as vocabulary):
            return [(column.key, vocabulary)]
        case (
            BucketizedColumn(boundaries=Quantiles() as quantiles)
            | PiecewiseLinearColumn(boundaries=Quantiles() as quantiles)
        ):
            return [(column.source_column.key, quantiles)]
        case NumericColumn():
            parts = (column.normalizer, column.default_value)
            return [(column.key, part) for part in parts if isinstance(part, Moments | Mean)]
    return []


def resolve(
    column: ColumnT,
    learned: Callable[[str, Any], Any],
    given: Callable[[str, tuple[Any, ...]], tuple[Any, ...]] = lambda _, listed: listed,
) -> ColumnT:
    """Returns `column` with every open part, its parents' included, replaced.

    Args:
        column: Any column.
        learned: Called with (field, open part); returns a tuple of values for a Vocabulary,
            a ZScore for Moments, boundaries for Quantiles and a float for Mean.
        given: Called with (field, values) of a vocabulary that is listed; returns the values.
    """

    def close(field: str, part: Any) -> Any:
        return (
            learned(field, part)
            if isinstance(part, Vocabulary | Moments | Quantiles | Mean)
            else part
        )

    changed: Any = column
    match column:
        case NumericColumn():
            changed = dataclasses.replace(
                column,
                normalizer=close(column.key, column.normalizer),
                default_value=close(column.key, column.default_value),
            )
        case VocabularyColumn():
            listed = column.vocabulary
            values = (
                given(column.key, listed)
                if isinstance(listed, tuple)
                else close(column.key, listed)
            )
            changed = dataclasses.replace(column, vocabulary=tuple(values))
        case BucketizedColumn() | PiecewiseLinearColumn():
            source = resolve(column.source_column, learned, given)
            cuts = close(column.source_column.key, column.boundaries)
            changed = dataclasses.replace(column, source_column=source, boundaries=tuple(cuts))
        case PeriodicColumn():
            source = resolve(column.source_column, learned, given)
            changed = dataclasses.replace(column, source_column=source)
        case IndicatorColumn() | EmbeddingColumn() | WeightedColumn() | SequenceCategoricalColumn():
            inner = resolve(column.categorical_column, learned, given)
            changed = dataclasses.replace(column, categorical_column=inner)
        case CrossedColumn():
            keys = tuple(
                k if isinstance(k, str) else resolve(k, learned, given) for k in column.keys
            )
            changed = dataclasses.replace(column, keys=keys)
    return cast(ColumnT, changed)


def is_sequence(column: Column) -> bool:
    """Says whether `column` has positions: one of the sequence kinds is in it."""
    return any(isinstance(c, SequenceCategoricalColumn | SequenceNumericColumn)
               for c in walk([column]))  # fmt: skip
