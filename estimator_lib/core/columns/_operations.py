"""What others ask of a set of columns. Layer 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from typing import TypeVar

from estimator_lib.core.columns._base import Column, FieldType, Values
from estimator_lib.core.columns._learned import Learned, Open
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

    A number or age without a default has none: a model would make NaN of it, or a constant.

    Args:
        columns: By the names they are declared under.
    """
    return {field: name for name, column in columns.items() for field in column.required}


def raw_fields(columns: Iterable[Column]) -> dict[str, str]:
    """Returns the raw fields that `columns` read, each with its type: string, int or float.

    A field that only missing indicators read is a float; see `fields_of_any_type`.

    Raises:
        ConfigError: two columns read one field as different types.
    """
    found: dict[str, tuple[FieldType | None, str]] = {}
    for column in walk(columns):
        for field, kind in column.reads.items():
            known, by = found.setdefault(field, (kind, column.name))
            if known is None:
                found[field] = (kind, column.name)
            elif kind not in (known, None):
                raise ConfigError(
                    f"Field {field!r} is read as {known} by column {by!r} and as {kind} by column "
                    f"{column.name!r}. Make the columns agree.",
                    reason=Reason.CONFLICT,
                )
    return {field: kind or "float" for field, (kind, _) in found.items()}


def fields_of_any_type(columns: Iterable[Column]) -> list[str]:
    """Returns the fields that columns read whatever their type, and none by a type, in order."""
    read = [item for column in walk(columns) for item in column.reads.items()]
    typed = {field for field, kind in read if kind is not None}
    return sorted({field for field, _ in read} - typed)


def check_list_fields(columns: Iterable[Column], lists: Container[str]) -> None:
    """Refuses columns that read one value of a field with several, or half a pair of lists.

    Args:
        columns: Any columns.
        lists: Fields with several values per record.

    Raises:
        ConfigError: naming column and field.
    """
    for column in columns:
        column.check_lists(lists)


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
        if not source.is_feature:
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
    return column.transformed()


def open_parts(column: Column) -> list[tuple[str, Open]]:
    """Returns what must still be learned for `column` itself, as (field, what) pairs."""
    return [(column.learns_from, part) for _, part in _open(column)]


def _open(column: Column) -> list[tuple[str, Open]]:
    """What is open in a column, by the argument it stands for."""
    values = {f.name: getattr(column, f.name) for f in dataclasses.fields(column)}
    return [(name, value) for name, value in values.items() if isinstance(value, Open)]


def resolve(
    column: ColumnT,
    learned: Callable[[str, Open], Learned],
    given: Callable[[str, Values], Values] = lambda _, listed: listed,
) -> ColumnT:
    """Returns `column` with every open part, its parents' included, replaced.

    Args:
        column: Any column.
        learned: Called with (field, open part); returns a tuple of values for a Vocabulary,
            a ZScore for Moments, boundaries for Quantiles and a float for Mean.
        given: Called with (field, values) of a vocabulary that is listed; returns the values.
    """

    def closed(value: object) -> object:
        if isinstance(value, Column):
            return resolve(value, learned, given)
        if isinstance(value, tuple) and any(isinstance(part, Column) for part in value):
            return tuple(map(closed, value))
        return value

    values = {f.name: closed(getattr(column, f.name)) for f in dataclasses.fields(column)}
    for name, part in _open(column):
        values[name] = learned(column.learns_from, part)
    return dataclasses.replace(column, **values).listed(given)


def is_sequence(column: Column) -> bool:
    """Says whether `column` has positions: one of the sequence kinds is in it."""
    return any(part.has_positions for part in walk([column]))
