"""Categories with weights. Layer 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Container
from typing import ClassVar, Literal

from estimator_lib.core.columns._base import (
    CategoricalColumn,
    Column,
    ColumnSpec,
    Others,
    category,
)
from estimator_lib.core.columns._checks import dtype_name, field_key, invalid
from estimator_lib.core.columns._operations import raw_fields
from estimator_lib.core.columns.numeric import NumericColumn
from estimator_lib.core.errors import ConfigError, Reason

__all__ = ["WeightedColumn", "weighted_categorical_column"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class WeightedColumn(CategoricalColumn):
    """Categories with a weight for each value. See `weighted_categorical_column`."""

    kind: ClassVar[str] = "weighted"
    is_feature: ClassVar[bool] = False
    categorical_column: CategoricalColumn
    weight_feature_key: str

    @property
    def name(self) -> str:
        return f"{self.categorical_column.name}_weighted_by_{self.weight_feature_key}"

    @property
    def parents(self) -> tuple[Column, ...]:
        return (self.categorical_column, NumericColumn(key=self.weight_feature_key))

    @property
    def num_buckets(self) -> int:
        return self.categorical_column.num_buckets

    @property
    def rows(self) -> int:
        return self.categorical_column.rows

    def as_ids(self) -> WeightedColumn:
        return dataclasses.replace(self, categorical_column=self.categorical_column.as_ids())

    def check_lists(self, lists: Container[str]) -> None:
        fields = [*raw_fields([self.categorical_column]), self.weight_feature_key]
        if len({field in lists for field in fields}) > 1:
            raise ConfigError(
                f"Column {self.name!r} pairs values with weights: expected the fields "
                f"{', '.join(map(repr, fields))} to have several values each, or one. "
                "Declare all of them under data.fields.",
                reason=Reason.CONFLICT,
            )
        self.categorical_column.check_lists(lists)


def weighted_categorical_column(
    categorical_column: CategoricalColumn, weight_feature_key: str, dtype: object = "float32"
) -> WeightedColumn:
    """Categories that count as much as their weights say.

    Args:
        categorical_column: The categories.
        weight_feature_key: The field with one weight per value.
        dtype: Of the weights in the examples; only float32 is read.
    """
    if dtype_name(dtype) != "float32":
        expected = "float32 (write the weights so)"
        raise invalid("weighted_categorical_column", "dtype", expected, dtype)
    return WeightedColumn(
        categorical_column=category("weighted_categorical_column", categorical_column),
        weight_feature_key=field_key("weighted_categorical_column", weight_feature_key),
    )


class WeightedSpec(ColumnSpec):
    """Categories of a field with several values, each with a weight."""

    kind: Literal["weighted"]
    of: str
    """The categorical column."""
    weights: str
    """The raw field with one weight per value."""

    def build(self, name: str, others: Others) -> WeightedColumn:
        return weighted_categorical_column(others.category(self.of), self.weights)
