"""What a kind of column is: a declaration in Python and one in YAML. Layer 0.

A family of kinds has one module here: the classes, their constructors, and the models of how a
configuration declares them. Its lowering has a module of the same name in
`estimator_lib.features`. Nothing else lists the kinds: JSON, the configuration's schema and the
places of its errors follow from the classes.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Container, Iterator, Mapping
from typing import ClassVar, Literal, Protocol, Self, TypeVar

from estimator_lib.core.columns._checks import invalid
from estimator_lib.core.columns._learned import Open
from estimator_lib.core.errors import ConfigError, Reason
from estimator_lib.core.section import Section

MISSING_INT = -(2**63)
"""The int64 that stands for a missing value of an int field."""

FieldType = Literal["string", "int", "float"]
Values = tuple[str, ...] | tuple[int, ...]
C = TypeVar("C")


# --- In Python ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column(abc.ABC):
    """Base of all columns. `name` is derived, unique per model and stable."""

    kind: ClassVar[str]
    is_feature: ClassVar[bool] = True
    """Whether it gives a transformed feature; else its parents do."""
    has_positions: ClassVar[bool] = False
    """Whether it has any number of values per example, in an order."""

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """The name of variables and transformed features, as in `tf.feature_column`."""

    @property
    def parents(self) -> tuple[Column, ...]:
        """The columns this one is made of, nearest first."""
        return ()

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        """The raw fields that it reads itself, with their types; None is any type."""
        return {}

    @property
    def required(self) -> tuple[str, ...]:
        """The fields that every row must have: a model would make NaN of what is missing."""
        return ()

    @property
    def learns_from(self) -> str:
        """What its open parts are learned from: a raw field, or the numbers made of some."""
        return next(iter(self.reads or self.parents[0].reads))

    @abc.abstractmethod
    def transformed(self) -> Column:
        """The column that reads its transformed feature instead of raw fields."""

    def listed(self, written: Callable[[str, Values], Values]) -> Self:
        """The column with the values that it lists of a field as `written` gives them."""
        return self

    def check_lists(self, lists: Container[str]) -> None:
        """Refuses to read one value of a field with several; see `check_list_fields`."""
        for parent in self.parents:
            parent.check_lists(lists)


class CategoricalColumn(Column):
    """Gives each example an id in [0, num_buckets), or -1 when missing."""

    @property
    @abc.abstractmethod
    def num_buckets(self) -> int:
        """How many ids there are, out-of-vocabulary buckets included."""

    @property
    def rows(self) -> int:
        """How many rows of weights it needs, every position of a vector included."""
        return self.num_buckets

    @abc.abstractmethod
    def as_ids(self) -> CategoricalColumn:
        """The same categories, read as ids from their transformed feature."""

    def transformed(self) -> CategoricalColumn:
        return self.as_ids()


class DenseColumn(Column):
    """Gives each example a fixed number of floats."""

    @property
    def width(self) -> int:
        """How many floats."""
        return 1


def unresolved(column: Column, part: Open) -> ConfigError:
    """Returns the error of what is still open in a column."""
    return ConfigError(
        f"Column {column.name!r} is not resolved: its {type(part).__name__.lower()} must be "
        "learned from data first. Run preprocess, or give the values.",
        reason=Reason.UNRESOLVED,
    )


def category(constructor: str, column: object) -> CategoricalColumn:
    """Returns the categorical column that a constructor was given."""
    if not isinstance(column, CategoricalColumn):
        raise invalid(constructor, "categorical_column", "a categorical column", column)
    return column


# --- In a configuration -------------------------------------------------------------------------


class Others(Protocol):
    """The other columns of a configuration, by their names in it."""

    def __contains__(self, name: object) -> bool: ...
    def category(self, name: str) -> CategoricalColumn:
        """Returns a categorical column; refuses what is none."""
        ...


class ColumnSpec(Section, abc.ABC):
    """A column as a configuration declares it; each kind is a class below this."""

    kind: str

    @abc.abstractmethod
    def build(self, name: str, others: Others) -> Column:
        """Returns the column.

        Args:
            name: Of the declaration.
            others: Those it may be made of.

        Raises:
            ConfigError: it cannot be made of what is given.
        """


class FieldSpec(ColumnSpec):
    """A column of one raw field."""

    field: str | None = None
    """The raw field; by default the column's own name."""


# --- All kinds ----------------------------------------------------------------------------------


def kinds() -> dict[str, type[Column]]:
    """Returns the classes of columns by kind, all that a file can hold."""
    found = _declared(Column)  # type: ignore[type-abstract]
    return {declared.kind: declared for declared in found if "kind" in vars(declared)}


def declarations() -> tuple[type[ColumnSpec], ...]:
    """Returns the models of all kinds of columns that a configuration declares."""
    found = _declared(ColumnSpec)  # type: ignore[type-abstract]
    return tuple(one for one in found if "kind" in vars(one)["__annotations__"])


def _declared(base: type[C]) -> Iterator[type[C]]:
    """Yields the classes below a class that are declared in this package."""
    for found in base.__subclasses__():
        if found.__module__.startswith(f"{__package__}."):
            yield found
        yield from _declared(found)
