"""Values looked up in a vocabulary. Layer 0."""

from __future__ import annotations

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal, Self

import pydantic
from pydantic import Field

from estimator_lib.core.columns._base import FieldSpec, FieldType, Others, Values, unresolved
from estimator_lib.core.columns._checks import at_least, dtype_name, field_key, invalid
from estimator_lib.core.columns._learned import Vocabulary
from estimator_lib.core.columns.identity import IdsColumn
from estimator_lib.core.errors import ConfigError, Reason, quote
from estimator_lib.core.section import Buckets, Count

__all__ = [
    "VocabularyColumn",
    "categorical_column_with_vocabulary",
    "categorical_column_with_vocabulary_file",
    "categorical_column_with_vocabulary_list",
]


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyColumn(IdsColumn):
    """Values looked up in a list. See `categorical_column_with_vocabulary`.

    A resolved column holds the values themselves; unseen values go to one of
    `num_oov_buckets` ids after them, else to `default_value`.
    """

    kind: ClassVar[str] = "vocabulary"
    key: str
    vocabulary: tuple[str, ...] | tuple[int, ...] | Vocabulary
    dtype: str = "string"
    default_value: int = -1
    num_oov_buckets: int = 0

    @property
    def name(self) -> str:
        return self.key

    @property
    def num_buckets(self) -> int:
        return len(self.values) + self.num_oov_buckets

    @property
    def values(self) -> Values:
        """What is looked up, in the order of the ids."""
        if isinstance(self.vocabulary, Vocabulary):
            raise unresolved(self, self.vocabulary)
        return self.vocabulary

    @property
    def reads(self) -> Mapping[str, FieldType | None]:
        return {self.key: "string" if self.dtype == "string" else "int"}

    def listed(self, written: Callable[[str, Values], Values]) -> Self:
        if isinstance(self.vocabulary, Vocabulary):
            return self
        return dataclasses.replace(self, vocabulary=written(self.key, self.vocabulary))


def categorical_column_with_vocabulary(
    key: str,
    top_k: int | None = None,
    min_count: int = 1,
    num_oov_buckets: int = 1,
    *,
    weight: str | None = None,
    informative: bool = False,
    reserved: Sequence[str] = (),
) -> VocabularyColumn:
    """Values looked up in a vocabulary that is learned from the train split.

    Args:
        key: The raw field.
        top_k: Keep at most this many values.
        min_count: Keep values seen at least this often.
        num_oov_buckets: Ids for values outside the vocabulary; 0 treats them as missing.
        weight: See `Vocabulary`.
        informative: See `Vocabulary`.
        reserved: See `Vocabulary`.
    """
    return VocabularyColumn(
        key=field_key("categorical_column_with_vocabulary", key),
        vocabulary=Vocabulary(
            top_k=top_k,
            min_count=min_count,
            weight=weight,
            informative=informative,
            reserved=tuple(reserved),
        ),
        num_oov_buckets=at_least(key, "num_oov_buckets", num_oov_buckets, 0),
    )


def categorical_column_with_vocabulary_list(
    key: str,
    vocabulary_list: Sequence[Any],
    dtype: object = None,
    default_value: int = -1,
    num_oov_buckets: int = 0,
) -> VocabularyColumn:
    """Values looked up in a given list of strings or integers; ids follow its order."""
    values = tuple(v.decode() if isinstance(v, bytes) else v for v in vocabulary_list)
    if not values or len(set(values)) != len(values):
        raise invalid(
            f"categorical_column_with_vocabulary_list {quote(key)}",
            "vocabulary_list",
            "at least one value and no duplicates",
            vocabulary_list,
        )
    if num_oov_buckets and default_value != -1:
        raise ConfigError(
            f"Column {quote(key)} has both num_oov_buckets and default_value. Give only one.",
            reason=Reason.CONFLICT,
        )
    inferred = "string" if isinstance(values[0], str) else "int64"
    return VocabularyColumn(
        key=field_key("categorical_column_with_vocabulary_list", key),
        vocabulary=values if inferred == "string" else tuple(int(v) for v in values),
        dtype=dtype_name(dtype) if dtype is not None else inferred,
        default_value=default_value,
        num_oov_buckets=at_least(key, "num_oov_buckets", num_oov_buckets, 0),
    )


def categorical_column_with_vocabulary_file(
    key: str,
    vocabulary_file: str,
    vocabulary_size: int | None = None,
    dtype: object = "string",
    default_value: int | None = None,
    num_oov_buckets: int = 0,
    file_format: str | None = None,
) -> VocabularyColumn:
    """Values looked up in a text file, one value per line; ids follow its order.

    The file is read now and its values become part of the column: what is saved or exported
    does not need the file any more.

    Args:
        key: The raw field.
        vocabulary_file: A local path, UTF-8.
        vocabulary_size: Use this many lines; None uses all.
        dtype: string, or an integer type for lines that are integers.
        default_value: Id of other values; None treats them as missing.
        num_oov_buckets: Ids for values outside the vocabulary.
        file_format: "text" or None; kept for compatibility.

    Raises:
        ConfigError: the file cannot be read, is shorter than vocabulary_size or holds a value
            twice.
    """
    thing = f"categorical_column_with_vocabulary_file {quote(key)}"
    if file_format not in (None, "text"):
        raise invalid(thing, "file_format", "'text' or None", file_format)
    try:
        text = pathlib.Path(vocabulary_file).read_text(encoding="utf-8")
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"{thing}: vocabulary_file cannot be read: {error}. Give a UTF-8 text file.",
            reason=Reason.FILE_NOT_FOUND,
        ) from error
    # Only line feeds end a value, as TensorFlow reads such files.
    lines = text.split("\n")
    lines = lines[:-1] if lines[-1] == "" else lines
    if vocabulary_size is not None:
        if at_least(thing, "vocabulary_size", vocabulary_size, 1) > len(lines):
            raise invalid(
                thing, "vocabulary_size", f"at most the {len(lines)} lines", vocabulary_size
            )
        lines = lines[:vocabulary_size]
    values: list[Any] = list(lines)
    if dtype_name(dtype) != "string":
        try:
            values = [int(line) for line in lines]
        except ValueError as error:
            raise invalid(thing, "vocabulary_file", "integers", str(error)) from error
    default = -1 if default_value is None else default_value
    return categorical_column_with_vocabulary_list(key, values, dtype, default, num_oov_buckets)


class VocabularySpec(FieldSpec):
    """Categories, their vocabulary learned from the train split or given."""

    kind: Literal["vocabulary"]
    values: list[str] | None = None
    """The vocabulary, where it is known; else it is learned."""
    top_k: Buckets | None = None
    """Keep at most this many values."""
    min_count: Count = 1
    """Keep values seen at least this often, or whose weights sum to this."""
    rank_by: Literal["count", "weight", "mutual_information"] = "count"
    """What orders the values: how often they are seen, the sum of `weight`, or what they tell
    about the label (adjusted for chance)."""
    weight: str | None = None
    """The field of weights, where `rank_by` is weight."""
    reserved: list[str] = []
    """Values that come first, seen or not."""
    oov_buckets: Annotated[int, Field(ge=0, le=1_000_000_000)] = 1
    """Ids for unseen values."""

    @pydantic.model_validator(mode="after")
    def _ranking(self) -> Self:
        if (self.weight is not None) != (self.rank_by == "weight"):
            raise ValueError("weight and rank_by: weight go together; give both or neither")
        if self.values is not None and (self.rank_by != "count" or self.reserved):
            raise ValueError("values are given; rank_by and reserved are for learned ones")
        return self

    def build(self, name: str, others: Others) -> VocabularyColumn:
        if self.values is not None:
            return categorical_column_with_vocabulary_list(
                self.field or name, self.values, num_oov_buckets=self.oov_buckets
            )
        return categorical_column_with_vocabulary(
            self.field or name,
            self.top_k,
            self.min_count,
            self.oov_buckets,
            weight=self.weight,
            informative=self.rank_by == "mutual_information",
            reserved=self.reserved,
        )
