"""Integers that are ids already, and ids as every category is read once it is one. Layer 0."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core.columns._base import CategoricalColumn, FieldSpec, FieldType, Others
from estimator_lib.core.columns._checks import at_least, field_key
from estimator_lib.core.section import Buckets

__all__ = ["IdentityColumn", "categorical_column_with_identity"]


class IdsColumn(CategoricalColumn):
    """A category whose transformed feature holds its ids."""

    def as_ids(self) -> CategoricalColumn:
        return categorical_column_with_identity(self.name, self.num_buckets)


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdentityColumn(IdsColumn):
    """Integers that are ids already. See `categorical_column_with_identity`."""

    kind: ClassVar[str] = "identity"
    key: str
    buckets: int
    default_value: int | None = None

    @property
    def name(self) -> str:
        return self.key

    @property
    def num_buckets(self) -> int:
        return self.buckets

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: "int"}


def categorical_column_with_identity(
    key: str, num_buckets: int, default_value: int | None = None
) -> IdentityColumn:
    """Integers in [0, num_buckets) that are ids already.

    A value outside raises, or takes `default_value` when one is given; -1 means missing.
    """
    return IdentityColumn(
        key=field_key("categorical_column_with_identity", key),
        buckets=at_least(key, "num_buckets", num_buckets, 1),
        default_value=default_value,
    )


class IdentitySpec(FieldSpec):
    """Integers that are ids already."""

    kind: Literal["identity"]
    buckets: Buckets
    """How many ids."""
    default: Annotated[int, Field(ge=0)] | None = None
    """Takes the place of a value outside; without it such a value is refused."""

    @pydantic.model_validator(mode="after")
    def _inside(self) -> Self:
        if self.default is not None and self.default >= self.buckets:
            raise ValueError(f"default {self.default} is no id below buckets = {self.buckets}")
        return self

    def build(self, name: str, others: Others) -> IdentityColumn:
        return categorical_column_with_identity(self.field or name, self.buckets, self.default)
